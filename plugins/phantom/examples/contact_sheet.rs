//! Writes two contact sheets as PGM pictures: random phantoms, and each factor at -2, -1, 0, 1, 2.
//!
//! `cargo run --release -p shiftlens-phantom --example contact_sheet -- FOLDER`

use shiftlens_phantom::factors::FACTORS;
use shiftlens_phantom::random::Stream;
use shiftlens_phantom::render::Renderer;
use std::path::Path;

const SIZE: usize = 128;

fn write(path: &Path, columns: usize, pictures: &[Vec<f32>]) -> std::io::Result<()> {
    let (width, height) = (columns * SIZE, pictures.len().div_ceil(columns) * SIZE);
    let mut grey = vec![0u8; width * height];
    for (i, picture) in pictures.iter().enumerate() {
        let (left, top) = ((i % columns) * SIZE, (i / columns) * SIZE);
        for (y, row) in picture.chunks_exact(SIZE).enumerate() {
            for (x, v) in row.iter().enumerate() {
                grey[(top + y) * width + left + x] = (255.0 * v).round() as u8;
            }
        }
    }
    let mut file = format!("P5 {width} {height} 255\n").into_bytes();
    file.extend(grey);
    std::fs::write(path, file)
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let renderer = Renderer::new(SIZE);
    let mut stream = Stream::new(1);
    let random: Vec<Vec<f32>> =
        (0..18).map(|_| renderer.render(&std::array::from_fn(|_| stream.normal_pair()[0] as f32))).collect();
    write(&Path::new(&folder).join("random.pgm"), 6, &random)?;
    let mut sweep = Vec::new();
    for factor in 0..FACTORS {
        for value in [-2.0, -1.0, 0.0, 1.0, 2.0] {
            let mut code = [0.0; FACTORS];
            code[factor] = value;
            sweep.push(renderer.render(&code));
        }
    }
    write(&Path::new(&folder).join("factors.pgm"), 5, &sweep)
}

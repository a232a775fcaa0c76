//! Training on the CPU with the fast convolutions against products over gathered rows for all sizes.
//!
//! `cargo bench --workspace --locked --bench training` times single convolutions; `-- --steps` times whole training steps
//! of generator and discriminator and of the encoder, through the trainers themselves (`--images` in each session, one
//! interval of R1 by default). `--rounds` says how often. Contenders take turns and ratios
//! are medians over rounds, so that the machine's noise meets both. Results are compared before anything is timed.

use shiftlens_api::Silent;
use shiftlens_stylegan2::kernels::Isa;
use shiftlens_stylegan2::kernels::conv::{self, Geometry, Operand, Shape, fast, gathered};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{EncoderManifest, GeneratorManifest, train_encoder, train_generator};
use std::path::Path;
use std::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Largest difference of two results, in units of their root mean square, with which they are timed.
const TOLERANCE: f64 = 1e-4;

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Channels at a resolution.
fn channels(base: usize, most: usize, resolution: usize) -> usize {
    (base / resolution).min(most)
}

/// The 3x3 convolutions of generator and discriminator, each once.
fn layers(resolution: usize, base: usize, most: usize, n: usize) -> Vec<Shape> {
    let mut out = Vec::new();
    let mut r = 4;
    while r <= resolution {
        let c = channels(base, most, r);
        out.push(Shape { geometry: Geometry::Same, n, c, k: c, h: r, w: r, size: 3 });
        if 2 * r <= resolution {
            let (c, k) = (channels(base, most, 2 * r), c);
            out.push(Shape { geometry: Geometry::Down, n, c, k, h: r, w: r, size: 3 });
        }
        r *= 2;
    }
    out
}

struct Arrays {
    x: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
}

fn map(which: usize, s: &Shape, a: &Arrays) -> Vec<f32> {
    let (isa, x, y) = (Isa::detect(), Operand::plain(&a.x), Operand::plain(&a.y));
    match which {
        0 => conv::forward(isa, s, x, &a.w, |_, _| ()),
        1 => conv::transposed(isa, s, y, &a.w, |_, _| ()),
        _ => conv::weight_gradient(isa, s, x, y),
    }
}

fn compare(a: &[f32], b: &[f32]) -> Outcome {
    let rms = (b.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / b.len() as f64).sqrt();
    let worst = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    if a.len() == b.len() && worst <= TOLERANCE * rms {
        return Ok(());
    }
    Err(format!("results differ by {worst:e}, their root mean square being {rms:e}").into())
}

fn operations(rounds: usize) -> Outcome {
    println!("{} threads, {}", rayon::current_num_threads(), Isa::detect().name());
    for (name, resolution, base, most, n) in [
        ("64x64, base 2048, at most 128", 64, 2048, 128, 32),
        ("128x128, base 16384, at most 512", 128, 16384, 512, 8),
    ] {
        println!("\n{name}, batch {n}: milliseconds gathered / fast, ratio");
        println!("{:28} {:>24} {:>24} {:>24}", "y", "forward", "transposed", "weight gradient");
        let mut sums = [0.0; 2];
        for s in layers(resolution, base, most, n) {
            let (xh, xw) = s.x_size();
            let normals = |seed, n| Rng::new(seed, 0).normals(n);
            let a = Arrays {
                x: normals(1, s.n * s.c * xh * xw),
                w: normals(2, s.k * s.c * 9),
                y: normals(3, s.n * s.k * s.h * s.w),
            };
            let mut line = format!("{:?} {:3} -> {:3} {:3}x{:<3}", s.geometry, s.c, s.k, s.h, s.w);
            line = format!("{line:28}");
            for which in 0..3 {
                compare(&fast(|| map(which, &s, &a)), &gathered(|| map(which, &s, &a)))?;
                let (mut slow, mut quick, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..rounds {
                    let start = Instant::now();
                    gathered(|| map(which, &s, &a));
                    let middle = Instant::now();
                    fast(|| map(which, &s, &a));
                    let (one, two) = ((middle - start).as_secs_f64(), middle.elapsed().as_secs_f64());
                    slow.push(one * 1e3);
                    quick.push(two * 1e3);
                    ratio.push(one / two);
                }
                let (slow, quick) = (median(slow), median(quick));
                sums[0] += slow;
                sums[1] += quick;
                line += &format!(" {slow:8.2} /{quick:7.2}{:6.2}x", median(ratio));
            }
            println!("{line}");
        }
        println!("sums {:.1} / {:.1}, {:.2}x", sums[0], sums[1], sums[0] / sums[1]);
    }
    Ok(())
}

/// Discs of random place and size.
fn pictures(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder)?;
    for i in 0..64u32 {
        let (cx, cy, r) = (20 + i * 7 % 24, 20 + i * 5 % 28, 8 + i % 9);
        let picture = image::GrayImage::from_fn(64, 64, |x, y| {
            let d = (f64::from(x) - f64::from(cx)).hypot(f64::from(y) - f64::from(cy));
            image::Luma([if d < f64::from(r) { 220 } else { 30 }])
        });
        picture.save(folder.join(format!("{i:02}.png")))?;
    }
    Ok(())
}

fn generator_manifest(folder: &Path, name: &str) -> Outcome<GeneratorManifest> {
    let text = format!(
        r#"
schema = 1
name = "{name}"
data = {{ images = ["pictures"], flip = true }}
generator = {{ resolution = 64, channels = 1, z-dim = 64, w-dim = 64, mapping-layers = 4, channel-base = 2048, channel-max = 128 }}
discriminator = {{ resolution = 64, channels = 1, channel-base = 2048, channel-max = 128, mbstd-group = 4, mbstd-channels = 1 }}
training = {{ seed = 7, images = 1000000, batch = 32, learning-rate = 2.5e-3, r1-gamma = 1.0, r1-interval = 16, ema-half-life = 10000, ema-rampup = 0.05 }}
output = {{ folder = {:?}, checkpoint-every = 1000000, samples-every = 1000000 }}
"#,
        folder.join(name)
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    Ok(GeneratorManifest::read(&path)?)
}

fn encoder_manifest(folder: &Path, name: &str, generator: &Path) -> Outcome<EncoderManifest> {
    let text = format!(
        r#"
schema = 1
name = "{name}"
generator = {generator:?}
data = {{ images = ["pictures"], flip = true }}
encoder = {{ resolution = 64, channels = 1, w-dim = 64, channel-base = 2048, channel-max = 128 }}
output = {{ folder = {:?}, checkpoint-every = 1000000, samples-every = 1000000 }}
[training]
seed = 11
images = 1000000
batch = 16
learning-rate = 2e-3
latent-weight = 1.0
pixel-weight = 2.0
real-pixel-weight = 10.0
real-prior-weight = 0.05
"#,
        folder.join(name)
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    Ok(EncoderManifest::read(&path)?)
}

/// Sessions of `images` images by turns; `train(name, images)` answers the seconds of all sessions so far. A first short
/// one takes away what a session measures at its end: that is no part of the next one's beginning.
fn sessions(
    what: &str,
    (rounds, images): (usize, u64),
    mut train: impl FnMut(&str, u64) -> Outcome<f64>,
) -> Outcome {
    let mut before = [gathered(|| train("gathered", 32))?, train("fast", 32)?];
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let total =
                if which == 0 { gathered(|| train("gathered", images))? } else { train("fast", images)? };
            seconds[which].push(total - before[which]);
            before[which] = total;
        }
    }
    let ratios = seconds[0].iter().zip(&seconds[1]).map(|(a, b)| a / b).collect();
    let [slow, fast] = seconds.map(|s| images as f64 / median(s));
    println!("{what}: {slow:.1} / {fast:.1} images/s, {:.2}x", median(ratios));
    Ok(())
}

fn steps(rounds: usize, images: u64) -> Outcome {
    let size = (rounds, images);
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    pictures(&folder.join("pictures"))?;
    println!("64x64, base 2048, at most 128; gathered / fast");
    sessions("generator and discriminator, batch 32", size, |name, images| {
        Ok(train_generator(&generator_manifest(folder, name)?, Some(images), &Silent)?.seconds)
    })?;
    let generator = folder.join("fast/generator.safetensors");
    sessions("encoder, batch 16", size, |name, images| {
        let manifest = encoder_manifest(folder, &format!("encoder-{name}"), &generator)?;
        Ok(train_encoder(&manifest, Vec::new(), Some(images), &Silent)?.seconds)
    })
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // cargo test and nextest start every benchmark's program, with no arguments or `--list`; cargo bench says so.
    if !arguments.iter().any(|a| a == "--bench") || arguments.iter().any(|a| a == "--list") {
        return Ok(());
    }
    shiftlens_stylegan2::enable_second_order();
    let number = |name: &str, default: u64| -> Outcome<u64> {
        match arguments.iter().position(|a| a == name) {
            Some(i) => {
                let value =
                    arguments.get(i + 1).ok_or_else(|| format!("{name}: expected a number after it"))?;
                let value = value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}"))?;
                Ok(value.max(1))
            }
            None => Ok(default),
        }
    };
    let rounds = usize::try_from(number("--rounds", 5)?)?;
    if arguments.iter().any(|a| a == "--steps") {
        steps(rounds, number("--images", 512)?.next_multiple_of(32))
    } else {
        operations(rounds)
    }
}

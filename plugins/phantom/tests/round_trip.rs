//! E(G(w)) = w.

use shiftlens_phantom::encoder::PhantomEncoder;
use shiftlens_phantom::factors::{FACTORS, NAMES};
use shiftlens_phantom::generator::PhantomGenerator;
use shiftlens_sdk::api::resize::{Filter, images};
use shiftlens_sdk::api::{Encoder, Generator, Images, LatentCodes};

/// Codes with every factor within ±2.5, in order of drawing.
fn codes(n: usize, seed: u64) -> LatentCodes {
    let drawn = PhantomGenerator::new(32).unwrap().sample(4 * n, seed).unwrap();
    let kept: Vec<f32> = (0..drawn.len())
        .map(|i| drawn.code(i))
        .filter(|c| c.iter().all(|v| v.abs() <= 2.5))
        .take(n)
        .flatten()
        .copied()
        .collect();
    LatentCodes::new([n, 1, FACTORS], kept).unwrap()
}

/// Median and 95th percentile of the absolute error, factor by factor.
fn errors(w: &LatentCodes, found: &LatentCodes) -> [(f32, f32); FACTORS] {
    std::array::from_fn(|k| {
        let mut e: Vec<f32> = (0..w.len()).map(|i| (w.code(i)[k] - found.code(i)[k]).abs()).collect();
        e.sort_by(f32::total_cmp);
        (e[e.len() / 2], e[e.len() * 95 / 100])
    })
}

fn round_trip(n: usize, size: usize, through: impl Fn(&Images) -> Images) -> [(f32, f32); FACTORS] {
    let w = codes(n, 5);
    let x = PhantomGenerator::new(size).unwrap().synthesize(&w).unwrap();
    let found = PhantomEncoder::default().encode(&through(&x)).unwrap();
    let e = errors(&w, &found);
    for (name, (median, p95)) in NAMES.iter().zip(e) {
        println!("{size:>4} {name:<18} median {median:.4} 95th percentile {p95:.4}");
    }
    e
}

#[test]
fn factors_come_back_from_the_generators_own_size() {
    let clock = std::time::Instant::now();
    let e = round_trip(40, 128, Images::clone);
    println!("{:.1} ms a picture, drawing included", clock.elapsed().as_secs_f64() * 1e3 / 40.0);
    assert!(e.iter().all(|(_, p95)| *p95 < 0.05), "{e:?}");
}

#[test]
fn eight_bits_are_enough() {
    let e = round_trip(20, 128, |x| {
        let rounded = x.as_slice().iter().map(|v| (v * 255.0).round() / 255.0).collect();
        Images::new(x.shape(), rounded).unwrap()
    });
    assert!(e.iter().all(|(_, p95)| *p95 < 0.05), "{e:?}");
}

#[test]
fn other_sizes_and_colour_work_too() {
    let e = round_trip(10, 64, |x| x.with_channels(3).unwrap());
    assert!(e.iter().all(|(_, worst)| *worst < 0.05), "{e:?}");
    // Resized pictures lose grain and sharpness, which looks like lower density and noise: hence the wider bounds.
    let e = round_trip(10, 128, |x| images(x, (100, 120), Filter::Bilinear).unwrap());
    for (name, (median, _)) in NAMES.iter().zip(e) {
        let bound = match *name {
            "joint-space width" | "osteophyte size" | "rotation" => 0.1,
            "noise" => 1.0,
            _ => 0.5,
        };
        assert!(median < bound, "{name}: {median}");
    }
}

#[test]
fn a_picture_that_is_no_knee_gets_a_finite_code() {
    for value in [0.0, 0.5, 1.0] {
        let x = Images::new([1, 1, 48, 48], vec![value; 48 * 48]).unwrap();
        let w = PhantomEncoder::default().encode(&x).unwrap();
        assert!(w.as_slice().iter().all(|v| v.abs() <= 5.0), "{w:?}");
    }
    let x = Images::new([2, 1, 1, 1], vec![0.2, 0.9]).unwrap();
    assert_eq!(PhantomEncoder::default().encode(&x).unwrap().shape(), [2, 1, FACTORS]);
}

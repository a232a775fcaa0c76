//! A series in one call is the images of its codes one by one, whatever the generator shares between the steps.

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use shiftlens_api::{Generator, LatentCodes, Shift};
use shiftlens_stylegan2::net::{GeneratorConfig, GeneratorNet};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, NoiseMode, StyleGan2Generator, file};

const D: usize = 24;
/// Style inputs at 32 pixels.
const L: usize = 8;

/// Random weights, and noise that is seen.
fn generator(channels: usize, noise: NoiseMode) -> StyleGan2Generator {
    let config: GeneratorConfig = serde_json::from_value(json!({
        "resolution": 32, "channels": channels, "z-dim": D, "w-dim": D, "mapping-layers": 2, "channel-base": 640,
        "channel-max": 40,
    }))
    .unwrap();
    let weights = Weights::random(5, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    let tensors = weights
        .tensors()
        .into_iter()
        .map(|(name, t)| {
            let seen = name.ends_with("noise_strength");
            let t = if seen { Tensor::full(0.3f32, t.shape(), &Device::Cpu).unwrap() } else { t.detach() };
            (name, t)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    file::save_generator(&path, &config, &tensors, DType::F32).unwrap();
    StyleGan2Generator::load(&path, &GeneratorOptions { noise, ..Default::default() }).unwrap()
}

/// Compares the series with the synthesis of its codes; returns the largest change along it.
#[track_caller]
fn check(g: &mut StyleGan2Generator, w: &LatentCodes, shift: &Shift<'_>) -> f32 {
    let series = g.series(w, shift).unwrap();
    let plain = g.synthesize(&shift.codes(w, L).unwrap()).unwrap();
    assert_eq!((series.shape(), series.len()), (plain.shape(), shift.len()));
    let mut change = 0f32;
    for i in 0..series.len() {
        for (p, (a, b)) in series.image(i).iter().zip(plain.image(i)).enumerate() {
            assert!((a - b).abs() < 1e-5, "step {i}, value {p}: {a} in the series, {b} from its code");
        }
        let moved = series.image(i).iter().zip(series.image(0)).map(|(a, b)| (a - b).abs());
        change = change.max(moved.fold(0.0, f32::max));
    }
    change
}

#[test]
fn a_series_is_its_images_for_every_range_of_layers() {
    let mut rng = Rng::new(1, 0);
    let w = LatentCodes::new([1, 1, D], rng.normals(D)).unwrap();
    let plus = LatentCodes::new([1, L, D], rng.normals(L * D)).unwrap();
    let alpha = rng.normals(D);
    let all = Shift::new(&alpha, &[-1.0, 0.0, 0.5]).unwrap();
    let mut g = generator(3, NoiseMode::Const);
    assert!(check(&mut g, &w, &all) > 0.05);
    assert!(check(&mut g, &plus, &all) > 0.05);
    // Odd inputs after the first serve a convolution and the toRGB before it, the last one a toRGB alone.
    for from in 0..L {
        for (code, to) in [(&w, L), (&plus, from + 1), (&plus, (from + 3).min(L))] {
            let shift = all.clone().within(Some(from..to)).unwrap();
            let change = check(&mut g, code, &shift);
            assert!(change > 1e-3, "inputs {from}..{to} change nothing: {change:e}");
        }
    }
    let late = all.within(Some(3..L)).unwrap();
    check(&mut generator(3, NoiseMode::None), &w, &late);
}

#[test]
fn the_codes_of_seeds_are_those_of_one_sample_each() {
    let mut g = generator(1, NoiseMode::Const);
    let seeds = [7, 0, 7, u64::MAX];
    let together = g.sample_seeds(&seeds).unwrap();
    assert_eq!(together.shape(), [4, 1, D]);
    for (i, seed) in seeds.into_iter().enumerate() {
        let alone = g.sample(1, seed).unwrap();
        let off = together.code(i).iter().zip(alone.code(0)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "seed {seed}: {off:e}");
    }
    assert_ne!(together.code(0), together.code(1));
}

#[test]
fn directions_of_w_plus_and_odd_numbers_of_steps_are_served() {
    let mut rng = Rng::new(2, 0);
    let mut g = generator(1, NoiseMode::Const);
    let plus = LatentCodes::new([1, L, D], rng.normals(L * D)).unwrap();
    let w = plus.slice(0, 1).code(0)[..D].to_vec();
    let w = LatentCodes::new([1, 1, D], w).unwrap();
    let mut rows = rng.normals(L * D);
    // Rows of zeros are inputs that are not edited either.
    rows[..3 * D].fill(0.0);
    for n in [1, 2, 17] {
        let steps: Vec<f32> = (0..n).map(|i| 0.2 * i as f32 - 0.7).collect();
        let shift = Shift::new(&rows, &steps).unwrap();
        check(&mut g, &plus, &shift);
        check(&mut g, &w, &shift.clone().within(Some(4..7)).unwrap());
    }
    let misfit = Shift::new(&rows[..D], &[1.0]).unwrap().within(Some(6..9)).unwrap();
    let message = g.series(&w, &misfit).unwrap_err().to_string();
    assert!(message.contains("style inputs 6 to 8") && message.contains("has 8"), "{message}");
}

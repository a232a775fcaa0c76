//! Fixtures, how found and expected arrays are compared, and pictures to train on.

#![allow(dead_code, reason = "each test program uses a part")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use shiftlens_stylegan2::net::{Architecture, DiscriminatorConfig, GeneratorConfig, SynthesisInput};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub type Arrays = HashMap<String, Tensor>;

pub fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A fixture, or a file of `../shared/golden/stylegan2` beside the repository; `None` where that folder is not there.
pub fn load(name: &str) -> Option<Arrays> {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/stylegan2");
    let mut places = [fixtures(), shared].into_iter().map(|f| f.join(name));
    let Some(file) = places.find(|f| f.exists()) else {
        println!("{name} skipped: no ../shared/golden/stylegan2 beside the repository");
        return None;
    };
    Some(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
}

/// The arrays whose names begin with `prefix.`, without it.
pub fn part(all: &Arrays, prefix: &str) -> Arrays {
    let cut = |name: &str| Some(name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned());
    all.iter().filter_map(|(name, t)| Some((cut(name)?, t.clone()))).collect()
}

/// The generator of the reference's fixtures `g32` or `g64`.
pub fn generator(name: &str) -> GeneratorConfig {
    let (resolution, channels, dim, base, max, mapping) = match name {
        "g32" => (32, 1, 64, 2048, 64, 2),
        _ => (64, 3, 128, 4096, 128, 8),
    };
    GeneratorConfig {
        resolution,
        channels,
        z_dim: dim,
        w_dim: dim,
        mapping_layers: mapping,
        channel_base: base,
        channel_max: max,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: SynthesisInput::Constant,
        label_dim: 0,
    }
}

/// A residual discriminator as the reference's, without classes.
pub fn discriminator(resolution: usize, channels: usize, base: usize, max: usize) -> DiscriminatorConfig {
    DiscriminatorConfig {
        resolution,
        channels,
        channel_base: base,
        channel_max: max,
        mbstd_group: 4,
        mbstd_channels: 1,
        conv_clamp: None,
        architecture: Architecture::Resnet,
        label_dim: 0,
        cmap_dim: None,
        mapping_layers: 8,
    }
}

/// `[generator]` of a training manifest: a small network on grey images.
pub fn generator_section(resolution: usize) -> String {
    format!(
        "[generator]\nresolution = {resolution}\nchannels = 1\nz-dim = 8\nw-dim = 8\nmapping-layers = 2\n\
         channel-base = 128\nchannel-max = 16\n"
    )
}

/// The two networks of a training manifest, [`generator_section`] and its discriminator.
pub fn networks(resolution: usize) -> String {
    format!(
        "{}[discriminator]\nresolution = {resolution}\nchannels = 1\nchannel-base = 128\nchannel-max = 16\n\
         mbstd-group = 4\nmbstd-channels = 1\n",
        generator_section(resolution)
    )
}

pub fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn rms(v: &[f64]) -> f64 {
    (v.iter().map(|v| v * v).sum::<f64>() / v.len() as f64).sqrt()
}

fn differences(found: &Tensor, expected: &Tensor) -> Vec<f64> {
    assert_eq!(found.dims(), expected.dims());
    flat(found).iter().zip(flat(expected)).map(|(a, b)| a - b).collect()
}

/// Largest difference over the rms of `expected`.
pub fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let largest = differences(found, expected).into_iter().map(f64::abs).fold(0.0, f64::max);
    largest / rms(&flat(expected)).max(1e-12)
}

/// L2 norm of the difference over the norm of `expected`.
pub fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    rms(&differences(found, expected)) / rms(&flat(expected)).max(1e-12)
}

#[track_caller]
pub fn close(what: &str, found: &Tensor, expected: &Tensor) {
    let e = error(found, expected);
    println!("{what}: {e:.1e}");
    assert!(e < 1e-4, "{what}: {e} of rms");
}

/// Compares the gradients of `vars` with the arrays `prefix.NAME` of `expected`; returns how many there were.
///
/// Each must be within 1e-3 of its norm, and of 1e-6 of the largest one's: some gradients are zero but for rounding (a
/// style that demodulation takes out again, a bias in front of nothing but linear pieces).
#[track_caller]
pub fn close_gradients(prefix: &str, vars: &[(String, Var)], found: &GradStore, expected: &Arrays) -> usize {
    let wanted = part(expected, prefix);
    let largest = wanted.values().map(|t| rms(&flat(t))).fold(0.0, f64::max);
    let mut checked = 0;
    for (name, expected) in &wanted {
        let var = vars.iter().find(|(n, _)| n == name);
        let (_, var) = var.unwrap_or_else(|| panic!("{prefix}.{name}: no such parameter"));
        let zero = expected.zeros_like().unwrap();
        let found = found.get(var.as_tensor()).unwrap_or(&zero);
        let off = rms(&differences(found, expected));
        let scale = rms(&flat(expected));
        println!("{prefix}.{name}: {off:.1e} of {scale:.1e}");
        assert!(
            off < 1e-3 * scale + 1e-6 * largest,
            "{prefix}.{name}: {off:e} of {scale:e}, largest {largest:e}"
        );
        checked += 1;
    }
    checked
}

/// Discs of random place and size.
pub fn pictures(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..24u32 {
        let (cx, cy, r) = (5 + i * 7 % 6, 5 + i * 5 % 7, 2 + i % 3);
        let picture = image::GrayImage::from_fn(16, 16, |x, y| {
            let d = (f64::from(x) - f64::from(cx)).hypot(f64::from(y) - f64::from(cy));
            image::Luma([if d < f64::from(r) { 220 } else { 30 }])
        });
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

//! The networks of the benchmark: sizes, random weights, and how many multiply-adds an image is.

use crate::Outcome;
use candle_core::{DType, Device, Tensor};
use shiftlens_stylegan2::file;
use shiftlens_stylegan2::net::{GeneratorConfig, GeneratorNet};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::weights::Weights;
use std::path::Path;

/// Codes in `codes.f32`, the largest batch.
pub const CODES: usize = 8;

/// The network of a resolution.
pub fn config(resolution: usize) -> Outcome<GeneratorConfig> {
    let (channels, channel_base) = match resolution {
        64 | 128 => (1, 16384),
        256 => (3, 32768),
        _ => return Err(format!("no network of {resolution} pixels; there are 64, 128 and 256").into()),
    };
    Ok(serde_json::from_value(serde_json::json!({
        "resolution": resolution, "channels": channels, "z-dim": 512, "w-dim": 512, "mapping-layers": 8,
        "channel-base": channel_base, "channel-max": 512,
    }))?)
}

/// Writes the network as training begins with it, but for what would be 0 there and so would hide mistakes from the
/// comparison: biases are N(0, 0.1), noise strengths 0.1. Weights of toRGB are a fifth, for images of about [-1, 1].
pub fn write(config: &GeneratorConfig, path: &Path) -> Outcome {
    let weights = Weights::random(1, &Device::Cpu);
    GeneratorNet::new(config, &weights)?;
    let mut rng = Rng::new(2, 0);
    let mut tensors = std::collections::HashMap::new();
    for (name, t) in weights.tensors() {
        let t = t.detach();
        let t = if name.ends_with("noise_strength") {
            Tensor::full(0.1f32, t.shape(), &Device::Cpu)?
        } else if name.starts_with("synthesis") && name.ends_with(".bias") && !name.contains("affine") {
            let values: Vec<f32> = rng.normals(t.elem_count()).iter().map(|v| 0.1 * v).collect();
            Tensor::from_vec(values, t.shape(), &Device::Cpu)?
        } else if name.ends_with("torgb.weight") {
            (t * 0.2)?
        } else {
            t
        };
        tensors.insert(name, t);
    }
    Ok(file::save_generator(path, config, &tensors, DType::F32)?)
}

/// Writes [`CODES`] codes of W+ whose rows all differ, so that a layer that reads another's row is seen.
pub fn write_codes(config: &GeneratorConfig, folder: &Path) -> Outcome {
    let values = Rng::new(3, 0).normals(CODES * config.num_ws() * config.w_dim);
    Ok(std::fs::write(
        folder.join("codes.f32"),
        values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
    )?)
}

/// Reads a file of float32 values.
pub fn floats(path: &Path) -> Outcome<Vec<f32>> {
    Ok(std::fs::read(path)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Multiply-adds of one image's convolutions done directly: 9 per weight and position, a doubling one at its input's
/// resolution, and toRGB.
pub fn direct_multiply_adds(c: &GeneratorConfig) -> u64 {
    let layer = |inputs: usize, outputs: usize, side: usize| (9 * inputs * outputs * side * side) as u64;
    c.resolutions()
        .into_iter()
        .map(|r| {
            let (before, width) = (c.width(r / 2), c.width(r));
            let up = if r == 4 { 0 } else { layer(before, width, r / 2) };
            up + layer(width, width, r) + (width * c.channels * r * r) as u64
        })
        .sum()
}

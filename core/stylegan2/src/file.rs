//! Network files: safetensors with the reference's tensor names and the network's sizes in the metadata.

use crate::net::{EncoderConfig, GeneratorConfig, GeneratorNet, one_hot};
use crate::rng::Rng;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use shiftlens_api::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Key of the metadata under which a file says what network it holds.
pub(crate) const KEY: &str = "shiftlens";
const GENERATOR: &str = "stylegan2-generator";
const ENCODER: &str = "stylegan2-encoder";

/// The mean of w over `n` codes drawn with seed 0, `[D]`; over all classes, if there are any.
///
/// # Errors
/// If candle fails.
pub fn mean_w(g: &GeneratorNet, n: usize) -> candle_core::Result<Tensor> {
    let w = sample_w(g, n, 0)?;
    w.mean(0)
}

/// `n` codes of W `[n, D]`, untruncated, drawn from `seed`; the first codes of a larger draw are those of a smaller.
/// Classes, if there are any, are drawn evenly, from a stream of their own: the same seed has the same z.
///
/// # Errors
/// If candle fails.
pub fn sample_w(g: &GeneratorNet, n: usize, seed: u64) -> candle_core::Result<Tensor> {
    let z = Rng::new(seed, 0).normals(n * g.config().z_dim);
    map_classes(g, z, &draw_classes(g, n, &mut Rng::new(seed, 1)))
}

/// [`sample_w`] of one class of a class-conditional network, with the same z.
///
/// # Errors
/// If the network has no such class, or candle fails.
pub fn sample_w_of(g: &GeneratorNet, n: usize, seed: u64, class: usize) -> candle_core::Result<Tensor> {
    map_classes(g, Rng::new(seed, 0).normals(n * g.config().z_dim), &vec![class; n])
}

/// As many classes, drawn evenly; none of an unconditional network, which then draws nothing.
pub(crate) fn draw_classes(g: &GeneratorNet, n: usize, rng: &mut Rng) -> Vec<usize> {
    match g.config().label_dim {
        0 => Vec::new(),
        k => (0..n).map(|_| rng.below(k)).collect(),
    }
}

/// z, row-major, and a class for each, or none of an unconditional network, to w `[n, D]`.
pub(crate) fn map_classes(g: &GeneratorNet, z: Vec<f32>, classes: &[usize]) -> candle_core::Result<Tensor> {
    let (z_dim, device) = (g.config().z_dim, g.w_avg().device());
    let n = z.len() / z_dim;
    let z = Tensor::from_vec(z, (n, z_dim), device)?;
    if classes.is_empty() {
        return g.map(&z);
    }
    g.map_labelled(&z, Some(&one_hot(classes, g.config().label_dim, device)?))
}

fn save<C: Serialize>(
    path: &Path,
    kind: &str,
    config: &C,
    tensors: &HashMap<String, Tensor>,
    dtype: DType,
    origin: Option<&serde_json::Value>,
) -> Result<()> {
    let fail =
        |e: &dyn std::fmt::Display| Error::component("network file", format!("{}: {e}", path.display()));
    let mut json = serde_json::json!({ "kind": kind, "config": config });
    if let Some(origin) = origin {
        json["origin"] = origin.clone();
    }
    let metadata = HashMap::from([(KEY.to_owned(), json.to_string())]);
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, t) in tensors {
        let t = t.to_device(&Device::Cpu).and_then(|t| t.to_dtype(dtype)?.contiguous());
        stored.push((name.clone(), t.map_err(|e| fail(&e))?));
    }
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    write(path, stored, metadata)
}

/// Writes beside the file and renames, so that it is whole or not there.
fn write(path: &Path, stored: Vec<(String, Tensor)>, metadata: HashMap<String, String>) -> Result<()> {
    let temporary = path.with_extension("partial");
    safetensors::serialize_to_file(stored, Some(metadata), &temporary)
        .map_err(|e| Error::component("network file", format!("{}: {e}", path.display())))?;
    std::fs::rename(&temporary, path).map_err(|e| Error::io(path, e))
}

/// Refuses what rounds to more than the largest f16, 65504: it would be infinite.
///
/// # Errors
/// [`Error::Unsupported`], naming the tensor.
pub(crate) fn check_half<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Result<()> {
    for (name, t) in tensors {
        let largest = || t.to_dtype(DType::F32)?.abs()?.max_all()?.to_scalar::<f32>();
        let largest = if t.elem_count() == 0 { Ok(0.0) } else { largest() };
        let v = largest.map_err(|e| Error::component("network file", e))?;
        if v >= 65520.0 {
            return Err(Error::Unsupported(format!("tensor `{name}`: {v} is too large for half precision")));
        }
    }
    Ok(())
}

/// What [`convert`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// `stylegan2-generator` or `stylegan2-encoder`.
    pub kind: String,
    /// Numbers in all tensors.
    pub parameters: usize,
}

/// Writes a network's file again, in half precision (F16) or in F32: every reader takes either and computes in f32. All that
/// the file says of itself is kept.
///
/// # Errors
/// If the file cannot be read or holds no network, `out` is the file itself, or a number is too large for F16.
pub fn convert(path: &Path, out: &Path, half: bool) -> Result<Converted> {
    let dtype = if half { DType::F16 } else { DType::F32 };
    let same = path.canonicalize().ok().is_some_and(|p| out.canonicalize().ok() == Some(p));
    if same {
        return Err(Error::Invalid(format!("{}: the file itself would be written over", out.display())));
    }
    let (metadata, json, tensors) = read(path)?;
    let kind = json["kind"].as_str().unwrap_or_default().to_owned();
    if ![GENERATOR, ENCODER].contains(&kind.as_str()) {
        return Err(Error::Invalid(format!(
            "{}: a network of kind {}, expected \"{GENERATOR}\" or \"{ENCODER}\"",
            path.display(),
            json["kind"]
        )));
    }
    if half {
        check_half(&tensors)?;
    }
    let parameters = tensors.values().map(Tensor::elem_count).sum();
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, t) in tensors {
        let t = t.to_dtype(dtype).map_err(|e| Error::component("network file", e))?;
        stored.push((name, t));
    }
    stored.sort_by(|a, b| a.0.cmp(&b.0));
    write(out, stored, metadata)?;
    Ok(Converted { kind, parameters })
}

type Parts = (HashMap<String, String>, serde_json::Value, HashMap<String, Tensor>);

/// A file's metadata, what it says of its network, and its tensors.
fn read(path: &Path) -> Result<Parts> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|e| invalid(&format!("not a safetensors file: {e}")))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let text = metadata.get(KEY).ok_or_else(|| {
        invalid(
            &"the file's metadata does not say what network it is; expected one written by \
              `shiftlens train` or `shiftlens import`",
        )
    })?;
    let json = serde_json::from_str(text).map_err(|e| invalid(&e))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| invalid(&e))?;
    Ok((metadata, json, tensors))
}

fn load<C: DeserializeOwned>(path: &Path, kind: &str) -> Result<(C, HashMap<String, Tensor>)> {
    let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let (_, mut json, tensors) = read(path)?;
    if json["kind"] != kind {
        return Err(invalid(&format!("expected a network of kind \"{kind}\", found {}", json["kind"])));
    }
    let config = serde_json::from_value(json["config"].take()).map_err(|e| invalid(&e))?;
    Ok((config, tensors))
}

/// Writes a generator in `dtype` (F32, or F16 for half the size).
///
/// # Errors
/// If the file cannot be written.
pub fn save_generator(
    path: &Path,
    config: &GeneratorConfig,
    tensors: &HashMap<String, Tensor>,
    dtype: DType,
) -> Result<()> {
    save(path, GENERATOR, config, tensors, dtype, None)
}

/// Writes a generator that another program trained, with a record of where it came from.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save_imported(
    path: &Path,
    config: &GeneratorConfig,
    tensors: &HashMap<String, Tensor>,
    dtype: DType,
    origin: &serde_json::Value,
) -> Result<()> {
    save(path, GENERATOR, config, tensors, dtype, Some(origin))
}

/// Reads a generator.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn load_generator(path: &Path) -> Result<(GeneratorConfig, HashMap<String, Tensor>)> {
    load(path, GENERATOR)
}

/// Writes an encoder.
///
/// # Errors
/// If the file cannot be written.
pub fn save_encoder(
    path: &Path,
    config: &EncoderConfig,
    tensors: &HashMap<String, Tensor>,
    dtype: DType,
) -> Result<()> {
    save(path, ENCODER, config, tensors, dtype, None)
}

/// Reads an encoder.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn load_encoder(path: &Path) -> Result<(EncoderConfig, HashMap<String, Tensor>)> {
    load(path, ENCODER)
}

/// sha256 of a file, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    Ok(Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect())
}

//! Checkpoints: one safetensors file, written beside and renamed into place.

use candle_core::{Device, Tensor};
use shiftlens_api::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Writes tensors with a text `state` so that a crash leaves the old file or the new one.
pub fn save(path: &Path, state: &str, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let metadata = HashMap::from([("state".to_owned(), state.to_owned())]);
    let temporary = path.with_extension("partial");
    let views: Vec<(&String, &Tensor)> = tensors.iter().collect();
    safetensors::serialize_to_file(views, Some(metadata), &temporary)
        .map_err(|e| Error::component("checkpoint", format!("{}: {e}", temporary.display())))?;
    std::fs::rename(&temporary, path).map_err(|e| Error::io(path, e))
}

/// Reads a checkpoint.
pub fn load(path: &Path) -> Result<(String, HashMap<String, Tensor>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| invalid(&e))?;
    let state = metadata.metadata().as_ref().and_then(|m| m.get("state").cloned());
    let state = state.ok_or_else(|| invalid(&"no training state: not a checkpoint"))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| invalid(&e))?;
    Ok((state, tensors))
}

/// The tensors whose names begin with `prefix.`, without it.
pub fn part(all: &HashMap<String, Tensor>, prefix: &str) -> HashMap<String, Tensor> {
    let prefix = format!("{prefix}.");
    all.iter().filter_map(|(k, t)| Some((k.strip_prefix(&prefix)?.to_owned(), t.clone()))).collect()
}

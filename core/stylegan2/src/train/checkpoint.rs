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

/// As [`save`], keeping the file that is there as `NAME-previous.safetensors`.
pub fn save_keeping(path: &Path, state: &str, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    if path.exists() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let previous = path.with_file_name(format!("{name}-previous.safetensors"));
        let beside = path.with_extension("previous");
        // A second name for the same file, so that there is a current one at every moment; where a file system knows no
        // second names, a copy.
        let _ = std::fs::remove_file(&beside);
        if std::fs::hard_link(path, &beside).is_err() {
            std::fs::copy(path, &beside).map_err(|e| Error::io(&beside, e))?;
        }
        std::fs::rename(&beside, &previous).map_err(|e| Error::io(&previous, e))?;
    }
    save(path, state, tensors)
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

//! The direction's files: `direction.safetensors` and `audit.json`.
//!
//! The tensors are `alpha` `[L, D]`, `step` `[L, D]` where series move along another vector, `sigma`, `mean`, `slope` and `intercept` `[1]`; the metadata holds the
//! fingerprint of what it was fitted with.

use super::Found;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use shiftlens_api::record::AuditRecord;
use shiftlens_api::{Direction, Error, Result};
use std::collections::HashMap;
use std::path::Path;

const TENSORS: &str = "direction.safetensors";
const AUDIT: &str = "audit.json";

/// Writes both files into `folder`, which is made.
///
/// # Errors
/// [`Error::Io`].
pub fn save(folder: &Path, found: &Found, fingerprint: &str) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let d = &found.direction;
    let audit = serde_json::to_string_pretty(&found.audit).map_err(|e| Error::component("audit.json", e))?;
    let path = folder.join(AUDIT);
    std::fs::write(&path, audit).map_err(|e| Error::io(&path, e))?;

    let scalars = [("sigma", d.sigma), ("mean", d.mean), ("slope", d.slope), ("intercept", d.intercept)];
    let mut blobs: Vec<(&str, Vec<usize>, Vec<u8>)> = vec![(
        "alpha",
        vec![d.layers(), d.alpha().len() / d.layers()],
        d.alpha().iter().flat_map(|v| v.to_le_bytes()).collect(),
    )];
    if d.has_step() {
        let shape = vec![d.layers(), d.step().len() / d.layers()];
        blobs.push(("step", shape, d.step().iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    blobs.extend(scalars.map(|(name, v)| (name, vec![1], v.to_le_bytes().to_vec())));
    let path = folder.join(TENSORS);
    let fail = |e: safetensors::SafeTensorError| Error::component(path.display().to_string(), e);
    let views = blobs
        .iter()
        .map(|(name, shape, data)| {
            Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data).map_err(fail)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("fingerprint".to_owned(), fingerprint.to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(fail)?;
    // Written last and renamed: where this file is, the direction is whole.
    let part = folder.join("direction.safetensors.part");
    std::fs::write(&part, bytes).map_err(|e| Error::io(&part, e))?;
    std::fs::rename(&part, &path).map_err(|e| Error::io(&path, e))
}

/// Reads a direction that was fitted with the same `fingerprint`; `None` if there is none or it is another's.
///
/// # Errors
/// [`Error::Io`] or [`Error::Invalid`] if the files are there and matching but cannot be read.
pub fn load(folder: &Path, fingerprint: &str) -> Result<Option<Found>> {
    let path = folder.join(TENSORS);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&path, &e))?;
    if header.metadata().as_ref().and_then(|m| m.get("fingerprint")).map(String::as_str) != Some(fingerprint)
    {
        return Ok(None);
    }
    parse(folder, &bytes).map(Some)
}

/// Reads the direction of a run's folder, whatever it was fitted with; `None` if there is none.
///
/// # Errors
/// As [`load`].
pub fn read(folder: &Path) -> Result<Option<Found>> {
    let path = folder.join(TENSORS);
    if !path.exists() {
        return Ok(None);
    }
    parse(folder, &std::fs::read(&path).map_err(|e| Error::io(&path, e))?).map(Some)
}

fn damaged(path: &Path, e: &safetensors::SafeTensorError) -> Error {
    Error::Invalid(format!("{}: {e}; remove the file to fit the direction again", path.display()))
}

fn parse(folder: &Path, bytes: &[u8]) -> Result<Found> {
    let path = folder.join(TENSORS);
    let fail = |e| damaged(&path, &e);
    let file = SafeTensors::deserialize(bytes).map_err(fail)?;
    let floats = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        let t = file.tensor(name).map_err(fail)?;
        let data = t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok((t.shape().to_vec(), data))
    };
    let scalar = |name: &str| floats(name).map(|(_, v)| v.first().copied().unwrap_or(f32::NAN));
    let (shape, alpha) = floats("alpha")?;
    let mut direction =
        Direction::new(alpha, shape.first().copied().unwrap_or(0), scalar("sigma")?, scalar("mean")?)?;
    (direction.slope, direction.intercept) = (scalar("slope")?, scalar("intercept")?);
    if file.names().contains(&"step") {
        let (sigma, mean) = (direction.sigma, direction.mean);
        direction = direction.with_step(floats("step")?.1, sigma, mean)?;
    }
    let path = folder.join(AUDIT);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
    let audit: AuditRecord =
        serde_json::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    Ok(Found { direction, audit })
}

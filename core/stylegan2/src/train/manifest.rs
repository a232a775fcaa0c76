//! Training manifests.

use crate::ops::Precision;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};

/// Where results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OutputSection {
    /// Folder for checkpoints, sample sheets and the log. Relative to the working directory.
    pub folder: PathBuf,
    /// Images between checkpoints.
    pub checkpoint_every: u64,
    /// Images between sample sheets.
    pub samples_every: u64,
}

pub(super) fn cpu() -> String {
    "cpu".into()
}

/// Opens the device of a training run.
///
/// # Errors
/// If this build or this machine does not have it, or it does not compute in `precision`.
pub(super) fn open(device: &str, precision: Precision) -> Result<Device> {
    let device = crate::open_device(device)?;
    precision.check(&device).map_err(|e| Error::Invalid(format!("training: {e}")))?;
    Ok(device)
}

pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    toml::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

pub(super) fn check(path: &Path, schema: u32, ok: &[(bool, &str)]) -> Result<()> {
    if schema != 1 {
        return Err(Error::Invalid(format!("{}: schema {schema}, expected 1", path.display())));
    }
    match ok.iter().find(|(ok, _)| !ok) {
        Some((_, what)) => Err(Error::Invalid(format!("{}: {what}", path.display()))),
        None => Ok(()),
    }
}

pub(super) fn resolve(manifest: &Path, path: &mut PathBuf) {
    if path.is_relative() {
        *path = manifest.parent().unwrap_or(Path::new(".")).join(&*path);
    }
}

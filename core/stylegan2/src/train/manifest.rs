//! What the training manifests of generators and encoders have in common.

use crate::ops::Precision;
use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::variables::expand_from_environment;
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// Reads a manifest; `paths` are its keys that name files, see [`expand`].
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path, paths: &[&str]) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let refuse = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    // Mistakes found in the text come with their line; of a table it is not known any more.
    if !text.contains("${") {
        return toml::from_str(&text).map_err(|e| refuse(&e));
    }
    let mut table: Table = toml::from_str(&text).map_err(|e| refuse(&e))?;
    expand(&mut table, paths).map_err(|e| refuse(&e))?;
    table.try_into().map_err(|e| refuse(&e))
}

/// Puts the values of environment variables into the paths of a manifest (see [`shiftlens_api::variables`]). Keys are
/// written as `data.images`; of arrays every entry is meant.
///
/// # Errors
/// The key, and the variable that has no value.
pub(super) fn expand(table: &mut Table, keys: &[&str]) -> std::result::Result<(), String> {
    fn walk(value: &mut Value, path: &[&str]) -> std::result::Result<(), String> {
        match (value, path) {
            (Value::Array(entries), _) => entries.iter_mut().try_for_each(|v| walk(v, path)),
            (Value::Table(t), [key, rest @ ..]) => t.get_mut(*key).map_or(Ok(()), |v| walk(v, rest)),
            (Value::String(text), []) => {
                *text = expand_from_environment(text).map_err(|e| format!("{e} ({})", e.help))?;
                Ok(())
            }
            // Of another type: for the reader of the whole to say.
            _ => Ok(()),
        }
    }
    for key in keys {
        let path: Vec<&str> = key.split('.').collect();
        if let Some((first, rest)) = path.split_first()
            && let Some(value) = table.get_mut(*first)
        {
            walk(value, rest).map_err(|e| format!("{key}: {e}"))?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_in_paths_and_nowhere_else() {
        // Cargo sets the one for every test, nobody the other.
        let home = env!("CARGO_MANIFEST_DIR");
        let mut table: Table = toml::from_str(
            "name = \"${CARGO_MANIFEST_DIR}\"\ngenerator = \"${CARGO_MANIFEST_DIR}/g\"\n\
             [data]\nimages = [\"a\", \"${SHIFTLENS_NO_SUCH_VARIABLE:-b}\"]\n\
             [[features]]\npath = \"${CARGO_MANIFEST_DIR}/f\"\n[[features]]\npath = 3\n",
        )
        .unwrap();
        expand(&mut table, &["generator", "data.images", "data.root", "features.path"]).unwrap();
        assert_eq!(table["name"].as_str(), Some("${CARGO_MANIFEST_DIR}"));
        assert_eq!(table["generator"].as_str(), Some(format!("{home}/g").as_str()));
        assert_eq!(table["data"]["images"][1].as_str(), Some("b"));
        assert_eq!(table["features"][0]["path"].as_str(), Some(format!("{home}/f").as_str()));
        let mut table: Table = toml::from_str("[data]\nroot = \"${SHIFTLENS_NO_SUCH_VARIABLE}/x\"").unwrap();
        let message = expand(&mut table, &["data.root"]).unwrap_err();
        assert!(message.starts_with("data.root: ") && message.contains("is not set"), "{message}");
    }
}

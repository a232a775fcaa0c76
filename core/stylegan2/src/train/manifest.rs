//! Training manifests.

use super::data::DataSection;
use crate::net::EncoderConfig;
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

/// Encoder training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderTraining {
    /// Seed of everything random.
    pub seed: u64,
    /// Synthetic images to show in all.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Adam's step size at the start; it falls to 0 along half a cosine.
    pub learning_rate: f64,
    /// Weight of the squared error of w, in standard units per coordinate, on synthetic pairs.
    pub latent_weight: f64,
    /// Weight of the squared error of pixels (network range) of G(E(x)) on synthetic images.
    pub pixel_weight: f64,
    /// The same on real images, if `data` names any.
    #[serde(default)]
    pub real_pixel_weight: f64,
    /// Weight of the squared length of E(x) in standard units beyond that of W's codes, on real images: keeps codes
    /// of real images where the generator was trained.
    #[serde(default)]
    pub real_prior_weight: f64,
    /// `cpu`, or `cuda:0`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Precision of convolutions on a GPU: `f32`, `tf32` or `bf16`.
    #[serde(default)]
    pub precision: Precision,
}

/// `train encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderManifest {
    /// Version of the manifest: 1.
    pub schema: u32,
    /// For the log and the provenance.
    pub name: String,
    /// The generator's file, relative to the manifest.
    pub generator: PathBuf,
    /// Real images, optional.
    #[serde(default)]
    pub data: Option<DataSection>,
    /// E.
    pub encoder: EncoderConfig,
    /// How to train.
    pub training: EncoderTraining,
    /// Where results go.
    pub output: OutputSection,
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

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
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

impl EncoderManifest {
    /// Reads and checks a manifest; paths become relative to the working directory.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut m: Self = read(path)?;
        resolve(path, &mut m.generator);
        if let Some(data) = &mut m.data {
            data.resolve(path);
        }
        let t = &m.training;
        check(
            path,
            m.schema,
            &[
                (t.batch > 0 && t.images > 0, "training: batch and images must be positive"),
                (t.learning_rate > 0.0, "training.learning-rate must be positive"),
                (
                    t.latent_weight >= 0.0 && t.pixel_weight >= 0.0 && t.latent_weight + t.pixel_weight > 0.0,
                    "training: latent-weight and pixel-weight must not be negative nor both zero",
                ),
                (
                    m.data.is_some() || (t.real_pixel_weight == 0.0 && t.real_prior_weight == 0.0),
                    "training.real-pixel-weight needs [data]",
                ),
                (
                    m.output.checkpoint_every > 0 && m.output.samples_every > 0,
                    "output: checkpoint-every and samples-every must be positive",
                ),
            ],
        )?;
        Ok(m)
    }
}

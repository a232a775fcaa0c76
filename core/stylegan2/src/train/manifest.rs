//! Training manifests.

use crate::net::{DiscriminatorConfig, GeneratorConfig};
use crate::ops::Precision;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};

/// Where the images are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DataSection {
    /// Folders, searched recursively for PNG and JPEG files. Relative to the manifest.
    pub images: Vec<PathBuf>,
    /// Also learn mirrored images.
    #[serde(default)]
    pub flip: bool,
}

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

/// Adversarial training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GanTraining {
    /// Seed of everything random.
    pub seed: u64,
    /// Real images to show in all.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Weight of the R1 penalty: `gamma / 2 * mean |dD/dx|^2` (Mescheder et al. 2018, eq. 9).
    pub r1_gamma: f64,
    /// Steps between R1 penalties (lazy regularisation, Karras et al. 2020, section 3.1).
    pub r1_interval: u64,
    /// Half-life of the weights' moving average, in images.
    pub ema_half_life: f64,
    /// Until then the half-life is at most this share of the images seen.
    pub ema_rampup: f64,
    /// `cpu`, or `cuda:0`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Precision of convolutions on a GPU: `f32`, `tf32` or `bf16`.
    #[serde(default)]
    pub precision: Precision,
}

/// `train generator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GeneratorManifest {
    /// Version of the manifest: 1.
    pub schema: u32,
    /// For the log and the provenance.
    pub name: String,
    /// Where the images are.
    pub data: DataSection,
    /// G.
    pub generator: GeneratorConfig,
    /// D.
    pub discriminator: DiscriminatorConfig,
    /// How to train.
    pub training: GanTraining,
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

impl GeneratorManifest {
    /// Reads and checks a manifest; paths become relative to the working directory.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut m: Self = read(path)?;
        m.data.images.iter_mut().for_each(|p| resolve(path, p));
        let (g, d, t) = (&m.generator, &m.discriminator, &m.training);
        check(
            path,
            m.schema,
            &[
                (
                    (g.resolution, g.channels) == (d.resolution, d.channels),
                    "generator and discriminator differ in resolution or channels",
                ),
                (g.channels == 1 || g.channels == 3, "generator.channels: expected 1 or 3"),
                (
                    g.label_dim == 0 && d.label_dim == 0,
                    "label-dim: training is unconditional, a folder of images has no classes",
                ),
                (t.batch > 0 && t.images > 0, "training: batch and images must be positive"),
                (
                    d.mbstd_group > 0 && t.batch.is_multiple_of(d.mbstd_group.min(t.batch)),
                    "training.batch must be a multiple of discriminator.mbstd-group",
                ),
                (t.learning_rate > 0.0 && t.r1_gamma >= 0.0, "training: learning-rate and r1-gamma"),
                (t.r1_interval > 0 && t.ema_half_life > 0.0, "training: r1-interval and ema-half-life"),
                (
                    m.output.checkpoint_every > 0 && m.output.samples_every > 0,
                    "output: checkpoint-every and samples-every must be positive",
                ),
            ],
        )?;
        g.check().and_then(|()| d.check()).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
        Ok(m)
    }
}

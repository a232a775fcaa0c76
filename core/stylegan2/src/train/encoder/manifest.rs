//! The manifest of `train encoder`.

use super::super::manifest::{check, cpu, read, resolve};
use super::super::{DataSection, FeatureSection, OutputSection};
use crate::net::{EncoderConfig, Space};
use crate::ops::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};

/// How to train an encoder. Weights are those of the loss's parts, see [`super::train_encoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderTraining {
    /// Seed of everything random.
    pub seed: u64,
    /// Images to show in all, synthetic and real.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Adam's step size at the start; it falls to 0 along half a cosine.
    pub learning_rate: f64,
    /// Weight of the squared error of codes, in standard units per coordinate, on synthetic pairs.
    pub latent_weight: f64,
    /// Weight of the squared error of pixels (network range) of G(E(x)) on synthetic images.
    pub pixel_weight: f64,
    /// The same on real images, if `data` names any.
    #[serde(default)]
    pub real_pixel_weight: f64,
    /// Weight of how much longer E(x) is than W's codes, on real images: keeps codes of real images where the generator was
    /// trained (see [`crate::prior`]).
    #[serde(default)]
    pub real_prior_weight: f64,
    /// Weight of the squared offsets from the base code, in standard units, on real images; for W+.
    #[serde(default)]
    pub offset_weight: f64,
    /// Share of synthetic images of two codes each, one for the style inputs up to a random one, another behind; for W+.
    #[serde(default)]
    pub style_mixing: f64,
    /// Share of a step's images that are real, if `data` names any and a weight of theirs is not 0.
    #[serde(default = "half")]
    pub real_share: f64,
    /// Share of the training after which real images join in; before, all are synthetic.
    #[serde(default)]
    pub real_from: f64,
    /// `cpu`, or `cuda:0`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Precision of convolutions on a GPU: `f32`, `tf32` or `bf16`.
    #[serde(default)]
    pub precision: Precision,
}

fn half() -> f64 {
    0.5
}

/// A loss on the features of a network in an ONNX file: the predictor itself, or any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeatureLoss {
    /// The ONNX file, relative to the manifest.
    pub path: PathBuf,
    /// The file must have this hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Names of tensors, logits among them; without any, the layer before the scores.
    #[serde(default)]
    pub layers: Vec<String>,
    /// How images are laid out and normalised for it, as `input` of a study's predictor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// The network sees images so many times as large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
    /// Weight λ_k of each layer in the distance (see [`crate::perceptual`]); without any, 1.
    #[serde(default)]
    pub layer_weights: Vec<f64>,
    /// Weight of the distance of G(E(x)) to x on synthetic images.
    #[serde(default)]
    pub weight: f64,
    /// The same on real images.
    #[serde(default)]
    pub real_weight: f64,
}

impl FeatureLoss {
    /// The network alone.
    pub fn network(&self) -> FeatureSection {
        FeatureSection {
            path: self.path.clone(),
            sha256: self.sha256.clone(),
            layers: self.layers.clone(),
            input: self.input.clone(),
            upsample: self.upsample,
        }
    }
}

/// A loss on the outputs of the blocks of the discriminator that a generator was trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscriminatorLoss {
    /// The checkpoint of the generator's training, relative to the manifest.
    pub path: PathBuf,
    /// Weight λ_k of each block from the largest resolution down; without any, 1.
    #[serde(default)]
    pub layer_weights: Vec<f64>,
    /// Weight of the distance of G(E(x)) to x on synthetic images.
    #[serde(default)]
    pub weight: f64,
    /// The same on real images.
    #[serde(default)]
    pub real_weight: f64,
}

/// `[start]`: an encoder to go on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderStart {
    /// An encoder's file of the same sizes, as a generator's training with `[reconstruction]` leaves one. Its codes must be
    /// this generator's. Relative to the manifest.
    pub weights: PathBuf,
}

/// `train encoder`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Training of an encoder")]
#[schemars(description = "The manifest of `shiftlens train encoder`.")]
pub struct EncoderManifest {
    /// Version of the manifest: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// For the log and the provenance.
    pub name: String,
    /// The generator's file, relative to the manifest.
    pub generator: PathBuf,
    /// Real images, optional.
    #[serde(default)]
    pub data: Option<DataSection>,
    /// The encoder E.
    pub encoder: EncoderConfig,
    /// Weights to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<EncoderStart>,
    /// Losses on features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureLoss>,
    /// A loss on a discriminator's features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<DiscriminatorLoss>,
    /// How to train.
    pub training: EncoderTraining,
    /// Where results go.
    pub output: OutputSection,
}

/// The keys that name files.
const PATHS: [&str; 7] = [
    "generator",
    "data.images",
    "data.root",
    "start.weights",
    "features.path",
    "discriminator.path",
    "output.folder",
];

impl EncoderManifest {
    /// Reads and checks a manifest; paths become relative to the working directory.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut m: Self = read(path, &PATHS)?;
        resolve(path, &mut m.generator);
        if let Some(data) = &mut m.data {
            data.resolve(path);
        }
        m.features.iter_mut().for_each(|f| resolve(path, &mut f.path));
        m.start.iter_mut().for_each(|s| resolve(path, &mut s.weights));
        if let Some(d) = &mut m.discriminator {
            resolve(path, &mut d.path);
        }
        let t = &m.training;
        let share = |v: f64| (0.0..=1.0).contains(&v);
        let weight = |v: f64| v.is_finite() && v >= 0.0;
        let of_features = || {
            let features = m.features.iter().map(|f| (f.weight, f.real_weight));
            features.chain(m.discriminator.iter().map(|d| (d.weight, d.real_weight)))
        };
        let real = m.real_weights();
        check(
            path,
            m.schema,
            &[
                (t.batch > 0 && t.images > 0, "training: batch and images must be positive"),
                (t.learning_rate > 0.0, "training.learning-rate must be positive"),
                (
                    [
                        t.latent_weight,
                        t.pixel_weight,
                        t.real_pixel_weight,
                        t.real_prior_weight,
                        t.offset_weight,
                    ]
                    .into_iter()
                    .chain(of_features().flat_map(|(a, b)| [a, b]))
                    .all(weight),
                    "weights must be numbers of at least 0",
                ),
                (
                    t.latent_weight + t.pixel_weight > 0.0 || (t.real_share == 1.0 && t.real_from == 0.0),
                    "training: latent-weight and pixel-weight must not both be zero while images are synthetic",
                ),
                (
                    of_features().all(|(a, b)| a + b > 0.0),
                    "features and discriminator: weight or real-weight must be positive",
                ),
                (
                    share(t.real_share) && share(t.real_from) && share(t.style_mixing),
                    "training: real-share, real-from and style-mixing must lie between 0 and 1",
                ),
                (
                    m.data.is_some() || !real,
                    "weights of real images (real-pixel-weight, real-prior-weight, offset-weight, real-weight) need \
                     [data]",
                ),
                (
                    m.encoder.space == Space::WPlus || (t.offset_weight == 0.0 && t.style_mixing == 0.0),
                    "training: offset-weight and style-mixing need encoder.space = \"w+\"",
                ),
                (
                    m.output.checkpoint_every > 0 && m.output.samples_every > 0,
                    "output: checkpoint-every and samples-every must be positive",
                ),
            ],
        )?;
        m.encoder.check().map_err(|e| Error::Invalid(format!("{}: encoder: {e}", path.display())))?;
        Ok(m)
    }

    /// True if any part of the loss looks at real images.
    pub(super) fn real_weights(&self) -> bool {
        let t = &self.training;
        let features = self.features.iter().map(|f| f.real_weight).sum::<f64>();
        let discriminator = self.discriminator.as_ref().map_or(0.0, |d| d.real_weight);
        t.real_pixel_weight + t.real_prior_weight + t.offset_weight + features + discriminator > 0.0
    }

    /// Real images in a step of `batch`, once they have joined in.
    pub(super) fn real_images(&self) -> usize {
        let t = &self.training;
        if self.data.is_none() || !self.real_weights() {
            return 0;
        }
        ((t.batch as f64 * t.real_share).round() as usize).min(t.batch)
    }
}

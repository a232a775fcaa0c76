//! The projected discriminator (Sauer et al. 2021, Projected GANs Converge Faster, arXiv 2111.01007).
//!
//! D does not see images but features of a pretrained network φ, which stays as it is, behind fixed random projections
//! ([`Mixing`]). One small discriminator judges each level, every place of it with the hinge loss; losses are summed over
//! levels and averaged over places. φ runs outside candle's graph: the features' gradients come back to the image by its
//! pullback, and enter the graph as the gradient of `sum(images * gradient)`.
//!
//! Features are divided by their root mean square over real images, level by level, so that nothing depends on the units
//! of φ.

mod bridge;
mod head;
mod mixing;
mod spectral;

pub use mixing::Mixing;

use super::gan::losses;
use super::scalar;
use crate::weights::Weights;
use bridge::Bridge;
use candle_core::{Device, Result, Tensor, Var, bail};
use head::Head;
use mixing::{Level, Projection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::FeatureNetwork;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Power iterations before the first step.
const WARM_UP: usize = 15;

/// The feature network of a manifest: an ONNX file. What opens it decides what `input` may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FeatureSection {
    /// The `.onnx` file. Relative to the manifest.
    pub path: PathBuf,
    /// Pin: the file's sha256 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Names of the tensors that are the levels, from fine to coarse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// How the network wants its images, as in a study's `[predictor.input]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// Images are enlarged by this factor first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
}

/// `[discriminator]` of kind `projected`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProjectedConfig {
    /// The feature network φ.
    pub features: FeatureSection,
    /// Maps of the small discriminators at side r are `channel-base / r`, but no more than `channel-max`.
    #[serde(default = "channel_base")]
    pub channel_base: usize,
    /// Most maps of the small discriminators at any side.
    #[serde(default = "channel_max")]
    pub channel_max: usize,
    /// The random projections.
    #[serde(default)]
    pub mixing: Mixing,
    /// Batch normalisation within the small discriminators.
    #[serde(default = "yes")]
    pub batch_norm: bool,
}

fn channel_base() -> usize {
    1024
}

fn channel_max() -> usize {
    128
}

fn yes() -> bool {
    true
}

impl ProjectedConfig {
    /// Maps of a block whose output has this side.
    fn width(&self, side: usize) -> usize {
        (self.channel_base / side.max(1)).clamp(1, self.channel_max)
    }

    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the key.
    pub fn check(&self) -> Result<()> {
        if self.channel_base == 0 || self.channel_max == 0 {
            bail!("discriminator.channel-base and channel-max: expected at least 1");
        }
        if self.features.upsample == Some(0) {
            bail!("discriminator.features.upsample: expected at least 1");
        }
        Ok(())
    }
}

/// Features of generated images, kept from G's step for D's.
pub struct Seen(Vec<Tensor>);

/// φ, the projections and the small discriminators.
pub struct Projected {
    bridge: Bridge,
    projection: Projection,
    weights: Weights,
    heads: Vec<Head>,
    /// 1 over the root mean square of each level's features.
    factors: Vec<f64>,
}

fn levels(bridge: &Bridge, channels: usize, resolution: usize) -> Result<Vec<Level>> {
    let info = bridge.info();
    if info.channels != channels || info.size != (resolution, resolution) {
        bail!(
            "feature network: takes images [{}, {}, {}], training has [{channels}, {resolution}, {resolution}]",
            info.channels,
            info.size.0,
            info.size.1
        );
    }
    if info.layers.is_empty() {
        bail!("feature network: expected at least one layer");
    }
    let level = |l: &shiftlens_api::FeatureLayer| match l.shape[..] {
        [channels, h, w] if h == w => Ok(Level { channels, side: h }),
        _ => bail!(
            "feature network: layer `{}` has shape {:?}, expected square maps [K, h, h]",
            l.name,
            l.shape
        ),
    };
    info.layers.iter().map(level).collect()
}

impl Projected {
    /// The discriminator for images `[N, channels, resolution, resolution]`; `stored` are the tensors of [`Self::state`],
    /// without which it is drawn from `seed`, with the units of the features measured on `real` images.
    ///
    /// # Errors
    /// If the network's images or layers do not fit, or a stored tensor is missing.
    pub fn new(
        config: &ProjectedConfig,
        network: Box<dyn FeatureNetwork>,
        seed: u64,
        stored: Option<HashMap<String, Tensor>>,
        real: &Tensor,
    ) -> Result<Self> {
        config.check()?;
        let (_, channels, resolution, _) = real.dims4()?;
        let device: Device = real.device().clone();
        let mut bridge = Bridge::new(network);
        let levels = levels(&bridge, channels, resolution)?;
        let fresh = stored.is_none();
        let (weights, factors) = match stored {
            Some(stored) => {
                let Some(factors) = stored.get("factors") else {
                    bail!("checkpoint: `factors` of the projected discriminator is missing")
                };
                let factors = factors.to_vec1::<f64>()?;
                (Weights::trainable(stored, &device), factors)
            }
            None => {
                let factor = |t: &Tensor| {
                    let square = scalar(&t.sqr()?.mean_all()?)?;
                    if !(square > 0.0 && square.is_finite()) {
                        bail!("feature network: the mean square of a layer on real images is {square}");
                    }
                    Ok(1.0 / square.sqrt())
                };
                let features = bridge.features(real)?;
                let factors = features.iter().map(factor).collect::<Result<Vec<_>>>()?;
                (Weights::random(seed, &device), factors)
            }
        };
        if factors.len() != levels.len() {
            bail!("checkpoint: factors of {} layers, the network has {}", factors.len(), levels.len());
        }
        let head = |(i, level): (usize, &Level)| {
            let name = format!("level{i}");
            Head::new(config, *level, &weights.at(&name), &name)
        };
        let heads = levels.iter().enumerate().map(head).collect::<Result<Vec<_>>>()?;
        let projection = Projection::new(&levels, config.mixing, seed ^ 0x9207, &device)?;
        let made = Self { bridge, projection, weights, heads, factors };
        if fresh {
            made.settle()?;
        }
        Ok(made)
    }

    /// Trainable variables.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.weights.vars()
    }

    /// All that a checkpoint needs.
    ///
    /// # Errors
    /// If candle fails.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = self.weights.tensors();
        all.extend(self.heads.iter().flat_map(Head::spectral).map(spectral::SpectralWeight::state));
        all.insert("factors".into(), Tensor::from_slice(&self.factors, self.factors.len(), &Device::Cpu)?);
        Ok(all)
    }

    /// One power iteration of every weight: once for each of D's steps, before it.
    ///
    /// # Errors
    /// If candle fails.
    pub fn iterate(&self) -> Result<()> {
        self.heads.iter().flat_map(Head::spectral).try_for_each(spectral::SpectralWeight::iterate)
    }

    /// Finds the singular vectors of weights that are new.
    ///
    /// # Errors
    /// If candle fails.
    pub fn settle(&self) -> Result<()> {
        (0..WARM_UP).try_for_each(|_| self.iterate())
    }

    fn features(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        let features = self.bridge.features(images)?;
        features.iter().zip(&self.factors).map(|(t, f)| t * *f).collect()
    }

    fn logits(&self, features: &[Tensor], frozen: bool) -> Result<Vec<Tensor>> {
        let levels = self.projection.forward(features)?;
        self.heads.iter().zip(&levels).map(|(head, x)| head.forward(x, frozen)).collect()
    }

    /// Logits `[N, 1, t, t]` of each level.
    ///
    /// # Errors
    /// If φ or candle fails.
    pub fn judge(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        let features = self.features(images)?;
        self.logits(&features, true)
    }

    /// G's loss on images that are in the graph: its value, a tensor whose gradient is the loss's, and what
    /// [`Self::loss`] wants of these images.
    ///
    /// # Errors
    /// If φ or candle fails.
    pub fn guide(&mut self, images: &Tensor) -> Result<(f64, Tensor, Seen)> {
        let vars = self.features(images)?.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let features = vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
        let loss = losses::hinge_generator(&self.logits(&features, true)?)?;
        let grads = loss.backward()?;
        let cotangent = |(var, factor): (&Var, &f64)| match grads.get(var.as_tensor()) {
            Some(g) => g.detach() * *factor,
            None => var.as_detached_tensor().zeros_like(),
        };
        let cotangents = vars.iter().zip(&self.factors).map(cotangent).collect::<Result<Vec<_>>>()?;
        let gradient = self.bridge.pullback(images, &cotangents)?;
        let surrogate = (images * gradient)?.sum_all()?;
        Ok((scalar(&loss)?, surrogate, Seen(vars.iter().map(Var::as_detached_tensor).collect())))
    }

    /// D's loss on generated and real images, and the mean sign of its logits on the real ones.
    ///
    /// # Errors
    /// If φ or candle fails.
    pub fn loss(&mut self, fake: &Seen, real: &Tensor) -> Result<(Tensor, f64)> {
        let real = self.features(real)?;
        let real = self.logits(&real, false)?;
        let fake = self.logits(&fake.0, false)?;
        Ok((losses::hinge_discriminator(&fake, &real)?, losses::mean_sign(&real)?))
    }
}

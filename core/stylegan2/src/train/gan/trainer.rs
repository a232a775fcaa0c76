//! The networks of a training run and all that a checkpoint holds.

use super::control::Control;
use super::critic::{Critic, StyleGan2Critic};
use super::joint::Joint;
use super::start::{Start, take};
use super::{DiscriminatorSection, GeneratorManifest};
use crate::file;
use crate::net::{GeneratorNet, Noise};
use crate::rng::Rng;
use crate::train::augment::Augment;
use crate::train::path_length::PathLength;
use crate::train::projected::Projected;
use crate::train::{Adam, Dataset, checkpoint};
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor, bail};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, FeatureNetwork, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Real images on which the units of a feature network are measured.
const CALIBRATION: usize = 64;

/// Feature networks that a training looks through.
#[derive(Default)]
pub struct Networks {
    /// φ of a projected discriminator.
    pub critic: Option<Box<dyn FeatureNetwork>>,
    /// Those of `[[reconstruction.features]]`, in order.
    pub reconstruction: Vec<Box<dyn FeatureNetwork>>,
}

/// What a checkpoint says in words. Numbers that must come back to the last bit are among its tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub manifest: GeneratorManifest,
    /// sha256 of the feature network's file, of a projected discriminator.
    pub features_sha256: Option<String>,
    pub step: u64,
    pub seconds: f64,
}

/// G, D, their optimisers and the average of G.
pub struct Trainer {
    pub(super) manifest: GeneratorManifest,
    pub(super) features_sha256: Option<String>,
    pub(super) device: Device,
    pub(super) g_weights: Weights,
    pub(super) g: GeneratorNet,
    pub(super) critic: Critic,
    pub(super) g_adam: Adam,
    pub(super) d_adam: Adam,
    pub(super) ema: BTreeMap<String, Tensor>,
    /// The encoder that is trained with G.
    pub(super) joint: Option<Joint>,
    pub(super) path: PathLength,
    pub(super) augment: Option<Augment>,
    pub(super) control: Control,
    pub(super) step: u64,
    /// What a warm start gave.
    pub(super) said: Vec<String>,
}

pub fn fail(e: candle_core::Error) -> Error {
    Error::component("stylegan2 training", e)
}

/// Share of a step's length and power of Adam's decay for a network with an extra step in every `interval` (Karras et al.
/// 2020, appendix B).
pub fn lazy(interval: Option<u64>) -> f64 {
    interval.map_or(1.0, |n| n as f64 / (n as f64 + 1.0))
}

impl GeneratorManifest {
    /// Steps between path length penalties, if there are any.
    pub(super) fn path_length_interval(&self) -> Option<u64> {
        (self.training.path_length_weight > 0.0).then_some(self.training.path_length_interval)
    }

    /// Steps between R1 penalties, if there are any.
    pub(super) fn r1_interval(&self) -> Option<u64> {
        match self.discriminator {
            DiscriminatorSection::StyleGan2(_) if self.training.r1_gamma > 0.0 => {
                Some(self.training.r1_interval)
            }
            _ => None,
        }
    }
}

fn critic(
    manifest: &GeneratorManifest,
    features: Option<Box<dyn FeatureNetwork>>,
    from: Option<&HashMap<String, Tensor>>,
    (data, device): (&Dataset, &Device),
) -> candle_core::Result<Critic> {
    let seed = manifest.training.seed ^ 0xD15C;
    let stored = Critic::stored(from);
    match (&manifest.discriminator, features) {
        (DiscriminatorSection::StyleGan2(config), None) => {
            let weights = match stored {
                Some(stored) => Weights::trainable(stored, device),
                None => Weights::random(seed, device),
            };
            Ok(Critic::StyleGan2(Box::new(StyleGan2Critic::new(config, weights)?)))
        }
        (DiscriminatorSection::Projected(config), Some(network)) => {
            let real = data.range(0, CALIBRATION, device)?;
            Ok(Critic::Projected(Box::new(Projected::new(config, network, seed, stored, &real)?)))
        }
        (DiscriminatorSection::StyleGan2(_), Some(_)) => {
            bail!("a feature network was given, but the discriminator is not projected")
        }
        (DiscriminatorSection::Projected(_), None) => {
            bail!("a projected discriminator needs its feature network")
        }
    }
}

/// G's weights and their average: a checkpoint's, or new ones with what a warm start gives. Says what it gave.
fn generator(
    manifest: &GeneratorManifest,
    device: &Device,
    from: Option<&HashMap<String, Tensor>>,
    start: Option<&Start>,
    said: &mut Vec<String>,
) -> candle_core::Result<(Weights, GeneratorNet, BTreeMap<String, Tensor>)> {
    let config = &manifest.generator;
    let mut ema = BTreeMap::new();
    let fresh = || {
        let weights = Weights::random(manifest.training.seed, device);
        GeneratorNet::new(config, &weights).map(|_| weights)
    };
    let weights = match (from, start) {
        (Some(all), _) => {
            ema.extend(checkpoint::part(all, "ema"));
            Weights::trainable(checkpoint::part(all, "G"), device)
        }
        (None, Some(start)) => {
            let fresh = fresh()?;
            let taken = take(fresh.tensors(), &start.g);
            said.push(taken.describe("G"));
            if taken.left.len() == taken.tensors.len() {
                bail!("start.weights: no tensor has the name and shape of one of G's");
            }
            ema.extend(take(fresh.tensors(), &start.ema).tensors);
            Weights::trainable(taken.tensors, device)
        }
        (None, None) => Weights::random(manifest.training.seed, device),
    };
    let g = GeneratorNet::new(config, &weights)?;
    let mut average = BTreeMap::new();
    for (name, t) in weights.tensors() {
        let t = match ema.remove(&name) {
            Some(t) => t.to_device(device)?.to_dtype(DType::F32)?,
            None => t.detach().copy()?,
        };
        average.insert(name, t);
    }
    Ok((weights, g, average))
}

impl Trainer {
    /// New networks, or those of a checkpoint `from`.
    pub fn new(
        manifest: &GeneratorManifest,
        networks: Networks,
        (data, device): (&Dataset, &Device),
        from: Option<&HashMap<String, Tensor>>,
        (start, step): (Option<&Start>, u64),
    ) -> candle_core::Result<Self> {
        let mut said = Vec::new();
        let (g_weights, g, ema) = generator(manifest, device, from, start, &mut said)?;
        let mut critic = critic(manifest, networks.critic, from, (data, device))?;
        if let Some(stored) = start.filter(|_| from.is_none()).and_then(|s| s.d.as_ref()) {
            said.push(critic.start_from(stored)?.describe("D"));
        }
        let joint = match &manifest.reconstruction {
            Some(section) => {
                let start = start.and_then(|s| s.e.as_ref());
                let section = (section, manifest.training.seed);
                let given = networks.reconstruction;
                Some(Joint::new(section, given, (&g, data, device), from, (start, &mut said))?)
            }
            None if networks.reconstruction.is_empty() => None,
            None => bail!("feature networks were given, but the manifest has no [reconstruction]"),
        };
        let decay = |interval| 0.99f64.powf(lazy(interval));
        let mut g_adam = Adam::new(g_weights.vars(), (0.0, decay(manifest.path_length_interval())))?;
        let mut d_adam = Adam::new(critic.vars(), (0.0, decay(manifest.r1_interval())))?;
        let mut path = PathLength::default();
        if let Some(all) = from {
            g_adam.restore("g_adam", all)?;
            d_adam.restore("d_adam", all)?;
            path.mean = number(all, "path_length.mean")?;
        }
        let control = match from {
            Some(all) => Control::restore(all)?,
            None => Control::new(manifest.augment.as_ref()),
        };
        let size = (manifest.generator.channels, manifest.generator.resolution);
        let augment = match &manifest.augment {
            Some(a) => Some(Augment::new(&a.pipeline, size.0, size.1).map_err(candle_core::Error::wrap)?),
            None => None,
        };
        Ok(Self {
            manifest: manifest.clone(),
            features_sha256: None,
            device: device.clone(),
            g_weights,
            g,
            critic,
            g_adam,
            d_adam,
            ema,
            joint,
            path,
            augment,
            control,
            step,
            said,
        })
    }

    /// The averaged generator's tensors.
    pub fn averaged(&self) -> HashMap<String, Tensor> {
        self.ema.iter().map(|(name, t)| (name.clone(), t.clone())).collect()
    }

    /// The averaged generator.
    pub fn average(&self) -> candle_core::Result<GeneratorNet> {
        GeneratorNet::new(&self.manifest.generator, &Weights::frozen(self.averaged(), &self.device))
    }

    /// Writes everything that training goes on from.
    pub fn checkpoint(&self, path: &Path, seconds: f64) -> Result<()> {
        let mut all = BTreeMap::new();
        for (name, t) in self.g_weights.tensors() {
            all.insert(format!("G.{name}"), t);
        }
        for (name, t) in self.critic.state().map_err(fail)? {
            all.insert(format!("D.{name}"), t);
        }
        for (name, t) in self.averaged() {
            all.insert(format!("ema.{name}"), t);
        }
        self.g_adam.save("g_adam", &mut all).map_err(fail)?;
        self.d_adam.save("d_adam", &mut all).map_err(fail)?;
        let mean = Tensor::from_slice(&[self.path.mean], 1, &Device::Cpu).map_err(fail)?;
        all.insert("path_length.mean".into(), mean);
        all.extend([self.control.save().map_err(fail)?]);
        if let Some(joint) = &self.joint {
            joint.save(&mut all).map_err(fail)?;
        }
        let (manifest, features_sha256) = (self.manifest.clone(), self.features_sha256.clone());
        let state = State { manifest, features_sha256, step: self.step, seconds };
        let state = serde_json::to_string(&state).map_err(|e| Error::component("checkpoint", e))?;
        checkpoint::save_keeping(path, &state, &all)
    }

    /// Images of the averaged generator for fixed codes.
    pub fn samples(&self, n: usize) -> candle_core::Result<Tensor> {
        let g = self.average()?;
        let z_dim = self.manifest.generator.z_dim;
        let z = Rng::new(self.manifest.training.seed, u64::MAX - 1).normals(n * z_dim);
        let z = Tensor::from_vec(z, (n, z_dim), &self.device)?;
        g.synthesize(&g.broadcast(&g.map(&z)?)?, Noise::Constant)
    }

    /// Real images and their reconstructions by the averaged networks, where there is an encoder.
    pub fn reconstructions(&self, data: &Dataset) -> candle_core::Result<Option<Tensor>> {
        let Some(joint) = &self.joint else { return Ok(None) };
        joint.sheet(&self.average()?, data, &self.device).map(Some)
    }

    /// Writes the averaged generator with the mean of w over many codes, and beside it the averaged encoder, where there is
    /// one.
    pub fn export(&self, path: &Path) -> Result<()> {
        if let Some(joint) = &self.joint {
            let encoder = path.with_file_name("encoder.safetensors");
            file::save_encoder(&encoder, joint.config(), &joint.averaged(), DType::F32)?;
        }
        let mean = file::mean_w(&self.average().map_err(fail)?, 10_000).map_err(fail)?;
        let mut tensors = self.averaged();
        tensors.insert("mapping.w_avg".into(), mean);
        file::save_generator(path, &self.manifest.generator, &tensors, DType::F32)
    }
}

/// A single number among a checkpoint's tensors.
pub fn number(all: &HashMap<String, Tensor>, name: &str) -> candle_core::Result<f64> {
    let Some(t) = all.get(name) else { bail!("checkpoint: `{name}` is missing") };
    match t.to_vec1::<f64>()?[..] {
        [v] => Ok(v),
        ref found => bail!("checkpoint: `{name}` has {} numbers, expected one", found.len()),
    }
}

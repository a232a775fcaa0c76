//! Training of the encoder on synthetic pairs (w, G(w)) (Schutte et al. 2021, section 2.2), and on real images through
//! the frozen generator.
//!
//! With u = E(x) in standard units of each coordinate of w and y = G(u), one step minimises
//! `latent-weight mean (u - w)^2 + pixel-weight mean (y - x)^2 + sum over the networks of weight d(y, x)` on synthetic
//! x = G(w), and `real-pixel-weight mean (y - x)^2 + sum of real-weight d(y, x) + real-prior-weight mean excess(u) +
//! offset-weight mean (u_l - u_0)^2` on real x. d is the distance on a network's features ([`crate::perceptual`]): the
//! predictor's, so that its score stays what it was, or the discriminator's. The excess is how much longer the whitened
//! code is than W's own ([`crate::prior`]); offsets are those of a code of W+ from its first row (Tov et al. 2021).

pub(crate) mod features;
mod manifest;
#[cfg(test)]
pub(crate) mod tests;
mod trainer;

pub(crate) use features::discriminator_of;
pub use manifest::{DiscriminatorLoss, EncoderManifest, EncoderStart, EncoderTraining, FeatureLoss};

use super::session::Session;
use super::{Dataset, checkpoint, write_sheet};
use crate::file;
use crate::net::{GeneratorConfig, GeneratorNet};
use crate::synth::{Synthesis, SynthesisOptions};
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, FeatureNetwork, Level, Monitor, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use trainer::{Means, Parts, Trainer, fail};

/// Columns of `log.csv`: means over the steps since the line before.
const HEADER: &str = "images,seconds,latent_mse,pixel_mse,real_pixel_mse,feature,real_feature,rate";
/// Steps between lines of the log.
const LINE: u64 = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    manifest: EncoderManifest,
    generator_sha256: String,
    step: u64,
    seconds: f64,
}

/// What a training run reached, measured on fresh images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderReport {
    /// Images shown in all, synthetic and real.
    pub images: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// 1 - mean squared error of w in standard units, over fresh synthetic images.
    pub latent_r2: f64,
    /// Root mean squared error of pixels in [0, 1] of G(E(x)) on fresh synthetic images.
    pub synthetic_rmse: f64,
    /// The same on real training images, where the manifest names any.
    pub real_rmse: Option<f64>,
    /// Mean distance of features of G(E(x)) to x on fresh synthetic images, summed over the networks, where there are any.
    pub synthetic_feature: Option<f64>,
    /// The same on real training images.
    pub real_feature: Option<f64>,
    /// The encoder.
    pub file: PathBuf,
}

/// The frozen generator: the network, for gradients, and on the CPU the engine that draws faster.
fn generator(
    path: &Path,
    config: &GeneratorConfig,
    tensors: HashMap<String, Tensor>,
    device: &Device,
) -> Result<(GeneratorNet, Option<Synthesis>)> {
    let refuse = |e: candle_core::Error| Error::Invalid(format!("{}: {e}", path.display()));
    let weights = Weights::frozen(tensors, device);
    let mut net = GeneratorNet::new(config, &weights).map_err(refuse)?;
    if !device.is_cpu() {
        net.prepare().map_err(fail)?;
        return Ok((net, None));
    }
    let stored = weights.tensors();
    let get = |name: &str, _: &[usize]| match stored.get(name) {
        Some(t) => t.flatten_all()?.to_vec1::<f32>(),
        None => candle_core::bail!("tensor `{name}` is missing"),
    };
    let engine = Synthesis::new(config, SynthesisOptions::default(), get).map_err(refuse)?;
    Ok((net, Some(engine)))
}

fn fits(manifest: &EncoderManifest, config: &GeneratorConfig) -> Result<()> {
    let e = &manifest.encoder;
    if (e.resolution, e.channels, e.w_dim) == (config.resolution, config.channels, config.w_dim) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "encoder: resolution {}, channels {}, w-dim {}; the generator {} has {}, {}, {}",
        e.resolution,
        e.channels,
        e.w_dim,
        manifest.generator.display(),
        config.resolution,
        config.channels,
        config.w_dim
    )))
}

/// The checkpoint's state and tensors, if it is one of this manifest and generator.
fn resume(path: &Path, manifest: &EncoderManifest, digest: &str) -> Result<(State, HashMap<String, Tensor>)> {
    let (state, tensors) = checkpoint::load(path)?;
    let state: State = serde_json::from_str(&state)
        .map_err(|e| Error::Invalid(format!("{}: training state: {e}", path.display())))?;
    let mut same = state.manifest.clone();
    same.output = manifest.output.clone();
    same.generator = manifest.generator.clone();
    same.data = manifest.data.clone();
    // Files may lie elsewhere than they did.
    same.features.iter_mut().zip(&manifest.features).for_each(|(a, b)| a.path.clone_from(&b.path));
    if let (Some(a), Some(b)) = (&mut same.discriminator, &manifest.discriminator) {
        a.path.clone_from(&b.path);
    }
    if let (Some(a), Some(b)) = (&mut same.start, &manifest.start) {
        a.weights.clone_from(&b.weights);
    }
    if same != *manifest || state.generator_sha256 != digest {
        return Err(Error::Invalid(format!(
            "{} was made with another manifest or another generator; name another output folder or remove it",
            path.display()
        )));
    }
    Ok((state, tensors))
}

fn save(
    trainer: &Trainer,
    manifest: &EncoderManifest,
    folder: &Path,
    digest: &str,
    seconds: f64,
) -> Result<()> {
    let generator_sha256 = digest.to_owned();
    let state = State { manifest: manifest.clone(), generator_sha256, step: trainer.step, seconds };
    let state = serde_json::to_string(&state).map_err(|e| Error::component("checkpoint", e))?;
    checkpoint::save(&folder.join("checkpoint.safetensors"), &state, &trainer.state().map_err(fail)?)?;
    let out = folder.join("encoder.safetensors");
    file::save_encoder(&out, &manifest.encoder, &trainer.tensors(), DType::F32)
}

/// A line of the log.
fn line(images: u64, seconds: f64, p: &Parts, rate: f64) -> String {
    let shown = |v: Option<f64>| v.map(|v| format!("{v:.5}")).unwrap_or_default();
    let parts = [p.latent, p.pixel, p.real_pixel, p.feature, p.real_feature].map(shown);
    format!("{images},{seconds:.0},{},{rate:.2}", parts.join(","))
}

/// Trains an encoder. The folder of `output` gets `checkpoint.safetensors`, `log.csv`, `samples-*.png` and
/// `encoder.safetensors`; a folder that holds a checkpoint of the same manifest is resumed.
///
/// `networks` are those of the manifest's `[[features]]`, in order, opened for the generator's images. `stop_after` ends
/// this session after so many more images, with a checkpoint.
///
/// # Errors
/// If files cannot be read or written, a network does not fit, a loss or a gradient is not finite, or the generator's file
/// has changed since the checkpoint; [`Error::Cancelled`] after a checkpoint if the monitor asks to stop.
pub fn train_encoder(
    manifest: &EncoderManifest,
    networks: Vec<Box<dyn FeatureNetwork>>,
    stop_after: Option<u64>,
    monitor: &dyn Monitor,
) -> Result<EncoderReport> {
    let t = &manifest.training;
    let device = super::manifest::open(&t.device, t.precision)?;
    let folder = &manifest.output.folder;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let digest = file::sha256(&manifest.generator)?;
    let (config, tensors) = file::load_generator(&manifest.generator)?;
    fits(manifest, &config)?;
    let g = generator(&manifest.generator, &config, tensors, &device)?;
    let losses = features::losses(manifest, networks, &device)?;
    let real = manifest.data.as_ref().filter(|_| manifest.real_images() > 0);
    let e = &manifest.encoder;
    let data = real.map(|d| Dataset::load(d, e.channels, e.resolution)).transpose()?;
    let data = data.as_ref();
    if let Some(data) = data {
        monitor.log(Level::Info, &format!("{} real training images", data.len()));
    }
    let path = folder.join("checkpoint.safetensors");
    let (mut trainer, before) = if path.exists() {
        let (state, tensors) = resume(&path, manifest, &digest)?;
        monitor.log(Level::Info, &format!("resuming at {} images", state.step * t.batch as u64));
        (Trainer::new(manifest, g, losses, Some((&tensors, state.step)))?, state.seconds)
    } else {
        let mut trainer = Trainer::new(manifest, g, losses, None)?;
        trainer.measure_features(data)?;
        (trainer, 0.0)
    };
    let batch = t.batch as u64;
    let mut session =
        Session::begin(folder, HEADER, (t.images, t.batch), (trainer.step, before), stop_after)?;
    let last = session.last;
    let mut means = Means::default();
    while trainer.step < session.stop {
        means.add(&trainer.train(data, last)?);
        let images = trainer.step * batch;
        monitor.progress("training images", images, last * batch);
        if trainer.step.is_multiple_of(LINE) {
            let text = line(images, session.seconds(), &means.take(), session.rate(trainer.step));
            session.line(&text)?;
            monitor.log(Level::Debug, &format!("{HEADER}: {text}"));
        }
        if session.due(trainer.step, manifest.output.samples_every) || trainer.step == last {
            let sheet = trainer.sheet(data).map_err(fail)?;
            write_sheet(&folder.join(format!("samples-{images:08}.png")), &sheet, 16)?;
        }
        let cancelled = monitor.cancelled();
        if session.due(trainer.step, manifest.output.checkpoint_every)
            || trainer.step == session.stop
            || cancelled
        {
            save(&trainer, manifest, folder, &digest, session.seconds())?;
        }
        if cancelled {
            return Err(Error::Cancelled);
        }
    }
    let (images, seconds) = (trainer.step * batch, session.seconds());
    let parts = trainer.measure(data)?;
    // Network range is twice as wide as [0, 1].
    let rmse = |square: f64| square.sqrt() / 2.0;
    Ok(EncoderReport {
        images,
        seconds,
        latent_r2: 1.0 - parts.latent.unwrap_or(f64::NAN),
        synthetic_rmse: rmse(parts.pixel.unwrap_or(f64::NAN)),
        real_rmse: parts.real_pixel.map(rmse),
        synthetic_feature: parts.feature,
        real_feature: parts.real_feature,
        file: folder.join("encoder.safetensors"),
    })
}

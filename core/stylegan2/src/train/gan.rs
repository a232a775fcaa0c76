//! Adversarial training of the generator (Goodfellow et al. 2014; Karras et al. 2020).
//!
//! One step, on a batch of B real images x and B codes z:
//! 1. G: `mean softplus(-D(G(z)))`, the non-saturating loss;
//! 2. D: `mean softplus(D(G(z))) + mean softplus(-D(x))`, on the images of phase 1;
//! 3. every `r1-interval` steps `r1-interval * gamma / 2 * mean |dD/dx|^2` (lazy R1);
//! 4. the moving average of G's weights.
//!
//! The step sizes and decays of D's Adam are adjusted for the extra R1 updates as in Karras et al. 2020, appendix B.

use super::adam::Adam;
use super::session::Session;
use super::{Dataset, GeneratorManifest, checkpoint, scalar, softplus, write_sheet};
use crate::file;
use crate::kernels::conv::fast;
use crate::net::{Discriminator, GeneratorNet, Noise};
use crate::ops::{first_order, with_precision};
use crate::rng::Rng;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Level, Monitor, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Random streams of one step.
const STREAMS: u64 = 4;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    manifest: GeneratorManifest,
    step: u64,
    seconds: f64,
}

/// What a training run reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratorReport {
    /// Real images shown in all, earlier sessions of the run included.
    pub images: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training, earlier sessions of the run included.
    pub seconds: f64,
    /// Images in the training set.
    pub training_set: usize,
    /// sha256 over the training set's pixels.
    pub data_sha256: String,
    /// The averaged generator.
    pub file: PathBuf,
}

struct Trainer {
    manifest: GeneratorManifest,
    device: Device,
    g_weights: Weights,
    d_weights: Weights,
    g: GeneratorNet,
    d: Discriminator,
    /// D without gradients of its weights, on the same storage.
    d_frozen: Discriminator,
    g_adam: Adam,
    d_adam: Adam,
    ema: BTreeMap<String, Tensor>,
    step: u64,
}

fn fail(e: candle_core::Error) -> Error {
    Error::component("stylegan2 training", e)
}

impl Trainer {
    fn new(
        manifest: &GeneratorManifest,
        device: &Device,
        from: Option<&HashMap<String, Tensor>>,
        step: u64,
    ) -> candle_core::Result<Self> {
        let device = device.clone();
        let seed = manifest.training.seed;
        let (g_weights, d_weights) = match from {
            Some(all) => (
                Weights::trainable(checkpoint::part(all, "G"), &device),
                Weights::trainable(checkpoint::part(all, "D"), &device),
            ),
            None => (Weights::random(seed, &device), Weights::random(seed ^ 0xD15C, &device)),
        };
        let g = GeneratorNet::new(&manifest.generator, &g_weights)?;
        let d = Discriminator::new(&manifest.discriminator, &d_weights)?;
        let d_frozen = Discriminator::new(&manifest.discriminator, &d_weights.detached())?;
        let lazy = manifest.training.r1_interval as f64;
        let lazy = lazy / (lazy + 1.0);
        let mut g_adam = Adam::new(g_weights.vars(), (0.0, 0.99))?;
        let mut d_adam = Adam::new(d_weights.vars(), (0.0, 0.99f64.powf(lazy)))?;
        let mut ema = BTreeMap::new();
        for (name, t) in g_weights.tensors() {
            ema.insert(name, t.detach().copy()?);
        }
        if let Some(all) = from {
            g_adam.restore("g_adam", all)?;
            d_adam.restore("d_adam", all)?;
            for (name, t) in checkpoint::part(all, "ema") {
                ema.insert(name, t.to_device(&device)?);
            }
        }
        let manifest = manifest.clone();
        Ok(Self { manifest, device, g_weights, d_weights, g, d, d_frozen, g_adam, d_adam, ema, step })
    }

    fn rng(&self, purpose: u64) -> Rng {
        Rng::new(self.manifest.training.seed, self.step * STREAMS + purpose)
    }

    /// One step; returns the losses of G and D and the R1 penalty where it was due.
    fn train(&mut self, data: &Dataset) -> candle_core::Result<(f64, f64, Option<f64>)> {
        fast(|| with_precision(self.manifest.training.precision, || self.step_on(data)))
    }

    fn step_on(&mut self, data: &Dataset) -> candle_core::Result<(f64, f64, Option<f64>)> {
        let t = self.manifest.training.clone();
        let z_dim = self.manifest.generator.z_dim;
        let (g_loss, fake) = first_order(|| {
            let z = Tensor::from_vec(self.rng(0).normals(t.batch * z_dim), (t.batch, z_dim), &self.device)?;
            let ws = self.g.broadcast(&self.g.map(&z)?)?;
            let fake = self.g.synthesize(&ws, Noise::Random(&mut self.rng(1)))?;
            let loss = softplus(&self.d_frozen.forward(&fake)?.neg()?)?.mean_all()?;
            self.g_adam.step(&loss.backward()?, t.learning_rate)?;
            candle_core::Result::Ok((scalar(&loss)?, fake.detach()))
        })?;
        let lazy = t.r1_interval as f64 / (t.r1_interval as f64 + 1.0);
        let real = data.draw(t.batch, &mut self.rng(2), &self.device)?;
        let d_loss = first_order(|| {
            let fake = softplus(&self.d.forward(&fake)?)?.mean_all()?;
            let loss = (fake + softplus(&self.d.forward(&real)?.neg()?)?.mean_all()?)?;
            self.d_adam.step(&loss.backward()?, t.learning_rate * lazy)?;
            scalar(&loss)
        })?;
        let due = t.r1_gamma > 0.0 && self.step.is_multiple_of(t.r1_interval);
        let r1 = due.then(|| with_precision(t.precision.for_second_order(), || self.r1(&real, lazy)));
        let r1 = r1.transpose()?;
        self.step += 1;
        let seen = (self.step * t.batch as u64) as f64;
        let half_life = t.ema_half_life.min(seen * t.ema_rampup).max(1e-8);
        let keep = 0.5f64.powf(t.batch as f64 / half_life);
        for (name, var) in self.g_weights.vars() {
            let now = var.as_detached_tensor();
            let ema = self.ema.get_mut(&name).expect("one average per parameter");
            *ema = (&now + ((&*ema - &now)? * keep)?)?;
        }
        Ok((g_loss, d_loss, r1))
    }

    /// D's step for the R1 penalty alone; returns `mean |dD/dx|^2`.
    fn r1(&mut self, real: &Tensor, lazy: f64) -> candle_core::Result<f64> {
        let t = &self.manifest.training;
        let images = candle_core::Var::from_tensor(real)?;
        let logits = self.d.forward(images.as_tensor())?;
        let grads = logits.sum_all()?.backward()?;
        let gradient = grads.get(images.as_tensor()).expect("D depends on its input");
        let penalty = (gradient.sqr()?.sum_all()? / t.batch as f64)?;
        if !penalty.track_op() {
            candle_core::bail!(
                "R1 needs second-order gradients: call shiftlens_stylegan2::enable_second_order() \
                 before the first backward pass"
            );
        }
        let loss = (&penalty * (t.r1_gamma / 2.0 * t.r1_interval as f64))?;
        let grads = first_order(|| loss.backward())?;
        self.d_adam.step(&grads, t.learning_rate * lazy)?;
        scalar(&penalty)
    }

    /// The averaged generator's tensors.
    fn averaged(&self) -> HashMap<String, Tensor> {
        self.ema.iter().map(|(name, t)| (name.clone(), t.clone())).collect()
    }

    fn checkpoint(&self, path: &Path, seconds: f64) -> Result<()> {
        let mut all = BTreeMap::new();
        for (prefix, weights) in [("G", &self.g_weights), ("D", &self.d_weights)] {
            for (name, t) in weights.tensors() {
                all.insert(format!("{prefix}.{name}"), t);
            }
        }
        for (name, t) in self.averaged() {
            all.insert(format!("ema.{name}"), t);
        }
        self.g_adam.save("g_adam", &mut all).map_err(fail)?;
        self.d_adam.save("d_adam", &mut all).map_err(fail)?;
        let state = State { manifest: self.manifest.clone(), step: self.step, seconds };
        let state = serde_json::to_string(&state).map_err(|e| Error::component("checkpoint", e))?;
        checkpoint::save(path, &state, &all)
    }

    /// Images of the averaged generator for fixed codes.
    fn samples(&self, n: usize) -> candle_core::Result<Tensor> {
        let g = GeneratorNet::new(&self.manifest.generator, &Weights::frozen(self.averaged(), &self.device))?;
        let z_dim = self.manifest.generator.z_dim;
        let z = Rng::new(self.manifest.training.seed, u64::MAX - 1).normals(n * z_dim);
        let z = Tensor::from_vec(z, (n, z_dim), &self.device)?;
        g.synthesize(&g.broadcast(&g.map(&z)?)?, Noise::Constant)
    }

    /// Writes the averaged generator with the mean of w over many codes.
    fn export(&self, path: &Path) -> Result<()> {
        let mut tensors = self.averaged();
        let g = GeneratorNet::new(&self.manifest.generator, &Weights::frozen(tensors.clone(), &self.device))
            .map_err(fail)?;
        let mean = file::mean_w(&g, 10_000).map_err(fail)?;
        tensors.insert("mapping.w_avg".into(), mean);
        file::save_generator(path, &self.manifest.generator, &tensors, DType::F32)
    }
}

/// Trains a generator. The folder of `output` gets `checkpoint.safetensors`, `log.csv`, `samples-*.png` and, at the
/// end, `generator.safetensors`; a folder that holds a checkpoint of the same manifest is resumed.
///
/// `stop_after` ends this session after so many more images, with a checkpoint.
///
/// # Errors
/// If files cannot be read or written, or the run diverges (a loss or a gradient is not finite): the last checkpoint
/// stays; [`Error::Cancelled`] after a checkpoint if the monitor asks to stop.
pub fn train_generator(
    manifest: &GeneratorManifest,
    stop_after: Option<u64>,
    monitor: &dyn Monitor,
) -> Result<GeneratorReport> {
    let t = &manifest.training;
    let device = super::manifest::open(&t.device, t.precision)?;
    let folder = &manifest.output.folder;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let data = Dataset::load(&manifest.data, manifest.generator.channels, manifest.generator.resolution)?;
    monitor.log(Level::Info, &format!("{} training images", data.len()));
    let path = folder.join("checkpoint.safetensors");
    let (mut trainer, before) = if path.exists() {
        let (state, tensors) = checkpoint::load(&path)?;
        let state: State = serde_json::from_str(&state)
            .map_err(|e| Error::Invalid(format!("{}: training state: {e}", path.display())))?;
        // How long to train and where to write may change; anything else would make it another run.
        let mut same = state.manifest.clone();
        same.training.images = t.images;
        same.output = manifest.output.clone();
        same.data.images = manifest.data.images.clone();
        if same != *manifest {
            return Err(Error::Invalid(format!(
                "{} was made with another manifest ({}); name another output folder or remove it",
                path.display(),
                state.manifest.name
            )));
        }
        monitor.log(Level::Info, &format!("resuming at {} images", state.step * t.batch as u64));
        (Trainer::new(manifest, &device, Some(&tensors), state.step).map_err(fail)?, state.seconds)
    } else {
        let sheet = data.range(0, 64, &Device::Cpu).map_err(fail)?;
        write_sheet(&folder.join("real.png"), &sheet, 16)?;
        (Trainer::new(manifest, &device, None, 0).map_err(fail)?, 0.0)
    };
    let batch = t.batch as u64;
    let header = "images,seconds,g_loss,d_loss,r1_penalty,images_per_second";
    let mut session =
        Session::begin(folder, header, (t.images, t.batch), (trainer.step, before), stop_after)?;
    let last = session.last;
    while trainer.step < session.stop {
        let losses = trainer.train(&data);
        let (g, d, r1) = match losses {
            Ok((g, d, r1)) if g.is_finite() && d.is_finite() => (g, d, r1),
            other => {
                let why = other.map_or_else(|e| e.to_string(), |l| format!("losses {l:?}"));
                return Err(Error::component(
                    "stylegan2 training",
                    format!(
                        "diverged after {} images: {why}. The last good checkpoint is {}; lower \
                         training.learning-rate or raise training.r1-gamma",
                        trainer.step * batch,
                        path.display()
                    ),
                ));
            }
        };
        let images = trainer.step * batch;
        monitor.progress("training images", images, last * batch);
        if r1.is_some() {
            let rate = session.rate(trainer.step);
            let r1 = r1.unwrap_or_default();
            session.line(&format!("{images},{:.0},{g:.4},{d:.4},{r1:.5},{rate:.2}", session.seconds()))?;
            monitor.log(
                Level::Debug,
                &format!("{images} images, G {g:.3}, D {d:.3}, R1 {r1:.4}, {rate:.1} images/s"),
            );
        }
        if session.due(trainer.step, manifest.output.samples_every) || trainer.step == last {
            let sheet = trainer.samples(64).map_err(fail)?;
            write_sheet(&folder.join(format!("samples-{images:08}.png")), &sheet, 16)?;
        }
        let cancelled = monitor.cancelled();
        if session.due(trainer.step, manifest.output.checkpoint_every)
            || trainer.step == session.stop
            || cancelled
        {
            trainer.checkpoint(&path, session.seconds())?;
            trainer.export(&folder.join("generator.safetensors"))?;
        }
        if cancelled {
            return Err(Error::Cancelled);
        }
    }
    let file = folder.join("generator.safetensors");
    trainer.export(&file)?;
    Ok(GeneratorReport {
        images: trainer.step * batch,
        steps: trainer.step,
        seconds: session.seconds(),
        training_set: data.len(),
        data_sha256: data.digest().to_owned(),
        file,
    })
}

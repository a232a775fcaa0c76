//! Training of the encoder on synthetic pairs (w, G(w)) (Schutte et al. 2021, section 2.2), optionally also on real
//! images through the frozen generator.
//!
//! With u = E(x) in standard units of each coordinate of w, one step minimises
//! `latent-weight mean (u - w)^2 + pixel-weight mean (G(u) - x)^2` on synthetic x = G(w), and, where real images are
//! named, `real-pixel-weight mean (G(u) - x)^2 + real-prior-weight mean max(|u|^2 / D - 1, 0)` on real x.

use super::adam::Adam;
use super::session::Session;
use super::{Dataset, EncoderManifest, checkpoint, scalar, write_sheet};
use crate::file;
use crate::kernels::conv::fast;
use crate::net::{EncoderNet, GeneratorNet, Noise};
use crate::ops::{first_order, with_precision};
use crate::rng::Rng;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Level, Monitor, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const STREAMS: u64 = 2;

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
    /// Synthetic images shown in all.
    pub images: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// 1 - mean squared error of w in standard units, over fresh synthetic images.
    pub latent_r2: f64,
    /// Root mean squared error of pixels in [0, 1] of G(E(x)) on fresh synthetic images.
    pub synthetic_rmse: f64,
    /// The same on real training images, where the manifest names any.
    pub real_rmse: Option<f64>,
    /// The encoder.
    pub file: PathBuf,
}

#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    latent: f64,
    pixel: f64,
    real: Option<f64>,
}

struct Trainer {
    manifest: EncoderManifest,
    device: Device,
    g: GeneratorNet,
    weights: Weights,
    e: EncoderNet,
    adam: Adam,
    step: u64,
}

fn fail(e: candle_core::Error) -> Error {
    Error::component("encoder training", e)
}

fn mean_square(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    (a - b)?.sqr()?.mean_all()
}

impl Trainer {
    fn new(
        manifest: &EncoderManifest,
        g: GeneratorNet,
        from: Option<&HashMap<String, Tensor>>,
        step: u64,
    ) -> candle_core::Result<Self> {
        let device = g.w_avg().device().clone();
        let stored = match from {
            Some(all) => checkpoint::part(all, "E"),
            None => {
                let fresh = Weights::random(manifest.training.seed, &device);
                EncoderNet::new(&manifest.encoder, &fresh)?;
                let mut stored: HashMap<_, _> =
                    fresh.tensors().into_iter().map(|(k, t)| (k, t.detach())).collect();
                let w = file::sample_w(&g, 10_000, manifest.training.seed)?;
                stored.insert("w_mean".into(), w.mean(0)?);
                stored.insert("w_std".into(), (w.var(0)? + 1e-12)?.sqrt()?);
                stored
            }
        };
        let weights = Weights::trainable(stored, &device);
        let e = EncoderNet::new(&manifest.encoder, &weights)?;
        let mut adam = Adam::new(weights.vars(), (0.9, 0.99))?;
        if let Some(all) = from {
            adam.restore("adam", all)?;
        }
        Ok(Self { manifest: manifest.clone(), device, g, weights, e, adam, step })
    }

    /// w `[n, D]` and G(w).
    fn pairs(&self, n: usize, rng: &mut Rng) -> candle_core::Result<(Tensor, Tensor)> {
        let z = rng.normals(n * self.g.config().z_dim);
        let w = file::map_classes(&self.g, z, &file::draw_classes(&self.g, n, rng))?;
        let x = self.image(&w)?;
        Ok((w, x))
    }

    fn image(&self, w: &Tensor) -> candle_core::Result<Tensor> {
        self.g.synthesize(&self.g.broadcast(w)?, Noise::Constant)
    }

    fn rebuild(&self, u: &Tensor) -> candle_core::Result<Tensor> {
        self.image(&self.e.destandardise(u)?)
    }

    fn train(&mut self, data: Option<&Dataset>, last: u64) -> candle_core::Result<Losses> {
        fast(|| with_precision(self.manifest.training.precision, || self.step_on(data, last)))
    }

    fn step_on(&mut self, data: Option<&Dataset>, last: u64) -> candle_core::Result<Losses> {
        let t = self.manifest.training.clone();
        let stream = self.step * STREAMS;
        let (w, x) = self.pairs(t.batch, &mut Rng::new(t.seed, stream))?;
        let losses = first_order(|| {
            let mut losses = Losses::default();
            let u = self.e.standard(&x)?;
            let latent = mean_square(&u, &self.e.standardise(&w)?)?;
            losses.latent = scalar(&latent)?;
            let mut loss = (latent * t.latent_weight)?;
            if t.pixel_weight > 0.0 {
                let pixel = mean_square(&self.rebuild(&u)?, &x)?;
                losses.pixel = scalar(&pixel)?;
                loss = (loss + (pixel * t.pixel_weight)?)?;
            }
            if let Some(data) = data {
                let x = data.draw(t.batch, &mut Rng::new(t.seed, stream + 1), &self.device)?;
                let u = self.e.standard(&x)?;
                let pixel = mean_square(&self.rebuild(&u)?, &x)?;
                losses.real = Some(scalar(&pixel)?);
                let excess = (u.sqr()?.mean(1)? - 1.0)?.relu()?.mean_all()?;
                loss = (loss + ((pixel * t.real_pixel_weight)? + (excess * t.real_prior_weight)?)?)?;
            }
            let progress = self.step as f64 / last as f64;
            let rate = t.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
            self.adam.step(&loss.backward()?, rate)?;
            candle_core::Result::Ok(losses)
        })?;
        self.step += 1;
        Ok(losses)
    }

    fn export(&self, path: &Path) -> Result<()> {
        let tensors = self.weights.tensors().into_iter().collect();
        file::save_encoder(path, &self.manifest.encoder, &tensors, DType::F32)
    }

    fn checkpoint(&self, path: &Path, generator_sha256: &str, seconds: f64) -> Result<()> {
        let mut all = BTreeMap::new();
        for (name, t) in self.weights.tensors() {
            all.insert(format!("E.{name}"), t);
        }
        self.adam.save("adam", &mut all).map_err(fail)?;
        let manifest = self.manifest.clone();
        let state =
            State { manifest, generator_sha256: generator_sha256.to_owned(), step: self.step, seconds };
        let state = serde_json::to_string(&state).map_err(|e| Error::component("checkpoint", e))?;
        checkpoint::save(path, &state, &all)
    }

    /// Rows of originals and their reconstructions, synthetic and real.
    fn sheet(&self, path: &Path, data: Option<&Dataset>) -> Result<()> {
        let images = || -> candle_core::Result<Tensor> {
            let (_, x) = self.pairs(16, &mut Rng::new(self.manifest.training.seed, u64::MAX - 2))?;
            let mut rows = vec![x.clone(), self.rebuild(&self.e.standard(&x)?)?];
            if let Some(data) = data {
                let x = data.range(0, data.len().min(16), &self.device)?;
                rows.extend([x.clone(), self.rebuild(&self.e.standard(&x)?)?]);
            }
            Tensor::cat(&rows, 0)
        };
        write_sheet(path, &images().map_err(fail)?, 16)
    }

    fn measure(&self, data: Option<&Dataset>) -> candle_core::Result<(f64, f64, Option<f64>)> {
        let (mut latent, mut pixel, mut real) = (0.0, 0.0, 0.0);
        let (batches, n) = (16, 32);
        for i in 0..batches {
            let mut rng = Rng::new(self.manifest.training.seed, u64::MAX - 100 - i);
            let (w, x) = self.pairs(n, &mut rng)?;
            let u = self.e.standard(&x)?;
            latent += scalar(&mean_square(&u, &self.e.standardise(&w)?)?)?;
            pixel += scalar(&mean_square(&self.rebuild(&u)?, &x)?)?;
            if let Some(data) = data {
                let x = data.draw(n, &mut rng, &self.device)?;
                real += scalar(&mean_square(&self.rebuild(&self.e.standard(&x)?)?, &x)?)?;
            }
        }
        let n = batches as f64;
        // Network range is twice as wide as [0, 1].
        let rmse = |sum: f64| (sum / n).sqrt() / 2.0;
        Ok((1.0 - latent / n, rmse(pixel), data.map(|_| rmse(real))))
    }
}

/// Trains an encoder. The folder of `output` gets `checkpoint.safetensors`, `log.csv`, `samples-*.png` and
/// `encoder.safetensors`; a folder that holds a checkpoint of the same manifest is resumed.
///
/// `stop_after` ends this session after so many more images, with a checkpoint.
///
/// # Errors
/// If files cannot be read or written, a loss or a gradient is not finite, or the generator's file has changed since
/// the checkpoint; [`Error::Cancelled`] after a checkpoint if the monitor asks to stop.
pub fn train_encoder(
    manifest: &EncoderManifest,
    stop_after: Option<u64>,
    monitor: &dyn Monitor,
) -> Result<EncoderReport> {
    let t = &manifest.training;
    let device = super::manifest::open(&t.device, t.precision)?;
    let folder = &manifest.output.folder;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let digest = file::sha256(&manifest.generator)?;
    let (config, tensors) = file::load_generator(&manifest.generator)?;
    let e = &manifest.encoder;
    if (e.resolution, e.channels, e.w_dim) != (config.resolution, config.channels, config.w_dim) {
        return Err(Error::Invalid(format!(
            "encoder: resolution {}, channels {}, w-dim {}; the generator {} has {}, {}, {}",
            e.resolution,
            e.channels,
            e.w_dim,
            manifest.generator.display(),
            config.resolution,
            config.channels,
            config.w_dim
        )));
    }
    let mut g = GeneratorNet::new(&config, &Weights::frozen(tensors, &device)).map_err(fail)?;
    if !device.is_cpu() {
        g.prepare().map_err(fail)?;
    }
    let real = manifest.data.as_ref().filter(|_| t.real_pixel_weight > 0.0 || t.real_prior_weight > 0.0);
    let data = real.map(|d| Dataset::load(d, e.channels, e.resolution)).transpose()?;
    let path = folder.join("checkpoint.safetensors");
    let (mut trainer, before) = if path.exists() {
        let (state, tensors) = checkpoint::load(&path)?;
        let state: State = serde_json::from_str(&state)
            .map_err(|e| Error::Invalid(format!("{}: training state: {e}", path.display())))?;
        let mut same = state.manifest.clone();
        same.output = manifest.output.clone();
        same.generator = manifest.generator.clone();
        same.data = manifest.data.clone();
        if same != *manifest || state.generator_sha256 != digest {
            return Err(Error::Invalid(format!(
                "{} was made with another manifest or another generator; name another output folder or remove it",
                path.display()
            )));
        }
        monitor.log(Level::Info, &format!("resuming at {} images", state.step * t.batch as u64));
        (Trainer::new(manifest, g, Some(&tensors), state.step).map_err(fail)?, state.seconds)
    } else {
        (Trainer::new(manifest, g, None, 0).map_err(fail)?, 0.0)
    };
    let batch = t.batch as u64;
    let header = "images,seconds,latent_mse,pixel_mse,real_pixel_mse,images_per_second";
    let mut session =
        Session::begin(folder, header, (t.images, t.batch), (trainer.step, before), stop_after)?;
    let last = session.last;
    while trainer.step < session.stop {
        let losses = trainer.train(data.as_ref(), last).map_err(|e| {
            Error::component(
                "encoder training",
                format!("diverged after {} images: {e}; lower training.learning-rate", trainer.step * batch),
            )
        })?;
        let images = trainer.step * batch;
        monitor.progress("training images", images, last * batch);
        if trainer.step.is_multiple_of(16) {
            let rate = session.rate(trainer.step);
            let Losses { latent, pixel, real } = losses;
            let real = real.map(|v| format!("{v:.5}")).unwrap_or_default();
            session.line(&format!(
                "{images},{:.0},{latent:.5},{pixel:.5},{real},{rate:.2}",
                session.seconds()
            ))?;
            let text =
                format!("{images} images, w {latent:.4}, pixels {pixel:.4} {real}, {rate:.1} images/s");
            monitor.log(Level::Debug, &text);
        }
        if session.due(trainer.step, manifest.output.samples_every) || trainer.step == last {
            trainer.sheet(&folder.join(format!("samples-{images:08}.png")), data.as_ref())?;
        }
        let cancelled = monitor.cancelled();
        if session.due(trainer.step, manifest.output.checkpoint_every)
            || trainer.step == session.stop
            || cancelled
        {
            trainer.checkpoint(&path, &digest, session.seconds())?;
            trainer.export(&folder.join("encoder.safetensors"))?;
        }
        if cancelled {
            return Err(Error::Cancelled);
        }
    }
    let out = folder.join("encoder.safetensors");
    trainer.export(&out)?;
    let (latent_r2, synthetic_rmse, real_rmse) = trainer.measure(data.as_ref()).map_err(fail)?;
    let images = trainer.step * batch;
    Ok(EncoderReport { images, seconds: session.seconds(), latent_r2, synthetic_rmse, real_rmse, file: out })
}

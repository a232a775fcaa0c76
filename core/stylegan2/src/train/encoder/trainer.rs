//! One step of an encoder's training, and what it is measured by.

use super::super::adam::Adam;
use super::super::{Dataset, checkpoint, scalar};
use super::features::{self, Loss};
use super::manifest::EncoderManifest;
use crate::file;
use crate::kernels::conv::fast;
use crate::net::{EncoderNet, GeneratorNet, Noise, Space};
use crate::ops::{first_order, with_precision};
use crate::prior::Prior;
use crate::rng::Rng;
use crate::synth::Synthesis;
use crate::weights::Weights;
use candle_core::{Device, Tensor};
use shiftlens_api::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Random streams of one step: synthetic images, real images.
const STREAMS: u64 = 2;
/// Codes whose distribution is taken for W's.
const CODES: usize = 10_000;
/// Images on which the mean squares of features are measured.
const USUAL: usize = 256;

/// The images of a step: first synthetic ones with their codes, then real ones.
pub struct Batch {
    /// `[S, L, D]`
    pub codes: Option<Tensor>,
    /// `[N, C, R, R]` in network range
    pub images: Tensor,
}

/// The parts of a step's loss, without their weights; those that the step did not look at are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    pub latent: Option<f64>,
    pub pixel: Option<f64>,
    pub real_pixel: Option<f64>,
    pub feature: Option<f64>,
    pub real_feature: Option<f64>,
    /// The loss itself.
    pub total: f64,
}

pub struct Trainer {
    manifest: EncoderManifest,
    device: Device,
    g: GeneratorNet,
    /// Draws the synthetic images on the CPU.
    engine: Option<Synthesis>,
    weights: Weights,
    e: EncoderNet,
    adam: Adam,
    prior: Prior,
    losses: Vec<Loss>,
    pub step: u64,
}

pub fn fail(e: candle_core::Error) -> Error {
    Error::component("encoder training", e)
}

fn mean_square(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    (a - b)?.sqr()?.mean_all()
}

/// A part of the loss, which must be finite.
fn finite(what: &str, value: f64) -> Result<f64> {
    match value.is_finite() {
        true => Ok(value),
        false => {
            let text = format!("diverged: the {what} is {value}; lower training.learning-rate");
            Err(Error::component("encoder training", text))
        }
    }
}

/// The loss's parts as a graph and as numbers.
#[derive(Default)]
struct Sum {
    graph: Option<Tensor>,
    value: f64,
}

impl Sum {
    fn add(&mut self, part: Tensor, value: f64) -> candle_core::Result<()> {
        self.graph = Some(match self.graph.take() {
            Some(sum) => (sum + part)?,
            None => part,
        });
        self.value += value;
        Ok(())
    }

    /// Adds `weight` times a scalar, and answers its value.
    fn add_scalar(&mut self, what: &str, part: &Tensor, weight: f64) -> Result<f64> {
        let value = finite(what, scalar(part).map_err(fail)?)?;
        (part * weight).and_then(|p| self.add(p, weight * value)).map_err(fail)?;
        Ok(value)
    }
}

impl Trainer {
    /// A new encoder, or with `from` that of a checkpoint.
    pub fn new(
        manifest: &EncoderManifest,
        (g, engine): (GeneratorNet, Option<Synthesis>),
        losses: Vec<Loss>,
        from: Option<(&HashMap<String, Tensor>, u64)>,
    ) -> Result<Self> {
        let device = g.w_avg().device().clone();
        let seed = manifest.training.seed;
        let codes = file::sample_w(&g, CODES, seed).map_err(fail)?;
        let fresh = || -> candle_core::Result<_> {
            let fresh = Weights::random(seed, &device);
            EncoderNet::new(&manifest.encoder, &fresh)?;
            let mut stored: HashMap<_, _> =
                fresh.tensors().into_iter().map(|(k, t)| (k, t.detach())).collect();
            stored.insert("w_mean".into(), codes.mean(0)?);
            stored.insert("w_std".into(), (codes.var(0)? + 1e-12)?.sqrt()?);
            Ok(stored)
        };
        let stored = match (from, &manifest.start) {
            (Some((all, _)), _) => checkpoint::part(all, "E"),
            (None, Some(start)) => {
                let (config, stored) = file::load_encoder(&start.weights)?;
                if config != manifest.encoder {
                    return Err(Error::Invalid(format!(
                        "start.weights: {}: an encoder of other sizes than the manifest's: {config:?}",
                        start.weights.display()
                    )));
                }
                stored
            }
            (None, None) => fresh().map_err(fail)?,
        };
        let weights = Weights::trainable(stored, &device);
        let e = EncoderNet::new(&manifest.encoder, &weights).map_err(fail)?;
        let adam = Adam::new(weights.vars(), (0.9, 0.99)).map_err(fail)?;
        let prior = Prior::fit(&codes).map_err(fail)?;
        let manifest = manifest.clone();
        let mut trainer = Self { manifest, device, g, engine, weights, e, adam, prior, losses, step: 0 };
        if let Some((all, step)) = from {
            trainer.adam.restore("adam", all).map_err(fail)?;
            features::restore(&mut trainer.losses, all)?;
            trainer.step = step;
        }
        Ok(trainer)
    }

    /// Measures the mean squares of features on the training images, or without any on synthetic ones.
    pub fn measure_features(&mut self, data: Option<&Dataset>) -> Result<()> {
        let mut rng = Rng::new(self.manifest.training.seed, u64::MAX - 3);
        if self.losses.is_empty() {
            return Ok(());
        }
        let images = match data {
            Some(data) => data.draw(USUAL, &mut rng, &self.device),
            None => self.pairs(USUAL, &mut rng).map(|(_, x)| x),
        };
        let images = images.map_err(fail)?;
        self.losses.iter_mut().try_for_each(|l| l.distance.measure(&images))
    }

    /// Codes `[n, D]` drawn as in training.
    fn codes(&self, n: usize, rng: &mut Rng) -> candle_core::Result<Tensor> {
        let z = rng.normals(n * self.g.config().z_dim);
        file::map_classes(&self.g, z, &file::draw_classes(&self.g, n, rng))
    }

    /// Codes `[n, L, D]` and their images. With style mixing (Karras et al. 2019, section 3.1) some have another code from
    /// a random style input on.
    fn pairs(&self, n: usize, rng: &mut Rng) -> candle_core::Result<(Tensor, Tensor)> {
        let mut codes = self.g.broadcast(&self.codes(n, rng)?)?.contiguous()?;
        let share = self.manifest.training.style_mixing;
        if share > 0.0 {
            let (_, l, d) = codes.dims3()?;
            let others = self.g.broadcast(&self.codes(n, rng)?)?;
            let mut second = Vec::with_capacity(n * l);
            for _ in 0..n {
                let mixed = (rng.below(1 << 24) as f64) < share * f64::from(1 << 24);
                let from = 1 + rng.below(l - 1);
                second.extend((0..l).map(|row| u8::from(mixed && row >= from)));
            }
            let second = Tensor::from_vec(second, (n, l, 1), &Device::Cpu)?.to_device(&self.device)?;
            codes = second.broadcast_as((n, l, d))?.where_cond(&others, &codes)?;
        }
        let x = self.images(&codes)?;
        Ok((codes, x))
    }

    /// G of codes `[n, L, D]`, outside the graph.
    fn images(&self, codes: &Tensor) -> candle_core::Result<Tensor> {
        let c = self.g.config();
        match &self.engine {
            Some(engine) => {
                let data = engine.synthesize(&codes.flatten_all()?.to_vec1::<f32>()?, true);
                let shape = (codes.dim(0)?, c.channels, c.resolution, c.resolution);
                Tensor::from_vec(data, shape, &self.device)
            }
            None => Ok(self.g.synthesize(codes, Noise::Constant)?.detach()),
        }
    }

    /// G of an answer `[n, 1 or L, D]` in standard units.
    fn rebuild(&self, u: &Tensor) -> candle_core::Result<Tensor> {
        let (n, _, d) = u.dims3()?;
        let codes = self.e.destandardise(u)?.broadcast_as((n, self.g.config().num_ws(), d))?;
        self.g.synthesize(&codes, Noise::Constant)
    }

    /// One step of `last`.
    pub fn train(&mut self, data: Option<&Dataset>, last: u64) -> Result<Parts> {
        let progress = self.step as f64 / last as f64;
        let precision = self.manifest.training.precision;
        let parts = fast(|| {
            with_precision(precision, || {
                let batch = self.batch(data, progress).map_err(fail)?;
                first_order(|| {
                    let (loss, parts) = self.loss(&batch)?;
                    let rate = self.manifest.training.learning_rate
                        * 0.5
                        * (1.0 + (std::f64::consts::PI * progress).cos());
                    let grads = loss.backward().map_err(fail)?;
                    self.adam.step(&grads, rate).map_err(|e| {
                        let text = format!("diverged: {e}; lower training.learning-rate");
                        Error::component("encoder training", text)
                    })?;
                    Ok(parts)
                })
            })
        })?;
        self.step += 1;
        Ok(parts)
    }

    /// The images of this step.
    pub fn batch(&self, data: Option<&Dataset>, progress: f64) -> candle_core::Result<Batch> {
        let t = &self.manifest.training;
        let data = data.filter(|_| progress >= t.real_from);
        let real = if data.is_some() { self.manifest.real_images() } else { 0 };
        let rng = |purpose| Rng::new(t.seed, self.step * STREAMS + purpose);
        let mut images = Vec::new();
        let mut codes = None;
        if t.batch > real {
            let (w, x) = self.pairs(t.batch - real, &mut rng(0))?;
            codes = Some(w);
            images.push(x);
        }
        if let Some(data) = data.filter(|_| real > 0) {
            images.push(data.draw(real, &mut rng(1), &self.device)?);
        }
        Ok(Batch { codes, images: Tensor::cat(&images, 0)? })
    }

    /// The loss of a batch: a scalar with its gradient, and its parts. The scalar's own value is not the loss's where
    /// there are features.
    pub fn loss(&mut self, batch: &Batch) -> Result<(Tensor, Parts)> {
        let t = self.manifest.training.clone();
        let x = &batch.images;
        let n = x.dim(0).map_err(fail)?;
        let synthetic = batch.codes.as_ref().map_or(0, |c| c.dims()[0]);
        let (mut sum, mut parts) = (Sum::default(), Parts::default());
        let u = self.e.standard(x).map_err(fail)?;
        if let Some(codes) = &batch.codes {
            let latent = || {
                let codes = codes.narrow(1, 0, self.e.config().rows())?;
                mean_square(&u.narrow(0, 0, synthetic)?, &self.e.standardise(&codes)?)
            };
            let latent = latent().map_err(fail)?;
            parts.latent = Some(sum.add_scalar("error of w", &latent, t.latent_weight)?);
        }
        if n > synthetic {
            self.keep_usual(&u.narrow(0, synthetic, n - synthetic).map_err(fail)?, &mut sum)?;
        }
        // Only images that a part of the loss looks at go through G.
        let rebuilt = self
            .losses
            .iter()
            .fold((t.pixel_weight, t.real_pixel_weight), |(a, b), l| (a + l.weight, b + l.real_weight));
        let from = if rebuilt.0 > 0.0 { 0 } else { synthetic };
        let to = if rebuilt.1 > 0.0 { n } else { synthetic };
        if from < to {
            let part = |t: &Tensor, a: usize, b: usize| t.narrow(0, a, b - a).map_err(fail);
            let y = self.rebuild(&part(&u, from, to)?).map_err(fail)?;
            let pixels = |a: usize, b: usize| -> Result<Option<Tensor>> {
                if a >= b {
                    return Ok(None);
                }
                mean_square(&part(&y, a - from, b - from)?, &part(x, a, b)?).map(Some).map_err(fail)
            };
            if let Some(p) = pixels(from, synthetic)? {
                parts.pixel = Some(sum.add_scalar("error of pixels", &p, t.pixel_weight)?);
            }
            if let Some(p) = pixels(synthetic, to)? {
                parts.real_pixel = Some(sum.add_scalar("error of real pixels", &p, t.real_pixel_weight)?);
            }
            for loss in &mut self.losses {
                let a = if loss.weight > 0.0 { from } else { synthetic };
                let b = if loss.real_weight > 0.0 { to } else { synthetic };
                if a >= b {
                    continue;
                }
                let (fake, real) = ((synthetic - a) as f64, (b - synthetic) as f64);
                let scales: Vec<f64> = (a..b)
                    .map(|i| if i < synthetic { loss.weight / fake } else { loss.real_weight / real })
                    .collect();
                let targets = loss.distance.targets(&part(x, a, b)?)?;
                let d = loss.distance.distances(&part(&y, a - from, b - from)?, &targets, &scales)?;
                let value = d.values.iter().zip(&scales).map(|(v, s)| v * s).sum();
                sum.add(d.surrogate, value).map_err(fail)?;
                let (of_fake, of_real) = d.values.split_at(synthetic - a);
                let more = |before: Option<f64>, v: &[f64]| match v.len() {
                    0 => before,
                    n => Some(before.unwrap_or(0.0) + v.iter().sum::<f64>() / n as f64),
                };
                parts.feature = more(parts.feature, of_fake);
                parts.real_feature = more(parts.real_feature, of_real);
            }
        }
        parts.total = sum.value;
        match sum.graph {
            Some(graph) => Ok((graph, parts)),
            None => Err(Error::component("encoder training", "no part of the loss looks at these images")),
        }
    }

    /// What keeps codes of real images, `u` in standard units, where the generator was trained.
    fn keep_usual(&self, u: &Tensor, sum: &mut Sum) -> Result<()> {
        let t = &self.manifest.training;
        if t.real_prior_weight > 0.0 {
            let excess = || self.prior.excess(&self.e.destandardise(u)?)?.mean_all();
            sum.add_scalar("excess of codes", &excess().map_err(fail)?, t.real_prior_weight)?;
        }
        if t.offset_weight > 0.0 && self.e.config().space == Space::WPlus {
            let offsets = || {
                let l = u.dim(1)?;
                u.narrow(1, 1, l - 1)?.broadcast_sub(&u.narrow(1, 0, 1)?)?.sqr()?.mean_all()
            };
            sum.add_scalar("size of offsets", &offsets().map_err(fail)?, t.offset_weight)?;
        }
        Ok(())
    }

    /// The encoder's tensors.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        self.weights.tensors().into_iter().collect()
    }

    /// Everything that a checkpoint holds besides its state.
    pub fn state(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        let mut all: BTreeMap<_, _> =
            self.weights.tensors().into_iter().map(|(name, t)| (format!("E.{name}"), t)).collect();
        self.adam.save("adam", &mut all)?;
        features::save(&self.losses, &mut all)?;
        Ok(all)
    }

    /// Rows of 16 originals and of their reconstructions, synthetic and real.
    pub fn sheet(&self, data: Option<&Dataset>) -> candle_core::Result<Tensor> {
        fast(|| {
            let (_, x) = self.pairs(16, &mut Rng::new(self.manifest.training.seed, u64::MAX - 2))?;
            let mut rows = vec![x.clone(), self.rebuild(&self.e.standard(&x)?)?];
            if let Some(data) = data {
                let x =
                    data.draw(16, &mut Rng::new(self.manifest.training.seed, u64::MAX - 4), &self.device)?;
                rows.extend([x.clone(), self.rebuild(&self.e.standard(&x)?)?]);
            }
            Tensor::cat(&rows, 0)
        })
    }

    /// The mean losses over fresh batches of synthetic and, with `data`, of real images.
    pub fn measure(&mut self, data: Option<&Dataset>) -> Result<Parts> {
        const BATCHES: u64 = 16;
        const IMAGES: usize = 32;
        let mut all = Means::default();
        for i in 0..BATCHES {
            let rng = |purpose| Rng::new(self.manifest.training.seed, u64::MAX - 100 - 2 * i - purpose);
            let batch = || {
                let (codes, x) = self.pairs(IMAGES, &mut rng(0))?;
                let real = data.map(|d| d.draw(IMAGES, &mut rng(1), &self.device)).transpose()?;
                let images: Vec<Tensor> = std::iter::once(x).chain(real).collect();
                Ok(Batch { codes: Some(codes), images: Tensor::cat(&images, 0)? })
            };
            let batch = batch().map_err(fail)?;
            all.add(&fast(|| self.parts_of_all(&batch))?);
        }
        Ok(all.take())
    }

    /// The parts of the loss with no weight at 0, so that all are looked at.
    fn parts_of_all(&mut self, batch: &Batch) -> Result<Parts> {
        let before = self.manifest.training.clone();
        let t = &mut self.manifest.training;
        (t.pixel_weight, t.real_pixel_weight) = (1.0, 1.0);
        let weights: Vec<_> = self.losses.iter().map(|l| (l.weight, l.real_weight)).collect();
        self.losses.iter_mut().for_each(|l| (l.weight, l.real_weight) = (1.0, 1.0));
        let parts = self.loss(batch).map(|(_, parts)| parts);
        self.losses.iter_mut().zip(weights).for_each(|(l, w)| (l.weight, l.real_weight) = w);
        self.manifest.training = before;
        parts
    }
}

#[cfg(test)]
impl Trainer {
    /// The variables that are trained.
    pub fn vars(&self) -> Vec<(String, candle_core::Var)> {
        self.weights.vars()
    }
    /// u, G(u) and the excess of each code.
    pub fn answers(&self, x: &Tensor) -> candle_core::Result<(Tensor, Tensor, Tensor)> {
        let u = self.e.standard(x)?;
        Ok((u.clone(), self.rebuild(&u)?, self.prior.excess(&self.e.destandardise(&u)?)?))
    }
    /// Codes in standard units.
    pub fn standardise(&self, codes: &Tensor) -> candle_core::Result<Tensor> {
        self.e.standardise(codes)
    }
    /// m_k of the first two distances.
    pub fn mean_squares(&self) -> (Vec<f64>, Vec<f64>) {
        let of = |i: usize| self.losses[i].distance.squares().to_vec();
        (of(0), of(1))
    }
}

/// Means of the parts over steps.
#[derive(Default)]
pub struct Means {
    /// Sum and number of each.
    parts: [(f64, u64); 5],
}

impl Means {
    pub fn add(&mut self, p: &Parts) {
        let found = [p.latent, p.pixel, p.real_pixel, p.feature, p.real_feature];
        for ((sum, n), v) in self.parts.iter_mut().zip(found) {
            if let Some(v) = v {
                *sum += v;
                *n += 1;
            }
        }
    }
    /// The means, after which counting starts anew.
    pub fn take(&mut self) -> Parts {
        let mean = |(sum, n): (f64, u64)| (n > 0).then(|| sum / n as f64);
        let [latent, pixel, real_pixel, feature, real_feature] = std::mem::take(&mut self.parts).map(mean);
        Parts { latent, pixel, real_pixel, feature, real_feature, total: 0.0 }
    }
}

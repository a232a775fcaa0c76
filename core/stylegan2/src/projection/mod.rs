//! Projection: the code whose image is nearest to a given one, by gradient descent through the generator (Karras et al.
//! 2020, arXiv 1912.04958, section 5 and appendix D), from an encoder's answer or from the mean code.
//!
//! One image's loss is `pixel-weight mean (G(w) - x)^2 + sum over the networks of weight d(G(w), x) + prior-weight mean
//! excess(w) + offset-weight mean (u_l - mean u)^2`, in terms of [`crate::perceptual`], [`crate::prior`] and standard units
//! u of w. The paper's distance is LPIPS alone and it leaves w free; here the pixels serve without any network, and the
//! prior keeps codes where directions were fitted. Schedule, Adam and the code's noise are the paper's.
//!
//! All images of a batch are worked on at once, each by itself: the loss is a sum, Adam works by coordinate, and the noise
//! is the same for all. An image never ends with a larger loss than it began with.

mod encoder;
mod noise;
mod params;
#[cfg(test)]
mod tests;

pub use encoder::ProjectionEncoder;
pub use noise::autocorrelation;
pub use params::{NoiseInputs, ProjectionParams};

use crate::file;
use crate::kernels::conv::fast;
use crate::model::open_device;
use crate::net::{GeneratorConfig, GeneratorNet, Noise};
use crate::ops::first_order;
use crate::perceptual::{Perceptual, Targets};
use crate::prior::Prior;
use crate::rng::Rng;
use crate::train::Adam;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor, Var};
use noise::Maps;
use serde::Serialize;
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Error, Images, LatentCodes, Monitor, Result, Silent};
use std::cell::OnceCell;
use std::path::Path;
use std::time::Instant;

/// Codes whose distribution is taken for W's.
const CODES: usize = 10_000;

/// What a projection reached, one value for each image.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ProjectionReport {
    /// Steps that were made, of the batch that made fewest.
    pub steps: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// The loss of the code that the descent began with.
    pub before: Vec<f64>,
    /// The loss of the code that was found.
    pub after: Vec<f64>,
    /// Root mean squared error of pixels in [0, 1] before.
    pub rmse_before: Vec<f64>,
    /// The same of the code that was found.
    pub rmse_after: Vec<f64>,
}

/// A generator whose codes can be searched.
pub struct Projection {
    g: GeneratorNet,
    params: ProjectionParams,
    device: Device,
    features: Vec<(Perceptual, f64)>,
    /// Gathered when they are first needed: most images need no search, and a study is checked more often than it is run.
    statistics: OnceCell<Statistics>,
}

/// Of the generator's codes.
struct Statistics {
    prior: Prior,
    mean: Tensor,
    std: Tensor,
}

/// Images and what they are compared by.
struct Aim {
    images: Tensor,
    features: Vec<Targets>,
}

/// The loss of codes.
struct Loss {
    /// A scalar with the gradient of the sum over images.
    graph: Tensor,
    /// Of each image.
    values: Vec<f64>,
    /// Mean squared error of pixels of each image, in network range.
    squares: Vec<f64>,
}

fn fail(e: candle_core::Error) -> Error {
    Error::component("projection", e)
}

fn numbers(t: &Tensor) -> candle_core::Result<Vec<f64>> {
    t.to_dtype(DType::F64)?.to_vec1()
}

impl Projection {
    /// Through the generator of a file, on the CPU.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else, or a parameter is out of range.
    pub fn new(generator: &Path, params: ProjectionParams) -> Result<Self> {
        Self::on(generator, params, "cpu")
    }

    /// The same on a device, `cpu` or `cuda:0`.
    ///
    /// # Errors
    /// As [`Self::new`], and if the device cannot be had.
    pub fn on(generator: &Path, params: ProjectionParams, device: &str) -> Result<Self> {
        let device = open_device(device)?;
        let (config, tensors) = file::load_generator(generator)?;
        let refuse = |e: candle_core::Error| Error::Invalid(format!("{}: {e}", generator.display()));
        let mut g = GeneratorNet::new(&config, &Weights::frozen(tensors, &device)).map_err(refuse)?;
        if !device.is_cpu() {
            g.prepare().map_err(fail)?;
        }
        Self::through(g, params)
    }

    fn through(g: GeneratorNet, params: ProjectionParams) -> Result<Self> {
        params.check()?;
        let device = g.w_avg().device().clone();
        Ok(Self { g, params, device, features: Vec::new(), statistics: OnceCell::new() })
    }

    fn statistics(&self) -> candle_core::Result<&Statistics> {
        if let Some(known) = self.statistics.get() {
            return Ok(known);
        }
        let codes = file::sample_w(&self.g, CODES, 0)?;
        let (mean, std) = (codes.mean(0)?, (codes.var(0)? + 1e-12)?.sqrt()?);
        let found = Statistics { prior: Prior::fit(&codes)?, mean, std };
        Ok(self.statistics.get_or_init(|| found))
    }

    /// The same with a distance of features, times `weight`, in the loss. Its mean squares are measured on images of the
    /// generator's when it is first needed, if they have not been.
    ///
    /// # Errors
    /// If the weight is no positive number, or the network fails on a grey image.
    pub fn with_features(mut self, mut distance: Perceptual, weight: f64) -> Result<Self> {
        if !(weight.is_finite() && weight > 0.0) {
            return Err(Error::Invalid(format!(
                "the weight of features is {weight}, expected a positive number"
            )));
        }
        let GeneratorConfig { channels, resolution, .. } = *self.config();
        let grey = Tensor::zeros((1, channels, resolution, resolution), DType::F32, &self.device);
        distance.targets(&grey.map_err(fail)?)?;
        self.features.push((distance, weight));
        Ok(self)
    }

    /// Measures the mean squares of features that have none.
    fn measure(&mut self) -> Result<()> {
        const USUAL: usize = 64;
        if self.features.iter().all(|(f, _)| !f.squares().is_empty()) {
            return Ok(());
        }
        let images = fast(|| {
            let codes = self.g.broadcast(&file::sample_w(&self.g, USUAL, 1)?)?;
            self.g.synthesize(&codes, Noise::Constant)
        });
        let images = images.map_err(fail)?;
        let unknown = self.features.iter_mut().filter(|(f, _)| f.squares().is_empty());
        unknown.map(|(f, _)| f).try_for_each(|f| f.measure(&images))
    }

    /// Sizes of the generator.
    pub fn config(&self) -> &GeneratorConfig {
        self.g.config()
    }

    /// How codes are searched.
    pub fn params(&self) -> &ProjectionParams {
        &self.params
    }

    /// The mean of W, `n` times: where a descent begins without an encoder.
    ///
    /// # Errors
    /// If candle fails.
    pub fn mean_codes(&self, n: usize) -> Result<LatentCodes> {
        let mean = self.statistics().and_then(|s| s.mean.to_vec1::<f32>()).map_err(fail)?;
        LatentCodes::new([n, 1, mean.len()], mean.repeat(n))
    }

    /// Codes of images of any size, found from `start`, one code for each image, of W or W+: `[N, 1, D]`, or `[N, L, D]`
    /// where the parameters ask for W+. A start of W+ is averaged over its rows for a search in W.
    ///
    /// # Errors
    /// [`Error::Shape`] for codes of another space or number; if a network fails, or numbers are not finite.
    pub fn project(&mut self, x: &Images, start: &LatentCodes) -> Result<(LatentCodes, ProjectionReport)> {
        self.project_watched(x, start, &Silent)
    }

    /// [`Self::project`], telling `monitor` how far it is.
    ///
    /// # Errors
    /// As [`Self::project`], and [`Error::Cancelled`] if the monitor asks to stop.
    pub fn project_watched(
        &mut self,
        x: &Images,
        start: &LatentCodes,
        monitor: &dyn Monitor,
    ) -> Result<(LatentCodes, ProjectionReport)> {
        let c = self.config().clone();
        let [n, rows, d] = start.shape();
        if n != x.len() || d != c.w_dim || !(rows == 1 || rows == c.num_ws()) {
            return Err(Error::Shape {
                what: "codes to begin a projection with".into(),
                expected: format!("[{}, 1 or {}, {}]", x.len(), c.num_ws(), c.w_dim),
                found: start.shape().to_vec(),
            });
        }
        let x =
            resize::images(&x.with_channels(c.channels)?, (c.resolution, c.resolution), Filter::Bilinear)?;
        // Not in the time that an image may take.
        self.measure()?;
        self.statistics().map_err(fail)?;
        let clock = Instant::now();
        let mut report = ProjectionReport { steps: self.params.steps, ..ProjectionReport::default() };
        let (mut codes, batch) = (Vec::new(), self.params.batch);
        for from in (0..n).step_by(batch) {
            let to = (from + batch).min(n);
            let part = (x.slice(from, to), start.slice(from, to));
            let total = n.div_ceil(batch) * self.params.steps;
            let done = from / batch * self.params.steps;
            let watch = |step: usize| {
                monitor.progress("projection", (done + step) as u64, total as u64);
                monitor.check()
            };
            codes.extend(fast(|| first_order(|| self.descend(&part.0, &part.1, &mut report, &watch)))?);
        }
        report.seconds = clock.elapsed().as_secs_f64();
        let rows = self.params.space.rows(c.num_ws());
        Ok((LatentCodes::new([n, rows, c.w_dim], codes)?, report))
    }

    /// Codes in standard units, `[N, 1 or L, D]` as the search's space says.
    fn standard(&self, start: &LatentCodes) -> candle_core::Result<Tensor> {
        let [n, rows, d] = start.shape();
        let w = Tensor::from_slice(start.as_slice(), (n, rows, d), &Device::Cpu)?.to_device(&self.device)?;
        let wanted = self.params.space.rows(self.config().num_ws());
        let w = match (rows, wanted) {
            (a, b) if a == b => w,
            (1, b) => w.broadcast_as((n, b, d))?.contiguous()?,
            _ => w.mean_keepdim(1)?,
        };
        let known = self.statistics()?;
        w.broadcast_sub(&known.mean)?.broadcast_div(&known.std)
    }

    fn codes(&self, u: &Tensor) -> candle_core::Result<Tensor> {
        let known = self.statistics()?;
        u.broadcast_mul(&known.std)?.broadcast_add(&known.mean)
    }

    fn aim(&mut self, x: &Images) -> Result<Aim> {
        let images = Tensor::from_slice(x.as_slice(), x.shape().as_slice(), &Device::Cpu)
            .and_then(|t| t.affine(2.0, -1.0)?.to_device(&self.device))
            .map_err(fail)?;
        let features = self.features.iter_mut().map(|(f, _)| f.targets(&images)).collect::<Result<_>>()?;
        Ok(Aim { images, features })
    }

    /// The loss of `u`, with the generator's own noise inputs or with `maps`.
    fn loss(&mut self, u: &Tensor, aim: &Aim, maps: Option<&Maps>) -> Result<Loss> {
        let p = &self.params;
        let run = || {
            let w = self.codes(u)?;
            let (n, rows, d) = w.dims3()?;
            let ws = w.broadcast_as((n, self.g.config().num_ws(), d))?;
            let y = match maps {
                Some(maps) => self.g.synthesize(&ws, Noise::Given(&maps.tensors()))?,
                None => self.g.synthesize(&ws, Noise::Constant)?,
            };
            let squares = (&y - &aim.images)?.sqr()?.flatten_from(1)?.mean(1)?;
            let mut loss = (&squares * p.pixel_weight)?;
            if p.prior_weight > 0.0 {
                loss = (loss + (self.statistics()?.prior.excess(&w)?.mean(1)? * p.prior_weight)?)?;
            }
            if rows > 1 && p.offset_weight > 0.0 {
                let offsets = u.broadcast_sub(&u.mean_keepdim(1)?)?.sqr()?.flatten_from(1)?.mean(1)?;
                loss = (loss + (offsets * p.offset_weight)?)?;
            }
            if let Some(maps) = maps {
                loss = (loss + (maps.penalty()? * p.noise_weight)?)?;
            }
            candle_core::Result::Ok((y, numbers(&squares)?, numbers(&loss)?, loss.sum_all()?))
        };
        let (y, squares, mut values, mut graph) = run().map_err(fail)?;
        for ((distance, weight), targets) in self.features.iter_mut().zip(&aim.features) {
            let d = distance.distances(&y, targets, &vec![*weight; values.len()])?;
            graph = (graph + d.surrogate).map_err(fail)?;
            values.iter_mut().zip(&d.values).for_each(|(v, d)| *v += *weight * d);
        }
        match values.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(Error::component("projection", format!("the loss is {v}; lower `learning-rate`"))),
            None => Ok(Loss { graph, values, squares }),
        }
    }

    /// One batch; answers its codes, row-major.
    fn descend(
        &mut self,
        x: &Images,
        start: &LatentCodes,
        report: &mut ProjectionReport,
        watch: &dyn Fn(usize) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let p = self.params.clone();
        let clock = Instant::now();
        let aim = self.aim(x)?;
        let first = self.standard(start).map_err(fail)?;
        let u = Var::from_tensor(&first).map_err(fail)?;
        let mut rng = Rng::new(p.seed, 0);
        let maps = match p.noise {
            NoiseInputs::Fixed => None,
            NoiseInputs::Optimised => {
                let config = self.g.config();
                Some(Maps::new(config, x.len(), &mut Rng::new(p.seed, 1), &self.device).map_err(fail)?)
            }
        };
        let mut vars = vec![("w".to_owned(), u.clone())];
        vars.extend(maps.iter().flat_map(Maps::vars));
        let mut adam = Adam::new(vars, (0.9, 0.999)).map_err(fail)?;
        let before = self.loss(&first, &aim, None)?;
        let (_, rows, d) = first.dims3().map_err(fail)?;
        let mut done = 0;
        for step in 0..p.steps {
            watch(step)?;
            let budget = p.seconds.map(|s| s * x.len() as f64);
            let by_time = budget.map_or(0.0, |b| clock.elapsed().as_secs_f64() / b);
            let progress = (step as f64 / p.steps as f64).max(by_time);
            if progress >= 1.0 {
                break;
            }
            let mut noisy = || {
                let e = Tensor::from_vec(rng.normals(rows * d), (1, rows, d), &Device::Cpu)?;
                u.as_tensor().broadcast_add(&(e.to_device(&self.device)? * p.strength(progress))?)
            };
            let noisy = noisy().map_err(fail)?;
            let loss = self.loss(&noisy, &aim, maps.as_ref())?;
            let rate = p.rate(progress, 1.0 / p.steps as f64);
            loss.graph.backward().and_then(|g| adam.step(&g, rate)).map_err(fail)?;
            if let Some(maps) = &maps {
                maps.normalise().map_err(fail)?;
            }
            done = step + 1;
        }
        let last = u.as_detached_tensor();
        let after = self.loss(&last, &aim, None)?;
        let better: Vec<bool> = after.values.iter().zip(&before.values).map(|(a, b)| a < b).collect();
        let read = |t: &Tensor| self.codes(t)?.flatten_all()?.to_vec1::<f32>();
        let mut codes = read(&last).map_err(fail)?;
        // The start as it was given, not as it comes back from standard units.
        let kept =
            if start.shape()[1] == rows { start.as_slice().to_vec() } else { read(&first).map_err(fail)? };
        for (i, better) in better.iter().enumerate() {
            if !better {
                codes[i * rows * d..(i + 1) * rows * d]
                    .copy_from_slice(&kept[i * rows * d..(i + 1) * rows * d]);
            }
        }
        report.steps = report.steps.min(done);
        // Network range is twice as wide as [0, 1].
        let rmse = |s: &f64| s.sqrt() / 2.0;
        let choose = |a: &[f64], b: &[f64]| -> Vec<f64> {
            better.iter().zip(a.iter().zip(b)).map(|(new, (a, b))| if *new { *a } else { *b }).collect()
        };
        report.before.extend(&before.values);
        report.after.extend(choose(&after.values, &before.values));
        report.rmse_before.extend(before.squares.iter().map(rmse));
        report.rmse_after.extend(choose(&after.squares, &before.squares).iter().map(rmse));
        Ok(codes)
    }
}

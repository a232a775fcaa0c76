//! Augmentation of what the discriminator sees (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
//! Data", arXiv 2006.06676, section 2 and appendix B).
//!
//! Real and generated images go through the same random transformations before D sees them, each with probability p. As
//! long as p is below about 0.8 the generator cannot gain by imitating them. From first to last, with what they are drawn
//! from (values are the paper's, see [`Strength`]):
//!
//! | group | transformation | drawn from |
//! | --- | --- | --- |
//! | pixel blitting | mirror image, quarter turns, shift by whole pixels | {0, 1}, {0, 1, 2, 3}, U(-1/8, 1/8) of the side |
//! | geometry | scale, rotation before and after a stretch, stretch, shift | 2^N(0, 0.2), U(-π, π), N(0, 1/8) |
//! | colour | brightness, contrast, luma flip, hue, saturation | N(0, 0.2), 2^N(0, 0.5), {0, 1}, U(-π, π), 2^N(0, 1) |
//! | filter | gains of four frequency bands | 2^N(0, 1), expected power kept |
//! | corruption | noise, a square of half the side cut out | N(0, s) with s from half of N(0, 0.1); U(0, 1) |
//!
//! Blitting and geometry are one affine map. Where it moves pixels onto pixels, it is index arithmetic. Otherwise the
//! image, continued by reflection for ever, is doubled with the wavelet filter sym6, looked up bilinearly and halved with
//! the same filter, so that nothing aliases. Places are counted from the filter's first moment: it is not quite symmetric,
//! and counted from its middle a smooth image that is turned would also be shifted, by up to 0.4 pixels. Images of one
//! channel are grey: hue and saturation leave them as they are, and a colour matrix acts on them as it does on (x, x, x).
//!
//! To an image the whole pipeline is an affine operator `A x + b`. It is one operation of the graph, whose backward pass is
//! the exact adjoint of A, whose own is A again: derivatives of any order are exact, and R1 may go through. The operator
//! runs on the CPU whatever the device: from a GPU the batch comes over the bus and goes back, and the numbers are the
//! CPU's.

mod affine;
mod axis;
mod colour;
mod operator;
mod params;
mod pipeline;
mod wavelet;

pub use params::{Noise, Params, Sample};
pub use pipeline::{Pipeline, Preset, Strength};

use crate::rng::Rng;
use candle_core::{DType, Tensor, bail};
use operator::{Operator, Run, Way};
use shiftlens_api::{Error, Result};
use std::sync::Arc;

/// A checked [`Pipeline`] for images of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    pipeline: Pipeline,
    channels: usize,
    resolution: usize,
}

impl Augment {
    /// The pipeline for images of `channels` (1 or 3) and `resolution` pixels a side.
    ///
    /// # Errors
    /// If a number of the pipeline is out of its range, the images are of other channels or below 4 pixels a side, or no
    /// transformation that is asked for changes such images.
    pub fn new(pipeline: &Pipeline, channels: usize, resolution: usize) -> Result<Self> {
        let invalid = |what: String| Error::Invalid(format!("augmentation: {what}"));
        if channels != 1 && channels != 3 {
            return Err(invalid(format!("expected images of 1 or 3 channels, found {channels}")));
        }
        if !(4..=1 << 14).contains(&resolution) {
            return Err(invalid(format!("expected images of 4 to 16384 pixels a side, found {resolution}")));
        }
        pipeline.check().map_err(invalid)?;
        let mut pipeline = pipeline.clone();
        if channels == 1 {
            (pipeline.hue_rotation, pipeline.saturation) = (0.0, 0.0);
        }
        if pipeline.multipliers().iter().all(|(_, m)| *m == 0.0) {
            return Err(invalid(format!(
                "no transformation asked for changes images of {channels} channel(s)"
            )));
        }
        Ok(Self { pipeline, channels, resolution })
    }

    /// Parameters for `n` images at probability `p`, which is taken between 0 and 1. A stream of random numbers gives the
    /// same parameters everywhere, and draws as many of them whatever `p` is.
    pub fn draw(&self, n: usize, p: f64, rng: &mut Rng) -> Params {
        let draw = |_| Sample::draw(&self.pipeline, self.resolution, p.clamp(0.0, 1.0), rng);
        Params { samples: (0..n).map(draw).collect() }
    }

    /// Images `[N, C, H, W]` in f32 or f64, black at -1 and white at 1, each transformed by its parameters. Images that
    /// nothing changes are copied, a batch of such images is handed back as it is.
    ///
    /// # Errors
    /// If the images are of another size or number, or not f32 or f64.
    pub fn apply(&self, x: &Tensor, params: &Params) -> candle_core::Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        if [c, h, w] != [self.channels, self.resolution, self.resolution] || n != params.samples.len() {
            bail!(
                "augmentation: expected images [{}, {}, {}, {}], found {:?}",
                params.samples.len(),
                self.channels,
                self.resolution,
                self.resolution,
                x.dims()
            );
        }
        if !matches!(x.dtype(), DType::F32 | DType::F64) {
            bail!("augmentation: expected images in f32 or f64, found {:?}", x.dtype());
        }
        let size = (&self.pipeline.strength, self.channels, self.resolution);
        let operator = Operator::new(&params.samples, size);
        if operator.is_identity() {
            return Ok(x.clone());
        }
        x.contiguous()?.apply_op1(Run { operator: Arc::new(operator), way: Way::Value })
    }
}

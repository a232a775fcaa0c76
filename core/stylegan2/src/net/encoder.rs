//! The encoder E: image to w (Schutte et al. 2021, section 2.2), or to W+.
//!
//! Halving blocks as those of the residual discriminator (Karras et al. 2020, figure 7), each followed by residual blocks
//! that keep the size; the head reads the features at 4x4 place by place and, with `context`, the mean over all places
//! of every resolution's features.
//!
//! Codes of W+ are a base code and an offset from it for every style input but the first, which start at 0 (Tov et al.
//! 2021, arXiv 2102.02766, section 4.1): `u_0 = base`, `u_l = base + offset_l`.

use super::discriminator::Block;
use super::layers::{Conv, Linear, Resize};
use super::{EncoderConfig, Space};
use crate::ops::Activation;
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};
use std::f32::consts::FRAC_1_SQRT_2;

/// `(x + conv1(conv0(x))) / sqrt(2)`
struct Residual {
    conv0: Conv,
    conv1: Conv,
}

impl Residual {
    fn new(w: &Weights, width: usize) -> Result<Self> {
        let conv = |name: &str, gain: f32| {
            Conv::new(&w.at(name), (width, width, 3), true, Resize::Keep, Activation::leaky(gain))
        };
        Ok(Self { conv0: conv("conv0", 1.0)?, conv1: conv("conv1", FRAC_1_SQRT_2)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(&self.conv0.forward(x)?)?;
        (x * f64::from(FRAC_1_SQRT_2))? + y
    }
}

/// One resolution: halved, then refined.
struct Stage {
    halve: Block,
    refine: Vec<Residual>,
}

/// E. Its last layer answers in standard units of each coordinate of w.
pub struct EncoderNet {
    config: EncoderConfig,
    stages: Vec<Stage>,
    conv: Conv,
    fc: Linear,
    out: Linear,
    offsets: Option<Linear>,
    mean: Tensor,
    std: Tensor,
}

impl EncoderNet {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let trunk = config.trunk();
        let last = trunk.width(4);
        let head = config.head.unwrap_or(last);
        let mut inputs = last * 16;
        let mut stages = Vec::new();
        for r in trunk.resolutions() {
            let width = trunk.width(r / 2);
            let halve = Block::new(&trunk, &weights.at(format!("b{r}")), r)?;
            let half = weights.at(format!("b{}", r / 2));
            let refine = (0..config.blocks).map(|i| Residual::new(&half.at(format!("res{i}")), width));
            stages.push(Stage { halve, refine: refine.collect::<Result<_>>()? });
            inputs += if config.context { width } else { 0 };
        }
        let b4 = weights.at("b4");
        let leaky = Activation::leaky(1.0);
        let offsets = match config.space {
            Space::W => None,
            Space::WPlus => {
                Some(Linear::zero(&b4.at("offsets"), (head, (config.rows() - 1) * config.w_dim))?)
            }
        };
        let size = [config.w_dim];
        Ok(Self {
            config: config.clone(),
            stages,
            conv: Conv::new(&b4.at("conv"), (last, last, 3), true, Resize::Keep, leaky)?,
            fc: Linear::new(&b4.at("fc"), (inputs, head), 1.0, 0.0, leaky)?,
            out: Linear::new(&b4.at("out"), (head, config.w_dim), 1.0, 0.0, Activation::linear())?,
            offsets,
            mean: weights.get("w_mean", &size, Init::Constant(0.0), Role::Buffer)?,
            std: weights.get("w_std", &size, Init::Constant(1.0), Role::Buffer)?,
        })
    }
    /// Sizes.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }
    /// Images `[N, C, R, R]` in network range to `(w - mean) / std`, `[N, 1, D]` or, in W+, `[N, L, D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn standard(&self, images: &Tensor) -> Result<Tensor> {
        let (c, r) = (self.config.channels, self.config.resolution);
        if images.dims().get(1..) != Some(&[c, r, r]) {
            candle_core::bail!("images {:?}: expected [N, {c}, {r}, {r}]", images.dims());
        }
        let mut read = Vec::new();
        let mut x: Option<Tensor> = None;
        for stage in &self.stages {
            let mut y = stage.halve.forward(x.take(), images)?;
            for block in &stage.refine {
                y = block.forward(&y)?;
            }
            if self.config.context {
                read.push(y.flatten_from(2)?.mean(2)?);
            }
            x = Some(y);
        }
        let Some(x) = x else { candle_core::bail!("an encoder without blocks") };
        read.insert(0, self.conv.forward(&x)?.flatten_from(1)?);
        let h = self.fc.forward(&Tensor::cat(&read, 1)?)?;
        let base = self.out.forward(&h)?.unsqueeze(1)?;
        let Some(offsets) = &self.offsets else { return Ok(base) };
        let (n, _, d) = base.dims3()?;
        let offsets = offsets.forward(&h)?.reshape((n, self.config.rows() - 1, d))?;
        Tensor::cat(&[&base, &base.broadcast_add(&offsets)?], 1)
    }
    /// Images to codes `[N, 1, D]` of W or `[N, L, D]` of W+.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.destandardise(&self.standard(images)?)
    }
    /// `(w - mean) / std` to w, `[.., D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn destandardise(&self, standard: &Tensor) -> Result<Tensor> {
        standard.broadcast_mul(&self.std)?.broadcast_add(&self.mean)
    }
    /// w to `(w - mean) / std`, `[.., D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn standardise(&self, w: &Tensor) -> Result<Tensor> {
        w.broadcast_sub(&self.mean)?.broadcast_div(&self.std)
    }
}

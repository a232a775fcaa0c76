//! The small discriminators, one for each level of the pyramid (Sauer et al. 2021, section 3.3).
//!
//! Blocks halve the maps down to 4x4: filter, 3x3 convolution of spectral norm 1, batch normalisation, leaky ReLU. A
//! level that is no larger has one block that keeps its size. A last 3x3 convolution gives one logit for each place.

use super::ProjectedConfig;
use super::mixing::Level;
use super::spectral::SpectralWeight;
use crate::ops::{self, Activation};
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};

/// Maps are not made smaller than this.
const SMALLEST: usize = 4;
/// Added to variances.
const EPSILON: f64 = 1e-5;

/// Batch normalisation (Ioffe and Szegedy 2015, algorithm 1) with the statistics of the batch at hand and the activation
/// after it.
struct Norm {
    scale: Tensor,
    bias: Tensor,
}

struct Block {
    weight: SpectralWeight,
    halve: bool,
    /// Without normalisation a bias alone.
    norm: Option<Norm>,
    bias: Option<Tensor>,
}

/// A level's discriminator.
pub struct Head {
    blocks: Vec<Block>,
    out: SpectralWeight,
    bias: Tensor,
}

fn seen(t: &Tensor, frozen: bool) -> Tensor {
    if frozen { t.detach() } else { t.clone() }
}

impl Norm {
    fn forward(&self, x: &Tensor, frozen: bool) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let count = (n * h * w) as f64;
        let mean = (x.reshape((n, c, h * w))?.sum(2)?.sum(0)? / count)?;
        let squares = (x.sqr()?.reshape((n, c, h * w))?.sum(2)?.sum(0)? / count)?;
        // Rounding may leave the variance of a constant a little below 0.
        let variance = (squares - mean.sqr()?)?.relu()?;
        let scale = (seen(&self.scale, frozen) / (variance + EPSILON)?.sqrt()?)?;
        let bias = (seen(&self.bias, frozen) - (&mean * &scale)?)?;
        let scale = scale.unsqueeze(0)?.broadcast_as((n, c))?.contiguous()?;
        ops::bias_act(&ops::scale_channels(x, &scale)?, &bias, None, Activation::leaky(1.0))
    }
}

impl Block {
    fn forward(&self, x: &Tensor, frozen: bool) -> Result<Tensor> {
        let w = self.weight.get(frozen)?;
        if let Some(bias) = &self.bias {
            let (bias, act) = (seen(bias, frozen), Activation::leaky(1.0));
            return if self.halve {
                ops::conv2d_halve_bias_act(x, &w, &bias, act)
            } else {
                ops::conv2d_bias_act(x, &w, &bias, act, false)
            };
        }
        let y = if self.halve { ops::conv2d_halve(x, &w)? } else { ops::conv2d(x, &w)? };
        match &self.norm {
            Some(norm) => norm.forward(&y, frozen),
            None => Ok(y),
        }
    }
}

impl Head {
    pub fn new(config: &ProjectedConfig, level: Level, w: &Weights, name: &str) -> Result<Self> {
        let (mut side, mut channels) = (level.side, level.channels);
        let mut blocks = Vec::new();
        while side > SMALLEST || blocks.is_empty() {
            let halve = side > SMALLEST;
            if halve {
                side /= 2;
            }
            let outputs = config.width(side);
            let at = format!("b{}", blocks.len());
            let w = w.at(&at);
            let zeros = |name: &str| w.get(name, &[outputs], Init::Constant(0.0), Role::Parameter);
            let weight = SpectralWeight::new(&w, [outputs, channels, 3, 3], format!("{name}.{at}"))?;
            let bias = zeros("bias")?;
            let (norm, bias) = match config.batch_norm {
                true => {
                    let scale = w.get("scale", &[outputs], Init::Constant(1.0), Role::Parameter)?;
                    (Some(Norm { scale, bias }), None)
                }
                false => (None, Some(bias)),
            };
            blocks.push(Block { weight, halve, norm, bias });
            channels = outputs;
        }
        let w = w.at("out");
        let out = SpectralWeight::new(&w, [1, channels, 3, 3], format!("{name}.out"))?;
        Ok(Self { blocks, out, bias: w.get("bias", &[1], Init::Constant(0.0), Role::Parameter)? })
    }

    /// Features `[N, C, s, s]` to logits `[N, 1, t, t]`; `frozen` leaves the weights out of the graph.
    pub fn forward(&self, x: &Tensor, frozen: bool) -> Result<Tensor> {
        let x = self.blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x, frozen))?;
        let bias = seen(&self.bias, frozen);
        ops::conv2d_bias_act(&x, &self.out.get(frozen)?, &bias, Activation::linear(), false)
    }

    /// The weights of spectral norm 1.
    pub fn spectral(&self) -> impl Iterator<Item = &SpectralWeight> {
        self.blocks.iter().map(|b| &b.weight).chain([&self.out])
    }
}

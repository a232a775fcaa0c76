//! Fixed random projections of a feature pyramid (Sauer et al. 2021, arXiv 2111.01007, section 3.2).
//!
//! Cross-channel mixing (CCM): a random 1x1 convolution on every level, with as many channels out as in. Cross-scale
//! mixing (CSM): from the coarsest level up, what came out of the level below goes through a random 3x3 convolution, is
//! enlarged bilinearly, and is added. Weights are drawn once from `N(0, 1 / fan in)` and never trained; each sum of two is
//! divided by the root of 2, so that levels of unit variance stay so.

use crate::ops::{conv2d, upsample};
use crate::rng::Rng;
use candle_core::{Device, Result, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_1_SQRT_2;

/// Which of the paper's random projections are used (its table 1 compares them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    /// The features as they are.
    None,
    /// Cross-channel mixing.
    Channels,
    /// Cross-channel and cross-scale mixing, the paper's choice.
    #[default]
    ChannelsAndScales,
}

/// A level of the pyramid: channels, and the side of its maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub channels: usize,
    pub side: usize,
}

/// The random projections.
pub struct Projection {
    /// `[C, C, 1, 1]` for each level; empty without mixing.
    channels: Vec<Tensor>,
    /// `[C_l, C_(l+1), 3, 3]` for each level but the coarsest, and how often the level below is doubled.
    scales: Vec<(Tensor, u32)>,
}

fn draw(rng: &mut Rng, shape: [usize; 4], device: &Device) -> Result<Tensor> {
    let fan_in = (shape[1] * shape[2] * shape[3]) as f32;
    let values = rng.normals(shape.iter().product()).iter().map(|v| v / fan_in.sqrt()).collect::<Vec<_>>();
    Tensor::from_vec(values, &shape, device)
}

impl Projection {
    /// Draws the weights for `levels`, from the finest to the coarsest.
    ///
    /// # Errors
    /// If a level is not 1, 2, 4, .. times as fine as the next.
    pub fn new(levels: &[Level], mixing: Mixing, seed: u64, device: &Device) -> Result<Self> {
        // One stream for each weight: those of one kind do not depend on the other.
        let rng = |kind: u64, level: usize| Rng::new(seed, kind << 32 | level as u64);
        let mut made = Self { channels: Vec::new(), scales: Vec::new() };
        if mixing == Mixing::None {
            return Ok(made);
        }
        for (l, level) in levels.iter().enumerate() {
            made.channels.push(draw(&mut rng(0, l), [level.channels, level.channels, 1, 1], device)?);
        }
        if mixing == Mixing::Channels {
            return Ok(made);
        }
        for (l, pair) in levels.windows(2).enumerate() {
            let (fine, coarse) = (pair[0], pair[1]);
            let ratio = fine.side / coarse.side.max(1);
            if ratio * coarse.side != fine.side || !ratio.is_power_of_two() {
                bail!(
                    "cross-scale mixing: layers of {0}x{0} and {1}x{1}; expected each 1, 2, 4, .. times as fine as the \
                     next, in the order from fine to coarse",
                    fine.side,
                    coarse.side
                );
            }
            let weight = draw(&mut rng(1, l), [fine.channels, coarse.channels, 3, 3], device)?;
            made.scales.push((weight, ratio.ilog2()));
        }
        Ok(made)
    }

    /// Levels `[N, C_l, s_l, s_l]` to as many of the same shapes.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, levels: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.channels.is_empty() {
            return Ok(levels.to_vec());
        }
        let mixed = levels.iter().zip(&self.channels).map(|(x, w)| conv2d(x, w));
        let mut out = mixed.collect::<Result<Vec<_>>>()?;
        for (l, (weight, doublings)) in self.scales.iter().enumerate().rev() {
            let below = conv2d(&out[l + 1], weight)?;
            let below = (0..*doublings).try_fold(below, |x, _| upsample(&x))?;
            out[l] = ((&out[l] + below)? * FRAC_1_SQRT_2)?;
        }
        Ok(out)
    }
}

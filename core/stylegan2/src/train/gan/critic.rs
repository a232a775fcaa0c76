//! What judges images in a training: StyleGAN2's discriminator, or a projected one.

use super::losses;
use super::start::{Taken, take};
use crate::net::{Discriminator, DiscriminatorConfig};
use crate::ops::first_order;
use crate::train::projected::{Projected, Seen};
use crate::train::scalar;
use crate::weights::Weights;
use candle_core::{DType, Result, Tensor, Var, bail};
use std::collections::{BTreeMap, HashMap};

/// A discriminator in training.
pub enum Critic {
    StyleGan2(Box<StyleGan2Critic>),
    Projected(Box<Projected>),
}

/// StyleGAN2's discriminator.
pub struct StyleGan2Critic {
    weights: Weights,
    d: Discriminator,
    /// D without gradients of its weights, on the same storage.
    frozen: Discriminator,
}

/// What D keeps of generated images between G's step and its own.
pub enum Kept {
    Images(Tensor),
    Features(Seen),
}

/// G's part of a step.
pub struct Guidance {
    pub value: f64,
    /// Its gradient is the loss's.
    pub loss: Tensor,
    pub kept: Kept,
}

impl StyleGan2Critic {
    pub fn new(config: &DiscriminatorConfig, weights: Weights) -> Result<Self> {
        let d = Discriminator::new(config, &weights)?;
        let frozen = Discriminator::new(config, &weights.detached())?;
        Ok(Self { weights, d, frozen })
    }

    /// `mean |dD(T(x))/dx|^2` over images x `[N, C, R, R]`, where T is `shown` (Mescheder et al. 2018, eq. 9), in the
    /// graph.
    pub fn r1(&self, real: &Tensor, shown: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let images = Var::from_tensor(real)?;
        let logits = self.d.forward(&shown(images.as_tensor())?)?;
        let grads = logits.sum_all()?.backward()?;
        let Some(gradient) = grads.get(images.as_tensor()) else { bail!("R1: D does not see its images") };
        let penalty = (gradient.sqr()?.sum_all()? / real.dim(0)? as f64)?;
        if !penalty.track_op() {
            bail!(
                "R1 needs second-order gradients: call shiftlens_stylegan2::enable_second_order() before the first \
                 backward pass"
            );
        }
        Ok(penalty)
    }
}

impl Critic {
    /// Trainable variables.
    pub fn vars(&self) -> Vec<(String, Var)> {
        match self {
            Self::StyleGan2(c) => c.weights.vars(),
            Self::Projected(c) => c.vars(),
        }
    }

    /// All that a checkpoint needs.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::StyleGan2(c) => Ok(c.weights.tensors()),
            Self::Projected(c) => c.state(),
        }
    }

    /// G's loss on images in the graph.
    pub fn guide(&mut self, images: &Tensor) -> Result<Guidance> {
        match self {
            Self::StyleGan2(c) => {
                let loss = losses::logistic_generator(&c.frozen.forward(images)?)?;
                Ok(Guidance { value: scalar(&loss)?, loss, kept: Kept::Images(images.detach()) })
            }
            Self::Projected(c) => {
                let (value, loss, seen) = c.guide(images)?;
                Ok(Guidance { value, loss, kept: Kept::Features(seen) })
            }
        }
    }

    /// Called once before the losses of D's step.
    pub fn advance(&mut self) -> Result<()> {
        match self {
            Self::StyleGan2(_) => Ok(()),
            Self::Projected(c) => c.iterate(),
        }
    }

    /// D's loss on generated and real images, and the mean sign of its logits on the real ones.
    pub fn loss(&mut self, fake: &Kept, real: &Tensor) -> Result<(Tensor, f64)> {
        match (self, fake) {
            (Self::StyleGan2(c), Kept::Images(fake)) => {
                let real = c.d.forward(real)?;
                let loss = losses::logistic_discriminator(&c.d.forward(fake)?, &real)?;
                Ok((loss, losses::mean_sign(&[real])?))
            }
            (Self::Projected(c), Kept::Features(fake)) => c.loss(fake, real),
            _ => bail!("a discriminator was given what another one kept"),
        }
    }

    /// Gradients of the weighted R1 penalty, and the penalty.
    pub fn r1(
        &self,
        real: &Tensor,
        weight: f64,
        shown: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<(candle_core::backprop::GradStore, f64)> {
        let Self::StyleGan2(c) = self else {
            bail!("R1: a projected discriminator has no second derivative")
        };
        let penalty = c.r1(real, shown)?;
        let loss = (&penalty * weight)?;
        Ok((first_order(|| loss.backward())?, scalar(&penalty)?))
    }

    /// Takes the variables that a stored D has too, and says which those are.
    pub fn start_from(&mut self, stored: &HashMap<String, Tensor>) -> Result<Taken> {
        let vars = self.vars();
        let taken = take(vars.iter().map(|(k, v)| (k.clone(), v.as_tensor().clone())).collect(), stored);
        for (name, var) in &vars {
            // Those that are left are the variables themselves.
            if !taken.left.contains(name) {
                var.set(&taken.tensors[name].to_dtype(DType::F32)?.to_device(var.device())?)?;
            }
        }
        if let Self::Projected(c) = self {
            c.settle()?;
        }
        Ok(taken)
    }

    /// The part of a checkpoint's tensors that begins with `D.`, if there is one.
    pub fn stored(all: Option<&HashMap<String, Tensor>>) -> Option<HashMap<String, Tensor>> {
        all.map(|all| crate::train::checkpoint::part(all, "D"))
    }
}

//! The encoder E: image to w (Schutte et al. 2021, section 2.2), on the discriminator's residual trunk.

use super::EncoderConfig;
use super::discriminator::Trunk;
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};

/// E. Its last layer answers in standard units of each coordinate of w.
pub struct EncoderNet {
    trunk: Trunk,
    mean: Tensor,
    std: Tensor,
}

impl EncoderNet {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &EncoderConfig, weights: &Weights) -> Result<Self> {
        let size = [config.w_dim];
        Ok(Self {
            trunk: Trunk::new(&config.trunk(), config.w_dim, weights)?,
            mean: weights.get("w_mean", &size, Init::Constant(0.0), Role::Buffer)?,
            std: weights.get("w_std", &size, Init::Constant(1.0), Role::Buffer)?,
        })
    }
    /// Images `[N, C, R, R]` in network range to `(w - mean) / std`, `[N, D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn standard(&self, images: &Tensor) -> Result<Tensor> {
        self.trunk.forward(images, |_, _| ())
    }
    /// Images to w, `[N, D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.destandardise(&self.standard(images)?)
    }
    /// `(w - mean) / std` to w.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn destandardise(&self, standard: &Tensor) -> Result<Tensor> {
        standard.broadcast_mul(&self.std)?.broadcast_add(&self.mean)
    }
    /// w to `(w - mean) / std`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn standardise(&self, w: &Tensor) -> Result<Tensor> {
        w.broadcast_sub(&self.mean)?.broadcast_div(&self.std)
    }
}

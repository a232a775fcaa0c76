//! Differentiable feature networks: what perceptual losses, projected discriminators and distances between sets of images
//! are made of.

use crate::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// One layer of a feature network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureLayer {
    /// Name of the tensor in the network.
    pub name: String,
    /// Shape without the batch at the size that the network was opened for: `[K, h, w]`, or `[K]` for pooled features.
    pub shape: Vec<usize>,
}

/// What a feature network answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// The layers that were asked for, in that order.
    pub layers: Vec<FeatureLayer>,
    /// Channels of the images it takes: 1 or 3.
    pub channels: usize,
    /// Height and width of the images it takes, in pixels.
    pub size: (usize, usize),
    /// Where it really runs: `onnxruntime 1.30.0`.
    pub backend: String,
}

/// φ: images to the activations of some layers, and their pullback.
///
/// Images are `[N, C, H, W]` of the size and channels of [`FeatureInfo`], in units of image values (0 black, 1 white). They
/// are a [`Tensor`] and not [`crate::Images`], because what a generator draws while it is trained leaves [0, 1].
pub trait FeatureNetwork: Send {
    /// Layers, sizes and backend.
    fn info(&self) -> FeatureInfo;
    /// One tensor `[N, ..]` for each layer.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for images of another shape, or if the network fails.
    fn features(&mut self, x: &Tensor) -> Result<Vec<Tensor>>;
    /// The vector-Jacobian product: the gradient of `sum_k <features_k(x), cotangents_k>` with respect to x, `[N, C, H, W]`.
    /// Images of a batch do not mix. `cotangents` are shaped as [`FeatureNetwork::features`] answers.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for arrays of another shape, [`crate::Error::Unsupported`] for an operator without a gradient.
    fn pullback(&mut self, x: &Tensor, cotangents: &[Tensor]) -> Result<Tensor>;
}

//! Feature networks, as manifests name them.
//!
//! ```toml
//! path = "efficientnet-lite0.onnx"
//! layers = ["stride4", "stride8"]                  # left out: the penultimate layer of a classifier
//! input = { scale = 255, mean = [127], std = [128] }
//! upsample = 2                                     # left out: images as they are
//! ```

use shiftlens_api::{FeatureNetwork, Result};
use shiftlens_onnx::OnnxFeatures;

/// What a manifest says about a feature network. Paths are taken as they stand.
pub type FeatureSpec = shiftlens_onnx::FeaturesConfig;

/// Opens a feature network for images of so many `channels` (1 or 3) and `size` `(H, W)`.
///
/// # Errors
/// As [`OnnxFeatures::open`].
pub fn open(spec: &FeatureSpec, channels: usize, size: (usize, usize)) -> Result<Box<dyn FeatureNetwork>> {
    Ok(Box::new(OnnxFeatures::open(spec, channels, size)?))
}

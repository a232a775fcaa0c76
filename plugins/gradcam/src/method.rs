//! The family: what its members share, and the table of all of them.

use crate::layer::Layer;
use crate::methods::{EigenCam, EigenGradCam, GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam};

/// A member of the family. Most are Grad-CAM with other weights and override [`Method::weights`]; one that is no
/// weighted sum of channels overrides [`Method::map`].
///
/// Notation: A activations, G = d(score)/dA, c channels, p positions.
pub trait Method: Send + Sync {
    /// The name in the manifest.
    fn name(&self) -> &'static str;
    /// The name in the report.
    fn title(&self) -> &'static str;
    /// False for a method of activations alone.
    fn needs_gradients(&self) -> bool {
        true
    }
    /// One weight per channel: Grad-CAM's `w_c = mean_p G` (Selvaraju et al. 2017, eq. 1).
    fn weights(&self, layer: &Layer) -> Vec<f64> {
        layer.gradients().map(|g| g.iter().sum::<f64>() / g.len() as f64).collect()
    }
    /// The raw map, one signed value per position: `sum_c w_c A_c` (eq. 2 before its ReLU).
    fn map(&self, layer: &Layer) -> Vec<f64> {
        layer.weighted(&self.weights(layer))
    }
}

/// All members, in the order in which they are listed to users.
pub const METHODS: [&dyn Method; 7] =
    [&GradCam, &HiResCam, &GradCamPlusPlus, &XGradCam, &LayerCam, &EigenCam, &EigenGradCam];

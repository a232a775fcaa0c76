//! The family: what its members share, and the table of all of them.

use crate::layer::Layer;
use crate::methods::{
    AblationCam, EigenCam, EigenGradCam, FinerCam, GradCam, GradCamPlusPlus, HiResCam, LayerCam, ScoreCam,
    XGradCam,
};

/// What a method must be told of f before it can draw a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A alone. The map does not depend on the class.
    Activations,
    /// A, and G = d(score)/dA.
    Gradients,
    /// A, and G of the score's lead over other classes (see [`crate::contrast`]).
    Contrast,
    /// A, and the score of the image under each channel as a mask (see [`crate::masked`]).
    MaskedScores,
    /// A, and the score without each channel (see [`crate::ablated`]).
    AblatedScores,
}

impl Needs {
    /// True if derivatives of f are needed.
    pub fn gradients(self) -> bool {
        matches!(self, Self::Gradients | Self::Contrast)
    }
}

/// A member of the family. Most are Grad-CAM with other weights and override [`Method::weights`]; one that is no
/// weighted sum of channels overrides [`Method::map`].
///
/// Notation: A activations, G = d(score)/dA, c channels, p positions.
pub trait Method: Send + Sync {
    /// The name in the manifest.
    fn name(&self) -> &'static str;
    /// The name in the report.
    fn title(&self) -> &'static str;
    /// What [`Layer`] must hold.
    fn needs(&self) -> Needs {
        Needs::Gradients
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
pub const METHODS: [&dyn Method; 10] = [
    &GradCam,
    &HiResCam,
    &GradCamPlusPlus,
    &XGradCam,
    &LayerCam,
    &FinerCam,
    &EigenCam,
    &EigenGradCam,
    &ScoreCam,
    &AblationCam,
];

/// Names of the methods whose needs are `such`, for messages: `eigencam, scorecam`.
pub fn methods_that(such: impl Fn(Needs) -> bool) -> String {
    let names: Vec<&str> = METHODS.iter().filter(|m| such(m.needs())).map(|m| m.name()).collect();
    names.join(", ")
}

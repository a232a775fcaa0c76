use crate::method::{Method, Needs};

/// Finer-CAM: Grad-CAM of what sets class c apart from similar classes d, `w = mean_p mean_d d(y_c - alpha y_d)/dA`
/// (Zhang et al. 2025, arXiv 2501.11309; [`crate::contrast`] chooses the d and asks for the gradient). With alpha =
/// 0 it is Grad-CAM. The reference classes weigh alike; the pytorch-grad-cam library weighs several of them by their
/// softmax probabilities, and agrees for one.
#[derive(Debug, Clone, Copy)]
pub struct FinerCam;

impl Method for FinerCam {
    fn name(&self) -> &'static str {
        "finercam"
    }
    fn title(&self) -> &'static str {
        "Finer-CAM"
    }
    fn needs(&self) -> Needs {
        Needs::Contrast
    }
}

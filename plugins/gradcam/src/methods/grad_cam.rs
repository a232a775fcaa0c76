use crate::method::Method;

/// Grad-CAM: `sum_c (mean_p G) A` (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2).
#[derive(Debug, Clone, Copy)]
pub struct GradCam;

impl Method for GradCam {
    fn name(&self) -> &'static str {
        "gradcam"
    }
    fn title(&self) -> &'static str {
        "Grad-CAM"
    }
}

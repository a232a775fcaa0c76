use crate::layer::Layer;
use crate::method::Method;
use crate::principal::projection;

/// Eigen-Grad-CAM: Eigen-CAM of `G A` instead of A, and so about a class (as in the pytorch-grad-cam library). Its
/// sign, which the component leaves open, is that of HiResCAM.
#[derive(Debug, Clone, Copy)]
pub struct EigenGradCam;

impl Method for EigenGradCam {
    fn name(&self) -> &'static str {
        "eigengradcam"
    }
    fn title(&self) -> &'static str {
        "Eigen-Grad-CAM"
    }
    fn map(&self, layer: &Layer) -> Vec<f64> {
        let products = layer.pairs().flat_map(|(a, g)| a.iter().zip(g).map(|(a, g)| g * a)).collect();
        projection(products, layer.positions())
    }
}

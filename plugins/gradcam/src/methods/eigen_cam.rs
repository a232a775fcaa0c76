use crate::layer::Layer;
use crate::method::Method;
use crate::principal::projection;

/// Eigen-CAM: the activations' projection on their first principal component (Muhammad and Yeasin 2020,
/// arXiv 2008.00299). It knows no class. Its sign, which the component leaves open, is that of the summed activations.
#[derive(Debug, Clone, Copy)]
pub struct EigenCam;

impl Method for EigenCam {
    fn name(&self) -> &'static str {
        "eigencam"
    }
    fn title(&self) -> &'static str {
        "Eigen-CAM"
    }
    fn needs_gradients(&self) -> bool {
        false
    }
    fn map(&self, layer: &Layer) -> Vec<f64> {
        projection(layer.activations().map(<[f64]>::to_vec).collect(), layer.positions())
    }
}

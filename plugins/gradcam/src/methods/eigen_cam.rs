use crate::layer::Layer;
use crate::method::{Method, Needs};
use crate::principal::projection;

/// Eigen-CAM: the activations' projection on their first principal component (Muhammad and Yeasin 2020, arXiv
/// 2008.00299). It knows no class. Its sign, which the component leaves open, is that of the summed activations.
#[derive(Debug, Clone, Copy)]
pub struct EigenCam;

impl Method for EigenCam {
    fn name(&self) -> &'static str {
        "eigencam"
    }
    fn title(&self) -> &'static str {
        "Eigen-CAM"
    }
    fn needs(&self) -> Needs {
        Needs::Activations
    }
    fn map(&self, layer: &Layer) -> Vec<f64> {
        projection(layer.activations().flatten().copied().collect(), layer.positions())
    }
}

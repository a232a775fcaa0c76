use crate::layer::Layer;
use crate::method::Method;

/// Keeps the quotient finite for a channel that is silent.
const EPSILON: f64 = 1e-7;

/// XGrad-CAM: `w_c = sum_p G A / sum_p A` (Fu et al. 2020, arXiv 2008.02312, eq. 8). Badly conditioned where a
/// channel's activations sum to nearly 0, as at layers without a ReLU.
#[derive(Debug, Clone, Copy)]
pub struct XGradCam;

impl Method for XGradCam {
    fn name(&self) -> &'static str {
        "xgradcam"
    }
    fn title(&self) -> &'static str {
        "XGrad-CAM"
    }
    fn weights(&self, layer: &Layer) -> Vec<f64> {
        let weight = |(a, g): (&[f64], &[f64])| {
            a.iter().zip(g).map(|(a, g)| g * a).sum::<f64>() / (a.iter().sum::<f64>() + EPSILON)
        };
        layer.pairs().map(weight).collect()
    }
}

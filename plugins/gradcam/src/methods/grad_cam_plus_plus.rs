use crate::layer::Layer;
use crate::method::Method;

/// Keeps the quotient finite; the reference implementation's value, which matters where gradients are small.
const EPSILON: f64 = 1e-6;

/// Grad-CAM++: `w_c = sum_p max(G, 0) a` with `a = G^2 / (2 G^2 + (sum_p A) G^3)`, 0 where G is 0
/// (Chattopadhyay et al. 2018, arXiv 1710.11063, eq. 19).
#[derive(Debug, Clone, Copy)]
pub struct GradCamPlusPlus;

impl Method for GradCamPlusPlus {
    fn name(&self) -> &'static str {
        "gradcam++"
    }
    fn title(&self) -> &'static str {
        "Grad-CAM++"
    }
    fn weights(&self, layer: &Layer) -> Vec<f64> {
        let weight = |(a, g): (&[f64], &[f64])| {
            let total: f64 = a.iter().sum();
            g.iter()
                .filter(|g| **g > 0.0)
                .map(|g| g * (g * g / (2.0 * g * g + total * g.powi(3) + EPSILON)))
                .sum()
        };
        layer.pairs().map(weight).collect()
    }
}

use crate::layer::Layer;
use crate::method::Method;

/// HiResCAM: `sum_c G A` (Draelos and Carin 2020, arXiv 2011.08891, eq. 4), where a bright place is sure to have
/// raised the score if the rest of the network is linear.
#[derive(Debug, Clone, Copy)]
pub struct HiResCam;

impl Method for HiResCam {
    fn name(&self) -> &'static str {
        "hirescam"
    }
    fn title(&self) -> &'static str {
        "HiResCAM"
    }
    fn map(&self, layer: &Layer) -> Vec<f64> {
        layer.sum_channels(|a, g| g * a)
    }
}

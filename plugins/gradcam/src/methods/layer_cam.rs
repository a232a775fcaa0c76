use crate::layer::Layer;
use crate::method::Method;

/// LayerCAM: `sum_c max(G, 0) A` (Jiang et al. 2021, IEEE TIP 30, eq. 5 and 6), meant for shallow layers too.
#[derive(Debug, Clone, Copy)]
pub struct LayerCam;

impl Method for LayerCam {
    fn name(&self) -> &'static str {
        "layercam"
    }
    fn title(&self) -> &'static str {
        "LayerCAM"
    }
    fn map(&self, layer: &Layer) -> Vec<f64> {
        layer.sum_channels(|a, g| g.max(0.0) * a)
    }
}

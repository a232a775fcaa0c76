use crate::layer::Layer;
use crate::method::{Method, Needs};

/// Ablation-CAM: `w_c = (s - s_c) / s`, s the score and s_c the score with channel c set to 0 (Desai and Ramaswamy
/// 2020, WACV, section 3; [`crate::ablated`] asks for s_c). The division by s makes weights large where the score is
/// near 0, and turns their sign where it is negative: a logit below 0 has channels that raise it weighted down.
#[derive(Debug, Clone, Copy)]
pub struct AblationCam;

impl Method for AblationCam {
    fn name(&self) -> &'static str {
        "ablationcam"
    }
    fn title(&self) -> &'static str {
        "Ablation-CAM"
    }
    fn needs(&self) -> Needs {
        Needs::AblatedScores
    }
    fn weights(&self, layer: &Layer) -> Vec<f64> {
        let (score, without) = layer.channel_scores();
        without.iter().map(|s| (score - s) / score).collect()
    }
}

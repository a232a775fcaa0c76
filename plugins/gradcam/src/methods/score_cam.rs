use crate::layer::Layer;
use crate::method::{Method, Needs};

/// Score-CAM: `w = softmax_c(s_c)`, s_c the score of the image under channel c as a mask (Wang et al. 2020, arXiv
/// 1910.01279, section 3; [`crate::masked`] makes the masks). The paper subtracts a baseline's score from every s_c,
/// which the softmax takes away again.
#[derive(Debug, Clone, Copy)]
pub struct ScoreCam;

impl Method for ScoreCam {
    fn name(&self) -> &'static str {
        "scorecam"
    }
    fn title(&self) -> &'static str {
        "Score-CAM"
    }
    fn needs(&self) -> Needs {
        Needs::MaskedScores
    }
    fn weights(&self, layer: &Layer) -> Vec<f64> {
        let (_, scores) = layer.channel_scores();
        let largest = scores.iter().fold(f64::NEG_INFINITY, |a, s| a.max(*s));
        let raised: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f64 = raised.iter().sum();
        raised.into_iter().map(|v| v / sum).collect()
    }
}

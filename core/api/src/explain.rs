//! What explainers answer.

use crate::{Heatmap, Images};

/// The paper's explanation (Schutte et al. 2021, section 2.3): G(w + λ sigma α) for a range of λ, with f's scores.
#[derive(Debug, Clone, PartialEq)]
pub struct ShiftSeries {
    /// λ in units of sigma, ascending; contains 0.
    pub lambdas: Vec<f32>,
    /// The shifted images, `[S, C, H, W]`.
    pub images: Images,
    /// f's score of the target class on each.
    pub scores: Vec<f32>,
    /// The code w = E(x), `[L, D]` flattened.
    pub code: Vec<f32>,
    /// Index of λ = 0 in the series: the reconstruction G(E(x)).
    pub origin: usize,
    /// The latent classifier's probability c(w), where the direction carries one.
    pub latent_score: Option<f32>,
}

/// One explanation of one image.
#[derive(Debug, Clone, PartialEq)]
pub enum Explanation {
    /// A relevance map, raw and signed.
    Heatmap {
        /// Which method and layer, for the report: `Grad-CAM`.
        title: String,
        /// Raw values.
        map: Heatmap,
        /// Facts worth printing: `("layer", "/features/conv8/Relu_output_0")`.
        notes: Vec<(String, String)>,
    },
    /// How the image would have to change.
    Shift {
        /// For the report: `Latent shift`.
        title: String,
        /// The series.
        series: ShiftSeries,
        /// Facts worth printing.
        notes: Vec<(String, String)>,
    },
}

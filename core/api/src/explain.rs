//! What explainers answer.

use crate::{Heatmap, Images};
use serde::{Deserialize, Serialize};

/// A score of f that was looked for along λ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReachedLevel {
    /// The score.
    pub level: f32,
    /// λ nearest to 0, in units of sigma, at which f(G(w + λ sigma α)) is `level` but for the search's tolerance;
    /// `None`: not reached within the limit of the search, on either side.
    pub lambda: Option<f32>,
    /// f's score there.
    pub score: Option<f32>,
}

/// λ calibrated to f's predictions: where along α f reaches given scores, and how steadily it moves on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How far was searched on both sides of 0, in units of sigma.
    pub limit: f32,
    /// The scores that were looked for, ascending.
    pub levels: Vec<ReachedLevel>,
    /// λ nearest to 0 at which f's decision changes; `None`: not within the limit.
    pub flip: Option<f32>,
    /// Spearman's rank correlation of λ and f's score on an even grid over the whole range; `None` where all scores are
    /// equal.
    pub spearman: Option<f32>,
    /// Steps of that grid along which f's score falls though λ rises, by more than the search's tolerance.
    pub inversions: usize,
    /// Steps of that grid.
    pub steps: usize,
}

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
    /// Where f reaches given scores, of explainers that search for them.
    pub calibration: Option<Calibration>,
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

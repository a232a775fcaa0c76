//! What a run leaves on disk, as the engine writes it and the report reads it.
//!
//! ```text
//! RUN/
//!   run.json                 RunRecord
//!   direction/direction.safetensors, direction/audit.json (AuditRecord)
//!   cases/<id>/case.json     CaseRecord
//!   cases/<id>/arrays.safetensors   raw arrays: `x`, `series.<e>`, `heatmap.<e>` (e = index of the explanation), and
//!                            those of Case::arrays
//!   cases/<id>/...png, .gif  pictures, drawn by a CaseWriter
//!   metrics.json             Metrics
//!   evaluation.json, randomisation.json   methods compared, where the study does
//!   report.html, report/, cases.csv, ...  what is made of all this, in the formats that the manifest asks for
//!   shard.json               only in a part of a run: which part, and the places of its images in the list
//!   done.json                set when everything is written, removed before anything is written again
//! ```
//! Paths inside a record are relative to the file that holds the record. Several predictors have such a folder each, and
//! [`PredictorsRecord`] beside them.

mod several;

pub use several::{
    COMPARISON_FILE, ComparisonRecord, PREDICTORS_FILE, PairFigure, PairRecord, PredictorsRecord,
};

use crate::{Calibration, Explanation, Images, Result, Target, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of these records; a reader refuses others. A field that older records lack, and whose absence has a meaning,
/// does not raise it: both versions read both.
pub const RECORD_SCHEMA: u32 = 1;

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The study's name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// True once every case was done or failed with a recorded reason.
    pub complete: bool,
    /// The manifest with everything resolved and inferred.
    pub manifest: serde_json::Value,
    /// sha256 over the resolved manifest and all model files: a run folder is resumed only with the same one.
    pub fingerprint: String,
    /// The explained class.
    pub target: Target,
    /// All class names.
    pub classes: Vec<String>,
    /// What was loaded, one entry per component.
    pub components: Vec<ComponentRecord>,
    /// Ids of cases, in the order of the data.
    pub cases: Vec<String>,
    /// Images that could not be explained.
    pub failures: Vec<FailureRecord>,
    /// Seconds by step: `direction`, `explain`, `figures`, `total` by the clock; `predict`, `gradients`, `encode`, `synthesise`
    /// inside the components; `read` and `write` of work in threads of their own; `wait-images` and `wait-writers` of waiting
    /// for those. Of a merged run the parts' sums.
    pub timings: BTreeMap<String, f64>,
    /// Lines the user must see: what was inferred, what fell back to the embedded backend.
    pub remarks: Vec<String>,
}

/// One component as it was really used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentRecord {
    /// `predictor`, `generator`, `encoder`, `direction`, `explainer`.
    pub role: String,
    /// Kind as in the manifest: `onnx`, `plugin:gradcam`.
    pub kind: String,
    /// File, relative to the manifest, where there is one.
    pub path: Option<String>,
    /// sha256 of the file.
    pub sha256: Option<String>,
    /// Where it ran.
    pub backend: String,
    /// What it is, in a few words: `64x64, 1 channel, W 512`.
    pub detail: String,
}

/// An image that could not be explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// The image's file.
    pub path: String,
    /// What went wrong.
    pub error: String,
}

/// One image with all its explanations, in memory.
#[derive(Debug, Clone)]
pub struct Case {
    /// Letters, digits, `-`, `_`, `.` only; unique in the run.
    pub id: String,
    /// The image as it was read, `[1, C, H, W]` at its own size.
    pub image: Images,
    /// In the order of the manifest's explainers, then of what each answered.
    pub explanations: Vec<Explanation>,
    /// What goes into `case.json`.
    pub record: CaseRecord,
    /// Further arrays that are kept beside the raw ones, by name.
    pub arrays: Vec<(String, Tensor)>,
}

/// `cases/<id>/case.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// As in [`Case`].
    pub id: String,
    /// The image's file as the user knows it.
    pub path: String,
    /// True for images drawn from a generator.
    pub synthetic: bool,
    /// Group (patient), where the manifest has one.
    pub group: Option<String>,
    /// Ground truth: true is the target class, where known.
    pub label: Option<bool>,
    /// What the manifest asks to be copied for every image (`metadata` of `[data]`) and is known of this one, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
    /// f's score of every class on the image.
    pub scores: Vec<f32>,
    /// f's score of the target class on the image, f(x).
    pub score: f32,
    /// One record per explanation, same order as in [`Case`].
    pub explanations: Vec<ExplanationRecord>,
    /// How far the reconstruction can be trusted; missing where the study has no latent space, and in records of older
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustRecord>,
    /// How good the explanations are, where the study measures that for this case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluation: Vec<EvaluationRecord>,
    /// What could not be measured, and why; one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Pictures by name: `original`, and what the writer adds. Paths relative to the case's folder.
    pub pictures: BTreeMap<String, String>,
}

/// A method's value in a metric, on one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// The explanation's title, with a number behind it where the case has several of one title; `random heatmap` and
    /// `random direction` know nothing of f and are the floor.
    pub method: String,
    /// The metric's key, with its variant behind a point where there are several: `road`, `insertion_auc.blur`.
    pub metric: String,
    /// The value; `None` where it does not exist or could not be had.
    pub value: Option<f64>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// One explanation in a [`CaseRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ExplanationRecord {
    /// See [`Explanation::Heatmap`].
    Heatmap {
        /// Kind of the explainer in the manifest.
        explainer: String,
        /// The class that it is about; in records of older versions it is missing and the run's target is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Target>,
        /// Title.
        title: String,
        /// Smallest and largest raw value.
        range: (f32, f32),
        /// `[H, W]` of the raw map.
        size: (usize, usize),
        /// Facts.
        notes: Vec<(String, String)>,
        /// The overlay picture.
        picture: Option<String>,
        /// Seconds this explanation took for this image.
        seconds: f64,
    },
    /// See [`Explanation::Shift`].
    Shift {
        /// Kind of the explainer in the manifest.
        explainer: String,
        /// The class that it is about; in records of older versions it is missing and the run's target is meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Target>,
        /// Title.
        title: String,
        /// λ in units of sigma.
        lambdas: Vec<f32>,
        /// f's score under each picture.
        scores: Vec<f32>,
        /// Index of λ = 0.
        origin: usize,
        /// c(E(x)).
        latent_score: Option<f32>,
        /// λ nearest to 0 at which f crosses 0.5, linear between steps; `None`: not within the series.
        flip: Option<f32>,
        /// Spearman's rank correlation of λ and f's score; `None` where all scores are equal.
        spearman: Option<f32>,
        /// Where f reaches given scores; missing where the explainer does not search for them, and in records of older
        /// versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calibration: Option<Calibration>,
        /// |f(x) - f(G(E(x)))|.
        reconstruction_gap: f32,
        /// Mean absolute pixel difference of x (at the generator's size) and G(E(x)).
        reconstruction_l1: f32,
        /// Facts.
        notes: Vec<(String, String)>,
        /// One picture per step.
        pictures: Vec<String>,
        /// Animation.
        animation: Option<String>,
        /// Signed difference of the last and the first picture.
        difference: Option<String>,
        /// Seconds this explanation took for this image.
        seconds: f64,
    },
}

impl CaseRecord {
    /// λ at which f changes its mind along the first series: found by the search along the direction where there was one, else
    /// within the series. `None` without a series, `Some(None)` where f does not change its mind.
    pub fn flip(&self) -> Option<Option<f32>> {
        self.explanations.iter().find_map(|e| match e {
            ExplanationRecord::Shift { calibration: Some(c), .. } => Some(c.flip),
            ExplanationRecord::Shift { flip, .. } => Some(*flip),
            ExplanationRecord::Heatmap { .. } => None,
        })
    }
}

impl ExplanationRecord {
    /// The class that it is about, where the record says so.
    pub fn class(&self) -> Option<&Target> {
        match self {
            Self::Heatmap { class, .. } | Self::Shift { class, .. } => class.as_ref(),
        }
    }
    /// True if it is about `target`, the run's class: it says so, or says nothing.
    pub fn is_about(&self, target: &Target) -> bool {
        self.class().is_none_or(|c| c == target)
    }
}

/// What reconstruction alone does to an image: G(E(x)) beside x.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reconstruction {
    /// f(G(E(x))).
    pub score: f32,
    /// |f(x) - f(G(E(x)))|.
    pub gap: f32,
    /// Root mean square difference of the pixels of x (at the generator's size) and G(E(x)), which run from 0 to 1.
    pub rmse: f32,
}

/// The trust gate's word on a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustRecord {
    /// With the code that the explanations rest on.
    pub reconstruction: Reconstruction,
    /// Which threshold it misses and by how much, one line each; a case with a line is flagged.
    pub reasons: Vec<String>,
    /// What was tried where the encoder's code missed a threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryRecord>,
}

impl TrustRecord {
    /// True if a threshold is missed.
    pub fn flagged(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// A second try at a case whose encoder's code missed a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryRecord {
    /// The method: `projection`.
    pub method: String,
    /// With the encoder's code.
    pub before: Reconstruction,
    /// With the code that the method found.
    pub after: Reconstruction,
    /// True if that code is the one that the explanations rest on; it is where it misses fewer thresholds, or as many
    /// with a smaller gap.
    pub kept: bool,
    /// Seconds for this image.
    pub seconds: f64,
}

/// `direction/audit.json`: how far the direction can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Codes used to fit, and codes held out.
    pub samples: (usize, usize),
    /// Share of positive labels among the fitted codes.
    pub positives: f64,
    /// AUC of the latent classifier on held-out codes against the thresholded f.
    pub auc: Option<f64>,
    /// Accuracy on held-out codes.
    pub accuracy: Option<f64>,
    /// Mean cosine of directions refitted on two halves of the codes.
    pub stability: Option<f64>,
    /// Refits to resampled codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapRecord>,
    /// The same figures for random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomRecord>,
    /// How often f's decision flips along the direction, by ascending λ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<FlipRecord>,
    /// Standard deviation of the codes' projections on the direction: one unit of λ.
    pub sigma: f64,
    /// Seconds to sample, predict and fit.
    pub seconds: f64,
}

/// Directions refitted to bootstrap samples of the codes (Efron 1979), compared with the one that is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootstrapRecord {
    /// Refits.
    pub refits: usize,
    /// Mean cosine of the angle between a refit and the direction.
    pub mean_cosine: f64,
    /// The least one.
    pub least_cosine: f64,
}

/// Held-out figures of random directions, drawn evenly in the whitened space of codes. Each is turned and calibrated on
/// the fitted codes as the direction is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomRecord {
    /// How many.
    pub directions: usize,
    /// Mean AUC.
    pub auc_mean: Option<f64>,
    /// Largest AUC.
    pub auc_max: Option<f64>,
    /// Mean accuracy.
    pub accuracy_mean: Option<f64>,
    /// Largest accuracy.
    pub accuracy_max: Option<f64>,
}

/// How often f's decision on G(w) is another at `-lambda` or at `lambda`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlipRecord {
    /// In units of sigma of the direction that is moved along.
    pub lambda: f64,
    /// Share of held-out codes along the direction.
    pub share: f64,
    /// Share along random directions, the codes dealt out among them.
    pub random: Option<f64>,
    /// Held-out codes.
    pub codes: usize,
}

/// Study-level figures (`metrics.json`), each with the number of cases it stands on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// By name; `core/engine/src/run/figures.rs` has the list.
    pub values: BTreeMap<String, Metric>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What it is, in words.
    pub title: String,
    /// The value; `None` where it cannot be had (no labels, one class).
    pub value: Option<f64>,
    /// Number of cases.
    pub n: usize,
    /// 95 % bootstrap interval over groups (patients), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

/// Draws a case's pictures into its folder while the folder is still temporary.
pub trait CaseWriter: Sync {
    /// Writes pictures into `folder` and fills in their names in `case.record`.
    ///
    /// # Errors
    /// If a picture cannot be drawn or written.
    fn write(&self, folder: &Path, case: &mut Case) -> Result<()>;
}

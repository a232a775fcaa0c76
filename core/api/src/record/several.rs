//! What joins the runs of several predictors.
//!
//! ```text
//! OUT/
//!   predictors.json          PredictorsRecord
//!   NAME/                    a run's folder for each predictor
//!   comparison.json          ComparisonRecord
//!   report.html, report/, comparison.csv, ...   what is made of all this, in the formats that the manifest asks for
//!   done.json                set when everything is written, removed before anything is written again, below OUT/NAME too
//! ```

use super::Metric;
use serde::{Deserialize, Serialize};

/// Name of the file that makes a folder one of several predictors' runs.
pub const PREDICTORS_FILE: &str = "predictors.json";
/// Name of the file with the pairs of predictors.
pub const COMPARISON_FILE: &str = "comparison.json";

/// `predictors.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorsRecord {
    /// [`super::RECORD_SCHEMA`].
    pub schema: u32,
    /// The study's name.
    pub name: String,
    /// The predictors' names, which are those of their folders, in the manifest's order.
    pub predictors: Vec<String>,
    /// `[report]` of the manifest, as `run.json` keeps it.
    pub report: serde_json::Value,
}

/// `comparison.json`: each pair of predictors, on the images that both explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRecord {
    /// [`super::RECORD_SCHEMA`].
    pub schema: u32,
    /// Those of the predictors that have a run in the folder, in the manifest's order.
    pub predictors: Vec<String>,
    /// Every two of them, the earlier one first.
    pub pairs: Vec<PairRecord>,
}

/// Two predictors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// The earlier one's name.
    pub first: String,
    /// The later one's name.
    pub second: String,
    /// Images that both explained, matched by their ids.
    pub images: usize,
    /// Ids of images that the first one alone explained.
    pub only_first: Vec<String>,
    /// Ids of images that the second one alone explained.
    pub only_second: Vec<String>,
    /// Figures in the order in which they are shown; `core/engine/src/run/several/figures.rs` has the list.
    pub figures: Vec<PairFigure>,
    /// Why a figure is missing, or does not mean what it says elsewhere; one line each.
    pub remarks: Vec<String>,
}

/// A figure of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairFigure {
    /// Name: `agreement`, `heatmap_spearman.plugin:gradcam.target.0`.
    pub key: String,
    /// Value, interval, and how many images it stands on: 0 where it is no figure of images.
    #[serde(flatten)]
    pub figure: Metric,
}

//! `evaluation.json` as the engine writes it, as far as the page shows it.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The file.
#[derive(Debug, Deserialize)]
pub(crate) struct Evaluation {
    pub cases: usize,
    pub groups: usize,
    #[serde(default)]
    pub metrics: Vec<MetricInfo>,
    pub heatmaps: Option<Comparison>,
    pub counterfactuals: Option<Comparison>,
    #[serde(default)]
    pub sets: Vec<SetDistance>,
    #[serde(default)]
    pub randomisation: Option<Randomisation>,
    #[serde(default)]
    pub remarks: Vec<String>,
    #[serde(default)]
    pub timings: BTreeMap<String, Timing>,
}

/// What a metric is.
#[derive(Debug, Deserialize)]
pub(crate) struct MetricInfo {
    pub key: String,
    pub title: String,
    pub measures: String,
    pub reference: String,
}

/// Methods compared in metrics.
#[derive(Debug, Deserialize)]
pub(crate) struct Comparison {
    pub explainers: Vec<String>,
    pub metrics: Vec<MetricComparison>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MetricComparison {
    pub key: String,
    pub title: String,
    pub better: Better,
    pub means: Vec<MeanRecord>,
    pub differences: Vec<Difference>,
    pub ranking: Option<Ranking>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Better {
    Higher,
    Lower,
    Neither,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MeanRecord {
    pub explainer: String,
    pub n: usize,
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Difference {
    pub a: String,
    pub b: String,
    pub difference: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub p_holm: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Real,
    NotShown,
    CannotBeShown,
    NoData,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ranking {
    pub mean_ranks: Vec<f64>,
    pub p: Option<f64>,
    pub critical_difference: f64,
}

/// FID and KID of a method's counterfactuals.
#[derive(Debug, Deserialize)]
pub(crate) struct SetDistance {
    pub method: String,
    pub towards: String,
    pub flips: usize,
    pub real: usize,
    pub fid: Option<f64>,
    pub kid: Option<f64>,
    pub kid_deviation: Option<f64>,
}

/// Maps of f with random weights beside those of f.
#[derive(Debug, Deserialize)]
pub(crate) struct Randomisation {
    pub mode: String,
    pub images: usize,
    /// From the output to the input.
    pub layers: Vec<RandomisedLayer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RandomisedLayer {
    pub layer: String,
    pub method: String,
    pub spearman: Option<f64>,
}

/// Seconds of a method, means over the images.
#[derive(Debug, Deserialize)]
pub(crate) struct Timing {
    pub seconds_per_image: Option<f64>,
    pub evaluation_seconds_per_image: Option<f64>,
}

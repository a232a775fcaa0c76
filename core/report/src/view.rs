//! What the page's template sees: every number already in words.

use crate::case::{Fact, fact};
use crate::colour::{css_stops, diverging, sequential};
use crate::evaluation::EvaluationView;
use crate::folder::RunFolder;
use crate::index::{Index, Row};
use crate::number::{count, duration};
use crate::overview::{Figure, Overview};
use crate::summary::{FlipView, MetricView, audit, flips, metrics};
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::Result;
use shiftlens_api::record::{ComponentRecord, FailureRecord};

/// Remarks about single files on the page at most; a folder that was moved would have thousands.
const REMARKS: usize = 40;

/// What was learned while the cases were read.
pub(crate) struct Gathered {
    pub index: Index,
    pub overview: Overview,
    pub has_heatmap: bool,
    /// The page must do without files beside it.
    pub alone: bool,
    /// Cases, in a page that carries them inside itself: id and markup.
    pub embedded: Vec<(String, Value)>,
    pub remarks: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct PageView {
    name: String,
    version: String,
    target: String,
    classes: Vec<String>,
    complete: bool,
    fingerprint: String,
    components: Vec<ComponentRecord>,
    remarks: Vec<String>,
    failures: Vec<FailureRecord>,
    timings: Vec<Fact>,
    manifest: String,
    audit: Vec<Fact>,
    flips: Vec<FlipView>,
    metrics: Vec<MetricView>,
    intervals: bool,
    evaluation: Option<EvaluationView>,
    figures: Vec<Figure>,
    /// Name and address of files beside the page.
    files: Vec<(&'static str, &'static str)>,
    #[serde(flatten)]
    gallery: GalleryView,
}

/// What the gallery's templates and the frame around it see, on the page of one predictor and on that of several.
#[derive(Serialize)]
pub(crate) struct GalleryView {
    /// Several predictors; none on the page of one.
    predictors: Vec<String>,
    cases: usize,
    cases_in_words: String,
    flagged: usize,
    has_labels: bool,
    has_shift: bool,
    has_heatmap: bool,
    /// A predictor did not explain an image that another did.
    some_missing: bool,
    all_synthetic: bool,
    diverging: String,
    sequential: String,
    /// The gallery's data, as JSON.
    index: Value,
    embedded: Vec<(String, Value)>,
}

impl GalleryView {
    pub(crate) fn new(
        index: &Index,
        predictors: Vec<String>,
        has_heatmap: bool,
        embedded: Vec<(String, Value)>,
    ) -> Result<Self> {
        Ok(Self {
            predictors,
            cases: index.len(),
            cases_in_words: count(index.len()),
            flagged: index.count(Row::is_flagged),
            has_labels: index.count(Row::labelled) > 0,
            has_shift: index.count(Row::has_series) > 0,
            has_heatmap,
            some_missing: index.count(Row::is_missing_one) > 0,
            all_synthetic: index.len() > 0 && index.count(Row::is_synthetic) == index.len(),
            diverging: css_stops(diverging, -1.0, 1.0),
            sequential: css_stops(sequential, 0.0, 1.0),
            index: Value::from_safe_string(index.json()?),
            embedded,
        })
    }
}

/// Files that the page links to where they are there.
const FILES: [(&str, &str); 8] = [
    ("cases.csv", "cases.csv"),
    ("cases.parquet", "cases.parquet"),
    ("evaluation.csv", "evaluation.csv"),
    ("evaluation.parquet", "evaluation.parquet"),
    ("metrics.json", "metrics.json"),
    ("evaluation.json", "evaluation.json"),
    ("randomisation.json", "randomisation.json"),
    ("contact sheet", "contact-sheet.png"),
];

/// Adds remarks about single files, the first of very many.
pub(crate) fn extend_some(remarks: &mut Vec<String>, found: Vec<String>) {
    let more = found.len().saturating_sub(REMARKS);
    remarks.extend(found.into_iter().take(REMARKS));
    if more > 0 {
        remarks.push(format!("… and {} more such remarks", count(more)));
    }
}

/// The view of a whole run.
pub(crate) fn page(folder: &RunFolder, gathered: Gathered) -> Result<PageView> {
    let run = &folder.run;
    let Gathered { index, overview, has_heatmap, alone, embedded, remarks: found } = gathered;
    let mut remarks = run.remarks.clone();
    remarks.extend_from_slice(&folder.remarks);
    extend_some(&mut remarks, found);
    Ok(PageView {
        name: run.name.clone(),
        version: run.version.clone(),
        target: run.target.name.clone(),
        classes: run.classes.clone(),
        complete: run.complete,
        fingerprint: run.fingerprint.clone(),
        components: run.components.clone(),
        remarks,
        failures: run.failures.clone(),
        timings: run.timings.iter().map(|(k, s)| fact(k, duration(*s), "")).collect(),
        manifest: serde_json::to_string_pretty(&run.manifest).unwrap_or_default(),
        audit: folder.audit.as_ref().map(audit).unwrap_or_default(),
        flips: folder.audit.as_ref().map(flips).unwrap_or_default(),
        intervals: folder.metrics.as_ref().is_some_and(|m| m.values.values().any(|v| v.interval.is_some())),
        metrics: folder.metrics.as_ref().map(metrics).unwrap_or_default(),
        evaluation: folder.evaluation.as_ref().map(|e| e.view()).transpose()?,
        figures: overview.figures(run)?,
        files: FILES.into_iter().filter(|(_, file)| !alone && folder.root.join(file).exists()).collect(),
        gallery: GalleryView::new(&index, Vec::new(), has_heatmap, embedded)?,
    })
}

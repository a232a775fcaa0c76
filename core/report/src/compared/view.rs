//! What the page's template sees: every number already in words.

use super::figures::Scatters;
use super::{Compared, Predictor, safe};
use crate::formats::Formats;
use crate::index::Index;
use crate::number::count;
use crate::overview::Figure;
use crate::sources::encoded;
use crate::summary::{RowView, beside, ordered};
use crate::view::{GalleryView, extend_some};
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::Result;
use shiftlens_api::record::PairRecord;

/// What was learned while the cases were read.
pub(super) struct Gathered {
    pub remarks: Vec<String>,
    /// Views of cases, in a page that carries them inside itself: id and markup.
    pub embedded: Vec<(String, Value)>,
    pub has_heatmap: bool,
    /// The page must do without files beside it.
    pub alone: bool,
}

#[derive(Serialize)]
pub(super) struct PageView {
    name: String,
    version: String,
    /// The first predictor's class, for the texts that explain.
    target: String,
    /// Its predictors are those that have a run: columns of tables, and of the gallery's rows.
    #[serde(flatten)]
    gallery: GalleryView,
    /// All of the manifest.
    cards: Vec<Card>,
    remarks: Vec<String>,
    failures: Vec<Failure>,
    /// Figures of all predictors.
    rows: Vec<RowView>,
    pairs: Vec<PairView>,
    pair_rows: Vec<RowView>,
    figures: Vec<Figure>,
    /// Name and address of files beside the page.
    files: Vec<(&'static str, &'static str)>,
}

/// A predictor at the head of the page.
#[derive(Serialize)]
struct Card {
    name: String,
    /// `None`: it has no run yet.
    run: Option<RunCard>,
}

#[derive(Serialize)]
struct RunCard {
    kind: String,
    path: Option<String>,
    detail: String,
    sha256: Option<String>,
    backend: String,
    target: String,
    classes: Vec<String>,
    images: String,
    failed: String,
    complete: bool,
    /// Address of the predictor's own page.
    link: Option<Value>,
}

#[derive(Serialize)]
struct Failure {
    predictor: String,
    path: String,
    error: String,
}

#[derive(Serialize)]
struct PairView {
    first: String,
    second: String,
    images: String,
    only: Vec<Only>,
    remarks: Vec<String>,
}

/// Images that one of a pair alone explained.
#[derive(Serialize)]
struct Only {
    name: String,
    other: String,
    count: String,
    ids: Vec<String>,
}

impl PairView {
    fn new(pair: &PairRecord) -> Self {
        let sides =
            [(&pair.first, &pair.second, &pair.only_first), (&pair.second, &pair.first, &pair.only_second)];
        let only = sides.into_iter().filter(|(.., ids)| !ids.is_empty()).map(|(name, other, ids)| Only {
            name: name.clone(),
            other: other.clone(),
            count: count(ids.len()),
            ids: ids.clone(),
        });
        Self {
            first: pair.first.clone(),
            second: pair.second.clone(),
            images: count(pair.images),
            only: only.collect(),
            remarks: pair.remarks.clone(),
        }
    }
}

fn card(p: &Predictor, alone: bool) -> Result<RunCard> {
    let run = &p.folder.run;
    let component = run.components.iter().find(|c| c.role == "predictor");
    let of =
        |text: fn(&shiftlens_api::record::ComponentRecord) -> String| component.map(text).unwrap_or_default();
    let page = !alone && Formats::of(run)?.html;
    Ok(RunCard {
        kind: of(|c| c.kind.clone()),
        path: component.and_then(|c| c.path.clone()),
        detail: of(|c| c.detail.clone()),
        sha256: component.and_then(|c| c.sha256.clone()),
        backend: of(|c| c.backend.clone()),
        target: run.target.name.clone(),
        classes: run.classes.clone(),
        images: count(p.folder.ids.len()),
        failed: count(run.failures.len()),
        complete: run.complete,
        link: page.then(|| safe(format!("{}/report.html", encoded(&p.name)))),
    })
}

/// Files that the page links to where they are there.
const FILES: [(&str, &str); 3] = [
    ("comparison.csv", "comparison.csv"),
    ("comparison.parquet", "comparison.parquet"),
    ("comparison.json", "comparison.json"),
];

/// The view of all runs.
pub(super) fn page(
    compared: &Compared,
    index: Index,
    scatters: &Scatters,
    gathered: Gathered,
) -> Result<PageView> {
    let Gathered { remarks: found, embedded, has_heatmap, alone } = gathered;
    let runs = &compared.predictors;
    let names: Vec<String> = runs.iter().map(|p| p.name.clone()).collect();
    let cards = compared.record.predictors.iter().map(|name| -> Result<Card> {
        let run = runs.iter().find(|p| p.name == *name).map(|p| card(p, alone)).transpose()?;
        Ok(Card { name: name.clone(), run })
    });
    let mut remarks = Vec::new();
    for line in runs.iter().flat_map(|p| &p.folder.run.remarks) {
        // What was inferred is often the same for all.
        if !remarks.contains(line) {
            remarks.push(line.clone());
        }
    }
    extend_some(&mut remarks, found);
    let failures = runs.iter().flat_map(|p| {
        p.folder.run.failures.iter().map(|f| Failure {
            predictor: p.name.clone(),
            path: f.path.clone(),
            error: f.error.clone(),
        })
    });
    let columns: Vec<_> =
        runs.iter().map(|p| p.folder.metrics.as_ref().map(ordered).unwrap_or_default()).collect();
    let pairs = &compared.comparison.pairs;
    let of_pairs: Vec<_> =
        pairs.iter().map(|p| p.figures.iter().map(|f| (f.key.as_str(), &f.figure)).collect()).collect();
    Ok(PageView {
        name: compared.record.name.clone(),
        version: runs[0].folder.run.version.clone(),
        target: runs[0].folder.run.target.name.clone(),
        gallery: GalleryView::new(&index, names, has_heatmap, embedded)?,
        cards: cards.collect::<Result<_>>()?,
        remarks,
        failures: failures.collect(),
        rows: beside(&columns),
        pairs: pairs.iter().map(PairView::new).collect(),
        pair_rows: beside(&of_pairs),
        figures: scatters.figures(compared)?,
        files: FILES.into_iter().filter(|(_, file)| !alone && compared.root.join(file).exists()).collect(),
    })
}

//! The page and the tables of several predictors' runs, from their folders alone.

mod figures;
mod view;

use crate::case::{self, CaseView};
use crate::folder::{RunFolder, json, note};
use crate::formats::Formats;
use crate::index::Index;
use crate::maps::{self, MapsView};
use crate::page::Page;
use crate::sources::{self, Picture, Sources, encoded};
use crate::table;
use figures::Scatters;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use shiftlens_api::record::{
    COMPARISON_FILE, CaseRecord, ComparisonRecord, ExplanationRecord, PREDICTORS_FILE, PredictorsRecord,
    RECORD_SCHEMA,
};
use shiftlens_api::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The run of one of several predictors.
pub(crate) struct Predictor {
    pub name: String,
    pub folder: RunFolder,
    ids: BTreeSet<String>,
}

impl Predictor {
    /// A case of the run, if it has it; one that cannot be read becomes a remark.
    pub(crate) fn case(&self, id: &str, remarks: &mut Vec<String>) -> Option<CaseRecord> {
        let read = self.ids.contains(id).then(|| crate::folder::case(&self.folder.root.join("cases"), id))?;
        note(read, remarks)
    }
}

/// What the folder of several predictors' runs holds.
pub(crate) struct Compared {
    pub root: PathBuf,
    pub record: PredictorsRecord,
    /// `comparison.json`.
    pub comparison: ComparisonRecord,
    /// Those that have a run, in the record's order.
    pub predictors: Vec<Predictor>,
    /// Ids of all cases: the first predictor's in its run's order, then those that it has not.
    pub ids: Vec<String>,
}

impl Compared {
    fn read(root: &Path) -> Result<Self> {
        let record: PredictorsRecord = json(&root.join(PREDICTORS_FILE))?;
        let comparison: ComparisonRecord = json(&root.join(COMPARISON_FILE))?;
        for (file, schema) in [(PREDICTORS_FILE, record.schema), (COMPARISON_FILE, comparison.schema)] {
            if schema != RECORD_SCHEMA {
                let path = root.join(file);
                return Err(Error::Invalid(format!(
                    "{}: schema {schema}, this version reads {RECORD_SCHEMA}",
                    path.display()
                )));
            }
        }
        let (mut predictors, mut ids, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for name in &record.predictors {
            let run = root.join(name);
            if !run.join("run.json").exists() {
                continue;
            }
            let folder = RunFolder::read(&run)?;
            ids.extend(folder.ids.iter().filter(|id| seen.insert((*id).clone())).cloned());
            let own = folder.ids.iter().cloned().collect();
            predictors.push(Predictor { name: name.clone(), folder, ids: own });
        }
        if predictors.is_empty() {
            return Err(Error::Invalid(format!("{}: none of the predictors has a run", root.display())));
        }
        Ok(Self { root: root.to_owned(), record, comparison, predictors, ids })
    }
}

/// Writes what `predictors.json` asks for beside the runs of several predictors: `comparison.csv` and `.parquet`, a row for
/// each image, and last `report.html`; returns the files.
///
/// Memory does not grow with the number of cases, but for some hundred bytes of each.
///
/// # Errors
/// If `predictors.json`, `comparison.json` or a `run.json` cannot be read, none of the predictors has a run, or a file cannot
/// be written; unreadable cases are named on the page.
pub fn write_comparison(root: &Path) -> Result<Vec<PathBuf>> {
    let compared = Compared::read(root)?;
    let formats: Formats = serde_json::from_value(compared.record.report.clone())
        .map_err(|e| Error::Invalid(format!("{}: report: {e}", root.join(PREDICTORS_FILE).display())))?;
    let mut written = Vec::new();
    for (asked, format) in [(formats.csv, table::Format::Csv), (formats.parquet, table::Format::Parquet)] {
        if asked {
            written.push(table::comparison(&compared, format)?);
        }
    }
    if formats.html {
        written.push(write_page(&compared, formats.single_file)?);
    }
    Ok(written)
}

/// What all predictors' cases of an image have in common.
#[derive(Serialize)]
struct ImageView {
    id: String,
    path: String,
    synthetic: bool,
    group: Option<String>,
    metadata: Vec<(String, String)>,
    label: Option<String>,
    /// Scores of other classes stand with each predictor's.
    others: [(); 0],
    original: Option<Picture>,
    maps: MapsView,
    /// There is a series.
    series: bool,
}

/// What one predictor says of an image.
#[derive(Serialize)]
struct SideView {
    name: String,
    /// Address of the case in the predictor's own report.
    link: Option<Value>,
    /// The class that it explains.
    target: String,
    case: Option<CaseView>,
    /// Why there is no case.
    why: String,
}

fn write_page(compared: &Compared, single: bool) -> Result<PathBuf> {
    let folders: Vec<&RunFolder> = compared.predictors.iter().map(|p| &p.folder).collect();
    let embed = single && sources::fits(&folders);
    let mut page = Page::new(&compared.root, embed)?;
    let mut sources: Vec<Sources> = compared
        .predictors
        .iter()
        .enumerate()
        .map(|(n, p)| Sources::of_predictor(&p.folder, &p.name, n, embed))
        .collect();
    let names = compared.predictors.iter().map(|p| p.name.clone()).collect();
    let mut index = Index::new(&compared.predictors[0].folder.run, names, embed);
    let mut scatters = Scatters::new(compared.predictors.len());
    let mut remarks = if single && !embed { vec![sources::too_large()] } else { Vec::new() };
    let mut has_heatmap = false;
    for id in &compared.ids {
        let records: Vec<Option<CaseRecord>> =
            compared.predictors.iter().map(|p| p.case(id, &mut remarks)).collect();
        if records.iter().all(Option::is_none) {
            continue;
        }
        let sides: Vec<(&Sources, Option<&CaseRecord>)> =
            sources.iter().zip(&records).map(|(s, r)| (s, r.as_ref())).collect();
        index.push(&sides);
        scatters.push(&records);
        let maps =
            |r: &CaseRecord| r.explanations.iter().any(|e| matches!(e, ExplanationRecord::Heatmap { .. }));
        has_heatmap |= records.iter().flatten().any(maps);
        let (image, sides) = views(compared, &records, &mut sources, embed)?;
        page.case(
            id,
            "compared-case.html",
            context! { case => Serde(&image), sides => Serde(&sides), together => true },
        )?;
    }
    for (s, p) in sources.iter_mut().zip(&compared.predictors) {
        let of = |r: &String| format!("{}: {r}", p.name);
        remarks.extend(p.folder.remarks.iter().map(of));
        remarks.extend(std::mem::take(&mut s.remarks).iter().map(of));
    }
    let embedded = page.embedded();
    let view = view::page(
        compared,
        index,
        &scatters,
        view::Gathered { remarks, embedded, has_heatmap, alone: embed },
    )?;
    page.finish("compared.html", &view)
}

/// The views of an image that at least one predictor explained.
fn views(
    compared: &Compared,
    records: &[Option<CaseRecord>],
    sources: &mut [Sources],
    alone: bool,
) -> Result<(ImageView, Vec<SideView>)> {
    let found =
        records.iter().zip(&compared.predictors).find_map(|(r, p)| Some((r.as_ref()?, &p.folder.run)));
    let (first, run) = found.ok_or_else(|| Error::invalid("an image without a case"))?;
    let mut sides = Vec::new();
    let (mut original, mut all_maps, mut series) = (None, Vec::new(), false);
    for ((record, p), sources) in records.iter().zip(&compared.predictors).zip(sources) {
        let mut case = record.as_ref().map(|r| case::case(r, &p.folder.run, None, sources));
        if let Some(case) = &mut case {
            original = original.or(case.original.take());
            all_maps.push((p.name.as_str(), case.maps.take()));
            series |= !case.shifts.is_empty();
        }
        let failure = p.folder.run.failures.iter().find(|f| f.path == first.path);
        let why = match (record, failure) {
            (Some(_), _) => String::new(),
            (None, Some(f)) => format!("{} could not explain this image: {}", p.name, f.error),
            (None, None) => format!("{} has not explained this image.", p.name),
        };
        let page = !alone && record.is_some() && Formats::of(&p.folder.run)?.html;
        sides.push(SideView {
            name: p.name.clone(),
            link: page.then(|| safe(format!("{}/report.html#case/{}", encoded(&p.name), encoded(&first.id)))),
            target: p.folder.run.target.name.clone(),
            case,
            why,
        });
    }
    let image = ImageView {
        id: first.id.clone(),
        path: first.path.clone(),
        synthetic: first.synthetic,
        group: first.group.clone(),
        metadata: first.metadata.clone(),
        label: first.label.map(|l| case::label(l, &run.classes, &run.target)),
        others: [],
        original,
        maps: maps::beside(all_maps),
        series,
    };
    Ok((image, sides))
}

/// Markup that is safe to stand in a page.
fn safe(markup: String) -> Value {
    Value::from_safe_string(markup)
}

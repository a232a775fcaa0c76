//! Reads a run's folder back.

use crate::evaluation::Evaluation;
use serde::de::DeserializeOwned;
use shiftlens_api::record::{AuditRecord, CaseRecord, ExplanationRecord, Metrics, RECORD_SCHEMA, RunRecord};
use shiftlens_api::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// What a run's folder holds, and what was found missing or unreadable in it.
pub(crate) struct RunFolder {
    /// The folder.
    pub root: PathBuf,
    /// `run.json`.
    pub run: RunRecord,
    /// `direction/audit.json`, where the study has a direction.
    pub audit: Option<AuditRecord>,
    /// `metrics.json`.
    pub metrics: Option<Metrics>,
    /// `evaluation.json`.
    pub evaluation: Option<Evaluation>,
    /// Folders of cases: first those that the run lists, in its order, then others by name.
    pub ids: Vec<String>,
    /// One line for each thing that could not be read.
    pub remarks: Vec<String>,
}

impl RunFolder {
    /// Reads `run.json` (needed), then all else as far as it is there.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let run: RunRecord = json(&root.join("run.json"))?;
        schema(&root.join("run.json"), run.schema)?;
        let mut remarks = Vec::new();
        let optional = |path: &str| {
            let path = root.join(path);
            if path.exists() { Some(path) } else { None }
        };
        let audit = optional("direction/audit.json").and_then(|p| note(json(&p), &mut remarks));
        let metrics = optional("metrics.json").and_then(|p| note(json(&p), &mut remarks));
        let evaluation = optional("evaluation.json").and_then(|p| note(json(&p), &mut remarks));

        let below = root.join("cases");
        let mut names = folders(&below)?;
        let mut order: Vec<String> = Vec::new();
        let mut missing = Vec::new();
        for id in &run.cases {
            if names.remove(id) {
                order.push(id.clone());
            } else {
                missing.push(id.as_str());
            }
        }
        order.extend(names);
        if !missing.is_empty() {
            let shown = missing.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = if missing.len() > 5 { ", …" } else { "" };
            remarks.push(format!(
                "{} of {} listed cases have no results in this folder: {shown}{more}",
                missing.len(),
                run.cases.len()
            ));
        }
        Ok(Self { root: root.to_owned(), run, audit, metrics, evaluation, ids: order, remarks })
    }

    /// The cases one after another, each read when it is asked for: a run may have more than memory should hold.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Result<CaseRecord>> {
        let below = self.root.join("cases");
        self.ids.iter().map(move |id| case(&below, id))
    }

    /// The folder of a case.
    pub(crate) fn case_folder(&self, id: &str) -> PathBuf {
        self.root.join("cases").join(id)
    }
}

/// One case's `case.json`, checked so that its arrays can be indexed freely.
pub(crate) fn case(cases: &Path, id: &str) -> Result<CaseRecord> {
    let path = cases.join(id).join("case.json");
    let record: CaseRecord = json(&path)?;
    schema(&path, record.schema)?;
    let invalid = |what: String| Err(Error::Invalid(format!("{}: {what}", path.display())));
    if record.id != id {
        return invalid(format!("is of case {:?}, expected {id:?} as its folder is called", record.id));
    }
    for (e, explanation) in record.explanations.iter().enumerate() {
        if let ExplanationRecord::Shift { lambdas, scores, origin, pictures, .. } = explanation {
            let n = lambdas.len();
            if n == 0 || scores.len() != n || *origin >= n || !(pictures.is_empty() || pictures.len() == n) {
                return invalid(format!(
                    "explanation {e}: {n} λ, {} scores, {} pictures, origin {origin}; expected as many of each",
                    scores.len(),
                    pictures.len()
                ));
            }
        }
    }
    for name in pictures(&record) {
        let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        if !inside || name.contains('\\') {
            return invalid(format!("picture {name:?} is not inside the case's folder"));
        }
    }
    Ok(record)
}

/// All files that a case names.
fn pictures(record: &CaseRecord) -> impl Iterator<Item = &String> {
    let explained = record.explanations.iter().flat_map(|e| -> Vec<&String> {
        match e {
            ExplanationRecord::Heatmap { picture, .. } => picture.iter().collect(),
            ExplanationRecord::Shift { pictures, animation, difference, .. } => {
                pictures.iter().chain(animation).chain(difference).collect()
            }
        }
    });
    record.pictures.values().chain(explained)
}

/// Names of the folders in `below` that may be cases: a case in the making has a name that starts with a point.
fn folders(below: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let entries = match std::fs::read_dir(below) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(names),
        Err(e) => return Err(Error::io(below, e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(below, e))?;
        if let (true, Ok(name)) = (entry.path().is_dir(), entry.file_name().into_string())
            && !name.starts_with('.')
        {
            names.insert(name);
        }
    }
    Ok(names)
}

fn schema(path: &Path, found: u32) -> Result<()> {
    if found == RECORD_SCHEMA {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{}: schema {found}, this version reads {RECORD_SCHEMA}; run the study again with this version",
        path.display()
    )))
}

/// Reads and decodes a JSON file.
pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

/// Writes a file under another name and renames it into place, so that a reader never sees half of it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = partial(path);
    std::fs::write(&partial, bytes).map_err(|e| Error::io(&partial, e))?;
    std::fs::rename(&partial, path).map_err(|e| Error::io(path, e))
}

/// Where a file is made before it is renamed into its place.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// What was read; nothing but a remark where it could not be.
pub(crate) fn note<T>(read: Result<T>, remarks: &mut Vec<String>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(e) => {
            remarks.push(format!("skipped: {e}"));
            None
        }
    }
}

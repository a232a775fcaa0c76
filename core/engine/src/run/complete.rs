//! Runs that have nothing left to do, recognised before a model is loaded.
//!
//! A folder is sealed (`done.json`) once everything that a run leaves has been written, and the seal is broken before
//! anything is written again. Under a seal, a run is complete if the sums of all files that the manifest names give the
//! fingerprint in `run.json`, and every image of the list has a case that was made from its file as it is now, or failed
//! with that file. Where a model ran is not asked again: the numbers are there.

use super::case::shown;
use super::evaluate::{self, settled};
use super::fingerprint::{self, Resolved};
use super::folder::{RunFolder, read_json, write_json};
use super::shard::{Selection, ShardRecord};
use super::{RunOptions, RunOutcome};
use crate::data::Item;
use crate::manifest::Study;
use crate::registry::{FEATURES, hash_file};
use serde::{Deserialize, Serialize};
use shiftlens_api::record::{ComponentRecord, FailureRecord, Metrics, RECORD_SCHEMA, RunRecord};
use shiftlens_api::{Result, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the seal.
pub(super) const FILE: &str = "done.json";

/// `done.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seal {
    /// What was made of the run, relative to its folder.
    files: Vec<String>,
    /// Images that failed, as their records name them, and the sums of their files; none for a file that cannot be read.
    failures: BTreeMap<String, Option<String>>,
}

/// Notes in a run's folder that all of it is written. `files` are those that were made of it, relative to the folder.
///
/// # Errors
/// [`shiftlens_api::Error::Io`].
pub fn seal(outcome: &RunOutcome, files: &[String]) -> Result<()> {
    let seal = Seal { files: files.to_vec(), failures: outcome.failed_files.clone() };
    write_json(&outcome.folder.join(FILE), &seal)
}

/// Seals a folder in which nothing failed by itself.
pub(super) fn write_seal(root: &Path, files: Vec<String>) -> Result<()> {
    write_json(&root.join(FILE), &Seal { files, failures: BTreeMap::new() })
}

/// The files that a folder's seal names; `None` if it has none.
pub(super) fn seal_of(root: &Path) -> Option<Vec<String>> {
    read_json(&root.join(FILE)).map(|seal: Seal| seal.files).ok()
}

/// The sums of the files of failed images, as [`RunOutcome`] has them.
pub(super) fn sums(items: &[Item], failures: &[FailureRecord]) -> BTreeMap<String, Option<String>> {
    let failed: BTreeSet<&str> = failures.iter().map(|f| f.path.as_str()).collect();
    let all =
        items.iter().map(|i| (shown(&i.source()), i)).filter(|(path, _)| failed.contains(path.as_str()));
    all.map(|(path, item)| (path, hash_file(&item.path).ok())).collect()
}

/// Those that a folder's seal names; none where it has no seal.
pub(super) fn sealed_sums(folder: &Path) -> BTreeMap<String, Option<String>> {
    read_json(&folder.join(FILE)).map(|seal: Seal| seal.failures).unwrap_or_default()
}

/// A run that needs no model any more.
#[derive(Debug)]
pub struct Complete {
    /// What it came to; without the table of methods, which is on disk.
    pub outcome: RunOutcome,
    /// False where a file that was made of the run is missing, or the study asks for other ones now: they are to be written
    /// again, and the folder sealed.
    pub sealed: bool,
}

/// What the run in the folder came to, if there is nothing left to compute. Only where other files of a report are asked for
/// than before something is changed: the manifest in `run.json` asks for them then.
pub fn complete(study: &Study, items: &[Item], options: &RunOptions) -> Option<Complete> {
    if options.force {
        return None;
    }
    let seal: Seal = read_json(&options.out.join(FILE)).ok()?;
    let mut record: RunRecord = read_json(&options.out.join("run.json")).ok()?;
    let metrics: Metrics = read_json(&options.out.join("metrics.json")).ok()?;
    if record.schema != RECORD_SCHEMA {
        return None;
    }
    let resolved = fingerprint::resolve(study, &Recorded::new(study, &record)?.resolved());
    if fingerprint::of_run(&resolved) != record.fingerprint {
        return None;
    }
    let selection = Selection::new(items, options.shard, &options.only).ok()?;
    let same_part = |held: &ShardRecord| {
        selection.shard.as_ref().is_some_and(|s| (s.shard, &s.list) == (held.shard, &held.list))
    };
    let held = ShardRecord::read(&options.out).ok()?;
    if !held.as_ref().map_or(selection.shard.is_none(), same_part) {
        return None;
    }
    let folder = RunFolder::locked(&options.out)?;
    let listed: BTreeSet<&str> = record.cases.iter().map(String::as_str).collect();
    let failed: BTreeSet<&str> = record.failures.iter().map(|f| f.path.as_str()).collect();
    let measured = study.evaluation.as_ref().map(|e| evaluate::chosen(e, items)).unwrap_or_default();
    if study.evaluation.is_some() && !options.out.join("evaluation.json").is_file() {
        return None;
    }
    let done = |i: usize| {
        let path = shown(&items[i].source());
        match failed.contains(path.as_str()) {
            true => seal.failures.get(&path).is_some_and(|sum| *sum == hash_file(&items[i].path).ok()),
            false => {
                let id = items[i].id.as_str();
                listed.contains(id) && settled(&folder, &items[i], measured.contains(id))
            }
        }
    };
    let asked: Vec<usize> = (0..items.len()).filter(|i| selection.asked[*i]).collect();
    // Without `only`, the folder's lists are those of this list of images and no longer ones.
    let whole = options.only.is_empty();
    if whole && !(record.complete && listed.len() + failed.len() == asked.len()) {
        return None;
    }
    if !asked.into_iter().all(done) {
        return None;
    }
    let asked_for = &resolved["report"];
    let sealed =
        record.manifest["report"] == *asked_for && seal.files.iter().all(|f| options.out.join(f).is_file());
    if !sealed {
        folder.unseal().and_then(|()| folder.remove_outputs()).ok()?;
        record.manifest["report"] = asked_for.clone();
        folder.write_json("run.json", &record).ok()?;
    }
    let outcome = RunOutcome {
        folder: options.out.clone(),
        done: record.cases.len(),
        resumed: record.cases.len(),
        failures: record.failures,
        failed_files: seal.failures.clone(),
        metrics,
        evaluation: None,
        remarks: record.remarks,
    };
    Some(Complete { outcome, sealed })
}

/// What a run's record says of components, with the sums of the files as they are now.
struct Recorded {
    components: Vec<ComponentRecord>,
    target: Target,
    explained: Vec<Vec<Target>>,
}

impl Recorded {
    fn new(study: &Study, record: &RunRecord) -> Option<Self> {
        let mut components = record.components.clone();
        let specs = fingerprint::specs(study);
        let features = components.iter().position(|c| c.role == FEATURES).unwrap_or(components.len());
        if specs.len() != features || components.len() > features + 1 {
            return None;
        }
        if let Some(component) = components.get_mut(features) {
            let spec = study.evaluation.as_ref()?;
            let path = match &spec.features {
                Some(section) => Some(section.spec.path.clone()),
                None => study.predictor.file(study.folder()).ok()?,
            };
            component.sha256 = Some(hash_file(&path?).ok()?);
        }
        for (spec, component) in specs.into_iter().zip(&mut components) {
            if spec.role != component.role || spec.kind.to_string() != component.kind {
                return None;
            }
            component.sha256 = match spec.file(study.folder()) {
                Ok(Some(path)) => Some(hash_file(&path).ok()?),
                Ok(None) => None,
                Err(_) => return None,
            };
        }
        let (target, _) = study.pick_target(&record.classes).ok()?;
        let explained = study.explained(&record.classes, &target).ok()?;
        Some(Self { components, target, explained })
    }

    fn resolved(&self) -> Resolved<'_> {
        Resolved { records: &self.components, target: &self.target, explained: &self.explained }
    }
}

impl RunFolder {
    /// Breaks the seal, and that of the folder above where this is one of several runs.
    pub(super) fn unseal(&self) -> Result<()> {
        self.unseal_above()?;
        self.remove(Path::new(FILE))
    }
}

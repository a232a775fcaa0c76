//! Parts of a run joined into one.
//!
//! The parts of a list ([`super::Shard`]) leave a run's folder each, with the same fingerprint, the same direction and the
//! same cases as a run of the whole list would have. Joined they give that run's folder: cases are copied, lists are put in
//! the order of the list, and the study's figures are computed from all cases. Timings are the parts' sums.

use super::evaluate::{self, RandomisationRecord, StudyEvaluation};
use super::finish::{Figures, threshold_of};
use super::folder::{RunFolder, difference, read_json};
use super::shard::ShardRecord;
use super::{RunOutcome, complete};
use crate::direction;
use shiftlens_api::record::{AuditRecord, FailureRecord, RunRecord};
use shiftlens_api::{Error, Monitor, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A part's folder.
struct Part {
    root: PathBuf,
    run: RunRecord,
    shard: ShardRecord,
}

impl Part {
    fn open(root: &Path) -> Result<Self> {
        let shard = ShardRecord::read(root)?.ok_or_else(|| {
            let what = "the folder holds no part of a run: expected one that `shiftlens run --shard` left";
            Error::Invalid(format!("{}: {what}", root.display()))
        })?;
        let run: RunRecord = read_json(&root.join("run.json"))?;
        if !run.complete {
            return Err(Error::Invalid(format!(
                "{}: part {} is not finished: run it again, it goes on where it was",
                root.display(),
                shard.shard
            )));
        }
        if (shard.cases.len(), shard.failures.len()) != (run.cases.len(), run.failures.len()) {
            return Err(Error::Invalid(format!(
                "{}: shard.json has places for {} cases and {} failures, run.json lists {} and {}: run part {} again",
                root.display(),
                shard.cases.len(),
                shard.failures.len(),
                run.cases.len(),
                run.failures.len(),
                shard.shard
            )));
        }
        Ok(Self { root: root.to_owned(), run, shard })
    }

    /// Why it is of another run than `first`; `None` if it is of the same.
    fn foreign(&self, first: &Self) -> Option<String> {
        if self.run.fingerprint != first.run.fingerprint {
            return Some(difference(&first.run.manifest, &self.run.manifest));
        }
        let (a, b) = (&first.shard, &self.shard);
        if a.shard.parts != b.shard.parts {
            return Some(format!("it is one of {} parts and not of {}", b.shard.parts, a.shard.parts));
        }
        if (a.images, &a.list) != (b.images, &b.list) {
            return Some(format!(
                "it is of another list of images ({} images and {}), or other groups or labels",
                b.images, a.images
            ));
        }
        None
    }
}

/// All parts of one run, each once.
fn open_all(folders: &[PathBuf]) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut problems = Vec::new();
    for folder in folders {
        match Part::open(folder) {
            Ok(part) => parts.push(part),
            Err(e) => problems.push(e.to_string()),
        }
    }
    let mut by_number: BTreeMap<usize, &Path> = BTreeMap::new();
    if let Some(first) = parts.first() {
        for part in &parts {
            if let Some(why) = part.foreign(first) {
                let (a, b) = (part.root.display(), first.root.display());
                problems.push(format!("{a}: the folder is of another run than {b}: {why}"));
            } else if let Some(other) = by_number.insert(part.shard.shard.part, &part.root) {
                let (a, b) = (other.display(), part.root.display());
                problems.push(format!("part {} comes twice: {a} and {b}", part.shard.shard));
            }
        }
        let n = first.shard.shard.parts;
        let missing: Vec<String> =
            (1..=n).filter(|p| !by_number.contains_key(p)).map(|p| format!("{p}/{n}")).collect();
        // A part whose folder is named above is not missing twice.
        if missing.len() > folders.len() - parts.len() {
            problems.push(format!("missing: part {}", missing.join(", ")));
        }
    }
    match problems.len() {
        0 if parts.is_empty() => Err(Error::invalid("no folders of parts are named")),
        0 => {
            parts.sort_by_key(|p| p.shard.shard);
            Ok(parts)
        }
        _ => Err(Error::Invalid(format!("the parts do not make one run\n  {}", problems.join("\n  ")))),
    }
}

/// The folder whose direction all parts have; `None` where the study has none. A part without images has none either.
fn common_direction(parts: &[Part]) -> Result<Option<PathBuf>> {
    let mut found: Option<(PathBuf, Vec<u8>, AuditRecord)> = None;
    for part in parts {
        let folder = part.root.join("direction");
        let path = folder.join("direction.safetensors");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && part.shard.cases.is_empty() => continue,
            Err(e)
                if e.kind() == std::io::ErrorKind::NotFound && part.run.manifest["direction"].is_null() =>
            {
                continue;
            }
            Err(e) => return Err(Error::io(&path, e)),
        };
        let audit = AuditRecord { seconds: 0.0, ..read_json(&folder.join("audit.json"))? };
        match &found {
            None => found = Some((folder, bytes, audit)),
            Some((_, b, a)) if *b == bytes && *a == audit => {}
            Some((other, ..)) => {
                return Err(Error::Invalid(format!(
                    "{}: another direction than in {}: parts that ran on unlike machines may fit unlike directions. \
                     Next: run the parts again with --direction-from {}",
                    folder.display(),
                    other.display(),
                    other.parent().unwrap_or(other).display(),
                )));
            }
        }
    }
    Ok(found.map(|(folder, ..)| folder))
}

/// What a place of the list came to.
enum Place<'a> {
    Case(&'a Part, &'a String),
    Failure(&'a FailureRecord),
}

/// The list, put together from all parts.
fn places(parts: &[Part]) -> Result<Vec<Place<'_>>> {
    let n = parts.first().map_or(0, |p| p.shard.images);
    let mut all: Vec<Option<Place<'_>>> = (0..n).map(|_| None).collect();
    for part in parts {
        let cases = part.shard.cases.iter().zip(&part.run.cases).map(|(i, id)| (*i, Place::Case(part, id)));
        let failures =
            part.shard.failures.iter().zip(&part.run.failures).map(|(i, f)| (*i, Place::Failure(f)));
        for (i, place) in cases.chain(failures) {
            match all.get_mut(i) {
                Some(slot) if slot.is_none() => *slot = Some(place),
                _ => {
                    return Err(Error::Invalid(format!(
                        "{}: image {i} of {n} (counted from 0) is in another part too, or not in the list",
                        part.root.display()
                    )));
                }
            }
        }
    }
    let missing = all.iter().position(Option::is_none);
    if let Some(i) = missing {
        return Err(Error::Invalid(format!("image {i} of {n} (counted from 0) is in none of the parts")));
    }
    Ok(all.into_iter().flatten().collect())
}

/// Joins the runs in `folders`, all parts of one list, into a run in `out`. A merge that was stopped goes on.
///
/// # Errors
/// [`Error::Invalid`] that names every part that is missing, comes twice, is not finished or is of another run; if the
/// parts' directions differ; if `out` holds something else; [`Error::Io`].
pub fn merge(out: &Path, folders: &[PathBuf], force: bool, monitor: &dyn Monitor) -> Result<RunOutcome> {
    let parts = open_all(folders)?;
    let from = common_direction(&parts)?;
    let places = places(&parts)?;
    let first = &parts[0].run;
    let same = |p: &Part| out.canonicalize().is_ok_and(|o| p.root.canonicalize().is_ok_and(|r| r == o));
    if let Some(part) = parts.iter().find(|p| same(p)) {
        let what = "is a part itself: name a folder of its own for the joined run";
        return Err(Error::Invalid(format!("{}: {what}", part.root.display())));
    }
    let folder = RunFolder::open(out, &first.fingerprint, &first.manifest, force)?;
    if ShardRecord::read(out)?.is_some() {
        let what = "the folder holds a part of a run. Next: choose another folder";
        return Err(Error::Invalid(format!("{}: {what}", out.display())));
    }
    folder.unseal()?;
    if folder.read_run().is_some_and(|old| old.manifest["report"] != first.manifest["report"]) {
        folder.remove_outputs()?;
    }
    let mut record = RunRecord {
        complete: false,
        cases: Vec::new(),
        failures: Vec::new(),
        timings: BTreeMap::new(),
        remarks: Vec::new(),
        ..first.clone()
    };
    folder.write_json("run.json", &record)?;
    if let Some(from) = from {
        let home = folder.direction();
        fs::create_dir_all(&home).map_err(|e| Error::io(&home, e))?;
        // As when it was fitted, the tensors come last.
        for name in ["audit.json", "direction.safetensors"] {
            copy(&from.join(name), &home.join(name))?;
        }
    }
    let total = places.len() as u64;
    let mut resumed = 0;
    for (i, place) in places.iter().enumerate() {
        monitor.check()?;
        match place {
            Place::Case(part, id) => {
                resumed += usize::from(!copy_case(&part.root.join("cases").join(id), &folder, id)?);
                record.cases.push((*id).clone());
            }
            Place::Failure(failure) => record.failures.push((*failure).clone()),
        }
        monitor.progress("joining cases", i as u64 + 1, total);
    }
    let found = direction::read(&folder.direction())?;
    let manifest = &first.manifest;
    let figures = Figures {
        alpha: found.as_ref().map(|f| f.direction.alpha()),
        threshold: threshold_of(manifest),
        target: &first.target,
        gated: manifest["trust"].is_object(),
    };
    let metrics = figures.measure(&folder, &record.cases)?;
    folder.write_json("metrics.json", &metrics)?;
    let evaluation = evaluate_all(&parts, &folder, &record)?;
    for part in &parts {
        for (name, seconds) in &part.run.timings {
            *record.timings.entry(name.clone()).or_default() += seconds;
        }
        for remark in &part.run.remarks {
            if !record.remarks.contains(remark) {
                record.remarks.push(remark.clone());
            }
        }
    }
    record.complete = true;
    folder.write_json("run.json", &record)?;
    Ok(RunOutcome {
        folder: out.to_owned(),
        done: record.cases.len(),
        resumed,
        failed_files: parts.iter().flat_map(|p| complete::sealed_sums(&p.root)).collect(),
        failures: record.failures,
        metrics,
        evaluation,
        remarks: record.remarks,
    })
}

/// Compares the explanations of all parts, if the study measures them.
fn evaluate_all(parts: &[Part], folder: &RunFolder, record: &RunRecord) -> Result<Option<StudyEvaluation>> {
    let Some(terms) = evaluate::Terms::of_run(record)? else { return Ok(None) };
    if record.manifest["evaluation"]["randomisation"].is_object() {
        let read = |p: &Part| read_json::<RandomisationRecord>(&p.root.join(evaluate::RANDOMISATION));
        let all = parts.iter().map(read).collect::<Result<Vec<_>>>()?;
        if let Some(all) = evaluate::join(all, &record.cases)? {
            folder.write_json(evaluate::RANDOMISATION, &all)?;
        }
    }
    let evaluation = evaluate::summarise(folder, &terms, &record.cases)?;
    folder.write_json("evaluation.json", &evaluation)?;
    Ok(Some(evaluation))
}

/// Copies a file beside its place and renames it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    fs::copy(from, &part).map_err(|e| Error::io(from, e))?;
    fs::rename(&part, to).map_err(|e| Error::io(to, e))
}

/// Copies a case, if it is not there as it is in the part; true if it was.
fn copy_case(from: &Path, folder: &RunFolder, id: &str) -> Result<bool> {
    let (home, part) = (folder.case(id), folder.temporary(id));
    let record = |case: &Path| {
        let size = fs::metadata(case.join("arrays.safetensors")).ok()?.len();
        Some((fs::read(case.join("case.json")).ok()?, size))
    };
    if record(&home).is_some_and(|there| record(from) == Some(there)) {
        return Ok(false);
    }
    for old in [&part, &home] {
        match fs::remove_dir_all(old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(old, e)),
            _ => {}
        }
    }
    copy_folder(from, &part)?;
    fs::rename(&part, &home).map_err(|e| Error::io(&home, e))?;
    Ok(true)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|e| Error::io(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| Error::io(from, e))? {
        let entry = entry.map_err(|e| Error::io(from, e))?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &place)?;
        } else {
            fs::copy(&path, &place).map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}

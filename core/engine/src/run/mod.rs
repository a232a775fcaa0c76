//! The run: sample, fit, explain every image, write a folder.
//!
//! ```text
//! reader thread --batches--> this thread (encode, synthesise, predict, explain) --cases--> writer threads
//! ```
//! Queues are bounded in bytes, so memory does not depend on the number of images; of finished cases only what the study's
//! figures are made of is read back. Each case is written to a temporary folder and renamed into place: a killed run loses
//! at most the cases in flight, and a second start with the same fingerprint goes on. Images are explained in batches whose
//! borders depend on the list alone, so that a resumed run, and a part of one ([`Shard`]), computes every number exactly as
//! one that was never stopped or cut. [`merge()`] joins the parts' folders.
//!
//! An explainer runs once for each of its classes. The latent space is lent to it for the study's target only, because
//! the direction is fitted to the target's score.

mod case;
mod complete;
mod dry;
pub mod evaluate;
mod explain;
mod figures;
mod fingerprint;
mod finish;
mod fit;
mod folder;
mod merge;
mod pipeline;
mod queue;
mod several;
mod shard;
mod trust;

pub use complete::{Complete, complete, seal};
pub use dry::{Estimate, estimate};
pub use figures::figures;
pub use folder::RunFolder;
pub use merge::merge;
pub use several::{SeveralFolder, is_reserved, read_predictors, same_name};
pub use shard::Shard;

use crate::data::Item;
use crate::direction;
use crate::manifest::{LabelSource, Study};
use crate::registry::{Components, Work};
use case::shown;
use evaluate::{Judge, StudyEvaluation, settled};
use finish::Figures;
use pipeline::{Plan, Worked, explain_all};
use shard::Selection;
use shiftlens_api::record::{CaseWriter, FailureRecord, Metrics, RECORD_SCHEMA, RunRecord};
use shiftlens_api::{Level, Monitor, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub out: PathBuf,
    /// Start anew in a folder that holds another run.
    pub force: bool,
    /// Images explained together.
    pub batch: usize,
    /// Another run whose direction is taken if it was fitted with the same models and settings.
    pub direction_from: Option<DirectionFrom>,
    /// The part of the list to explain; `None` is all of it.
    pub shard: Option<Shard>,
    /// Ids of the images to explain now; none for all. The run's other cases stay as they are.
    pub only: Vec<String>,
    /// Threads that draw and write cases; 0 for half as many as there are cores.
    pub jobs: usize,
}

/// Another run that has a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectionFrom {
    /// Its folder.
    pub run: PathBuf,
    /// It is an error if the direction there was fitted with other models or settings; else one is fitted.
    pub must: bool,
}

impl RunOptions {
    /// Into `out`, all images, with the usual batch.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        let out = out.into();
        Self { out, force: false, batch: 8, direction_from: None, shard: None, only: Vec::new(), jobs: 0 }
    }

    fn writers(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            n => n,
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct RunOutcome {
    /// The run's folder.
    pub folder: PathBuf,
    /// Cases in the folder that belong to this run.
    pub done: usize,
    /// Of those, how many were there already.
    pub resumed: usize,
    /// Images that could not be explained.
    pub failures: Vec<FailureRecord>,
    /// The sha256 of their files by [`FailureRecord::path`]; `None` for one that cannot be read.
    pub failed_files: BTreeMap<String, Option<String>>,
    /// The study's figures.
    pub metrics: Metrics,
    /// How good the explanations are, where the study measures that.
    pub evaluation: Option<StudyEvaluation>,
    /// Lines the user must see.
    pub remarks: Vec<String>,
}

/// Refuses ids of [`RunOptions::only`] that are not in the list.
///
/// # Errors
/// [`shiftlens_api::Error::Invalid`] that names the id and the nearest one of the list.
pub fn check_only(items: &[Item], only: &[String]) -> Result<()> {
    Selection::new(items, None, only).map(|_| ())
}

/// Runs a study on `items` (see [`crate::data::scan`]), the whole list also where only a part of it is to be explained.
///
/// # Errors
/// If the folder belongs to another run, the direction cannot be fitted, a file cannot be written, or the monitor
/// cancels. An image that cannot be explained is a [`FailureRecord`], and the others go on.
pub fn run(
    study: &Study,
    parts: &mut Components,
    items: &[Item],
    options: &RunOptions,
    monitor: &dyn Monitor,
    writer: &dyn CaseWriter,
) -> Result<RunOutcome> {
    let started = Instant::now();
    let clock = parts.clock.clone();
    let before = clock.read();
    let selection = Selection::new(items, options.shard, &options.only)?;
    let resolved = fingerprint::resolved(study, parts);
    let print = fingerprint::of_run(&resolved);
    let folder = RunFolder::open(&options.out, &print, &resolved, options.force)?;
    selection.check_folder(&options.out)?;
    let earlier: Option<RunRecord> = folder.read_run();
    folder.unseal()?;
    if earlier.as_ref().is_some_and(|e| e.manifest["report"] != resolved["report"]) {
        folder.remove_outputs()?;
    }
    let mut record = RunRecord {
        schema: RECORD_SCHEMA,
        name: study.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        complete: false,
        manifest: resolved,
        fingerprint: print,
        target: parts.target.clone(),
        classes: parts.classes.clone(),
        components: parts.records.clone(),
        cases: Vec::new(),
        failures: Vec::new(),
        timings: BTreeMap::new(),
        remarks: parts.remarks.clone(),
    };
    selection.note(&folder, &[], &[])?;
    folder.write_json("run.json", &record)?;

    let here = |i: &usize| selection.mine[*i];
    let mine: Vec<usize> = (0..items.len()).filter(here).collect();
    let found = match mine.is_empty() {
        // A part without images needs no direction.
        true => None,
        false => {
            let from = options.direction_from.as_ref();
            fit::find_direction(study, parts, items, &folder, from, options.batch, monitor)?
        }
    };
    if let Some(found) = &found {
        let mut remarks = direction::remarks(&found.audit);
        if study.direction.as_ref().is_some_and(|d| d.labels == LabelSource::Truth && d.data.is_none()) {
            remarks.push(
                "the direction was fitted on labelled images of this very list: figures of the latent classifier on \
                 them flatter it, the held-out ones in the audit do not"
                    .into(),
            );
        }
        remarks.iter().for_each(|r| monitor.log(Level::Warn, r));
        record.remarks.extend(remarks);
    }
    record.timings.insert("direction".into(), started.elapsed().as_secs_f64());
    // Written before the cases, so that a run that is stopped still says how it was made.
    folder.write_json("run.json", &record)?;

    let explaining = Instant::now();
    // Of the whole list, also in a part: which cases are measured does not depend on how it is cut.
    let judge = Judge::new(study, parts, found.as_ref(), items)?;
    let mut there: Vec<bool> = vec![false; items.len()];
    let measured = |i: usize| judge.as_ref().is_some_and(|j| j.wants(&items[i].id));
    mine.iter().for_each(|i| there[*i] = settled(&folder, &items[*i], measured(*i)));
    let resumed = there.iter().filter(|t| **t).count();
    if resumed > 0 {
        monitor.log(Level::Info, &format!("{resumed} of {} cases are there already", mine.len()));
    }
    let wanted: Vec<bool> = there.iter().zip(&selection.asked).map(|(t, asked)| *asked && !t).collect();
    let batches = selection.batches(options.batch.max(1), &wanted);
    let plan = Plan {
        study,
        found: found.as_ref(),
        judge: judge.as_ref(),
        items,
        batches: &batches,
        wanted: &wanted,
        folder: &folder,
        jobs: options.writers(),
        monitor,
        writer,
    };
    let Worked { failures, seconds } = explain_all(&plan, parts)?;
    let explained = explaining.elapsed().as_secs_f64();
    wanted.iter().zip(&mut there).for_each(|(w, t)| *t |= w);
    failures.iter().for_each(|(i, _)| there[*i] = false);

    // What was not asked about now failed as it did before.
    let known: BTreeMap<String, FailureRecord> =
        earlier.into_iter().flat_map(|e| e.failures).map(|f| (f.path.clone(), f)).collect();
    let mut failed: BTreeMap<usize, FailureRecord> = failures.into_iter().collect();
    for i in mine.iter().filter(|i| !there[**i] && !selection.asked[**i]) {
        if let Some(failure) = known.get(&shown(&items[*i].source())) {
            failed.insert(*i, failure.clone());
        }
    }
    let cases: Vec<usize> = mine.iter().filter(|i| there[**i]).copied().collect();
    record.cases = cases.iter().map(|i| items[*i].id.clone()).collect();
    let figuring = Instant::now();
    let what = Figures {
        alpha: found.as_ref().map(|f| f.direction.alpha()),
        threshold: study.direction.as_ref().map_or(0.5, |d| d.threshold),
        target: &parts.target,
        gated: study.trust.is_some(),
    };
    let metrics = what.measure(&folder, &record.cases)?;
    folder.write_json("metrics.json", &metrics)?;
    let evaluation = match &judge {
        Some(judge) => Some(evaluate::finish(judge, parts, &folder, &record.cases, monitor)?),
        None => None,
    };
    selection.note(&folder, &cases, &failed.keys().copied().collect::<Vec<_>>())?;
    record.complete = cases.len() + failed.len() == mine.len();
    record.failures = failed.into_values().collect();

    let ended = [("explain", explained), ("figures", figuring.elapsed().as_secs_f64())];
    let components =
        clock.read().into_iter().zip(before).map(|((name, now), (_, then))| (name, now.since(then)));
    let components = components.map(|(name, Work { seconds, .. })| (name, seconds));
    let total = [("total", started.elapsed().as_secs_f64())];
    let all = ended.into_iter().chain(seconds).chain(components).chain(total);
    record.timings.extend(all.map(|(name, seconds)| (name.to_owned(), seconds)));
    folder.write_json("run.json", &record)?;
    Ok(RunOutcome {
        folder: options.out.clone(),
        done: record.cases.len(),
        resumed,
        failed_files: complete::sums(items, &record.failures),
        failures: record.failures,
        metrics,
        evaluation,
        remarks: record.remarks,
    })
}

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;

//! The run: sample, fit, explain every image, write a folder.
//!
//! ```text
//! reader thread --chunks--> this thread (encode, synthesise, predict, explain) --cases--> writer thread
//! ```
//! Channels are bounded, so memory is too. Each case is written to a temporary folder and renamed into place: a
//! killed run loses at most the cases in flight, and a second start with the same fingerprint goes on. Images are
//! explained in chunks whose borders depend on the list alone, so that a resumed run computes every number exactly as
//! one that was never stopped.
//!
//! An explainer runs once for each of its classes. The latent space is lent to it for the study's target only, because
//! the direction is fitted to the target's score.

mod case;
mod explain;
mod figures;
mod fingerprint;
mod folder;
mod trust;

pub use figures::figures;
pub use folder::RunFolder;

use crate::data::{self, Item, Reader, View};
use crate::direction::{self, Found, Plan, Sample};
use crate::manifest::{LabelSource, Study};
use crate::registry::Components;
use case::{Explained, finished, write_case};
use explain::explain_group;
use shiftlens_api::record::{
    Case, CaseRecord, CaseWriter, ExplanationRecord, FailureRecord, Metrics, RECORD_SCHEMA, RunRecord,
};
use shiftlens_api::{Error, Images, LatentCodes, Level, Monitor, Result, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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
    /// Another run's folder, whose direction is taken if it was fitted with the same models and settings.
    pub direction_from: Option<PathBuf>,
}

impl RunOptions {
    /// Into `out`, with the usual batch.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), force: false, batch: 8, direction_from: None }
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
    /// The study's figures.
    pub metrics: Metrics,
    /// Lines the user must see.
    pub remarks: Vec<String>,
}

/// Runs a study on `items` (see [`data::scan`]).
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
    let resolved = fingerprint::resolved(study, parts);
    let print = fingerprint::of_run(&resolved);
    let folder = RunFolder::open(&options.out, &print, &resolved, options.force)?;
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
    folder.write_json("run.json", &record)?;

    let found = find_direction(study, parts, items, &folder, options, monitor)?;
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
    let done: BTreeSet<usize> = if items.is_empty() { BTreeSet::new() } else { already_done(&folder, items) };
    if !done.is_empty() {
        monitor.log(Level::Info, &format!("{} of {} cases are there already", done.len(), items.len()));
    }
    let failures = explain_all(
        study,
        parts,
        found.as_ref(),
        items,
        &done,
        &folder,
        options.batch.max(1),
        monitor,
        writer,
    )?;

    let failed: BTreeSet<usize> = failures.iter().map(|(i, _)| *i).collect();
    let mut cases = Vec::new();
    for (i, item) in items.iter().enumerate() {
        if !failed.contains(&i) {
            cases.push(folder.read_case(&item.id)?);
        }
    }
    let threshold = study.direction.as_ref().map_or(0.5, |d| d.threshold);
    let latent = cases
        .iter()
        .map(|c| latent_rank(&folder, c, found.as_ref(), &parts.target))
        .collect::<Result<Vec<_>>>()?;
    let metrics = figures(&cases, &latent, threshold, &parts.target, study.trust.is_some());
    folder.write_json("metrics.json", &metrics)?;
    record.cases = cases.into_iter().map(|c| c.id).collect();
    record.failures = failures.into_iter().map(|(_, f)| f).collect();
    record.complete = true;
    record.timings.insert("explain".into(), explaining.elapsed().as_secs_f64());
    record.timings.insert("total".into(), started.elapsed().as_secs_f64());
    folder.write_json("run.json", &record)?;
    Ok(RunOutcome {
        folder: options.out.clone(),
        done: record.cases.len(),
        resumed: done.len(),
        failures: record.failures,
        metrics,
        remarks: record.remarks,
    })
}

/// `<E(x), α>` of a case's first series about the target. The latent classifier is monotone in it, and it does not saturate as the
/// probability does, so figures that rank cases use it.
fn latent_rank(
    folder: &RunFolder,
    case: &CaseRecord,
    found: Option<&Found>,
    target: &Target,
) -> Result<Option<f64>> {
    let shift = |e: &ExplanationRecord| matches!(e, ExplanationRecord::Shift { .. }) && e.is_about(target);
    let first = case.explanations.iter().position(shift);
    let (Some(first), Some(found)) = (first, found) else { return Ok(None) };
    let code = case::read_code(&folder.case(&case.id), first)?;
    let alpha = found.direction.alpha();
    // A code of W+ has several rows of the direction's size: their mean counts.
    let rows = (code.len() / alpha.len()).max(1) as f64;
    let dot: f64 = code.iter().zip(alpha.iter().cycle()).map(|(w, a)| f64::from(*w) * f64::from(*a)).sum();
    Ok(Some(dot / rows))
}

fn already_done(folder: &RunFolder, items: &[Item]) -> BTreeSet<usize> {
    items.iter().enumerate().filter(|(_, item)| finished(folder, item)).map(|(i, _)| i).collect()
}

/// α: from this run's folder, from another's, or fitted now.
fn find_direction(
    study: &Study,
    parts: &mut Components,
    items: &[Item],
    folder: &RunFolder,
    options: &RunOptions,
    monitor: &dyn Monitor,
) -> Result<Option<Found>> {
    let (Some(spec), true) = (&study.direction, parts.latent.is_some()) else { return Ok(None) };
    let own = spec.data.as_ref().map(data::scan).transpose()?;
    let fitted = own.as_deref().unwrap_or(items);
    let print = fingerprint::of_direction(study, parts, fitted);
    let home = folder.direction();
    let others = options.direction_from.iter().map(|p| p.join("direction"));
    for place in std::iter::once(home.clone()).chain(others) {
        if let Some(found) = direction::load(&place, &print)? {
            monitor.log(Level::Info, &format!("taking the direction from {}", place.display()));
            if place != home {
                direction::save(&home, &found, &print)?;
            }
            return Ok(Some(found));
        }
    }
    let Some(latent) = parts.latent.as_mut() else { return Ok(None) };
    let started = Instant::now();
    let plan = Plan {
        holdout: spec.holdout,
        threshold: spec.threshold,
        decision: spec.threshold,
        seed: spec.seed,
        along: spec.along,
        audit: spec.audit,
    };
    let (generator, encoder) = (latent.generator.as_mut(), latent.encoder.as_mut());
    let (predictor, target, finder) = (parts.predictor.as_mut(), &parts.target, latent.finder.as_mut());
    let view = spec.data.as_ref().unwrap_or(&study.data).view();
    let mut found = match spec.labels {
        LabelSource::Predictor if own.is_some() => {
            let all: Vec<&Item> = fitted.iter().collect();
            let coded = encode(&all, view, encoder, options.batch, monitor)?;
            let what = Some("asking about encoded images");
            let y = direction::score_codes(&coded.codes, generator, predictor, target, what, monitor)?;
            let sample = Sample { values: &y, ..coded.sample("encoded images") };
            let mut ask =
                |w: &LatentCodes| direction::score_codes(w, generator, predictor, target, None, monitor);
            direction::find(finder, sample, plan, Some(&mut ask), monitor)?
        }
        LabelSource::Predictor => {
            let w = generator.sample(spec.samples, spec.seed)?;
            let what = Some("sampling the direction");
            let y = direction::score_codes(&w, generator, predictor, target, what, monitor)?;
            let sample = Sample { codes: &w, values: &y, groups: None, what: "sampled codes" };
            let mut ask =
                |w: &LatentCodes| direction::score_codes(w, generator, predictor, target, None, monitor);
            direction::find(finder, sample, plan, Some(&mut ask), monitor)?
        }
        LabelSource::Truth => {
            let labelled: Vec<&Item> = fitted.iter().filter(|i| i.label.is_some()).collect();
            let coded = encode(&labelled, view, encoder, options.batch, monitor)?;
            let sample = coded.sample("labelled images");
            // The labels are 0 and 1; f changes its mind at its own threshold.
            let plan = Plan { threshold: 0.5, ..plan };
            let mut ask =
                |w: &LatentCodes| direction::score_codes(w, generator, predictor, target, None, monitor);
            direction::find(finder, sample, plan, Some(&mut ask), monitor)?
        }
    };
    found.audit.seconds = started.elapsed().as_secs_f64();
    direction::save(&home, &found, &print)?;
    Ok(Some(found))
}

/// Images that a direction is fitted to.
struct Coded {
    /// E(x)
    codes: LatentCodes,
    /// 1 for a positive label, else 0.
    labels: Vec<f32>,
    groups: Vec<String>,
}

impl Coded {
    fn sample<'a>(&'a self, what: &'a str) -> Sample<'a> {
        Sample { codes: &self.codes, values: &self.labels, groups: Some(&self.groups), what }
    }
}

/// The code, the label and the group of every image; one that cannot be read is left out and named.
fn encode(
    items: &[&Item],
    view: View,
    encoder: &mut dyn shiftlens_api::Encoder,
    batch: usize,
    monitor: &dyn Monitor,
) -> Result<Coded> {
    let (mut codes, mut labels, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader::new(view);
    for (done, chunk) in items.chunks(batch.max(1)).enumerate() {
        monitor.check()?;
        let images: Vec<Result<Images>> = chunk.iter().map(|item| reader.read(&item.source())).collect();
        for (item, w) in chunk.iter().zip(encode_chunk(images, encoder)) {
            match w {
                Ok(w) => {
                    codes.push(w);
                    labels.push(f32::from(u8::from(item.label == Some(true))));
                    groups.push(item.group.clone().unwrap_or_else(|| item.id.clone()));
                }
                Err(e) => monitor.log(Level::Warn, &format!("left out of the direction: {e}")),
            }
        }
        let so_far = (done * batch + chunk.len()) as u64;
        monitor.progress("encoding images for the direction", so_far, items.len() as u64);
    }
    if codes.is_empty() {
        return Err(Error::invalid(
            "direction: no image to fit to could be read, or none has a label: check `data` of [direction] and `labels`",
        ));
    }
    Ok(Coded { codes: LatentCodes::concat(&codes)?, labels, groups })
}

/// The code of every image: of all at once where they are of one shape and nothing fails, else one by one.
fn encode_chunk(
    images: Vec<Result<Images>>,
    encoder: &mut dyn shiftlens_api::Encoder,
) -> Vec<Result<LatentCodes>> {
    if images.iter().all(Result::is_ok) {
        let all: Vec<Images> = images.iter().flatten().cloned().collect();
        if let Ok(codes) = Images::concat(&all).and_then(|x| encoder.encode(&x))
            && codes.len() == all.len()
        {
            return (0..all.len()).map(|i| Ok(codes.slice(i, i + 1))).collect();
        }
    }
    images.into_iter().map(|x| x.and_then(|x| encoder.encode(&x))).collect()
}

/// A chunk of the list, decoded: index, image and sha256 of the file, or why not.
type Chunk = Vec<(usize, Result<(Images, String)>)>;

fn read_chunks(items: &[Item], view: View, chunks: &[std::ops::Range<usize>], out: &SyncSender<Chunk>) {
    let mut reader = Reader::new(view);
    for range in chunks {
        let chunk = range.clone().map(|i| (i, reader.read_hashed(&items[i].source()))).collect();
        if out.send(chunk).is_err() {
            return;
        }
    }
}

fn write_cases(
    cases: &Receiver<(usize, Case, String)>,
    folder: &RunFolder,
    writer: &dyn CaseWriter,
) -> Result<Vec<(usize, FailureRecord)>> {
    let mut failures = Vec::new();
    for (i, mut case, hash) in cases {
        match write_case(folder, &mut case, &hash, writer) {
            Ok(()) => {}
            // A disk that takes no more stops the run; a picture that cannot be drawn does not.
            Err(e @ Error::Io { .. }) => return Err(e),
            Err(e) => failures.push((i, FailureRecord { path: case.record.path, error: e.to_string() })),
        }
    }
    Ok(failures)
}

#[allow(clippy::too_many_arguments)]
fn explain_all(
    study: &Study,
    parts: &mut Components,
    found: Option<&Found>,
    items: &[Item],
    done: &BTreeSet<usize>,
    folder: &RunFolder,
    batch: usize,
    monitor: &dyn Monitor,
    writer: &dyn CaseWriter,
) -> Result<Vec<(usize, FailureRecord)>> {
    let chunks: Vec<std::ops::Range<usize>> = (0..items.len())
        .step_by(batch)
        .map(|from| from..(from + batch).min(items.len()))
        .filter(|r| r.clone().any(|i| !done.contains(&i)))
        .collect();
    let todo = items.len() - done.len();
    let (to_worker, from_reader) = sync_channel::<Chunk>(2);
    let (to_writer, from_worker) = sync_channel::<(usize, Case, String)>(2 * batch);
    let mut failures = std::thread::scope(|scope| {
        let chunks = &chunks;
        scope.spawn(move || read_chunks(items, study.data.view(), chunks, &to_worker));
        let writing = scope.spawn(move || write_cases(&from_worker, folder, writer));
        let worked = work(study, parts, found, items, done, todo, from_reader, to_writer, monitor);
        let written = writing.join().unwrap_or_else(|_| Err(Error::component("case writer", "panicked")));
        // A writer that failed is the reason why the worker could not go on.
        let written = written?;
        let mut failures = worked?;
        failures.extend(written);
        Ok::<_, Error>(failures)
    })?;
    failures.sort_by_key(|(i, _)| *i);
    Ok(failures)
}

#[allow(clippy::too_many_arguments)]
fn work(
    study: &Study,
    parts: &mut Components,
    found: Option<&Found>,
    items: &[Item],
    done: &BTreeSet<usize>,
    todo: usize,
    chunks: Receiver<Chunk>,
    cases: SyncSender<(usize, Case, String)>,
    monitor: &dyn Monitor,
) -> Result<Vec<(usize, FailureRecord)>> {
    let mut failures = Vec::new();
    let mut finished = 0u64;
    for chunk in chunks {
        monitor.check()?;
        let fresh = chunk.iter().filter(|(i, _)| !done.contains(i)).count() as u64;
        let mut groups: Vec<Vec<(usize, Images, String)>> = Vec::new();
        for (i, read) in chunk {
            match read {
                Ok((x, hash)) => match groups.iter_mut().find(|g| g[0].1.shape() == x.shape()) {
                    Some(group) => group.push((i, x, hash)),
                    None => groups.push(vec![(i, x, hash)]),
                },
                Err(e) => failures.push(failure(&items[i], i, &e)),
            }
        }
        for group in groups {
            for (i, answer) in explain_group(study, parts, found, &group, monitor)? {
                match answer {
                    Ok(explained) if !done.contains(&i) => {
                        let (_, x, hash) = &group[explained.index];
                        let case = make_case(study, parts, &items[i], x, explained);
                        if cases.send((i, case, hash.clone())).is_err() {
                            return Ok(failures);
                        }
                    }
                    Ok(_) => {}
                    Err(e) => failures.push(failure(&items[i], i, &e)),
                }
            }
        }
        finished += fresh;
        monitor.progress("explaining images", finished, todo as u64);
    }
    Ok(failures)
}

fn failure(item: &Item, i: usize, e: &Error) -> (usize, FailureRecord) {
    // Readers name the file in front; here the record does.
    let error = e.to_string();
    let own = format!("{}: ", item.source());
    let error = error.strip_prefix(&own).unwrap_or(&error).to_owned();
    (i, FailureRecord { path: case::shown(&item.source()), error })
}

fn make_case(study: &Study, parts: &Components, item: &Item, x: &Images, e: Explained) -> Case {
    let kinds: Vec<String> = study.explainers.iter().map(|e| e.kind.to_string()).collect();
    let score = e.scores[parts.target.class];
    let threshold = study.direction.as_ref().map_or(0.5, |d| d.threshold);
    let records = case::records(&e, x, threshold, &kinds);
    let record = CaseRecord {
        schema: RECORD_SCHEMA,
        id: item.id.clone(),
        path: case::shown(&item.source()),
        synthetic: study.data.synthetic,
        group: item.group.clone(),
        label: item.label,
        metadata: item.metadata.clone(),
        scores: e.scores,
        score,
        explanations: records,
        trust: e.trust,
        evaluation: vec![],
        remarks: vec![],
        pictures: BTreeMap::new(),
    };
    let explanations = e.explanations.into_iter().map(|made| made.explanation).collect();
    Case { id: item.id.clone(), image: x.clone(), explanations, record }
}

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod tests;

//! The stages of a run, and what goes between them.
//!
//! ```text
//! reader thread --batches of images--> this thread (encode, synthesise, predict, explain) --cases--> writer threads
//! ```
//! The models work one call at a time, with as many threads as they like; reading and decoding, drawing pictures, packing
//! and writing fill what they leave idle. Between the stages wait at most [`WAITING`] bytes each, so memory does not depend
//! on the number of images.

use super::case::{self, Explained, write_case};
use super::evaluate::Judge;
use super::explain::explain_group;
use super::folder::RunFolder;
use super::queue::{Drain, Feed, Queue};
use crate::data::{Item, Reader};
use crate::direction::Found;
use crate::manifest::Study;
use crate::registry::Components;
use shiftlens_api::record::{Case, CaseRecord, CaseWriter, ExplanationRecord, FailureRecord, RECORD_SCHEMA};
use shiftlens_api::{Error, Event, Explanation, Images, Monitor, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Most bytes of images, and of cases, that wait between two stages.
const WAITING: usize = 64 << 20;
/// Most batches, and most cases, that wait: small images would otherwise be read far ahead.
const BATCHES: usize = 2;
const CASES: usize = 32;

/// What is to be done.
pub(super) struct Plan<'a> {
    pub study: &'a Study,
    pub found: Option<&'a Found>,
    /// Measures the cases, where the study does.
    pub judge: Option<&'a Judge<'a>>,
    pub items: &'a [Item],
    /// Images that go through the models together.
    pub batches: &'a [Vec<usize>],
    /// True for images whose case is to be written.
    pub wanted: &'a [bool],
    pub folder: &'a RunFolder,
    /// Threads that write cases.
    pub jobs: usize,
    pub monitor: &'a dyn Monitor,
    pub writer: &'a dyn CaseWriter,
}

/// What came of it.
pub(super) struct Worked {
    /// In the order of the list.
    pub failures: Vec<(usize, FailureRecord)>,
    /// Seconds by stage: `read` and `write` are work, of all writers together; `wait-images` and `wait-writers` are the times
    /// in which the models had nothing to do, or nowhere to put it; `evaluate`, where the study measures its explanations, is
    /// what that took.
    pub seconds: Vec<(&'static str, f64)>,
}

/// Wall-clock nanoseconds, added up by several threads.
#[derive(Default)]
struct Watch(AtomicU64);

impl Watch {
    fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let answer = work();
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(spent, Ordering::Relaxed);
        answer
    }
    fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

#[derive(Default)]
struct Watches {
    read: Watch,
    write: Watch,
    images: Watch,
    writers: Watch,
    evaluate: Watch,
}

/// A batch, decoded: index, image and sha256 of the file, or why not.
type Batch = Vec<(usize, Result<(Images, String)>)>;

/// A case, the place of its image in the list, and the sum of its file.
type Finished = (usize, Case, String);

/// Explains all images that are wanted and writes their cases.
///
/// # Errors
/// If a case cannot be written, or the monitor cancels. An image that cannot be explained is a failure among others.
pub(super) fn explain_all(plan: &Plan<'_>, parts: &mut Components) -> Result<Worked> {
    let watches = Watches::default();
    let images: Queue<Batch> = Queue::new(BATCHES, WAITING);
    let cases: Queue<Finished> = Queue::new(CASES, WAITING);
    let mut failures = std::thread::scope(|scope| {
        let watches = &watches;
        let (feed, decoded) = (images.feed(), images.drain());
        scope.spawn(move || read_batches(plan, &feed, watches));
        let made = cases.feed();
        let writing: Vec<_> = (0..plan.jobs.max(1))
            .map(|_| {
                let drain = cases.drain();
                scope.spawn(move || write_cases(plan, &drain, watches))
            })
            .collect();
        let worked = work(plan, parts, &decoded, &made, watches);
        drop((decoded, made));
        let written: Vec<_> = watches.writers.time(|| {
            let joined = writing.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|w| w.unwrap_or_else(|_| Err(Error::component("case writer", "panicked")))).collect()
        });
        // A writer that failed is the reason why the worker could not go on.
        let written = written.into_iter().collect::<Result<Vec<_>>>()?;
        let mut failures: Vec<(usize, FailureRecord)> = written.into_iter().flatten().collect();
        failures.extend(worked?);
        Ok::<_, Error>(failures)
    })?;
    failures.sort_by_key(|(i, _)| *i);
    let Watches { read, write, images, writers, evaluate } = watches;
    let named = [("read", read), ("write", write), ("wait-images", images), ("wait-writers", writers)];
    let measuring = plan.judge.map(|_| ("evaluate", evaluate));
    let seconds = named.into_iter().chain(measuring).map(|(name, watch)| (name, watch.seconds())).collect();
    Ok(Worked { failures, seconds })
}

fn read_batches(plan: &Plan<'_>, out: &Feed<'_, Batch>, watches: &Watches) {
    let mut reader = Reader::new(plan.study.data.view());
    for batch in plan.batches {
        let read: Batch = watches
            .read
            .time(|| batch.iter().map(|&i| (i, reader.read_hashed(&plan.items[i].source()))).collect());
        let bytes = read.iter().filter_map(|(_, x)| x.as_ref().ok()).map(|(x, _)| bytes(x.as_slice())).sum();
        if !out.push(read, bytes) {
            return;
        }
    }
}

fn bytes(values: &[f32]) -> usize {
    std::mem::size_of_val(values)
}

fn write_cases(
    plan: &Plan<'_>,
    cases: &Drain<'_, Finished>,
    watches: &Watches,
) -> Result<Vec<(usize, FailureRecord)>> {
    let mut failures = Vec::new();
    while let Some((i, mut case, hash)) = cases.pop() {
        match watches.write.time(|| write_case(plan.folder, &mut case, &hash, plan.writer)) {
            Ok(()) => plan.monitor.event(&Event::Case {
                id: &case.id,
                score: case.record.score,
                seconds: seconds(&case.record),
            }),
            // A disk that takes no more stops the run; a picture that cannot be drawn does not.
            Err(e @ Error::Io { .. }) => {
                cases.stop();
                return Err(e);
            }
            Err(e) => failures.push((i, failure(plan, i, &e))),
        }
    }
    Ok(failures)
}

/// What the explanations of a case took.
fn seconds(case: &CaseRecord) -> f64 {
    let explained = case.explanations.iter().map(|e| match e {
        ExplanationRecord::Heatmap { seconds, .. } | ExplanationRecord::Shift { seconds, .. } => *seconds,
    });
    explained.sum()
}

fn work(
    plan: &Plan<'_>,
    parts: &mut Components,
    batches: &Drain<'_, Batch>,
    cases: &Feed<'_, Finished>,
    watches: &Watches,
) -> Result<Vec<(usize, FailureRecord)>> {
    let mut failures = Vec::new();
    let todo = plan.wanted.iter().filter(|w| **w).count() as u64;
    let mut done = 0;
    while let Some(batch) = watches.images.time(|| batches.pop()) {
        plan.monitor.check()?;
        done += batch.iter().filter(|(i, _)| plan.wanted[*i]).count() as u64;
        let mut groups: Vec<Vec<(usize, Images, String)>> = Vec::new();
        for (i, read) in batch {
            match read {
                Ok((x, hash)) => match groups.iter_mut().find(|g| g[0].1.shape() == x.shape()) {
                    Some(group) => group.push((i, x, hash)),
                    None => groups.push(vec![(i, x, hash)]),
                },
                Err(e) if plan.wanted[i] => failures.push((i, failure(plan, i, &e))),
                Err(_) => {}
            }
        }
        // What shares a batch only because it did so in the first run, or does in another part, is nobody's case here.
        groups.retain(|group| group.iter().any(|(i, ..)| plan.wanted[*i]));
        for group in groups {
            for (i, answer) in explain_group(plan.study, parts, plan.found, &group, plan.monitor)? {
                match answer {
                    _ if !plan.wanted[i] => {}
                    Ok(explained) => {
                        let (_, x, hash) = &group[explained.index];
                        let sheet = match plan.judge.filter(|j| j.wants(&plan.items[i].id)) {
                            Some(judge) => watches.evaluate.time(|| {
                                judge.case(parts, &plan.items[i], x, &explained, plan.monitor).map(Some)
                            })?,
                            None => None,
                        };
                        let mut case = make_case(plan, parts, &plan.items[i], x, explained);
                        if let Some(sheet) = sheet {
                            (case.record.evaluation, case.record.remarks) = (sheet.values, sheet.remarks);
                            case.arrays = sheet.arrays;
                        }
                        let size = size(&case);
                        let taken = watches.writers.time(|| cases.push((i, case, hash.clone()), size));
                        if !taken {
                            return Ok(failures);
                        }
                    }
                    Err(e) => failures.push((i, failure(plan, i, &e))),
                }
            }
        }
        plan.monitor.progress("explaining images", done, todo);
    }
    Ok(failures)
}

/// Bytes of a case's arrays.
fn size(case: &Case) -> usize {
    let explained = case.explanations.iter().map(|e| match e {
        Explanation::Heatmap { map, .. } => bytes(map.as_slice()),
        Explanation::Shift { series, .. } => bytes(series.images.as_slice()) + bytes(&series.code),
    });
    let further = case.arrays.iter().map(|(_, array)| bytes(array.as_slice()));
    bytes(case.image.as_slice()) + explained.chain(further).sum::<usize>()
}

fn failure(plan: &Plan<'_>, i: usize, e: &Error) -> FailureRecord {
    let item = &plan.items[i];
    // Readers name the file in front; here the record does.
    let error = e.to_string();
    let own = format!("{}: ", item.source());
    let error = error.strip_prefix(&own).unwrap_or(&error).to_owned();
    let record = FailureRecord { path: case::shown(&item.source()), error };
    plan.monitor.event(&Event::Failure { path: &record.path, error: &record.error });
    record
}

fn make_case(plan: &Plan<'_>, parts: &Components, item: &Item, x: &Images, e: Explained) -> Case {
    let study = plan.study;
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
        evaluation: Vec::new(),
        remarks: Vec::new(),
        pictures: BTreeMap::new(),
    };
    let explanations = e.explanations.into_iter().map(|made| made.explanation).collect();
    Case { id: item.id.clone(), image: x.clone(), explanations, record, arrays: Vec::new() }
}

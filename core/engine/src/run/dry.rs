//! What a run will cost, from a few of its images explained in a temporary place.

use super::evaluate::{self, settled};
use super::folder::RunFolder;
use super::shard::Selection;
use super::{DirectionFrom, RunOptions, fingerprint, fit, run};
use crate::data::{self, Item};
use crate::direction;
use crate::manifest::{LabelSource, Study};
use crate::registry::{Components, Work};
use shiftlens_api::record::{CaseWriter, RunRecord};
use shiftlens_api::{Error, Level, Monitor, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Codes, or encoded images, that the sample's direction is fitted to, if the study asks for more; four times as many each
/// time that f says one thing of all of them.
const CODES: usize = 400;

/// What a run will cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Images that are still to be explained, and of how many.
    pub images: (usize, usize),
    /// Images that were explained to find out.
    pub sample: usize,
    /// Seconds to fit the direction; 0 where it is there already, or the study has none.
    pub direction: f64,
    /// Seconds to explain the images.
    pub explain: f64,
    /// Seconds to measure the explanations, where the study does; maps of random weights are not among them.
    pub evaluation: f64,
    /// Seconds to make and compare maps of f with random weights, where the study does; 0 where they are there already.
    pub randomisation: f64,
    /// Bytes of their cases.
    pub bytes: f64,
    /// Most bytes of memory that the sample took, which do not grow with the number of images; `None` where the system does
    /// not say.
    pub memory: Option<u64>,
}

/// Explains some of the images in a temporary folder, and says what all of them will take. `study` is left with the sample's
/// settings.
///
/// # Errors
/// As [`run`]; and if none of the sample's images can be explained.
pub fn estimate(
    study: &mut Study,
    parts: &mut Components,
    items: &[Item],
    options: &RunOptions,
    monitor: &dyn Monitor,
    writer: &dyn CaseWriter,
) -> Result<Estimate> {
    let monitor = &Sampling(monitor);
    let selection = Selection::new(items, options.shard, &options.only)?;
    let asked: Vec<&Item> = (0..items.len()).filter(|i| selection.asked[*i]).map(|i| &items[i]).collect();
    if asked.is_empty() {
        return Err(Error::invalid("no image of the list is asked for: there is nothing to estimate"));
    }
    let chosen = study.evaluation.as_ref().map(|e| evaluate::chosen(e, items)).unwrap_or_default();
    let left = left_to_do(study, parts, options, &asked, &chosen);
    let (todo, wanted) = (left.len(), asked.len());
    let measured = left.iter().filter(|item| chosen.contains(&item.id)).count();
    let compared = to_randomise(study, items, options, &asked, todo);
    if let Some(evaluation) = &mut study.evaluation {
        // The sample is measured whole.
        (evaluation.images, evaluation.randomisation) = (None, None);
    }
    let place = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let at = |name: &str| place.path().join(name);
    let fitted = sample_direction(study, parts, items, options, &at("direction"), monitor)?;
    let (list, shard) = match &fitted.list {
        Some(list) => (list.as_slice(), None),
        None => (items, options.shard),
    };
    let only = if fitted.list.is_none() { options.only.as_slice() } else { &[] };
    let within = Selection::new(list, shard, only)?;
    let batches = within.batches(options.batch.max(1), &within.asked);
    let ids = |batch: &[usize]| -> Vec<String> {
        batch.iter().filter(|i| within.asked[**i]).map(|i| list[*i].id.clone()).collect()
    };
    let (warm, timed) = (ids(&batches[0]), ids(&batches[batches.len() / 2]));
    let mut explain = |name: &str, only: &[String]| {
        let options = RunOptions {
            batch: options.batch,
            jobs: options.jobs,
            direction_from: fitted.run.clone().map(|run| DirectionFrom { run, must: true }),
            only: only.to_vec(),
            ..RunOptions::new(at(name))
        };
        run(study, parts, list, &options, monitor, writer)
    };
    // The first batch warms up: models prepare themselves for the sizes that they meet.
    explain("warm", &warm)?;
    let outcome = explain("timed", &timed)?;
    if outcome.done == 0 {
        let why = outcome.failures.first().map(|f| format!("{}: {}", f.path, f.error)).unwrap_or_default();
        return Err(Error::Invalid(format!("none of the sample's images can be explained: {why}")));
    }
    let record: RunRecord = super::folder::read_json(&at("timed").join("run.json"))?;
    let of = |name: &str| record.timings.get(name).copied();
    let measuring = of("evaluate").unwrap_or(0.0);
    let explaining = of("explain").unwrap_or(f64::NAN) - measuring;
    let each = |total: f64, n: usize| total / outcome.done as f64 * n as f64;
    let randomisation = match compared {
        0 => 0.0,
        n => {
            let (folder, id) = (at("timed"), record.cases[0].as_str());
            evaluate::seconds_to_randomise(study, parts, list, (&folder, id), n, monitor)?
        }
    };
    Ok(Estimate {
        images: (todo, wanted),
        sample: warm.len() + timed.len(),
        direction: fitted.seconds,
        explain: each(explaining, todo),
        evaluation: each(measuring, measured),
        randomisation,
        bytes: each(size(&at("timed").join("cases"))? as f64, todo),
        memory: peak(),
    })
}

/// Hears of progress alone: what a sample warns of, its few codes for one, says nothing of the run.
struct Sampling<'a>(&'a dyn Monitor);

impl Monitor for Sampling<'_> {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, what: &str, done: u64, total: u64) {
        self.0.progress(what, done, total);
    }
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Images that the run's folder has no case of, or none with the values that it is to have.
fn left_to_do<'i>(
    study: &Study,
    parts: &Components,
    options: &RunOptions,
    asked: &[&'i Item],
    chosen: &BTreeSet<String>,
) -> Vec<&'i Item> {
    let print = fingerprint::of_run(&fingerprint::resolved(study, parts));
    let held: Option<RunRecord> = super::folder::read_json(&options.out.join("run.json")).ok();
    if options.force || held.is_none_or(|h| h.fingerprint != print) {
        return asked.to_vec();
    }
    match RunFolder::locked(&options.out) {
        Some(folder) => {
            let open = |item: &&&Item| !settled(&folder, item, chosen.contains(&item.id));
            asked.iter().filter(open).copied().collect()
        }
        None => asked.to_vec(),
    }
}

/// How many of the images asked for have still to be compared with their maps of random weights.
fn to_randomise(study: &Study, items: &[Item], options: &RunOptions, asked: &[&Item], todo: usize) -> usize {
    let there = todo == 0 && !options.force && options.out.join(evaluate::RANDOMISATION).is_file();
    let chosen = study.evaluation.as_ref().filter(|_| !there).map(|e| evaluate::randomised(e, items));
    chosen.map_or(0, |ids| asked.iter().filter(|item| ids.contains(&item.id)).count())
}

/// A direction for the sample.
struct Fitted {
    /// What the study's own will take.
    seconds: f64,
    /// The run that has it.
    run: Option<PathBuf>,
    /// The images that it was fitted to, where these are some of the list: it counts as the direction of no other list.
    list: Option<Vec<Item>>,
}

/// The study's own direction where it is fitted already, else one of a few codes in `place`.
fn sample_direction(
    study: &mut Study,
    parts: &mut Components,
    items: &[Item],
    options: &RunOptions,
    place: &Path,
    monitor: &dyn Monitor,
) -> Result<Fitted> {
    let Some(spec) = &study.direction else { return Ok(Fitted { seconds: 0.0, run: None, list: None }) };
    let own = spec.data.as_ref().map(data::scan).transpose()?;
    let print = fingerprint::of_direction(study, parts, own.as_deref().unwrap_or(items));
    let others = options.direction_from.iter().map(|f| &f.run);
    for run in std::iter::once(&options.out).chain(others) {
        if direction::load(&run.join("direction"), &print)?.is_some() {
            return Ok(Fitted { seconds: 0.0, run: Some(run.clone()), list: None });
        }
    }
    let labelled: Vec<&Item> = match (spec.labels, &own) {
        (LabelSource::Truth, None) => items.iter().filter(|item| item.label.is_some()).collect(),
        _ => Vec::new(),
    };
    let all = match (&own, labelled.len()) {
        (Some(own), _) => own.len(),
        (None, 0) => spec.samples,
        (None, n) => n,
    };
    let mut few = CODES.min(all);
    loop {
        shrink(study, few);
        let some = || (0..few).map(|i| labelled[i * labelled.len() / few].clone()).collect::<Vec<_>>();
        let list = (!labelled.is_empty()).then(some);
        let (started, before) = (Instant::now(), asked(parts));
        let resolved = fingerprint::resolved(study, parts);
        let folder = RunFolder::open(place, &fingerprint::of_run(&resolved), &resolved, true)?;
        let seen = list.as_deref().unwrap_or(items);
        match fit::find_direction(study, parts, seen, &folder, None, options.batch, monitor) {
            // One class only, or too few of the other.
            Err(Error::Invalid(_)) if few < all => few = (4 * few).min(all),
            Err(e) => return Err(e),
            Ok(_) => {
                let total = started.elapsed().as_secs_f64();
                let (seconds, calls) = asked(parts);
                let (seconds, calls) = (seconds - before.0, (calls - before.1) as f64);
                // Each further code goes through E or G once, and most through f; the audit's questions stay as many. Fitting
                // goes by the number of codes.
                let more = (all - few) as f64;
                let asking = seconds + seconds / calls.max(1.0) * 2.0 * more;
                let fitting = (total - seconds).max(0.0) * all as f64 / few as f64;
                return Ok(Fitted { seconds: asking + fitting, run: Some(place.to_owned()), list });
            }
        }
    }
}

/// Seconds and images of E, G and f so far.
fn asked(parts: &Components) -> (f64, u64) {
    let work = parts.clock.read().into_iter().filter(|(name, _)| *name != "gradients");
    work.fold((0.0, 0), |(s, n), (_, Work { seconds, images })| (s + seconds, n + images))
}

/// Fits the direction to `few` codes.
fn shrink(study: &mut Study, few: usize) {
    if let Some(spec) = &mut study.direction {
        spec.samples = spec.samples.min(few);
        if let Some(data) = &mut spec.data {
            data.limit = Some(data.limit.unwrap_or(few).min(few));
        }
    }
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let meta = entry.metadata().map_err(|e| Error::io(entry.path(), e))?;
        total += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}

/// Most resident memory of this process so far, where the system says so (Linux, `VmHWM`).
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

//! What a run is around the engine's work: what is said, what is made of the folder, when there is nothing to do.

mod screen;
mod several;

pub use several::{Run as SeveralRun, dry as dry_several, run as run_several};

use crate::Done;
use crate::args::{Merge, Voice};
use crate::failure::Failure;
use crate::progress::duration;
use screen::Screen;
use serde_json::json;
use shiftlens_api::Error;
use shiftlens_api::record::Metrics;
use shiftlens_engine::Study;
use shiftlens_engine::run::{self, Complete, Estimate, RunOptions, RunOutcome};
use shiftlens_report::Pictures;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The page that people open.
const PAGE: &str = "report.html";

/// Runs a study and writes what is made of it.
pub fn run(study: &Study, options: &RunOptions, voice: Voice) -> Done {
    let screen = Screen::new(voice);
    screen.end(run_on(study, options, &screen)).map(|_| ())
}

/// True if there was nothing to do.
fn run_on(study: &Study, options: &RunOptions, screen: &Screen) -> Result<bool, Failure> {
    let started = Instant::now();
    let items = study.items()?;
    run::check_only(&items, &options.only).map_err(|e| Failure::Usage(format!("--only: {e}")))?;
    screen.tell(
        "started",
        json!({
            "study": study.name,
            "folder": options.out.display().to_string(),
            "images": items.len(),
            "shard": options.shard.map(|s| s.to_string()),
            "version": env!("CARGO_PKG_VERSION"),
        }),
    );
    if let Some(Complete { outcome, sealed }) = run::complete(study, &items, options) {
        let report = match sealed {
            true => study.report.html.then(|| outcome.folder.join(PAGE)),
            false => write_outputs(&outcome)?,
        };
        conclude(&outcome, report.as_deref(), started, sealed, screen)?;
        return Ok(sealed);
    }
    let mut parts = study.load()?;
    let writer = Pictures { gif: study.report.gif, apng: study.report.apng };
    let outcome = run::run(study, &mut parts, &items, options, screen.monitor(), &writer)?;
    let report = write_outputs(&outcome)?;
    conclude(&outcome, report.as_deref(), started, false, screen)?;
    Ok(false)
}

/// `shiftlens merge`.
pub fn merge(a: &Merge) -> Done {
    let screen = Screen::new(a.voice);
    if let Some(done) = several::merge(a, &screen) {
        return screen.end(done);
    }
    screen.end(merge_into(&a.out, &a.shards, a.force, &screen))
}

fn merge_into(out: &Path, shards: &[PathBuf], force: bool, screen: &Screen) -> Done {
    let started = Instant::now();
    let parts: Vec<String> = shards.iter().map(|p| p.display().to_string()).collect();
    screen.tell("started", json!({ "folder": out.display().to_string(), "parts": parts }));
    let outcome = run::merge(out, shards, force, screen.monitor())?;
    let report = write_outputs(&outcome)?;
    conclude(&outcome, report.as_deref(), started, false, screen)
}

/// Makes of the folder what its manifest asks for, and seals it; answers the report's path.
fn write_outputs(outcome: &RunOutcome) -> Result<Option<PathBuf>, Failure> {
    let written = shiftlens_report::write_outputs(&outcome.folder)?;
    let below = |path: &PathBuf| path.strip_prefix(&outcome.folder).unwrap_or(path).display().to_string();
    run::seal(outcome, &written.iter().map(below).collect::<Vec<_>>())?;
    Ok(written.into_iter().find(|path| path.ends_with(PAGE)))
}

/// The last word: how many images, the figures, where the report is.
fn conclude(
    outcome: &RunOutcome,
    report: Option<&Path>,
    started: Instant,
    before: bool,
    screen: &Screen,
) -> Done {
    match screen {
        Screen::Person(progress) => {
            progress.finish();
            summary(outcome, report, before);
        }
        Screen::Program(events) => events.tell(
            "finished",
            json!({
                "folder": outcome.folder.display().to_string(),
                "cases": outcome.done,
                "resumed": outcome.resumed,
                "failed": outcome.failures.len(),
                "nothing_to_do": before,
                "seconds": started.elapsed().as_secs_f64(),
                "metrics": outcome.metrics.values,
                "evaluation": outcome.evaluation.as_ref().map(run::evaluate::StudyEvaluation::means),
                "report": report.map(|r| r.display().to_string()),
            }),
        ),
    }
    if outcome.done == 0 && !outcome.failures.is_empty() {
        let n = outcome.failures.len();
        return Err(Failure::Work(Error::Invalid(format!("none of {n} images could be explained"))));
    }
    Ok(())
}

fn summary(outcome: &RunOutcome, report: Option<&Path>, before: bool) {
    for f in &outcome.failures {
        eprintln!("warning: {}: {}", f.path, f.error);
    }
    let (done, failed) = (outcome.done, outcome.failures.len());
    if before {
        println!("nothing to do: the run is complete, {done} images explained, {failed} failed");
    } else {
        let resumed = match outcome.resumed {
            0 => String::new(),
            n => format!(" ({n} were there already)"),
        };
        println!("{done} images explained{resumed}, {failed} failed");
        print_metrics(&outcome.metrics);
        if let Some(evaluation) = &outcome.evaluation {
            print!("{evaluation}");
        }
    }
    match report {
        Some(path) => println!("report: {}", path.display()),
        None => println!("results: {}", outcome.folder.display()),
    }
}

fn print_metrics(metrics: &Metrics) {
    for m in metrics.values.values() {
        if let Some(value) = m.value {
            println!("  {value:>7.3}  {} (n = {})", m.title, m.n);
        }
    }
}

/// Says what a run will cost.
pub fn dry(mut study: Study, options: &RunOptions, voice: Voice) -> Done {
    let screen = Screen::new(voice);
    screen.end(dry_on(&mut study, options, &screen)).map(|_| ())
}

/// Seconds in all, and what they are made of.
fn dry_on(study: &mut Study, options: &RunOptions, screen: &Screen) -> Result<(f64, Estimate), Failure> {
    let started = Instant::now();
    let items = study.items()?;
    run::check_only(&items, &options.only).map_err(|e| Failure::Usage(format!("--only: {e}")))?;
    let mut parts = study.load()?;
    let load = started.elapsed().as_secs_f64();
    let writer = Pictures { gif: study.report.gif, apng: study.report.apng };
    let e = run::estimate(study, &mut parts, &items, options, screen.monitor(), &writer)?;
    let total = load + e.direction + e.explain + e.evaluation + e.randomisation;
    match screen {
        Screen::Person(progress) => {
            progress.finish();
            let (left, all) = e.images;
            println!("{left} of {all} images to explain, by a sample of {}:", e.sample);
            let mut parts = vec![("models", load), ("direction", e.direction), ("images", e.explain)];
            if study.evaluation.is_some() {
                parts.push(("evaluation", e.evaluation));
            }
            if e.randomisation > 0.0 {
                parts.push(("random weights", e.randomisation));
            }
            let shown: Vec<String> =
                parts.iter().map(|(what, s)| format!("{what} {}", duration(*s))).collect();
            println!("  time    {}: {}", duration(total), shown.join(", "));
            println!("  disk    {} in cases, without the report", bytes(e.bytes));
            match e.memory {
                Some(peak) => println!("  memory  {}, whatever the number of images", bytes(peak as f64)),
                None => println!("  memory  not known: this system does not say"),
            }
        }
        Screen::Program(events) => events.tell(
            "estimate",
            json!({
                "to_do": e.images.0,
                "images": e.images.1,
                "sample": e.sample,
                "seconds": total,
                "seconds_models": load,
                "seconds_direction": e.direction,
                "seconds_images": e.explain,
                "seconds_evaluation": e.evaluation,
                "seconds_randomisation": e.randomisation,
                "bytes_disk": e.bytes,
                "bytes_memory": e.memory,
            }),
        ),
    }
    Ok((total, e))
}

/// In units of 1000, as disks are sold.
fn bytes(n: f64) -> String {
    match n {
        n if n < 1e6 => format!("{:.0} kB", n / 1e3),
        n if n < 1e9 => format!("{:.0} MB", n / 1e6),
        n => format!("{:.1} GB", n / 1e9),
    }
}

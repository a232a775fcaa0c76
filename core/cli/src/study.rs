//! `run`, `explain` and `check`.

use crate::Done;
use crate::args::{self, Output};
use crate::failure::Failure;
use crate::progress::Progress;
use shiftlens_api::record::Metrics;
use shiftlens_engine::data::{Reader, census};
use shiftlens_engine::run::{RunOptions, RunOutcome, run as run_study};
use shiftlens_engine::{Components, Study};
use shiftlens_report::{Pictures, write_outputs};
use std::path::{Path, PathBuf};

/// `shiftlens run`.
pub fn run(a: &args::Run) -> Done {
    let mut study = open(&a.study)?;
    if let Some(images) = &a.images {
        study.set_images(images);
    }
    if let Some(limit) = a.limit {
        study.data.limit = Some(limit as usize);
    }
    let out = a.output.out.clone().unwrap_or_else(|| default_out(&a.study.manifest, ""));
    let options = RunOptions { force: a.output.force, ..RunOptions::new(out) };
    go(&study, &options)
}

/// `shiftlens explain`.
pub fn explain(a: &args::Explain) -> Done {
    let mut study = open(&a.study)?;
    if let Some(missing) = a.images.iter().find(|p| !p.is_file()) {
        return Err(Failure::Usage(format!(
            "{}: no such file; `explain` takes image files, `run --images` a folder",
            missing.display()
        )));
    }
    study.set_files(a.images.clone());
    let Output { out, force } = &a.output;
    let out = out.clone().unwrap_or_else(|| default_out(&a.study.manifest, "-explain"));
    let options = RunOptions {
        force: *force,
        // The direction of the study's own run serves here too.
        direction_from: Some(default_out(&a.study.manifest, "")),
        ..RunOptions::new(out)
    };
    go(&study, &options)
}

pub fn open(a: &args::Study) -> Result<Study, Failure> {
    Ok(Study::open(&a.manifest, &a.set)?)
}

/// `runs/<manifest's stem><suffix>` in the current folder.
pub fn default_out(manifest: &Path, suffix: &str) -> PathBuf {
    let stem = manifest.file_stem().map_or("study".into(), |s| s.to_string_lossy());
    Path::new("runs").join(format!("{stem}{suffix}"))
}

fn go(study: &Study, options: &RunOptions) -> Done {
    let progress = Progress::new();
    let items = study.items()?;
    let mut parts = study.load()?;
    let writer = Pictures { gif: study.report.gif, apng: study.report.apng };
    let outcome = run_study(study, &mut parts, &items, options, &progress, &writer);
    progress.finish();
    let outcome = outcome?;
    let files = write_outputs(&outcome.folder)?;
    let report = files.into_iter().find(|f| f.ends_with("report.html"));
    summary(&outcome, report.as_deref());
    if outcome.done == 0 {
        eprintln!("error: none of {} images could be explained", outcome.failures.len());
        return Err(Failure::Said);
    }
    Ok(())
}

fn summary(outcome: &RunOutcome, report: Option<&Path>) {
    for f in &outcome.failures {
        eprintln!("warning: {}: {}", f.path, f.error);
    }
    let resumed = match outcome.resumed {
        0 => String::new(),
        n => format!(" ({n} were there already)"),
    };
    println!("{} images explained{resumed}, {} failed", outcome.done, outcome.failures.len());
    print_metrics(&outcome.metrics);
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

/// `shiftlens check`.
pub fn check(a: &args::Check) -> Done {
    let study = open(&a.study)?;
    println!("{}: \"{}\"", study.path.display(), study.name);
    let items = study.items()?;
    let count = census(&items);
    println!("\nimages    {}", count.images);
    if study.data.labels.is_some() {
        let unlabelled = count.images - count.positive - count.negative;
        println!("labels    {} positive, {} negative, {unlabelled} without", count.positive, count.negative);
        if count.positive + count.negative == 0 {
            println!("          no image has a label: figures against labels will be missing");
        }
    }
    if study.data.group.is_some() {
        println!("groups    {} ({} images without)", count.groups, count.ungrouped);
    }
    match Reader::new(study.data.view()).read(&items[0].source()) {
        Ok(x) => {
            let ((h, w), path) = (x.size(), items[0].source());
            println!("first     {path} ({w}x{h}, {})", if x.channels() == 1 { "grey" } else { "RGB" });
        }
        Err(e) => println!("first     cannot be read; a run reports such images and goes on: {e}"),
    }
    let parts = study.load()?;
    print_parts(&study, &parts);
    println!("\nthe study is ready: shiftlens run {}", study.path.display());
    Ok(())
}

fn print_parts(study: &Study, parts: &Components) {
    println!();
    for r in &parts.records {
        let path = r.path.as_deref().map(|p| format!(" {p}")).unwrap_or_default();
        println!("{:<9} {}{path}: {}", r.role, r.kind, r.backend);
        for line in [&r.detail, &r.sha256.as_ref().map(|s| format!("sha256 {s}")).unwrap_or_default()] {
            if !line.is_empty() {
                println!("          {line}");
            }
        }
    }
    if let Some(d) = &study.direction {
        println!("samples   {} with seed {}, {:.0} % held out", d.samples, d.seed, 100.0 * d.holdout);
    }
    println!("target    {} (class {} of {})", parts.target.name, parts.target.class, parts.classes.len());
    if !parts.remarks.is_empty() {
        println!("\ninferred:");
        parts.remarks.iter().for_each(|r| println!("  {r}"));
    }
}

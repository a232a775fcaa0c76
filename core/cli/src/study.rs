//! `run`, `explain` and `check`.

use crate::args::{self, Output, Voice};
use crate::failure::Failure;
use crate::{Done, job};
use shiftlens_engine::data::{Item, Reader, census};
use shiftlens_engine::manifest::{Named, Studies};
use shiftlens_engine::nearest::suggest;
use shiftlens_engine::run::{DirectionFrom, RunOptions};
use shiftlens_engine::{Components, ManifestError, Study};
use std::path::{Path, PathBuf};

/// The studies that a command is about.
pub enum Asked {
    /// `[predictor]`.
    One(Box<Study>),
    /// Those of `[[predictor]]` that are asked for, and the names of all.
    Several { names: Vec<String>, studies: Vec<Named> },
}

impl Asked {
    fn studies(&mut self) -> Vec<&mut Study> {
        match self {
            Self::One(study) => vec![study],
            Self::Several { studies, .. } => studies.iter_mut().map(|n| &mut n.study).collect(),
        }
    }

    /// Runs what is asked for.
    fn run(self, options: RunOptions, voice: Voice, dry: bool) -> Done {
        match (self, dry) {
            (Self::One(study), false) => job::run(&study, &options, voice),
            (Self::One(study), true) => job::dry(*study, &options, voice),
            (Self::Several { names, studies }, false) => {
                job::run_several(&job::SeveralRun { names, studies, options }, voice)
            }
            (Self::Several { names, studies }, true) => {
                job::dry_several(job::SeveralRun { names, studies, options }, voice)
            }
        }
    }
}

/// Opens a manifest, and takes the predictor that is asked for.
pub fn open(a: &args::Study) -> Result<Asked, Failure> {
    let manifest = a.manifest.display();
    match (Studies::open(&a.manifest, &a.set)?, &a.predictor) {
        (Studies::One(study), None) => Ok(Asked::One(study)),
        (Studies::One(_), Some(name)) => {
            let what = "the manifest has one [predictor], which has no name: leave --predictor out";
            Err(Failure::Usage(format!("--predictor {name}: {manifest}: {what}")))
        }
        (Studies::Several(mut studies), asked) => {
            let names: Vec<String> = studies.iter().map(|n| n.name.clone()).collect();
            if let Some(name) = asked {
                studies.retain(|n| n.name == *name);
                if studies.is_empty() {
                    let help = suggest(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
                    return Err(Failure::Usage(format!(
                        "--predictor {name}: {manifest} has none of that name; {help}"
                    )));
                }
            }
            Ok(Asked::Several { names, studies })
        }
    }
}

/// Opens a manifest for a command that is about one predictor.
pub fn open_one(a: &args::Study, command: &str) -> Result<Study, Failure> {
    match open(a)? {
        Asked::One(study) => Ok(*study),
        Asked::Several { mut studies, .. } if studies.len() == 1 => Ok(studies.remove(0).study),
        Asked::Several { names, .. } => Err(Failure::Usage(format!(
            "{}: the manifest has several predictors, and `{command}` is about one: name it with --predictor ({})",
            a.manifest.display(),
            names.join(", ")
        ))),
    }
}

/// `shiftlens run`.
pub fn run(a: &args::Run) -> Done {
    let mut asked = open(&a.study)?;
    for study in asked.studies() {
        if let Some(images) = &a.images {
            study.set_images(images);
        }
        if let Some(limit) = a.limit {
            study.data.limit = Some(limit as usize);
        }
    }
    let out = a.output.out.clone().unwrap_or_else(|| default_out(&a.study.manifest, ""));
    let options = RunOptions {
        force: a.output.force,
        shard: a.shard,
        only: a.only.clone(),
        direction_from: a.direction_from.clone().map(|run| DirectionFrom { run, must: true }),
        jobs: a.pace.jobs.map_or(0, usize::from),
        ..RunOptions::new(out)
    };
    asked.run(options, a.pace.voice, a.dry_run)
}

/// `shiftlens explain`.
pub fn explain(a: &args::Explain) -> Done {
    let mut asked = open(&a.study)?;
    if let Some(missing) = a.images.iter().find(|p| !p.is_file()) {
        return Err(Failure::Usage(format!(
            "{}: no such file; `explain` takes image files, `run --images` a folder",
            missing.display()
        )));
    }
    asked.studies().into_iter().for_each(|study| study.set_files(a.images.clone()));
    let Output { out, force } = &a.output;
    let out = out.clone().unwrap_or_else(|| default_out(&a.study.manifest, "-explain"));
    let options = RunOptions {
        force: *force,
        // The direction of the study's own run serves here too.
        direction_from: Some(DirectionFrom { run: default_out(&a.study.manifest, ""), must: false }),
        jobs: a.pace.jobs.map_or(0, usize::from),
        ..RunOptions::new(out)
    };
    asked.run(options, a.pace.voice, false)
}

/// `runs/<manifest's stem><suffix>` in the current folder.
pub fn default_out(manifest: &Path, suffix: &str) -> PathBuf {
    let stem = manifest.file_stem().map_or("study".into(), |s| s.to_string_lossy());
    Path::new("runs").join(format!("{stem}{suffix}"))
}

/// `shiftlens check`.
pub fn check(a: &args::Check) -> Done {
    let asked = open(&a.study)?;
    let named: Vec<(Option<&str>, &Study)> = match &asked {
        Asked::One(study) => vec![(None, &**study)],
        Asked::Several { studies, .. } => studies.iter().map(|n| (Some(n.name.as_str()), &n.study)).collect(),
    };
    // All that is missing, for whichever predictor, before a model is opened.
    if let Some(missing) = ManifestError::joined(named.iter().filter_map(|(_, s)| s.check_files().err())) {
        return Err(missing.into());
    }
    let first = named[0].1;
    println!("{}: \"{}\"", first.path.display(), first.name);
    print_images(first, &first.items()?);
    let mut wrong = Vec::new();
    for (name, study) in named {
        if let Some(name) = name {
            println!("\npredictor \"{name}\"");
        }
        // Dropped before the next one's are loaded.
        match study.load() {
            Ok(parts) => print_parts(study, &parts),
            Err(e) => wrong.push(e),
        }
    }
    if let Some(wrong) = ManifestError::joined(wrong) {
        return Err(wrong.into());
    }
    println!("\nthe study is ready: shiftlens run {}", a.study.manifest.display());
    Ok(())
}

fn print_images(study: &Study, items: &[Item]) {
    let count = census(items);
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

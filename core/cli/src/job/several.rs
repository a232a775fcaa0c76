//! The same for each of several predictors, one after another, and what is made of all their runs.

use super::screen::Screen;
use super::{PAGE, bytes, dry_on, merge_into, run_on};
use crate::Done;
use crate::args::{Merge, Voice};
use crate::failure::Failure;
use crate::progress::duration;
use serde_json::{Map, json};
use shiftlens_api::record::{
    COMPARISON_FILE, ComparisonRecord, PREDICTORS_FILE, PredictorsRecord, RECORD_SCHEMA,
};
use shiftlens_engine::ManifestError;
use shiftlens_engine::manifest::Named;
use shiftlens_engine::run::{DirectionFrom, RunOptions, SeveralFolder, read_predictors};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is to be run.
#[derive(Debug)]
pub struct Run {
    /// Names of all predictors of the manifest.
    pub names: Vec<String>,
    /// The studies of those that are asked for, at least one.
    pub studies: Vec<Named>,
    /// Where to, and how: folders are those above the predictors'.
    pub options: RunOptions,
}

impl Run {
    fn record(&self) -> PredictorsRecord {
        let study = &self.studies[0].study;
        PredictorsRecord {
            schema: RECORD_SCHEMA,
            name: study.name.clone(),
            predictors: self.names.clone(),
            report: json!(study.report),
        }
    }

    /// The options of one predictor's run.
    fn options(&self, name: &str) -> RunOptions {
        let from = self.options.direction_from.as_ref();
        RunOptions {
            out: self.options.out.join(name),
            direction_from: from.map(|f| DirectionFrom { run: f.run.join(name), must: f.must }),
            ..self.options.clone()
        }
    }

    /// Looks for the files of all studies before one of them runs.
    fn check_files(&self) -> Done {
        let missing = self.studies.iter().filter_map(|n| n.study.check_files().err());
        ManifestError::joined(missing).map_or(Ok(()), |e| Err(e.into()))
    }
}

/// Runs the studies one after another: what a predictor needed is dropped before the next one is loaded.
pub fn run(run: &Run, voice: Voice) -> Done {
    let screen = Screen::new(voice);
    let all = || -> Done {
        run.check_files()?;
        if let Some(from) = run.options.direction_from.as_ref().filter(|f| f.must)
            && read_predictors(&from.run)?.is_none()
        {
            let what = "no runs of several predictors, expected the folder of such a run";
            return Err(Failure::Usage(format!("--direction-from {}: {what}", from.run.display())));
        }
        let names: Vec<&str> = run.studies.iter().map(|n| n.name.as_str()).collect();
        each(&run.options.out, run.record(), run.options.force, &names, &screen, |i, _| {
            let Named { name, study } = &run.studies[i];
            run_on(study, &run.options(name), &screen)
        })
    };
    screen.end(all())
}

/// Joins parts that are folders of several predictors; `None` if they are not.
pub(super) fn merge(a: &Merge, screen: &Screen) -> Option<Done> {
    let several = |p: &PathBuf| p.join(PREDICTORS_FILE).is_file();
    if !a.shards.iter().any(several) {
        return None;
    }
    let all = || -> Done {
        let mut record: Option<(PredictorsRecord, &Path)> = None;
        for part in &a.shards {
            let Some(found) = read_predictors(part)? else {
                let what = "a run of a single predictor, the other parts hold runs of several";
                return Err(Failure::Usage(format!("{}: {what}", part.display())));
            };
            let (first, of) = record.get_or_insert_with(|| (found.clone(), part));
            if found.predictors != first.predictors {
                return Err(Failure::Usage(format!(
                    "{}: it holds predictors {}, {} holds {}",
                    part.display(),
                    found.predictors.join(", "),
                    of.display(),
                    first.predictors.join(", ")
                )));
            }
        }
        let Some((record, _)) = record else { unreachable!("a part is of several predictors") };
        let names = record.predictors.clone();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        each(&a.out, record, a.force, &names, screen, |i, out| {
            let parts: Vec<PathBuf> = a.shards.iter().map(|p| p.join(names[i])).collect();
            merge_into(out, &parts, a.force, screen).map(|()| false)
        })
    };
    Some(all())
}

/// Does `work` (place of the predictor, its folder; true if there was nothing to do) for each predictor, and makes of the runs what the
/// record asks for. A predictor that fails does not keep the others from being done.
fn each(
    out: &Path,
    record: PredictorsRecord,
    force: bool,
    names: &[&str],
    screen: &Screen,
    mut work: impl FnMut(usize, &Path) -> Result<bool, Failure>,
) -> Done {
    let started = Instant::now();
    let folder = SeveralFolder::open(out, record, force)?;
    let (mut failed, mut nothing, mut unusable) = (Vec::new(), true, true);
    for (i, name) in names.iter().copied().enumerate() {
        screen.turn_to(Some(name));
        if let Screen::Person(_) = screen {
            println!("{}predictor {name} ({} of {})", if i > 0 { "\n" } else { "" }, i + 1, names.len());
        }
        match screen.end_one(work(i, &folder.run(name))) {
            Ok(before) => (nothing, unusable) = (nothing && before, false),
            Err(e) => {
                (nothing, unusable) = (false, unusable && e.unusable());
                failed.push(name);
            }
        }
    }
    screen.turn_to(None);
    if failed.len() == names.len() {
        screen.tell("failed", json!({ "error": format!("all of {} predictors failed", names.len()) }));
        return Err(Failure::Said { unusable });
    }
    let before = nothing && folder.sealed();
    let written = if before { page_of(out).into_iter().collect() } else { finish(&folder, out)? };
    let page = written.iter().find(|path| path.ends_with(PAGE));
    conclude(out, names, &failed, page, started, before, screen)?;
    if failed.is_empty() { Ok(()) } else { Err(Failure::Said { unusable: false }) }
}

/// The page that is there already, if there is one.
fn page_of(out: &Path) -> Option<PathBuf> {
    let page = out.join(PAGE);
    page.is_file().then_some(page)
}

/// Compares the runs, writes what the record asks for, and seals the folder.
fn finish(folder: &SeveralFolder, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    folder.unseal()?;
    folder.compare()?;
    let written = shiftlens_report::write_comparison(out)?;
    let below = |path: &PathBuf| path.strip_prefix(out).unwrap_or(path).display().to_string();
    let files = written.iter().map(below).chain([COMPARISON_FILE.to_owned()]);
    folder.seal(files.collect())?;
    Ok(written)
}

/// The last word.
fn conclude(
    out: &Path,
    names: &[&str],
    failed: &[&str],
    page: Option<&PathBuf>,
    started: Instant,
    before: bool,
    screen: &Screen,
) -> Done {
    let path = out.join(COMPARISON_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| shiftlens_api::Error::io(&path, e))?;
    let comparison: ComparisonRecord = serde_json::from_str(&text)
        .map_err(|e| shiftlens_api::Error::Invalid(format!("{}: {e}", path.display())))?;
    match screen {
        Screen::Person(_) => {
            if before {
                println!("\nnothing to do: the runs and their comparison are complete");
            } else {
                print_pairs(&comparison);
            }
            match page {
                Some(page) => println!("comparison: {}", page.display()),
                None => println!("results: {}", out.display()),
            }
            if !failed.is_empty() {
                eprintln!(
                    "error: {} of {} predictors failed: {}",
                    failed.len(),
                    names.len(),
                    failed.join(", ")
                );
            }
        }
        Screen::Program(events) => {
            let pair = |p: &shiftlens_api::record::PairRecord| {
                let figures: Map<_, _> = p.figures.iter().map(|f| (f.key.clone(), json!(f.figure))).collect();
                json!({ "first": p.first, "second": p.second, "images": p.images, "figures": figures })
            };
            events.tell(
                "finished",
                json!({
                    "folder": out.display().to_string(),
                    "predictors": names,
                    "failed_predictors": failed,
                    "nothing_to_do": before,
                    "seconds": started.elapsed().as_secs_f64(),
                    "pairs": comparison.pairs.iter().map(pair).collect::<Vec<_>>(),
                    "report": page.map(|p| p.display().to_string()),
                }),
            );
        }
    }
    Ok(())
}

fn print_pairs(comparison: &ComparisonRecord) {
    for pair in &comparison.pairs {
        println!("\n{} and {}: {} images that both explained", pair.first, pair.second, pair.images);
        for (name, only) in [(&pair.first, &pair.only_first), (&pair.second, &pair.only_second)] {
            if !only.is_empty() {
                println!("  {} that {name} alone explained: {}", only.len(), shortened(only));
            }
        }
        for f in &pair.figures {
            let (Some(value), n) = (f.figure.value, f.figure.n) else { continue };
            // What rounds to 0 has no sign.
            let plain = |v: f64| (1000.0 * v).round() / 1000.0 + 0.0;
            let interval = f.figure.interval.map(|(a, b)| format!(" [{:.3}, {:.3}]", plain(a), plain(b)));
            let interval = interval.unwrap_or_default();
            let n = if n > 0 { format!(" (n = {n})") } else { String::new() };
            println!("  {:>7.3}{interval}  {}{n}", plain(value), f.figure.title);
        }
        pair.remarks.iter().for_each(|r| println!("  note: {r}"));
    }
}

/// The first few of many ids.
fn shortened(ids: &[String]) -> String {
    let more = if ids.len() > 5 { ", …" } else { "" };
    format!("{}{more}", ids.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Says what the runs will cost, each and together.
pub fn dry(mut run: Run, voice: Voice) -> Done {
    let screen = Screen::new(voice);
    let mut all = || -> Done {
        run.check_files()?;
        let (mut seconds, mut disk, mut memory, n) = (0.0, 0.0, Some(0), run.studies.len());
        for i in 0..n {
            let options = run.options(&run.studies[i].name);
            let named = &mut run.studies[i];
            screen.turn_to(Some(&named.name));
            if let Screen::Person(_) = screen {
                println!("predictor {} ({} of {n})", named.name, i + 1);
            }
            let (total, e) = dry_on(&mut named.study, &options, &screen)?;
            // Memory is that of the process so far, so that the last one's is the most.
            (seconds, disk, memory) = (seconds + total, disk + e.bytes, memory.and(e.memory));
        }
        screen.turn_to(None);
        match &screen {
            Screen::Person(_) => {
                println!("all {n}: time {}, disk {}", duration(seconds), bytes(disk));
            }
            Screen::Program(events) => {
                let sums = json!({ "predictors": n, "seconds": seconds, "bytes_disk": disk, "bytes_memory": memory });
                events.tell("estimate", sums);
            }
        }
        Ok(())
    };
    let done = all();
    screen.end(done)
}

//! `cases.csv`: one row per case and explanation.

use crate::folder::{RunFolder, replace};
use shiftlens_api::record::{CaseRecord, ExplanationRecord, RetryRecord};
use shiftlens_api::{Error, ReachedLevel, Result, Target};
use std::path::{Path, PathBuf};

/// The columns. Cells that do not apply to a row are empty; lists are separated by spaces, with `-` for a level that is
/// not reached; numbers have all digits that tell them apart.
const COLUMNS: [&str; 42] = [
    "case",
    "path",
    "synthetic",
    "group",
    "label",
    "score",
    "scores",
    "explanation",
    "type",
    "explainer",
    "title",
    "class",
    "seconds",
    "latent_score",
    "score_reconstruction",
    "reconstruction_gap",
    "reconstruction_l1",
    "flip_lambda",
    "spearman",
    "score_first",
    "score_last",
    "lambdas",
    "series_scores",
    "heatmap_min",
    "heatmap_max",
    "heatmap_height",
    "heatmap_width",
    "notes",
    "reconstruction_rmse",
    "flagged",
    "flag_reasons",
    "retry",
    "retry_kept",
    "encoder_gap",
    "encoder_rmse",
    "calibration_limit",
    "levels",
    "level_lambdas",
    "level_scores",
    "calibrated_flip",
    "calibrated_spearman",
    "inversions",
];

/// How many of the columns come before those of the trust gate.
const BEFORE_TRUST: usize = 28;

/// Writes `cases.csv` (UTF-8, RFC 4180 quoting, one header line) from the cases in the folder, and returns its path.
///
/// A case without any explanation has one row. `label` is 1 where the ground truth is the target class, 0 where it is
/// another, empty where it is not known. `class` is the one that the explanation is about. Behind the columns that every run
/// has there is one called `metadata.NAME` for each name that the cases carry.
///
/// # Errors
/// If `run.json` cannot be read or the file cannot be written; unreadable cases are left out.
pub fn write_cases_csv(run_dir: &Path) -> Result<PathBuf> {
    let folder = RunFolder::read(run_dir)?;
    let failed = |e: csv::Error| Error::component("cases.csv", e);
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in folder.cases.iter().flat_map(|c| &c.metadata) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let header = COLUMNS.iter().map(|c| (*c).to_owned()).chain(names.iter().map(|n| format!("metadata.{n}")));
    out.write_record(header).map_err(failed)?;
    let target = &folder.run.target;
    for case in &folder.cases {
        if case.explanations.is_empty() {
            out.write_record(row(case, target, None, &names)).map_err(failed)?;
        }
        for explanation in case.explanations.iter().enumerate() {
            out.write_record(row(case, target, Some(explanation), &names)).map_err(failed)?;
        }
    }
    let bytes = out.into_inner().map_err(|e| Error::component("cases.csv", e.error()))?;
    let path = run_dir.join("cases.csv");
    replace(&path, &bytes)?;
    Ok(path)
}

fn row(
    case: &CaseRecord,
    target: &Target,
    explanation: Option<(usize, &ExplanationRecord)>,
    metadata: &[&str],
) -> Vec<String> {
    let mut cells = vec![
        case.id.clone(),
        case.path.clone(),
        u8::from(case.synthetic).to_string(),
        case.group.clone().unwrap_or_default(),
        case.label.map(|l| u8::from(l).to_string()).unwrap_or_default(),
        case.score.to_string(),
        list(&case.scores),
    ];
    if let Some((e, explanation)) = explanation {
        cells.push(e.to_string());
        let class = explanation.class().unwrap_or(target).name.clone();
        match explanation {
            ExplanationRecord::Shift {
                explainer,
                title,
                lambdas,
                scores,
                origin,
                latent_score,
                flip,
                spearman,
                reconstruction_gap,
                reconstruction_l1,
                notes,
                seconds,
                ..
            } => {
                cells.extend(["shift".into(), explainer.clone(), title.clone(), class, seconds.to_string()]);
                cells.extend([
                    optional(latent_score),
                    scores[*origin].to_string(),
                    reconstruction_gap.to_string(),
                    reconstruction_l1.to_string(),
                    optional(flip),
                    optional(spearman),
                    scores[0].to_string(),
                    scores[scores.len() - 1].to_string(),
                    list(lambdas),
                    list(scores),
                ]);
                cells.extend(vec![String::new(); 4]);
                cells.push(facts(notes));
            }
            ExplanationRecord::Heatmap { explainer, title, range, size, notes, seconds, .. } => {
                cells.extend([
                    "heatmap".into(),
                    explainer.clone(),
                    title.clone(),
                    class,
                    seconds.to_string(),
                ]);
                cells.extend(vec![String::new(); 10]);
                cells.extend([range.0.to_string(), range.1.to_string()]);
                cells.extend([size.0.to_string(), size.1.to_string(), facts(notes)]);
            }
        }
    }
    cells.resize(BEFORE_TRUST, String::new());
    cells.extend(trust(case));
    if let Some((_, ExplanationRecord::Shift { calibration: Some(c), .. })) = explanation {
        let each = |of: &dyn Fn(&ReachedLevel) -> Option<f32>| {
            c.levels.iter().map(|l| of(l).map_or("-".into(), |v| v.to_string())).collect::<Vec<_>>().join(" ")
        };
        cells.extend([
            c.limit.to_string(),
            each(&|l| Some(l.level)),
            each(&|l| l.lambda),
            each(&|l| l.score),
            optional(&c.flip),
            optional(&c.spearman),
            c.inversions.to_string(),
        ]);
    }
    cells.resize(COLUMNS.len(), String::new());
    let value = |name: &&str| case.metadata.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    cells.extend(metadata.iter().map(|name| value(name).unwrap_or_default()));
    cells
}

/// The trust gate's columns, the same in all rows of a case.
fn trust(case: &CaseRecord) -> [String; 7] {
    let Some(t) = &case.trust else { return Default::default() };
    let retry = t.retry.as_ref();
    let text = |of: &dyn Fn(&RetryRecord) -> String| retry.map(of).unwrap_or_default();
    let encoder = retry.map_or(t.reconstruction, |r| r.before);
    [
        t.reconstruction.rmse.to_string(),
        u8::from(t.flagged()).to_string(),
        t.reasons.join("; "),
        text(&|r| r.method.clone()),
        text(&|r| u8::from(r.kept).to_string()),
        encoder.gap.to_string(),
        encoder.rmse.to_string(),
    ]
}

fn optional(v: &Option<f32>) -> String {
    v.map(|v| v.to_string()).unwrap_or_default()
}

fn list(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
}

fn facts(notes: &[(String, String)]) -> String {
    notes.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("; ")
}

//! `cases`: one row per case and explanation.

use super::{Cell, Column, Kind};
use shiftlens_api::record::{CaseRecord, ExplanationRecord, RetryRecord};
use shiftlens_api::{Calibration, ReachedLevel, Target};

/// The columns. Cells that do not apply to a row are empty; in lists a level that is not reached has no value.
const COLUMNS: [(&str, Kind); 42] = [
    ("case", Kind::Text),
    ("path", Kind::Text),
    ("synthetic", Kind::Flag),
    ("group", Kind::Text),
    ("label", Kind::Flag),
    ("score", Kind::Single),
    ("scores", Kind::List),
    ("explanation", Kind::Count),
    ("type", Kind::Text),
    ("explainer", Kind::Text),
    ("title", Kind::Text),
    ("class", Kind::Text),
    ("seconds", Kind::Double),
    ("latent_score", Kind::Single),
    ("score_reconstruction", Kind::Single),
    ("reconstruction_gap", Kind::Single),
    ("reconstruction_l1", Kind::Single),
    ("flip_lambda", Kind::Single),
    ("spearman", Kind::Single),
    ("score_first", Kind::Single),
    ("score_last", Kind::Single),
    ("lambdas", Kind::List),
    ("series_scores", Kind::List),
    ("heatmap_min", Kind::Single),
    ("heatmap_max", Kind::Single),
    ("heatmap_height", Kind::Count),
    ("heatmap_width", Kind::Count),
    ("notes", Kind::Text),
    ("reconstruction_rmse", Kind::Single),
    ("flagged", Kind::Flag),
    ("flag_reasons", Kind::Text),
    ("retry", Kind::Text),
    ("retry_kept", Kind::Flag),
    ("encoder_gap", Kind::Single),
    ("encoder_rmse", Kind::Single),
    ("calibration_limit", Kind::Single),
    ("levels", Kind::List),
    ("level_lambdas", Kind::List),
    ("level_scores", Kind::List),
    ("calibrated_flip", Kind::Single),
    ("calibrated_spearman", Kind::Single),
    ("inversions", Kind::Count),
];
/// How many columns are of the case, of any explanation, of a series, and of a heatmap, in this order; the trust gate's and
/// the calibration's follow after the notes.
const OF_CASE: usize = 7;
const OF_EXPLANATION: usize = 6;
const OF_SERIES: usize = 10;
const OF_HEATMAP: usize = 4;

/// The table's columns, with one for each name of metadata.
pub(super) fn columns(metadata: &[String]) -> Vec<Column> {
    let known = COLUMNS.iter().map(|(name, kind)| Column { name: (*name).into(), kind: *kind });
    known.chain(metadata.iter().map(|n| Column { name: format!("metadata.{n}"), kind: Kind::Text })).collect()
}

/// The rows of a case: one for each explanation, or a single one if it has none.
pub(super) fn rows(case: &CaseRecord, target: &Target, metadata: &[String]) -> Vec<Vec<Cell>> {
    if case.explanations.is_empty() {
        return vec![row(case, target, None, metadata)];
    }
    case.explanations.iter().enumerate().map(|e| row(case, target, Some(e), metadata)).collect()
}

fn row(
    case: &CaseRecord,
    target: &Target,
    explanation: Option<(usize, &ExplanationRecord)>,
    metadata: &[String],
) -> Vec<Cell> {
    let mut cells = vec![
        Cell::text(&case.id),
        Cell::text(&case.path),
        Cell::Flag(case.synthetic),
        case.group.as_ref().map_or(Cell::Empty, Cell::text),
        case.label.map_or(Cell::Empty, Cell::Flag),
        Cell::Single(case.score),
        list(&case.scores),
    ];
    if let Some((e, explanation)) = explanation {
        cells.extend(explained(e, explanation, target));
    }
    cells.resize(OF_CASE + OF_EXPLANATION + OF_SERIES + OF_HEATMAP + 1, Cell::Empty);
    cells.extend(trust(case));
    if let Some((_, ExplanationRecord::Shift { calibration: Some(c), .. })) = explanation {
        cells.extend(calibrated(c));
    }
    cells.resize(COLUMNS.len(), Cell::Empty);
    let value = |name: &String| case.metadata.iter().find(|(n, _)| n == name);
    cells.extend(metadata.iter().map(|name| value(name).map_or(Cell::Empty, |(_, v)| Cell::text(v))));
    cells
}

/// The columns of an explanation, up to its notes.
fn explained(e: usize, explanation: &ExplanationRecord, target: &Target) -> Vec<Cell> {
    let class = Cell::text(&explanation.class().unwrap_or(target).name);
    let own = |kind: &str, explainer: &str, title: &str, seconds: f64| {
        [
            Cell::Count(e),
            Cell::text(kind),
            Cell::text(explainer),
            Cell::text(title),
            class,
            Cell::Double(seconds),
        ]
    };
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
            let mut cells = own("shift", explainer, title, *seconds).to_vec();
            cells.extend([
                optional(*latent_score),
                Cell::Single(scores[*origin]),
                Cell::Single(*reconstruction_gap),
                Cell::Single(*reconstruction_l1),
                optional(*flip),
                optional(*spearman),
                Cell::Single(scores[0]),
                Cell::Single(scores[scores.len() - 1]),
                list(lambdas),
                list(scores),
            ]);
            cells.extend([const { Cell::Empty }; OF_HEATMAP]);
            cells.push(facts(notes));
            cells
        }
        ExplanationRecord::Heatmap { explainer, title, range, size, notes, seconds, .. } => {
            let mut cells = own("heatmap", explainer, title, *seconds).to_vec();
            cells.extend([const { Cell::Empty }; OF_SERIES]);
            cells.extend([
                Cell::Single(range.0),
                Cell::Single(range.1),
                Cell::Count(size.0),
                Cell::Count(size.1),
            ]);
            cells.push(facts(notes));
            cells
        }
    }
}

/// The trust gate's columns, the same in all rows of a case.
fn trust(case: &CaseRecord) -> [Cell; 7] {
    let Some(t) = &case.trust else { return [const { Cell::Empty }; 7] };
    let retry = t.retry.as_ref();
    let said = |of: &dyn Fn(&RetryRecord) -> Cell| retry.map_or(Cell::Empty, of);
    let encoder = retry.map_or(t.reconstruction, |r| r.before);
    [
        Cell::Single(t.reconstruction.rmse),
        Cell::Flag(t.flagged()),
        Cell::Text(t.reasons.join("; ")),
        said(&|r| Cell::text(&r.method)),
        said(&|r| Cell::Flag(r.kept)),
        Cell::Single(encoder.gap),
        Cell::Single(encoder.rmse),
    ]
}

/// The search for f's levels.
fn calibrated(c: &Calibration) -> [Cell; 7] {
    let each = |of: &dyn Fn(&ReachedLevel) -> Option<f32>| Cell::List(c.levels.iter().map(of).collect());
    [
        Cell::Single(c.limit),
        each(&|l| Some(l.level)),
        each(&|l| l.lambda),
        each(&|l| l.score),
        optional(c.flip),
        optional(c.spearman),
        Cell::Count(c.inversions),
    ]
}

fn optional(v: Option<f32>) -> Cell {
    v.map_or(Cell::Empty, Cell::Single)
}

fn list(values: &[f32]) -> Cell {
    Cell::List(values.iter().copied().map(Some).collect())
}

fn facts(notes: &[(String, String)]) -> Cell {
    Cell::Text(notes.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("; "))
}

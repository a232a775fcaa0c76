//! `comparison`: one row per image, with columns for each of several predictors.

use super::{Cell, Column, Format, Kind, stream};
use crate::compared::Compared;
use shiftlens_api::Result;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use std::path::PathBuf;

/// Columns of an image.
const OF_IMAGE: [(&str, Kind); 6] = [
    ("case", Kind::Text),
    ("path", Kind::Text),
    ("group", Kind::Text),
    ("label", Kind::Flag),
    // Whether all decide alike at 0.5, and how far the scores lie apart; empty where fewer than two explained the image.
    ("agree", Kind::Flag),
    ("score_range", Kind::Single),
];
/// Columns of each predictor, its name behind a point.
const OF_PREDICTOR: [(&str, Kind); 5] = [
    ("score", Kind::Single),
    ("decision", Kind::Flag),
    ("score_reconstruction", Kind::Single),
    ("flip_lambda", Kind::Single),
    ("flagged", Kind::Flag),
];

/// Writes the table and returns its path. Images are in the page's order; cells of a predictor that did not explain an image
/// are empty.
pub(crate) fn comparison(compared: &Compared, format: Format) -> Result<PathBuf> {
    let path = compared.root.join(format!("comparison.{}", format.ending()));
    let column = |name: String, kind: Kind| Column { name, kind };
    let image = OF_IMAGE.iter().map(|(name, kind)| column((*name).to_owned(), *kind));
    let sides = compared.predictors.iter().flat_map(|p| {
        OF_PREDICTOR.iter().map(move |(name, kind)| column(format!("{name}.{}", p.name), *kind))
    });
    let columns: Vec<Column> = image.chain(sides).collect();
    stream(&path, format, &columns, |sink| {
        // Cases that cannot be read are named on the page.
        let mut unread = Vec::new();
        for id in &compared.ids {
            let records: Vec<Option<CaseRecord>> =
                compared.predictors.iter().map(|p| p.case(id, &mut unread)).collect();
            if let Some(cells) = row(&records) {
                sink.row(cells)?;
            }
        }
        Ok(())
    })?;
    Ok(path)
}

fn row(records: &[Option<CaseRecord>]) -> Option<Vec<Cell>> {
    let first = records.iter().flatten().next()?;
    let scores: Vec<f32> = records.iter().flatten().map(|r| r.score).collect();
    let compared = |cell: Cell| if scores.len() > 1 { cell } else { Cell::Empty };
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lowest = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let mut cells = vec![
        Cell::text(&first.id),
        Cell::text(&first.path),
        first.group.as_ref().map_or(Cell::Empty, Cell::text),
        first.label.map_or(Cell::Empty, Cell::Flag),
        compared(Cell::Flag(scores.iter().all(|s| (*s >= 0.5) == (scores[0] >= 0.5)))),
        compared(Cell::Single(highest - lowest)),
    ];
    for record in records {
        match record {
            None => cells.extend([const { Cell::Empty }; OF_PREDICTOR.len()]),
            Some(r) => {
                let reconstruction = r.explanations.iter().find_map(|e| match e {
                    ExplanationRecord::Shift { scores, origin, .. } => Some(scores[*origin]),
                    ExplanationRecord::Heatmap { .. } => None,
                });
                cells.extend([
                    Cell::Single(r.score),
                    Cell::Flag(r.score >= 0.5),
                    reconstruction.map_or(Cell::Empty, Cell::Single),
                    r.flip().flatten().map_or(Cell::Empty, Cell::Single),
                    r.trust.as_ref().map_or(Cell::Empty, |t| Cell::Flag(t.flagged())),
                ]);
            }
        }
    }
    Some(cells)
}

//! Tables of a run, each as CSV or as Parquet: `cases` and `evaluation`; and `comparison` of several runs.

mod cases;
mod comparison;
mod delimited;
mod parquet;

pub(crate) use comparison::comparison;

use crate::folder::{RunFolder, partial};
use shiftlens_api::record::CaseRecord;
use shiftlens_api::{Error, Result};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// A file format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// UTF-8, RFC 4180 quoting, one header line. Truth values are 0 or 1; lists are separated by spaces, with `-` for what
    /// has no value; numbers have all digits that tell them apart.
    Csv,
    /// Apache Parquet with typed, nullable columns, and lists as lists.
    Parquet,
}

impl Format {
    /// How its files' names end.
    fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Count,
    Single,
    Double,
    List,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// A value in a row; it is of its column's kind, or empty.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Empty,
    Text(String),
    Flag(bool),
    Count(usize),
    Single(f32),
    Double(f64),
    List(Vec<Option<f32>>),
}

impl Cell {
    fn text(v: impl AsRef<str>) -> Self {
        Self::Text(v.as_ref().to_owned())
    }
}

/// Something that takes a table's rows one after another.
trait Sink {
    fn row(&mut self, cells: Vec<Cell>) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Writes `cases.csv` from the cases in the folder, and returns its path.
///
/// A case without any explanation has one row. `label` is 1 where the ground truth is the target class, 0 where it is
/// another, empty where it is not known. `class` is the one that the explanation is about. Behind the columns that every run
/// has there is one called `metadata.NAME` for each name that the cases carry.
///
/// # Errors
/// If `run.json` cannot be read or the file cannot be written; unreadable cases are left out.
pub fn write_cases_csv(run_dir: &Path) -> Result<PathBuf> {
    cases_table(&RunFolder::read(run_dir)?, Format::Csv)
}

/// Writes the run's tables in a format: `cases`, and `evaluation` where a case has been evaluated.
pub(crate) fn write(folder: &RunFolder, format: Format) -> Result<Vec<PathBuf>> {
    let mut written = vec![cases_table(folder, format)?];
    written.extend(evaluation_table(folder, format)?);
    Ok(written)
}

fn cases_table(folder: &RunFolder, format: Format) -> Result<PathBuf> {
    let mut metadata: Vec<String> = Vec::new();
    for case in folder.cases().flatten() {
        for (name, _) in case.metadata {
            if !metadata.contains(&name) {
                metadata.push(name);
            }
        }
    }
    let target = &folder.run.target;
    table(folder, "cases", format, &cases::columns(&metadata), |case| cases::rows(case, target, &metadata))
}

/// One row per case, method and metric; `None`, and no file, where nothing was evaluated.
fn evaluation_table(folder: &RunFolder, format: Format) -> Result<Option<PathBuf>> {
    if folder.cases().flatten().all(|c| c.evaluation.is_empty()) {
        return Ok(None);
    }
    let column = |name: &str, kind| Column { name: name.into(), kind };
    let columns = [
        column("case", Kind::Text),
        column("group", Kind::Text),
        column("method", Kind::Text),
        column("metric", Kind::Text),
        column("value", Kind::Double),
        column("seconds", Kind::Double),
    ];
    let rows = |case: &CaseRecord| {
        let row = |e: &shiftlens_api::record::EvaluationRecord| {
            vec![
                Cell::text(&case.id),
                case.group.as_ref().map_or(Cell::Empty, Cell::text),
                Cell::text(&e.method),
                Cell::text(&e.metric),
                e.value.map_or(Cell::Empty, Cell::Double),
                Cell::Double(e.seconds),
            ]
        };
        case.evaluation.iter().map(row).collect()
    };
    table(folder, "evaluation", format, &columns, rows).map(Some)
}

/// A table with rows of each case.
fn table(
    folder: &RunFolder,
    name: &str,
    format: Format,
    columns: &[Column],
    rows: impl Fn(&CaseRecord) -> Vec<Vec<Cell>>,
) -> Result<PathBuf> {
    let path = folder.root.join(format!("{name}.{}", format.ending()));
    stream(&path, format, columns, |sink| {
        for case in folder.cases().flatten() {
            for row in rows(&case) {
                sink.row(row)?;
            }
        }
        Ok(())
    })?;
    Ok(path)
}

/// Streams rows into a file beside its place and renames it.
fn stream(
    path: &Path,
    format: Format,
    columns: &[Column],
    rows: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<()> {
    let unfinished = partial(path);
    let file = BufWriter::new(File::create(&unfinished).map_err(|e| Error::io(&unfinished, e))?);
    let mut sink: Box<dyn Sink> = match format {
        Format::Csv => Box::new(delimited::Writer::new(file, columns)?),
        Format::Parquet => Box::new(parquet::Writer::new(file, columns)?),
    };
    rows(&mut *sink)?;
    sink.finish()?;
    std::fs::rename(&unfinished, path).map_err(|e| Error::io(path, e))
}

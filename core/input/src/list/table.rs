//! Lists as files: CSV, TSV, Parquet. Only the columns that are asked for are kept.

use parquet::basic::Repetition;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use shiftlens_api::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened list.
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    content: Content,
}

enum Content {
    Text(csv::Reader<File>),
    Parquet(SerializedFileReader<File>),
}

/// What a row is handed to: its place in messages, and a cell for each column that was asked for.
type Take<'a> = &'a mut dyn FnMut(&str, Vec<Option<String>>) -> Result<()>;

impl Table {
    /// Opens lines of cells that are separated by `separator`.
    pub fn text(path: &Path, separator: u8) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .delimiter(separator)
            .from_path(path)
            .map_err(|e| text_error(path, e))?;
        let header = reader.headers().map_err(|e| text_error(path, e))?;
        let header = header.iter().map(|h| h.trim_start_matches('\u{feff}').to_owned()).collect();
        Ok(Self { path: path.to_owned(), header, content: Content::Text(reader) })
    }

    /// Opens an Apache Parquet file.
    pub fn parquet(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let reader = SerializedFileReader::new(file).map_err(|e| parquet_error(path, &e))?;
        let schema = reader.metadata().file_metadata().schema();
        let header = schema.get_fields().iter().map(|f| f.name().to_owned()).collect();
        Ok(Self { path: path.to_owned(), header, content: Content::Parquet(reader) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns' names.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Hands every row to `take`: its cells in the columns `wanted`, `None` where one is empty.
    pub fn rows(self, wanted: &[usize], take: Take<'_>) -> Result<()> {
        match self.content {
            Content::Text(reader) => text_rows(&self.path, reader, wanted, take),
            Content::Parquet(reader) => parquet_rows(&self.path, &reader, wanted, take),
        }
    }
}

fn text_error(path: &Path, e: csv::Error) -> Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => Error::io(path, e),
        kind => Error::Invalid(format!("{}: {kind:?}", path.display())),
    }
}

fn parquet_error(path: &Path, e: &parquet::errors::ParquetError) -> Error {
    Error::Invalid(format!("{}: not a readable Parquet file (truncated or damaged?): {e}", path.display()))
}

fn text_rows(path: &Path, mut reader: csv::Reader<File>, wanted: &[usize], take: Take<'_>) -> Result<()> {
    for record in reader.records() {
        let record = record.map_err(|e| text_error(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |i: &usize| record.get(*i).filter(|c| !c.is_empty()).map(str::to_owned);
        take(&format!("{}:{line}", path.display()), wanted.iter().map(cell).collect())?;
    }
    Ok(())
}

fn parquet_rows(
    path: &Path,
    reader: &SerializedFileReader<File>,
    wanted: &[usize],
    take: Take<'_>,
) -> Result<()> {
    let fail = |e| parquet_error(path, &e);
    let schema = reader.metadata().file_metadata().schema();
    // A projection keeps the file's order and names a column once.
    let mut kept = wanted.to_vec();
    kept.sort_unstable();
    kept.dedup();
    let fields: Vec<_> = kept.iter().map(|i| Arc::clone(&schema.get_fields()[*i])).collect();
    if let Some(nested) = fields.iter().find(|f| !f.is_primitive() || is_repeated(f)) {
        return Err(Error::Invalid(format!(
            "{}: the column `{}` is nested, expected text, numbers or truth values",
            path.display(),
            nested.name()
        )));
    }
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(fail)?;
    let mut number = 0;
    // Group by group: the iterator over a whole file panics where a group cannot be opened.
    for i in 0..reader.num_row_groups() {
        let group = reader.get_row_group(i).map_err(fail)?;
        for row in group.get_row_iter(Some(projection.clone())).map_err(fail)? {
            number += 1;
            let place = format!("{}: row {number}", path.display());
            let cells = row.map_err(fail)?.into_columns();
            let cell = |i: &usize| {
                let (name, field) =
                    kept.binary_search(i).ok().and_then(|k| cells.get(k)).ok_or_else(|| {
                        Error::Invalid(format!("{place}: a row of {} columns", cells.len()))
                    })?;
                shown(field).map_err(|e| Error::Invalid(format!("{place}: `{name}` {e}")))
            };
            let cells = wanted.iter().map(cell).collect::<Result<_>>()?;
            take(&place, cells)?;
        }
    }
    Ok(())
}

fn is_repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

/// A cell as a CSV would have it: whole numbers without a decimal point, `true` and `false`.
fn shown(field: &Field) -> Result<Option<String>, String> {
    let text = match field {
        Field::Null => return Ok(None),
        Field::Str(text) => text.trim().to_owned(),
        // Some writers leave out that their bytes are text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => return Err("holds bytes that are no text".into()),
        },
        Field::Float(v) => v.to_string(),
        Field::Double(v) => v.to_string(),
        other => other.to_string(),
    };
    Ok((!text.is_empty()).then_some(text))
}

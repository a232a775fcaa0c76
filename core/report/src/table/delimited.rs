//! CSV.

use super::{Cell, Column, Sink};
use shiftlens_api::{Error, Result};
use std::io::Write;

/// Writes rows as they come.
pub(super) struct Writer<W: Write>(csv::Writer<W>);

fn failed(e: impl std::fmt::Display) -> Error {
    Error::component("csv", e)
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, columns: &[Column]) -> Result<Self> {
        let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to);
        out.write_record(columns.iter().map(|c| &c.name)).map_err(failed)?;
        Ok(Self(out))
    }
}

impl<W: Write> Sink for Writer<W> {
    fn row(&mut self, cells: Vec<Cell>) -> Result<()> {
        self.0.write_record(cells.into_iter().map(text)).map_err(failed)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.flush().map_err(failed)
    }
}

fn text(cell: Cell) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(v) => v,
        Cell::Flag(v) => u8::from(v).to_string(),
        Cell::Count(v) => v.to_string(),
        Cell::Single(v) => v.to_string(),
        Cell::Double(v) => v.to_string(),
        Cell::List(values) => {
            let word = |v: &Option<f32>| v.map_or_else(|| "-".into(), |v| v.to_string());
            values.iter().map(word).collect::<Vec<_>>().join(" ")
        }
    }
}

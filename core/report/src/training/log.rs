//! Reading the tables that a training writes as it goes.

use shiftlens_api::{Error, Result};
use std::path::Path;

/// A column: its name and its finite values over the images seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Column {
    /// The last value.
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|p| p.1)
    }
}

/// A table with a column `images`, in the order of its header.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Log {
    pub columns: Vec<Column>,
    /// Images of the last row.
    pub images: f64,
    /// Seconds of the last row that says them.
    pub seconds: Option<f64>,
}

impl Log {
    /// Reads a table and notes what is odd about it. Columns may be any; an empty field is no value. A training that went
    /// on from a checkpoint repeats what lay behind it: rows of the same number of images or more are replaced. A last
    /// row that is being written is left out.
    pub fn read(path: &Path, remarks: &mut Vec<String>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let invalid = |what: String| Error::Invalid(format!("{}: {what}", path.display()));
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes.as_slice());
        let header = reader.headers().map_err(|e| invalid(e.to_string()))?.clone();
        let at = |name: &str| header.iter().position(|h| h == name);
        let images = at("images").ok_or_else(|| {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            invalid(format!("expected a column `images`, found {found}"))
        })?;
        let (mut rows, mut bad, mut not_finite) = (Vec::<Vec<Option<f64>>>::new(), Vec::new(), 0);
        let mut records = reader.records().enumerate().peekable();
        while let Some((i, record)) = records.next() {
            let unfinished = records.peek().is_none() && bytes.last() != Some(&b'\n');
            let row = record.ok().filter(|r| r.len() == header.len()).and_then(|r| numbers(&r));
            match row {
                Some(row) if row[images].is_some_and(f64::is_finite) && !unfinished => {
                    not_finite += row.iter().flatten().filter(|v| !v.is_finite()).count();
                    rows.retain(|r| r[images] < row[images]);
                    rows.push(row);
                }
                _ if unfinished => {}
                _ => bad.push(i + 2),
            }
        }
        let name = path.file_name().unwrap_or_default().display();
        if let Some(line) = bad.first() {
            remarks.push(format!(
                "{name}: {} line(s) left out that cannot be read, the first is line {line}",
                bad.len()
            ));
        }
        if not_finite > 0 {
            remarks.push(format!(
                "{name}: {not_finite} value(s) are infinite or not numbers; the curves leave them out"
            ));
        }
        let column = |i: usize| {
            let points = rows.iter().filter_map(|r| Some((r[images]?, r[i].filter(|v| v.is_finite())?)));
            Column { name: header[i].to_owned(), points: points.collect() }
        };
        let last = |i: usize| rows.iter().rev().find_map(|r| r[i].filter(|v| v.is_finite()));
        let seconds = at("seconds");
        let others = (0..header.len()).filter(|i| *i != images && Some(*i) != seconds);
        Ok(Self {
            columns: others.map(column).filter(|c| !c.points.is_empty()).collect(),
            images: last(images).unwrap_or(0.0),
            seconds: seconds.and_then(last),
        })
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// The fields as numbers, none where one is empty; nothing at all if one is neither.
fn numbers(record: &csv::StringRecord) -> Option<Vec<Option<f64>>> {
    let number = |field: &str| match field.trim() {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    };
    record.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Result<Log>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        std::fs::write(&path, text).unwrap();
        let mut remarks = Vec::new();
        (Log::read(&path, &mut remarks), remarks)
    }

    #[test]
    fn columns_are_read_by_their_names() {
        let (log, remarks) = read("images,g_loss,seconds,r1\n32,1.5,5,\n64,1.25,9,0.5\n");
        let log = log.unwrap();
        let column = |name: &str, points: &[(f64, f64)]| Column { name: name.into(), points: points.into() };
        assert_eq!(
            log.columns,
            [column("g_loss", &[(32.0, 1.5), (64.0, 1.25)]), column("r1", &[(64.0, 0.5)])]
        );
        assert_eq!((log.images, log.seconds, remarks.len()), (64.0, Some(9.0), 0));
        assert_eq!(log.column("r1").and_then(Column::last), Some(0.5));
    }

    #[test]
    fn what_a_resumed_training_repeats_is_replaced() {
        let (log, _) = read("images,g_loss\n32,1\n64,2\n96,3\n64,4\n96,5\n128,6\n");
        assert_eq!(log.unwrap().columns[0].points, [(32.0, 1.0), (64.0, 4.0), (96.0, 5.0), (128.0, 6.0)]);
    }

    #[test]
    fn odd_rows_are_left_out_and_told() {
        let (log, remarks) = read("images,g_loss\n32,1\nx,2\n64\n96,NaN\n128,3\n160,4.");
        // The last row has no end of line: it may be half a number.
        assert_eq!(log.unwrap().columns[0].points, [(32.0, 1.0), (128.0, 3.0)]);
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].contains("2 line(s)") && remarks[0].contains("line 3"), "{remarks:?}");
        assert!(remarks[1].contains("1 value(s)"), "{remarks:?}");
        let (refused, _) = read("step,g_loss\n1,2\n");
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("`images`, found step, g_loss"), "{message}");
        let (empty, _) = read("images,g_loss\n");
        assert_eq!(empty.unwrap(), Log::default());
    }
}

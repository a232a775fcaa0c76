//! Apache Parquet, through its typed column writers: a nullable column for each of the table's, lists by the format's
//! three-level `LIST`.

use super::{Cell, Column, Kind, Sink};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{PrimitiveTypeBuilder, Type, TypePtr};
use shiftlens_api::{Error, Result};
use std::io::Write;
use std::sync::Arc;

/// Rows that are kept in memory and written as one row group.
const GROUP: usize = 4096;

/// Gathers rows into row groups.
pub(super) struct Writer<W: Write + Send> {
    out: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

fn failed(e: ParquetError) -> Error {
    Error::component("parquet", e)
}

impl<W: Write + Send> Writer<W> {
    pub(super) fn new(to: W, columns: &[Column]) -> Result<Self> {
        let fields = columns.iter().map(field).collect::<std::result::Result<_, _>>().map_err(failed)?;
        let schema = Type::group_type_builder("schema").with_fields(fields).build().map_err(failed)?;
        let settings = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(settings)).map_err(failed)?;
        Ok(Self { out, columns: columns.to_vec(), rows: Vec::new() })
    }

    fn flush(&mut self) -> std::result::Result<(), ParquetError> {
        let mut group = self.out.next_row_group()?;
        for (i, column) in self.columns.iter().enumerate() {
            let mut writer = group
                .next_column()?
                .ok_or_else(|| ParquetError::General(format!("no column for `{}`", column.name)))?;
            let cells = self.rows.iter().map(|row| row.get(i).unwrap_or(&Cell::Empty));
            write(&mut writer, column, cells)?;
            writer.close()?;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }
}

impl<W: Write + Send> Sink for Writer<W> {
    fn row(&mut self, cells: Vec<Cell>) -> Result<()> {
        self.rows.push(cells);
        if self.rows.len() == GROUP { self.flush().map_err(failed) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.rows.is_empty() {
            self.flush().map_err(failed)?;
        }
        self.out.close().map_err(failed)?;
        Ok(())
    }
}

/// A column's place in the schema.
fn field(column: &Column) -> std::result::Result<TypePtr, ParquetError> {
    fn leaf(name: &str, physical: Physical) -> PrimitiveTypeBuilder<'_> {
        Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL)
    }
    let name = column.name.as_str();
    let made = match column.kind {
        Kind::Text => leaf(name, Physical::BYTE_ARRAY)
            .with_logical_type(Some(LogicalType::String))
            .with_converted_type(ConvertedType::UTF8)
            .build()?,
        Kind::Flag => leaf(name, Physical::BOOLEAN).build()?,
        Kind::Count => leaf(name, Physical::INT64).build()?,
        Kind::Single => leaf(name, Physical::FLOAT).build()?,
        Kind::Double => leaf(name, Physical::DOUBLE).build()?,
        Kind::List => {
            let element = Arc::new(leaf("element", Physical::FLOAT).build()?);
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![element])
                .build()?;
            Type::group_type_builder(name)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::List))
                .with_converted_type(ConvertedType::LIST)
                .with_fields(vec![Arc::new(list)])
                .build()?
        }
    };
    Ok(Arc::new(made))
}

/// Values that are there, and a definition level for every row.
fn levels<T>(cells: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let mut values = Vec::new();
    let mut defined = Vec::new();
    for cell in cells {
        defined.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    (values, defined)
}

fn write<'a>(
    to: &mut SerializedColumnWriter<'_>,
    column: &Column,
    cells: impl Iterator<Item = &'a Cell> + Clone,
) -> std::result::Result<(), ParquetError> {
    let stranger = |cell: &Cell| ParquetError::General(format!("column `{}` got {cell:?}", column.name));
    macro_rules! plain {
        ($parquet:ty, $kind:pat => $value:expr) => {{
            let mut found = Vec::new();
            for cell in cells {
                found.push(match cell {
                    Cell::Empty => None,
                    $kind => Some($value),
                    other => return Err(stranger(other)),
                });
            }
            let (values, defined) = levels(found.into_iter());
            to.typed::<$parquet>().write_batch(&values, Some(&defined), None)?;
        }};
    }
    match column.kind {
        Kind::Text => plain!(ByteArrayType, Cell::Text(v) => ByteArray::from(v.as_str())),
        Kind::Flag => plain!(BoolType, Cell::Flag(v) => *v),
        Kind::Count => {
            plain!(Int64Type, Cell::Count(v) => i64::try_from(*v).map_err(|_| stranger(&Cell::Count(*v)))?);
        }
        Kind::Single => plain!(FloatType, Cell::Single(v) => *v),
        Kind::Double => plain!(DoubleType, Cell::Double(v) => *v),
        Kind::List => {
            let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
            for cell in cells {
                // 0: no list; 1: an empty one; 2: an element without a value; 3: one with a value.
                match cell {
                    Cell::Empty => {
                        defined.push(0);
                        repeated.push(0);
                    }
                    Cell::List(list) if list.is_empty() => {
                        defined.push(1);
                        repeated.push(0);
                    }
                    Cell::List(list) => {
                        for (i, v) in list.iter().enumerate() {
                            defined.push(if v.is_some() { 3 } else { 2 });
                            repeated.push(i16::from(i > 0));
                            values.extend(v);
                        }
                    }
                    other => return Err(stranger(other)),
                }
            }
            to.typed::<FloatType>().write_batch(&values, Some(&defined), Some(&repeated))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn every_kind_is_read_back_by_the_format_s_reader() {
        let kinds = [Kind::Text, Kind::Flag, Kind::Count, Kind::Single, Kind::Double, Kind::List];
        let columns: Vec<Column> =
            kinds.iter().enumerate().map(|(i, kind)| Column { name: format!("c{i}"), kind: *kind }).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let mut writer = Box::new(Writer::new(std::fs::File::create(&path).unwrap(), &columns).unwrap());
        let full = |i: usize| {
            vec![
                Cell::text(format!("é{i}")),
                Cell::Flag(i.is_multiple_of(2)),
                Cell::Count(i),
                Cell::Single(0.1),
                Cell::Double(0.1),
                Cell::List(vec![Some(0.5), None, Some(2.5)]),
            ]
        };
        // More than one row group; a row of nothing and one with an empty list in between.
        for i in 0..GROUP {
            writer.row(full(i)).unwrap();
        }
        writer.row(vec![Cell::Empty; 6]).unwrap();
        let mut last = vec![Cell::Empty; 6];
        last[5] = Cell::List(vec![]);
        writer.row(last).unwrap();
        writer.finish().unwrap();

        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect();
        assert_eq!(rows.len(), GROUP + 2);
        assert_eq!(rows[0], r#"{c0: "é0", c1: true, c2: 0, c3: 0.1, c4: 0.1, c5: [0.5, null, 2.5]}"#);
        assert_eq!(rows[GROUP], "{c0: null, c1: null, c2: null, c3: null, c4: null, c5: null}");
        assert!(rows[GROUP + 1].ends_with("c5: []}"), "{}", rows[GROUP + 1]);

        let mut writer = Writer::new(Vec::new(), &columns[..1]).unwrap();
        writer.rows.push(vec![Cell::Count(1)]);
        assert!(writer.flush().unwrap_err().to_string().contains("column `c0` got Count(1)"));
    }
}

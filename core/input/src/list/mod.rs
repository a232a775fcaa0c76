//! The images of a study or a training: which files, in which order, with which ids, labels and groups.

mod files;
mod ids;
mod table;

use crate::dicom::{self, Keyword, check_keyword};
use crate::format::{Format, head, is_single, recognise};
use crate::nearest::suggest;
use crate::read::Source;
use crate::spec::{DataSpec, GroupBy, ImageSource, LabelBy, Labels};
use crate::tiff;
use shiftlens_api::{Error, Result};
use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use table::Table;

/// One image and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Letters, digits, `-`, `_`, `.` only; unique. That of a frame ends with its number.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// Frame or page, counted from 1, where the file has several or the list names one.
    pub frame: Option<usize>,
    /// Group (patient).
    pub group: Option<String>,
    /// Ground truth: true is the target class.
    pub label: Option<bool>,
    /// A mask of the image, where the list names one.
    pub mask: Option<PathBuf>,
    /// What was asked for by [`DataSpec::metadata`] and is known, in that order.
    pub metadata: Vec<(String, String)>,
}

impl Item {
    /// What [`crate::Reader`] reads.
    pub fn source(&self) -> Source {
        Source { path: self.path.clone(), frame: self.frame }
    }
}

/// An image as it was listed.
#[derive(Debug, Clone)]
struct Row {
    source: Source,
    label: Option<String>,
    group: Option<String>,
    mask: Option<PathBuf>,
    metadata: Vec<(String, String)>,
}

impl Row {
    fn plain(path: PathBuf) -> Self {
        Self { source: Source::file(path), label: None, group: None, mask: None, metadata: Vec::new() }
    }
}

/// Lists the study's images in a fixed order: by path for folders and globs, by row for a list, as given for files; frames
/// by number. Files that may hold several frames are looked into; one that cannot be read counts as one image, and who
/// reads it is told why.
///
/// # Errors
/// [`Error::Invalid`] if there is none, a list lacks a column or a cell, or `metadata` names what is neither a column nor a
/// keyword of DICOM; [`Error::Io`].
pub fn scan(spec: &DataSpec) -> Result<Vec<Item>> {
    let (rows, keywords) = match list(&spec.images)? {
        Listed::Files(files) => {
            let keywords = keywords(spec.metadata.iter(), None)?;
            (files.into_iter().map(Row::plain).collect(), keywords)
        }
        Listed::Table(table) => table_rows(*table, spec)?,
    };
    let mut rows: Vec<Row> = rows.into_iter().flat_map(|row| frames(row, &keywords)).collect();
    for row in &mut rows {
        let place = |name: &String| spec.metadata.iter().position(|m| m == name);
        row.metadata.sort_by_key(|(name, _)| place(name));
    }
    if let Some(limit) = spec.limit
        && limit < rows.len()
    {
        let n = rows.len();
        let mut rest: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        rows = (0..limit).filter_map(|i| rest[i * n / limit].take()).collect();
    }
    let ids = ids::unique(rows.iter().map(|r| &r.source));
    Ok(rows.into_iter().zip(ids).map(|(row, id)| item(row, id, spec)).collect())
}

/// The images of a folder or list, without anything else about them; those of an empty folder are none. The paths in a list
/// start from `root`, else from the list's own folder.
///
/// # Errors
/// As [`scan`].
pub fn sources(images: &ImageSource, root: Option<&Path>) -> Result<Vec<Source>> {
    let rows: Vec<Row> = match images {
        ImageSource::Folder(folder) => files::of_folder(folder)?.into_iter().map(Row::plain).collect(),
        _ => match list(images)? {
            Listed::Files(files) => files.into_iter().map(Row::plain).collect(),
            Listed::Table(table) => {
                let spec = DataSpec { root: root.map(Path::to_owned), ..DataSpec::new(images.clone()) };
                table_rows(*table, &spec)?.0
            }
        },
    };
    Ok(rows.into_iter().flat_map(|row| frames(row, &[])).map(|r| r.source).collect())
}

/// The names of a list's columns; none for images that are no list.
///
/// # Errors
/// If the list cannot be opened.
pub fn columns(images: &ImageSource) -> Result<Vec<String>> {
    if !images.is_list() {
        return Ok(Vec::new());
    }
    Ok(match list(images)? {
        Listed::Table(table) => table.header().to_vec(),
        Listed::Files(_) => Vec::new(),
    })
}

enum Listed {
    Files(Vec<PathBuf>),
    Table(Box<Table>),
}

fn list(images: &ImageSource) -> Result<Listed> {
    Ok(match images {
        ImageSource::Folder(folder) => {
            let found = files::of_folder(folder)?;
            if found.is_empty() {
                return Err(files::none_in(folder));
            }
            Listed::Files(found)
        }
        ImageSource::Glob(pattern) => Listed::Files(files::of_glob(pattern)?),
        ImageSource::Files(files) => Listed::Files(files.clone()),
        ImageSource::Csv(path) => Listed::Table(Box::new(Table::text(path, b',')?)),
        ImageSource::Tsv(path) => Listed::Table(Box::new(Table::text(path, b'\t')?)),
        ImageSource::Parquet(path) => Listed::Table(Box::new(Table::parquet(path)?)),
    })
}

/// The attributes that `metadata` names, where they are no `columns`.
fn keywords<'a>(names: impl Iterator<Item = &'a String>, columns: Option<&[&str]>) -> Result<Vec<Keyword>> {
    let explain = |name: &String, e: String| {
        let columns = columns.map(|c| format!(", and no column ({})", suggest(name, c))).unwrap_or_default();
        Error::Invalid(format!("metadata: {e}{columns}"))
    };
    names.map(|name| check_keyword(name).map_err(|e| explain(name, e))).collect()
}

/// The rows of a table, and the attributes that are to be read from the files.
fn table_rows(table: Table, spec: &DataSpec) -> Result<(Vec<Row>, Vec<Keyword>)> {
    let file = table.path().to_owned();
    let header: Vec<String> = table.header().to_vec();
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let column = |name: &str| {
        names.iter().position(|h| *h == name).ok_or_else(|| {
            let help = suggest(name, &names);
            Error::Invalid(format!("{}: no column `{name}`: {help}", file.display()))
        })
    };
    let named = |name: Option<&String>| name.map(|n| column(n)).transpose();
    let labels = match spec.labels.as_ref().map(|l| &l.by) {
        Some(LabelBy::Column(name)) => Some(name),
        _ => None,
    };
    let group = match &spec.group {
        Some(GroupBy::Column(name)) => Some(name),
        _ => None,
    };
    // The cells of a row come in this order.
    let fixed = [
        Some(column("path")?),
        named(labels)?,
        named(group)?,
        named(spec.mask.as_ref())?,
        named(spec.frame.as_ref())?,
    ];
    let (copied, attributes): (Vec<&String>, Vec<&String>) =
        spec.metadata.iter().partition(|m| names.contains(&m.as_str()));
    let keywords = keywords(attributes.into_iter(), Some(&names))?;
    let copies = copied.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    let wanted: Vec<usize> = fixed.iter().flatten().chain(&copies).copied().collect();
    let base = spec.root.as_deref().or(file.parent()).unwrap_or(Path::new(""));
    let mut rows = Vec::new();
    table.rows(&wanted, &mut |place, cells| {
        let mut cells = cells.into_iter();
        let mut next = |i: usize| fixed[i].and_then(|_| cells.next().flatten());
        let Some(path) = next(0) else {
            return Err(Error::Invalid(format!("{place}: the column `path` is empty")));
        };
        let (label, group, mask, frame) = (next(1), next(2), next(3), next(4));
        let frame = frame.map(|f| match f.parse::<usize>() {
            Ok(frame) if frame > 0 => Ok(frame),
            _ => Err(Error::Invalid(format!(
                "{place}: `{}` is \"{f}\", expected a whole number from 1 on",
                spec.frame.as_deref().unwrap_or_default()
            ))),
        });
        let metadata = copied.iter().zip(cells).filter_map(|(name, v)| Some(((*name).clone(), v?)));
        rows.push(Row {
            source: Source { path: base.join(path), frame: frame.transpose()? },
            label,
            group,
            mask: mask.map(|m| base.join(m)),
            metadata: metadata.collect(),
        });
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(Error::Invalid(format!("{}: no rows below the header", file.display())));
    }
    Ok((rows, keywords))
}

/// A row for each frame of its file, with the attributes that were asked for.
fn frames(row: Row, keywords: &[Keyword]) -> Vec<Row> {
    let (count, attributes) = look_into(&row.source.path, keywords).unwrap_or((1, Vec::new()));
    let mut row = row;
    row.metadata.extend(attributes);
    if row.source.frame.is_some() || count == 1 {
        return vec![row];
    }
    let of = |frame| {
        let mut row = row.clone();
        row.source.frame = Some(frame);
        row
    };
    (1..=count).map(of).collect()
}

/// How many images a file holds and the attributes that were asked for; `None` if it has no frames or cannot be read.
fn look_into(path: &Path, keywords: &[Keyword]) -> Option<(usize, Vec<(String, String)>)> {
    if is_single(path) {
        return None;
    }
    match recognise(&head(path).ok()?)? {
        Format::Dicom => dicom::header(path, keywords).ok(),
        Format::Tiff => Some((tiff::pages(BufReader::new(File::open(path).ok()?)).ok()?.len(), Vec::new())),
        Format::Picture(_) => None,
    }
}

fn item(row: Row, id: String, spec: &DataSpec) -> Item {
    let path = row.source.path;
    let label = spec.labels.as_ref().and_then(|Labels { by, positive, negative }| {
        let value = match by {
            LabelBy::Folder => path.parent()?.file_name()?.to_str()?.to_owned(),
            LabelBy::Column(_) => row.label.clone()?,
        };
        match (positive.contains(&value), negative.contains(&value)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    });
    let group = spec.group.as_ref().and_then(|by| match by {
        GroupBy::FileName(r) => {
            let found = r.captures(path.file_name()?.to_str()?)?;
            Some(found.get(1).or(found.get(0))?.as_str().to_owned())
        }
        GroupBy::Column(_) => row.group.clone(),
    });
    Item { id, path, frame: row.source.frame, group, label, mask: row.mask, metadata: row.metadata }
}

/// Counts for `check` and the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Images.
    pub images: usize,
    /// With the target class.
    pub positive: usize,
    /// Without it.
    pub negative: usize,
    /// Distinct groups.
    pub groups: usize,
    /// Images without a group although groups were asked for.
    pub ungrouped: usize,
}

/// Counts images, labels and groups.
pub fn census(items: &[Item]) -> Census {
    let groups: HashSet<&str> = items.iter().filter_map(|i| i.group.as_deref()).collect();
    Census {
        images: items.len(),
        positive: items.iter().filter(|i| i.label == Some(true)).count(),
        negative: items.iter().filter(|i| i.label == Some(false)).count(),
        groups: groups.len(),
        ungrouped: items.iter().filter(|i| i.group.is_none()).count(),
    }
}

#[cfg(test)]
mod tests;

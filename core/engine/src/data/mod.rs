//! The images of a study: which files, in which order, with which ids, labels and groups; and reading them.

mod read;

pub use read::{SMALLEST_SIDE, centre, decode, read};

use crate::manifest::{DataSpec, GroupBy, ImageSource, LabelBy, Labels};
use shiftlens_api::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Endings of the files that a folder is searched for.
pub const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp", "gif"];

/// One image file and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Letters, digits, `-`, `_`, `.` only; unique.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// Group (patient).
    pub group: Option<String>,
    /// Ground truth: true is the target class.
    pub label: Option<bool>,
}

/// Lists the study's images in a fixed order: by path for folders and globs, by row for a CSV, as given for files.
///
/// # Errors
/// [`Error::Invalid`] if there is none, or a CSV lacks a column; [`Error::Io`].
pub fn scan(spec: &DataSpec) -> Result<Vec<Item>> {
    let mut rows: Vec<Row> = match &spec.images {
        ImageSource::Folder(folder) => plain(folder_files(folder)?),
        ImageSource::Glob(pattern) => plain(glob_files(pattern)?),
        ImageSource::Files(files) => plain(files.clone()),
        ImageSource::Csv(path) => csv_rows(path, spec)?,
    };
    if let Some(limit) = spec.limit
        && limit < rows.len()
    {
        let n = rows.len();
        let mut rest: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        rows = (0..limit).filter_map(|i| rest[i * n / limit].take()).collect();
    }
    let ids = unique_ids(rows.iter().map(|r| r.path.as_path()));
    Ok(rows.into_iter().zip(ids).map(|(row, id)| item(row, id, spec)).collect())
}

struct Row {
    path: PathBuf,
    label: Option<String>,
    group: Option<String>,
}

fn plain(paths: Vec<PathBuf>) -> Vec<Row> {
    paths.into_iter().map(|path| Row { path, label: None, group: None }).collect()
}

fn item(row: Row, id: String, spec: &DataSpec) -> Item {
    let label = spec.labels.as_ref().and_then(|Labels { by, positive, negative }| {
        let value = match by {
            LabelBy::Folder => row.path.parent()?.file_name()?.to_str()?.to_owned(),
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
            let found = r.captures(row.path.file_name()?.to_str()?)?;
            Some(found.get(1).or(found.get(0))?.as_str().to_owned())
        }
        GroupBy::Column(_) => row.group.clone(),
    });
    Item { id, path: row.path, group, label }
}

fn folder_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| Error::io(&dir, e))? {
            let entry = entry.map_err(|e| Error::io(&dir, e))?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|x| e.eq_ignore_ascii_case(x))) {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        let list = EXTENSIONS.join(", ");
        return Err(Error::Invalid(format!(
            "{}: no image in this folder (searched for {list})",
            folder.display()
        )));
    }
    Ok(found)
}

fn glob_files(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).map_err(|e| Error::Invalid(format!("glob {pattern}: {e}")))?;
    let mut found: Vec<PathBuf> = paths
        .collect::<Result<_, _>>()
        .map_err(|e| Error::io(e.path(), std::io::Error::from(e.error().kind())))?;
    found.retain(|p| p.is_file());
    found.sort();
    if found.is_empty() {
        return Err(Error::Invalid(format!("glob {pattern}: no file matches")));
    }
    Ok(found)
}

fn csv_rows(path: &Path, spec: &DataSpec) -> Result<Vec<Row>> {
    let fail = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(e) => Error::io(path, e),
        kind => Error::Invalid(format!("{}: {kind:?}", path.display())),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(fail)?;
    let header = reader.headers().map_err(fail)?.clone();
    let column = |name: &str| {
        let names: Vec<&str> = header.iter().map(|h| h.trim_start_matches('\u{feff}')).collect();
        names.iter().position(|h| *h == name).ok_or_else(|| {
            let help = crate::nearest::suggest(name, &names);
            Error::Invalid(format!("{}: no column `{name}`: {help}", path.display()))
        })
    };
    let paths = column("path")?;
    let labels = match spec.labels.as_ref().map(|l| &l.by) {
        Some(LabelBy::Column(name)) => Some(column(name)?),
        _ => None,
    };
    let groups = match &spec.group {
        Some(GroupBy::Column(name)) => Some(column(name)?),
        _ => None,
    };
    let base = spec.root.as_deref().or(path.parent()).unwrap_or(Path::new(""));
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(fail)?;
        let cell =
            |i: Option<usize>| i.and_then(|i| record.get(i)).filter(|c| !c.is_empty()).map(str::to_owned);
        let line = record.position().map_or(0, csv::Position::line);
        let Some(file) = cell(Some(paths)) else {
            return Err(Error::Invalid(format!("{}:{line}: the column `path` is empty", path.display())));
        };
        rows.push(Row { path: base.join(file), label: cell(labels), group: cell(groups) });
    }
    if rows.is_empty() {
        return Err(Error::Invalid(format!("{}: no rows below the header", path.display())));
    }
    Ok(rows)
}

/// The file's stem with everything but letters, digits, `-`, `_` and `.` replaced; no leading dot.
fn safe(name: Option<&std::ffi::OsStr>) -> String {
    let name = name.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut id: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(100)
        .collect();
    if id.starts_with('.') {
        id.replace_range(..1, "-");
    }
    if id.is_empty() { "image".into() } else { id }
}

/// One id per path: the stem; where stems meet, folder and stem; where those meet, with a number. Upper and lower
/// case count as equal, because they do on some file systems.
fn unique_ids<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let paths: Vec<&Path> = paths.collect();
    let mut ids: Vec<String> = paths.iter().map(|p| safe(p.file_stem())).collect();
    let mut count: HashMap<String, usize> = HashMap::new();
    for id in &ids {
        *count.entry(id.to_lowercase()).or_default() += 1;
    }
    for (id, path) in ids.iter_mut().zip(&paths) {
        if count[&id.to_lowercase()] > 1
            && let Some(parent) = path.parent().and_then(Path::file_name)
        {
            *id = format!("{}_{id}", safe(Some(parent)));
        }
    }
    let mut taken: HashSet<String> = HashSet::new();
    for id in &mut ids {
        let (base, mut n) = (id.clone(), 1);
        while !taken.insert(id.to_lowercase()) {
            n += 1;
            *id = format!("{base}-{n}");
        }
    }
    ids
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

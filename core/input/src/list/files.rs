//! Files below a folder, and those that match a pattern.

use crate::format::{EXTENSIONS, is_image};
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};

/// All image files below a folder, by path; hidden ones are passed over.
pub fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
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
            } else if is_image(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What is said of a folder without images.
pub fn none_in(folder: &Path) -> Error {
    Error::Invalid(format!(
        "{}: no image in this folder (searched for {}, and DICOM files without an ending)",
        folder.display(),
        EXTENSIONS.join(", ")
    ))
}

/// All files that match, by path.
pub fn of_glob(pattern: &str) -> Result<Vec<PathBuf>> {
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

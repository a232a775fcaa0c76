//! Runs of several predictors on the same images: a folder for each, and what is made of all of them.
//!
//! Each predictor has a run of its own in `OUT/NAME`, which knows nothing of the others: it is resumed, cut into parts,
//! joined and refused like any other. `OUT/predictors.json` says what the folder is, and `OUT/comparison.json` and the page
//! are functions of the runs' folders alone. A run that is written to breaks the seal of the folder above it, so that what
//! was made of it is made again.

mod compare;
mod figures;
#[cfg(test)]
mod tests;

use super::complete::{self, seal_of};
use super::folder::{self, RunFolder, has_results, lock, read_json, remove, write_json};
use shiftlens_api::record::{
    COMPARISON_FILE, ComparisonRecord, PREDICTORS_FILE, PredictorsRecord, RECORD_SCHEMA,
};
use shiftlens_api::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What is written beside the predictors' folders; the record, by which the folder is known, comes last.
const OURS: [&str; 7] = [
    complete::FILE,
    "report.html",
    "report",
    "comparison.csv",
    "comparison.parquet",
    COMPARISON_FILE,
    PREDICTORS_FILE,
];

/// Those of them that are made in the formats that the manifest asks for.
const OUTPUTS: std::ops::Range<usize> = 1..5;

/// True if a predictor cannot be called so: a run's folder, or that of several runs, has something of this name.
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_lowercase();
    folder::ours(&name) || ours(&name)
}

/// True if two names are those of one folder on some system.
pub fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn ours(name: &str) -> bool {
    OURS.contains(&folder::whole(name))
}

/// The record in the folder, if it holds runs of several predictors.
///
/// # Errors
/// [`Error::Invalid`] if it is damaged, or of another version.
pub fn read_predictors(root: &Path) -> Result<Option<PredictorsRecord>> {
    let path = root.join(PREDICTORS_FILE);
    let record: PredictorsRecord = match read_json(&path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    // Names become paths.
    let wrong =
        record.predictors.iter().find(|n| n.contains(['/', '\\']) || n.starts_with('.') || n.is_empty());
    match wrong {
        Some(name) => Err(Error::Invalid(format!("{}: {name:?} is no predictor's name", path.display()))),
        None if record.schema != RECORD_SCHEMA => Err(Error::Invalid(format!(
            "{}: schema {}, this version reads {RECORD_SCHEMA}",
            path.display(),
            record.schema
        ))),
        None => Ok(Some(record)),
    }
}

/// An open folder of several predictors' runs, locked against other programs until dropped.
#[derive(Debug)]
pub struct SeveralFolder {
    root: PathBuf,
    record: PredictorsRecord,
    _lock: File,
}

impl SeveralFolder {
    /// Makes or opens the folder at `root` for these predictors. With `force`, runs of predictors that are not among them are
    /// removed, as is a run that has no predictor's name; those of the others are not touched.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it holds an ordinary run, the run of a predictor that is not among these (both unless `force`),
    /// something else, or is in use; [`Error::Io`].
    pub fn open(root: &Path, record: PredictorsRecord, force: bool) -> Result<Self> {
        let io = |e| Error::io(root, e);
        let refused = |what: String| Error::Invalid(format!("{}: {what}", root.display()));
        fs::create_dir_all(root).map_err(io)?;
        let lock = lock(root).map_err(|e| match e {
            TryLockError::WouldBlock => refused(
                "another program is running in this folder. Next: choose another folder with --out".into(),
            ),
            TryLockError::Error(e) => Error::io(root.join(folder::LOCK), e),
        })?;
        let earlier = read_predictors(root)?;
        let ordinary = earlier.is_none() && (root.join("run.json").exists() || has_results(root));
        let known =
            |name: &str| name == folder::LOCK || ours(name) || record.predictors.iter().any(|p| p == name);
        let mut entries = fs::read_dir(root).map_err(io)?.filter_map(|e| e.ok().map(|e| e.file_name()));
        // A folder without a record may be of anything.
        if earlier.is_none() && !ordinary && entries.any(|n| !n.to_str().is_some_and(known)) {
            return Err(refused(
                "the folder holds files that are no run's. Next: choose another folder with --out".into(),
            ));
        }
        match &earlier {
            Some(old) => {
                let named = |name: &&String| !record.predictors.contains(name);
                for gone in old.predictors.iter().filter(named) {
                    let run = root.join(gone);
                    if has_results(&run) && !force {
                        return Err(refused(format!(
                            "the folder holds a run of predictor `{gone}`, which the manifest does not have. Next: choose \
                             another folder with --out, or remove that run with --force"
                        )));
                    }
                    clear_run(&run)?;
                }
            }
            None if ordinary => {
                if has_results(root) && !force {
                    return Err(refused(
                        "the folder holds a run of a single predictor. Next: choose another folder with --out, or start \
                         anew in this one with --force (its results are removed)"
                            .into(),
                    ));
                }
                folder::clear(root)?;
            }
            None => {}
        }
        let folder = Self { root: root.to_owned(), record, _lock: lock };
        if earlier.as_ref() != Some(&folder.record) {
            folder.unseal()?;
            if earlier.is_some_and(|e| e.report != folder.record.report) {
                remove(root, &OURS[OUTPUTS])?;
            }
            write_json(&root.join(PREDICTORS_FILE), &folder.record)?;
        }
        Ok(folder)
    }

    /// The folder of a predictor's run.
    pub fn run(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// True if everything that is made of the runs is there, and none of them was written to since.
    pub fn sealed(&self) -> bool {
        seal_of(&self.root).is_some_and(|files| files.iter().all(|f| self.root.join(f).is_file()))
    }

    /// Breaks the seal.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn unseal(&self) -> Result<()> {
        remove(&self.root, &[complete::FILE])
    }

    /// Compares the runs that are there, and writes `comparison.json`.
    ///
    /// # Errors
    /// If a run's folder is damaged, or a file cannot be written.
    pub fn compare(&self) -> Result<ComparisonRecord> {
        let comparison = compare::compare(&self.root, &self.record.predictors)?;
        write_json(&self.root.join(COMPARISON_FILE), &comparison)?;
        Ok(comparison)
    }

    /// Notes that all of it is written; `files` are those that were made of the runs, relative to the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn seal(&self, files: Vec<String>) -> Result<()> {
        complete::write_seal(&self.root, files)
    }
}

/// Removes a run and, where nothing else lies in it, its folder.
fn clear_run(run: &Path) -> Result<()> {
    if run.is_dir() {
        folder::clear(run)?;
        remove(run, &[folder::LOCK])?;
        // What is no run's stays.
        let _ = fs::remove_dir(run);
    }
    Ok(())
}

/// Removes the runs of several predictors, and what was made of them.
pub(super) fn clear(root: &Path) -> Result<()> {
    for name in read_predictors(root)?.into_iter().flat_map(|r| r.predictors) {
        clear_run(&root.join(name))?;
    }
    remove(root, &OURS)
}

impl RunFolder {
    /// Breaks the seal of the folder above, if this run is one of several predictors': what was made of it is out of date.
    pub(super) fn unseal_above(&self) -> Result<()> {
        match self.root().parent() {
            Some(above) if above.join(PREDICTORS_FILE).exists() => remove(above, &[complete::FILE]),
            _ => Ok(()),
        }
    }
}

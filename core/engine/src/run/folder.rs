//! The run's folder: one run, one program at a time.

use super::{complete, evaluate, several, shard};
use serde::Serialize;
use shiftlens_api::record::{CaseRecord, PREDICTORS_FILE, RunRecord};
use shiftlens_api::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What a run writes; `force` removes these and nothing else. In this order, so that whatever is left by a kill is still
/// known to be of a run: cases without the record of their run would pass for another's.
const OURS: [&str; 15] = [
    complete::FILE,
    "report.html",
    "report",
    "cases.csv",
    "cases.parquet",
    "evaluation.csv",
    "evaluation.parquet",
    "contact-sheet.png",
    "evaluation.json",
    evaluate::RANDOMISATION,
    "metrics.json",
    "cases",
    "direction",
    shard::FILE,
    "run.json",
];

/// Those of them that are made of the run's numbers, in the formats that the manifest asks for.
const OUTPUTS: std::ops::Range<usize> = 1..8;

/// True for what a run writes, whole or on its way: a killed run may leave `run.json.part`.
pub(super) fn ours(name: &str) -> bool {
    let whole = whole(name);
    whole == LOCK || OURS.contains(&whole)
}

/// The name of what a file on its way will be.
pub(super) fn whole(name: &str) -> &str {
    [".part", ".partial"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// The file that a running program holds.
pub(super) const LOCK: &str = ".lock";

/// An open run folder, locked against other programs until dropped.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes or opens the folder at `root` for the run with this fingerprint.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it holds another run (unless `force`), something else, or is in use; [`Error::Io`].
    pub fn open(root: &Path, fingerprint: &str, resolved: &serde_json::Value, force: bool) -> Result<Self> {
        let io = |e| Error::io(root, e);
        let other = |what: String| {
            Error::Invalid(format!("{}: {what}. Next: choose another folder with --out", root.display()))
        };
        fs::create_dir_all(root).map_err(io)?;
        let several = root.join(PREDICTORS_FILE);
        if several.exists() && !force {
            return Err(Error::Invalid(format!(
                "{}: the folder holds runs of several predictors. Next: choose another folder with --out, or start anew in \
                 this one with --force (their results are removed)",
                root.display()
            )));
        }
        let record = root.join("run.json");
        let strangers = fs::read_dir(root)
            .map_err(io)?
            .filter_map(|e| e.ok().map(|e| e.file_name()))
            .any(|n| !n.to_str().is_some_and(ours));
        if !record.exists() && !several.exists() && strangers {
            return Err(other("the folder holds files that are no run's".into()));
        }
        let lock = match lock(root) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => {
                return Err(other("another program is running in this folder".into()));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(root.join(LOCK), e)),
        };
        if several.exists() {
            several::clear(root)?;
        }
        if !record.exists() && has_results(root) {
            if !force {
                return Err(other("the folder holds results, but no run.json that says of which run".into()));
            }
            clear(root)?;
        }
        if record.exists() {
            let differs = match read_json::<RunRecord>(&record) {
                Ok(old) if old.fingerprint == fingerprint => None,
                Ok(old) => Some(difference(&old.manifest, resolved)),
                Err(e) => Some(format!("an unreadable run ({e})")),
            };
            match differs {
                Some(_) if force || !has_results(root) => clear(root)?,
                Some(what) => {
                    return Err(Error::Invalid(format!(
                        "{}: the folder holds another run: {what}. Next: choose another folder with --out, or start anew \
                         in this one with --force (its results are removed)",
                        root.display()
                    )));
                }
                None if force => clear(root)?,
                None => {}
            }
        }
        let folder = Self { root: root.to_owned(), _lock: lock };
        fs::create_dir_all(folder.cases()).map_err(io)?;
        folder.sweep()?;
        Ok(folder)
    }

    /// An existing folder as it stands; `None` if another program works in it.
    pub(super) fn locked(root: &Path) -> Option<Self> {
        Some(Self { root: root.to_owned(), _lock: lock(root).ok()? })
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// `direction/`.
    pub fn direction(&self) -> PathBuf {
        self.root.join("direction")
    }

    /// A file of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `cases/`.
    pub fn cases(&self) -> PathBuf {
        self.root.join("cases")
    }

    /// `cases/<id>/`.
    pub fn case(&self, id: &str) -> PathBuf {
        self.cases().join(id)
    }

    /// Where a case is made before it is renamed.
    pub fn temporary(&self, id: &str) -> PathBuf {
        self.cases().join(format!(".part-{id}"))
    }

    /// Writes `value` as `name`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_json(&self.root.join(name), value)
    }

    /// Reads a case's record.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] if it is damaged.
    pub fn read_case(&self, id: &str) -> Result<CaseRecord> {
        read_json(&self.case(id).join("case.json"))
    }

    /// The record of the run that the folder holds, if it can be read.
    pub(super) fn read_run(&self) -> Option<RunRecord> {
        read_json(&self.root.join("run.json")).ok()
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &Path) -> Result<()> {
        let path = self.root.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }

    /// Removes what was made of the numbers: other formats are asked for now.
    pub(super) fn remove_outputs(&self) -> Result<()> {
        remove(&self.root, &OURS[OUTPUTS])
    }

    /// Removes what a killed run left unfinished.
    fn sweep(&self) -> Result<()> {
        let cases = self.cases();
        for entry in fs::read_dir(&cases).map_err(|e| Error::io(&cases, e))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".part-") {
                fs::remove_dir_all(entry.path()).map_err(|e| Error::io(entry.path(), e))?;
            }
        }
        Ok(())
    }
}

pub(super) fn lock(root: &Path) -> std::result::Result<File, TryLockError> {
    let file = File::options().create(true).truncate(false).write(true).open(root.join(LOCK));
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Writes JSON beside its place and renames it.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::component(path.display().to_string(), e))?;
    let part = path.with_extension("json.part");
    fs::write(&part, text).map_err(|e| Error::io(&part, e))?;
    fs::rename(&part, path).map_err(|e| Error::io(path, e))
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_slice(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

/// True if something would be lost: a case or a direction.
pub(super) fn has_results(root: &Path) -> bool {
    let any = |name: &str| fs::read_dir(root.join(name)).is_ok_and(|mut d| d.next().is_some());
    any("cases") || any("direction")
}

pub(super) fn clear(root: &Path) -> Result<()> {
    remove(root, &OURS)
}

/// Removes files and folders, as far as they are there.
pub(super) fn remove(root: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = root.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path, e)),
            _ => {}
        }
    }
    Ok(())
}

/// Names the sections in which two resolved manifests differ.
pub(super) fn difference(old: &serde_json::Value, new: &serde_json::Value) -> String {
    let keys = |v: &serde_json::Value| v.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
    let mut all: Vec<String> = keys(old);
    all.extend(keys(new));
    all.sort();
    all.dedup();
    let changed: Vec<String> = all.into_iter().filter(|k| old.get(k) != new.get(k)).collect();
    if changed.is_empty() {
        "it was made otherwise".into()
    } else {
        format!("it differs in {}", changed.join(", "))
    }
}

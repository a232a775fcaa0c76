//! The run's folder: one run, one program at a time.

use serde::Serialize;
use shiftlens_api::record::{CaseRecord, RunRecord};
use shiftlens_api::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// What a run writes; `force` removes these and nothing else.
const OURS: [&str; 13] = [
    "run.json",
    "metrics.json",
    "evaluation.json",
    "randomisation.json",
    "cases.csv",
    "cases.parquet",
    "evaluation.csv",
    "evaluation.parquet",
    "contact-sheet.png",
    "report.html",
    "report",
    "cases",
    "direction",
];

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
        let record = root.join("run.json");
        let strangers = fs::read_dir(root)
            .map_err(io)?
            .filter_map(|e| e.ok().map(|e| e.file_name()))
            .any(|n| n != ".lock" && !OURS.iter().any(|o| n == *o));
        if !record.exists() && strangers {
            return Err(other("the folder holds files that are no run's".into()));
        }
        let path = root.join(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| Error::io(&path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(other("another program is running in this folder".into()));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
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

    /// `direction/`.
    pub fn direction(&self) -> PathBuf {
        self.root.join("direction")
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
fn has_results(root: &Path) -> bool {
    let any = |name: &str| fs::read_dir(root.join(name)).is_ok_and(|mut d| d.next().is_some());
    any("cases") || any("direction")
}

fn clear(root: &Path) -> Result<()> {
    for name in OURS {
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
fn difference(old: &serde_json::Value, new: &serde_json::Value) -> String {
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

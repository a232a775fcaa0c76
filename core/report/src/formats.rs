//! What is written beside a run's numbers.

use crate::folder::RunFolder;
use crate::{sheet, table, write_report};
use serde::Deserialize;
use shiftlens_api::Result;
use shiftlens_api::record::RunRecord;
use std::path::{Path, PathBuf};

/// `[report]` of the manifest, as `run.json` keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Formats {
    /// `report.html`.
    pub html: bool,
    /// `cases.csv`, and `evaluation.csv` where there is an evaluation.
    pub csv: bool,
    /// The same as Parquet.
    pub parquet: bool,
    /// `contact-sheet.png`.
    pub contact_sheet: bool,
    /// The page carries everything inside itself.
    pub single_file: bool,
}

impl Formats {
    /// What a run asks for; the page and the CSV tables where its record does not say.
    pub(crate) fn of(run: &RunRecord) -> Result<Self> {
        match run.manifest.get("report") {
            None => Ok(Self { html: true, csv: true, ..Self::default() }),
            Some(said) => serde_json::from_value(said.clone())
                .map_err(|e| shiftlens_api::Error::Invalid(format!("run.json: manifest.report: {e}"))),
        }
    }
}

/// Writes what the run's manifest asks for beside the numbers (`[report]` in `run.json`), and returns the files: tables,
/// the contact sheet, and last `report.html`, which links to them.
///
/// Memory does not grow with the number of cases, but for some hundred bytes of each.
///
/// # Errors
/// If `run.json` cannot be read or a file cannot be written; unreadable cases are named on the page.
pub fn write_outputs(run_dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = RunFolder::read(run_dir)?;
    let formats = Formats::of(&folder.run)?;
    let mut written = Vec::new();
    if formats.csv {
        written.extend(table::write(&folder, table::Format::Csv)?);
    }
    if formats.parquet {
        written.extend(table::write(&folder, table::Format::Parquet)?);
    }
    if formats.contact_sheet {
        written.extend(sheet::write(&folder)?);
    }
    if formats.html {
        written.push(write_report(run_dir)?);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_asks_for_what_it_names() {
        let of = |report: serde_json::Value| serde_json::from_value::<Formats>(report);
        let some = of(serde_json::json!({ "html": true, "gif": true, "single-file": true })).unwrap();
        assert_eq!(some, Formats { html: true, single_file: true, ..Formats::default() });
        assert!(of(serde_json::json!({ "html": "yes" })).is_err());
    }
}

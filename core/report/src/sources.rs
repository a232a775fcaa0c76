//! Pictures as the page refers to them.

use crate::base64;
use crate::folder::RunFolder;
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use shiftlens_api::{Error, Result};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Up to this many cases a report can carry everything inside itself.
pub const EMBED_LIMIT_CASES: usize = 300;
/// Up to this many bytes of pictures a report can carry them inside itself.
pub const EMBED_LIMIT_BYTES: u64 = 64 << 20;

/// A picture as the page refers to it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Picture {
    /// Address, safe to stand in an attribute.
    src: Value,
    width: u32,
    height: u32,
}

/// Finds pictures: embeds them or refers to them.
pub(crate) struct Sources {
    root: PathBuf,
    /// Where the run's folder lies, seen from the page: empty, or `NAME/`.
    pub below: String,
    /// What the ids of the run's pictures in the page begin with; other runs' stand beside them.
    pub anchors: String,
    /// Pictures are embedded.
    pub embed: bool,
    /// One line for each picture that could not be read.
    pub remarks: Vec<String>,
}

impl Sources {
    /// `single` asks for pictures inside the page; a run that is too large for that gets a remark and links.
    pub(crate) fn new(folder: &RunFolder, single: bool) -> Self {
        let embed = single && fits(&[folder]);
        let remarks = if single && !embed { vec![too_large()] } else { Vec::new() };
        Self { root: folder.root.clone(), below: String::new(), anchors: String::new(), embed, remarks }
    }

    /// Those of the run of the n-th of several predictors, seen from the page above its folder.
    pub(crate) fn of_predictor(folder: &RunFolder, name: &str, n: usize, embed: bool) -> Self {
        let (below, anchors) = (format!("{}/", encoded(name)), format!("p{n}-"));
        Self { root: folder.root.clone(), below, anchors, embed, remarks: Vec::new() }
    }

    /// Address of a case's file, seen from the page.
    pub(crate) fn address(&self, case: &str, name: &str) -> String {
        format!("{}{}", self.below, address(case, name))
    }

    /// A picture of a case; `None`, and a remark, if it cannot be read.
    pub(crate) fn picture(&mut self, case: &str, name: &str) -> Option<Picture> {
        let path = self.root.join("cases").join(case).join(name);
        match self.read(&path, case, name) {
            Ok(picture) => Some(picture),
            Err(e) => {
                self.remarks.push(format!("picture left out: {e}"));
                None
            }
        }
    }

    fn read(&self, path: &Path, case: &str, name: &str) -> Result<Picture> {
        let io = |e| Error::io(path, e);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(if self.embed { u64::MAX } else { 24 }).read_to_end(&mut bytes).map_err(io)?;
        // A PNG begins with 8 bytes of signature and its IHDR chunk: length, "IHDR", width, height.
        if bytes.len() < 24 || !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err(Error::Invalid(format!("{}: not a PNG picture", path.display())));
        }
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let (width, height) = (number(16), number(20));
        let mut src = String::new();
        if self.embed {
            src.push_str("data:image/png;base64,");
            base64::encode(&bytes, &mut src);
        } else {
            src = self.address(case, name);
        }
        Ok(Picture { src: Value::from_safe_string(src), width, height })
    }
}

/// True if the pictures of all these runs can stand inside one page.
pub(crate) fn fits(folders: &[&RunFolder]) -> bool {
    let cases: usize = folders.iter().map(|f| f.ids.len()).max().unwrap_or(0);
    if cases > EMBED_LIMIT_CASES {
        return false;
    }
    folders.iter().map(|f| weight(f)).sum::<u64>() <= EMBED_LIMIT_BYTES
}

/// Bytes of all pictures that the views of a run's cases show.
fn weight(folder: &RunFolder) -> u64 {
    let size = |case: &CaseRecord, name: &String| {
        std::fs::metadata(folder.case_folder(&case.id).join(name)).map_or(0, |m| m.len())
    };
    folder.cases().flatten().map(|c| shown(&c).map(|name| size(&c, name)).sum::<u64>()).sum()
}

/// Why a page refers to its pictures, though they were to stand inside it.
pub(crate) fn too_large() -> String {
    format!(
        "single-file: this run is too large to stand inside one file (at most {EMBED_LIMIT_CASES} cases and {} MiB of \
         pictures): the page shows its pictures from the run's folder",
        EMBED_LIMIT_BYTES >> 20
    )
}

/// Address of a case's file, seen from its run's folder.
fn address(case: &str, name: &str) -> String {
    format!("cases/{}/{}", encoded(case), encoded(name))
}

/// Pictures of a case that its view shows.
fn shown(case: &CaseRecord) -> impl Iterator<Item = &String> {
    let explained = case.explanations.iter().flat_map(|e| match e {
        ExplanationRecord::Heatmap { .. } => Vec::new(),
        ExplanationRecord::Shift { pictures, difference, .. } => pictures.iter().chain(difference).collect(),
    });
    let named = case.pictures.iter().filter(|(key, _)| {
        *key == "original"
            || (key.starts_with("heatmap-") && (key.ends_with("-layer") || key.ends_with("-raw")))
    });
    named.map(|(_, v)| v).chain(explained)
}

/// Percent-encodes all but unreserved characters and `/` (RFC 3986, section 2.3).
pub(crate) fn encoded(path: &str) -> String {
    let mut out = String::new();
    for b in path.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(b as char),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_percent_encoded() {
        assert_eq!(encoded("a b/ü\"#?.png"), "a%20b/%C3%BC%22%23%3F.png");
        assert_eq!(address("a#1", "series-0/00.png"), "cases/a%231/series-0/00.png");
    }
}

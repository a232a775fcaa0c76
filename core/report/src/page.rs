//! `report.html`.

use crate::base64;
use crate::folder::{RunFolder, replace};
use crate::view;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use shiftlens_api::{Error, Result};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Up to this many cases a report carries its pictures inside itself.
pub const EMBED_LIMIT_CASES: usize = 300;
/// Up to this many bytes of pictures a report carries them inside itself.
pub const EMBED_LIMIT_BYTES: u64 = 64 << 20;

const TEMPLATES: [(&str, &str); 3] = [
    ("report.html", include_str!("templates/report.html")),
    ("case.html", include_str!("templates/case.html")),
    ("map.html", include_str!("templates/map.html")),
];
pub(crate) const CSS: &str = include_str!("templates/report.css");
const JS: &str = include_str!("templates/report.js");

/// Writes `report.html` into a run's folder and returns its path.
///
/// The page needs no network and no other file while the run has at most [`EMBED_LIMIT_CASES`] cases and
/// [`EMBED_LIMIT_BYTES`] of pictures; larger ones refer to the pictures in the folder, and say so. What could not be
/// read (a case's record, a picture) is named on the page.
///
/// # Errors
/// If `run.json` cannot be read or the page cannot be written.
pub fn write_report(run_dir: &Path) -> Result<PathBuf> {
    let folder = RunFolder::read(run_dir)?;
    let mut sources = Sources::new(&folder);
    let view = view::page(&folder, &mut sources);
    let html = render(&view)?;
    let path = run_dir.join("report.html");
    replace(&path, html.as_bytes())?;
    Ok(path)
}

/// Templates by name, in the project's syntax.
pub(crate) fn environment<'a>(
    templates: &[(&'static str, &'static str)],
) -> std::result::Result<Environment<'a>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    for (name, source) in templates {
        environment.add_template(name, source)?;
    }
    Ok(environment)
}

fn render(view: &impl Serialize) -> Result<String> {
    let failed = |e: minijinja::Error| Error::component("report.html", format!("{e:#}"));
    let environment = environment(&TEMPLATES).map_err(failed)?;
    let template = environment.get_template("report.html").map_err(failed)?;
    template
        .render(minijinja::context! {
            run => Serde(view),
            css => Value::from_safe_string(CSS.into()),
            js => Value::from_safe_string(JS.into()),
        })
        .map_err(failed)
}

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
    /// Pictures are embedded.
    pub embed: bool,
    /// One line for each picture that could not be read.
    pub remarks: Vec<String>,
}

impl Sources {
    fn new(folder: &RunFolder) -> Self {
        let size = |case: &CaseRecord, name: &String| {
            std::fs::metadata(folder.case_folder(&case.id).join(name)).map_or(0, |m| m.len())
        };
        let bytes: u64 = folder.cases.iter().map(|c| shown(c).map(|name| size(c, name)).sum::<u64>()).sum();
        Self {
            root: folder.root.clone(),
            embed: folder.cases.len() <= EMBED_LIMIT_CASES && bytes <= EMBED_LIMIT_BYTES,
            remarks: Vec::new(),
        }
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
            let _ = write!(src, "cases/{}/{}", encoded(case), encoded(name));
        }
        Ok(Picture { src: Value::from_safe_string(src), width, height })
    }
}

/// Files of a case that the page shows.
fn shown(case: &CaseRecord) -> impl Iterator<Item = &String> {
    let explained = case.explanations.iter().flat_map(|e| match e {
        ExplanationRecord::Heatmap { .. } => Vec::new(),
        ExplanationRecord::Shift { pictures, difference, .. } => pictures.iter().chain(difference).collect(),
    });
    let named = case.pictures.iter().filter(|(key, _)| !key.starts_with("reconstruction-")).map(|(_, v)| v);
    named.chain(explained)
}

/// Percent-encodes all but unreserved characters and `/` (RFC 3986, section 2.3).
fn encoded(path: &str) -> String {
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
    }

    #[test]
    fn style_and_script_cannot_end_their_element() {
        assert!(!CSS.contains("</") && !JS.contains("</"));
    }
}

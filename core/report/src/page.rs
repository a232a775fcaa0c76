//! `report.html`, and `report/` with a file for each case.

use crate::case;
use crate::folder::{RunFolder, note, replace};
use crate::formats::Formats;
use crate::index::Index;
use crate::overview::Overview;
use crate::sources::Sources;
use crate::view::{self, Gathered};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;
use shiftlens_api::record::ExplanationRecord;
use shiftlens_api::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A template by its name.
macro_rules! template {
    ($name:literal) => {
        ($name, include_str!(concat!("templates/", $name)))
    };
}

/// The page of a run and that of several are made of the same parts, as are the views of their cases.
const TEMPLATES: [(&str, &str); 18] = [
    template!("page.html"),
    template!("report.html"),
    template!("compared.html"),
    template!("evaluation.html"),
    template!("cell.html"),
    template!("plots.html"),
    template!("gallery.html"),
    template!("failures.html"),
    template!("case.html"),
    template!("compared-case.html"),
    template!("meta.html"),
    template!("verdict.html"),
    template!("trust.html"),
    template!("image.html"),
    template!("shift.html"),
    template!("strip.html"),
    template!("maps.html"),
    template!("map.html"),
];
pub(crate) const CSS: &str = include_str!("templates/report.css");
/// The first needs nothing of the second.
const JS: [&str; 2] = [include_str!("templates/case.js"), include_str!("templates/report.js")];

/// Where the cases' files lie, beside the page.
const CASES: &str = "report";
/// Name of the page.
const PAGE: &str = "report.html";

/// A page in the making: the views of its cases are written as they come.
pub(crate) struct Page<'a> {
    templates: Environment<'a>,
    root: PathBuf,
    /// Views stand inside the page.
    embed: bool,
    files: BTreeSet<String>,
    embedded: Vec<(String, String)>,
}

impl Page<'_> {
    pub(crate) fn new(root: &Path, embed: bool) -> Result<Self> {
        let templates = environment(&TEMPLATES).map_err(failed)?;
        let below = root.join(CASES);
        if !embed {
            std::fs::create_dir_all(&below).map_err(|e| Error::io(&below, e))?;
        }
        let (files, embedded) = (BTreeSet::new(), Vec::new());
        Ok(Self { templates, root: root.to_owned(), embed, files, embedded })
    }

    /// Makes the view of a case.
    pub(crate) fn case(&mut self, id: &str, template: &str, context: Value) -> Result<()> {
        let html = self.templates.get_template(template).and_then(|t| t.render(context)).map_err(failed)?;
        if self.embed {
            self.embedded.push((id.to_owned(), html));
            return Ok(());
        }
        let name = format!("{id}.js");
        replace(&self.root.join(CASES).join(&name), script(id, &html)?.as_bytes())?;
        self.files.insert(name);
        Ok(())
    }

    /// The views that stand inside the page: id and markup.
    pub(crate) fn embedded(&mut self) -> Vec<(String, Value)> {
        let all = std::mem::take(&mut self.embedded);
        all.into_iter().map(|(id, html)| (id, Value::from_safe_string(html))).collect()
    }

    /// Writes the page itself, and removes views of cases that are no more.
    pub(crate) fn finish(self, template: &str, view: &impl Serialize) -> Result<PathBuf> {
        sweep(&self.root.join(CASES), &self.files)?;
        let html = self.templates.get_template(template).and_then(|t| {
            t.render(minijinja::context! {
                page => Serde(view),
                css => Value::from_safe_string(CSS.into()),
                js => Value::from_safe_string(JS.concat()),
            })
        });
        let path = self.root.join(PAGE);
        replace(&path, html.map_err(failed)?.as_bytes())?;
        Ok(path)
    }
}

fn failed(e: minijinja::Error) -> Error {
    Error::component(PAGE, format!("{e:#}"))
}

/// Writes `report.html` into a run's folder and returns its path.
///
/// The page needs no network. It holds the overview and the gallery; `report/ID.js` holds the view of case ID, and pictures
/// are shown from `cases`. Where the run asks for `single-file` and has at most [`crate::EMBED_LIMIT_CASES`] cases and
/// [`crate::EMBED_LIMIT_BYTES`] of pictures, everything stands inside the page. What could not be read (a case's record, a
/// picture) is named on it.
///
/// # Errors
/// If `run.json` cannot be read or a file cannot be written.
pub fn write_report(run_dir: &Path) -> Result<PathBuf> {
    let folder = RunFolder::read(run_dir)?;
    let single = Formats::of(&folder.run)?.single_file;
    let mut sources = Sources::new(&folder, single);
    let mut page = Page::new(run_dir, sources.embed)?;
    let mut gathered = Gathered {
        index: Index::new(&folder.run, Vec::new(), sources.embed),
        overview: Overview::default(),
        has_heatmap: false,
        alone: sources.embed,
        embedded: Vec::new(),
        remarks: Vec::new(),
    };
    for record in folder.cases() {
        let Some(record) = note(record, &mut gathered.remarks) else { continue };
        gathered.index.push(&[(&sources, Some(&record))]);
        gathered.overview.push(&record);
        gathered.has_heatmap |=
            record.explanations.iter().any(|e| matches!(e, ExplanationRecord::Heatmap { .. }));
        let view = case::case(&record, &folder.run, folder.evaluation.as_ref(), &mut sources);
        let target = &folder.run.target.name;
        page.case(&record.id, "case.html", minijinja::context! { case => Serde(&view), target })?;
    }
    gathered.remarks.append(&mut sources.remarks);
    gathered.embedded = page.embedded();
    page.finish("report.html", &view::page(&folder, gathered)?)
}

/// A case's file: a page that was opened from a disk may load scripts from there, and nothing else.
fn script(id: &str, html: &str) -> Result<String> {
    let json = |text: &str| serde_json::to_string(text).map_err(|e| Error::component("report.html", e));
    Ok(format!("shiftlensCase({}, {});\n", json(id)?, json(html)?))
}

/// Removes files of cases that the run no longer has, and the folder where it is empty.
fn sweep(below: &Path, files: &BTreeSet<String>) -> Result<()> {
    let entries = match std::fs::read_dir(below) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(below, e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(below, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.ends_with(".js") || name.ends_with(".js.partial")) && !files.contains(name.as_ref()) {
            std::fs::remove_file(entry.path()).map_err(|e| Error::io(entry.path(), e))?;
        }
    }
    if files.is_empty() {
        // Something else may lie in it; then it stays.
        let _ = std::fs::remove_dir(below);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_cannot_end_their_element() {
        assert!(!CSS.contains("</") && JS.iter().all(|js| !js.contains("</")));
    }

    #[test]
    fn a_case_s_file_is_one_call() {
        let js = script("a", "<p title=\"x\">\u{2028}</p>\n").unwrap();
        assert_eq!(js, "shiftlensCase(\"a\", \"<p title=\\\"x\\\">\u{2028}</p>\\n\");\n");
    }
}

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
use shiftlens_api::record::ExplanationRecord;
use shiftlens_api::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const TEMPLATES: [(&str, &str); 4] = [
    ("report.html", include_str!("templates/report.html")),
    ("evaluation.html", include_str!("templates/evaluation.html")),
    ("case.html", include_str!("templates/case.html")),
    ("map.html", include_str!("templates/map.html")),
];
pub(crate) const CSS: &str = include_str!("templates/report.css");
/// The first needs nothing of the second.
const JS: [&str; 2] = [include_str!("templates/case.js"), include_str!("templates/report.js")];

/// Where the cases' files lie, beside the page.
const CASES: &str = "report";

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
    let failed = |e: minijinja::Error| Error::component("report.html", format!("{e:#}"));
    let templates = environment(&TEMPLATES).map_err(failed)?;
    let below = run_dir.join(CASES);
    if !sources.embed {
        std::fs::create_dir_all(&below).map_err(|e| Error::io(&below, e))?;
    }

    let mut gathered = Gathered {
        index: Index::new(&folder.run, sources.embed),
        overview: Overview::default(),
        has_heatmap: false,
        alone: sources.embed,
        embedded: Vec::new(),
        remarks: Vec::new(),
    };
    let mut files = BTreeSet::new();
    for record in folder.cases() {
        let Some(record) = note(record, &mut gathered.remarks) else { continue };
        gathered.index.push(&record);
        gathered.overview.push(&record);
        gathered.has_heatmap |=
            record.explanations.iter().any(|e| matches!(e, ExplanationRecord::Heatmap { .. }));
        let view = case::case(&record, &folder.run, folder.evaluation.as_ref(), &mut sources);
        let template = templates.get_template("case.html").map_err(failed)?;
        let target = &folder.run.target.name;
        let html = template.render(minijinja::context! { case => Serde(&view), target }).map_err(failed)?;
        if sources.embed {
            gathered.embedded.push((record.id, html));
        } else {
            let name = format!("{}.js", record.id);
            replace(&below.join(&name), script(&record.id, &html)?.as_bytes())?;
            files.insert(name);
        }
    }
    sweep(&below, &files)?;
    gathered.remarks.append(&mut sources.remarks);
    let view = view::page(&folder, gathered)?;
    let html = templates
        .get_template("report.html")
        .and_then(|t| {
            t.render(minijinja::context! {
                run => Serde(&view),
                css => Value::from_safe_string(CSS.into()),
                js => Value::from_safe_string(JS.concat()),
            })
        })
        .map_err(failed)?;
    let path = run_dir.join("report.html");
    replace(&path, html.as_bytes())?;
    Ok(path)
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

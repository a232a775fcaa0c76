//! One predictor, or several that are explained side by side.
//!
//! `[predictor]` gives a study, `[[predictor]]` one for each entry: all that the manifest says besides holds for every one of
//! them, and none knows of the others. So each is the study that a manifest with its predictor alone would be.

use super::check::Checker;
use super::problem::{Located, ManifestError, Problem};
use super::raw::{Own, RawComponent, RawManifest, component_of, read_component};
use super::read::{OneOrMore, Sink, Table};
use super::study::{Study, folder_of};
use super::tree::Node;
use crate::run::{is_reserved, same_name};
use std::path::Path;

/// Letters of a predictor's name at most.
const LONGEST: usize = 64;

/// `[predictor]`, or all of `[[predictor]]`.
#[derive(Debug)]
pub enum RawPredictors {
    /// A table.
    One(Box<RawComponent>),
    /// An array of tables, in order, with their names.
    Several(Vec<(Located<String>, RawComponent)>),
}

/// A study of several predictors: the part that is about one of them.
#[derive(Debug)]
pub struct Named {
    /// The predictor's name.
    pub name: String,
    /// The study that a manifest with this predictor alone would be.
    pub study: Study,
}

/// What a manifest asks for.
#[derive(Debug)]
pub enum Studies {
    /// `[predictor]`.
    One(Box<Study>),
    /// `[[predictor]]`: at least one, in order.
    Several(Vec<Named>),
}

impl Studies {
    /// Reads, parses and checks the manifest at `path`, with `overrides` laid over it.
    ///
    /// # Errors
    /// Every mistake in it, those in what all predictors share once.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self, ManifestError> {
        RawManifest::read(path, overrides)?.check_all(path)
    }

    /// All studies.
    pub fn all(&self) -> impl Iterator<Item = &Study> {
        let none: &[Named] = &[];
        let (one, several) = match self {
            Self::One(study) => (Some(&**study), none),
            Self::Several(all) => (None, all.as_slice()),
        };
        one.into_iter().chain(several.iter().map(|n| &n.study))
    }
}

impl RawManifest {
    /// Gives meaning to a manifest with one `[predictor]`.
    ///
    /// # Errors
    /// Every unknown kind, wrong parameter and contradiction; `[[predictor]]`.
    pub fn check(self, path: &Path) -> Result<Study, ManifestError> {
        if let RawPredictors::Several(all) = &self.predictors {
            let problems = all.iter().take(1).map(|(name, _)| {
                let message = "the manifest has `[[predictor]]` sections, expected one `[predictor]`";
                self.sources.problem(name.at, message, "keep one of them, as [predictor] without `name`")
            });
            return Err(ManifestError::new(path.display().to_string(), problems.collect()));
        }
        match self.check_all(path)? {
            Studies::One(study) => Ok(*study),
            Studies::Several(_) => unreachable!("refused above"),
        }
    }

    /// Gives meaning to the manifest, for each of its predictors.
    ///
    /// # Errors
    /// As [`RawManifest::check`], and names of predictors that are none, or come twice. What is wrong with a section that
    /// all share is said once.
    pub fn check_all(self, path: &Path) -> Result<Studies, ManifestError> {
        let file = path.display().to_string();
        let (studies, problems) = match &self.predictors {
            RawPredictors::One(predictor) => {
                let (study, problems) = self.study_of(predictor, path);
                (study.map(|s| Studies::One(Box::new(s))), problems)
            }
            RawPredictors::Several(all) => {
                let mut problems = self.wrong_names(all);
                let mut studies = Vec::new();
                for (name, predictor) in all {
                    let (study, found) = self.study_of(predictor, path);
                    studies.push(study.map(|study| Named { name: name.value.clone(), study }));
                    problems.extend(found);
                }
                (studies.into_iter().collect::<Option<_>>().map(Studies::Several), problems)
            }
        };
        match (studies, ManifestError::joined([ManifestError::new(&file, problems)])) {
            (Some(studies), None) => Ok(studies),
            (_, wrong) => Err(wrong.unwrap_or_else(|| ManifestError::new(file, Vec::new()))),
        }
    }

    fn study_of(&self, predictor: &RawComponent, path: &Path) -> (Option<Study>, Vec<Problem>) {
        let sink = Sink::new(&self.sources);
        let mut study = Checker { raw: self, predictor, sink: &sink, base: folder_of(path) }.study();
        if let Some(study) = &mut study {
            study.path = path.to_owned();
            study.sources = self.sources.clone();
        }
        (study, sink.problems.into_inner())
    }

    /// What is wrong with the names: each is that of a folder.
    fn wrong_names(&self, all: &[(Located<String>, RawComponent)]) -> Vec<Problem> {
        let sink = Sink::new(&self.sources);
        for (i, (name, _)) in all.iter().enumerate() {
            let text = name.value.as_str();
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let length = 1..=LONGEST;
            if !length.contains(&text.len()) || !text.chars().all(allowed) || text.starts_with('.') {
                let help = format!(
                    "it names a folder: 1 to {LONGEST} letters, digits, `-`, `_` and `.`, the first of them no `.`"
                );
                sink.add(name.at, format!("\"{text}\" is no name for a predictor"), help);
            } else if is_reserved(text) {
                let message =
                    format!("a predictor cannot be called \"{text}\": a run's folder uses that name");
                sink.add(name.at, message, "choose another name");
            }
            if all[..i].iter().any(|(other, _)| same_name(&other.value, text)) {
                let message = format!("two predictors are called \"{text}\"");
                sink.add(name.at, message, "names differ in more than upper and lower case");
            }
        }
        sink.problems.into_inner()
    }
}

/// Reads `predictor`, a table or an array of tables.
pub(super) fn read_predictors(t: &mut Table<'_>, sink: &Sink<'_>) -> Option<RawPredictors> {
    let help = "a study needs `[predictor]` with `kind = \"onnx\"` and `path = \"classifier.onnx\"`";
    match t.one_or_sections("predictor", help)? {
        OneOrMore::One(node) => {
            let one = read_component("[predictor]", node, sink, Own::InputAndOutput)?;
            Some(RawPredictors::One(Box::new(one)))
        }
        OneOrMore::More(nodes) => {
            // All of them, so that the mistakes of each are named.
            let all: Vec<_> = nodes.iter().enumerate().map(|(i, n)| read_named(i, n, sink)).collect();
            all.into_iter().collect::<Option<_>>().map(RawPredictors::Several)
        }
    }
}

fn read_named(i: usize, node: &Node, sink: &Sink<'_>) -> Option<(Located<String>, RawComponent)> {
    let section = format!("[[predictor]] {}", i + 1);
    let mut t = Table::new(&section, node, sink)?;
    let name = t.required_string(NAME, "one of several predictors has a name: name = \"version-2\"");
    let component = component_of(&section, &mut t, Own::InputAndOutput);
    t.finish();
    Some((name?, component?))
}

/// The key that an entry of `[[predictor]]` has and `[predictor]` has not.
pub(super) const NAME: &str = "name";

//! What is wrong with a manifest, and where.

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};
use std::fmt;
use std::sync::Arc;

/// A place in one of the manifest's texts: the file itself, or an override given on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Index of the text.
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: At,
}

/// The texts that a manifest was read from, by name.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<(String, Arc<String>)>);

impl Sources {
    /// Adds a text and answers its index.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.0.push((name.into(), Arc::new(text.into())));
        self.0.len() - 1
    }

    /// The name of text `i`.
    pub fn name(&self, i: usize) -> &str {
        &self.0[i].0
    }

    /// The place of `piece` within the text at `at`; all of it where the piece is not there as such, because it is written
    /// with escapes, for one.
    pub(super) fn within(&self, at: At, piece: &str) -> At {
        let found = self.0[at.source].1.get(at.start..at.end).and_then(|text| text.find(piece));
        found.map_or(at, |i| At { start: at.start + i, end: at.start + i + piece.len(), ..at })
    }

    /// `(line, column)` of a place, both from 1; the column counts characters.
    fn position(&self, at: At) -> (usize, usize) {
        let text = &self.0[at.source].1;
        let before = &text[..at.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    /// A problem at `at`.
    pub fn problem(&self, at: At, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let (name, text) = &self.0[at.source];
        let (line, column) = self.position(at);
        let help = help.into();
        Problem {
            place: format!("{name}:{line}:{column}"),
            source: NamedSource::new(name, Arc::clone(text)),
            span: (
                at.start,
                at.end.saturating_sub(at.start).max(1).min(text.len() - at.start.min(text.len())),
            )
                .into(),
            message: message.into(),
            help: (!help.is_empty()).then_some(help),
        }
    }
}

/// One mistake: where, what was found, and what was expected.
#[derive(Debug, Clone)]
pub struct Problem {
    place: String,
    source: NamedSource<Arc<String>>,
    span: SourceSpan,
    message: String,
    help: Option<String>,
}

impl Problem {
    /// What was found.
    pub fn message(&self) -> &str {
        &self.message
    }
    fn says_the_same(&self, other: &Self) -> bool {
        (&self.place, &self.message, &self.help) == (&other.place, &other.message, &other.help)
    }
    /// `file:line:column`.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(Some("here".into()), self.span))))
    }
}

/// Everything that is wrong with a manifest, in the order of the file.
#[derive(Debug)]
pub struct ManifestError {
    path: String,
    problems: Vec<Problem>,
}

impl ManifestError {
    /// An error about the manifest at `path`.
    pub fn new(path: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { path: path.into(), problems }
    }
    /// The mistakes that several looks at one manifest found, each of them once; `None` if there is none.
    pub fn joined(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for error in errors {
            let joined = all.get_or_insert_with(|| Self::new(error.path, Vec::new()));
            for problem in error.problems {
                if !joined.problems.iter().any(|p| p.says_the_same(&problem)) {
                    joined.problems.push(problem);
                }
            }
        }
        all.filter(|e| !e.problems.is_empty())
    }
    /// The mistakes.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.problems.len();
        write!(f, "{}: {n} {}", self.path, if n == 1 { "mistake" } else { "mistakes" })?;
        for p in &self.problems {
            write!(f, "\n  {}: {}", p.place, p.message)?;
            if let Some(help) = &p.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

//! Why a command ended, how it is shown, and with which exit code.

use miette::Report;
use shiftlens_api::Error;
use shiftlens_engine::ManifestError;
use std::process::ExitCode;

/// Why a command ended.
#[derive(Debug)]
pub enum Failure {
    /// The manifest, or something that it names: exit code 2.
    Manifest(ManifestError),
    /// The command line: exit code 2.
    Usage(String),
    /// Work failed: exit code 1.
    Work(Error),
    /// It was said already; with nothing that could be used at all exit code 2, else 1.
    Said {
        /// Nothing could be run.
        unusable: bool,
    },
}

impl From<ManifestError> for Failure {
    fn from(e: ManifestError) -> Self {
        Self::Manifest(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Work(e)
    }
}

impl Failure {
    /// 2 where nothing could be run, else 1.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(if self.unusable() { 2 } else { 1 })
    }

    /// True where nothing could be run.
    pub fn unusable(&self) -> bool {
        matches!(self, Self::Manifest(_) | Self::Usage(_) | Self::Said { unusable: true })
    }

    /// The failure in words.
    pub fn message(&self) -> String {
        match self {
            Self::Manifest(e) => e.to_string(),
            Self::Usage(message) => message.clone(),
            Self::Work(e) => e.to_string(),
            Self::Said { .. } => "as said before".into(),
        }
    }

    /// Prints the failure on stderr; a manifest's mistakes with the lines they stand in.
    pub fn print(&self) {
        match self {
            Self::Manifest(e) => {
                for problem in e.problems() {
                    eprintln!("{:?}", Report::new(problem.clone()));
                }
                let n = e.problems().len();
                eprintln!("{n} {}; nothing was run", if n == 1 { "mistake" } else { "mistakes" });
            }
            Self::Usage(message) => eprintln!("error: {message}"),
            Self::Work(e) => eprintln!("error: {e}"),
            Self::Said { .. } => {}
        }
    }
}

//! A checked manifest.

use super::evaluation::EvaluationSpec;
use super::problem::{At, Located, ManifestError, Sources};
use super::tree::Node;
use crate::direction::{Along, AuditPlan};
use serde::Serialize;
use shiftlens_input::check_keyword;
pub use shiftlens_input::{DataSpec, GroupBy, ImageSource, LabelBy, Labels, Window};
use std::path::{Path, PathBuf};

/// A checked manifest: every kind is known, every parameter decodes, every path is resolved.
#[derive(Debug)]
pub struct Study {
    /// The study's name.
    pub name: String,
    /// The manifest's file.
    pub path: PathBuf,
    /// Where the images come from.
    pub data: DataSpec,
    /// f.
    pub predictor: ComponentSpec,
    /// G, where the study has a latent space.
    pub generator: Option<ComponentSpec>,
    /// E, where the study has a latent space.
    pub encoder: Option<ComponentSpec>,
    /// How α is found, where the study has a latent space.
    pub direction: Option<DirectionSpec>,
    /// When a case's reconstruction is not to be trusted, and what is tried then.
    pub trust: Option<TrustSpec>,
    /// How the explanations are measured; `None`: they are not.
    pub evaluation: Option<EvaluationSpec>,
    /// The explainers, in order.
    pub explainers: Vec<ComponentSpec>,
    /// What the report is made of.
    pub report: ReportSpec,
    /// The class to explain; `None` takes the default (see [`crate::registry::Components`]).
    pub target: Option<ClassRef>,
    /// What was assumed where the manifest is silent.
    pub remarks: Vec<String>,
    pub(crate) sources: Sources,
    pub(crate) images_at: At,
    pub(crate) target_at: Option<At>,
}

impl Study {
    /// The folder that relative paths start from.
    pub fn folder(&self) -> &Path {
        match folder_of(&self.path) {
            f if f.as_os_str().is_empty() => Path::new("."),
            f => f,
        }
    }

    /// A [`ManifestError`] with one problem at `at`.
    pub fn problem(&self, at: At, message: impl Into<String>, help: impl Into<String>) -> ManifestError {
        ManifestError::new(self.path.display().to_string(), vec![self.sources.problem(at, message, help)])
    }

    /// A complaint about the images, at the place that names them.
    pub fn images_problem(&self, error: &shiftlens_api::Error) -> ManifestError {
        self.problem(self.images_at, error.to_string(), "check `images` in [data], or give --images")
    }

    /// The study's images (see [`crate::data::scan`]).
    ///
    /// # Errors
    /// If there are none, at the place that names them; every file of the study that is missing (see
    /// [`Study::check_files`]), so that they are known together.
    pub fn items(&self) -> Result<Vec<crate::data::Item>, ManifestError> {
        self.check_files()?;
        crate::data::scan(&self.data).map_err(|e| self.images_problem(&e))
    }

    /// Takes the images from elsewhere: a folder, list or glob, relative to the current folder. A manifest's `root` and `crop`
    /// stay: the paths in another list start from the same folder.
    pub fn set_images(&mut self, images: &str) {
        self.take(ImageSource::new(Path::new(""), images));
    }

    /// Takes the given files as the images; labels by a list's column no longer apply.
    pub fn set_files(&mut self, files: Vec<PathBuf>) {
        self.take(ImageSource::Files(files));
        self.data.limit = None;
    }

    fn take(&mut self, images: ImageSource) {
        if !images.is_list() {
            // Without columns, only attributes of DICOM files are left to be copied.
            self.data.metadata.retain(|name| check_keyword(name).is_ok());
        }
        self.data.images = images;
        self.data.synthetic = false;
    }
}

/// The folder that a manifest at `path` lies in; empty for the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// A class as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ClassRef {
    /// By name.
    Name(String),
    /// By its column among the scores, from 0.
    Index(usize),
}

impl std::fmt::Display for ClassRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Index(i) => write!(f, "{i}"),
        }
    }
}

/// A component's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Built in.
    Builtin(&'static str),
    /// From a plugin library.
    Plugin {
        /// The name after `plugin:`.
        name: String,
        /// File stem, from `[plugins]`.
        library: String,
    },
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Builtin(k) => f.write_str(k),
            Self::Plugin { name, .. } => write!(f, "plugin:{name}"),
        }
    }
}

/// A component to be made.
#[derive(Debug, Clone)]
pub struct ComponentSpec {
    /// `predictor`, `generator`, `encoder`, `direction`, `retry`, `oracle`, `explainer`.
    pub role: &'static str,
    /// What makes it.
    pub kind: Kind,
    /// The generator's file, for an encoder that searches codes through it.
    pub generator: Option<PathBuf>,
    /// The model file, resolved.
    pub path: Option<PathBuf>,
    /// The model file as the manifest writes it.
    pub shown_path: Option<String>,
    /// The sha256 that the file must have, in lower case.
    pub pin: Option<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The component's own parameters, an object.
    pub params: serde_json::Value,
    /// `input` of a predictor, as it stands.
    pub input: Option<serde_json::Value>,
    /// `output` of a predictor, as it stands.
    pub output: Option<serde_json::Value>,
    /// The predictor's file, for components that look through it.
    pub predictor: Option<PathBuf>,
    /// Classes that an explainer explains; the study's target alone where it names none. Empty for other roles.
    pub classes: Vec<Located<ClassRef>>,
    pub(crate) marks: Marks,
}

/// Where a component's parts stand.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub section: At,
    pub kind: At,
    pub path: Option<At>,
    pub pin: Option<At>,
    pub device: Option<At>,
    pub nodes: Vec<Node>,
}

impl Marks {
    /// The place that a component's complaint is about: the first key that it names in backquotes, else the first value,
    /// else the kind.
    pub fn blame(&self, message: &str) -> At {
        let words = || message.split('`').skip(1).step_by(2);
        let key = words().find_map(|word| self.nodes.iter().find_map(|n| n.find_key(word)));
        // serde names a value of the wrong type, and not its key: in backquotes or, of strings, in quotes.
        let value = || {
            if !["invalid type: ", "invalid value: ", "unknown variant "].iter().any(|w| message.contains(w))
            {
                return None;
            }
            let named = words().next().or_else(|| message.split('"').nth(1))?;
            self.nodes.iter().find_map(|n| n.find_value(named))
        };
        key.or_else(value).unwrap_or(self.kind)
    }
}

/// How α is found.
#[derive(Debug, Clone)]
pub struct DirectionSpec {
    /// The finder.
    pub finder: ComponentSpec,
    /// What it is fitted to.
    pub labels: LabelSource,
    /// Codes to sample.
    pub samples: usize,
    /// Seed of the codes.
    pub seed: u64,
    /// Share held out for the audit, in (0, 1).
    pub holdout: f64,
    /// Score from which f says yes.
    pub threshold: f32,
    /// What a series moves along.
    pub along: Along,
    /// The labelled images whose codes it is fitted to, where these are not the study's own.
    pub data: Option<DataSpec>,
    /// How much is spent on the audit.
    pub audit: AuditPlan,
}

/// The trust gate: how much a reconstruction may differ before the case is flagged.
#[derive(Debug, Clone)]
pub struct TrustSpec {
    /// Most |f(x) - f(G(E(x)))|.
    pub max_gap: Option<f32>,
    /// Most root mean square difference of pixels.
    pub max_error: Option<f32>,
    /// What looks for a better code of a flagged image.
    pub retry: Option<ComponentSpec>,
}

/// What a direction is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelSource {
    /// f(G(w)) at the threshold, on sampled codes (Schutte et al. 2021, section 2.3), or where the direction has `data` on
    /// the codes E(x) of its images: f is asked where encoded images really lie.
    Predictor,
    /// Ground truth on the codes E(x) of the labelled images.
    Truth,
}

/// What the report is made of. Files that are not asked for are left out of the resolved manifest, but for the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReportSpec {
    /// `report.html`.
    pub html: bool,
    /// Tables as CSV.
    pub csv: bool,
    /// An animation per series.
    pub gif: bool,
    /// Tables as Parquet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parquet: bool,
    /// `contact-sheet.png`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub contact_sheet: bool,
    /// An animation per series that keeps every colour.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apng: bool,
    /// `report.html` carries everything inside itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_file: bool,
}

impl Default for ReportSpec {
    /// Every format but the second kind of animation, in files that refer to each other.
    fn default() -> Self {
        Self {
            html: true,
            csv: true,
            gif: true,
            parquet: true,
            contact_sheet: true,
            apng: false,
            single_file: false,
        }
    }
}

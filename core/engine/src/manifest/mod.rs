//! The manifest: a TOML file that names a study's data, models and explainers.
//!
//! Reading has two steps. [`RawManifest::parse`] only validates: keys, types, nothing else. [`RawManifest::check`]
//! gives meaning: kinds are known, parameters decode, paths are resolved relative to the manifest; the result is a
//! [`Study`], or one for each of several predictors ([`Studies`]), and only a study runs. Neither step touches the models; [`Study::load`] does.
//!
//! [`schema`] publishes what the parser knows, and [`Draft`] writes a first manifest.
//!
//! Every mistake is a [`Problem`]: file, line, what was found, what was expected, the nearest valid name. All
//! mistakes of a step are answered together.

mod check;
mod data;
mod draft;
mod evaluation;
mod files;
mod outline;
mod predictors;
mod problem;
mod raw;
mod read;
pub mod schema;
mod study;
mod tree;

pub use draft::{Draft, Found, Scaling, relative};
pub use evaluation::{
    Baseline, EvaluationSpec, FeatureSection, Randomisation, RandomisationMode, RawEvaluation,
};
pub use predictors::{Named, RawPredictors, Studies};
pub use problem::{At, Located, ManifestError, Problem, Sources};
pub use raw::{RawAudit, RawComponent, RawData, RawDirection, RawLabels, RawManifest, RawTrust};
pub use study::{
    ClassRef, ComponentSpec, DataSpec, DirectionSpec, GroupBy, ImageSource, Kind, LabelBy, LabelSource,
    Labels, ReportSpec, Study, TrustSpec, Window,
};

#[cfg(test)]
mod predictors_tests;
#[cfg(test)]
mod tests;

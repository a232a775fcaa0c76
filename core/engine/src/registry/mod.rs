//! From kind to component: one explicit table per role, and plugins.
//!
//! A built-in kind is added by one line in its table. Each component decodes its own `params` and refuses unknown
//! keys ([`decode`]).

mod classes;
mod evaluation;
mod load;
mod onnx;
mod plugins;
mod refine;
mod schema;
mod stylegan2;
mod timed;

pub(crate) use evaluation::FEATURES;
pub use evaluation::{EvaluationParts, Oracle};
pub(crate) use load::hex;
pub use load::{Components, Drawing, LatentParts, hash_file};
pub(crate) use onnx::predictor_filter;
pub use onnx::{
    Activation, Classifier, Declared, Dim, GradientGraph, GradientRequest, InputSpec, Layout, Randomisable,
    Scalar, Seed, differentiate, layers, predictor_features, show_dims,
};
pub use refine::Refine;
pub use schema::Section;
pub(crate) use schema::class as class_schema;
pub(crate) use timed::Timed;
pub use timed::{Clock, Work};

use crate::direction::{
    Logistic, LogisticParams, MeanDifference, MeanDifferenceParams, Principal, PrincipalParams, Ridge,
    RidgeParams, Sefa, SefaParams, Svm, SvmParams,
};
use crate::latent_shift::{self, LatentShift, LatentShiftParams};
use crate::manifest::ComponentSpec;
use schemars::SchemaGenerator;
use serde::de::DeserializeOwned;
use shiftlens_api::{DirectionFinder, Encoder, Error, Explainer, Generator, Predictor, Result};

/// The built-in explainer's kind.
pub const LATENT_SHIFT: &str = "latent-shift";
/// The direction finder's kind where the manifest names none.
pub const LOGISTIC: &str = "logistic";
/// The kind of direction that comes from a generator's weights.
pub const SEFA: &str = "sefa";
/// The kind of generator whose weights are open.
pub const STYLEGAN2: &str = "stylegan2";

/// The kind of encoder that searches codes through the generator.
pub const PROJECTION: &str = "projection";

/// What components are told besides their own section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ambient {
    /// Score from which f says yes.
    pub threshold: f32,
}

/// A component that was made.
pub struct Made<T: ?Sized> {
    /// The component.
    pub component: Box<T>,
    /// Where it runs, for components that do not say so themselves.
    pub backend: String,
    /// What was inferred.
    pub remarks: Vec<String>,
}

/// One built-in kind.
pub struct Entry<T: ?Sized> {
    /// The name in the manifest.
    pub kind: &'static str,
    /// True if it needs `path`, a model file.
    pub path: bool,
    /// True if it takes `device`.
    pub device: bool,
    /// What its section may hold.
    pub section: fn(&mut SchemaGenerator) -> Section,
    /// Checks the section without opening a file.
    pub check: fn(&ComponentSpec) -> Result<()>,
    /// Makes the component.
    pub make: fn(&ComponentSpec, Ambient) -> Result<Made<T>>,
}

/// What the manifest's check needs to know of a kind.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The name in the manifest.
    pub kind: &'static str,
    /// True if it needs `path`.
    pub path: bool,
    /// True if it takes `device`.
    pub device: bool,
    /// What its section may hold.
    pub section: fn(&mut SchemaGenerator) -> Section,
    /// Checks the section.
    pub check: fn(&ComponentSpec) -> Result<()>,
}

/// The rules of a table's kinds.
pub fn rules<T: ?Sized>(table: &[Entry<T>]) -> Vec<Rules> {
    let rules = |e: &Entry<T>| Rules {
        kind: e.kind,
        path: e.path,
        device: e.device,
        section: e.section,
        check: e.check,
    };
    table.iter().map(rules).collect()
}

/// Kinds of `[predictor]`.
pub static PREDICTORS: &[Entry<dyn Predictor>] = &[Entry {
    kind: "onnx",
    path: true,
    device: false,
    section: onnx::predictor_section,
    check: onnx::check_predictor,
    make: onnx::predictor,
}];

/// Kinds of `[generator]`.
pub static GENERATORS: &[Entry<dyn Generator>] = &[
    Entry {
        kind: STYLEGAN2,
        path: true,
        device: true,
        section: stylegan2::generator_section,
        check: stylegan2::check_generator,
        make: stylegan2::generator,
    },
    Entry {
        kind: "onnx",
        path: true,
        device: false,
        section: onnx::generator_section,
        check: onnx::check_generator,
        make: onnx::generator,
    },
];

/// Kinds of `[encoder]`.
pub static ENCODERS: &[Entry<dyn Encoder>] = &[
    Entry {
        kind: "stylegan2-encoder",
        path: true,
        device: true,
        section: stylegan2::encoder_section,
        check: stylegan2::check_encoder,
        make: stylegan2::encoder,
    },
    // Its `path` is that of the encoder whose answers it begins at, and may be left out.
    Entry {
        kind: PROJECTION,
        path: true,
        device: true,
        section: refine::section,
        check: refine::check_projection,
        make: stylegan2::projection,
    },
    Entry {
        kind: "onnx",
        path: true,
        device: false,
        section: onnx::encoder_section,
        check: onnx::check_encoder,
        make: onnx::encoder,
    },
];

/// A kind of `[direction]` that needs nothing but its parameters.
macro_rules! direction {
    ($kind:expr, $finder:ident, $params:ty, $read:expr) => {
        Entry {
            kind: $kind,
            path: false,
            device: false,
            section: schema::params::<$params>,
            check: |spec| $read(&spec.params).map(|_| ()),
            make: |spec, _| made(Box::new($finder::new($read(&spec.params)?)), "built in"),
        }
    };
}

/// Kinds of `[direction]`.
pub static DIRECTIONS: &[Entry<dyn DirectionFinder>] = &[
    Entry {
        kind: LOGISTIC,
        path: false,
        device: false,
        section: schema::params::<LogisticParams>,
        check: |spec| LogisticParams::from_json(&spec.params).map(|_| ()),
        make: |spec, _| made(Box::new(Logistic::new(LogisticParams::from_json(&spec.params)?)), "linfa"),
    },
    direction!("svm", Svm, SvmParams, SvmParams::from_json),
    direction!("ridge", Ridge, RidgeParams, RidgeParams::from_json),
    direction!("mean-difference", MeanDifference, MeanDifferenceParams, MeanDifferenceParams::from_json),
    direction!("pca", Principal, PrincipalParams, decode::<PrincipalParams>),
    Entry {
        kind: SEFA,
        // The manifest's check hands it the generator's.
        path: false,
        device: false,
        section: schema::params::<SefaParams>,
        check: |spec| SefaParams::from_json(&spec.params).map(|_| ()),
        make: |spec, _| {
            let path = spec.path.as_ref().ok_or_else(|| Error::invalid("`sefa` has no generator"))?;
            made(Box::new(Sefa::open(path, SefaParams::from_json(&spec.params)?)?), "built in")
        },
    },
];

/// Kinds of `retry` in `[trust]`; their `path` is the generator's, which the manifest's check hands them.
pub static REFINERS: &[Entry<dyn Refine>] = &[Entry {
    kind: PROJECTION,
    path: false,
    device: true,
    section: refine::section,
    check: refine::check_projection,
    make: refine::projection,
}];

/// Kinds of `[[explainer]]`.
pub static EXPLAINERS: &[Entry<dyn Explainer>] = &[Entry {
    kind: LATENT_SHIFT,
    path: false,
    device: false,
    section: schema::params::<latent_shift::Keys>,
    check: |spec| LatentShiftParams::from_json(&spec.params, 0.5).map(|_| ()),
    make: |spec, ambient| {
        let params = LatentShiftParams::from_json(&spec.params, ambient.threshold)?;
        made(Box::new(LatentShift::new(params)), "built in")
    },
}];

fn made<T: ?Sized>(component: Box<T>, backend: &str) -> Result<Made<T>> {
    Ok(Made { component, backend: backend.into(), remarks: Vec::new() })
}

/// Decodes a component's own parameters.
///
/// # Errors
/// [`Error::Invalid`] with the decoder's words, which name the key in backquotes.
pub fn decode<P: DeserializeOwned>(params: &serde_json::Value) -> Result<P> {
    P::deserialize(params).map_err(|e| Error::Invalid(format!("params: {e}")))
}

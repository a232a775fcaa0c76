//! Components from ONNX files.
//!
//! A section's `path` and `sha256`, its `input` and `output`, and the keys of its `params` together are the
//! configuration that `shiftlens-onnx` documents.

use super::{Ambient, Made};
use crate::manifest::{ComponentSpec, Kind};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shiftlens_api::{Encoder, Error, Generator, Predictor, Result};
pub use shiftlens_onnx::gradient::{GradientGraph, Request as GradientRequest, Scalar, Seed};
use shiftlens_onnx::graph::Model;
pub use shiftlens_onnx::graph::{Dim, show_dims};
use shiftlens_onnx::{
    EncoderConfig, FeaturesConfig, GeneratorConfig, OnnxEncoder, OnnxGenerator, OnnxPredictor,
    PredictorConfig, backend_name, backend_notes,
};
use std::path::Path;

fn config<C: DeserializeOwned>(spec: &ComponentSpec) -> Result<C> {
    let mut all: Map<String, Value> = spec.params.as_object().cloned().unwrap_or_default();
    for reserved in ["path", "sha256", "input", "output"] {
        if all.contains_key(reserved) {
            return Err(Error::Invalid(format!("`{reserved}` stands in params, expected beside `kind`")));
        }
    }
    let path = spec.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    all.insert("path".into(), path.into());
    if let Some(pin) = &spec.pin {
        all.insert("sha256".into(), pin.as_str().into());
    }
    for (key, value) in [("input", &spec.input), ("output", &spec.output)] {
        if let Some(value) = value {
            all.insert(key.into(), value.clone());
        }
    }
    C::deserialize(Value::Object(all)).map_err(|e| Error::Invalid(e.to_string()))
}

/// A predictor's configuration. The target is the engine's business: it knows the place of the key, and takes an index
/// as well as a name.
fn predictor_config(spec: &ComponentSpec) -> Result<PredictorConfig> {
    let mut spec = spec.clone();
    if let Some(Value::Object(output)) = &mut spec.output {
        output.remove("target");
    }
    config(&spec)
}

/// The predictor as a feature network: the same file, pin and input, its penultimate layer.
///
/// # Errors
/// [`Error::Unsupported`] for a predictor that is no ONNX file, [`Error::Invalid`] as it is made.
pub fn predictor_features(spec: &ComponentSpec) -> Result<FeaturesConfig> {
    if spec.kind != Kind::Builtin("onnx") {
        return Err(Error::Unsupported(format!(
            "the predictor is of kind {}, which has no layers to take features from; name a feature network",
            spec.kind
        )));
    }
    let PredictorConfig { path, sha256, input, output, threads, .. } = predictor_config(spec)?;
    Ok(FeaturesConfig { path, sha256, input, output: output.name, threads, ..Default::default() })
}

/// Which backend really runs, and what a user must know about that choice.
fn backend() -> Result<(String, Vec<String>)> {
    Ok((backend_name()?.to_owned(), backend_notes()?.to_vec()))
}

pub(super) fn check_predictor(spec: &ComponentSpec) -> Result<()> {
    predictor_config(spec).map(|_| ())
}

pub(super) fn predictor(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Predictor>> {
    let p = OnnxPredictor::load(&predictor_config(spec)?)?;
    let (backend, mut remarks) = backend()?;
    let named = spec.output.as_ref().is_some_and(|o| o.get("target").is_some());
    let inferred = p.inferred().iter().filter(|i| !(named && i.starts_with("output.target")));
    remarks.extend(inferred.map(|i| format!("predictor: {i}")));
    Ok(Made { component: Box::new(p), backend, remarks })
}

pub(super) fn check_generator(spec: &ComponentSpec) -> Result<()> {
    config::<GeneratorConfig>(spec).map(|_| ())
}

pub(super) fn generator(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Generator>> {
    let g = OnnxGenerator::load(&config(spec)?)?;
    let (backend, remarks) = backend()?;
    Ok(Made { component: Box::new(g), backend, remarks })
}

pub(super) fn check_encoder(spec: &ComponentSpec) -> Result<()> {
    config::<EncoderConfig>(spec).map(|_| ())
}

pub(super) fn encoder(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Encoder>> {
    let e = OnnxEncoder::load(&config(spec)?)?;
    let (backend, remarks) = backend()?;
    Ok(Made { component: Box::new(e), backend, remarks })
}

/// The layers of the ONNX classifier at `path` that explainers can ask for. `size`, `(H, W)`, is needed where the model
/// leaves it open.
///
/// # Errors
/// If the file is no such classifier.
pub fn layers(path: &Path, size: Option<[usize; 2]>) -> Result<Vec<shiftlens_api::LayerInfo>> {
    let input = shiftlens_onnx::InputSpec { size, ..Default::default() };
    let mut p = OnnxPredictor::load(&PredictorConfig { path: path.to_owned(), input, ..Default::default() })?;
    match p.gradients() {
        Some(g) => g.layers(),
        None => Err(Error::Unsupported(format!("{}: this graph offers no layers", path.display()))),
    }
}

/// Differentiates the ONNX model at `path` graph to graph (see [`GradientGraph`]).
///
/// # Errors
/// If the file is no ONNX model, or as [`GradientGraph::build`].
pub fn differentiate(path: &Path, request: &GradientRequest) -> Result<GradientGraph> {
    GradientGraph::build(&Model::load(path, None)?, request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RawManifest;

    const STUDY: &str = r#"
schema = 1
name = "a"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "f.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
input = { scale = 255.0, channels = 3 }
output = { name = "scores", target = 1 }
[[explainer]]
kind = "plugin:a"
[plugins]
a = "a"
"#;

    fn spec(text: &str) -> Result<FeaturesConfig> {
        let study =
            RawManifest::parse("study.toml", text, &[]).unwrap().check(Path::new("b/study.toml")).unwrap();
        predictor_features(&study.predictor)
    }

    #[test]
    fn a_predictor_lends_its_file_and_input_to_features() {
        let found = spec(STUDY).unwrap();
        assert_eq!((found.path.as_path(), found.sha256), (Path::new("b/f.onnx"), Some("0".repeat(64))));
        assert_eq!((found.input.scale, found.input.channels), (Some(255.0), Some(3)));
        assert_eq!((found.output.as_deref(), found.layers.len()), (Some("scores"), 0));
        let plugin = STUDY.replace("kind = \"onnx\"\npath = \"f.onnx\"", "kind = \"plugin:a\"");
        let plugin: String = plugin
            .lines()
            .filter(|l| !["sha256", "input", "output"].iter().any(|k| l.starts_with(k)))
            .fold(String::new(), |all, l| all + l + "\n");
        let e = spec(&plugin).unwrap_err();
        assert!(matches!(e, Error::Unsupported(_)) && e.to_string().contains("plugin:a"), "{e}");
    }
}

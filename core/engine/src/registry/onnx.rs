//! Components from ONNX files.
//!
//! A section's `path` and `sha256`, its `input` and `output`, and the keys of its `params` together are the
//! configuration that `shiftlens-onnx` documents.

use super::schema::{Section, beside, class};
use super::{Ambient, Made};
use crate::manifest::{ComponentSpec, Kind};
use schemars::SchemaGenerator;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shiftlens_api::resize::Filter;
use shiftlens_api::{Encoder, Error, Generator, Predictor, Result};
pub use shiftlens_onnx::gradient::{GradientGraph, Request as GradientRequest, Scalar, Seed};
use shiftlens_onnx::graph::Model;
pub use shiftlens_onnx::graph::{Dim, show_dims};
use shiftlens_onnx::randomise::{WeightedLayer, randomise, weighted_layers};
pub use shiftlens_onnx::{Activation, Declared, InputSpec, Layout};
use shiftlens_onnx::{
    EncoderConfig, FeaturesConfig, GeneratorConfig, OnnxEncoder, OnnxGenerator, OnnxPredictor, OutputSpec,
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

/// How an ONNX predictor resizes; `None` for another kind, which does as it likes.
pub(crate) fn predictor_filter(spec: &ComponentSpec) -> Option<Filter> {
    let onnx = spec.kind == Kind::Builtin("onnx");
    onnx.then(|| predictor_config(spec).ok()).flatten().map(|c| c.input.resize)
}

/// An ONNX predictor whose weights can be drawn anew, layer by layer.
pub struct Randomisable {
    model: Model,
    config: PredictorConfig,
    layers: Vec<WeightedLayer>,
}

impl Randomisable {
    /// Reads the predictor's file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a predictor of another kind, and for a model without weights; as it is loaded.
    pub fn open(spec: &ComponentSpec) -> Result<Self> {
        if spec.kind != Kind::Builtin("onnx") {
            return Err(Error::Unsupported(format!(
                "the predictor is of kind {}, whose weights are not open; `randomisation` needs an ONNX file",
                spec.kind
            )));
        }
        let config = predictor_config(spec)?;
        let model = Model::load(&config.path, config.sha256.as_deref())?;
        let layers = weighted_layers(&model);
        if layers.is_empty() {
            let what = "no node multiplies by constant weights: there is nothing to randomise";
            return Err(Error::Unsupported(format!("{}: {what}", model.name())));
        }
        Ok(Self { model, config, layers })
    }

    /// Names of its layers, from the input to the output.
    pub fn layers(&self) -> Vec<String> {
        self.layers.iter().map(|l| l.name.clone()).collect()
    }

    /// The predictor with the weights of the layers in `which` drawn anew.
    ///
    /// # Errors
    /// As [`randomise`] and [`OnnxPredictor::of`].
    pub fn predictor(&self, which: std::ops::Range<usize>, seed: u64) -> Result<Box<dyn Predictor>> {
        let mut model = self.model.clone();
        randomise(&mut model, &self.layers[which], seed)?;
        Ok(Box::new(OnnxPredictor::of(model, &self.config)?))
    }
}

/// Which backend really runs, and what a user must know about that choice.
fn backend() -> Result<(String, Vec<String>)> {
    Ok((backend_name()?.to_owned(), backend_notes()?.to_vec()))
}

pub(super) fn predictor_section(generator: &mut SchemaGenerator) -> Section {
    let mut section = beside::<PredictorConfig>(generator);
    // The engine takes an index too.
    if let Some(Value::Object(keys)) =
        generator.definitions_mut().get_mut("OutputSpec").and_then(|o| o.get_mut("properties"))
    {
        let mut target = class();
        target
            .insert("description".into(), "The class to explain, by its name or by its index from 0.".into());
        keys.insert("target".into(), target.to_value());
    }
    section.params.insert("description".into(), "Parameters of an ONNX predictor.".into());
    section
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

pub(super) fn generator_section(generator: &mut SchemaGenerator) -> Section {
    let mut section = beside::<GeneratorConfig>(generator);
    section.params.insert("description".into(), "Parameters of an ONNX generator.".into());
    section
}

pub(super) fn check_generator(spec: &ComponentSpec) -> Result<()> {
    config::<GeneratorConfig>(spec).map(|_| ())
}

pub(super) fn generator(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Generator>> {
    let g = OnnxGenerator::load(&config(spec)?)?;
    let (backend, remarks) = backend()?;
    Ok(Made { component: Box::new(g), backend, remarks })
}

pub(super) fn encoder_section(generator: &mut SchemaGenerator) -> Section {
    let mut section = beside::<EncoderConfig>(generator);
    section.params.insert("description".into(), "Parameters of an ONNX encoder.".into());
    section
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

/// A classifier in an ONNX file with all questions about it settled, seen to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// What the file says itself.
    pub declared: Declared,
    /// Axis order of its input.
    pub layout: Layout,
    /// `(H, W)` of its input.
    pub size: (usize, usize),
    /// Channels of its input.
    pub channels: usize,
    /// The batch that it is fixed to.
    pub batch: Option<usize>,
    /// Name of the output that holds the scores.
    pub output: String,
    /// Scores that it answers.
    pub columns: usize,
    /// What must be applied to them.
    pub activation: Activation,
    /// The operator that turns logits into probabilities at its end, where it has one.
    pub ending: Option<String>,
    /// The layer that Grad-CAM looks at where none is named; or why there are no gradients.
    pub layer: std::result::Result<String, String>,
}

impl Classifier {
    /// Reads the classifier at `path` and runs it once forward and, if that can be, once back; `input` and `output`, a name,
    /// say what the file leaves open.
    ///
    /// # Errors
    /// As [`OnnxPredictor::load`].
    pub fn read(path: &Path, input: &InputSpec, output: Option<&str>) -> Result<Self> {
        let declared = Declared::read(path, input.layout)?;
        let output = OutputSpec { name: output.map(str::to_owned), ..OutputSpec::default() };
        let config =
            PredictorConfig { path: path.to_owned(), input: input.clone(), output, ..Default::default() };
        let mut p = OnnxPredictor::load(&config)?;
        let layer = default_layer(&mut p).map_err(|e| e.to_string());
        let (input, head) = (p.input(), p.head());
        Ok(Self {
            declared,
            layout: input.layout,
            size: input.size,
            channels: input.channels,
            batch: input.batch,
            output: head.output.clone(),
            columns: head.columns,
            activation: head.activation,
            ending: head.ending.as_ref().map(|e| e.operator.clone()),
            layer,
        })
    }
}

/// The layer whose gradients are looked at where none is named, seen to have some.
fn default_layer(p: &mut OnnxPredictor) -> Result<String> {
    let grey = p.input().grey()?;
    let no_layer = || Error::Unsupported("it has no layer with more than one pixel".into());
    let g = p.gradients().ok_or_else(no_layer)?;
    let layer = g.layers()?.into_iter().find(|l| l.default).ok_or_else(no_layer)?.name;
    let request = shiftlens_api::GradientRequest {
        layers: vec![layer.clone()],
        layer_gradients: true,
        classes: vec![0],
        ..Default::default()
    };
    g.gradients(&grey, &request)?;
    Ok(layer)
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

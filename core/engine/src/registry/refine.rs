//! What looks for a better code of an image whose reconstruction is not to be trusted.

use super::plugins::FromPlugin;
use super::schema::{self, Section};
use super::{Ambient, Made, decode};
use crate::manifest::ComponentSpec;
use crate::plugin::PluginLibrary;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::Value;
use shiftlens_api::{Error, Images, LatentCodes, Monitor, Result};
use shiftlens_onnx::{FeaturesConfig, OnnxFeatures};
use shiftlens_stylegan2::perceptual::Perceptual;
use shiftlens_stylegan2::{Projection, ProjectionParams};
use std::path::Path;
use std::sync::Arc;

/// Improves codes: slower than an encoder, for single stubborn images.
pub trait Refine: Send {
    /// Codes of `x`, one for each image, searched for from `start`, `[N, 1, D]` or `[N, L, D]`. The answer may be of W+
    /// where `start` is of W.
    ///
    /// # Errors
    /// If the component fails, or the monitor cancels.
    fn refine(&mut self, x: &Images, start: &LatentCodes, monitor: &dyn Monitor) -> Result<LatentCodes>;
}

impl FromPlugin for dyn Refine {
    fn from_plugin(_: &Arc<PluginLibrary>, _: &Value) -> Result<Box<Self>> {
        Err(Error::Unsupported("`retry`: the plugin interface has no such component".into()))
    }
}

impl Refine for Projection {
    fn refine(&mut self, x: &Images, start: &LatentCodes, monitor: &dyn Monitor) -> Result<LatentCodes> {
        Ok(self.project_watched(x, start, monitor)?.0)
    }
}

/// `features` of a projection: the distance of the study's own predictor's features in its loss.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Features {
    /// Names of tensors; without any the layer before the scores.
    #[serde(default)]
    layers: Vec<String>,
    /// The weight of each layer in the distance; without any, 1.
    #[serde(default)]
    layer_weights: Vec<f64>,
    /// The weight of the distance in the loss.
    #[schemars(extend("exclusiveMinimum" = 0))]
    weight: f64,
}

/// The parameters of a projection and of its features.
pub(super) fn parameters(spec: &ComponentSpec) -> Result<(ProjectionParams, Option<Features>)> {
    let mut all = spec.params.as_object().cloned().unwrap_or_default();
    let features = all.remove("features").map(|f| decode::<Features>(&f)).transpose()?;
    if let Some(f) = features.as_ref().filter(|f| !(f.weight.is_finite() && f.weight > 0.0)) {
        return Err(Error::Invalid(format!(
            "`weight` of the features is {}, expected a positive number",
            f.weight
        )));
    }
    let params: ProjectionParams = decode(&Value::Object(all))?;
    params.check()?;
    Ok((params, features))
}

/// What the section of a projection may hold: the parameters of both.
pub(super) fn section(generator: &mut SchemaGenerator) -> Section {
    let mut features = generator.subschema_for::<Features>();
    let text = "Also the distance of the predictor's own features, so that the predictor sees the same in both images.";
    features.insert("description".into(), text.into());
    let section = schema::params::<ProjectionParams>(generator);
    // The definition is shared by all sections that are projections, and each puts the same there.
    let definition = generator.definitions_mut().get_mut("ProjectionParams");
    if let Some(Value::Object(keys)) = definition.and_then(|d| d.get_mut("properties")) {
        keys.insert("features".into(), features.to_value());
    }
    section
}

pub(super) fn check_projection(spec: &ComponentSpec) -> Result<()> {
    parameters(spec).map(|_| ())
}

/// A search through the generator at the section's path, which the manifest's check has put there.
pub(super) fn projection(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Refine>> {
    let path = spec.path.as_ref().ok_or_else(|| Error::invalid("`projection` has no generator"))?;
    Ok(Made { component: Box::new(search(path, spec)?), backend: spec.device.clone(), remarks: Vec::new() })
}

/// The search through a generator that a section's `params` describe.
pub(super) fn search(generator: &Path, spec: &ComponentSpec) -> Result<Projection> {
    let (params, features) = parameters(spec)?;
    let search = Projection::on(generator, params, &spec.device)?;
    let Some(f) = features else { return Ok(search) };
    let predictor = spec.predictor.clone();
    let predictor = predictor.ok_or_else(|| Error::invalid("`features` without an ONNX predictor"))?;
    let name = predictor.display().to_string();
    let input = spec.input.as_ref().map(decode).transpose()?.unwrap_or_default();
    let (channels, resolution) = (search.config().channels, search.config().resolution);
    let config = FeaturesConfig { path: predictor, layers: f.layers, input, ..FeaturesConfig::default() };
    let network = OnnxFeatures::open(&config, channels, (resolution, resolution))?;
    let distance =
        Perceptual::of_network(Box::new(network), &name, &f.layer_weights, (channels, resolution))?;
    search.with_features(distance, f.weight)
}

#[cfg(test)]
mod tests {
    use crate::manifest::{RawManifest, Study};
    use std::path::Path;

    const STUDY: &str = r#"
schema = 1
name = "gate"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "f.onnx"
input = { layout = "nchw", size = [64, 64], channels = 1 }
[generator]
kind = "stylegan2"
path = "g.safetensors"
[encoder]
kind = "stylegan2-encoder"
path = "e.safetensors"
[trust]
max-gap = 0.1
retry = "projection"
params = { steps = 30, space = "w+", features = { weight = 0.5, layers = ["logits"] } }
[[explainer]]
kind = "latent-shift"
"#;

    fn open(from: &str, to: &str) -> Result<Study, String> {
        assert!(STUDY.contains(from));
        let parsed = RawManifest::parse("a.toml", &STUDY.replace(from, to), &[]);
        parsed.and_then(|m| m.check(Path::new("studies/a.toml"))).map_err(|e| e.to_string())
    }

    #[test]
    fn a_projection_is_handed_what_it_looks_through() {
        let retry = open("a", "a").unwrap().trust.unwrap().retry.unwrap();
        assert_eq!(retry.path.as_deref(), Some(Path::new("studies/g.safetensors")));
        assert_eq!(retry.predictor.as_deref(), Some(Path::new("studies/f.onnx")));
        assert_eq!(retry.input.unwrap()["size"], serde_json::json!([64, 64]));
        let plain = open(", features = { weight = 0.5, layers = [\"logits\"] }", "").unwrap();
        assert_eq!(plain.trust.unwrap().retry.unwrap().predictor, None);
    }

    #[test]
    fn mistakes_are_named_at_their_place() {
        for (from, to, expected) in [
            ("steps = 30", "step = 30", "unknown field `step`"),
            ("steps = 30", "steps = 0", "`steps` is 0, expected at least 1"),
            ("weight = 0.5", "weight = 0", "`weight` of the features is 0"),
            ("weight = 0.5, ", "", "missing field `weight`"),
            ("layers =", "layer =", "unknown field `layer`"),
            ("retry = \"projection\"", "retry = \"projecton\"", "did you mean `projection`?"),
            ("kind = \"stylegan2\"\n", "kind = \"onnx\"\n", "reads the weights of a StyleGAN2 generator"),
            (
                "kind = \"onnx\"\npath = \"f.onnx\"",
                "kind = \"plugin:f\"",
                "`features` in [trust] are those of an ONNX predictor",
            ),
        ] {
            let message = open(from, to).expect_err(to);
            assert!(message.contains(expected), "for {to}:\n{message}\nexpected {expected}");
        }
    }
}

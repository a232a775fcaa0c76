//! The built-in StyleGAN2 generator and encoder.

use super::schema::{self, Section};
use super::{Ambient, Made, decode, refine};
use crate::manifest::ComponentSpec;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use shiftlens_api::{Encoder, Error, Generator, GeneratorInfo, Result};
use shiftlens_stylegan2::{
    GeneratorOptions, Precision, ProjectionEncoder, StyleGan2Encoder, StyleGan2Generator,
};
use std::path::Path;

/// `params` of `kind = "stylegan2"`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StyleGan2Params")]
struct GeneratorParams {
    /// Truncation ψ of sampled codes: 1 samples as in training, less stays nearer to the mean.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 2))]
    truncation: f32,
    /// Index of the class to sample, of a class-conditional network; without it classes are drawn evenly.
    #[schemars(range(min = 0))]
    class: Option<i64>,
    /// Precision of the products of convolutions on a GPU.
    #[serde(default)]
    precision: Precision,
}

fn one() -> f32 {
    1.0
}

/// `params` of `kind = "stylegan2-encoder"`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StyleGan2EncoderParams")]
struct EncoderParams {
    /// Precision of the products of convolutions on a GPU.
    #[serde(default)]
    precision: Precision,
}

/// The parameters as the generator takes them.
fn generator_options(spec: &ComponentSpec) -> Result<(GeneratorOptions, Precision)> {
    let p: GeneratorParams = decode(&spec.params)?;
    if !(p.truncation > 0.0 && p.truncation <= 2.0) {
        return Err(Error::Invalid(format!("`truncation` is {}, expected a number in (0, 2]", p.truncation)));
    }
    let class = p.class.map(|class| {
        usize::try_from(class)
            .map_err(|_| Error::Invalid(format!("`class` is {class}, expected an index of at least 0")))
    });
    let options = GeneratorOptions {
        device: spec.device.clone(),
        truncation: p.truncation,
        // A study's direction lives where its encoder's codes do: no layer is left out.
        truncation_cutoff: None,
        class: class.transpose()?,
        ..GeneratorOptions::default()
    };
    Ok((options, p.precision))
}

fn path(spec: &ComponentSpec) -> Result<&Path> {
    spec.path.as_deref().ok_or_else(|| Error::invalid("`path` is missing: name the .safetensors file"))
}

pub(super) fn generator_section(generator: &mut SchemaGenerator) -> Section {
    schema::params::<GeneratorParams>(generator)
}

pub(super) fn check_generator(spec: &ComponentSpec) -> Result<()> {
    generator_options(spec).map(|_| ())
}

pub(super) fn generator(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Generator>> {
    let (options, precision) = generator_options(spec)?;
    let path = path(spec)?;
    let g = StyleGan2Generator::load(path, &options)?.with_precision(precision)?;
    let GeneratorInfo { backend, channels, .. } = g.info();
    if ![1, 3].contains(&channels) {
        return Err(Error::Unsupported(format!(
            "{}: images of {channels} channels; explanations need grey or RGB",
            path.display()
        )));
    }
    Ok(Made { component: Box::new(g), backend, remarks: Vec::new() })
}

pub(super) fn encoder_section(generator: &mut SchemaGenerator) -> Section {
    schema::params::<EncoderParams>(generator)
}

pub(super) fn check_encoder(spec: &ComponentSpec) -> Result<()> {
    decode::<EncoderParams>(&spec.params).map(|_| ())
}

pub(super) fn encoder(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Encoder>> {
    let p: EncoderParams = decode(&spec.params)?;
    let e = StyleGan2Encoder::load(path(spec)?, &spec.device)?.with_precision(p.precision)?;
    let backend = e.backend();
    Ok(Made { component: Box::new(e), backend, remarks: Vec::new() })
}

/// A search through the study's generator, from the answers of the encoder at the section's path or from the mean code.
pub(super) fn projection(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Encoder>> {
    let generator = spec.generator.as_deref();
    let generator =
        generator.ok_or_else(|| Error::invalid("`projection` needs a generator of kind \"stylegan2\""))?;
    let start = spec.path.as_deref().map(|p| StyleGan2Encoder::load(p, &spec.device)).transpose()?;
    let search = refine::search(generator, spec)?;
    let params = search.params().clone();
    let (steps, begins) =
        (params.steps, if start.is_some() { "the encoder's answer" } else { "the mean code" });
    let mut remarks = Vec::new();
    if let Some(seconds) = params.seconds {
        remarks.push(format!(
            "encoder: projection stops after {seconds} s per image, so that two runs differ in how far it comes"
        ));
    }
    let encoder = ProjectionEncoder::new(search, start)?;
    let backend = format!("{}, at most {steps} steps from {begins}", spec.device);
    Ok(Made { component: Box::new(encoder), backend, remarks })
}

#[cfg(test)]
mod tests {
    use crate::manifest::{RawManifest, Study};
    use std::path::Path;

    const STUDY: &str = r#"
schema = 1
name = "search"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "f.onnx"
[generator]
kind = "stylegan2"
path = "g.safetensors"
[encoder]
kind = "projection"
path = "e.safetensors"
params = { steps = 30, space = "w+" }
[[explainer]]
kind = "latent-shift"
"#;

    fn open(from: &str, to: &str) -> Result<Study, String> {
        assert!(STUDY.contains(from));
        let parsed = RawManifest::parse("a.toml", &STUDY.replace(from, to), &[]);
        parsed.and_then(|m| m.check(Path::new("studies/a.toml"))).map_err(|e| e.to_string())
    }

    #[test]
    fn a_projection_knows_its_generator_and_may_begin_without_an_encoder() {
        let encoder = open("steps = 30", "steps = 40").unwrap().encoder.unwrap();
        assert_eq!(encoder.generator.as_deref(), Some(Path::new("studies/g.safetensors")));
        assert_eq!(encoder.path.as_deref(), Some(Path::new("studies/e.safetensors")));
        assert_eq!(crate::registry::refine::parameters(&encoder).unwrap().0.steps, 40);
        assert_eq!((encoder.predictor, encoder.input), (None, None));
        let seen = open("space = \"w+\"", "features = { weight = 1.0 }").unwrap().encoder.unwrap();
        assert_eq!(seen.predictor.as_deref(), Some(Path::new("studies/f.onnx")));
        let alone = open("path = \"e.safetensors\"\n", "").unwrap().encoder.unwrap();
        assert_eq!((alone.path, alone.generator.is_some()), (None, true));
        let other = open("kind = \"projection\"", "kind = \"stylegan2-encoder\"").unwrap_err();
        assert!(other.contains("unknown field `s") && other.contains("expected `precision`"), "{other}");
    }

    #[test]
    fn mistakes_of_a_projection_are_named() {
        for (from, to, expected) in [
            ("steps = 30", "stepz = 30", "unknown field `stepz`"),
            ("steps = 30", "steps = 0", "`steps` is 0, expected at least 1"),
            ("steps = 30", "features = { weight = -1 }", "`weight` of the features is -1"),
            ("space = \"w+\"", "space = \"z\"", "unknown variant `z`"),
            ("kind = \"stylegan2\"", "kind = \"onnx\"", "reads the weights of a StyleGAN2 generator"),
            ("kind = \"projection\"", "kind = \"projecton\"", "did you mean `projection`?"),
            (
                "path = \"e.safetensors\"",
                "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"",
                "`sha256` does not apply",
            ),
        ] {
            let message = open(from, to).expect_err(to);
            assert!(message.contains(expected), "for {to}:\n{message}\nexpected {expected}");
        }
    }
}

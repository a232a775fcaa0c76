//! The built-in StyleGAN2 generator and encoder.

use super::{Ambient, Made, decode};
use crate::manifest::ComponentSpec;
use serde::Deserialize;
use shiftlens_api::{Encoder, Error, Generator, GeneratorInfo, Result};
use shiftlens_stylegan2::{GeneratorOptions, Precision, StyleGan2Encoder, StyleGan2Generator};
use std::path::Path;

/// `params` of `kind = "stylegan2"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneratorParams {
    /// Truncation ψ of sampled codes: 1 samples as in training, less stays nearer to the mean.
    #[serde(default = "one")]
    truncation: f32,
    /// Index of the class to sample, of a class-conditional network; without it classes are drawn evenly.
    class: Option<i64>,
    #[serde(default)]
    precision: Precision,
}

fn one() -> f32 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncoderParams {
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

pub(super) fn check_encoder(spec: &ComponentSpec) -> Result<()> {
    decode::<EncoderParams>(&spec.params).map(|_| ())
}

pub(super) fn encoder(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Encoder>> {
    let p: EncoderParams = decode(&spec.params)?;
    let e = StyleGan2Encoder::load(path(spec)?, &spec.device)?.with_precision(p.precision)?;
    let backend = e.backend();
    Ok(Made { component: Box::new(e), backend, remarks: Vec::new() })
}

//! The built-in StyleGAN2 generator and encoder.

use super::{Ambient, Made, decode};
use crate::manifest::ComponentSpec;
use serde::Deserialize;
use shiftlens_api::{Encoder, Error, Generator, Result};
use shiftlens_stylegan2::{GeneratorOptions, Precision, StyleGan2Encoder, StyleGan2Generator};
use std::path::Path;

/// `params` of `kind = "stylegan2"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneratorParams {
    /// Truncation ψ of sampled codes: 1 samples as in training, less stays nearer to the mean.
    #[serde(default = "one")]
    truncation: f32,
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

fn generator_params(spec: &ComponentSpec) -> Result<GeneratorParams> {
    let p: GeneratorParams = decode(&spec.params)?;
    if !(p.truncation > 0.0 && p.truncation <= 2.0) {
        return Err(Error::Invalid(format!("`truncation` is {}, expected a number in (0, 2]", p.truncation)));
    }
    Ok(p)
}

fn path(spec: &ComponentSpec) -> Result<&Path> {
    spec.path.as_deref().ok_or_else(|| Error::invalid("`path` is missing: name the .safetensors file"))
}

pub(super) fn check_generator(spec: &ComponentSpec) -> Result<()> {
    generator_params(spec).map(|_| ())
}

pub(super) fn generator(spec: &ComponentSpec, _: Ambient) -> Result<Made<dyn Generator>> {
    let p = generator_params(spec)?;
    let options = GeneratorOptions { device: spec.device.clone(), truncation: p.truncation };
    let g = StyleGan2Generator::load(path(spec)?, &options)?.with_precision(p.precision)?;
    let backend = g.info().backend;
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

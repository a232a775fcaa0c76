//! StyleGAN2 generators from other programs' files: the reference's network pickles (stylegan2-ada-pytorch and the
//! StyleGAN2 configurations of stylegan3), rosinality's checkpoints, state dicts and safetensors with either's names.
//!
//! Pickles are read as data: nothing in a file is run or looked up, and what is allocated is bounded by the size of
//! the file.

mod arrays;
mod network;
mod pickle;
mod rosinality;
mod scan;
mod torch;
mod tree;

use crate::file;
use crate::net::{GeneratorConfig, GeneratorNet};
use crate::weights::Weights;
use arrays::Arrays;
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use shiftlens_api::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use tree::Facts;

/// Codes whose mean stands in for a mean of w that a file lacks: so many draws of so many codes.
const MEAN_DRAWS: u64 = 64;
const MEAN_CODES: usize = 64;

/// What a file does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// Largest magnitude of activations. State dicts do not record it; network pickles do, and must agree.
    pub conv_clamp: Option<f32>,
}

/// A generator that was read from another program's file.
#[derive(Debug)]
pub struct Imported {
    /// Its sizes.
    pub config: GeneratorConfig,
    /// Its tensors under the reference's names, f32 on the CPU.
    pub tensors: HashMap<String, Tensor>,
    /// What kind of file it was.
    pub format: &'static str,
    /// What was assumed or computed because the file does not say it.
    pub notes: Vec<String>,
    /// Name of the file, without its folder.
    pub source: String,
    /// sha256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Reads a StyleGAN2 generator.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Invalid`] if it is damaged or contradicts itself;
/// [`Error::Unsupported`] if it holds something else, such as StyleGAN3.
pub fn import_generator(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let read = from_bytes(&bytes, options).map_err(|e| match e {
        Error::Invalid(m) => Error::Invalid(format!("{}: {m}", path.display())),
        Error::Unsupported(m) => Error::Unsupported(format!("{}: {m}", path.display())),
        e @ (Error::Shape { .. } | Error::NotFinite { .. }) => {
            Error::Invalid(format!("{}: {e}", path.display()))
        }
        e => e,
    });
    let mut imported = read?;
    imported.source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    imported.sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    Ok(imported)
}

/// [`import_generator`] of a file's contents; name and checksum are left empty.
///
/// # Errors
/// As there.
pub fn from_bytes(bytes: &[u8], options: &ImportOptions) -> Result<Imported> {
    let mut notes = Vec::new();
    let (mut a, modules) = open(bytes, &mut notes)?;
    if a.names().all(|n| n.starts_with("module.")) {
        a = a.without_prefix("module.");
    }
    let is_rosinality = rosinality::is(&a);
    if is_rosinality {
        rosinality::rename(&mut a)?;
    }
    let classes: Vec<&str> = modules.iter().map(|m| m.class.as_str()).collect();
    if let Some(message) = network::refusal(&a, &classes) {
        return Err(Error::Unsupported(message));
    }
    // Modules of another program say nothing about the reference's layers.
    let facts = a.pickle().filter(|_| !modules.is_empty() && !is_rosinality);
    let facts = facts.map(|pickle| Facts { pickle, modules: &modules });
    let mut config = network::config(&a, facts.as_ref())?;
    let mut silent = Vec::new();
    // rosinality's layers have no clamp.
    let mut clamp = is_rosinality.then_some(None);
    if let Some(facts) = &facts {
        network::check_modules(facts, config.architecture)?;
        silent = network::without_noise(facts);
        clamp = network::clamp(facts)?;
    }
    let format = match (is_rosinality, facts.is_some()) {
        (true, _) => "rosinality's StyleGAN2",
        (false, true) => "a network pickle of the reference",
        (false, false) => "a state dict with the reference's names",
    };
    config.conv_clamp = match (clamp, options.conv_clamp) {
        (_, Some(asked)) if !(asked > 0.0 && asked.is_finite()) => {
            return Err(Error::Invalid(format!("conv_clamp {asked}: expected a positive number")));
        }
        (Some(said), Some(asked)) if said != Some(asked) => {
            let said = said.map_or("none".into(), |c| c.to_string());
            return Err(Error::Invalid(format!(
                "conv_clamp {asked} was asked for, but the network has {said}"
            )));
        }
        (Some(said), _) => said,
        (None, Some(asked)) => Some(asked),
        (None, None) => {
            notes.push("the file does not say whether activations are clamped; taken as not clamped".into());
            None
        }
    };
    if ![1, 3].contains(&config.channels) {
        notes.push(format!("its images have {} channels; explanations need grey or RGB", config.channels));
    }
    let tensors = collect(&mut a, &config, &silent, &mut notes)?;
    Ok(Imported { config, tensors, format, notes, source: String::new(), sha256: String::new() })
}

fn open<'a>(bytes: &'a [u8], notes: &mut Vec<String>) -> Result<(Arrays<'a>, Vec<tree::Module>)> {
    if is_safetensors(bytes) {
        let metadata = safetensors::SafeTensors::read_metadata(bytes);
        if metadata.is_ok_and(|(_, m)| m.metadata().as_ref().is_some_and(|m| m.contains_key(file::KEY))) {
            return Err(Error::Unsupported("a network file of this program; it needs no import".into()));
        }
        return Ok((Arrays::safe(bytes)?, Vec::new()));
    }
    let checkpoint = torch::Checkpoint::read(bytes).map_err(|e| match e {
        Error::Invalid(m) => Error::Invalid(format!("neither safetensors nor a sound file of PyTorch: {m}")),
        e => e,
    })?;
    let found = tree::find(&checkpoint)?;
    if let Some(key @ ("G" | "g")) = found.key {
        notes.push(format!("the file has no averaged generator; \"{key}\", the one in training, was taken"));
    }
    Ok((Arrays::torch(checkpoint, found.views), found.modules))
}

/// A length of the header that fits, and a header that begins like one.
fn is_safetensors(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    header.is_some_and(|n| n <= bytes.len() as u64 - 8) && bytes.get(8) == Some(&b'{')
}

/// Loads what the network needs and refuses what it has no use for.
fn collect(
    a: &mut Arrays<'_>,
    config: &GeneratorConfig,
    silent: &[String],
    notes: &mut Vec<String>,
) -> Result<HashMap<String, Tensor>> {
    let fail = |e: candle_core::Error| Error::Invalid(e.to_string());
    let mut tensors = HashMap::new();
    let needed = needed(config);
    for name in &needed {
        if let Some(t) = a.take(name)? {
            tensors.insert(name.clone(), t);
        }
    }
    for path in silent {
        let side = path.split('.').find_map(|p| p.strip_prefix('b')?.parse::<usize>().ok());
        for (part, shape) in [("noise_strength", Some(vec![])), ("noise_const", side.map(|r| vec![r; 2]))] {
            let name = format!("{path}.{part}");
            let shape = shape.filter(|_| needed.contains(&name) && !tensors.contains_key(&name));
            let shape = shape.ok_or_else(|| {
                Error::Invalid(format!("`{path}`: a layer without noise that has some, or has no place"))
            })?;
            tensors.insert(name, Tensor::zeros(shape, DType::F32, &Device::Cpu).map_err(fail)?);
        }
        notes.push(format!("`{path}` has no noise input; its strength was set to 0"));
    }
    let left: Vec<String> = a.names().map(str::to_owned).collect();
    for name in left {
        let sum = match name.rsplit('.').next() {
            Some("resample_filter") => 1.0,
            // Doubling makes up for the zeros between pixels.
            Some("kernel") => 4.0,
            _ => {
                let name = tree::shown(&name);
                return Err(Error::Unsupported(format!(
                    "tensor `{name}` has no place in a StyleGAN2 generator"
                )));
            }
        };
        if let Some(filter) = a.take(&name)? {
            network::check_filter(&name, &filter, sum)?;
        }
    }
    const MEAN: &str = "mapping.w_avg";
    if !tensors.contains_key(MEAN) {
        tensors.insert(MEAN.into(), Tensor::zeros(config.w_dim, DType::F32, &Device::Cpu).map_err(fail)?);
        let net = GeneratorNet::new(config, &Weights::frozen(tensors.clone(), &Device::Cpu)).map_err(fail)?;
        let mean = mean_w(&net).map_err(|e| Error::component("stylegan2", e))?;
        tensors.insert(MEAN.into(), mean);
        let n = MEAN_DRAWS * MEAN_CODES as u64;
        notes.push(format!("the file has no mean of w; it was computed from {n} codes"));
    }
    let weights = Weights::frozen(tensors, &Device::Cpu);
    GeneratorNet::new(config, &weights).map_err(fail)?;
    Ok(weights.tensors().into_iter().collect())
}

/// The mean of w `[D]`, draw by draw: memory does not follow the number of codes.
fn mean_w(net: &GeneratorNet) -> candle_core::Result<Tensor> {
    let mut sum = net.w_avg().zeros_like()?;
    for seed in 0..MEAN_DRAWS {
        sum = (sum + file::sample_w(net, MEAN_CODES, seed)?.mean(0)?)?;
    }
    sum / MEAN_DRAWS as f64
}

/// Names of all tensors of a network.
fn needed(config: &GeneratorConfig) -> Vec<String> {
    let mut names = vec!["mapping.w_avg".to_owned(), "synthesis.b4.const".to_owned()];
    let mut add =
        |prefix: String, parts: &[&str]| names.extend(parts.iter().map(|p| format!("{prefix}.{p}")));
    if config.label_dim > 0 {
        add("mapping.embed".into(), &["weight", "bias"]);
    }
    for i in 0..config.mapping_layers {
        add(format!("mapping.fc{i}"), &["weight", "bias"]);
    }
    for r in config.resolutions() {
        let style = ["weight", "bias", "affine.weight", "affine.bias"];
        if config.has_to_image(r) {
            add(format!("synthesis.b{r}.torgb"), &style);
        }
        if config.has_residual(r) {
            add(format!("synthesis.b{r}.skip"), &["weight"]);
        }
        for conv in if r == 4 { &["conv1"][..] } else { &["conv0", "conv1"] } {
            add(format!("synthesis.b{r}.{conv}"), &style);
            add(format!("synthesis.b{r}.{conv}"), &["noise_strength", "noise_const"]);
        }
    }
    names
}

impl Imported {
    /// Writes the generator, in f32 or in half precision, as a file that [`crate::StyleGan2Generator`] loads, with its origin in the metadata.
    ///
    /// # Errors
    /// If the file cannot be written, or a number is too large for half precision.
    pub fn save(&self, path: &Path, half: bool) -> Result<()> {
        if half {
            file::check_half(&self.tensors)?;
        }
        let origin = serde_json::json!({
            "source": self.source,
            "sha256": self.sha256,
            "format": self.format,
            "notes": self.notes,
        });
        let dtype = if half { DType::F16 } else { DType::F32 };
        file::save_imported(path, &self.config, &self.tensors, dtype, &origin)
    }
}

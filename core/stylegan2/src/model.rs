//! Trained networks behind the traits of `shiftlens-api`.

use crate::file;
use crate::kernels::Isa;
use crate::net::{EncoderNet, GeneratorConfig, GeneratorNet, Noise};
use crate::ops::{Precision, with_precision};
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Encoder, Error, Generator, GeneratorInfo, Images, LatentCodes, Result};
use std::path::Path;

/// Images synthesised or encoded at once; more are worked on in turn.
const BATCH: usize = 16;

/// How to run a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GeneratorOptions {
    /// `cpu`, or `cuda:0` in a build with CUDA on a machine that has it.
    pub device: String,
    /// psi of the truncation trick for sampled codes: 1 keeps all of W, 0 only its mean.
    pub truncation: f32,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self { device: "cpu".into(), truncation: 1.0 }
    }
}

/// Opens `cpu` or `cuda:INDEX`.
///
/// # Errors
/// [`Error::Unsupported`] where this build or this machine does not have it: never another device instead.
pub fn open_device(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let Some(index) = name.strip_prefix("cuda:").and_then(|i| i.parse::<usize>().ok()) else {
        return Err(Error::Invalid(format!("device \"{name}\": expected \"cpu\" or \"cuda:0\"")));
    };
    if !cfg!(feature = "cuda") {
        return Err(Error::Unsupported(format!(
            "device \"{name}\": this program was built without CUDA; build with `--features cuda`, or use \"cpu\""
        )));
    }
    Device::new_cuda(index)
        .map_err(|e| Error::Unsupported(format!("device \"{name}\" cannot be opened: {e}")))
}

fn backend(name: &str, device: &Device, precision: Precision) -> String {
    match device.is_cpu() {
        true => format!("cpu (candle, {} kernels)", Isa::detect().name()),
        false => format!("{name} (candle, {precision})"),
    }
}

fn checked(p: Precision, device: &Device) -> Result<Precision> {
    p.check(device).map_err(|e| Error::Invalid(e.to_string()))?;
    Ok(p)
}

fn fail(e: candle_core::Error) -> Error {
    Error::component("stylegan2", e)
}

/// Runs `f` on slices of at most [`BATCH`] of `n` and joins the rows.
fn batches(n: usize, mut f: impl FnMut(usize, usize) -> candle_core::Result<Tensor>) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    for from in (0..n).step_by(BATCH) {
        let t = f(from, (from + BATCH).min(n)).map_err(fail)?;
        out.extend(t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).map_err(fail)?);
    }
    Ok(out)
}

/// A trained G.
pub struct StyleGan2Generator {
    net: GeneratorNet,
    device: Device,
    options: GeneratorOptions,
    precision: Precision,
}

impl StyleGan2Generator {
    /// Reads a file written by [`file::save_generator`].
    ///
    /// # Errors
    /// If the file is missing or holds something else, its images are neither grey nor RGB, or the device cannot be
    /// had.
    pub fn load(path: &Path, options: &GeneratorOptions) -> Result<Self> {
        if !(0.0..=2.0).contains(&options.truncation) {
            return Err(Error::Invalid(format!("truncation {}: expected 0 to 2", options.truncation)));
        }
        let device = open_device(&options.device)?;
        let (config, tensors) = file::load_generator(path)?;
        let invalid = |e: candle_core::Error| Error::Invalid(format!("{}: {e}", path.display()));
        let mut net = GeneratorNet::new(&config, &Weights::frozen(tensors, &device)).map_err(invalid)?;
        if !device.is_cpu() {
            net.prepare().map_err(fail)?;
        }
        if config.channels != 1 && config.channels != 3 {
            return Err(Error::Unsupported(format!(
                "{}: images of {} channels; explanations need grey or RGB",
                path.display(),
                config.channels
            )));
        }
        Ok(Self { net, device, options: options.clone(), precision: Precision::F32 })
    }

    /// The same with convolutions in precision `p`, which is f32 otherwise.
    ///
    /// # Errors
    /// If the device does not have it: the CPU computes in f32 only.
    pub fn with_precision(self, p: Precision) -> Result<Self> {
        Ok(Self { precision: checked(p, &self.device)?, ..self })
    }

    /// Sizes of the network.
    pub fn config(&self) -> &GeneratorConfig {
        self.net.config()
    }
}

impl Generator for StyleGan2Generator {
    fn info(&self) -> GeneratorInfo {
        let c = self.net.config();
        GeneratorInfo {
            latent_dim: c.w_dim,
            latent_layers: c.num_ws(),
            channels: c.channels,
            height: c.resolution,
            width: c.resolution,
            backend: backend(&self.options.device, &self.device, self.precision),
        }
    }

    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        let w = file::sample_w(&self.net, n, seed)
            .and_then(|w| self.net.truncate(&w, f64::from(self.options.truncation)))
            .and_then(|w| w.flatten_all()?.to_vec1::<f32>())
            .map_err(fail)?;
        LatentCodes::new([n, 1, self.net.config().w_dim], w)
    }

    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let c = self.net.config();
        let [n, l, d] = w.shape();
        if d != c.w_dim || (l != 1 && l != c.num_ws()) {
            return Err(Error::Shape {
                what: "codes to synthesise".into(),
                expected: format!("[N, 1, {0}] or [N, {1}, {0}]", c.w_dim, c.num_ws()),
                found: vec![n, l, d],
            });
        }
        let data = batches(n, |from, to| {
            let codes = w.slice(from, to);
            let ws = Tensor::from_slice(codes.as_slice(), (to - from, l, d), &self.device)?;
            let ws = if l == 1 { self.net.broadcast(&ws.squeeze(1)?)? } else { ws };
            // network range [-1, 1] to [0, 1]
            with_precision(self.precision, || self.net.synthesize(&ws, Noise::Constant))?.affine(0.5, 0.5)
        })?;
        Images::new([n, c.channels, c.resolution, c.resolution], data)
    }
}

/// A trained E.
pub struct StyleGan2Encoder {
    net: EncoderNet,
    device: Device,
    resolution: usize,
    channels: usize,
    w_dim: usize,
    name: String,
    precision: Precision,
}

impl StyleGan2Encoder {
    /// Reads a file written by [`file::save_encoder`].
    ///
    /// # Errors
    /// If the file is missing or holds something else, or the device cannot be had.
    pub fn load(path: &Path, device: &str) -> Result<Self> {
        let (name, device) = (device.to_owned(), open_device(device)?);
        let (config, tensors) = file::load_encoder(path)?;
        let invalid = |e: candle_core::Error| Error::Invalid(format!("{}: {e}", path.display()));
        let net = EncoderNet::new(&config, &Weights::frozen(tensors, &device)).map_err(invalid)?;
        let (resolution, channels, w_dim) = (config.resolution, config.channels, config.w_dim);
        Ok(Self { net, device, resolution, channels, w_dim, name, precision: Precision::F32 })
    }

    /// The same with convolutions in precision `p`, which is f32 otherwise.
    ///
    /// # Errors
    /// If the device does not have it: the CPU computes in f32 only.
    pub fn with_precision(self, p: Precision) -> Result<Self> {
        Ok(Self { precision: checked(p, &self.device)?, ..self })
    }

    /// Where it runs and on what.
    pub fn backend(&self) -> String {
        backend(&self.name, &self.device, self.precision)
    }

    /// D, size of w.
    pub fn latent_dim(&self) -> usize {
        self.w_dim
    }
}

impl Encoder for StyleGan2Encoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let side = self.resolution;
        let x = resize::images(&x.with_channels(self.channels)?, (side, side), Filter::Bilinear)?;
        let data = batches(x.len(), |from, to| {
            let part = x.slice(from, to);
            let t = Tensor::from_slice(part.as_slice(), part.shape().as_slice(), &self.device)?;
            with_precision(self.precision, || self.net.forward(&t.affine(2.0, -1.0)?))
        })?;
        LatentCodes::new([x.len(), 1, self.w_dim], data)
    }
}

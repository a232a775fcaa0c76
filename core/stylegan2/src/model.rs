//! Trained networks behind the traits of `shiftlens-api`.

use crate::file;
use crate::kernels::Isa;
use crate::kernels::conv::fast;
use crate::net::{EncoderConfig, EncoderNet, GeneratorConfig, GeneratorNet, Noise};
use crate::ops::{Precision, with_precision};
use crate::rng::Rng;
use crate::synth::{Synthesis, SynthesisOptions};
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Encoder, Error, Generator, GeneratorInfo, Images, LatentCodes, Result, Shift};
use std::path::Path;

/// Images synthesised or encoded at once; more are worked on in turn.
const BATCH: usize = 16;

/// Noise inputs of a generator that is run, none of which draws anything: images are deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseMode {
    /// The pictures stored with the network.
    #[default]
    Const,
    /// None.
    None,
}

/// How to run a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GeneratorOptions {
    /// `cpu`, or `cuda:0` in a build with CUDA on a machine that has it.
    pub device: String,
    /// psi of the truncation trick for sampled codes: 1 keeps all of W, 0 only its mean.
    pub truncation: f32,
    /// Style layers, from the lowest resolution on, that are truncated; without it all. Sampled codes are codes of W+
    /// where this leaves a layer out.
    pub truncation_cutoff: Option<usize>,
    /// Index of the class of sampled codes, of a class-conditional network; without it each code's is drawn evenly
    /// from the seed.
    pub class: Option<usize>,
    /// Noise inputs.
    pub noise: NoiseMode,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            device: "cpu".into(),
            truncation: 1.0,
            truncation_cutoff: None,
            class: None,
            noise: NoiseMode::Const,
        }
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
            "device \"{name}\": this program was built without CUDA; build with `cargo xtask cuda`, or use \"cpu\""
        )));
    }
    Device::new_cuda(index)
        .map_err(|e| Error::Unsupported(format!("device \"{name}\" cannot be opened: {e}")))
}

fn backend(name: &str, device: &Device, precision: Precision) -> String {
    match device.is_cpu() {
        true => format!("cpu ({} kernels)", Isa::detect().name()),
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
    /// What synthesises on the CPU; other devices run `net`.
    engine: Option<Synthesis>,
    device: Device,
    options: GeneratorOptions,
    precision: Precision,
}

impl StyleGan2Generator {
    /// Reads a file written by [`file::save_generator`].
    ///
    /// # Errors
    /// If the file is missing or holds something else, the network has no such class, or the device cannot be had.
    pub fn load(path: &Path, options: &GeneratorOptions) -> Result<Self> {
        if !(0.0..=2.0).contains(&options.truncation) {
            return Err(Error::Invalid(format!("truncation {}: expected 0 to 2", options.truncation)));
        }
        let device = open_device(&options.device)?;
        let (config, tensors) = file::load_generator(path)?;
        let refuse = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
        match (options.class, config.label_dim) {
            (Some(class), 0) => {
                return Err(refuse(&format!("`class` is {class}, but the network is not class-conditional")));
            }
            (Some(class), n) if class >= n => {
                return Err(refuse(&format!("`class` is {class}, expected an index from 0 to {}", n - 1)));
            }
            _ => {}
        }
        let weights = Weights::frozen(tensors, &device);
        let mut net = GeneratorNet::new(&config, &weights).map_err(|e| refuse(&e))?;
        if !device.is_cpu() {
            net.prepare().map_err(fail)?;
        }
        // The network has checked that all tensors are there, and their shapes.
        let stored = weights.tensors();
        let get = |name: &str, _: &[usize]| match stored.get(name) {
            Some(t) => t.flatten_all()?.to_vec1::<f32>(),
            None => candle_core::bail!("tensor `{name}` is missing"),
        };
        let engine = match device.is_cpu() {
            true => Some(Synthesis::new(&config, SynthesisOptions::default(), get).map_err(|e| refuse(&e))?),
            false => None,
        };
        Ok(Self { net, engine, device, options: options.clone(), precision: Precision::F32 })
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
        let z = Rng::new(seed, 0).normals(n * self.net.config().z_dim);
        let classes = match self.options.class {
            Some(class) => vec![class; n],
            None => file::draw_classes(&self.net, n, &mut Rng::new(seed, 1)),
        };
        self.codes(z, &classes)
    }

    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        self.check_channels()?;
        self.images(self.synthesize_raw(w)?)
    }

    fn series(&mut self, w: &LatentCodes, shift: &Shift<'_>) -> Result<Images> {
        let layers = self.net.config().num_ws();
        let codes = shift.codes(w, layers)?;
        let Some(engine) = &self.engine else { return self.synthesize(&codes) };
        self.check_channels()?;
        let d = w.shape()[2];
        let mut change = vec![0.0; layers * d];
        for layer in shift.layers(layers)? {
            change[layer * d..(layer + 1) * d].copy_from_slice(shift.row(w, layer));
        }
        let mut data = Vec::new();
        for steps in shift.steps().chunks(BATCH) {
            data.extend(engine.series(
                &rows(w, layers),
                &change,
                steps,
                self.options.noise == NoiseMode::Const,
            ));
        }
        self.images(data)
    }
}

/// Codes of W or W+ as rows `[N, L, D]`.
fn rows(w: &LatentCodes, layers: usize) -> Vec<f32> {
    let [n, l, d] = w.shape();
    let row = |i: usize| if l == 1 { w.code(i / layers) } else { &w.code(i / layers)[i % layers * d..][..d] };
    (0..n * layers).flat_map(row).copied().collect()
}

impl StyleGan2Generator {
    fn check_channels(&self) -> Result<()> {
        match self.net.config().channels {
            1 | 3 => Ok(()),
            n => Err(Error::Unsupported(format!(
                "images of {n} channels: expected grey or RGB; `synthesize_raw` gives any number"
            ))),
        }
    }

    /// Network range, [-1, 1], to [0, 1].
    fn images(&self, mut data: Vec<f32>) -> Result<Images> {
        let c = self.net.config();
        data.iter_mut().for_each(|v| *v = *v * 0.5 + 0.5);
        let size = c.channels * c.resolution * c.resolution;
        Images::new([data.len() / size, c.channels, c.resolution, c.resolution], data)
    }

    /// The CPU's engine, where this generator runs there.
    pub fn engine(&self) -> Option<&Synthesis> {
        self.engine.as_ref()
    }

    /// One code for each seed, `[N, 1 or L, D]`: that of `sample(1, seed)` but for rounding. The mapping network reads
    /// its weights once for all, where so many calls would read them again.
    ///
    /// # Errors
    /// If candle fails.
    pub fn sample_seeds(&self, seeds: &[u64]) -> Result<LatentCodes> {
        let z_dim = self.net.config().z_dim;
        let (mut z, mut classes) = (Vec::with_capacity(seeds.len() * z_dim), Vec::new());
        for &seed in seeds {
            z.extend(Rng::new(seed, 0).normals(z_dim));
            match self.options.class {
                Some(class) => classes.push(class),
                None => classes.extend(file::draw_classes(&self.net, 1, &mut Rng::new(seed, 1))),
            }
        }
        self.codes(z, &classes)
    }

    /// z, row-major, and their classes to codes, truncated as the options say.
    fn codes(&self, z: Vec<f32>, classes: &[usize]) -> Result<LatentCodes> {
        let c = self.net.config();
        let psi = f64::from(self.options.truncation);
        // A cutoff that leaves no layer out is none.
        let cutoff = self.options.truncation_cutoff.filter(|rows| *rows < c.num_ws() && psi != 1.0);
        let map = || {
            let w = file::map_classes(&self.net, z, classes)?;
            let w = match cutoff {
                Some(rows) => self.net.truncate_first(&self.net.broadcast(&w)?, psi, rows)?,
                None => self.net.truncate(&w, psi)?,
            };
            Ok((w.dim(0)?, w.flatten_all()?.to_vec1::<f32>()?))
        };
        let (n, values) = map().map_err(fail)?;
        LatentCodes::new([n, if cutoff.is_some() { c.num_ws() } else { 1 }, c.w_dim], values)
    }

    /// G(w) in network range, about -1 to 1 and not clamped, `[N, C, R, R]` row-major, for codes of W (`[N, 1, D]`) or
    /// W+ (`[N, L, D]`); of any number of channels.
    ///
    /// # Errors
    /// [`Error::Shape`] for codes of another space, or if candle fails.
    pub fn synthesize_raw(&self, w: &LatentCodes) -> Result<Vec<f32>> {
        let c = self.net.config();
        let [n, l, d] = w.shape();
        if d != c.w_dim || (l != 1 && l != c.num_ws()) {
            return Err(Error::Shape {
                what: "codes to synthesise".into(),
                expected: format!("[N, 1, {0}] or [N, {1}, {0}]", c.w_dim, c.num_ws()),
                found: vec![n, l, d],
            });
        }
        if let Some(engine) = &self.engine {
            let mut data = Vec::new();
            for from in (0..n).step_by(BATCH) {
                let codes = w.slice(from, (from + BATCH).min(n));
                let ws = rows(&codes, c.num_ws());
                data.extend(engine.synthesize(&ws, self.options.noise == NoiseMode::Const));
            }
            return Ok(data);
        }
        batches(n, |from, to| {
            let codes = w.slice(from, to);
            let ws = Tensor::from_slice(codes.as_slice(), (to - from, l, d), &self.device)?;
            let ws = if l == 1 { self.net.broadcast(&ws.squeeze(1)?)? } else { ws };
            let noise = match self.options.noise {
                NoiseMode::Const => Noise::Constant,
                NoiseMode::None => Noise::Zero,
            };
            with_precision(self.precision, || self.net.synthesize(&ws, noise))
        })
    }
}

/// A trained E.
pub struct StyleGan2Encoder {
    net: EncoderNet,
    device: Device,
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
        Ok(Self { net, device, name, precision: Precision::F32 })
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

    /// Sizes of the network.
    pub fn config(&self) -> &EncoderConfig {
        self.net.config()
    }

    /// D, size of w.
    pub fn latent_dim(&self) -> usize {
        self.config().w_dim
    }
}

impl Encoder for StyleGan2Encoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let config = self.config();
        let (side, rows, d) = (config.resolution, config.rows(), config.w_dim);
        let x = resize::images(&x.with_channels(config.channels)?, (side, side), Filter::Bilinear)?;
        let data = batches(x.len(), |from, to| {
            let part = x.slice(from, to);
            let t = Tensor::from_slice(part.as_slice(), part.shape().as_slice(), &self.device)?;
            fast(|| with_precision(self.precision, || self.net.forward(&t.affine(2.0, -1.0)?)))
        })?;
        LatentCodes::new([x.len(), rows, d], data)
    }
}

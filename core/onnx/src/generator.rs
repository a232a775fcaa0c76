//! G as an ONNX file: latent codes to images.

use crate::backend::{Session, backend_name};
use crate::config::{GeneratorConfig, Layout};
use crate::graph::{Dim, Model, show_dims};
use crate::image_input::choose_port;
use crate::proto::data_type;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shiftlens_api::{Error, Generator, GeneratorInfo, Images, LatentCodes, Result};

/// Codes per run where the manifest does not say.
const DEFAULT_BATCH: usize = 16;

/// A generator read from an ONNX file: one input of codes `[N, D]` (or `[N, 1, D]`, `[N, D, 1, 1]`), one output of
/// images. Codes are drawn from the standard normal distribution.
pub struct OnnxGenerator {
    session: Session,
    name: String,
    input: String,
    /// Shape of the input after the batch.
    tail: Vec<usize>,
    dim: usize,
    /// The batch that the graph is fixed to.
    fixed: Option<usize>,
    batch: usize,
    layout: Layout,
    channels: usize,
    size: (usize, usize),
    range: [f32; 2],
    inferred: Vec<String>,
}

impl OnnxGenerator {
    /// Reads the model, settles what the manifest leaves open, and makes one image.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] for a file that is missing, is no ONNX model or has another checksum than
    /// the pin; [`Error::Invalid`] where manifest and model contradict each other; [`Error::Shape`] for an output
    /// that holds no images.
    pub fn load(config: &GeneratorConfig) -> Result<Self> {
        let model = Model::load(&config.path, config.sha256.as_deref())?;
        let name = model.name().to_owned();
        let mut inferred = Vec::new();
        let range = config.range.unwrap_or([-1.0, 1.0]);
        if !(range[0].is_finite() && range[1].is_finite() && range[0] < range[1]) {
            return Err(Error::Invalid(format!(
                "{name}: range = {range:?}, expected [black, white] with black < white"
            )));
        }
        if config.range.is_none() {
            inferred
                .push("range is not given: the model's outputs are taken as -1 (black) to 1 (white)".into());
        }
        let inputs = model.inputs();
        let port = choose_port(&inputs, None, &name, "input")?;
        if port.data_type != data_type::FLOAT {
            return Err(Error::Unsupported(format!(
                "{name}: input \"{}\" has ONNX data type {}, expected float32 (1)",
                port.name, port.data_type
            )));
        }
        let (tail, dim) =
            code_shape(&name, &port.name, port.dims.as_deref(), config.latent_dim, &mut inferred)?;
        let fixed = port.dims.as_ref().and_then(|d| d.first()).and_then(Dim::fixed);
        let batch = match (config.batch, fixed) {
            (Some(0), _) => return Err(Error::Invalid(format!("{name}: batch = 0, expected at least 1"))),
            (Some(said), Some(is)) if said != is => {
                return Err(Error::Invalid(format!(
                    "{name}: the manifest says batch = {said}, the model's batch is fixed to {is}; leave batch out"
                )));
            }
            (said, is) => is.or(said).unwrap_or(DEFAULT_BATCH),
        };
        let output = choose_port(&model.outputs(), config.output.as_deref(), &name, "output")?.name;
        let mut session =
            Session::new(&model.to_bytes()?, std::slice::from_ref(&output), config.threads, &name)?;
        let n = fixed.unwrap_or(1);
        let mut shape = vec![n];
        shape.extend(&tail);
        let image = session.run_floats(&[(&port.name, &shape, &vec![0.0; n * dim])])?.swap_remove(0);
        let (layout, channels, size) =
            image_shape(&name, &output, image.shape(), n, config.layout, &mut inferred)?;
        Ok(Self {
            session,
            name,
            input: port.name,
            tail,
            dim,
            fixed,
            batch,
            layout,
            channels,
            size,
            range,
            inferred,
        })
    }

    /// What was not in the manifest but read from the model, or assumed, in plain sentences.
    pub fn inferred(&self) -> &[String] {
        &self.inferred
    }

    /// Images of up to one batch of codes, `[N, C, H, W]` flattened.
    fn run(&mut self, codes: &[f32]) -> Result<Vec<f32>> {
        let count = codes.len() / self.dim;
        let n = self.fixed.unwrap_or(count);
        let mut data = codes.to_vec();
        while data.len() < n * self.dim {
            data.extend_from_within(data.len() - self.dim..);
        }
        let mut shape = vec![n];
        shape.extend(&self.tail);
        let out = self.session.run_floats(&[(&self.input, &shape, &data)])?.swap_remove(0);
        let (c, plane) = (self.channels, self.size.0 * self.size.1);
        if out.as_slice().len() != n * c * plane {
            return Err(Error::Shape {
                what: format!("{}: images for a batch of {n}", self.name),
                expected: format!("{n} images of {c} x {} x {}", self.size.0, self.size.1),
                found: out.shape().to_vec(),
            });
        }
        let [black, white] = self.range;
        let unit = |v: f32| (v - black) / (white - black);
        let values = &out.as_slice()[..count * c * plane];
        Ok(match self.layout {
            Layout::Nchw => values.iter().map(|v| unit(*v)).collect(),
            Layout::Nhwc => values
                .chunks_exact(c * plane)
                .flat_map(|image| (0..c).flat_map(move |k| (0..plane).map(move |p| unit(image[p * c + k]))))
                .collect(),
        })
    }
}

impl Generator for OnnxGenerator {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo {
            latent_dim: self.dim,
            latent_layers: 1,
            channels: self.channels,
            height: self.size.0,
            width: self.size.1,
            backend: backend_name().unwrap_or("none").to_owned(),
        }
    }

    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        LatentCodes::new([n, 1, self.dim], standard_normal(n * self.dim, seed))
    }

    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let [n, l, d] = w.shape();
        if l != 1 || d != self.dim {
            return Err(Error::Shape {
                what: format!("codes for {}", self.name),
                expected: format!("[N, 1, {}]", self.dim),
                found: vec![n, l, d],
            });
        }
        let mut data = Vec::with_capacity(n * self.channels * self.size.0 * self.size.1);
        for codes in w.as_slice().chunks(self.batch * self.dim) {
            data.extend(self.run(codes)?);
        }
        Images::new([n, self.channels, self.size.0, self.size.1], data)
            .map_err(|e| Error::component(&self.name, format!("generated images: {e}")))
    }
}

/// `n` standard normal numbers: ChaCha8 seeded by `seed_from_u64`, and the Box-Muller transform
/// `sqrt(-2 ln u) (cos, sin)(2 pi v)` of pairs of uniform numbers with 53 bits, u in (0, 1]. The first numbers of a
/// longer draw are those of a shorter one.
pub fn standard_normal(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        let (u, v) = (1.0 - uniform(), uniform());
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        out.push((radius * angle.cos()) as f32);
        out.push((radius * angle.sin()) as f32);
    }
    out.truncate(n);
    out
}

/// Shape of one code in the model's input and its size D.
fn code_shape(
    name: &str,
    input: &str,
    dims: Option<&[Dim]>,
    said: Option<usize>,
    inferred: &mut Vec<String>,
) -> Result<(Vec<usize>, usize)> {
    let shown = dims.map_or_else(|| "not declared".into(), show_dims);
    let wrong = || {
        Error::Unsupported(format!(
            "{name}: input \"{input}\" has shape {shown}, expected codes [N, D], [N, 1, D] or [N, D, 1, 1]"
        ))
    };
    let tail = match dims {
        None => &[Dim::Dynamic(String::new())][..],
        Some([_, tail @ ..]) if !tail.is_empty() => tail,
        Some(_) => return Err(wrong()),
    };
    let long: Vec<usize> = (0..tail.len()).filter(|i| tail[*i].fixed() != Some(1)).collect();
    let axis = match long[..] {
        [] => tail.len() - 1,
        [one] => one,
        _ => return Err(wrong()),
    };
    let dim = match (said, tail[axis].fixed()) {
        (Some(s), Some(d)) if s != d => {
            return Err(Error::Invalid(format!(
                "{name}: the manifest says latent-dim = {s}, the model's input \"{input}\" is {shown}; correct one"
            )));
        }
        (None, Some(d)) => {
            inferred.push(format!("latent-dim = {d}, read from the model"));
            d
        }
        (Some(s), _) if s > 0 => s,
        _ => {
            return Err(Error::Invalid(format!(
                "{name}: the model leaves the size of its codes open (input {shown}); set latent-dim"
            )));
        }
    };
    let mut shape = vec![1; tail.len()];
    shape[axis] = dim;
    Ok((shape, dim))
}

/// Axis order, channels and size of the model's images.
fn image_shape(
    name: &str,
    output: &str,
    shape: &[usize],
    n: usize,
    said: Option<Layout>,
    inferred: &mut Vec<String>,
) -> Result<(Layout, usize, (usize, usize))> {
    let image = |c: usize| c == 1 || c == 3;
    let found = match *shape {
        [rows, a, b, c] if rows == n && a * b * c > 0 => match said {
            Some(Layout::Nchw) if image(a) => Some((Layout::Nchw, a, (b, c))),
            Some(Layout::Nhwc) if image(c) => Some((Layout::Nhwc, c, (a, b))),
            None if image(a) => Some((Layout::Nchw, a, (b, c))),
            None if image(c) => Some((Layout::Nhwc, c, (a, b))),
            _ => None,
        },
        _ => None,
    };
    let found = found.ok_or_else(|| Error::Shape {
        what: format!("{name}: output \"{output}\" for a batch of {n}"),
        expected: match said {
            Some(Layout::Nchw) => "images [N, C, H, W] with C 1 or 3".into(),
            Some(Layout::Nhwc) => "images [N, H, W, C] with C 1 or 3".into(),
            None => "images [N, C, H, W] or [N, H, W, C] with C 1 or 3".into(),
        },
        found: shape.to_vec(),
    })?;
    if said.is_none() {
        inferred.push(format!("layout = {:?}, from the output's shape {shape:?}", found.0).to_lowercase());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_standard_normal_and_prefix_stable() {
        let (small, large) = (standard_normal(7, 3), standard_normal(20_000, 3));
        assert_eq!(small, large[..7]);
        assert_ne!(small, standard_normal(7, 4));
        let moment = |k: i32| large.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / large.len() as f64;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }
}

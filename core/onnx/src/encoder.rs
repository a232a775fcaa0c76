//! E as an ONNX file: images to latent codes.

use crate::backend::Session;
use crate::config::EncoderConfig;
use crate::graph::Model;
use crate::image_input::{ImageInput, choose_port};
use shiftlens_api::{Encoder, Error, Images, LatentCodes, Result};

/// Images per run where the manifest does not say.
const DEFAULT_BATCH: usize = 32;

/// An encoder read from an ONNX file. Its output is `[N, D]` (codes of W) or `[N, L, D]` (codes of W+).
pub struct OnnxEncoder {
    input: ImageInput,
    session: Session,
    name: String,
    output: String,
    batch: usize,
    layers: usize,
    dim: usize,
    inferred: Vec<String>,
}

impl OnnxEncoder {
    /// Reads the model, settles what the manifest leaves open, and runs it once on a grey image.
    ///
    /// # Errors
    /// As [`crate::OnnxPredictor::load`]; [`Error::Shape`] for an output that holds no codes.
    pub fn load(config: &EncoderConfig) -> Result<Self> {
        let model = Model::load(&config.path, config.sha256.as_deref())?;
        let name = model.name().to_owned();
        let mut inferred = Vec::new();
        let input = ImageInput::resolve(&model, &config.input, &mut inferred)?;
        input.only_input(&model)?;
        let batch = input.batch_size(&name, config.batch, DEFAULT_BATCH)?;
        let output = choose_port(&model.outputs(), config.output.as_deref(), &name, "output")?.name;
        let mut session =
            Session::new(&model.to_bytes()?, std::slice::from_ref(&output), config.threads, &name)?;
        let n = input.batch.unwrap_or(1);
        let answer = session
            .run_floats(&[(&input.name, &input.shape(n), &input.prepare(&input.grey()?, n)?)])?
            .swap_remove(0);
        let (layers, dim) = match *answer.shape() {
            [rows, d] if rows == n && d > 0 => (1, d),
            [rows, l, d] if rows == n && l > 0 && d > 0 => (l, d),
            ref other => {
                return Err(Error::Shape {
                    what: format!("{name}: output \"{output}\" for a batch of {n}"),
                    expected: "latent codes [N, D] or [N, L, D]".into(),
                    found: other.to_vec(),
                });
            }
        };
        Ok(Self { input, session, name, output, batch, layers, dim, inferred })
    }

    /// What was not in the manifest but read from the model, or assumed, in plain sentences.
    pub fn inferred(&self) -> &[String] {
        &self.inferred
    }

    /// `(L, D)` of the codes.
    pub fn latent_shape(&self) -> (usize, usize) {
        (self.layers, self.dim)
    }
}

impl Encoder for OnnxEncoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let size = self.layers * self.dim;
        let mut codes = Vec::with_capacity(x.len() * size);
        for from in (0..x.len()).step_by(self.batch) {
            let part = x.slice(from, (from + self.batch).min(x.len()));
            let n = self.input.batch.unwrap_or(part.len());
            let data = self.input.prepare(&part, n)?;
            let answer =
                self.session.run_floats(&[(&self.input.name, &self.input.shape(n), &data)])?.swap_remove(0);
            if answer.as_slice().len() != n * size {
                return Err(Error::Shape {
                    what: format!("{}: output \"{}\"", self.name, self.output),
                    expected: format!("[{n}, {}, {}]", self.layers, self.dim),
                    found: answer.shape().to_vec(),
                });
            }
            codes.extend_from_slice(&answer.as_slice()[..part.len() * size]);
        }
        LatentCodes::new([x.len(), self.layers, self.dim], codes)
            .map_err(|e| Error::component(&self.name, format!("output \"{}\": {e}", self.output)))
    }
}

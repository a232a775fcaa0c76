//! φ as an ONNX file: activations of some layers and their pullback.
//!
//! The model is cut behind the asked layers, so that a classifier's head costs nothing and need not take images of the
//! size. For the pullback the layers are flattened and joined to one tensor `[N, K]`; the gradient of its weighted sum,
//! with the cotangents for weights, is the vector-Jacobian product (see [`crate::gradient`]).

mod graph;
mod images;
mod penultimate;

use crate::backend::{Session, backend_name};
use crate::config::FeaturesConfig;
use crate::gradient::session::batch;
use crate::graph::Model;
use crate::image_input::{ImageInput, declared_size};
use graph::Cut;
use images::Preparation;
use shiftlens_api::{Error, FeatureInfo, FeatureLayer, FeatureNetwork, Result, Tensor};
use std::collections::HashMap;

/// Pixels of one run, all images of the batch together: enough to keep the cores busy, few enough for the activations of
/// a layer to stay in the caches.
const PIXELS_PER_RUN: usize = 16 * 64 * 64;
/// Images of one run at most.
const LARGEST_BATCH: usize = 64;

/// A feature network read from an ONNX file.
pub struct OnnxFeatures {
    input: ImageInput,
    preparation: Preparation,
    cut: Cut,
    threads: Option<usize>,
    /// Forward and backward sessions by the batch that they hold for (`None`: any).
    forward: HashMap<Option<usize>, Session>,
    backward: HashMap<Option<usize>, Session>,
    inferred: Vec<String>,
}

impl OnnxFeatures {
    /// Reads the model and cuts it behind the asked layers. `channels` (1 or 3) and `size` `(H, W)` are those of the
    /// images that it will be given. A model that leaves its size open takes them as they are (or `upsample` times as
    /// large, or at `input.size`); for a model of a fixed size they are resized. Grey images are repeated for a model
    /// that takes RGB, RGB images reduced to their luma (BT.601) for one that takes grey.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] for a file that is missing, is no ONNX model or has another checksum than the
    /// pin; [`Error::Invalid`] where configuration and model contradict each other, for a layer that the model does not
    /// have, and for `upsample` where the size is given; [`Error::Unsupported`] for layers other than maps and vectors
    /// per image; [`Error::Component`] if the backend cannot run the model.
    pub fn open(config: &FeaturesConfig, channels: usize, size: (usize, usize)) -> Result<Self> {
        let model = Model::load(&config.path, config.sha256.as_deref())?;
        let file = model.name().to_owned();
        let preparation = Preparation::new(channels, size, config.input.resize)?;
        let mut spec = config.input.clone();
        spec.size = Some(network_size(&model, config, size)?);
        let mut inferred = Vec::new();
        let input = ImageInput::resolve(&model, &spec, &mut inferred)?;
        input.only_input(&model)?;
        let cut = Cut::new(model, &config.layers, &input, config.threads, &mut inferred)?;
        if input.size != size {
            inferred.push(format!("images are resized from {size:?} to {:?}", input.size));
        }
        let mut made = Self {
            input,
            preparation,
            cut,
            threads: config.threads,
            forward: HashMap::new(),
            backward: HashMap::new(),
            inferred: inferred.into_iter().map(|s| format!("{file}: {s}")).collect(),
        };
        // A network that cannot be run should say so now.
        made.features(&Tensor::new(vec![1, channels, size.0, size.1], vec![0.5; made.preparation.len()])?)?;
        Ok(made)
    }

    /// What was not in the configuration but read from the model, or assumed, in plain sentences.
    pub fn inferred(&self) -> &[String] {
        &self.inferred
    }

    /// First image, count, images as they are fed and the batch that the graph must hold for, run by run.
    fn runs(&self, n: usize) -> Result<Vec<(usize, usize, Option<usize>)>> {
        let (h, w) = self.input.size;
        let largest = (PIXELS_PER_RUN / (h * w)).clamp(1, LARGEST_BATCH);
        let (mut from, mut runs) = (0, Vec::new());
        while from < n {
            let (take, fixed) = batch(self.input.batch, n - from, largest)?;
            runs.push((from, take, fixed));
            from += take;
        }
        Ok(runs)
    }

    /// The input array for images `from..from + take`, padded to `rows`.
    fn pixels(&self, x: &Tensor, from: usize, take: usize, rows: usize) -> Vec<f32> {
        let len = self.preparation.len();
        let own = self.preparation.forward(&x.as_slice()[from * len..(from + take) * len], &self.input);
        self.input.normalise(&own, rows)
    }
}

/// Height and width that the network is to be run at.
fn network_size(model: &Model, config: &FeaturesConfig, size: (usize, usize)) -> Result<[usize; 2]> {
    let file = model.name();
    let declared = declared_size(model, &config.input)?;
    let free = declared == [None, None] && config.input.size.is_none();
    match config.upsample {
        Some(0) => return Err(Error::Invalid(format!("{file}: upsample = 0, expected at least 1"))),
        Some(factor) if factor > 1 && !free => {
            let why = if config.input.size.is_some() {
                "input.size is given, and images are resized to it"
            } else {
                "the model's size is fixed, and images are resized to it"
            };
            return Err(Error::Invalid(format!(
                "{file}: upsample = {factor}, but {why}; leave upsample out"
            )));
        }
        _ => {}
    }
    let factor = config.upsample.unwrap_or(1);
    let given = config.input.size.unwrap_or([size.0 * factor, size.1 * factor]);
    // Where manifest and model contradict each other, resolving the input says so.
    let side =
        |i: usize| if config.input.size.is_some() { given[i] } else { declared[i].unwrap_or(given[i]) };
    Ok([side(0), side(1)])
}

/// Refuses what is not finite among the first `count` values.
fn check_finite(file: &str, what: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NotFinite { what: format!("{file}: {what}"), index, value: values[index] }),
        None => Ok(()),
    }
}

impl FeatureNetwork for OnnxFeatures {
    fn info(&self) -> FeatureInfo {
        FeatureInfo {
            layers: self.cut.layers.iter().map(|l| l.info.clone()).collect(),
            channels: self.preparation.channels,
            size: self.preparation.size,
            backend: backend_name().unwrap_or("none").to_owned(),
        }
    }

    fn features(&mut self, x: &Tensor) -> Result<Vec<Tensor>> {
        let n = self.preparation.check(x, self.cut.name())?;
        let sizes: Vec<usize> = self.cut.layers.iter().map(|l| l.info.shape.iter().product()).collect();
        let mut parts: Vec<Vec<f32>> = sizes.iter().map(|s| Vec::with_capacity(n * s)).collect();
        for (from, take, fixed) in self.runs(n)? {
            let rows = fixed.unwrap_or(take);
            let data = self.pixels(x, from, take, rows);
            if !self.forward.contains_key(&fixed) {
                self.forward.insert(fixed, self.cut.forward(&self.input, fixed, self.threads)?);
            }
            let session = self.forward.get_mut(&fixed).ok_or_else(|| Error::invalid("just made"))?;
            let answer = session.run_floats(&[(&self.input.name, &self.input.shape(rows), &data)])?;
            for ((part, t), layer) in parts.iter_mut().zip(answer).zip(&self.cut.layers) {
                let shape = [&[rows], &layer.info.shape[..]].concat();
                if t.shape() != shape {
                    return Err(Error::Shape {
                        what: format!("{}: layer \"{}\"", self.cut.name(), layer.info.name),
                        expected: format!("{shape:?}"),
                        found: t.shape().to_vec(),
                    });
                }
                let values = &t.as_slice()[..take * t.as_slice().len() / rows];
                check_finite(self.cut.name(), &format!("layer \"{}\"", layer.info.name), values)?;
                part.extend_from_slice(values);
            }
        }
        let shaped = parts.into_iter().zip(&self.cut.layers);
        shaped.map(|(data, l)| Tensor::new([&[n], &l.info.shape[..]].concat(), data)).collect()
    }

    fn pullback(&mut self, x: &Tensor, cotangents: &[Tensor]) -> Result<Tensor> {
        let n = self.preparation.check(x, self.cut.name())?;
        self.check_cotangents(n, cotangents)?;
        let columns: usize = self.cut.columns();
        let mut out = Vec::with_capacity(x.as_slice().len());
        for (from, take, fixed) in self.runs(n)? {
            let rows = fixed.unwrap_or(take);
            let data = self.pixels(x, from, take, rows);
            let mut seed = Vec::with_capacity(rows * columns);
            for i in from..from + take {
                for (c, layer) in cotangents.iter().zip(&self.cut.layers) {
                    let len: usize = layer.info.shape.iter().product();
                    seed.extend_from_slice(&c.as_slice()[i * len..(i + 1) * len]);
                }
            }
            seed.resize(rows * columns, 0.0);
            if !self.backward.contains_key(&fixed) {
                self.backward.insert(fixed, self.cut.backward(&self.input, fixed, self.threads)?);
            }
            let session = self.backward.get_mut(&fixed).ok_or_else(|| Error::invalid("just made"))?;
            let image = self.input.shape(rows);
            let answer = session.run_floats(&[
                (&self.input.name, &image, &data),
                (crate::gradient::SEED_WEIGHTS, &[rows, columns], &seed),
            ])?;
            let found = answer.first().filter(|t| t.shape() == image).ok_or_else(|| Error::Shape {
                what: format!("{}: gradient of the image", self.cut.name()),
                expected: format!("{image:?}"),
                found: answer.first().map(|t| t.shape().to_vec()).unwrap_or_default(),
            })?;
            let values = &found.as_slice()[..take * image[1] * image[2] * image[3]];
            check_finite(self.cut.name(), "gradient of the image", values)?;
            out.extend(self.preparation.backward(self.input.gradient_to_image(values), &self.input));
        }
        Tensor::new(x.shape().to_vec(), out)
    }
}

impl OnnxFeatures {
    fn check_cotangents(&self, n: usize, cotangents: &[Tensor]) -> Result<()> {
        let layers: &[graph::Layer] = &self.cut.layers;
        if cotangents.len() != layers.len() {
            return Err(Error::Invalid(format!(
                "{}: {} cotangents given, expected one for each of {} layers",
                self.cut.name(),
                cotangents.len(),
                layers.len()
            )));
        }
        for (c, FeatureLayer { name, shape }) in cotangents.iter().zip(layers.iter().map(|l| &l.info)) {
            let expected = [&[n], &shape[..]].concat();
            if c.shape() != expected {
                return Err(Error::Shape {
                    what: format!("{}: cotangent of layer \"{name}\"", self.cut.name()),
                    expected: format!("{expected:?}"),
                    found: c.shape().to_vec(),
                });
            }
            check_finite(self.cut.name(), &format!("cotangent of layer \"{name}\""), c.as_slice())?;
        }
        Ok(())
    }
}

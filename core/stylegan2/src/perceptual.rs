//! Distances between images on the features of a network: a predictor's or any other's given as
//! [`FeatureNetwork`], or a discriminator's.
//!
//! With φ_k the layers, n_k numbers each, λ_k their weights and m_k the mean square of φ_k on usual images,
//! `d(y, x) = sum over k of λ_k / (m_k n_k) |φ_k(y) - φ_k(x)|^2`. Logits are a layer as any other: theirs keeps a
//! classifier's score.

use crate::net::Discriminator;
use candle_core::{DType, Tensor};
use shiftlens_api::{Error, FeatureNetwork, Result, Tensor as Array};
use std::path::Path;

enum Source {
    Network(Box<dyn FeatureNetwork>),
    Discriminator(Box<Discriminator>),
}

/// A distance on features.
pub struct Perceptual {
    source: Source,
    name: String,
    /// λ_k
    weights: Vec<f64>,
    /// m_k
    squares: Vec<f64>,
}

/// The features of images that others are compared with.
pub struct Targets {
    layers: Vec<Tensor>,
}

impl Targets {
    /// Those of images `from..from + n`.
    ///
    /// # Errors
    /// If there are not as many.
    pub fn narrow(&self, from: usize, n: usize) -> Result<Self> {
        let layers = self.layers.iter().map(|t| t.narrow(0, from, n)).collect::<candle_core::Result<_>>();
        Ok(Self { layers: layers.map_err(fail)? })
    }
}

/// What [`Perceptual::distances`] answers.
pub struct Distances {
    /// A scalar whose gradient with respect to the images is that of the weighted sum of distances. Its value is another.
    pub surrogate: Tensor,
    /// `d(y, x)` of each image.
    pub values: Vec<f64>,
}

fn fail(e: candle_core::Error) -> Error {
    Error::component("features", e)
}

/// Images in network range to the border's type, in [0, 1] where they are in [-1, 1].
fn array(x: &Tensor) -> Result<Array> {
    let values = || x.affine(0.5, 0.5)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Array::new(x.dims().to_vec(), values().map_err(fail)?)
}

impl Perceptual {
    fn new(source: Source, name: String, layers: usize, weights: &[f64]) -> Result<Self> {
        let weights = if weights.is_empty() { vec![1.0; layers] } else { weights.to_vec() };
        if weights.len() != layers || weights.iter().any(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(Error::Invalid(format!(
                "{name}: layer-weights {weights:?}: expected {layers} numbers of at least 0, one for each layer"
            )));
        }
        Ok(Self { source, name, weights, squares: Vec::new() })
    }

    /// On the layers of a network; `weights` are λ_k, 1 each if there are none.
    ///
    /// # Errors
    /// If the network takes other images than `channels` and `resolution` say, or there are not as many weights as layers.
    pub fn of_network(
        network: Box<dyn FeatureNetwork>,
        name: &str,
        weights: &[f64],
        (channels, resolution): (usize, usize),
    ) -> Result<Self> {
        let info = network.info();
        if info.channels != channels || info.size != (resolution, resolution) {
            return Err(Error::Invalid(format!(
                "{name}: takes {}x{} images of {} channels, the generator makes {resolution}x{resolution} of {channels}",
                info.size.0, info.size.1, info.channels
            )));
        }
        let layers = info.layers.len();
        Self::new(Source::Network(network), name.to_owned(), layers, weights)
    }

    /// On the outputs of a discriminator's blocks, from the checkpoint of a generator's training.
    ///
    /// # Errors
    /// If the file holds no discriminator for images of `channels` and `resolution`.
    pub fn of_discriminator(
        checkpoint: &Path,
        weights: &[f64],
        (channels, resolution): (usize, usize),
        device: &candle_core::Device,
    ) -> Result<Self> {
        let (config, tensors) = crate::train::discriminator_of(checkpoint)?;
        let name = checkpoint.display().to_string();
        if (config.channels, config.resolution) != (channels, resolution) {
            return Err(Error::Invalid(format!(
                "{name}: its discriminator judges {0}x{0} images of {1} channels, the generator makes \
                 {resolution}x{resolution} of {channels}",
                config.resolution, config.channels
            )));
        }
        let weights_of = crate::weights::Weights::frozen(tensors, device);
        let net = Discriminator::new(&config, &weights_of)
            .map_err(|e| Error::Invalid(format!("{name}: discriminator: {e}")))?;
        let layers = config.resolutions().len();
        Self::new(Source::Discriminator(Box::new(net)), name, layers, weights)
    }

    /// What it is made of, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// m_k, the mean square of each layer, once measured.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// Takes m_k as measured before.
    ///
    /// # Errors
    /// If there are not as many as layers.
    pub fn set_squares(&mut self, squares: Vec<f64>) -> Result<()> {
        if squares.len() != self.weights.len() || squares.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(Error::Invalid(format!(
                "{}: mean squares {squares:?}: expected {} positive numbers",
                self.name,
                self.weights.len()
            )));
        }
        self.squares = squares;
        Ok(())
    }

    /// Measures m_k on images `[N, C, R, R]` in network range.
    ///
    /// # Errors
    /// If the network fails, or a layer is 0 everywhere: it would tell no image from another.
    pub fn measure(&mut self, images: &Tensor) -> Result<()> {
        let mean = |t: &Tensor| -> candle_core::Result<f64> {
            t.to_dtype(DType::F64)?.sqr()?.mean_all()?.to_scalar::<f64>()
        };
        let layers = self.targets(images)?.layers;
        let squares = layers.iter().map(mean).collect::<candle_core::Result<_>>().map_err(fail)?;
        self.set_squares(squares)
    }

    /// Features of images `[N, C, R, R]` in network range.
    ///
    /// # Errors
    /// If the network fails or answers numbers that are not finite.
    pub fn targets(&mut self, images: &Tensor) -> Result<Targets> {
        let layers = match &mut self.source {
            Source::Network(network) => {
                let answers = network.features(&array(images)?)?;
                answers
                    .into_iter()
                    .map(|a| {
                        let n = a.shape().first().copied().unwrap_or(0);
                        let size = a.as_slice().len() / n.max(1);
                        Tensor::from_vec(a.into_vec(), (n, size), &candle_core::Device::Cpu)
                    })
                    .collect::<candle_core::Result<Vec<_>>>()
            }
            Source::Discriminator(d) => blocks(d, &images.detach()),
        };
        let layers = layers.map_err(fail)?;
        if layers.len() != self.weights.len() {
            let (found, expected) = (layers.len(), self.weights.len());
            return Err(Error::component(&self.name, format!("{found} layers came, expected {expected}")));
        }
        Ok(Targets { layers })
    }

    /// d of images y `[N, C, R, R]` in network range to those of the targets; `scales` is each image's factor in the sum
    /// that the surrogate stands for.
    ///
    /// # Errors
    /// If the network fails, its answers are not finite, or [`Self::measure`] has not been called.
    pub fn distances(&mut self, y: &Tensor, targets: &Targets, scales: &[f64]) -> Result<Distances> {
        if self.squares.is_empty() {
            return Err(Error::component(&self.name, "the features' mean squares have not been measured"));
        }
        let factor: Vec<f64> = self.weights.iter().zip(&self.squares).map(|(w, s)| w / s).collect();
        let distances = match &mut self.source {
            Source::Network(network) => on_network(network.as_mut(), y, targets, scales, &factor)?,
            Source::Discriminator(d) => in_graph(d, y, targets, scales, &factor).map_err(fail)?,
        };
        match distances.values.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(Error::component(&self.name, format!("a distance of features is {v}"))),
            None => Ok(distances),
        }
    }
}

/// The network answers vector-Jacobian products, so the images' gradient is computed outside the graph.
fn on_network(
    network: &mut dyn FeatureNetwork,
    y: &Tensor,
    targets: &Targets,
    scales: &[f64],
    factor: &[f64],
) -> Result<Distances> {
    let images = array(y)?;
    let mut values = vec![0.0; scales.len()];
    let mut cotangents = Vec::new();
    let answers = network.features(&images)?;
    if answers.len() != targets.layers.len() {
        let (found, expected) = (answers.len(), targets.layers.len());
        return Err(Error::component("features", format!("{found} layers came, expected {expected}")));
    }
    for ((found, wanted), factor) in answers.into_iter().zip(&targets.layers).zip(factor) {
        let shape = found.shape().to_vec();
        let wanted = wanted.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(fail)?;
        let mut off = found.into_vec();
        if off.len() != wanted.len() || shape.first() != Some(&scales.len()) {
            return Err(Error::Shape {
                what: "features of images to compare".into(),
                expected: format!("[{}, ..] with {} values", scales.len(), wanted.len()),
                found: shape,
            });
        }
        let size = off.len() / scales.len().max(1);
        let each = factor / size as f64;
        let images = off.chunks_exact_mut(size).zip(wanted.chunks_exact(size));
        for ((off, wanted), (value, scale)) in images.zip(values.iter_mut().zip(scales)) {
            let mut sum = 0.0;
            for (a, b) in off.iter_mut().zip(wanted) {
                let difference = f64::from(*a) - f64::from(*b);
                sum += difference * difference;
                *a = (2.0 * scale * each * difference) as f32;
            }
            *value += each * sum;
        }
        cotangents.push(Array::new(shape, off)?);
    }
    let gradient = network.pullback(&images, &cotangents)?;
    let surrogate = || {
        // The images' values are half of the network range: so is their gradient.
        let gradient = (Tensor::from_vec(gradient.into_vec(), y.shape(), &candle_core::Device::Cpu)? * 0.5)?;
        (y * gradient.to_dtype(y.dtype())?.to_device(y.device())?)?.sum_all()
    };
    Ok(Distances { surrogate: surrogate().map_err(fail)?, values })
}

/// Outputs of all blocks, `[N, ..]` each.
fn blocks(d: &Discriminator, images: &Tensor) -> candle_core::Result<Vec<Tensor>> {
    d.blocks(images)?.iter().map(|t| t.flatten_from(1)).collect()
}

fn in_graph(
    d: &Discriminator,
    y: &Tensor,
    targets: &Targets,
    scales: &[f64],
    factor: &[f64],
) -> candle_core::Result<Distances> {
    let mut sum: Option<Tensor> = None;
    for ((found, wanted), factor) in blocks(d, y)?.iter().zip(&targets.layers).zip(factor) {
        let part = ((found - wanted)?.sqr()?.mean(1)? * *factor)?;
        sum = Some(match sum {
            Some(s) => (s + part)?,
            None => part,
        });
    }
    let Some(sum) = sum else { candle_core::bail!("a discriminator without blocks") };
    let values = sum.to_dtype(DType::F64)?.to_vec1()?;
    let scales = Tensor::from_slice(scales, scales.len(), &candle_core::Device::Cpu)?;
    let surrogate = (sum * scales.to_dtype(y.dtype())?.to_device(y.device())?)?.sum_all()?;
    Ok(Distances { surrogate, values })
}

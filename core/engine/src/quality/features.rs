//! Sets of feature vectors.

use ndarray::Array2;
use shiftlens_api::{Error, FeatureNetwork, Images, Result, Tensor, resize};
use std::ops::Range;

/// One vector of features for each image of a set, `[N, D]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    dimensions: usize,
    values: Vec<f32>,
}

impl FeatureSet {
    /// Takes rows of `dimensions` values each.
    ///
    /// # Errors
    /// [`Error::Shape`] if the values do not divide into rows.
    pub fn from_rows(dimensions: usize, values: Vec<f32>) -> Result<Self> {
        if dimensions == 0 || !values.len().is_multiple_of(dimensions) {
            return Err(Error::Shape {
                what: "feature vectors".into(),
                expected: format!("[N, {dimensions}]"),
                found: vec![values.len()],
            });
        }
        Ok(Self { dimensions, values })
    }

    /// The features of all images that come, batch by batch; images themselves are not kept. Of maps, the mean over the
    /// places of each channel counts; layers are joined to one vector.
    ///
    /// # Errors
    /// What the images or the network say.
    pub fn of(
        network: &mut dyn FeatureNetwork,
        images: impl Iterator<Item = Result<Images>>,
    ) -> Result<Self> {
        let mut set = Self { dimensions: dimensions(network), values: Vec::new() };
        for x in images {
            set.push(&layers(network, &x?)?);
        }
        Ok(set)
    }

    /// Adds the images of one answer of a network.
    fn push(&mut self, layers: &[Tensor]) {
        let n = layers.first().and_then(|t| t.shape().first()).copied().unwrap_or(0);
        for i in 0..n {
            for t in layers {
                let (k, places) = (t.shape()[1], t.shape()[2..].iter().product::<usize>());
                let image = &t.as_slice()[i * k * places..(i + 1) * k * places];
                let mean = |c: &[f32]| c.iter().map(|v| f64::from(*v)).sum::<f64>() / places as f64;
                self.values.extend(image.chunks_exact(places).map(|c| mean(c) as f32));
            }
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }
    /// True without images.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// D.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }
    /// The vector of image `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dimensions..(i + 1) * self.dimensions]
    }
    /// Some images in a row, in f64.
    pub(super) fn matrix(&self, rows: Range<usize>) -> Array2<f64> {
        Array2::from_shape_fn((rows.len(), self.dimensions), |(i, k)| f64::from(self.row(rows.start + i)[k]))
    }
    /// These images, in f64.
    pub(super) fn gather(&self, rows: &[usize]) -> Array2<f64> {
        Array2::from_shape_fn((rows.len(), self.dimensions), |(i, k)| f64::from(self.row(rows[i])[k]))
    }
    /// At most `n` images, evenly spread.
    pub(super) fn thinned(&self, n: usize) -> Self {
        let all = self.len();
        if n >= all {
            return self.clone();
        }
        let values = (0..n).flat_map(|i| self.row(i * all / n)).copied().collect();
        Self { dimensions: self.dimensions, values }
    }
}

/// D of a network's joined vectors.
fn dimensions(network: &dyn FeatureNetwork) -> usize {
    network.info().layers.iter().map(|l| l.shape.first().copied().unwrap_or(0)).sum()
}

/// The network's layers for images.
pub(super) fn layers(network: &mut dyn FeatureNetwork, x: &Images) -> Result<Vec<Tensor>> {
    network.features(&Tensor::new(x.shape().to_vec(), x.as_slice().to_vec())?)
}

/// Images with other channels and another size, as a network or a comparison needs them.
///
/// # Errors
/// As [`Images::with_channels`] and [`resize::images`].
pub fn fit(x: &Images, channels: usize, size: (usize, usize)) -> Result<Images> {
    resize::images(&x.with_channels(channels)?, size, resize::Filter::Bilinear)
}

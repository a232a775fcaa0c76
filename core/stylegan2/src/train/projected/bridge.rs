//! Between candle's tensors in network range and a feature network's plain arrays in units of image values.

use candle_core::{Device, Error, Result, Tensor, bail};
use shiftlens_api::{FeatureInfo, FeatureNetwork, Tensor as Plain};

/// From network range [-1, 1] to image values [0, 1]: `x / 2 + 1 / 2`.
const FACTOR: f64 = 0.5;

fn plain(t: &Tensor) -> Result<Plain> {
    let values = t.flatten_all()?.to_vec1::<f32>()?;
    Plain::new(t.dims().to_vec(), values).map_err(Error::wrap)
}

fn tensor(t: Plain, shape: &[usize], what: &str, device: &Device) -> Result<Tensor> {
    if t.shape() != shape {
        bail!("{what} of the feature network: expected {shape:?}, found {:?}", t.shape());
    }
    Tensor::from_vec(t.into_vec(), shape, device)
}

/// φ on images of a training.
pub struct Bridge {
    network: Box<dyn FeatureNetwork>,
    info: FeatureInfo,
}

impl Bridge {
    pub fn new(network: Box<dyn FeatureNetwork>) -> Self {
        let info = network.info();
        Self { network, info }
    }

    pub fn info(&self) -> &FeatureInfo {
        &self.info
    }

    fn input(images: &Tensor) -> Result<Plain> {
        plain(&((images.detach() * FACTOR)? + FACTOR)?)
    }

    fn shape(&self, layer: usize, n: usize) -> Vec<usize> {
        std::iter::once(n).chain(self.info.layers[layer].shape.iter().copied()).collect()
    }

    /// φ(x) of images `[N, C, H, W]` in network range, one tensor for each layer, outside the graph.
    pub fn features(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        let found = self.network.features(&Self::input(images)?).map_err(Error::wrap)?;
        if found.len() != self.info.layers.len() {
            bail!("feature network: expected {} layers, found {}", self.info.layers.len(), found.len());
        }
        let n = images.dim(0)?;
        let each = found.into_iter().enumerate();
        each.map(|(l, t)| tensor(t, &self.shape(l, n), &self.info.layers[l].name, images.device())).collect()
    }

    /// The gradient of `sum over l of <φ_l(x), cotangents_l>` with respect to images in network range.
    pub fn pullback(&mut self, images: &Tensor, cotangents: &[Tensor]) -> Result<Tensor> {
        let cotangents = cotangents.iter().map(plain).collect::<Result<Vec<_>>>()?;
        let g = self.network.pullback(&Self::input(images)?, &cotangents).map_err(Error::wrap)?;
        tensor(g, images.dims(), "gradient", images.device())? * FACTOR
    }
}

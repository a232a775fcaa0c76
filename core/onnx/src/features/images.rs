//! The caller's images as the network wants them, and gradients the same way back.

use crate::image_input::ImageInput;
use shiftlens_api::resize::{Filter, plane, plane_adjoint};
use shiftlens_api::{Error, Result, Tensor};

/// Weights of red, green and blue in grey: ITU-R BT.601, as [`shiftlens_api::Images::with_channels`] has it.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// A linear map of images (resampling, then another number of channels) and its adjoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    /// Channels of the caller's images: 1 or 3.
    pub channels: usize,
    /// `(H, W)` of the caller's images.
    pub size: (usize, usize),
    filter: Filter,
}

impl Preparation {
    pub fn new(channels: usize, size: (usize, usize), filter: Filter) -> Result<Self> {
        if !matches!(channels, 1 | 3) || size.0 == 0 || size.1 == 0 {
            return Err(Error::Shape {
                what: "images that a feature network is opened for".into(),
                expected: "[1 or 3, H > 0, W > 0]".into(),
                found: vec![channels, size.0, size.1],
            });
        }
        Ok(Self { channels, size, filter })
    }

    /// Values of one of the caller's images.
    pub fn len(&self) -> usize {
        self.channels * self.size.0 * self.size.1
    }

    /// Number of images, which must be as announced and hold finite values.
    pub fn check(&self, x: &Tensor, file: &str) -> Result<usize> {
        let (h, w) = self.size;
        let shape = x.shape();
        if shape.len() != 4 || shape[0] == 0 || shape[1..] != [self.channels, h, w] {
            return Err(Error::Shape {
                what: format!("images for {file}"),
                expected: format!("[N > 0, {}, {h}, {w}]", self.channels),
                found: shape.to_vec(),
            });
        }
        match x.as_slice().iter().position(|v| !v.is_finite()) {
            Some(index) => Err(Error::NotFinite {
                what: format!("images for {file}"),
                index,
                value: x.as_slice()[index],
            }),
            None => Ok(shape[0]),
        }
    }

    /// `[N, C, H, W]` of the caller to the same of the network's own size and channels, before normalisation.
    pub fn forward(&self, x: &[f32], input: &ImageInput) -> Vec<f32> {
        let resized: Vec<f32> = if self.size == input.size {
            x.to_vec()
        } else {
            let places = self.size.0 * self.size.1;
            x.chunks_exact(places).flat_map(|p| plane(p, self.size, input.size, self.filter)).collect()
        };
        let places = input.size.0 * input.size.1;
        match (self.channels, input.channels) {
            (1, 3) => resized.chunks_exact(places).flat_map(|p| p.repeat(3)).collect(),
            (3, 1) => resized
                .chunks_exact(3 * places)
                .flat_map(|image| {
                    (0..places).map(|p| (0..3).map(|c| LUMA[c] * image[c * places + p]).sum::<f32>())
                })
                .collect(),
            _ => resized,
        }
    }

    /// The adjoint of [`Self::forward`].
    pub fn backward(&self, gradient: Vec<f32>, input: &ImageInput) -> Vec<f32> {
        let places = input.size.0 * input.size.1;
        let own = match (self.channels, input.channels) {
            (1, 3) => gradient
                .chunks_exact(3 * places)
                .flat_map(|g| (0..places).map(|p| g[p] + g[places + p] + g[2 * places + p]))
                .collect(),
            (3, 1) => gradient
                .chunks_exact(places)
                .flat_map(|g| LUMA.iter().flat_map(|l| g.iter().map(move |v| l * v)))
                .collect(),
            _ => gradient,
        };
        if self.size == input.size {
            return own;
        }
        own.chunks_exact(places).flat_map(|p| plane_adjoint(p, self.size, input.size, self.filter)).collect()
    }
}

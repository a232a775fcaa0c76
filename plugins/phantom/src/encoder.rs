//! E: pictures to factors.

use crate::api::resize::{self, Filter};
use crate::api::{Encoder, Images, LatentCodes, Result};
use crate::factors::{Code, FACTORS, JOINT_SPACE, ROTATION};
use crate::fit::{Fit, fit};
use crate::generator::{DEFAULT_SIZE, SIZES};
use crate::render::Renderer;
use shiftlens_sdk::{Create, serde_json::Value};

/// Side of the reduced picture on which the starts compete: its blurred edges make the basins wide.
const COARSE: usize = 32;
/// About so many pixels carry the final fit, whatever the picture's size.
const PIXELS: usize = 4096;

/// Reads all six factors off a picture by analysis by synthesis: a few starts on a reduced picture, then
/// Levenberg-Marquardt at the picture's own size. Deterministic.
///
/// A square picture of a size that the generator can make is fitted as it is, any other is resized first. What no
/// phantom could look like is answered with the nearest phantom's code.
#[derive(Debug, Clone)]
pub struct PhantomEncoder {
    coarse: Renderer,
    /// Of the size of the last picture.
    fine: Renderer,
}

impl Default for PhantomEncoder {
    fn default() -> Self {
        Self { coarse: Renderer::new(COARSE), fine: Renderer::new(DEFAULT_SIZE) }
    }
}

/// The encoder takes no parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

impl Create for PhantomEncoder {
    fn create(params: &Value) -> Result<Self> {
        shiftlens_sdk::params::<Params>(params).map(|Params {}| Self::default())
    }
}

impl PhantomEncoder {
    /// `coarse` and `fine` are one picture at the renderers' sizes.
    fn code(&self, coarse: &[f32], fine: &[f32]) -> Code {
        let pixels: Vec<usize> = (0..COARSE * COARSE).collect();
        let best = starts()
            .map(|start| fit(&self.coarse, &pixels, coarse, start, 8))
            .reduce(|a: Fit, b: Fit| if b.loss < a.loss { b } else { a })
            .map_or([0.0; FACTORS], |found| found.code);
        fit(&self.fine, &sparse(self.fine.size()), fine, best, 30).code
    }
}

/// The average knee, and knees so far apart in the two factors that move edges that one lies near any phantom.
fn starts() -> impl Iterator<Item = Code> {
    [(0.0, 0.0), (-2.0, 0.0), (2.0, 0.0), (0.0, -2.0), (0.0, 2.0)].into_iter().map(|(gap, turn)| {
        let mut start = [0.0; FACTORS];
        (start[JOINT_SPACE], start[ROTATION]) = (gap, turn);
        start
    })
}

/// Evenly spread pixels, each row of them shifted against the last, about [`PIXELS`] in number.
fn sparse(size: usize) -> Vec<usize> {
    let stride = ((size * size) as f64 / PIXELS as f64).sqrt().floor().max(1.0) as usize;
    (0..size)
        .step_by(stride)
        .flat_map(|row| {
            ((row / stride) % stride..size).step_by(stride).map(move |column| row * size + column)
        })
        .collect()
}

impl Encoder for PhantomEncoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let grey = x.with_channels(1)?;
        let (height, width) = grey.size();
        let size = if height == width && SIZES.contains(&height) { height } else { DEFAULT_SIZE };
        if self.fine.size() != size {
            self.fine = Renderer::new(size);
        }
        let fine = resize::images(&grey, (size, size), Filter::Bilinear)?;
        let coarse = resize::images(&grey, (COARSE, COARSE), Filter::Bilinear)?;
        let codes = (0..x.len()).flat_map(|i| self.code(coarse.image(i), fine.image(i))).collect();
        LatentCodes::new([x.len(), 1, FACTORS], codes)
    }
}

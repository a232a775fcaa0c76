//! G: factors to pictures.

use crate::api::{Error, Generator, GeneratorInfo, Images, LatentCodes, Result};
use crate::factors::{Code, FACTORS};
use crate::random::Stream;
use crate::render::Renderer;
use shiftlens_sdk::{Create, serde_json::Value};
use std::ops::RangeInclusive;

/// Side of a picture in pixels where the manifest names none.
pub const DEFAULT_SIZE: usize = 128;
/// Sides that can be asked for.
pub const SIZES: RangeInclusive<usize> = 32..=1024;

/// Draws knee-like radiograph phantoms from six known factors (see [`crate::factors`]).
#[derive(Debug, Clone)]
pub struct PhantomGenerator {
    renderer: Renderer,
}

impl PhantomGenerator {
    /// Pictures of `size` x `size` pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `size` is outside [`SIZES`].
    pub fn new(size: usize) -> Result<Self> {
        if !SIZES.contains(&size) {
            return Err(Error::Invalid(format!(
                "phantom generator: params.size is {size}, expected a number of pixels from {} to {}",
                SIZES.start(),
                SIZES.end()
            )));
        }
        Ok(Self { renderer: Renderer::new(size) })
    }
}

/// `params = { size = 128 }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "default_size")]
    size: usize,
}

fn default_size() -> usize {
    DEFAULT_SIZE
}

impl Create for PhantomGenerator {
    fn create(params: &Value) -> Result<Self> {
        Self::new(shiftlens_sdk::params::<Params>(params)?.size)
    }
}

impl Generator for PhantomGenerator {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo {
            latent_dim: FACTORS,
            latent_layers: 1,
            channels: 1,
            height: self.renderer.size(),
            width: self.renderer.size(),
            backend: "cpu (procedural phantom)".into(),
        }
    }

    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        let mut stream = Stream::new(seed);
        let codes = (0..n * FACTORS / 2).flat_map(|_| stream.normal_pair()).map(|v| v as f32).collect();
        LatentCodes::new([n, 1, FACTORS], codes)
    }

    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let [n, layers, dim] = w.shape();
        if (layers, dim) != (1, FACTORS) {
            return Err(Error::Shape {
                what: "codes for the phantom generator".into(),
                expected: format!("[N, 1, {FACTORS}]"),
                found: vec![n, layers, dim],
            });
        }
        let size = self.renderer.size();
        let mut data = Vec::with_capacity(n * size * size);
        for i in 0..n {
            let code: Code = std::array::from_fn(|k| w.code(i)[k]);
            data.extend(self.renderer.render(&code));
        }
        Images::new([n, 1, size, size], data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_sdk::serde_json::json;

    #[test]
    fn params_are_checked() {
        assert_eq!(PhantomGenerator::create(&json!({})).unwrap().info().height, 128);
        assert_eq!(PhantomGenerator::create(&json!({"size": 64})).unwrap().info().width, 64);
        let error = |p| PhantomGenerator::create(&p).unwrap_err().to_string();
        assert!(error(json!({"sise": 64})).contains("`sise`"));
        assert!(error(json!({"size": 8})).contains("from 32 to 1024"));
        assert!(error(json!({"size": "big"})).contains("big"));
    }

    #[test]
    fn a_larger_draw_begins_with_the_smaller() {
        let mut g = PhantomGenerator::new(32).unwrap();
        let (few, many) = (g.sample(3, 9).unwrap(), g.sample(50, 9).unwrap());
        assert_eq!(few, many.slice(0, 3));
        assert_ne!(few, g.sample(3, 10).unwrap());
        assert!(g.sample(0, 1).unwrap().is_empty());
    }

    #[test]
    fn pictures_are_valid_however_far_a_code_is_shifted() {
        let mut g = PhantomGenerator::new(48).unwrap();
        for far in [-1e6, -6.0, 6.0, 1e6f32] {
            for factor in 0..FACTORS {
                let mut code = vec![far.signum() * 2.0; FACTORS];
                code[factor] = far;
                let x = g.synthesize(&LatentCodes::new([1, 1, FACTORS], code).unwrap()).unwrap();
                // Images::new would clip: inside the open interval nothing was clipped.
                assert!(x.as_slice().iter().all(|v| *v > 0.0 && *v < 1.0));
            }
        }
        let wrong = LatentCodes::new([1, 2, 6], vec![0.0; 12]).unwrap();
        assert!(g.synthesize(&wrong).unwrap_err().to_string().contains("[N, 1, 6]"));
    }
}

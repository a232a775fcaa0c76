//! SmoothGrad (Smilkov et al. 2017, section 2): the gradient averaged over noisy copies of the image,
//! `1/n sum_i d(score)/dx at x + N(0, sigma^2)`.

use super::{Attributed, Method};
use crate::host::{Host, Shape, Variants};
use crate::reduction::Reduction;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use shiftlens_sdk::api::{Images, Result};

/// SmoothGrad; with `squared`, the mean of the squared gradients (Hooker et al. 2019, section 3: SmoothGrad²), which
/// is never negative.
///
/// Noisy values are clamped to [0, 1] as any image's are, so noise on a black or white pixel goes one way only.
pub struct SmoothGrad {
    /// n.
    pub samples: usize,
    /// sigma as a share of the image's largest less its smallest value, as in the paper.
    pub noise: f64,
    /// Averages squares.
    pub squared: bool,
    /// How channels become one value.
    pub channels: Reduction,
}

struct Noisy<'a> {
    image: &'a [f32],
    sigma: f64,
    squared: bool,
    rng: ChaCha8Rng,
    sum: Vec<f64>,
}

impl Variants for Noisy<'_> {
    fn draw(&mut self, _: usize, image: &mut [f32]) {
        for (v, x) in image.iter_mut().zip(self.image) {
            let normal: f64 = StandardNormal.sample(&mut self.rng);
            *v = (f64::from(*x) + self.sigma * normal) as f32;
        }
    }
    fn take(&mut self, _: usize, _: f64, gradient: &[f32]) {
        for (s, g) in self.sum.iter_mut().zip(gradient) {
            let g = f64::from(*g);
            *s += if self.squared { g * g } else { g };
        }
    }
}

impl Method for SmoothGrad {
    fn title(&self) -> &'static str {
        if self.squared { "SmoothGrad²" } else { "SmoothGrad" }
    }
    fn needs_gradients(&self) -> bool {
        true
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, _: f64, seed: u64) -> Result<Attributed> {
        let (shape, image) = (Shape::of(x), x.image(0));
        let (low, high) =
            image.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let sigma = self.noise * f64::from(high - low);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut noisy = Noisy { image, sigma, squared: self.squared, rng, sum: vec![0.0; image.len()] };
        host.ask("smoothgrad", shape, self.samples, true, &mut noisy)?;
        let mean: Vec<f64> = noisy.sum.into_iter().map(|s| s / self.samples as f64).collect();
        let notes = vec![
            ("samples", self.samples.to_string()),
            ("noise", format!("standard deviation {sigma:.4} in image values")),
        ];
        Ok(Attributed { map: self.channels.apply(&mean, shape.plane()), notes })
    }
}

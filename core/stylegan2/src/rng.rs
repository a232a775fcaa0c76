//! Random numbers that are the same everywhere: ChaCha with 8 rounds, normals by Box and Muller (1958).

use candle_core::{Device, Result, Tensor};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers named by a seed and a stream number, so that every training step has its own and a
/// resumed run draws what an uninterrupted one would.
pub struct Rng {
    chacha: ChaCha8Rng,
    spare: Option<f32>,
    /// The device's own generator has been seeded from this stream.
    seeded: bool,
}

impl Rng {
    /// Stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chacha = ChaCha8Rng::seed_from_u64(seed);
        chacha.set_stream(stream);
        Self { chacha, spare: None, seeded: false }
    }
    /// A standard normal number.
    pub fn normal(&mut self) -> f32 {
        if let Some(v) = self.spare.take() {
            return v;
        }
        // 1 - u is in (0, 1], so the logarithm is finite.
        let (u, v): (f64, f64) = (self.chacha.random(), self.chacha.random());
        let r = (-2.0 * (1.0 - u).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
        self.spare = Some((r * sin) as f32);
        (r * cos) as f32
    }
    /// `n` standard normal numbers.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
    /// Standard normal numbers of `shape`. On the CPU they are those of [`Self::normals`]. A GPU draws them itself, from
    /// a seed that this stream gives it, so that the noise of a training step does not cross the bus: other numbers
    /// than on the CPU, but the same in every run.
    ///
    /// # Errors
    /// If candle fails.
    pub fn tensor(&mut self, shape: &[usize], device: &Device) -> Result<Tensor> {
        if device.is_cpu() {
            return Tensor::from_vec(self.normals(shape.iter().product()), shape, device);
        }
        if !self.seeded {
            device.set_seed(self.chacha.random())?;
            self.seeded = true;
        }
        Tensor::randn(0f32, 1f32, shape, device)
    }
    /// A number from 0 up to 1, without 1.
    pub fn uniform(&mut self) -> f64 {
        self.chacha.random()
    }
    /// A seed for another stream.
    pub fn seed(&mut self) -> u64 {
        self.chacha.random()
    }
    /// An index below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.chacha.random_range(0..n)
    }
    /// True or false, evenly.
    pub fn coin(&mut self) -> bool {
        self.chacha.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_right_moments_and_streams_differ() {
        let x = Rng::new(1, 0).normals(40_000);
        let mean = x.iter().sum::<f32>() / 4e4;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 4e4;
        let tail = x.iter().filter(|v| v.abs() > 1.959_964).count() as f32 / 4e4;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03 && (tail - 0.05).abs() < 0.006);
        assert_eq!(Rng::new(1, 0).normals(5), x[..5]);
        assert_ne!(Rng::new(1, 1).normals(5), x[..5]);
        assert_ne!(Rng::new(2, 0).normals(5), x[..5]);
    }
}

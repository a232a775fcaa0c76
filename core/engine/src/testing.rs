//! Helpers of the unit tests: reference numbers and small closed-form components.

use shiftlens_api::{
    Encoder, Generator, GeneratorInfo, Images, LatentCodes, Predictor, PredictorInfo, Result, Scores,
};

/// Reference values of scikit-learn 1.9.1 and scipy 1.17.1, as `tests/fixtures/README.md` says.
pub fn golden_stats() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stats.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Latent size of the fakes.
pub const D: usize = 6;
/// Side of the fakes' images.
pub const SIDE: usize = 8;

/// `pixel[i] = 0.5 + 0.1 * w[i mod D]`: linear, so that everything about it is known.
#[derive(Clone, Default)]
pub struct LinearGenerator;

impl Generator for LinearGenerator {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo {
            latent_dim: D,
            latent_layers: 1,
            channels: 1,
            height: SIDE,
            width: SIDE,
            backend: "closed form".into(),
        }
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        // Sum of twelve uniforms less six: mean 0, variance 1.
        let data = (0..n * D).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect();
        LatentCodes::new([n, 1, D], data)
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let n = w.len();
        let mut data = Vec::with_capacity(n * SIDE * SIDE);
        for i in 0..n {
            data.extend((0..SIDE * SIDE).map(|p| 0.5 + 0.1 * w.code(i)[p % D]));
        }
        Images::new([n, 1, SIDE, SIDE], data)
    }
}

/// The inverse of [`LinearGenerator`] (for values that were not clamped).
#[derive(Clone, Default)]
pub struct LinearEncoder;

impl Encoder for LinearEncoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let x = shiftlens_api::resize::images(&x.with_channels(1)?, (SIDE, SIDE), Default::default())?;
        let mut data = Vec::new();
        for i in 0..x.len() {
            data.extend(x.image(i)[..D].iter().map(|p| (p - 0.5) / 0.1));
        }
        LatentCodes::new([x.len(), 1, D], data)
    }
}

/// `sigmoid(gain * (pixel[0] - 0.5) / 0.1 + bias)` of the first pixel, that is of `w[0]`, as class 1 of 2.
/// Answers NaN for an image whose last pixel is exactly 1.
#[derive(Clone)]
pub struct PixelPredictor {
    /// Slope per unit of w.
    pub gain: f32,
    /// Logit at w = 0.
    pub bias: f32,
}

impl Predictor for PixelPredictor {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: vec!["absent".into(), "present".into()],
            input_size: None,
            channels: 1,
            backend: "closed form".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let x = x.with_channels(1)?;
        let mut data = Vec::new();
        for i in 0..x.len() {
            let image = x.image(i);
            let logit = self.gain * (image[0] - 0.5) / 0.1 + self.bias;
            let p = if image[image.len() - 1] == 1.0 { f32::NAN } else { 1.0 / (1.0 + (-logit).exp()) };
            data.extend([1.0 - p, p]);
        }
        Scores::new([x.len(), 2], data)
    }
}

//! Seeded standard normals: SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
//! generators") and the Box-Muller transform.

/// A stream of pseudorandom numbers fixed by its seed.
#[derive(Debug, Clone)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Two independent standard normals.
    pub fn normal_pair(&mut self) -> [f64; 2] {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [radius * cos, radius * sin]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_splitmix64s() {
        // Reference stream of seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64").
        let mut stream = Stream::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423u64];
        assert_eq!(expected.map(|_| stream.bits()), expected);
    }

    #[test]
    fn normals_have_the_moments_of_a_standard_normal() {
        let mut stream = Stream::new(7);
        let draws: Vec<[f64; 2]> = (0..100_000).map(|_| stream.normal_pair()).collect();
        let n = draws.len() as f64;
        let mean = |f: &dyn Fn(&[f64; 2]) -> f64| draws.iter().map(f).sum::<f64>() / n;
        assert!(mean(&|d| d[0]).abs() < 0.012 && mean(&|d| d[1]).abs() < 0.012);
        assert!((mean(&|d| d[0] * d[0]) - 1.0).abs() < 0.02 && (mean(&|d| d[1] * d[1]) - 1.0).abs() < 0.02);
        assert!(mean(&|d| d[0] * d[1]).abs() < 0.012);
        assert!((mean(&|d| d[0].powi(4)) - 3.0).abs() < 0.12);
    }
}

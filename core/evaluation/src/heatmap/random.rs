//! Maps that know nothing: the floor that every measure of a real map is compared with.

use crate::gaussian::blurred;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Result};

/// How a random map looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RandomMap {
    /// Independent normal values: the look of a gradient.
    White,
    /// The same, blurred: the look of a CAM. Smooth maps remove whole regions at once, so for curves they are a harder
    /// floor than white ones.
    Smooth {
        /// Standard deviation of the blur in pixels.
        sigma: f64,
    },
}

/// A random map `[h, w]` with values of mean 0; white ones have variance 1.
///
/// # Errors
/// [`Error::Invalid`] for a blur that is not positive or longer than the longer side; [`Error::Shape`] for a size of 0.
pub fn random_map((h, w): (usize, usize), kind: RandomMap, seed: u64) -> Result<Heatmap> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let noise: Vec<f64> = (0..h * w).map(|_| rng.sample(StandardNormal)).collect();
    let values = match kind {
        RandomMap::White => noise,
        RandomMap::Smooth { .. } if noise.is_empty() => noise,
        RandomMap::Smooth { sigma } if sigma > 0.0 && sigma <= h.max(w) as f64 => {
            blurred(&noise, (h, w), sigma)
        }
        RandomMap::Smooth { sigma } => {
            return Err(Error::Invalid(format!(
                "random heatmap: a blur of sigma {sigma} pixels, expected more than 0 and at most {}",
                h.max(w)
            )));
        }
    };
    Heatmap::new(h, w, values.into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::pearson;
    use crate::testing::close;

    /// Correlation of pixels beside each other.
    fn neighbours(map: &Heatmap) -> f64 {
        let rows = map.as_slice().chunks_exact(map.size().1);
        let pairs: Vec<(f64, f64)> =
            rows.flat_map(|r| r.windows(2).map(|p| (f64::from(p[0]), f64::from(p[1])))).collect();
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        pearson(&a, &b).unwrap()
    }

    #[test]
    fn white_is_independent_and_smooth_is_not() {
        let white = random_map((60, 50), RandomMap::White, 7).unwrap();
        let squares = white.as_slice().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 3000.0;
        close(squares, 1.0, 0.08);
        close(neighbours(&white), 0.0, 0.06);
        // Noise blurred by sigma is correlated as exp(-d² / (4 sigma²)).
        let smooth = random_map((60, 50), RandomMap::Smooth { sigma: 2.0 }, 7).unwrap();
        close(neighbours(&smooth), (-1.0f64 / 16.0).exp(), 0.03);
        assert_eq!(random_map((60, 50), RandomMap::White, 7).unwrap(), white);
        assert_ne!(random_map((60, 50), RandomMap::White, 8).unwrap(), white);
        assert!(random_map((4, 4), RandomMap::Smooth { sigma: 0.0 }, 0).is_err());
        assert!(random_map((0, 4), RandomMap::Smooth { sigma: 1.0 }, 0).is_err());
    }
}

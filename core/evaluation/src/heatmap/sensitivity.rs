//! Max-sensitivity (Yeh et al. 2019, section 3): how far a map moves when its image moves a little.

use super::{one_explained, same_size, values};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Images, Result};

/// How far, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SensitivityParams {
    /// Half the side of the cube around x: every value moves by at most this, and stays in [0, 1].
    pub radius: f64,
    /// Images drawn from the cube, evenly.
    pub samples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SensitivityParams {
    /// Radius 0.02, which is below what a person sees, and 10 samples.
    fn default() -> Self {
        Self { radius: 0.02, samples: 10, seed: 0 }
    }
}

/// Changes of a map, as Euclidean norms over its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Largest `‖Φ(y) - Φ(x)‖`.
    pub max: f64,
    /// Mean of the same.
    pub mean: f64,
    /// `‖Φ(x)‖`.
    pub norm: f64,
}

impl Sensitivity {
    /// The largest change relative to the map's norm, which makes maps of different scales comparable; `None` for a map
    /// that is 0.
    pub fn relative_max(&self) -> Option<f64> {
        (self.norm > 0.0).then(|| self.max / self.norm)
    }
    /// The mean change relative to the map's norm.
    pub fn relative_mean(&self) -> Option<f64> {
        (self.norm > 0.0).then(|| self.mean / self.norm)
    }
}

/// Explains `samples` images around `image`, one at a time, and compares with `map`, the explanation of `image`.
///
/// # Errors
/// [`Error::Shape`] for a map of another size; [`Error::Invalid`] for no samples or a radius that is not positive; what
/// `explain` answers, and [`Error::Shape`] if its maps are of another size.
pub fn sensitivity(
    explain: &mut dyn FnMut(&Images) -> Result<Heatmap>,
    image: &Images,
    map: &Heatmap,
    params: SensitivityParams,
) -> Result<Sensitivity> {
    one_explained(image, map)?;
    let SensitivityParams { radius, samples, seed } = params;
    if samples == 0 || !(radius > 0.0 && radius.is_finite()) {
        return Err(Error::Invalid(format!(
            "sensitivity: {samples} samples in a cube of radius {radius}, expected at least 1 and more than 0"
        )));
    }
    let phi = values(map);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut max, mut sum) = (0f64, 0f64);
    for _ in 0..samples {
        let moved =
            image.as_slice().iter().map(|v| (f64::from(*v) + rng.random_range(-radius..=radius)) as f32);
        // `Images::new` keeps the values within [0, 1].
        let near = explain(&Images::new(image.shape(), moved.collect())?)?;
        same_size("heatmap of a moved image", near.size(), map.size())?;
        let change = values(&near).iter().zip(&phi).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        max = max.max(change);
        sum += change;
    }
    let norm = phi.iter().map(|v| v * v).sum::<f64>().sqrt();
    Ok(Sensitivity { max, mean: sum / samples as f64, norm })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    fn image() -> Images {
        Images::new([1, 1, 4, 4], vec![0.5; 16]).unwrap()
    }

    fn identity(x: &Images) -> Result<Heatmap> {
        Heatmap::new(4, 4, x.as_slice().to_vec())
    }

    #[test]
    fn an_explainer_that_ignores_the_image_has_none() {
        let map = Heatmap::new(4, 4, vec![2.0; 16]).unwrap();
        let found = sensitivity(&mut |_| Ok(map.clone()), &image(), &map, Default::default()).unwrap();
        assert_eq!((found.max, found.mean, found.norm), (0.0, 0.0, 8.0));
        assert_eq!(found.relative_max(), Some(0.0));
    }

    #[test]
    fn the_image_as_map_moves_as_the_image_does() {
        let map = identity(&image()).unwrap();
        let params = SensitivityParams { radius: 0.1, samples: 400, seed: 2 };
        let mut farthest = 0f32;
        let mut explain = |x: &Images| {
            farthest = x.as_slice().iter().fold(farthest, |a, v| a.max((v - 0.5).abs()));
            identity(x)
        };
        let found = sensitivity(&mut explain, &image(), &map, params).unwrap();
        // A coordinate has variance r² / 3: a step is about sqrt(16 / 3) r long, and never longer than 4 r.
        close(found.mean, (16f64 / 3.0).sqrt() * 0.1, 0.01);
        assert!(found.max > found.mean && found.max < 0.4, "{found:?}");
        close(found.relative_max().unwrap(), found.max / 2.0, 1e-12);
        assert!(farthest <= 0.1 + 1e-6 && farthest > 0.099);
        let again = sensitivity(&mut identity, &image(), &map, params).unwrap();
        assert_eq!(again, found);
        // At the limit of the values only half of the moves are left.
        let black = Images::new([1, 1, 4, 4], vec![0.0; 16]).unwrap();
        let zero = identity(&black).unwrap();
        let found = sensitivity(&mut identity, &black, &zero, params).unwrap();
        close(found.mean, (16f64 / 6.0).sqrt() * 0.1, 0.01);
        assert_eq!(found.relative_max(), None);
    }

    #[test]
    fn what_is_refused() {
        let map = identity(&image()).unwrap();
        for (radius, samples) in [(0.0, 5), (f64::NAN, 5), (0.1, 0)] {
            let params = SensitivityParams { radius, samples, seed: 0 };
            let e = sensitivity(&mut identity, &image(), &map, params).unwrap_err().to_string();
            assert!(e.contains("expected at least 1 and more than 0"), "{e}");
        }
        let mut other = |_: &Images| Heatmap::new(2, 2, vec![0.0; 4]);
        assert!(sensitivity(&mut other, &image(), &map, Default::default()).is_err());
    }
}

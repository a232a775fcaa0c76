//! Fréchet distance of two sets of feature vectors (FID): Heusel et al. 2017, section 2, equation 6.
//!
//! Of two normal distributions, `d² = |μ₁ - μ₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)`. The trace of the root is the sum of the roots
//! of the eigenvalues of `C₁ C₂`. With `C₁ = L Lᵀ` these are, but for zeros, those of `Lᵀ C₂ L`, which is symmetric and no
//! larger than the rank of `C₁`: no root of a matrix is needed, and few images make it small.

use super::FeatureSet;
use linfa_linalg::eigh::EigValshInto;
use ndarray::{Array1, Array2, Axis, s};
use shiftlens_api::{Error, Result};

/// Rows that are centred and multiplied at once.
const ROWS: usize = 1024;

/// Mean and covariance of a set of feature vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    images: usize,
    mean: Array1<f64>,
    /// Divided by N - 1.
    covariance: Array2<f64>,
}

impl Gaussian {
    /// Of a set of at least two vectors.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer.
    pub fn of(set: &FeatureSet) -> Result<Self> {
        let (n, d) = (set.len(), set.dimensions());
        if n < 2 {
            return Err(Error::Invalid(format!("Fréchet distance: {n} images given, expected at least 2")));
        }
        let mut mean = Array1::zeros(d);
        for from in (0..n).step_by(ROWS) {
            mean += &set.matrix(from..(from + ROWS).min(n)).sum_axis(Axis(0));
        }
        mean /= n as f64;
        let mut covariance = Array2::zeros((d, d));
        for from in (0..n).step_by(ROWS) {
            let centred = set.matrix(from..(from + ROWS).min(n)) - &mean;
            covariance += &centred.t().dot(&centred);
        }
        covariance /= (n - 1) as f64;
        Ok(Self { images: n, mean, covariance })
    }
}

/// L of `C = L Lᵀ`, `[D, rank]`: Cholesky's factor of a covariance, which may be singular, the largest remaining variance
/// first (Higham 2002, section 10.3).
fn factor(c: &Array2<f64>) -> Array2<f64> {
    let d = c.nrows();
    let mut left = c.diag().to_owned();
    let negligible = left.iter().fold(0.0, |a: f64, v| a.max(*v)) * d as f64 * f64::EPSILON;
    let mut factor = Array2::zeros((d, d));
    for k in 0..d {
        let Some((p, largest)) = left.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        if largest <= negligible {
            return factor.slice_move(s![.., ..k]);
        }
        let pivot = factor.slice(s![p, ..k]).to_owned();
        for i in 0..d {
            let v = (c[[i, p]] - factor.slice(s![i, ..k]).dot(&pivot)) / largest.sqrt();
            factor[[i, k]] = v;
            left[i] -= v * v;
        }
        left[p] = 0.0;
    }
    factor
}

/// The squared Fréchet distance of two normal distributions; not negative.
///
/// # Errors
/// [`Error::Shape`] if they are of different dimensions, [`Error::Component`] if the eigenvalues do not converge.
pub fn frechet_distance(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    if a.mean.len() != b.mean.len() {
        return Err(Error::Shape {
            what: "Fréchet distance: features of the second set".into(),
            expected: format!("[N, {}]", a.mean.len()),
            found: vec![b.mean.len()],
        });
    }
    let (few, many) = if a.images <= b.images { (a, b) } else { (b, a) };
    let factor = factor(&few.covariance);
    let product = factor.t().dot(&many.covariance).dot(&factor);
    let symmetric = (&product + &product.t()) * 0.5;
    let values = symmetric.eigvalsh_into().map_err(|e| Error::component("Fréchet distance", e))?;
    // Rounding leaves eigenvalues of about -1e-16 of the largest where one of the sets has no variance.
    let shared: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
    let means: f64 = (&a.mean - &b.mean).iter().map(|d| d * d).sum();
    let traces = a.covariance.diag().sum() + b.covariance.diag().sum();
    Ok((means + traces - 2.0 * shared).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::tests::{fixture, fixture_facts, shared_features, spread};

    fn distance(a: &FeatureSet, b: &FeatureSet) -> f64 {
        frechet_distance(&Gaussian::of(a).unwrap(), &Gaussian::of(b).unwrap()).unwrap()
    }

    #[test]
    fn agrees_with_scipy() {
        let expected = fixture_facts()["frechet"].as_f64().unwrap();
        let found = distance(&fixture("features_a"), &fixture("features_b"));
        assert!((found - expected).abs() < 1e-9 * expected, "{found}, scipy has {expected}");
    }

    #[test]
    fn agrees_with_the_full_reference() {
        let Some((a, b, facts)) = shared_features() else { return };
        let expected = facts["frechet"]["value"].as_f64().unwrap();
        assert!((distance(&a, &b) - expected).abs() < 1e-9 * expected);
    }

    #[test]
    fn of_independent_coordinates_it_is_that_of_each() {
        // Along coordinate k: a scaled by s and shifted by t, so (s - 1)² var + t².
        let a = spread(400, 5, 1);
        let (scales, shifts) = ([0.5, 1.0, 2.0, 1.5, 0.0f32], [0.0, 1.0, -0.5, 0.25, 0.0f32]);
        let rows = (0..a.len()).flat_map(|i| {
            a.row(i).iter().zip(scales).zip(shifts).map(|((v, s), t)| s * v + t).collect::<Vec<f32>>()
        });
        let b = FeatureSet::from_rows(5, rows.collect()).unwrap();
        let (ga, gb) = (Gaussian::of(&a).unwrap(), Gaussian::of(&b).unwrap());
        // With sample covariances the coordinates are correlated a little, and both covariances commute only nearly: drop
        // what is off the diagonal.
        let diagonal = |g: &Gaussian| Gaussian {
            images: g.images,
            mean: g.mean.clone(),
            covariance: Array2::from_diag(&g.covariance.diag()),
        };
        let found = frechet_distance(&diagonal(&ga), &diagonal(&gb)).unwrap();
        let expected: f64 = (0..5)
            .map(|k| {
                let (va, vb) = (ga.covariance[[k, k]], gb.covariance[[k, k]]);
                (ga.mean[k] - gb.mean[k]).powi(2) + (va.sqrt() - vb.sqrt()).powi(2)
            })
            .sum();
        assert!((found - expected).abs() < 1e-10, "{found}, {expected}");
        assert!(expected > 1.0);
    }

    #[test]
    fn a_covariance_is_the_square_of_its_factor() {
        // Full rank, fewer images than features, a coordinate without variance.
        let mut still = spread(50, 6, 8);
        still =
            FeatureSet::from_rows(6, (0..50).flat_map(|i| [&still.row(i)[..5], &[0.25]].concat()).collect())
                .unwrap();
        for (set, rank) in [(spread(50, 6, 7), 6), (spread(5, 20, 7), 4), (still, 5)] {
            let c = Gaussian::of(&set).unwrap().covariance;
            let l = factor(&c);
            assert_eq!(l.ncols(), rank);
            let apart = (l.dot(&l.t()) - &c).iter().fold(0.0, |a: f64, v| a.max(v.abs()));
            assert!(apart < 1e-14, "{apart}");
        }
    }

    #[test]
    fn the_order_of_the_sets_does_not_count() {
        for (n, m) in [(300, 80), (7, 60), (60, 7)] {
            let (a, b) = (spread(n, 20, 1), spread(m, 20, 2));
            assert!((distance(&a, &b) - distance(&b, &a)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_set_is_at_distance_0_from_itself_also_with_fewer_images_than_features() {
        for n in [2, 10, 80] {
            let a = spread(n, 40, 3);
            assert!(distance(&a, &a) < 1e-6, "{n}: {}", distance(&a, &a));
        }
        assert!(Gaussian::of(&spread(1, 40, 3)).is_err_and(|e| e.to_string().contains("1 images")));
        let (a, b) = (Gaussian::of(&spread(9, 4, 1)).unwrap(), Gaussian::of(&spread(9, 3, 1)).unwrap());
        assert!(matches!(frechet_distance(&a, &b), Err(Error::Shape { .. })));
    }
}

//! Kernel distance of two sets of feature vectors (KID): Bińkowski et al. 2018, section 4.
//!
//! The unbiased squared maximum mean discrepancy with the kernel `(<x, y> / D + 1)³`. Its bias does not depend on the
//! number of images, unlike FID's; it may be a little below 0 for equal distributions.

use super::FeatureSet;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shiftlens_api::{Error, Result};

/// Mean and standard deviation over random subsets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// The estimate.
    pub mean: f64,
    /// Standard deviation of the values of single subsets (not of their mean).
    pub deviation: f64,
}

/// Sum of `(<x, y> / D + 1)³` over all pairs of rows; of the diagonal alone, the second.
fn sums(x: &Array2<f64>, y: &Array2<f64>) -> (f64, f64) {
    let kernel = (x.dot(&y.t()) / x.ncols() as f64).mapv(|v| (v + 1.0).powi(3));
    (kernel.sum(), kernel.diag().sum())
}

/// The unbiased squared MMD of two sets, the diagonals within the sets left out (Gretton et al. 2012, equation 3).
///
/// # Errors
/// [`Error::Invalid`] for fewer than two vectors, [`Error::Shape`] for vectors of different sizes.
pub fn mmd2(x: &Array2<f64>, y: &Array2<f64>) -> Result<f64> {
    let (n, m) = (x.nrows(), y.nrows());
    if n < 2 || m < 2 {
        return Err(Error::Invalid(format!(
            "kernel distance: {n} and {m} images given, expected at least 2"
        )));
    }
    if x.ncols() != y.ncols() {
        return Err(Error::Shape {
            what: "kernel distance: features of the second set".into(),
            expected: format!("[N, {}]", x.ncols()),
            found: vec![m, y.ncols()],
        });
    }
    let within = |x: &Array2<f64>| {
        let ((all, diagonal), n) = (sums(x, x), x.nrows() as f64);
        (all - diagonal) / (n * (n - 1.0))
    };
    Ok(within(x) + within(y) - 2.0 * sums(x, y).0 / (n as f64 * m as f64))
}

/// KID over `subsets` pairs of random subsets of `size` vectors each, drawn without replacement from `seed`.
///
/// # Errors
/// [`Error::Invalid`] if there are no subsets, or they are larger than a set or smaller than 2; [`Error::Shape`].
pub fn kernel_distance(
    a: &FeatureSet,
    b: &FeatureSet,
    subsets: usize,
    size: usize,
    seed: u64,
) -> Result<KernelDistance> {
    if subsets == 0 || size > a.len().min(b.len()) {
        return Err(Error::Invalid(format!(
            "kernel distance: {subsets} subsets of {size} of {} and {} images; expected at least one, none larger than a set",
            a.len(),
            b.len()
        )));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(subsets);
    for _ in 0..subsets {
        let x = a.gather(&draw(&mut rng, a.len(), size));
        values.push(mmd2(&x, &b.gather(&draw(&mut rng, b.len(), size)))?);
    }
    let mean = values.iter().sum::<f64>() / subsets as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / subsets as f64;
    Ok(KernelDistance { mean, deviation: variance.sqrt() })
}

/// `size` different numbers below `n`: the beginning of a Fisher-Yates shuffle.
fn draw(rng: &mut ChaCha8Rng, n: usize, size: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..size {
        let j = rng.random_range(i..n);
        all.swap(i, j);
    }
    all.truncate(size);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::tests::{fixture, fixture_facts, shared_features, spread};

    fn whole(set: &FeatureSet) -> Array2<f64> {
        set.matrix(0..set.len())
    }

    #[test]
    fn agrees_with_the_reference() {
        let expected = fixture_facts()["mmd2"].as_f64().unwrap();
        let found = mmd2(&whole(&fixture("features_a")), &whole(&fixture("features_b"))).unwrap();
        assert!((found - expected).abs() < 1e-10 * expected.abs().max(1.0), "{found}, expected {expected}");
        let Some((a, b, facts)) = shared_features() else { return };
        let expected = facts["kid"]["value"].as_f64().unwrap();
        assert!((mmd2(&whole(&a), &whole(&b)).unwrap() - expected).abs() < 1e-10);
    }

    #[test]
    fn subsets_of_all_images_are_the_whole_sets() {
        let (a, b) = (spread(30, 4, 1), spread(30, 4, 2));
        let kid = kernel_distance(&a, &b, 3, 30, 0).unwrap();
        assert!((kid.mean - mmd2(&whole(&a), &whole(&b)).unwrap()).abs() < 1e-12);
        assert!(kid.deviation < 1e-12);
    }

    #[test]
    fn subsets_estimate_the_distance_and_follow_the_seed() {
        let (a, b) = (fixture("features_a"), fixture("features_b"));
        let whole = fixture_facts()["mmd2"].as_f64().unwrap();
        let kid = kernel_distance(&a, &b, 60, 100, 5).unwrap();
        // Subsets overlap, so the mean's error is that of the whole sets and a part of the deviation.
        assert!((kid.mean - whole).abs() < kid.deviation, "{kid:?}, whole sets {whole}");
        assert_eq!(kid, kernel_distance(&a, &b, 60, 100, 5).unwrap());
        assert_ne!(kid.mean, kernel_distance(&a, &b, 60, 100, 6).unwrap().mean);
        let picks = draw(&mut ChaCha8Rng::seed_from_u64(1), 50, 50);
        let mut sorted = picks.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_ne!(picks, sorted);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let (a, b) = (spread(30, 4, 1), spread(20, 4, 2));
        assert!(kernel_distance(&a, &b, 3, 21, 0).is_err_and(|e| e.to_string().contains("21 of 30 and 20")));
        assert!(kernel_distance(&a, &b, 0, 10, 0).is_err());
        assert!(kernel_distance(&a, &b, 3, 1, 0).is_err());
        assert!(matches!(kernel_distance(&a, &spread(30, 5, 1), 1, 9, 0), Err(Error::Shape { .. })));
    }
}

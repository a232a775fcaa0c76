//! A perceptual distance of two images: Zhang et al. 2018, equation 1, with all weights 1.
//!
//! `d(x, y) = sum_l mean_p |φ_l(x)_p / |φ_l(x)_p| - φ_l(y)_p / |φ_l(y)_p||²`, over the layers l of a feature network φ and the
//! places p of each, the vectors running over the channels. The paper's LPIPS weighs the channels by what people judged; such
//! weights exist for the authors' networks alone, so here every channel counts alike. A layer without places is one place.

use shiftlens_api::{Error, Result, Tensor};

/// Added to a vector's length before dividing, as the authors do.
const EPSILON: f64 = 1e-10;

/// The distance of each pair of images, from the features `[N, K, h, w]` or `[N, K]` of every layer. At most 4 for each
/// layer, 0 for equal features.
///
/// # Errors
/// [`Error::Invalid`] if there is no layer or not the same number, [`Error::Shape`] for layers of different shapes or of
/// another rank.
pub fn perceptual(a: &[Tensor], b: &[Tensor]) -> Result<Vec<f64>> {
    if a.is_empty() || a.len() != b.len() {
        return Err(Error::Invalid(format!(
            "perceptual distance: {} and {} layers given, expected the same number, at least 1",
            a.len(),
            b.len()
        )));
    }
    let mut sums = vec![0.0; a[0].shape().first().copied().unwrap_or(0)];
    for (a, b) in a.iter().zip(b) {
        let (n, k, places) = match *a.shape() {
            [n, k] => (n, k, 1),
            [n, k, h, w] => (n, k, h * w),
            _ => (0, 0, 0),
        };
        if a.shape() != b.shape() || n != sums.len() || k * places == 0 {
            return Err(Error::Shape {
                what: "perceptual distance: features of the second images".into(),
                expected: format!(
                    "maps or vectors of {} images, those of the first: {:?}",
                    sums.len(),
                    a.shape()
                ),
                found: b.shape().to_vec(),
            });
        }
        let layers = a.as_slice().chunks_exact(k * places).zip(b.as_slice().chunks_exact(k * places));
        for (sum, (a, b)) in sums.iter_mut().zip(layers) {
            *sum += (0..places).map(|p| place(a, b, p, places)).sum::<f64>() / places as f64;
        }
    }
    Ok(sums)
}

/// Squared distance of the unit vectors over the channels at one place.
fn place(a: &[f32], b: &[f32], p: usize, places: usize) -> f64 {
    let values = |x: &[f32]| x.iter().skip(p).step_by(places).map(|v| f64::from(*v)).collect::<Vec<_>>();
    let unit = |x: Vec<f64>| {
        let length = x.iter().map(|v| v * v).sum::<f64>().sqrt() + EPSILON;
        x.into_iter().map(move |v| v / length)
    };
    unit(values(a)).zip(unit(values(b))).map(|(a, b)| (a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::new(shape.to_vec(), data.to_vec()).unwrap()
    }

    #[test]
    fn of_vectors_it_is_what_the_cosine_says() {
        // |u - v|² = 2 - 2 cos for unit vectors.
        let (a, b) = (tensor(&[2, 2], &[3.0, 4.0, 0.0, 2.0]), tensor(&[2, 2], &[4.0, 3.0, -5.0, 0.0]));
        let d = perceptual(from_ref(&a), &[b]).unwrap();
        assert!((d[0] - (2.0 - 2.0 * 24.0 / 25.0)).abs() < 1e-9 && (d[1] - 2.0).abs() < 1e-9, "{d:?}");
        // The length of a vector does not count, nor do vectors of length 0 among themselves.
        let scaled = tensor(&[2, 2], &[30.0, 40.0, 0.0, 0.5]);
        assert!(perceptual(from_ref(&a), &[scaled]).unwrap().iter().all(|v| *v < 1e-15));
        let zero = tensor(&[1, 2], &[0.0, 0.0]);
        assert_eq!(perceptual(from_ref(&zero), from_ref(&zero)).unwrap(), [0.0]);
    }

    #[test]
    fn maps_are_averaged_over_places_and_layers_added() {
        // Two places with channel vectors (1, 0) and (0, 1) against (0, 1) and (0, 3): distances 2 and 0.
        let a = tensor(&[1, 2, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
        let b = tensor(&[1, 2, 1, 2], &[0.0, 0.0, 1.0, 3.0]);
        assert!((perceptual(from_ref(&a), from_ref(&b)).unwrap()[0] - 1.0).abs() < 1e-9);
        // A second layer of opposite vectors: 4.
        let (c, d) = (tensor(&[1, 2], &[1.0, 1.0]), tensor(&[1, 2], &[-2.0, -2.0]));
        assert!((perceptual(&[a, c], &[b, d]).unwrap()[0] - 5.0).abs() < 1e-8);
    }

    #[test]
    fn other_shapes_are_refused() {
        let (a, b) = (tensor(&[1, 2], &[1.0, 0.0]), tensor(&[1, 1], &[1.0]));
        assert!(matches!(perceptual(from_ref(&a), &[b]), Err(Error::Shape { .. })));
        assert!(perceptual(from_ref(&a), &[]).is_err_and(|e| e.to_string().contains("1 and 0 layers")));
        let tokens = tensor(&[1, 1, 2], &[1.0, 0.0]);
        assert!(matches!(perceptual(from_ref(&tokens), from_ref(&tokens)), Err(Error::Shape { .. })));
    }
}

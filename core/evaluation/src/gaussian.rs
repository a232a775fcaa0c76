//! Gaussian blur of a plane.

/// Kernels are cut off at this many standard deviations, as scipy's `gaussian_filter` does by default.
const TRUNCATE: f64 = 4.0;

/// `[h, w]` convolved with a Gaussian of standard deviation `sigma` pixels, which is positive. Beyond the border the plane
/// is mirrored, the edge pixel repeated (`d c b a | a b c d | d c b a`).
pub fn blurred(plane: &[f64], (h, w): (usize, usize), sigma: f64) -> Vec<f64> {
    let reach = (TRUNCATE * sigma + 0.5) as isize;
    let raw: Vec<f64> = (-reach..=reach).map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    let kernel: Vec<f64> = raw.into_iter().map(|v| v / sum).collect();
    let along = |n: usize| -> Vec<Vec<usize>> {
        (0..n as isize).map(|i| (i - reach..=i + reach).map(|k| mirrored(k, n)).collect()).collect()
    };
    let columns = along(w);
    let rows: Vec<f64> = plane
        .chunks_exact(w)
        .flat_map(|row| columns.iter().map(|taps| taps.iter().zip(&kernel).map(|(x, k)| row[*x] * k).sum()))
        .collect();
    let mut out = Vec::with_capacity(h * w);
    for taps in along(h) {
        out.extend((0..w).map(|x| taps.iter().zip(&kernel).map(|(y, k)| rows[y * w + x] * k).sum::<f64>()));
    }
    out
}

/// The pixel of 0..n that stands at place `i` of the endlessly mirrored line.
fn mirrored(i: isize, n: usize) -> usize {
    let i = i.rem_euclid(2 * n as isize) as usize;
    if i < n { i } else { 2 * n - 1 - i }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_mirrored_with_the_edge_repeated() {
        let found: Vec<usize> = (-4..7).map(|i| mirrored(i, 3)).collect();
        assert_eq!(found, [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert_eq!((mirrored(-5, 1), mirrored(9, 1)), (0, 0));
    }

    #[test]
    fn sums_are_kept_and_a_point_becomes_the_kernel() {
        let mut plane = vec![0.0; 21 * 23];
        plane[10 * 23 + 11] = 1.0;
        let out = blurred(&plane, (21, 23), 1.25);
        assert!((out.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let ratio = out[10 * 23 + 13] / out[10 * 23 + 11];
        assert!((ratio - (-0.5 * (2.0f64 / 1.25).powi(2)).exp()).abs() < 1e-12);
        // A kernel wider than the plane mirrors several times; a flat plane stays flat.
        assert!(blurred(&[0.3; 6], (2, 3), 5.0).iter().all(|v| (v - 0.3).abs() < 1e-12));
    }
}

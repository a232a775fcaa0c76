//! Colour transformations: one affine map of (r, g, b).

use super::params::Sample;
use candle_core::WithDType;

/// Rows of a map `c' = M c + t`, t in the last column.
pub(super) type Matrix = [[f64; 4]; 3];

/// `M`, then `next` (without a translation).
fn then(m: &Matrix, next: &[[f64; 3]; 3]) -> Matrix {
    next.map(|row| std::array::from_fn(|j| (0..3).map(|k| row[k] * m[k][j]).sum()))
}

/// `a I + b v vᵀ + c [v]×` with the luma axis v = (1, 1, 1) / √3.
fn about_luma(a: f64, b: f64, c: f64) -> [[f64; 3]; 3] {
    let skew = [[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]];
    let root = 3f64.sqrt();
    std::array::from_fn(|i| {
        std::array::from_fn(|j| if i == j { a } else { 0.0 } + b / 3.0 + c * skew[i][j] / root)
    })
}

/// The map of an image's parameters, none if it is the identity.
pub(super) fn matrix(s: &Sample) -> Option<Matrix> {
    let same = Sample::default();
    if (s.brightness, s.contrast, s.luma_flip, s.hue, s.saturation)
        == (same.brightness, same.contrast, same.luma_flip, same.hue, same.saturation)
    {
        return None;
    }
    let b = s.brightness;
    let mut m = [[1.0, 0.0, 0.0, b], [0.0, 1.0, 0.0, b], [0.0, 0.0, 1.0, b]];
    m = then(&m, &about_luma(s.contrast, 0.0, 0.0));
    if s.luma_flip {
        // Householder: I - 2 v vᵀ.
        m = then(&m, &about_luma(1.0, -2.0, 0.0));
    }
    let (sin, cos) = s.hue.sin_cos();
    m = then(&m, &about_luma(cos, 1.0 - cos, sin));
    // v vᵀ + (I - v vᵀ) s
    Some(then(&m, &about_luma(s.saturation, 1.0 - s.saturation, 0.0)))
}

/// What a matrix does to grey: the mean over the channels of its action on (x, x, x), as factor and summand.
fn grey(m: &Matrix) -> (f64, f64) {
    let mean = |f: &dyn Fn(&[f64; 4]) -> f64| m.iter().map(f).sum::<f64>() / 3.0;
    (mean(&|row| row[..3].iter().sum()), mean(&|row| row[3]))
}

/// Maps an image of 1 or 3 channels in place. `constant` takes the summand along.
pub(super) fn apply<T: WithDType>(m: &Matrix, image: &mut [T], channels: usize, constant: bool) {
    let summand = |v: f64| T::from_f64(if constant { v } else { 0.0 });
    if channels == 1 {
        let (a, b) = grey(m);
        let (a, b) = (T::from_f64(a), summand(b));
        return image.iter_mut().for_each(|v| *v = a * *v + b);
    }
    let t = m.map(|row| summand(row[3]));
    let m = m.map(|row| [row[0], row[1], row[2]].map(T::from_f64));
    let (red, rest) = image.split_at_mut(image.len() / 3);
    let (green, blue) = rest.split_at_mut(red.len());
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let old = [*r, *g, *b];
        let new = |i: usize| m[i][0] * old[0] + m[i][1] * old[1] + m[i][2] * old[2] + t[i];
        (*r, *g, *b) = (new(0), new(1), new(2));
    }
}

/// The adjoint of the linear part of [`apply`].
pub(super) fn adjoint(m: &Matrix) -> Matrix {
    std::array::from_fn(|i| [m[0][i], m[1][i], m[2][i], 0.0])
}

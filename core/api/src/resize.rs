//! The one resampling used everywhere: separable, half-pixel centres.
//!
//! * [`Filter::Bilinear`]: a triangle filter whose support grows when shrinking (antialiased), as Pillow's
//!   `Image.resize(.., BILINEAR)` does; it equals plain bilinear interpolation when enlarging.
//! * [`Filter::BilinearPlain`]: two taps per axis always, as OpenCV's `INTER_LINEAR` and PyTorch's
//!   `interpolate(mode="bilinear", align_corners=False)`.
//! * [`Filter::Nearest`]: the pixel whose cell holds the target's centre.

use crate::{Images, Result};
use serde::{Deserialize, Serialize};

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle, antialiased when shrinking.
    #[default]
    Bilinear,
    /// Two taps per axis, never antialiased.
    BilinearPlain,
    /// Nearest pixel.
    Nearest,
}

/// Taps of one output pixel: first input index and weights that sum to 1.
type Taps = (usize, Vec<f64>);

fn taps(input: usize, output: usize, filter: Filter) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    (0..output)
        .map(|o| {
            let centre = (o as f64 + 0.5) * scale;
            match filter {
                Filter::Nearest => ((centre as usize).min(input - 1), vec![1.0]),
                Filter::BilinearPlain => {
                    let x = (centre - 0.5).clamp(0.0, (input - 1) as f64);
                    let i = (x as usize).min(input.saturating_sub(2));
                    if input == 1 { (0, vec![1.0]) } else { (i, vec![1.0 - (x - i as f64), x - i as f64]) }
                }
                Filter::Bilinear => {
                    let support = scale.max(1.0);
                    let from = ((centre - support + 0.5).floor().max(0.0)) as usize;
                    let to = (((centre + support + 0.5).floor()) as usize).min(input);
                    let mut w: Vec<f64> = (from..to)
                        .map(|i| (1.0 - ((i as f64 + 0.5 - centre) / support).abs()).max(0.0))
                        .collect();
                    let sum: f64 = w.iter().sum();
                    w.iter_mut().for_each(|v| *v /= sum);
                    (from, w)
                }
            }
        })
        .collect()
}

/// Resamples one plane `[h, w]` to `[oh, ow]`. All sizes are at least 1.
pub fn plane(data: &[f32], (h, w): (usize, usize), (oh, ow): (usize, usize), filter: Filter) -> Vec<f32> {
    let (ty, tx) = (taps(h, oh, filter), taps(w, ow, filter));
    let mut rows = vec![0f64; h * ow];
    for y in 0..h {
        let row = &data[y * w..(y + 1) * w];
        for (x, (from, weights)) in tx.iter().enumerate() {
            rows[y * ow + x] = weights.iter().zip(&row[*from..]).map(|(a, b)| a * f64::from(*b)).sum();
        }
    }
    let mut out = vec![0f32; oh * ow];
    for (y, (from, weights)) in ty.iter().enumerate() {
        for x in 0..ow {
            out[y * ow + x] =
                weights.iter().enumerate().map(|(i, a)| a * rows[(from + i) * ow + x]).sum::<f64>() as f32;
        }
    }
    out
}

/// The adjoint of [`plane`]: from `[oh, ow]` back to `[h, w]`, such that `<plane(x), y> = <x, plane_adjoint(y)>` for all x
/// and y. It carries a gradient through the resampling. The sizes are those of the resampling, in its order.
pub fn plane_adjoint(
    data: &[f32],
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    filter: Filter,
) -> Vec<f32> {
    let (ty, tx) = (taps(h, oh, filter), taps(w, ow, filter));
    let mut rows = vec![0f64; h * ow];
    for (y, (from, weights)) in ty.iter().enumerate() {
        for (i, a) in weights.iter().enumerate() {
            let row = &mut rows[(from + i) * ow..(from + i + 1) * ow];
            row.iter_mut().zip(&data[y * ow..(y + 1) * ow]).for_each(|(r, d)| *r += a * f64::from(*d));
        }
    }
    let mut out = vec![0f64; h * w];
    for y in 0..h {
        let row = &mut out[y * w..(y + 1) * w];
        for (x, (from, weights)) in tx.iter().enumerate() {
            let r = rows[y * ow + x];
            weights.iter().zip(&mut row[*from..]).for_each(|(a, o)| *o += a * r);
        }
    }
    out.into_iter().map(|v| v as f32).collect()
}

/// Resamples a batch to `(H, W)`; a batch that has the size already is returned as it is.
///
/// # Errors
/// [`crate::Error::Shape`] if a side of `size` is 0.
pub fn images(x: &Images, size: (usize, usize), filter: Filter) -> Result<Images> {
    if x.size() == size {
        return Ok(x.clone());
    }
    if size.0 == 0 || size.1 == 0 {
        return Err(crate::Error::Shape {
            what: "size to resize to".into(),
            expected: "[H > 0, W > 0]".into(),
            found: vec![size.0, size.1],
        });
    }
    let [n, c, h, w] = x.shape();
    let mut data = Vec::with_capacity(n * c * size.0 * size.1);
    for p in x.as_slice().chunks_exact(h * w) {
        data.extend(plane(p, (h, w), size, filter));
    }
    Images::new([n, c, size.0, size.1], data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_is_pillows_triangle() {
        // Pillow: Image.fromarray([[0,1,2,3,4,5,6,7]], "F").resize((4, 1), BILINEAR)
        let out = plane(&[0., 1., 2., 3., 4., 5., 6., 7.], (1, 8), (1, 4), Filter::Bilinear);
        for (o, e) in out.iter().zip([0.714_285_7, 2.5, 4.5, 6.285_714]) {
            assert!((o - e).abs() < 1e-5, "{out:?}");
        }
    }

    #[test]
    fn enlarging_is_half_pixel_bilinear() {
        for f in [Filter::Bilinear, Filter::BilinearPlain] {
            let out = plane(&[0.0, 1.0], (1, 2), (1, 4), f);
            assert_eq!(out, vec![0.0, 0.25, 0.75, 1.0]);
        }
        assert_eq!(plane(&[3.0], (1, 1), (2, 2), Filter::BilinearPlain), vec![3.0; 4]);
        assert_eq!(plane(&[1.0, 2.0], (1, 2), (1, 4), Filter::Nearest), vec![1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn the_adjoint_has_the_same_inner_products() {
        let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        for filter in [Filter::Bilinear, Filter::BilinearPlain, Filter::Nearest] {
            for (from, to) in
                [((5, 7), (9, 4)), ((8, 8), (3, 3)), ((3, 2), (7, 9)), ((1, 4), (5, 1)), ((6, 6), (6, 6))]
            {
                let x: Vec<f32> = (0..from.0 * from.1).map(value).collect();
                let y: Vec<f32> = (0..to.0 * to.1).map(|i| value(3 * i + 5)).collect();
                let (forward, back) = (plane(&x, from, to, filter), plane_adjoint(&y, from, to, filter));
                let (a, b) = (dot(&forward, &y), dot(&x, &back));
                assert!((a - b).abs() < 1e-5, "{filter:?} {from:?} {to:?}: {a} and {b}");
                assert!(a.abs() > 1e-2, "{filter:?} {from:?} {to:?}: a product of 0 shows nothing");
            }
        }
    }

    #[test]
    fn constants_stay() {
        for f in [Filter::Bilinear, Filter::BilinearPlain, Filter::Nearest] {
            assert!(plane(&[0.3; 35], (5, 7), (3, 11), f).iter().all(|v| (v - 0.3).abs() < 1e-6));
        }
    }
}

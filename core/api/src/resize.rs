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
    fn constants_stay() {
        for f in [Filter::Bilinear, Filter::BilinearPlain, Filter::Nearest] {
            assert!(plane(&[0.3; 35], (5, 7), (3, 11), f).iter().all(|v| (v - 0.3).abs() < 1e-6));
        }
    }
}

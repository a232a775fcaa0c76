//! What stands for "nothing is there".

use shiftlens_sdk::api::Images;
use shiftlens_sdk::api::{Error, Result};
use shiftlens_sdk::serde_json::Value;

/// The image that a method compares with, or takes pixels from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Baseline {
    /// Every value is this, in [0, 1].
    Constant(f32),
    /// Every value is its channel's mean over the image. The default: it stands between dark and bright, so neither is
    /// taken for absent, whereas from black nothing can be attributed to what is black (Sturmfels, Lundberg and Lee 2020).
    #[default]
    Mean,
    /// The image after a Gaussian filter with a standard deviation of 1/20 of the shorter side: about 11 pixels at
    /// 224, as strong as the blur of Fong and Vedaldi 2017, section 4.1 (10 pixels).
    Blur,
}

/// Names in the manifest.
const NAMES: [&str; 4] = ["black", "white", "mean", "blur"];

impl Baseline {
    /// Decodes a name or a number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name or a number outside [0, 1].
    pub fn new(value: &Value) -> Result<Self> {
        match value {
            Value::String(s) => match s.as_str() {
                "black" => Ok(Self::Constant(0.0)),
                "white" => Ok(Self::Constant(1.0)),
                "mean" => Ok(Self::Mean),
                "blur" => Ok(Self::Blur),
                other => Err(Error::Invalid(format!(
                    "`baseline` is \"{other}\"; {}",
                    crate::params::suggest(other, &NAMES)
                ))),
            },
            other => match other.as_f64() {
                Some(v) if (0.0..=1.0).contains(&v) => Ok(Self::Constant(v as f32)),
                _ => Err(Error::Invalid(format!(
                    "`baseline` is {other}, expected \"black\", \"white\", \"mean\", \"blur\" or an image value in [0, 1]"
                ))),
            },
        }
    }

    /// The baseline of image `i`, `[C, H, W]`.
    pub fn image(self, x: &Images, i: usize) -> Vec<f32> {
        let (image, (h, w)) = (x.image(i), x.size());
        match self {
            Self::Constant(v) => vec![v; image.len()],
            Self::Mean => image
                .chunks_exact(h * w)
                .flat_map(|plane| {
                    let mean = plane.iter().map(|v| f64::from(*v)).sum::<f64>() / plane.len() as f64;
                    std::iter::repeat_n(mean as f32, plane.len())
                })
                .collect(),
            Self::Blur => {
                let sigma = h.min(w) as f64 / 20.0;
                image.chunks_exact(h * w).flat_map(|plane| gaussian(plane, (h, w), sigma)).collect()
            }
        }
    }
}

impl std::fmt::Display for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Constant(0.0) => f.write_str("black"),
            Self::Constant(1.0) => f.write_str("white"),
            Self::Constant(v) => write!(f, "{v}"),
            Self::Mean => f.write_str("mean of each channel"),
            Self::Blur => f.write_str("blurred image"),
        }
    }
}

/// Convolves a plane `[h, w]` with a Gaussian of standard deviation `sigma` in pixels, cut at 4 sigma, the border
/// mirrored about the edge of the last pixel (`d c b a | a b c d | d c b a`).
pub fn gaussian(plane: &[f32], (h, w): (usize, usize), sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as isize;
    let mut kernel: Vec<f64> =
        (-radius..=radius).map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    let mirrored = |i: isize, n: usize| {
        let i = i.rem_euclid(2 * n as isize) as usize;
        if i < n { i } else { 2 * n - 1 - i }
    };
    let smooth = |centre: usize, n: usize, value: &dyn Fn(usize) -> f64| -> f64 {
        let offsets = -radius..=radius;
        kernel.iter().zip(offsets).map(|(k, d)| k * value(mirrored(centre as isize + d, n))).sum()
    };
    let mut rows = vec![0.0f64; h * w];
    for (p, out) in rows.iter_mut().enumerate() {
        let (y, x) = (p / w, p % w);
        *out = smooth(x, w, &|x| f64::from(plane[y * w + x]));
    }
    (0..h * w).map(|p| smooth(p / w, h, &|y| rows[y * w + p % w]) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_sdk::serde_json::json;

    #[test]
    fn the_gaussian_is_scipys() {
        // scipy.ndimage.gaussian_filter(numpy.arange(12.).reshape(3, 4) % 5, 0.7): mode "reflect", truncate 4.
        let plane: Vec<f32> = (0..12).map(|v| (v % 5) as f32).collect();
        let expected: [f32; 12] = [
            0.8817254, 1.0446204, 1.7766476, 2.5314973, 2.5084803, 1.466_364, 1.2490708, 1.7760848,
            3.1409888, 2.517_931, 1.0688465, 1.0377433,
        ];
        for (a, b) in gaussian(&plane, (3, 4), 0.7).iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
        // A wide filter on a small image still sums to 1: a constant stays.
        assert!(gaussian(&[0.3; 6], (2, 3), 5.0).iter().all(|v| (v - 0.3).abs() < 1e-6));
    }

    #[test]
    fn names_and_numbers() {
        let x = Images::new([1, 3, 1, 2], vec![0.0, 1.0, 0.2, 0.4, 0.5, 0.5]).unwrap();
        let image = |v: Value| Baseline::new(&v).unwrap().image(&x, 0);
        assert_eq!(image(json!("black")), [0.0; 6]);
        assert_eq!(image(json!("white")), [1.0; 6]);
        assert_eq!(image(json!(0.25)), [0.25; 6]);
        let mean = image(json!("mean"));
        assert!(
            mean.iter().zip([0.5, 0.5, 0.3, 0.3, 0.5, 0.5]).all(|(a, b)| (a - b).abs() < 1e-6),
            "{mean:?}"
        );
        assert_eq!(image(json!("blur")).len(), 6);
        for (value, word) in
            [(json!("blck"), "did you mean `black`?"), (json!(2), "[0, 1]"), (json!(true), "true")]
        {
            let message = Baseline::new(&value).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("`baseline`"), "{message}");
        }
    }
}

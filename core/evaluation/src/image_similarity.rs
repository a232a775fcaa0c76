//! How much two images are alike, pixel by pixel and window by window.

use shiftlens_api::{Error, Images, Result};

/// Taps of the window on either side of its centre: sigma 1.5 cut off at 3.5 sigma, 11 taps, as in the paper.
const REACH: usize = 5;
/// Side of SSIM's window in pixels: smaller images have none.
pub const WINDOW: usize = 2 * REACH + 1;
const SIGMA: f64 = 1.5;
/// `(K L)²` for values in [0, 1].
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

fn same_shape(a: &Images, b: &Images) -> Result<()> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    Err(Error::Shape {
        what: "second of two sets of images to compare".into(),
        expected: format!("{:?}", a.shape()),
        found: b.shape().to_vec(),
    })
}

/// Mean squared difference of the values of each pair of images.
///
/// # Errors
/// [`Error::Shape`] for images of different shapes.
pub fn mse(a: &Images, b: &Images) -> Result<Vec<f64>> {
    same_shape(a, b)?;
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let one = |i: usize| a.image(i).iter().zip(b.image(i)).map(square).sum::<f64>() / a.image(i).len() as f64;
    Ok((0..a.len()).map(one).collect())
}

/// Peak signal-to-noise ratio in decibels, `10 log₁₀(1 / mse)`, of each pair of images; infinite for equal ones.
///
/// # Errors
/// [`Error::Shape`] for images of different shapes.
pub fn psnr(a: &Images, b: &Images) -> Result<Vec<f64>> {
    Ok(mse(a, b)?.into_iter().map(|e| -10.0 * e.log10()).collect())
}

/// The normalised Gaussian window along one axis.
fn window() -> Vec<f64> {
    let raw: Vec<f64> =
        (0..WINDOW).map(|i| (-0.5 * ((i as f64 - REACH as f64) / SIGMA).powi(2)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|v| v / sum).collect()
}

/// Weighted means over all windows that lie within the plane: `[h - 10, w - 10]`.
fn blurred(plane: &[f64], w: usize, window: &[f64]) -> Vec<f64> {
    let taps = window.len();
    let rows: Vec<f64> = plane
        .chunks_exact(w)
        .flat_map(|row| row.windows(taps).map(|r| r.iter().zip(window).map(|(v, g)| v * g).sum::<f64>()))
        .collect();
    let width = w + 1 - taps;
    (0..(rows.len() / width + 1 - taps) * width)
        .map(|p| window.iter().enumerate().map(|(k, g)| g * rows[p + k * width]).sum())
        .collect()
}

/// SSIM of two planes of rows of `w` values at every window that lies within them, `[h - 10, w - 10]`.
///
/// # Panics
/// If a plane is smaller than a window.
pub fn ssim_map(a: &[f32], b: &[f32], w: usize) -> Vec<f64> {
    map(a, b, w, &window())
}

/// SSIM of one plane at every window: Wang et al. 2004, equation 13.
fn map(a: &[f32], b: &[f32], w: usize, window: &[f64]) -> Vec<f64> {
    let of = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        let plane: Vec<f64> = a.iter().zip(b).map(|(x, y)| f(f64::from(*x), f64::from(*y))).collect();
        blurred(&plane, w, window)
    };
    let (ma, mb) = (of(&|x, _| x), of(&|_, y| y));
    let (aa, bb, ab) = (of(&|x, _| x * x), of(&|_, y| y * y), of(&|x, y| x * y));
    (0..ma.len())
        .map(|p| {
            let (x, y) = (ma[p], mb[p]);
            let (vx, vy, cov) = (aa[p] - x * x, bb[p] - y * y, ab[p] - x * y);
            (2.0 * x * y + C1) * (2.0 * cov + C2) / ((x * x + y * y + C1) * (vx + vy + C2))
        })
        .collect()
}

/// Structural similarity of each pair of images with values in [0, 1] (Wang et al. 2004): Gaussian windows of 11x11 pixels
/// with sigma 1.5, K₁ = 0.01, K₂ = 0.03, population covariances, the mean over all windows within the image and over the
/// channels.
///
/// # Errors
/// [`Error::Shape`] for images of different shapes, or smaller than a window.
pub fn ssim(a: &Images, b: &Images) -> Result<Vec<f64>> {
    same_shape(a, b)?;
    let [n, c, h, w] = a.shape();
    if h.min(w) < WINDOW {
        return Err(Error::Shape {
            what: "SSIM of images".into(),
            expected: format!("sides of at least {WINDOW} pixels"),
            found: a.shape().to_vec(),
        });
    }
    let window = window();
    let planes = |i: usize| a.image(i).chunks_exact(h * w).zip(b.image(i).chunks_exact(h * w));
    let one = |i: usize| {
        planes(i)
            .map(|(a, b)| {
                let values = map(a, b, w, &window);
                values.iter().sum::<f64>() / values.len() as f64
            })
            .sum::<f64>()
            / c as f64
    };
    Ok((0..n).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, floats, stats};
    use serde_json::Value;

    fn pair(facts: &Value) -> (Images, Images) {
        let side = |n: &str| facts[n].as_u64().unwrap() as usize;
        let one =
            |name: &str| Images::new([1, 1, side("height"), side("width")], floats(&facts[name])).unwrap();
        (one("a"), one("b"))
    }

    #[test]
    fn agree_with_scikit_image() {
        let facts = stats();
        let pairs = facts["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 1);
        for facts in pairs {
            let (a, b) = pair(facts);
            let expected = |name: &str| facts[name].as_f64().unwrap();
            close(ssim(&a, &b).unwrap()[0], expected("ssim_gaussian"), 1e-9);
            close(psnr(&a, &b).unwrap()[0], expected("psnr"), 1e-9);
            close(mse(&a, &b).unwrap()[0], expected("mse"), 1e-12);
        }
    }

    #[test]
    fn equal_images_and_what_is_refused() {
        let (a, b) = pair(&stats()["pairs"][0]);
        close(ssim(&a, &a).unwrap()[0], 1.0, 1e-12);
        assert_eq!(psnr(&a, &a).unwrap()[0], f64::INFINITY);
        let two = Images::concat(&[a.clone(), b.clone()]).unwrap();
        let back = Images::concat(&[b.clone(), a.clone()]).unwrap();
        let both = ssim(&two, &back).unwrap();
        close(both[0], ssim(&a, &b).unwrap()[0], 1e-12);
        close(both[0], both[1], 1e-12);
        assert!(matches!(ssim(&two, &a), Err(Error::Shape { .. })));
        // A mean over the channels.
        let three = |x: &Images, y: &Images, z: &Images| {
            let data = [x, y, z].iter().flat_map(|i| i.as_slice().to_vec()).collect();
            Images::new([1, 3, a.size().0, a.size().1], data).unwrap()
        };
        close(ssim(&three(&a, &b, &a), &three(&a, &a, &b)).unwrap()[0], (1.0 + 2.0 * both[0]) / 3.0, 1e-12);
        let small = Images::new([1, 1, 10, 20], vec![0.5; 200]).unwrap();
        assert!(ssim(&small, &small).is_err_and(|e| e.to_string().contains("at least 11")));
    }
}

//! What a counterfactual changes.

use crate::heatmap::gini;
use crate::image_similarity::{WINDOW, ssim};
use crate::rank::mean;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Images, Result};

/// The difference of two images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Mean absolute difference of the values.
    pub l1: f64,
    /// Root mean square difference of the values.
    pub l2: f64,
    /// Structural similarity; `None` for images smaller than its window.
    pub ssim: Option<f64>,
    /// Share of the pixels of which a channel changes by more than the tolerance.
    pub changed: f64,
    /// Gini index of the pixels' absolute change, the mean over the channels; `None` where nothing changes.
    pub gini: Option<f64>,
}

/// From `before` to `after`, two images of one shape `[1, C, H, W]`. A change of a value by more than `tolerance` counts.
///
/// # Errors
/// [`Error::Shape`] for images of different shapes or more than one; [`Error::Invalid`] for a tolerance below 0.
pub fn change(before: &Images, after: &Images, tolerance: f64) -> Result<Change> {
    if before.shape() != after.shape() || before.len() != 1 {
        return Err(Error::Shape {
            what: format!("counterfactual of an image {:?}", before.shape()),
            expected: "one image each, of one shape".into(),
            found: after.shape().to_vec(),
        });
    }
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(Error::Invalid(format!("counterfactual: tolerance {tolerance}, expected 0 or more")));
    }
    let [_, c, h, w] = before.shape();
    let n = h * w;
    let moved: Vec<f64> = before
        .as_slice()
        .iter()
        .zip(after.as_slice())
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .collect();
    let of_pixel = |p: usize| (0..c).map(move |k| k * n + p);
    let changed = (0..n).filter(|p| of_pixel(*p).any(|i| moved[i] > tolerance)).count();
    let pixels: Vec<f64> = (0..n).map(|p| of_pixel(p).map(|i| moved[i]).sum::<f64>() / c as f64).collect();
    let ssim = if h.min(w) < WINDOW { None } else { ssim(before, after)?.first().copied() };
    Ok(Change {
        l1: moved.iter().sum::<f64>() / moved.len() as f64,
        l2: (moved.iter().map(|d| d * d).sum::<f64>() / moved.len() as f64).sqrt(),
        ssim,
        changed: changed as f64 / n as f64,
        gini: gini(&pixels),
    })
}

/// Euclidean distance of two vectors: latent codes, features.
///
/// # Errors
/// [`Error::Shape`] for vectors of different lengths.
pub fn distance(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() {
        return Err(Error::Shape {
            what: "second of two vectors to compare".into(),
            expected: format!("[{}]", a.len()),
            found: vec![b.len()],
        });
    }
    Ok(a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt())
}

/// Mean [`distance`] over all pairs of the counterfactuals of one image, each given as a vector (its pixels, or its
/// features; Mothilal et al. 2020). `None` for fewer than two.
///
/// # Errors
/// As [`distance`].
pub fn diversity(items: &[&[f32]]) -> Result<Option<f64>> {
    let pairs = items.iter().enumerate().flat_map(|(i, a)| items[..i].iter().map(move |b| distance(a, b)));
    Ok(mean(&pairs.collect::<Result<Vec<f64>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    #[test]
    fn a_changed_square_is_measured() {
        // A quarter of the pixels of one of three channels changes by 0.5, one more pixel by 0.01.
        let (n, before) = (256, vec![0.25f32; 768]);
        let mut after = before.clone();
        (0..64).for_each(|p| after[n + p / 8 * 16 + p % 8] = 0.75);
        after[255] = 0.26;
        let image = |v: Vec<f32>| Images::new([1, 3, 16, 16], v).unwrap();
        let (a, b) = (image(before), image(after));
        let found = change(&a, &b, 0.02).unwrap();
        close(found.l1, (64.0 * 0.5 + 0.01) / 768.0, 1e-6);
        close(found.l2, ((64.0 * 0.25 + 0.0001) / 768.0f64).sqrt(), 1e-6);
        close(found.changed, 0.25, 1e-12);
        // One value on a quarter of the pixels: 1 - 1/4, but for the small one.
        close(found.gini.unwrap(), 0.75, 1e-3);
        assert!(found.ssim.unwrap() < 0.9);
        close(change(&a, &b, 0.005).unwrap().changed, 65.0 / 256.0, 1e-12);
        let none = change(&a, &a, 0.0).unwrap();
        assert_eq!((none.l1, none.l2, none.changed, none.gini), (0.0, 0.0, 0.0, None));
        close(none.ssim.unwrap(), 1.0, 1e-12);
    }

    #[test]
    fn small_images_have_no_ssim_and_shapes_are_checked() {
        let small = Images::new([1, 1, 2, 2], vec![0.0, 0.1, 0.2, 0.3]).unwrap();
        assert_eq!(change(&small, &small, 0.0).unwrap().ssim, None);
        let other = Images::new([1, 1, 1, 4], vec![0.0; 4]).unwrap();
        assert!(change(&small, &other, 0.0).is_err());
        let two = Images::concat(&[small.clone(), small.clone()]).unwrap();
        assert!(change(&two, &two, 0.0).is_err());
        assert!(change(&small, &small, -0.1).unwrap_err().to_string().contains("tolerance -0.1"));
    }

    #[test]
    fn distances_and_diversity() {
        let (a, b, c) = ([0.0f32, 0.0], [3.0f32, 4.0], [0.0f32, 8.0]);
        assert_eq!(distance(&a, &b).unwrap(), 5.0);
        assert!(distance(&a, &[1.0]).is_err());
        assert_eq!(diversity(&[&a, &b, &c]).unwrap(), Some((5.0 + 8.0 + 5.0) / 3.0));
        assert_eq!(diversity(&[&a]).unwrap(), None);
        assert!(diversity(&[&a, &[1.0]]).is_err());
    }
}

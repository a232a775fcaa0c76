//! Measures of one relevance map `[h, w]`, raw and signed, over one image `[1, C, h, w]`.
//!
//! | function | formula | better |
//! | --- | --- | --- |
//! | [`deletion`], [`insertion`] | area under f while pixels are exchanged for those of a baseline, the most relevant first | lower, higher |
//! | [`road()`] | mean over percentiles of (f without the least relevant - f without the most relevant) / 2 | higher |
//! | [`confidence()`] | drop `max(0, f(x) - f(x m)) / f(x)` with m the positive map over its largest value | lower |
//! | [`infidelity()`] | mean of `(I · Φ - (f(x) - f(x - I)))²` over random perturbations I | lower |
//! | [`sensitivity()`] | largest `‖Φ(y) - Φ(x)‖ / ‖Φ(x)‖` over y in a cube around x | lower |
//! | [`sparseness`] | Gini index of the absolute values | higher |
//! | [`complexity()`] | entropy of the shares in the absolute sum | lower |
//! | [`points_at`] | the largest value lies within the mask, or within a tolerance of it | higher |
//! | [`energy_within`] | share of the positive sum within the mask | higher |
//! | [`iou_at_share`], [`iou_at_area`] | intersection over union of the mask and the largest values | higher |
//! | [`similarity()`] | Spearman, SSIM and shared top pixels of two maps | with randomised weights lower, of two runs higher |
//! | [`random_map`] | no measure: the floor of all of them | |
//!
//! **Size.** A map must be as large as its image; [`at_size`] enlarges it, before anything is measured.
//!
//! **Ties.** Where pixels are taken by their value, equal values (0 and -0 too) are taken in a fixed scattered order, see
//! [`by_relevance`]. So a flat map scores as a random one does, and a plateau is not read from its upper left corner.
//!
//! **Scores.** f is asked through a [`crate::Scorer`]. Images are what f can be asked about: values in [0, 1]. Where a
//! method would leave that range, the method takes the nearest value within and says so.

mod baseline;
mod complexity;
mod confidence;
mod curve;
mod impute;
mod infidelity;
mod localisation;
mod order;
mod random;
mod road;
mod sensitivity;
mod similarity;

pub use baseline::Baseline;
pub use complexity::{complexity, gini, sparseness};
pub use confidence::{Confidence, confidence};
pub use curve::{Curve, deletion, insertion};
pub use impute::impute;
pub use infidelity::{Infidelity, Perturbation, infidelity};
pub use localisation::{Mask, energy_within, iou_at_area, iou_at_share, points_at};
pub use order::by_relevance;
pub use random::{RandomMap, random_map};
pub use road::{Road, RoadParams, road};
pub use sensitivity::{Sensitivity, SensitivityParams, sensitivity};
pub use similarity::{Similarity, similarity};

use shiftlens_api::{Error, Heatmap, Images, Result, resize};

/// The map enlarged or reduced to `(h, w)`: bilinear, two taps per axis, half-pixel centres, as CAM methods enlarge their
/// maps. A map of that size already is answered as it is.
///
/// # Errors
/// [`Error::Shape`] for a size of 0.
pub fn at_size(map: &Heatmap, (h, w): (usize, usize)) -> Result<Heatmap> {
    if h == 0 || w == 0 {
        return Heatmap::new(h, w, Vec::new());
    }
    if map.size() == (h, w) {
        return Ok(map.clone());
    }
    Heatmap::new(h, w, resize::plane(map.as_slice(), map.size(), (h, w), resize::Filter::BilinearPlain))
}

/// The values in f64.
fn values(map: &Heatmap) -> Vec<f64> {
    map.as_slice().iter().map(|v| f64::from(*v)).collect()
}

/// Refuses what is not one image.
fn one_image(what: &str, image: &Images) -> Result<()> {
    if image.len() == 1 {
        return Ok(());
    }
    Err(Error::Shape { what: what.into(), expected: "[1, C, H, W]".into(), found: image.shape().to_vec() })
}

/// Refuses what is not one image, and a map of another size than the image.
fn one_explained(image: &Images, map: &Heatmap) -> Result<()> {
    one_image("explained image", image)?;
    same_size("heatmap over its image", map.size(), image.size())
}

fn same_size(what: &str, found: (usize, usize), expected: (usize, usize)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("[{}, {}]", expected.0, expected.1),
        found: vec![found.0, found.1],
    })
}

/// Refuses an image of another shape than the explained one.
fn same_shape(what: &str, found: &Images, image: &Images) -> Result<()> {
    if found.shape() == image.shape() {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("{:?}, as the image", image.shape()),
        found: found.shape().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_enlarged_with_half_pixel_centres() {
        let map = Heatmap::new(1, 2, vec![0.0, 1.0]).unwrap();
        assert_eq!(at_size(&map, (1, 4)).unwrap().as_slice(), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(at_size(&map, (1, 2)).unwrap(), map);
        assert!(at_size(&map, (0, 2)).is_err());
        let image = Images::new([1, 1, 2, 2], vec![0.0; 4]).unwrap();
        let e = one_explained(&image, &map).unwrap_err().to_string();
        assert!(e.contains("expected shape [2, 2], found [1, 2]"), "{e}");
    }
}

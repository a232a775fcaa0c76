//! Does the map lie on what a person marked?

use super::{by_relevance, same_size};
use shiftlens_api::{Error, Heatmap, Result};

/// What a person marked in an image, `[H, W]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    size: (usize, usize),
    inside: Vec<bool>,
}

impl Mask {
    /// Takes a mask, row-major. It may be empty: then there is nothing to be found, and no measure has a value.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes disagree.
    pub fn new(size: (usize, usize), inside: Vec<bool>) -> Result<Self> {
        if inside.len() != size.0 * size.1 {
            return Err(Error::Shape {
                what: format!("mask with {} values", inside.len()),
                expected: format!("[{}, {}]", size.0, size.1),
                found: vec![inside.len()],
            });
        }
        Ok(Self { size, inside })
    }
    /// Number of marked pixels.
    pub fn area(&self) -> usize {
        self.inside.iter().filter(|i| **i).count()
    }
}

/// The pointing game (Zhang et al. 2016): true if the largest value (the first [`by_relevance`]) lies within the mask or at
/// most `tolerance` pixels from its nearest pixel. The paper allows 15 pixels. `None` for an empty mask.
///
/// # Errors
/// [`Error::Shape`] for a mask of another size; [`Error::Invalid`] for a tolerance below 0.
pub fn points_at(map: &Heatmap, mask: &Mask, tolerance: f64) -> Result<Option<bool>> {
    same_size("mask over a heatmap", mask.size, map.size())?;
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(Error::Invalid(format!(
            "pointing game: tolerance {tolerance} pixels, expected 0 or more"
        )));
    }
    let w = mask.size.1;
    let top = by_relevance(map)[0];
    let marked = (0..mask.inside.len()).filter(|p| mask.inside[*p]);
    let squares = marked.map(|p| (p / w).abs_diff(top / w).pow(2) + (p % w).abs_diff(top % w).pow(2));
    Ok(squares.min().map(|d| (d as f64).sqrt() <= tolerance))
}

/// Share of the map's positive sum that lies within the mask (Wang et al. 2020). `None` for an empty mask, and for a map
/// without a positive value.
///
/// # Errors
/// [`Error::Shape`] for a mask of another size.
pub fn energy_within(map: &Heatmap, mask: &Mask) -> Result<Option<f64>> {
    same_size("mask over a heatmap", mask.size, map.size())?;
    let positive = |v: &f32| f64::from(v.max(0.0));
    let all: f64 = map.as_slice().iter().map(positive).sum();
    let within: f64 =
        map.as_slice().iter().zip(&mask.inside).filter(|(_, i)| **i).map(|(v, _)| positive(v)).sum();
    Ok((mask.area() > 0 && all > 0.0).then(|| within / all))
}

/// Intersection over union of the mask and the `round(share n)` most relevant of n pixels. `None` for an empty mask.
///
/// # Errors
/// [`Error::Shape`] for a mask of another size; [`Error::Invalid`] for a share that takes no pixel, or above 1.
pub fn iou_at_share(map: &Heatmap, mask: &Mask, share: f64) -> Result<Option<f64>> {
    same_size("mask over a heatmap", mask.size, map.size())?;
    let n = mask.inside.len();
    let taken = (share * n as f64).round();
    if !(taken >= 1.0 && share <= 1.0) {
        return Err(Error::Invalid(format!(
            "intersection over union: share {share} of {n} pixels, expected some that takes at least one, up to 1"
        )));
    }
    Ok(iou(map, mask, taken as usize))
}

/// Intersection over union of the mask and as many of the most relevant pixels as it has (after the relevance rank accuracy
/// of Arras et al. 2022). `None` for an empty mask.
///
/// # Errors
/// [`Error::Shape`] for a mask of another size.
pub fn iou_at_area(map: &Heatmap, mask: &Mask) -> Result<Option<f64>> {
    same_size("mask over a heatmap", mask.size, map.size())?;
    Ok(iou(map, mask, mask.area()))
}

fn iou(map: &Heatmap, mask: &Mask, taken: usize) -> Option<f64> {
    let area = mask.area();
    let both = by_relevance(map)[..taken].iter().filter(|p| mask.inside[**p]).count();
    (area > 0).then(|| both as f64 / (area + taken - both) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    /// 4x5; the mask is the 2x2 square at the upper left corner.
    fn mask() -> Mask {
        Mask::new((4, 5), (0..20).map(|p| p / 5 < 2 && p % 5 < 2).collect()).unwrap()
    }

    fn map(values: &[(usize, f32)]) -> Heatmap {
        let mut data = vec![0.0; 20];
        values.iter().for_each(|(p, v)| data[*p] = *v);
        Heatmap::new(4, 5, data).unwrap()
    }

    fn nothing() -> Mask {
        Mask::new((4, 5), vec![false; 20]).unwrap()
    }

    #[test]
    fn pointing_allows_a_tolerance() {
        // The nearest pixel of the mask to (3, 3) is (1, 1).
        let far = map(&[(18, 1.0), (0, 0.9)]);
        let at = |t| points_at(&far, &mask(), t).unwrap();
        assert_eq!((at(0.0), at(2.82), at(2.83)), (Some(false), Some(false), Some(true)));
        assert_eq!(points_at(&map(&[(6, 1.0)]), &mask(), 0.0).unwrap(), Some(true));
        assert_eq!(points_at(&far, &nothing(), 9.0).unwrap(), None);
        assert!(points_at(&far, &mask(), f64::NAN).is_err());
    }

    #[test]
    fn energy_counts_positive_values() {
        let m = map(&[(0, 3.0), (6, 1.0), (1, -5.0), (19, 4.0)]);
        assert_eq!(energy_within(&m, &mask()).unwrap(), Some(0.5));
        assert_eq!(energy_within(&map(&[(0, -1.0)]), &mask()).unwrap(), None);
        assert_eq!(energy_within(&m, &nothing()).unwrap(), None);
    }

    #[test]
    fn overlap_with_the_largest_values() {
        // Of the four largest, two lie within: 2 of 6. Of the ten largest at least those two.
        let m = map(&[(0, 9.0), (10, 8.0), (11, 7.0), (5, 6.0), (12, 5.0)]);
        close(iou_at_area(&m, &mask()).unwrap().unwrap(), 2.0 / 6.0, 1e-12);
        close(iou_at_share(&m, &mask(), 0.05).unwrap().unwrap(), 0.25, 1e-12);
        close(iou_at_share(&m, &mask(), 0.25).unwrap().unwrap(), 2.0 / 7.0, 1e-12);
        close(iou_at_share(&m, &mask(), 1.0).unwrap().unwrap(), 0.2, 1e-12);
        assert_eq!(iou_at_area(&m, &nothing()).unwrap(), None);
        for share in [0.0, 0.02, 1.5, f64::NAN] {
            assert!(iou_at_share(&m, &mask(), share).unwrap_err().to_string().contains("of 20 pixels"));
        }
        let perfect = map(&[(0, 1.0), (1, 1.0), (5, 1.0), (6, 1.0)]);
        assert_eq!(iou_at_area(&perfect, &mask()).unwrap(), Some(1.0));
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Mask::new((2, 2), vec![true; 3]).is_err());
        let other = Heatmap::new(5, 4, vec![0.0; 20]).unwrap();
        assert!(points_at(&other, &mask(), 0.0).is_err() && energy_within(&other, &mask()).is_err());
        assert!(iou_at_area(&other, &mask()).is_err() && iou_at_share(&other, &mask(), 0.5).is_err());
    }
}

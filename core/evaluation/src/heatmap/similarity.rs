//! How much two maps are alike: of f and of f with randomised weights they should not be (Adebayo et al. 2018), of two runs
//! they should.

use super::{by_relevance, same_size, values};
use crate::image_similarity::{WINDOW, ssim};
use crate::rank::spearman;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Images, Result};

/// Two maps compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Spearman's rank correlation of the values; `None` where a map does not vary.
    pub spearman: Option<f64>,
    /// The same of the absolute values.
    pub spearman_absolute: Option<f64>,
    /// SSIM of the absolute values, each map's over its largest; `None` where a map is 0, or smaller than SSIM's window.
    pub ssim: Option<f64>,
    /// Share of the most relevant pixels of the one that are among those of the other (top-k intersection, Ghorbani et al.
    /// 2019). Two random maps share as much of them as was taken.
    pub top: f64,
}

/// Compares two maps of one size; `share` of the pixels (rounded) counts as most relevant.
///
/// # Errors
/// [`Error::Shape`] for maps of different sizes; [`Error::Invalid`] for a share that takes no pixel, or above 1.
pub fn similarity(a: &Heatmap, b: &Heatmap, share: f64) -> Result<Similarity> {
    same_size("second of two heatmaps to compare", b.size(), a.size())?;
    let n = a.as_slice().len();
    let taken = (share * n as f64).round();
    if !(taken >= 1.0 && share <= 1.0) {
        return Err(Error::Invalid(format!(
            "similarity of heatmaps: share {share} of {n} pixels, expected some that takes at least one, up to 1"
        )));
    }
    let taken = taken as usize;
    let mut within = vec![false; n];
    by_relevance(a)[..taken].iter().for_each(|p| within[*p] = true);
    let both = by_relevance(b)[..taken].iter().filter(|p| within[**p]).count();
    let (va, vb) = (values(a), values(b));
    let absolute = |v: &[f64]| v.iter().map(|v| v.abs()).collect::<Vec<_>>();
    Ok(Similarity {
        spearman: spearman(&va, &vb),
        spearman_absolute: spearman(&absolute(&va), &absolute(&vb)),
        ssim: match (picture(a)?, picture(b)?) {
            (Some(a), Some(b)) => ssim(&a, &b)?.first().copied(),
            _ => None,
        },
        top: both as f64 / taken as f64,
    })
}

/// The absolute values over their largest, as an image; `None` where SSIM has nothing to look at.
fn picture(map: &Heatmap) -> Result<Option<Images>> {
    let (h, w) = map.size();
    let largest = map.as_slice().iter().fold(0f32, |a, v| a.max(v.abs()));
    if largest == 0.0 || h.min(w) < WINDOW {
        return Ok(None);
    }
    Images::new([1, 1, h, w], map.as_slice().iter().map(|v| v.abs() / largest).collect()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heatmap::{RandomMap, random_map};
    use crate::testing::close;

    #[test]
    fn a_map_is_like_itself_at_any_scale_and_unlike_a_random_one() {
        let a = random_map((40, 40), RandomMap::Smooth { sigma: 2.0 }, 1).unwrap();
        let scaled = Heatmap::new(40, 40, a.as_slice().iter().map(|v| 3.0 * v).collect()).unwrap();
        let same = similarity(&a, &scaled, 0.1).unwrap();
        close(same.spearman.unwrap(), 1.0, 1e-12);
        close(same.ssim.unwrap(), 1.0, 1e-5);
        assert_eq!(same.top, 1.0);
        // The opposite has the same absolute values, and shares no top pixel.
        let opposite = Heatmap::new(40, 40, a.as_slice().iter().map(|v| -v).collect()).unwrap();
        let found = similarity(&a, &opposite, 0.1).unwrap();
        close(found.spearman.unwrap(), -1.0, 1e-12);
        close(found.spearman_absolute.unwrap(), 1.0, 1e-12);
        assert_eq!(found.top, 0.0);
        let (b, c) = (random_map((40, 40), RandomMap::White, 2), random_map((40, 40), RandomMap::White, 3));
        let other = similarity(&b.unwrap(), &c.unwrap(), 0.25).unwrap();
        // 1600 pixels: deviation 0.025 of the correlation, 0.02 of the share.
        close(other.spearman.unwrap(), 0.0, 0.1);
        close(other.top, 0.25, 0.08);
        assert!(other.ssim.unwrap() < 0.3);
    }

    #[test]
    fn what_has_no_value_and_what_is_refused() {
        let flat = Heatmap::new(12, 12, vec![0.0; 144]).unwrap();
        let found = similarity(&flat, &flat, 0.5).unwrap();
        assert_eq!((found.spearman, found.spearman_absolute, found.ssim, found.top), (None, None, None, 1.0));
        let small = random_map((5, 5), RandomMap::White, 0).unwrap();
        assert!(similarity(&small, &small, 0.2).unwrap().ssim.is_none());
        assert!(similarity(&small, &flat, 0.2).is_err());
        for share in [0.0, 0.01, 1.1] {
            assert!(similarity(&small, &small, share).unwrap_err().to_string().contains("of 25 pixels"));
        }
    }
}

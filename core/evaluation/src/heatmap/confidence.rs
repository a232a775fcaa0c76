//! Average drop and increase in confidence (Chattopadhay et al. 2018).

use super::one_explained;
use crate::Scorer;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Heatmap, Images, Result};

/// f on an image, and on what the map leaves of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// f(x).
    pub full: f64,
    /// f of x times the map.
    pub masked: f64,
}

impl Confidence {
    /// `max(0, full - masked) / full`, in [0, 1] for scores that are not negative; its mean over images is the average drop.
    /// `None` unless f(x) is positive.
    pub fn drop(&self) -> Option<f64> {
        (self.full > 0.0).then(|| (self.full - self.masked).max(0.0) / self.full)
    }
    /// True if f is surer of what the map leaves; its share over images is the increase in confidence.
    pub fn increased(&self) -> bool {
        self.masked > self.full
    }
}

/// f on the image and on the image times the mask `max(Φ, 0) / max Φ`, the same for all channels. A map without a positive
/// value leaves nothing: a black image.
///
/// # Errors
/// [`shiftlens_api::Error::Shape`] for a map of another size; what f answers.
pub fn confidence(scorer: &mut Scorer<'_>, image: &Images, map: &Heatmap) -> Result<Confidence> {
    one_explained(image, map)?;
    let [_, c, h, w] = image.shape();
    let largest = map.range().1;
    let kept = |v: f32| if v > 0.0 { v / largest } else { 0.0 };
    let scores = scorer.drawn([c, h, w], 2, |i, out| {
        out.copy_from_slice(image.as_slice());
        if i == 1 {
            for plane in out.chunks_exact_mut(h * w) {
                plane.iter_mut().zip(map.as_slice()).for_each(|(x, v)| *x *= kept(*v));
            }
        }
    })?;
    Ok(Confidence { full: scores[0], masked: scores[1] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    #[test]
    fn a_linear_score_drops_by_what_is_dimmed() {
        let image = Images::new([1, 3, 1, 4], vec![0.5; 12]).unwrap();
        let mut sum = |x: &Images| Ok((0..x.len()).map(|i| x.image(i).iter().sum()).collect());
        let mut scorer = Scorer::new(&mut sum, 8).unwrap();
        let mut of = |map: [f32; 4]| {
            confidence(&mut scorer, &image, &Heatmap::new(1, 4, map.to_vec()).unwrap()).unwrap()
        };
        let half = of([2.0, 1.0, -3.0, 1.0]);
        assert_eq!((half.full, half.masked), (6.0, 3.0));
        assert_eq!((half.drop(), half.increased()), (Some(0.5), false));
        assert_eq!(of([-1.0, -2.0, 0.0, -1.0]).drop(), Some(1.0));
        assert_eq!(of([0.1; 4]).drop(), Some(0.0));
    }

    #[test]
    fn scores_may_rise_and_may_be_zero() {
        let up = Confidence { full: 0.4, masked: 0.6 };
        assert_eq!((up.drop(), up.increased()), (Some(0.0), true));
        assert_eq!(Confidence { full: 0.0, masked: 0.1 }.drop(), None);
        close(Confidence { full: 0.8, masked: 0.2 }.drop().unwrap(), 0.75, 1e-12);
    }
}

//! Where along a series f's decision changes.

use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// f along a series of pictures.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// λ of each picture, ascending.
    pub lambdas: &'a [f32],
    /// f's score of the target on each.
    pub scores: &'a [f32],
    /// Index of the reconstruction, λ = 0.
    pub origin: usize,
    /// f's score of the target on the image itself.
    pub image: f32,
    /// f decides for the target at scores from here on.
    pub threshold: f32,
}

/// A change of f's decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// The first picture beyond the change, seen from the reconstruction: the counterfactual.
    pub index: usize,
    /// λ at which the score is the threshold, linear between the pictures on both sides.
    pub lambda: f64,
    /// Share of the way from the picture before the change to the one beyond it.
    pub part: f64,
    /// f's decision beyond the change: true is for the target.
    pub decision: bool,
}

/// What a series came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// f's decision changes, first here.
    Flipped(Flip),
    /// f decides on all pictures as on the image.
    Kept,
    /// f decides on the reconstruction otherwise than on the image: what lies further out is no counterfactual of this
    /// image, though a decision may change there.
    Unfaithful,
}

impl Outcome {
    /// The flip, if there is one.
    pub fn flip(&self) -> Option<Flip> {
        match self {
            Self::Flipped(flip) => Some(*flip),
            Self::Kept | Self::Unfaithful => None,
        }
    }
}

/// The change of decision nearest to λ = 0; of two equally near ones that at the smaller λ.
///
/// # Errors
/// [`Error::Shape`] for lists of different lengths; [`Error::Invalid`] if λ does not ascend or there is no such origin.
pub fn outcome(series: &Series<'_>) -> Result<Outcome> {
    let Series { lambdas, scores, origin, image, threshold } = *series;
    if lambdas.len() != scores.len() {
        return Err(Error::Shape {
            what: "scores of a series".into(),
            expected: format!("[{}], one per λ", lambdas.len()),
            found: vec![scores.len()],
        });
    }
    if origin >= lambdas.len() || lambdas.windows(2).any(|l| l[0] >= l[1]) {
        return Err(Error::Invalid(format!(
            "series: λ {lambdas:?} with the reconstruction at index {origin}, expected ascending values and one of them"
        )));
    }
    let side = |s: f32| s >= threshold;
    if side(scores[origin]) != side(image) {
        return Ok(Outcome::Unfaithful);
    }
    let other = |i: &usize| side(scores[*i]) != side(image);
    let crossing = |index: usize, inner: usize| {
        let (s, t) = (f64::from(scores[inner]), f64::from(scores[index]));
        let (l, m) = (f64::from(lambdas[inner]), f64::from(lambdas[index]));
        let part = (f64::from(threshold) - s) / (t - s);
        Flip { index, lambda: l + part * (m - l), part, decision: side(scores[index]) }
    };
    let down = (0..origin).rev().find(other).map(|i| crossing(i, i + 1));
    let up = (origin + 1..scores.len()).find(other).map(|i| crossing(i, i - 1));
    let from = f64::from(lambdas[origin]);
    let near = down.into_iter().chain(up).min_by(|a, b| {
        let far = |f: &Flip| (f.lambda - from).abs();
        far(a).total_cmp(&far(b))
    });
    Ok(near.map_or(Outcome::Kept, Outcome::Flipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    const LAMBDAS: [f32; 5] = [-2.0, -1.0, 0.0, 1.0, 2.0];

    fn of(scores: &[f32], image: f32) -> Outcome {
        outcome(&Series { lambdas: &LAMBDAS, scores, origin: 2, image, threshold: 0.5 }).unwrap()
    }

    #[test]
    fn the_nearest_change_counts() {
        // Down it crosses at -1 - 0.25 (0.6 to 0.2), up at 0.5 (0.7 to 0.3).
        let flip = of(&[0.2, 0.6, 0.7, 0.3, 0.9], 0.8).flip().unwrap();
        assert_eq!((flip.index, flip.decision), (3, false));
        close(flip.lambda, 0.5, 1e-6);
        close(flip.part, 0.5, 1e-6);
        let flip = of(&[0.9, 0.7, 0.2, 0.3, 0.4], 0.1).flip().unwrap();
        assert_eq!((flip.index, flip.decision), (1, true));
        close(flip.lambda, -0.6, 1e-6);
        // Equally near on both sides: the smaller λ.
        assert_eq!(of(&[0.9, 0.75, 0.25, 0.75, 0.9], 0.1).flip().unwrap().index, 1);
        // The threshold itself is on the target's side.
        assert_eq!(of(&[0.1, 0.2, 0.3, 0.4, 0.5], 0.1).flip().map(|f| (f.index, f.lambda)), Some((4, 2.0)));
    }

    #[test]
    fn no_change_and_no_faithful_start() {
        assert_eq!(of(&[0.6, 0.7, 0.8, 0.9, 1.0], 0.5), Outcome::Kept);
        assert_eq!(of(&[0.6, 0.7, 0.8, 0.3, 0.2], 0.4), Outcome::Unfaithful);
        assert_eq!(Outcome::Unfaithful.flip(), None);
    }

    #[test]
    fn what_is_refused() {
        let refused = |lambdas: &[f32], scores: &[f32], origin| {
            outcome(&Series { lambdas, scores, origin, image: 0.1, threshold: 0.5 }).unwrap_err().to_string()
        };
        assert!(refused(&LAMBDAS, &[0.1; 4], 2).contains("one per λ"));
        assert!(refused(&LAMBDAS, &[0.1; 5], 5).contains("index 5"));
        assert!(refused(&[0.0, 0.0], &[0.1; 2], 0).contains("ascending"));
    }
}

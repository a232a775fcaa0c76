//! Integrated gradients (Sundararajan, Taly and Yan 2017, section 3):
//!
//! ```text
//! IG_i = (x_i - b_i) * integral over a in [0, 1] of d(score)/dx_i at b + a (x - b)
//! ```
//!
//! The integral is the mean over the midpoints a = (i + 1/2) / n of n equal steps, exact for a score of second degree.
//! Attributions are complete: their sum is score(x) - score(b) (proposition 1), so the gap between both measures the
//! error of the n steps, and is printed with every map.

use super::{Attributed, Method};
use crate::baseline::Baseline;
use crate::host::{Host, Shape, Variants};
use crate::reduction::Reduction;
use shiftlens_sdk::api::{Images, Result};

/// A completeness error above this share is warned of.
const WARN_ABOVE: f64 = 0.05;

/// Integrated gradients from a baseline. Channels are added, so that the map is as complete as the attributions.
pub struct IntegratedGradients {
    /// n.
    pub steps: usize,
    /// b.
    pub baseline: Baseline,
}

/// The points on the way, and the sum of their gradients.
struct Path<'a> {
    from: &'a [f32],
    to: &'a [f32],
    steps: usize,
    sum: Vec<f64>,
}

impl Variants for Path<'_> {
    fn draw(&mut self, i: usize, image: &mut [f32]) {
        let a = (i as f64 + 0.5) / self.steps as f64;
        for ((v, b), x) in image.iter_mut().zip(self.from).zip(self.to) {
            *v = (f64::from(*b) + a * (f64::from(*x) - f64::from(*b))) as f32;
        }
    }
    fn take(&mut self, _: usize, _: f64, gradient: &[f32]) {
        self.sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += f64::from(*g));
    }
}

/// How far attributions of this sum are from being complete: the gap, and its share of the difference of the scores
/// where that is not 0.
fn completeness(sum: f64, difference: f64) -> (f64, Option<f64>) {
    let gap = (sum - difference).abs();
    (gap, (difference != 0.0).then(|| gap / difference.abs()))
}

impl Method for IntegratedGradients {
    fn title(&self) -> &'static str {
        "Integrated gradients"
    }
    fn needs_gradients(&self) -> bool {
        true
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, score: f64, _: u64) -> Result<Attributed> {
        let shape = Shape::of(x);
        let from = self.baseline.image(x, 0);
        let mut path =
            Path { from: &from, to: x.image(0), steps: self.steps, sum: vec![0.0; shape.values()] };
        host.ask("integrated gradients", shape, self.steps, true, &mut path)?;
        let mut attributions = path.sum;
        for ((a, b), x) in attributions.iter_mut().zip(&from).zip(x.image(0)) {
            *a *= (f64::from(*x) - f64::from(*b)) / self.steps as f64;
        }
        let map = Reduction::Sum.apply(&attributions, shape.plane());

        let start = host.scores(&Images::new([1, shape.channels, shape.height, shape.width], from)?)?[0];
        let (sum, difference) = (map.iter().sum::<f64>(), score - start);
        let (gap, share) = completeness(sum, difference);
        if let Some(share) = share.filter(|s| *s > WARN_ABOVE) {
            host.warn(&format!(
                "integrated gradients: the attributions of an image add up to {sum:.4}, the scores differ by \
                 {difference:.4} ({:.1} % off with {} steps): raise `steps`, or choose a baseline whose score differs more",
                100.0 * share,
                self.steps
            ));
        }
        let notes = vec![
            ("baseline", self.baseline.to_string()),
            ("steps", self.steps.to_string()),
            ("score of the baseline", format!("{start:.6}")),
            ("sum of the map", format!("{sum:.6}")),
            ("completeness gap", format!("{gap:.2e}")),
            (
                "completeness error",
                share.map_or("not defined: the baseline has the image's score".into(), |s| {
                    format!("{:.3} %", 100.0 * s)
                }),
            ),
        ];
        Ok(Attributed { map, notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_measured_against_the_scores() {
        let (gap, share) = completeness(1.9, -2.0);
        assert!((gap - 3.9).abs() < 1e-12 && (share.unwrap() - 1.95).abs() < 1e-12);
        assert_eq!(completeness(0.5, 0.0), (0.5, None));
    }
}

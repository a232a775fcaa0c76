//! Kernel SHAP (Lundberg and Lee 2017, section 4.1) on superpixels.

use super::shapley::{Coalitions, LeastSquares};
use super::{Attributed, Method};
use crate::baseline::Baseline;
use crate::host::{Host, Shape, Variants};
use crate::superpixels::Partition;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use shiftlens_sdk::api::{Images, Result};
use std::collections::VecDeque;

/// Shapley values of the image's segments: players are segments, a coalition's value is the score of the image whose
/// other segments are the baseline's.
///
/// Every pixel carries its segment's value φ, so the sum over segments, not over pixels, is score(x) - score(b):
/// exactly, whatever the sample.
pub struct KernelShap {
    /// Segments aimed at.
    pub segments: usize,
    /// Coalitions asked about, none and all among them.
    pub samples: usize,
    /// How the image is cut.
    pub partition: Partition,
    /// b.
    pub baseline: Baseline,
}

/// Images of coalitions, and the sums of what they scored.
struct Players<'a> {
    image: &'a [f32],
    absent: Vec<f32>,
    labels: &'a [usize],
    coalitions: Coalitions,
    /// Drawn and not yet answered, in order.
    waiting: VecDeque<(Vec<bool>, f64)>,
    none: f64,
    problem: LeastSquares,
}

impl Variants for Players<'_> {
    fn draw(&mut self, _: usize, image: &mut [f32]) {
        let Some((z, weight)) = self.coalitions.next() else { return };
        for (p, v) in image.iter_mut().enumerate() {
            *v = if z[self.labels[p % self.labels.len()]] { self.image[p] } else { self.absent[p] };
        }
        self.waiting.push_back((z, weight));
    }
    fn take(&mut self, _: usize, score: f64, _: &[f32]) {
        if let Some((z, weight)) = self.waiting.pop_front() {
            self.problem.add(&z, weight, score - self.none);
        }
    }
}

impl Method for KernelShap {
    fn title(&self) -> &'static str {
        "Kernel SHAP"
    }
    fn needs_gradients(&self) -> bool {
        false
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, score: f64, seed: u64) -> Result<Attributed> {
        let shape = Shape::of(x);
        let labels = self.partition.segment(x.image(0), shape, self.segments);
        let segments = labels.iter().max().map_or(0, |l| l + 1);
        let coalitions =
            Coalitions::new(segments, self.samples.saturating_sub(2), ChaCha8Rng::seed_from_u64(seed))?;
        let (count, exact) = (coalitions.total(), coalitions.exact());
        let absent = self.baseline.image(x, 0);
        let one = [1, shape.channels, shape.height, shape.width];
        let none = host.scores(&Images::new(one, absent.clone())?)?[0];
        let mut players = Players {
            image: x.image(0),
            absent,
            labels: &labels,
            coalitions,
            waiting: VecDeque::new(),
            none,
            problem: LeastSquares::new(segments),
        };
        host.ask("kernel shap", shape, count, false, &mut players)?;
        let phi = players.problem.solve(score - none)?;
        let how = if exact { "all of them: exact values" } else { "a sample: estimated values" };
        let notes = vec![
            ("segments", format!("{segments} ({})", self.partition)),
            ("coalitions", format!("{}, {how}", count + 2)),
            ("baseline", self.baseline.to_string()),
            ("score of the baseline", format!("{none:.6}")),
            ("sum over segments", format!("{:.6}", phi.iter().sum::<f64>())),
        ];
        Ok(Attributed { map: labels.iter().map(|l| phi[*l]).collect(), notes })
    }
}

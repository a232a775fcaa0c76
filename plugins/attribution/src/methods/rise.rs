//! RISE (Petsiuk, Das and Saenko 2018, section 3.2).

use super::{Attributed, Method};
use crate::host::{Host, Shape, Variants};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shiftlens_sdk::api::resize::{Filter, plane};
use shiftlens_sdk::api::{Images, Result};

/// Masks M of `grid` x `grid` cells, each kept with `probability` p, enlarged bilinearly and shifted at random by up
/// to a cell; the image is multiplied by them (black is what is not kept). With N masks the map is
///
/// ```text
/// S = 1 / (N E[M]) sum_i score(x M_i) M_i          (eq. 6, E[M] = p)
/// ```
///
/// the expected score given that the pixel is kept. It divides by the expected coverage p as the paper does, not by
/// the coverage that came out. Where a pixel does not matter the map is near the mean score over the masks, not near
/// 0: what stands out is read against that level, which the notes give.
pub struct Rise {
    /// N.
    pub masks: usize,
    /// Cells along each side.
    pub grid: usize,
    /// p.
    pub probability: f64,
}

/// Draws masks, and remembers those of the batch under way.
struct Masks<'a> {
    image: &'a [f32],
    shape: Shape,
    grid: usize,
    probability: f64,
    rng: ChaCha8Rng,
    /// Drawn and not yet answered, in order.
    waiting: std::collections::VecDeque<Vec<f32>>,
    sum: Vec<f64>,
    scores: f64,
}

impl Masks<'_> {
    /// One mask, `[H, W]`.
    fn mask(&mut self) -> Vec<f32> {
        let (g, Shape { height, width, .. }) = (self.grid, self.shape);
        let cells: Vec<f32> =
            (0..g * g).map(|_| f32::from(u8::from(self.rng.random_bool(self.probability)))).collect();
        // One cell more than the image holds, so that there is room to shift.
        let cell = (height.div_ceil(g), width.div_ceil(g));
        let (h, w) = ((g + 1) * cell.0, (g + 1) * cell.1);
        let large = plane(&cells, (g, g), (h, w), Filter::BilinearPlain);
        let (top, left) = (self.rng.random_range(0..cell.0), self.rng.random_range(0..cell.1));
        (top..top + height).flat_map(|y| large[y * w + left..y * w + left + width].iter().copied()).collect()
    }
}

impl Variants for Masks<'_> {
    fn draw(&mut self, _: usize, image: &mut [f32]) {
        let mask = self.mask();
        for (out, x) in image.chunks_exact_mut(mask.len()).zip(self.image.chunks_exact(mask.len())) {
            out.iter_mut().zip(x).zip(&mask).for_each(|((o, x), m)| *o = x * m);
        }
        self.waiting.push_back(mask);
    }
    fn take(&mut self, _: usize, score: f64, _: &[f32]) {
        if let Some(mask) = self.waiting.pop_front() {
            self.sum.iter_mut().zip(&mask).for_each(|(s, m)| *s += score * f64::from(*m));
        }
        self.scores += score;
    }
}

impl Method for Rise {
    fn title(&self) -> &'static str {
        "RISE"
    }
    fn needs_gradients(&self) -> bool {
        false
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, _: f64, seed: u64) -> Result<Attributed> {
        let shape = Shape::of(x);
        let mut masks = Masks {
            image: x.image(0),
            shape,
            grid: self.grid,
            probability: self.probability,
            rng: ChaCha8Rng::seed_from_u64(seed),
            waiting: Default::default(),
            sum: vec![0.0; shape.plane()],
            scores: 0.0,
        };
        host.ask("rise", shape, self.masks, false, &mut masks)?;
        let n = self.masks as f64;
        let map = masks.sum.iter().map(|s| s / (n * self.probability)).collect();
        let notes = vec![
            (
                "masks",
                format!(
                    "{} of {1}×{1} cells, kept with probability {2}",
                    self.masks, self.grid, self.probability
                ),
            ),
            ("mean score under the masks", format!("{:.6}", masks.scores / n)),
        ];
        Ok(Attributed { map, notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cover_the_image_with_the_probability_asked_for() {
        let shape = Shape { channels: 1, height: 13, width: 10 };
        let image = vec![1.0; shape.values()];
        let mut masks = Masks {
            image: &image,
            shape,
            grid: 4,
            probability: 0.3,
            rng: ChaCha8Rng::seed_from_u64(1),
            waiting: Default::default(),
            sum: vec![],
            scores: 0.0,
        };
        let n = 4000;
        let mut mean = vec![0.0; shape.plane()];
        for _ in 0..n {
            let mask = masks.mask();
            assert!(mask.iter().all(|m| (0.0..=1.0).contains(m)));
            mean.iter_mut().zip(&mask).for_each(|(s, m)| *s += f64::from(*m) / f64::from(n));
        }
        // A mean of 4000 Bernoulli draws has a standard deviation below 0.0073; no pixel is favoured, the border's
        // included.
        assert!(mean.iter().all(|m| (m - 0.3).abs() < 0.03), "{mean:?}");
    }
}

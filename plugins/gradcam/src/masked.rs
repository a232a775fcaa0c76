//! Score-CAM's question: what does f answer if only what a channel lights up is left of the image?
//!
//! Channel A_c becomes a mask (Wang et al. 2020, section 3): enlarged to the image's size, then scaled to [0, 1] by
//! `(M - min M) / (max M - min M + 1e-8)`. The masked image is `M_c * x`, with x in [0, 1] as every plugin sees it,
//! before f resizes and normalises: what is masked out is black. Implementations that multiply the network's input
//! after normalisation make it the data set's mean colour instead; the two agree where f normalises by mean 0 and
//! deviation 1.

use crate::api::{Error, GradientRequest, Images, Predictor, Result, ScoreKind};
use crate::batches::{Progress, Question, batches};
use crate::layer::Layer;
use crate::layout::Layout;

/// Keeps a constant channel's mask finite: it is black.
const EPSILON: f64 = 1e-8;

/// The score of the image under each channel's mask, `[K]`. No more than a batch of masked images exists at once.
///
/// # Errors
/// Those of the predictor, or that it answers too few scores; [`Error::Cancelled`].
pub fn scores(
    predictor: &mut dyn Predictor,
    asked: &Question<'_>,
    layout: &Layout,
    layer: &Layer,
    progress: &mut Progress<'_>,
) -> Result<Vec<f64>> {
    let [_, channels, height, width] = asked.x.shape();
    let enlarge = Enlarge::new((layout.height, layout.width), (height, width));
    let planes: Vec<&[f64]> = layer.activations().collect();
    let pixels = asked.x.image(asked.image);
    let mut all = Vec::with_capacity(planes.len());
    for range in batches(planes.len(), asked.batch, pixels.len()) {
        progress.check()?;
        let mut masked = Vec::with_capacity(range.len() * pixels.len());
        for plane in &planes[range.clone()] {
            let mask = enlarge.mask(plane);
            for channel in pixels.chunks_exact(height * width) {
                masked.extend(channel.iter().zip(&mask).map(|(v, m)| (f64::from(*v) * m) as f32));
            }
        }
        let masked = Images::new([range.len(), channels, height, width], masked)?;
        let scores = score(predictor, &masked, asked.class, asked.score)?;
        if scores.len() != range.len() {
            return Err(Error::Shape {
                what: "scores of masked images".into(),
                expected: format!("[{}]", range.len()),
                found: vec![scores.len()],
            });
        }
        all.extend(scores.into_iter().map(f64::from));
        progress.add(range.len());
    }
    Ok(all)
}

/// The score of `class` on each image. Probabilities come from f itself; logits from its white box, asked for scores
/// alone.
fn score(predictor: &mut dyn Predictor, x: &Images, class: usize, kind: ScoreKind) -> Result<Vec<f32>> {
    if kind == ScoreKind::Probability {
        return predictor.predict(x)?.class(class);
    }
    let host = predictor.gradients();
    let host = host.ok_or_else(|| Error::Unsupported("gradcam: a black box answers no logits".into()))?;
    let request = GradientRequest { classes: vec![class], score: kind, ..GradientRequest::default() };
    Ok(host.gradients(x, &request)?.scores)
}

/// Bilinear enlargement that keeps the corners (`align_corners` in PyTorch): output o of n lies at `o (m - 1) / (n -
/// 1)` of the m inputs.
struct Enlarge {
    width: usize,
    rows: Vec<(usize, usize, f64)>,
    columns: Vec<(usize, usize, f64)>,
}

impl Enlarge {
    fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { width: from.1, rows: taps(from.0, to.0), columns: taps(from.1, to.1) }
    }

    /// The mask of one channel, `[H * W]` in [0, 1].
    fn mask(&self, plane: &[f64]) -> Vec<f64> {
        let mut mask = Vec::with_capacity(self.rows.len() * self.columns.len());
        let mut between = vec![0.0; self.width];
        for (above, below, y) in &self.rows {
            let row = |r: usize| &plane[r * self.width..(r + 1) * self.width];
            for ((to, a), b) in between.iter_mut().zip(row(*above)).zip(row(*below)) {
                *to = a + y * (b - a);
            }
            mask.extend(self.columns.iter().map(|(l, r, x)| between[*l] + x * (between[*r] - between[*l])));
        }
        let (low, high) =
            mask.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        mask.iter_mut().for_each(|v| *v = (*v - low) / (high - low + EPSILON));
        mask
    }
}

/// For each of `n` outputs the two inputs of `m` beside it and the share of the second.
fn taps(m: usize, n: usize) -> Vec<(usize, usize, f64)> {
    let scale = if n > 1 { (m - 1) as f64 / (n - 1) as f64 } else { 0.0 };
    (0..n)
        .map(|o| {
            let x = o as f64 * scale;
            let left = (x as usize).min(m - 1);
            (left, (left + 1).min(m - 1), x - left as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_corners_and_fill_the_range() {
        // torch: nn.UpsamplingBilinear2d((3, 4))([[0, 3], [6, 9]]) is [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]].
        let mask = Enlarge::new((2, 2), (3, 4)).mask(&[0.0, 3.0, 6.0, 9.0]);
        let expected = [0.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 6.0, 7.0, 8.0, 9.0];
        for (m, e) in mask.iter().zip(expected) {
            assert!((m - e / 9.0).abs() < 1e-8, "{mask:?}");
        }
        assert_eq!(Enlarge::new((1, 1), (2, 2)).mask(&[5.0]), [0.0; 4]);
        let mask = Enlarge::new((1, 2), (1, 3)).mask(&[2.0, -2.0]);
        assert!((mask[0] - 1.0).abs() < 1e-8 && (mask[1] - 0.5).abs() < 1e-8 && mask[2] == 0.0, "{mask:?}");
    }
}

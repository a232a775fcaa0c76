//! One image's activations at a layer, with what f says about them.

use crate::api::{Error, Result, Tensor};
use crate::layout::Layout;

/// Activations A and gradients G of one image at a layer, `[K, P]` with P = h * w positions; or A and a score for
/// each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    channels: usize,
    positions: usize,
    activations: Vec<f64>,
    gradients: Option<Vec<f64>>,
    channel_scores: Option<(f64, Vec<f64>)>,
}

impl Layer {
    /// Image `i` of the host's answer. `gradients` may be missing for a method that needs none.
    ///
    /// # Errors
    /// [`Error::Shape`] if the gradients' shape is not the activations', or there is no image `i`.
    pub fn new(layout: &Layout, activations: &Tensor, gradients: Option<&Tensor>, i: usize) -> Result<Self> {
        if let Some(g) = gradients.filter(|g| g.shape() != activations.shape()) {
            return Err(Error::Shape {
                what: "gradients from the predictor".into(),
                expected: format!("{:?}, as the activations", activations.shape()),
                found: g.shape().to_vec(),
            });
        }
        if i >= layout.images || activations.as_slice().len() != layout.images * layout.row() {
            return Err(Error::Shape {
                what: "activations from the predictor".into(),
                expected: format!("[N >= {}, ..] with {} values each", i + 1, layout.row()),
                found: activations.shape().to_vec(),
            });
        }
        Ok(Self {
            channels: layout.channels,
            positions: layout.positions(),
            activations: layout.planes(activations, i),
            gradients: gradients.map(|g| layout.planes(g, i)),
            channel_scores: None,
        })
    }
    /// The layer with the image's `score` and one score for each channel, of what the method asks about it.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one for each channel.
    pub fn with_scores(self, score: f64, of_channels: Vec<f64>) -> Result<Self> {
        if of_channels.len() != self.channels {
            return Err(Error::Shape {
                what: "scores of a layer's channels".into(),
                expected: format!("[{}]", self.channels),
                found: vec![of_channels.len()],
            });
        }
        Ok(Self { channel_scores: Some((score, of_channels)), ..self })
    }
    /// K.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// P.
    pub fn positions(&self) -> usize {
        self.positions
    }
    /// A of each channel, `[P]` at a time.
    pub fn activations(&self) -> impl Iterator<Item = &[f64]> {
        self.activations.chunks_exact(self.positions)
    }
    /// G of each channel, `[P]` at a time.
    ///
    /// # Panics
    /// If the layer was made without gradients: a method that calls this must say that it needs them.
    pub fn gradients(&self) -> impl Iterator<Item = &[f64]> {
        let gradients = self.gradients.as_deref();
        gradients.expect("a method that uses gradients asks for them").chunks_exact(self.positions)
    }
    /// The image's score and those of the channels, `[K]`.
    ///
    /// # Panics
    /// If the layer was made without them: a method that calls this must say that it needs them.
    pub fn channel_scores(&self) -> (f64, &[f64]) {
        let (score, channels) =
            self.channel_scores.as_ref().expect("a method that uses scores asks for them");
        (*score, channels)
    }
    /// (A, G) of each channel.
    pub fn pairs(&self) -> impl Iterator<Item = (&[f64], &[f64])> {
        self.activations().zip(self.gradients())
    }
    /// `sum_c f(A, G)` at each position.
    pub fn sum_channels(&self, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let mut map = vec![0.0; self.positions];
        for (a, g) in self.pairs() {
            for ((m, a), g) in map.iter_mut().zip(a).zip(g) {
                *m += f(*a, *g);
            }
        }
        map
    }
    /// `sum_c w_c A_c` at each position.
    pub fn weighted(&self, weights: &[f64]) -> Vec<f64> {
        debug_assert_eq!(weights.len(), self.channels);
        let mut map = vec![0.0; self.positions];
        for (a, w) in self.activations().zip(weights) {
            map.iter_mut().zip(a).for_each(|(m, a)| *m += w * a);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Reading;

    #[test]
    fn answers_that_do_not_go_together_are_refused() {
        let layout = Layout::of("x", &[1, 1, 1, 2], &Reading::default(), (1, 2)).unwrap();
        let tensor =
            |shape: [usize; 4]| Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
        assert!(Layer::new(&layout, &tensor([1, 1, 1, 2]), Some(&tensor([1, 1, 2, 1])), 0).is_err());
        assert!(Layer::new(&layout, &tensor([1, 1, 1, 2]), None, 1).is_err());
        assert!(Layer::new(&layout, &tensor([1, 1, 1, 3]), None, 0).is_err());
        let layer = Layer::new(&layout, &tensor([1, 1, 1, 2]), None, 0).unwrap();
        assert!(layer.with_scores(1.0, vec![0.0; 2]).is_err());
    }
}

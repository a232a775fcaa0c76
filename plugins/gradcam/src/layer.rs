//! One image's activations and gradients at a layer, whatever form the network gives them.

use crate::api::{Error, Result, Tensor};

/// A [`Tensor`]'s dimensions as a map of K channels: `[N, K, h, w]`, or the tokens `[N, T, K]` of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// N: images.
    pub images: usize,
    /// K: channels.
    pub channels: usize,
    /// h.
    pub height: usize,
    /// w.
    pub width: usize,
    /// Of tokens: how many come before the map's (the class token). `None` for `[N, K, h, w]`.
    leading_tokens: Option<usize>,
}

impl Layout {
    /// Reads the layout off `shape`. Tokens must fill a square, by themselves or after one class token.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `shape` has no spatial extent.
    pub fn of(layer: &str, shape: &[usize]) -> Result<Self> {
        let square = |n: usize| n.isqrt() >= 1 && n.isqrt().pow(2) == n;
        match *shape {
            [images, channels, height, width] if channels * height * width > 0 => {
                Ok(Self { images, channels, height, width, leading_tokens: None })
            }
            // A square of tokens plus one is a square itself for no side, so this is never ambiguous.
            [images, tokens, channels]
                if channels > 0 && (square(tokens) || square(tokens.saturating_sub(1))) =>
            {
                let leading = usize::from(!square(tokens));
                let side = (tokens - leading).isqrt();
                Ok(Self { images, channels, height: side, width: side, leading_tokens: Some(leading) })
            }
            _ => Err(Error::Unsupported(format!(
                "layer `{layer}` has shape {shape:?}; a class activation map needs [N, K, h, w], or tokens [N, T, K] \
                 whose number is a square or a square and one class token; name another layer in params.layer"
            ))),
        }
    }

    /// Image `i` of a tensor of this layout as `[K, h * w]`.
    fn planes(&self, tensor: &Tensor, i: usize) -> Vec<f64> {
        let (k, p) = (self.channels, self.height * self.width);
        let all = tensor.as_slice();
        match self.leading_tokens {
            None => all[i * k * p..(i + 1) * k * p].iter().map(|v| f64::from(*v)).collect(),
            Some(leading) => {
                let tokens = &all[(i * (leading + p) + leading) * k..(i + 1) * (leading + p) * k];
                (0..k * p).map(|j| f64::from(tokens[(j % p) * k + j / p])).collect()
            }
        }
    }
}

/// Activations A and gradients G of one image at a layer, `[K, P]` with P = h * w positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    channels: usize,
    positions: usize,
    activations: Vec<f64>,
    gradients: Option<Vec<f64>>,
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
        if i >= layout.images {
            return Err(Error::Shape {
                what: "activations from the predictor".into(),
                expected: format!("[N >= {}, ..]", i + 1),
                found: activations.shape().to_vec(),
            });
        }
        Ok(Self {
            channels: layout.channels,
            positions: layout.height * layout.width,
            activations: layout.planes(activations, i),
            gradients: gradients.map(|g| layout.planes(g, i)),
        })
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
    /// If the layer was made without gradients: a method that calls this must not say that it needs none.
    pub fn gradients(&self) -> impl Iterator<Item = &[f64]> {
        let gradients = self.gradients.as_deref();
        gradients.expect("a method that uses gradients asks for them").chunks_exact(self.positions)
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

    #[test]
    fn tokens_become_a_square_without_the_class_token() {
        let layout = Layout::of("x", &[2, 5, 2]).unwrap();
        assert_eq!((layout.channels, layout.height, layout.width), (2, 2, 2));
        let tensor = Tensor::new(vec![2, 5, 2], (0..20).map(|v| v as f32).collect()).unwrap();
        let layer = Layer::new(&layout, &tensor, None, 1).unwrap();
        let planes: Vec<&[f64]> = layer.activations().collect();
        assert_eq!(planes, [[12.0, 14.0, 16.0, 18.0], [13.0, 15.0, 17.0, 19.0]]);
        assert_eq!(Layout::of("x", &[1, 4, 3]).unwrap().leading_tokens, Some(0));
    }

    #[test]
    fn shapes_without_extent_are_refused() {
        for shape in [&[1, 10][..], &[1, 7, 3], &[1, 0, 3], &[1, 0, 4, 4], &[1, 2, 3, 4, 5]] {
            let message = Layout::of("fc", shape).unwrap_err().to_string();
            assert!(message.contains("`fc`") && message.contains("params.layer"), "{message}");
        }
        let layout = Layout::of("x", &[1, 1, 1, 2]).unwrap();
        let (a, g) =
            (Tensor::new(vec![1, 1, 1, 2], vec![0.0; 2]), Tensor::new(vec![1, 1, 2, 1], vec![0.0; 2]));
        assert!(Layer::new(&layout, &a.unwrap(), Some(&g.unwrap()), 0).is_err());
    }
}

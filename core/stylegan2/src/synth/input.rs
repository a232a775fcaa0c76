//! What a code adds to the constant at 4x4.

use super::layers::blocked;

/// `x + A w / sqrt(D) + b`, w the code's first row.
pub(super) struct Latent {
    /// A / sqrt(D), a map `[C/16][4][4][16]` for each coordinate of w.
    maps: Vec<f32>,
    /// b, likewise.
    bias: Vec<f32>,
}

impl Latent {
    pub fn new<E>(
        width: usize,
        dim: usize,
        get: &mut impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let weight = get("synthesis.b4.input.weight", &[width * 16, dim])?;
        let bias = get("synthesis.b4.input.bias", &[width * 16])?;
        assert!(weight.len() == width * 16 * dim && bias.len() == width * 16, "synthesis.b4.input");
        let gain = 1.0 / (dim as f32).sqrt();
        let mut maps = Vec::new();
        for c in 0..dim {
            let map: Vec<f32> = weight.iter().skip(c).step_by(dim).map(|v| gain * v).collect();
            maps.extend_from_slice(&blocked(&map, width, 16));
        }
        Ok(Self { maps, bias: blocked(&bias, width, 16).to_vec() })
    }

    /// Adds the map of w to x, whole blocks.
    pub fn add(&self, w: &[f32], x: &mut [f32]) {
        x.iter_mut().zip(&self.bias).for_each(|(x, b)| *x += b);
        for (w, map) in w.iter().zip(self.maps.chunks_exact(x.len())) {
            x.iter_mut().zip(map).for_each(|(x, v)| *x += w * v);
        }
    }
}

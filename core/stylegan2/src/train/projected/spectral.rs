//! Convolutions of spectral norm 1 (Miyato et al. 2018, arXiv 1802.05957, section 2.1 and algorithm 1).

use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor, Var};

/// Standard deviation of new weights (Radford et al. 2016, arXiv 1511.06434, section 3).
const INITIAL: f32 = 0.02;

/// A weight `[K, C, k, k]` that is used divided by its largest singular value as a matrix `[K, C k k]`. The singular
/// vectors follow the weight by one power iteration in each step of training; gradients flow through the quotient, in
/// which they are constants.
pub struct SpectralWeight {
    name: String,
    weight: Tensor,
    /// The left singular vector, of length 1.
    u: Var,
}

fn unit(x: &Tensor) -> Result<Tensor> {
    // A weight of zeros stays zero: its norm is nothing to divide by.
    let norm = (x.sqr()?.sum_all()?.sqrt()? + 1e-12)?;
    x.broadcast_div(&norm)
}

impl SpectralWeight {
    pub fn new(w: &Weights, shape: [usize; 4], name: String) -> Result<Self> {
        let weight = w.get("weight", &shape, Init::Normal(INITIAL), Role::Parameter)?;
        let u = w.get("u", &[shape[0]], Init::Normal(1.0), Role::Buffer)?;
        Ok(Self { name: format!("{name}.u"), weight, u: Var::from_tensor(&u)? })
    }

    fn matrix(&self) -> Result<Tensor> {
        self.weight.detach().flatten_from(1)
    }

    /// The right singular vector that belongs to u.
    fn right(&self) -> Result<Tensor> {
        let u = self.u.as_detached_tensor().unsqueeze(0)?;
        unit(&u.matmul(&self.matrix()?)?.squeeze(0)?)
    }

    /// One power iteration.
    pub fn iterate(&self) -> Result<()> {
        let v = self.right()?.unsqueeze(1)?;
        self.u.set(&unit(&self.matrix()?.matmul(&v)?.squeeze(1)?)?)
    }

    /// The weight over `u^T W v`; outside the graph if `frozen`.
    pub fn get(&self, frozen: bool) -> Result<Tensor> {
        let weight = if frozen { self.weight.detach() } else { self.weight.clone() };
        let (u, v) = (self.u.as_detached_tensor().unsqueeze(0)?, self.right()?.unsqueeze(1)?);
        let sigma = u.matmul(&weight.flatten_from(1)?.matmul(&v)?)?.reshape((1, 1, 1, 1))?;
        weight.broadcast_div(&sigma)
    }

    /// The singular vector under the name of its buffer.
    pub fn state(&self) -> (String, Tensor) {
        (self.name.clone(), self.u.as_detached_tensor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn new(weights: &Weights) -> SpectralWeight {
        SpectralWeight::new(weights, [3, 2, 2, 1], "layer".into()).unwrap()
    }

    #[test]
    fn the_norm_is_one_and_gradients_are_those_of_the_quotient() {
        crate::enable_second_order();
        let weights = Weights::random(5, &Device::Cpu);
        let layer = new(&weights);
        for _ in 0..200 {
            layer.iterate().unwrap();
        }
        // The largest singular value by the trace of (W^T W)^64, which the others do not reach.
        let w = layer.get(true).unwrap().flatten_from(1).unwrap();
        let mut gram = w.t().unwrap().contiguous().unwrap().matmul(&w).unwrap();
        for _ in 0..6 {
            gram = gram.matmul(&gram).unwrap();
        }
        let trace: f32 =
            (0..4).map(|i| gram.get(i).unwrap().get(i).unwrap().to_scalar::<f32>().unwrap()).sum();
        assert!((trace.powf(1.0 / 128.0) - 1.0).abs() < 2e-3, "{trace}");

        // d/dW of <A, W / (u^T W v)> is A / s - <A, W> / s^2 u v^T.
        let a =
            Tensor::from_vec((0..12).map(|i| (i as f32 * 0.7).sin()).collect(), (3, 2, 2, 1), &Device::Cpu);
        let a = a.unwrap();
        let loss = (layer.get(false).unwrap() * &a).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let found = grads.get(weights.vars()[0].1.as_tensor()).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (u, v) = (flat(&layer.u), flat(&layer.right().unwrap()));
        let (w, a) = (flat(&layer.weight), flat(&a));
        let s: f32 = (0..12).map(|i| u[i / 4] * w[i] * v[i % 4]).sum();
        let product: f32 = a.iter().zip(&w).map(|(a, w)| a * w).sum();
        for (i, g) in flat(found).iter().enumerate() {
            let expected = a[i] / s - product / (s * s) * u[i / 4] * v[i % 4];
            assert!((g - expected).abs() < 1e-3 * expected.abs().max(1.0), "{i}: {g} {expected}");
        }
    }
}

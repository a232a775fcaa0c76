//! Adam (Kingma and Ba 2015, algorithm 1) on candle variables.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use std::collections::{BTreeMap, HashMap};

struct Slot {
    name: String,
    var: Var,
    m: Vec<f32>,
    v: Vec<f32>,
}

/// Adam's state for a set of variables.
pub struct Adam {
    slots: Vec<Slot>,
    beta1: f64,
    beta2: f64,
    steps: u64,
}

impl Adam {
    pub fn new(vars: Vec<(String, Var)>, (beta1, beta2): (f64, f64)) -> Self {
        let slots = vars
            .into_iter()
            .map(|(name, var)| {
                let n = var.elem_count();
                Slot { name, var, m: vec![0.0; n], v: vec![0.0; n] }
            })
            .collect();
        Self { slots, beta1, beta2, steps: 0 }
    }

    /// One update. A variable without a gradient has gradient 0.
    ///
    /// # Errors
    /// If a gradient is not finite: the message names the variable, and no variable has changed.
    pub fn step(&mut self, grads: &GradStore, learning_rate: f64) -> Result<()> {
        let mut all = Vec::with_capacity(self.slots.len());
        for s in &self.slots {
            let g = match grads.get(s.var.as_tensor()) {
                Some(g) => g.flatten_all()?.to_vec1::<f32>()?,
                None => vec![0.0; s.m.len()],
            };
            if g.iter().any(|v| !v.is_finite()) {
                bail!("the gradient of `{}` is not finite", s.name);
            }
            all.push(g);
        }
        self.steps += 1;
        let t = self.steps as f64;
        let (b1, b2) = (self.beta1 as f32, self.beta2 as f32);
        let scale = (learning_rate / (1.0 - self.beta1.powf(t))) as f32;
        let second = (1.0 / (1.0 - self.beta2.powf(t))) as f32;
        for (s, g) in self.slots.iter_mut().zip(all) {
            let mut p = s.var.flatten_all()?.to_vec1::<f32>()?;
            for i in 0..p.len() {
                s.m[i] = b1 * s.m[i] + (1.0 - b1) * g[i];
                s.v[i] = b2 * s.v[i] + (1.0 - b2) * g[i] * g[i];
                p[i] -= scale * s.m[i] / ((s.v[i] * second).sqrt() + 1e-8);
            }
            s.var.set(&Tensor::from_vec(p, s.var.shape(), s.var.device())?)?;
        }
        Ok(())
    }

    /// Adds the state to a checkpoint under `prefix`.
    pub fn save(&self, prefix: &str, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let cpu = candle_core::Device::Cpu;
        for s in &self.slots {
            out.insert(format!("{prefix}.m.{}", s.name), Tensor::from_slice(&s.m, s.m.len(), &cpu)?);
            out.insert(format!("{prefix}.v.{}", s.name), Tensor::from_slice(&s.v, s.v.len(), &cpu)?);
        }
        out.insert(format!("{prefix}.steps"), Tensor::from_slice(&[self.steps as i64], 1, &cpu)?);
        Ok(())
    }

    /// Takes the state from a checkpoint.
    pub fn restore(&mut self, prefix: &str, from: &HashMap<String, Tensor>) -> Result<()> {
        let get = |name: String| match from.get(&name) {
            Some(t) => Ok(t),
            None => bail!("checkpoint: `{name}` is missing"),
        };
        for s in &mut self.slots {
            let n = s.m.len();
            s.m = get(format!("{prefix}.m.{}", s.name))?.to_vec1()?;
            s.v = get(format!("{prefix}.v.{}", s.name))?.to_vec1()?;
            if s.m.len() != n || s.v.len() != n {
                bail!("checkpoint: state of `{}` has another size", s.name);
            }
        }
        self.steps = get(format!("{prefix}.steps"))?.to_vec1::<i64>()?[0] as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn two_steps_match_the_published_formula() {
        let var = Var::new(&[1.0f32, -2.0], &Device::Cpu).unwrap();
        let mut adam = Adam::new(vec![("x".into(), var.clone())], (0.9, 0.99));
        let (mut p, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
        for t in 1..=2 {
            // loss = sum(x^3) / 3, gradient x^2
            let x = var.as_tensor();
            let loss = ((x * x).unwrap() * x).unwrap().sum_all().unwrap();
            let grads = (loss / 3.0).unwrap().backward().unwrap();
            adam.step(&grads, 0.1).unwrap();
            for i in 0..2 {
                let g = p[i] * p[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.99f64.powi(t)));
                p[i] -= 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        let found = var.to_vec1::<f32>().unwrap();
        for i in 0..2 {
            assert!((f64::from(found[i]) - p[i]).abs() < 1e-5, "{found:?} {p:?}");
        }
    }
}

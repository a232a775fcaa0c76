//! Adam (Kingma and Ba 2015, algorithm 1) on candle variables.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use std::collections::{BTreeMap, HashMap};

struct Slot {
    name: String,
    var: Var,
    /// Where it begins among all parameters, and how many numbers it has.
    place: (usize, usize),
}

impl Slot {
    fn gradient(&self, grads: &GradStore) -> Result<Tensor> {
        match grads.get(self.var.as_tensor()) {
            Some(g) => g.flatten_all(),
            None => self.var.as_tensor().zeros_like()?.flatten_all(),
        }
    }
}

/// First and second moments of all parameters, one after the other.
enum Moments {
    /// One pass of our own on the CPU.
    Host { m: Vec<f32>, v: Vec<f32> },
    /// On a GPU the moments stay there, as one vector each: a launch costs as much for one parameter as for all.
    Device { m: Tensor, v: Tensor },
}

/// Adam's state for a set of variables.
pub struct Adam {
    slots: Vec<Slot>,
    moments: Moments,
    beta1: f64,
    beta2: f64,
    steps: u64,
}

/// Factors of one update.
struct Rates {
    b1: f64,
    b2: f64,
    /// Step size with the first moment's correction.
    scale: f64,
    /// The second moment's correction.
    second: f64,
}

const EPSILON: f64 = 1e-8;

impl Adam {
    /// Zero moments for `vars`, with the decays of both moments.
    ///
    /// # Errors
    /// If candle fails.
    pub fn new(vars: Vec<(String, Var)>, betas: (f64, f64)) -> Result<Self> {
        let host = vars.iter().all(|(_, v)| v.device().is_cpu());
        Self::with_moments(vars, betas, host)
    }

    fn with_moments(vars: Vec<(String, Var)>, (beta1, beta2): (f64, f64), host: bool) -> Result<Self> {
        let device = vars.first().map_or(Device::Cpu, |(_, v)| v.device().clone());
        let mut total = 0;
        let slots = vars
            .into_iter()
            .map(|(name, var)| {
                let place = (total, var.elem_count());
                total += place.1;
                Slot { name, var, place }
            })
            .collect();
        let moments = if host {
            Moments::Host { m: vec![0.0; total], v: vec![0.0; total] }
        } else {
            let zeros = || Tensor::zeros(total, DType::F32, &device);
            Moments::Device { m: zeros()?, v: zeros()? }
        };
        Ok(Self { slots, moments, beta1, beta2, steps: 0 })
    }

    /// One update. A variable without a gradient has gradient 0.
    ///
    /// # Errors
    /// If a gradient is not finite: the message names the variable, and no variable has changed.
    pub fn step(&mut self, grads: &GradStore, learning_rate: f64) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let t = (self.steps + 1) as f64;
        let rates = Rates {
            b1: self.beta1,
            b2: self.beta2,
            scale: learning_rate / (1.0 - self.beta1.powf(t)),
            second: 1.0 / (1.0 - self.beta2.powf(t)),
        };
        match &mut self.moments {
            Moments::Host { m, v } => on_host(&self.slots, (m, v), grads, &rates)?,
            Moments::Device { m, v } => on_device(&self.slots, (m, v), grads, &rates)?,
        }
        self.steps += 1;
        Ok(())
    }

    /// Adds the state to a checkpoint under `prefix`.
    ///
    /// # Errors
    /// If candle fails.
    pub fn save(&self, prefix: &str, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        let cpu = Device::Cpu;
        let (m, v) = match &self.moments {
            Moments::Host { m, v } => {
                (Tensor::from_slice(m, m.len(), &cpu)?, Tensor::from_slice(v, v.len(), &cpu)?)
            }
            Moments::Device { m, v } => (m.to_device(&cpu)?, v.to_device(&cpu)?),
        };
        for s in &self.slots {
            let part = |t: &Tensor| t.narrow(0, s.place.0, s.place.1)?.copy();
            out.insert(format!("{prefix}.m.{}", s.name), part(&m)?);
            out.insert(format!("{prefix}.v.{}", s.name), part(&v)?);
        }
        out.insert(format!("{prefix}.steps"), Tensor::from_slice(&[self.steps as i64], 1, &cpu)?);
        Ok(())
    }

    /// Takes the state from a checkpoint.
    ///
    /// # Errors
    /// If a moment is missing or of another size.
    pub fn restore(&mut self, prefix: &str, from: &HashMap<String, Tensor>) -> Result<()> {
        let get = |name: String| match from.get(&name) {
            Some(t) => Ok(t),
            None => bail!("checkpoint: `{name}` is missing"),
        };
        let mut all = [Vec::new(), Vec::new()];
        for (moment, all) in ["m", "v"].iter().zip(&mut all) {
            for s in &self.slots {
                let part = get(format!("{prefix}.{moment}.{}", s.name))?.to_vec1::<f32>()?;
                if part.len() != s.place.1 {
                    bail!("checkpoint: state of `{}` has another size", s.name);
                }
                all.extend(part);
            }
        }
        let [first, second] = all;
        match &mut self.moments {
            Moments::Host { m, v } => (*m, *v) = (first, second),
            Moments::Device { m, v } => {
                let device = m.device().clone();
                let n = first.len();
                *m = Tensor::from_vec(first, n, &device)?;
                *v = Tensor::from_vec(second, n, &device)?;
            }
        }
        self.steps = get(format!("{prefix}.steps"))?.to_vec1::<i64>()?[0] as u64;
        Ok(())
    }
}

fn on_host(slots: &[Slot], (m, v): (&mut [f32], &mut [f32]), grads: &GradStore, r: &Rates) -> Result<()> {
    let mut all = Vec::with_capacity(slots.len());
    for s in slots {
        let g = s.gradient(grads)?.to_vec1::<f32>()?;
        if g.iter().any(|v| !v.is_finite()) {
            bail!("the gradient of `{}` is not finite", s.name);
        }
        all.push(g);
    }
    let (b1, b2, scale, second) = (r.b1 as f32, r.b2 as f32, r.scale as f32, r.second as f32);
    for (s, g) in slots.iter().zip(all) {
        let (at, n) = s.place;
        let (m, v) = (&mut m[at..at + n], &mut v[at..at + n]);
        let mut p = s.var.flatten_all()?.to_vec1::<f32>()?;
        for i in 0..n {
            m[i] = b1 * m[i] + (1.0 - b1) * g[i];
            v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
            p[i] -= scale * m[i] / ((v[i] * second).sqrt() + EPSILON as f32);
        }
        s.var.set(&Tensor::from_vec(p, s.var.shape(), s.var.device())?)?;
    }
    Ok(())
}

fn on_device(slots: &[Slot], (m, v): (&mut Tensor, &mut Tensor), grads: &GradStore, r: &Rates) -> Result<()> {
    let parts = slots.iter().map(|s| Ok(s.gradient(grads)?.detach())).collect::<Result<Vec<_>>>()?;
    let g = Tensor::cat(&parts, 0)?;
    // 0 times a finite number is 0: one number crosses the bus instead of all.
    let finite = |g: &Tensor| candle_core::Result::Ok((g * 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0);
    if !finite(&g)? {
        for (s, g) in slots.iter().zip(&parts) {
            if !finite(g)? {
                bail!("the gradient of `{}` is not finite", s.name);
            }
        }
    }
    let first = if r.b1 == 0.0 { g.clone() } else { ((&*m * r.b1)? + (&g * (1.0 - r.b1))?)? };
    let second = ((&*v * r.b2)? + (g.sqr()? * (1.0 - r.b2))?)?;
    let step = ((&first * r.scale)? / ((&second * r.second)?.sqrt()? + EPSILON)?)?;
    for s in slots {
        let step = step.narrow(0, s.place.0, s.place.1)?.reshape(s.var.shape())?;
        s.var.set(&(s.var.as_detached_tensor() - step)?)?;
    }
    (*m, *v) = (first, second);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cubes(var: &Var) -> GradStore {
        // loss = sum(x^3) / 3, gradient x^2
        let x = var.as_tensor();
        let loss = ((x * x).unwrap() * x).unwrap().sum_all().unwrap();
        (loss / 3.0).unwrap().backward().unwrap()
    }

    #[test]
    fn steps_match_the_published_formula_on_either_path() {
        for (host, beta1) in [(true, 0.9), (false, 0.9), (false, 0.0)] {
            let var = Var::new(&[1.0f32, -2.0], &Device::Cpu).unwrap();
            let idle = Var::new(&[[3.0f32]], &Device::Cpu).unwrap();
            let vars = vec![("idle".into(), idle.clone()), ("x".into(), var.clone())];
            let mut adam = Adam::with_moments(vars.clone(), (beta1, 0.99), host).unwrap();
            let (mut p, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
            for t in 1..=3 {
                adam.step(&cubes(&var), 0.1).unwrap();
                // A checkpoint in the middle changes nothing.
                let mut saved = BTreeMap::new();
                adam.save("a", &mut saved).unwrap();
                adam = Adam::with_moments(vars.clone(), (beta1, 0.99), host).unwrap();
                adam.restore("a", &saved.into_iter().collect()).unwrap();
                for i in 0..2 {
                    let g = p[i] * p[i];
                    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                    v[i] = 0.99 * v[i] + 0.01 * g * g;
                    let (mh, vh) = (m[i] / (1.0 - beta1.powi(t)), v[i] / (1.0 - 0.99f64.powi(t)));
                    p[i] -= 0.1 * mh / (vh.sqrt() + EPSILON);
                }
            }
            let found = var.to_vec1::<f32>().unwrap();
            for i in 0..2 {
                assert!((f64::from(found[i]) - p[i]).abs() < 1e-5, "host {host}: {found:?} {p:?}");
            }
            assert_eq!(idle.to_vec2::<f32>().unwrap(), [[3.0]]);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named_and_changes_nothing() {
        for (host, wild) in [(true, f32::NAN), (false, f32::NAN), (false, f32::INFINITY)] {
            let calm = Var::new(&[1.0f32], &Device::Cpu).unwrap();
            let var = Var::new(&[1.0f32, wild], &Device::Cpu).unwrap();
            let vars = vec![("calm".into(), calm.clone()), ("wild".into(), var.clone())];
            let mut adam = Adam::with_moments(vars, (0.0, 0.99), host).unwrap();
            let sum = (calm.as_tensor().sum_all().unwrap()
                + var.as_tensor().sqr().unwrap().sum_all().unwrap())
            .unwrap();
            let error = adam.step(&sum.backward().unwrap(), 0.1).unwrap_err().to_string();
            assert!(error.contains("`wild` is not finite"), "{error}");
            assert_eq!((calm.to_vec1::<f32>().unwrap(), adam.steps), (vec![1.0], 0));
        }
    }
}

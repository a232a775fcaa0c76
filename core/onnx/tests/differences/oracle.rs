//! Logits and the vector-Jacobian product of a case, by the interpreter and central differences.

use super::{Case, SAMPLES};
use crate::cases::seed_values;
use crate::reference::{
    Interpreter,
    tensor::{R, Tensor},
};

/// Step of the differences. Their error is of order `STEP^2` (4e-8) from the third derivative and 1e-16 / `STEP`
/// from rounding: far below what float32 leaves of a gradient.
const STEP: f64 = 2e-4;
/// A slope that changes by more than this part of the largest slope within two steps counts as a kink.
const KINK: f64 = 0.005;

/// What a batch of a case should give.
pub struct Batch {
    pub n: usize,
    pub x: Vec<f32>,
    /// The weights of the logits, `[N, K]`.
    pub seed: Vec<f32>,
    pub logits: Tensor,
    /// Gradient of `sum(seed * logits)` with respect to `x`.
    pub gradient: Vec<f64>,
}

/// Expected values for a batch of all images and for a batch of one.
pub struct Oracle {
    pub batches: Vec<Batch>,
}

impl Oracle {
    /// `None` if an image lies on a kink.
    pub fn of(case: &Case) -> R<Option<Self>> {
        let size: usize = case.shape.iter().product();
        let mut exact = Interpreter::new(&case.model)?;
        let mut batches = Vec::new();
        for (n, first) in [(SAMPLES, 0), (1, 1)] {
            let x = case.x[first * size..(first + n) * size].to_vec();
            let shape = [&[n], &case.shape[..]].concat();
            let mut at = Tensor::floats(&shape, x.iter().map(|v| f64::from(*v)).collect());
            exact.straight_through = false;
            let logits = exact.run(&[("x", &at)], "logits")?;
            if logits.shape[0] != n {
                return Err(format!("logits {:?} for {n} images", logits.shape));
            }
            let seed = seed_values(&case.name, logits.data.len());
            // Where values are quantised, the gradient is that of clipping (straight through).
            exact.straight_through = true;
            let score = |t: &Tensor| -> R<f64> {
                let y = exact.run(&[("x", t)], "logits")?;
                Ok(y.data.iter().zip(&seed).map(|(y, s)| y * f64::from(*s)).sum())
            };
            let middle = score(&at)?;
            let mut gradient = Vec::with_capacity(x.len());
            let mut bend: f64 = 0.0;
            for i in 0..x.len() {
                let v = at.data[i];
                at.data[i] = v + STEP;
                let above = score(&at)?;
                at.data[i] = v - STEP;
                let below = score(&at)?;
                at.data[i] = v;
                gradient.push((above - below) / (2.0 * STEP));
                bend = bend.max((above - 2.0 * middle + below).abs() / STEP);
            }
            let largest = gradient.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            // Not a number is not smooth either.
            let smooth = bend <= KINK * largest && logits.data.iter().all(|v| v.is_finite());
            if !smooth {
                return Ok(None);
            }
            batches.push(Batch { n, x, seed, logits, gradient });
        }
        Ok(Some(Self { batches }))
    }
}

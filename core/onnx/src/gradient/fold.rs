//! Factors per channel that go into the weight of a convolution of the backward graph instead of a product of their own.
//!
//! Only where nothing else sees the convolution's result: it is the gradient of one tensor, that tensor was not asked for,
//! and no node uses it yet.

use super::emit::Emitter;
use crate::constant::{Constant, Values, float_tensor};
use std::collections::HashMap;

/// What is known of the convolutions written so far.
#[derive(Debug, Default)]
pub struct Folds {
    /// By output: convolutions whose weight was written for them alone.
    convolutions: HashMap<String, Fold>,
    /// Of how many tensors a written one is the gradient, as far as it was said.
    holders: HashMap<String, usize>,
}

/// Where a factor may go.
#[derive(Debug, Clone)]
struct Fold {
    /// The weight, among the constants written so far.
    weight: String,
    /// The tensor that a gate lets through, where there is one between the convolution and this tensor.
    gated: Option<String>,
}

impl Emitter<'_> {
    /// Remembers that `gradient` is the gradient of one more tensor (or of one asked for, which must stay as it is).
    pub fn hold(&mut self, gradient: &str) {
        *self.folds.holders.entry(gradient.to_owned()).or_default() += 1;
    }

    /// Remembers that `output` is a convolution with the constant `weight`, whose first axis are the channels of `output`.
    pub fn remember_convolution(&mut self, output: &str, weight: &str) {
        let fold = Fold { weight: weight.to_owned(), gated: None };
        self.folds.convolutions.insert(output.to_owned(), fold);
    }

    /// Remembers that `output` is `input` or 0, entry by entry.
    pub fn remember_gate(&mut self, output: &str, input: &str) {
        let known = &mut self.folds.convolutions;
        if let Some(fold) = known.get(input).filter(|f| f.gated.is_none()).cloned() {
            known.insert(output.to_owned(), Fold { gated: Some(input.to_owned()), ..fold });
        }
    }

    /// Multiplies `a` by `factor` per channel, by scaling the weight of the convolution that made it where nothing else
    /// uses that convolution, else by a product. `shape` is what `factor` needs to broadcast.
    pub fn scale_channels(&mut self, a: &str, factor: &[f32], shape: &[usize]) -> String {
        let uses = |t: &str| self.nodes.iter().flat_map(|n| &n.input).filter(|i| *i == t).count();
        let fold = self.folds.convolutions.get(a).filter(|f| {
            // It is the gradient of one tensor and not used yet, as is the convolution but for its gate.
            let held = |t: &str| self.folds.holders.get(t).is_some_and(|n| *n == 1);
            let gate = f.gated.as_ref().is_none_or(|g| uses(g) == 1 && held(g));
            uses(a) == 0 && held(a) && gate && uses(&f.weight) == 1
        });
        if let Some(weight) = fold.map(|f| f.weight.clone())
            && let Some(t) = self.constants.iter_mut().find(|t| t.name.as_ref() == Some(&weight))
            && t.dims.first() == Some(&(factor.len() as i64))
            && let Ok(Constant { shape, values: Values::Float(mut w) }) = Constant::decode(t)
        {
            let row = w.len() / factor.len().max(1);
            for (w, f) in w.chunks_exact_mut(row).zip(factor) {
                w.iter_mut().for_each(|w| *w *= f);
            }
            *t = float_tensor(&weight, &shape, &w);
            self.folds.convolutions.remove(a);
            return a.to_owned();
        }
        let factor = self.floats(shape, factor);
        self.mul(a, &factor)
    }
}

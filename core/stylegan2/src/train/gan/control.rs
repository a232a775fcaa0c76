//! Adaptive control of the augmentation (Karras et al. 2020b, arXiv 2006.06676, section 3).
//!
//! `r_t = E[sign(D(x))]` over real images tells how far D overfits: 0 not at all, 1 entirely. Every few steps p moves by a
//! fixed amount towards more augmentation where r_t is above its target, towards less where it is below.

use crate::train::augment::Pipeline;
use candle_core::{Device, Result, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// `[augment]`: what D sees goes through random transformations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AugmentSection {
    /// The transformations.
    pub pipeline: Pipeline,
    /// Their probability at the start.
    #[serde(default)]
    pub p: f64,
    /// Whether p follows r_t; else it stays as it is.
    #[serde(default = "yes")]
    pub adapt: bool,
    /// r_t to be kept.
    #[serde(default = "target")]
    pub target: f64,
    /// Steps between adjustments of p.
    #[serde(default = "interval")]
    pub interval: u64,
    /// Thousands of images in which p can go from 0 to 1.
    #[serde(default = "speed")]
    pub speed: f64,
}

fn yes() -> bool {
    true
}
fn target() -> f64 {
    0.6
}
fn interval() -> u64 {
    4
}
fn speed() -> f64 {
    500.0
}

impl AugmentSection {
    /// What must hold, and what to say where it does not.
    pub fn rules(&self) -> [(bool, &'static str); 3] {
        [
            ((0.0..=1.0).contains(&self.p), "augment.p: expected 0 to 1"),
            ((-1.0..=1.0).contains(&self.target), "augment.target: expected -1 to 1"),
            (self.interval > 0 && self.speed > 0.0, "augment: interval and speed must be positive"),
        ]
    }
}

/// Name of the state in a checkpoint.
const NAME: &str = "augment.control";

/// p and the running mean from which r_t comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Probability of each transformation.
    pub p: f64,
    /// r_t over the last whole interval, NaN before its end.
    pub r_t: f64,
    sum: f64,
    count: f64,
}

impl Control {
    pub fn new(section: Option<&AugmentSection>) -> Self {
        Self { p: section.map_or(0.0, |a| a.p), r_t: f64::NAN, sum: 0.0, count: 0.0 }
    }

    /// Takes in the mean sign of D's logits on a step's `batch` real images. Without a section r_t is only measured.
    pub fn observe(&mut self, sign: f64, batch: usize, section: Option<&AugmentSection>) {
        self.sum += sign;
        self.count += 1.0;
        let steps = section.map_or_else(interval, |a| a.interval);
        if self.count < steps as f64 {
            return;
        }
        self.r_t = self.sum / self.count;
        (self.sum, self.count) = (0.0, 0.0);
        if let Some(a) = section.filter(|a| a.adapt) {
            let amount = batch as f64 * steps as f64 / (a.speed * 1000.0);
            let way = if self.r_t > a.target { 1.0 } else { -1.0 };
            self.p = (self.p + way * amount).clamp(0.0, 1.0);
        }
    }

    /// The state for a checkpoint.
    pub fn save(&self) -> Result<(String, Tensor)> {
        let state = [self.p, self.r_t, self.sum, self.count];
        Ok((NAME.into(), Tensor::from_slice(&state, state.len(), &Device::Cpu)?))
    }

    /// The state from a checkpoint.
    pub fn restore(from: &HashMap<String, Tensor>) -> Result<Self> {
        let Some(t) = from.get(NAME) else { bail!("checkpoint: `{NAME}` is missing") };
        match t.to_vec1::<f64>()?[..] {
            [p, r_t, sum, count] => Ok(Self { p, r_t, sum, count }),
            _ => bail!("checkpoint: `{NAME}` has {:?} numbers, expected 4", t.dims()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::augment::Preset;

    #[test]
    fn p_follows_r_t_at_the_papers_speed() {
        let mut section = AugmentSection {
            pipeline: Preset::Bgc.into(),
            p: 0.0,
            adapt: true,
            target: 0.6,
            interval: 4,
            speed: 500.0,
        };
        let mut control = Control::new(Some(&section));
        for step in 0..2000 {
            // Overfitted from the start: p is 0.256 after 2000 steps of 64 images, 128 of 500 thousand.
            control.observe(0.9, 64, Some(&section));
            if step == 2 {
                assert_eq!((control.p, control.r_t.is_nan()), (0.0, true));
            }
        }
        assert!((control.p - 0.256).abs() < 1e-9, "{control:?}");
        // The mean over the interval decides, not its last step.
        let before = control.p;
        for sign in [1.0, 1.0, 1.0, -1.0] {
            control.observe(sign, 64, Some(&section));
        }
        assert_eq!(control.r_t, 0.5);
        assert!(control.p < before);
        let (name, state) = control.save().unwrap();
        assert_eq!(Control::restore(&HashMap::from([(name, state)])).unwrap(), control);
        for _ in 0..100_000 {
            control.observe(-0.5, 64, Some(&section));
        }
        assert_eq!(control.p, 0.0);
        section.adapt = false;
        section.p = 0.3;
        let mut fixed = Control::new(Some(&section));
        (0..40).for_each(|_| fixed.observe(1.0, 64, Some(&section)));
        assert_eq!((fixed.p, fixed.r_t), (0.3, 1.0));
        let mut none = Control::new(None);
        (0..4).for_each(|_| none.observe(0.25, 64, None));
        assert_eq!((none.p, none.r_t), (0.0, 0.25));
    }
}

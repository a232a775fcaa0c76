//! Signs that a training has gone wrong although all its numbers are finite.

use super::step::EVERY;
use candle_core::{DType, Result, Tensor};

/// A generator whose images vary by less than this share of the data's variance has collapsed,
const COLLAPSED: f64 = 0.01;
/// if they once varied by more than this share: a new generator's images are all alike.
const ALIVE: f64 = 0.1;
/// D's loss below which it has nothing left to learn.
const SATURATED: f64 = 1e-4;
/// Looks in a row that must agree.
const COLLAPSED_LOOKS: u32 = 8;
const SATURATED_LOOKS: u32 = 64;

/// Variance between the images of a batch `[N, C, H, W]`, N at least 2, averaged over pixels.
pub fn spread(images: &Tensor) -> Result<f64> {
    let images = images.detach();
    let off = images.broadcast_sub(&images.mean_keepdim(0)?)?;
    off.sqr()?.mean_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()
}

/// What was seen so far in this session.
#[derive(Debug, Clone)]
pub struct Health {
    /// Variance between real images.
    data: f64,
    alive: bool,
    collapsed: u32,
    saturated: u32,
}

impl Health {
    pub fn new(data: f64) -> Self {
        Self { data, alive: false, collapsed: 0, saturated: 0 }
    }

    /// Takes in a look at a step: the variance between its generated images, and D's loss. Says what is wrong, once it has
    /// been so for long.
    pub fn look(&mut self, spread: f64, d_loss: f64) -> Option<String> {
        self.alive |= spread > ALIVE * self.data;
        let count = |holds: bool, n: u32| if holds { n + 1 } else { 0 };
        self.collapsed = count(self.alive && spread < COLLAPSED * self.data, self.collapsed);
        self.saturated = count(d_loss < SATURATED, self.saturated);
        if self.collapsed >= COLLAPSED_LOOKS {
            return Some(format!(
                "the generator has collapsed: for {} steps the variance between its images has been below {:.0} % of the \
                 data's ({spread:.1e} of {:.1e})",
                u64::from(self.collapsed) * EVERY,
                100.0 * COLLAPSED,
                self.data
            ));
        }
        (self.saturated >= SATURATED_LOOKS).then(|| {
            format!(
                "the discriminator is saturated: its loss has been below {SATURATED:e} for {} steps",
                u64::from(self.saturated) * EVERY
            )
        })
    }

    /// True while the last looks do not count as good: no checkpoint should be written over an earlier one.
    pub fn suspicious(&self) -> bool {
        self.collapsed > 0 || 2 * self.saturated > SATURATED_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn spread_is_the_variance_between_images() {
        let x = Tensor::from_slice(&[1f32, 5.0, 3.0, 5.0], (2, 1, 1, 2), &Device::Cpu).unwrap();
        assert_eq!(spread(&x).unwrap(), 0.5);
    }

    #[test]
    fn only_a_lasting_state_counts() {
        let mut h = Health::new(0.5);
        // A new generator draws one grey image.
        assert!((0..100).all(|_| h.look(1e-4, 1.0).is_none()) && !h.suspicious());
        assert!(h.look(0.3, 1.0).is_none());
        for _ in 0..COLLAPSED_LOOKS - 1 {
            assert!(h.look(1e-3, 1.0).is_none());
        }
        assert!(h.suspicious());
        assert!(h.look(0.02, 1.0).is_none() && !h.suspicious());
        let verdicts: Vec<_> = (0..COLLAPSED_LOOKS).map(|_| h.look(1e-3, 1.0)).collect();
        assert!(verdicts[..COLLAPSED_LOOKS as usize - 1].iter().all(Option::is_none));
        let said = verdicts[COLLAPSED_LOOKS as usize - 1].as_ref().unwrap();
        assert!(said.contains("collapsed") && said.contains("128 steps"), "{said}");
        let mut h = Health::new(0.5);
        assert!((1..SATURATED_LOOKS).all(|_| h.look(0.3, 0.0).is_none()));
        assert!(h.look(0.3, 0.0).unwrap().contains("saturated"));
    }
}

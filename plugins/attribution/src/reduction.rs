//! From a value per channel to a value per pixel.

use serde::Deserialize;

/// How the channels of a gradient become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// `sum_c v_c`: the change of the score when all channels of the pixel rise together. Signed, and linear, so that
    /// sums over pixels keep their meaning: the default.
    #[default]
    Sum,
    /// `max_c |v_c|`: how strongly the score reacts to the pixel in any channel (Simonyan et al. 2014, section 3.1).
    /// Never negative.
    MaxAbs,
}

impl Reduction {
    /// `[C, H, W]` to `[H, W]`, `plane` = H W values per channel.
    pub fn apply(self, values: &[f64], plane: usize) -> Vec<f64> {
        let mut map = vec![0.0f64; plane];
        for channel in values.chunks_exact(plane) {
            for (m, v) in map.iter_mut().zip(channel) {
                *m = match self {
                    Self::Sum => *m + v,
                    Self::MaxAbs => m.max(v.abs()),
                };
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_added_or_the_strongest_is_taken() {
        let values = [1.0, -2.0, -3.0, 0.5, 1.0, 1.0];
        assert_eq!(Reduction::Sum.apply(&values, 2), [-1.0, -0.5]);
        assert_eq!(Reduction::MaxAbs.apply(&values, 2), [3.0, 2.0]);
    }
}

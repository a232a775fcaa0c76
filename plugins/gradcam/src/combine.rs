//! One map of several layers.

use crate::api::resize::{Filter, plane};

/// A map `[h, w]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// (h, w)
    pub size: (usize, usize),
    /// Row by row.
    pub values: Vec<f32>,
}

/// The mean of several layers' maps, signed. Each is divided by its largest absolute value, so that no layer
/// outweighs the others, and resampled to the grid of the finest (bilinear, half-pixel centres). A single map stays
/// raw.
///
/// The pytorch-grad-cam library cuts negative values off first, scales to [0, 1] and resamples to the image.
///
/// # Panics
/// Without a map.
pub fn mean(mut maps: Vec<Map>) -> Map {
    if maps.len() == 1 {
        return maps.remove(0);
    }
    let finest = maps.iter().map(|m| m.size).max_by_key(|(h, w)| h * w).expect("at least one map");
    let mut sum = vec![0f64; finest.0 * finest.1];
    for map in &maps {
        let largest = map.values.iter().fold(0f32, |a, v| a.max(v.abs()));
        if largest == 0.0 {
            continue;
        }
        let resampled = plane(&map.values, map.size, finest, Filter::Bilinear);
        let share = 1.0 / (f64::from(largest) * maps.len() as f64);
        sum.iter_mut().zip(&resampled).for_each(|(s, v)| *s += share * f64::from(*v));
    }
    Map { size: finest, values: sum.into_iter().map(|v| v as f32).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(size: (usize, usize), values: &[f32]) -> Map {
        Map { size, values: values.to_vec() }
    }

    #[test]
    fn layers_weigh_alike_on_the_finest_grid() {
        assert_eq!(mean(vec![map((1, 2), &[-8.0, 4.0])]), map((1, 2), &[-8.0, 4.0]));
        // [-1, 0.5] enlarged to four is [-1, -0.625, 0.125, 0.5].
        let both = mean(vec![map((1, 2), &[-800.0, 400.0]), map((1, 4), &[0.0, 0.1, 0.2, -0.4])]);
        assert_eq!(both.size, (1, 4));
        for (v, e) in both.values.iter().zip([-0.5, -0.1875, 0.3125, -0.25]) {
            assert!((v - e).abs() < 1e-6, "{both:?}");
        }
        // A flat layer says nothing, and is counted.
        assert_eq!(mean(vec![map((1, 1), &[0.0]), map((1, 2), &[1.0, -2.0])]).values, [0.25, -0.5]);
    }
}

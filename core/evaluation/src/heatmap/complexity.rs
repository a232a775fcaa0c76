//! How much of the map a person has to take in.

use super::values;
use shiftlens_api::Heatmap;

/// Gini index of the absolute values (Hurley and Rickard 2009, table I): with `c` ascending, `1 - 2 sum_k c_k / ‖c‖₁
/// (n - k + 1/2) / n`, k from 1. 0 if all are equal, `1 - 1/n` if one holds everything. `None` if all are 0, or there are
/// none.
pub fn gini(values: &[f64]) -> Option<f64> {
    let mut c: Vec<f64> = values.iter().map(|v| v.abs()).collect();
    c.sort_by(f64::total_cmp);
    let (n, sum) = (c.len() as f64, c.iter().sum::<f64>());
    let weighted: f64 = c.iter().enumerate().map(|(k, c)| c * (n - k as f64 - 0.5)).sum();
    (sum > 0.0).then(|| 1.0 - 2.0 * weighted / (sum * n))
}

/// [`gini`] of a map: higher is sparser. `None` for a map that is 0.
pub fn sparseness(map: &Heatmap) -> Option<f64> {
    gini(&values(map))
}

/// Entropy in nats of the shares `|Φ_p| / sum |Φ|` (Bhatt et al. 2020): lower is simpler, at most `ln n`. `None` for a map
/// that is 0.
pub fn complexity(map: &Heatmap) -> Option<f64> {
    let sum: f64 = map.as_slice().iter().map(|v| f64::from(v.abs())).sum();
    let share = |v: &f32| f64::from(v.abs()) / sum;
    let one = |s: f64| if s > 0.0 { -s * s.ln() } else { 0.0 };
    (sum > 0.0).then(|| map.as_slice().iter().map(|v| one(share(v))).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::close;

    fn map(data: &[f32]) -> Heatmap {
        Heatmap::new(1, data.len(), data.to_vec()).unwrap()
    }

    #[test]
    fn gini_is_half_the_relative_mean_difference() {
        // An independent form: sum of |c_i - c_j| over all pairs, over 2 n² times the mean.
        let values = [0.3, -1.5, 0.0, 2.0, 0.7, -0.7];
        let n = values.len() as f64;
        let pairs: f64 =
            values.iter().flat_map(|a| values.iter().map(move |b: &f64| (a.abs() - b.abs()).abs())).sum();
        let mean = values.iter().map(|v| v.abs()).sum::<f64>() / n;
        close(gini(&values).unwrap(), pairs / (2.0 * n * n * mean), 1e-12);
        close(gini(&[3.0; 5]).unwrap(), 0.0, 1e-12);
        close(gini(&[0.0, 0.0, -2.0, 0.0]).unwrap(), 0.75, 1e-12);
        assert_eq!((gini(&[0.0; 3]), gini(&[])), (None, None));
        close(sparseness(&map(&[1.0, 0.0])).unwrap(), 0.5, 1e-12);
    }

    #[test]
    fn entropy_of_shares() {
        close(complexity(&map(&[0.5; 8])).unwrap(), 8f64.ln(), 1e-12);
        assert_eq!(complexity(&map(&[0.0, -3.0, 0.0])), Some(0.0));
        close(complexity(&map(&[1.0, -1.0, 2.0])).unwrap(), 1.5 * 2f64.ln(), 1e-12);
        assert_eq!(complexity(&map(&[0.0; 3])), None);
    }
}

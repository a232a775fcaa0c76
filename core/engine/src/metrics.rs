//! Figures of merit. Everything is computed in f64; ties are treated as the textbooks do.

pub use shiftlens_evaluation::rank::{auc, mean, pearson, spearman};

/// Share of scores on the right side of `threshold` (at or above is positive); `None` if empty.
pub fn accuracy(scores: &[f64], labels: &[bool], threshold: f64) -> Option<f64> {
    let right = scores.iter().zip(labels).filter(|(s, l)| (**s >= threshold) == **l).count();
    (!labels.is_empty()).then(|| right as f64 / labels.len() as f64)
}

/// Median, the mean of the middle two for an even count; `None` if empty.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}

/// Cosine of the angle between two vectors; `None` if either is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    (norm > 0.0).then(|| dot(a, b) / norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_stats;

    fn numbers(v: &serde_json::Value) -> Vec<f64> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    #[test]
    fn auc_agrees_with_scikit_learn() {
        let golden = golden_stats();
        let cases = golden["auc_cases"].as_array().unwrap();
        assert_eq!(cases.len(), 10);
        for case in cases {
            let labels: Vec<bool> = numbers(&case["labels"]).iter().map(|l| *l == 1.0).collect();
            let got = auc(&numbers(&case["scores"]), &labels).unwrap();
            assert!((got - case["auc"].as_f64().unwrap()).abs() < 1e-12, "{case}");
        }
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
    }

    #[test]
    fn correlations_agree_with_scipy() {
        let golden = golden_stats();
        for case in golden["rank_correlation"].as_array().unwrap() {
            let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
            assert!((spearman(&a, &b).unwrap() - case["spearman"].as_f64().unwrap()).abs() < 1e-12);
            assert!((pearson(&a, &b).unwrap() - case["pearson"].as_f64().unwrap()).abs() < 1e-12);
        }
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
    }

    #[test]
    fn small_ones() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(accuracy(&[0.5, 0.4, 0.6, 0.1], &[true, true, false, false], 0.5), Some(0.5));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), Some(0.0));
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 2.0]), None);
    }
}

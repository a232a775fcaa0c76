//! Figures of merit. Everything is computed in f64; ties are treated as the textbooks do.

/// Ranks from 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let mut to = from + 1;
        while to < order.len() && values[order[to]] == values[order[from]] {
            to += 1;
        }
        let mean = (from + 1 + to) as f64 / 2.0;
        order[from..to].iter().for_each(|&i| ranks[i] = mean);
        from = to;
    }
    ranks
}

/// Area under the ROC curve: the share of (positive, negative) pairs that the score puts in the right order, ties
/// counting a half (Mann and Whitney 1947). `None` unless both classes are present.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let positives = labels.iter().filter(|l| **l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let sum: f64 = ranks(scores).iter().zip(labels).filter(|(_, l)| **l).map(|(r, _)| r).sum();
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Pearson's correlation; `None` if either side does not vary.
pub fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ma, mb) = (mean(a)?, mean(b)?);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma).powi(2);
        bb += (y - mb).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

/// Spearman's rank correlation: Pearson's of the ranks; `None` if either side does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// Share of scores on the right side of `threshold` (at or above is positive); `None` if empty.
pub fn accuracy(scores: &[f64], labels: &[bool], threshold: f64) -> Option<f64> {
    let right = scores.iter().zip(labels).filter(|(s, l)| (**s >= threshold) == **l).count();
    (!labels.is_empty()).then(|| right as f64 / labels.len() as f64)
}

/// Arithmetic mean; `None` if empty.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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

//! Ranks, correlations and the area under the ROC curve. Ties share the mean of their ranks.

/// Ranks from 1, ascending; equal values share the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    for (tied, mean) in ties(values) {
        tied.into_iter().for_each(|i| ranks[i] = mean);
    }
    ranks
}

/// The sets of equal values, ascending: their indices, and the rank that they share.
pub(crate) fn ties(values: &[f64]) -> Vec<(Vec<usize>, f64)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut sets = Vec::new();
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        sets.push((tied.to_vec(), before as f64 + (tied.len() + 1) as f64 / 2.0));
        before += tied.len();
    }
    sets
}

/// Arithmetic mean; `None` if empty.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Pearson's correlation of two lists of one length; `None` if either does not vary.
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

/// Spearman's rank correlation: Pearson's of the ranks; `None` if either list does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// Area under the ROC curve: the share of (positive, negative) pairs that the score puts in the right order, ties counting a
/// half (Mann and Whitney 1947). `None` unless both classes are present.
pub fn auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let positives = labels.iter().filter(|l| **l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let sum: f64 = ranks(scores).iter().zip(labels).filter(|(_, l)| **l).map(|(r, _)| r).sum();
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// The value below which a share `q` of the sorted, non-empty `values` lies, linear between two of them (definition 7 of
/// Hyndman and Fan 1996).
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let place = q * (values.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    values[low] + part * (values[(low + 1).min(values.len() - 1)] - values[low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, stats};

    #[test]
    fn ties_share_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(ranks(&[]), [0.0; 0]);
    }

    #[test]
    fn correlations_agree_with_scipy() {
        let cases = stats()["rank_correlation"].as_array().unwrap().clone();
        assert!(cases.len() >= 4);
        for case in &cases {
            let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
            close(spearman(&a, &b).unwrap(), case["spearman"].as_f64().unwrap(), 1e-12);
            close(pearson(&a, &b).unwrap(), case["pearson"].as_f64().unwrap(), 1e-12);
        }
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
    }

    #[test]
    fn areas_are_those_of_scikit_learn() {
        let cases = stats()["auc_cases"].as_array().unwrap().clone();
        assert_eq!(cases.len(), 10);
        for case in &cases {
            let labels: Vec<bool> = numbers(&case["labels"]).iter().map(|l| *l == 1.0).collect();
            close(auc(&numbers(&case["scores"]), &labels).unwrap(), case["auc"].as_f64().unwrap(), 1e-12);
        }
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
    }

    #[test]
    fn quantiles_are_linear_between_values() {
        let v = [1.0, 2.0, 4.0, 8.0];
        assert_eq!((quantile(&v, 0.0), quantile(&v, 0.5), quantile(&v, 1.0)), (1.0, 3.0, 8.0));
        close(quantile(&v, 0.9), 4.0 + 0.7 * 4.0, 1e-12);
    }
}

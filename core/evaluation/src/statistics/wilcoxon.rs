//! The signed-rank test of paired differences (Wilcoxon 1945).

use super::special::two_sided;
use crate::rank::ties;
use serde::{Deserialize, Serialize};

/// Without ties, up to this many differences have their exact distribution: 2⁵⁰ patterns are counted exactly in f64.
const EXACT: usize = 50;

/// What the test answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Wilcoxon {
    /// Differences that are not 0; zeros are dropped, as Wilcoxon did.
    pub n: usize,
    /// Sum of the ranks of positive differences.
    pub positive: f64,
    /// Sum of the ranks of negative differences.
    pub negative: f64,
    /// Two-sided p value.
    pub p: f64,
    /// The smallest p value that this many differences (with these ties) could have given.
    pub least: f64,
    /// True if the distribution is exact; otherwise it is the normal limit with corrections for ties and continuity.
    pub exact: bool,
}

/// Are the differences, which are finite and independent of each other, spread symmetrically around 0? `None` if all are 0.
pub fn wilcoxon(differences: &[f64]) -> Option<Wilcoxon> {
    let d: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    if d.is_empty() {
        return None;
    }
    let n = d.len();
    let sizes: Vec<f64> = d.iter().map(|d| d.abs()).collect();
    let tied = ties(&sizes);
    let positive: f64 =
        tied.iter().map(|(set, rank)| set.iter().filter(|i| d[**i] > 0.0).count() as f64 * rank).sum();
    let total = (n * (n + 1)) as f64 / 2.0;
    let negative = total - positive;
    let exact = n <= EXACT && tied.len() == n && n == differences.len();
    let least_of_sums = positive.min(negative);
    let (p, least) = if exact {
        // Without ties the sums are whole.
        (exact_p(n, least_of_sums as usize), exact_p(n, 0))
    } else {
        let excess: f64 = tied.iter().map(|(set, _)| set.len() as f64).map(|t| t * t * t - t).sum();
        let variance = (n * (n + 1) * (2 * n + 1)) as f64 / 24.0 - excess / 48.0;
        // The sums move in steps of at least a half and mostly of one: half a step nearer to the middle, never beyond it.
        let p = |sum: f64| two_sided((total / 2.0 - sum - 0.5).max(0.0) / variance.sqrt());
        (p(least_of_sums), p(0.0))
    };
    Some(Wilcoxon { n, positive, negative, p, least, exact })
}

/// Twice the share of sign patterns whose rank sum is at most `sum`, at most 1.
fn exact_p(n: usize, sum: usize) -> f64 {
    // counts[s]: subsets of the ranks so far with sum s.
    let mut counts = vec![0f64; n * (n + 1) / 2 + 1];
    counts[0] = 1.0;
    for rank in 1..=n {
        for s in (rank..counts.len()).rev() {
            counts[s] += counts[s - rank];
        }
    }
    let below: f64 = counts[..=sum].iter().sum();
    (2.0 * below / 2f64.powi(n as i32)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, oracle};

    #[test]
    fn p_values_are_scipys() {
        let cases = oracle()["wilcoxon"].as_array().unwrap().clone();
        let mut kinds = [0, 0];
        for case in &cases {
            let found = wilcoxon(&numbers(&case["differences"])).unwrap();
            close(found.positive.min(found.negative), case["statistic"].as_f64().unwrap(), 1e-9);
            let expected = case["p"].as_f64().unwrap();
            assert!((found.p / expected - 1.0).abs() < 1e-9, "{found:?}, expected p {expected}");
            assert_eq!(found.exact, case["exact"].as_bool().unwrap());
            kinds[usize::from(found.exact)] += 1;
        }
        assert!(kinds[0] >= 3 && kinds[1] >= 3, "{kinds:?}");
    }

    #[test]
    fn all_on_one_side_is_the_least() {
        let found = wilcoxon(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.7]).unwrap();
        assert_eq!((found.p, found.least, found.negative), (2.0 / 64.0, 2.0 / 64.0, 0.0));
        let tied = wilcoxon(&[0.1; 30]).unwrap();
        assert!(!tied.exact && tied.p == tied.least && tied.p < 1e-6);
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
        assert_eq!(wilcoxon(&[1.0, -1.0]).unwrap().p, 1.0);
    }
}

//! Correction for many tests.

/// P values corrected by Holm's step-down procedure (1979), in the order given: those at or below α are rejected together
/// with a chance of at most α that any of the true hypotheses is among them. The smallest is multiplied by m, the next by
/// m - 1 and so on; none is smaller than the one before it, or above 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![0.0; p.len()];
    let mut before = 0f64;
    for (k, i) in order.into_iter().enumerate() {
        before = before.max(((p.len() - k) as f64 * p[i]).min(1.0));
        corrected[i] = before;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::all_close;

    #[test]
    fn the_textbook_example() {
        // Sorted: 0.005 * 4, 0.01 * 3, then 0.03 * 2, and 0.04 * 1, which may not fall below it.
        all_close(&holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02], 1e-15);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }

    #[test]
    fn rejections_are_those_of_the_step_down_definition() {
        // Holm's own words: reject while p of rank k is at most α / (m - k + 1).
        let p: [f64; 6] = [0.003, 0.2, 0.011, 0.04, 0.0124, 0.6];
        let alpha = 0.05;
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
        let rejected = order.iter().enumerate().take_while(|(k, i)| p[**i] <= alpha / (p.len() - k) as f64);
        let mut expected = vec![false; p.len()];
        rejected.for_each(|(_, i)| expected[*i] = true);
        assert_eq!(holm(&p).iter().map(|c| *c <= alpha).collect::<Vec<_>>(), expected);
        assert!(expected.contains(&true) && expected.contains(&false));
    }
}

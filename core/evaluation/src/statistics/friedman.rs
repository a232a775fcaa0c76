//! Ranks of several treatments (Friedman 1937), and how far apart they must be (Nemenyi 1963; Demšar 2006, section 3.2.2).

use super::special::{chi_square_tail, studentised_range_quantile};
use crate::rank::{ranks, ties};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// What the test answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Friedman {
    /// Mean rank of each treatment: 1 is the smallest value.
    pub mean_ranks: Vec<f64>,
    /// Blocks.
    pub blocks: usize,
    /// The statistic, corrected for ties; `None` if all treatments tie in every block.
    pub chi_square: Option<f64>,
    /// Its p value, by the chi-square distribution with one degree of freedom less than treatments.
    pub p: Option<f64>,
}

/// Do the treatments' ranks differ? Each block holds a value per treatment; ties share their rank.
///
/// # Errors
/// [`Error::Invalid`] for no block or fewer than two treatments; [`Error::Shape`] for blocks of different lengths.
pub fn friedman(blocks: &[Vec<f64>]) -> Result<Friedman> {
    let k = blocks.first().map_or(0, Vec::len);
    if k < 2 {
        return Err(Error::Invalid(format!(
            "Friedman test: {} blocks of {k} treatments, expected at least one of at least two",
            blocks.len()
        )));
    }
    if let Some(odd) = blocks.iter().find(|b| b.len() != k) {
        return Err(Error::Shape {
            what: "block of a Friedman test".into(),
            expected: format!("[{k}], as the first"),
            found: vec![odd.len()],
        });
    }
    let (n, kf) = (blocks.len() as f64, k as f64);
    let mut sums = vec![0.0; k];
    let mut excess = 0.0;
    for block in blocks {
        sums.iter_mut().zip(ranks(block)).for_each(|(s, r)| *s += r);
        excess +=
            ties(block).iter().map(|(set, _)| (set.len() as f64).powi(3) - set.len() as f64).sum::<f64>();
    }
    let correction = 1.0 - excess / (n * kf * (kf * kf - 1.0));
    let squares: f64 = sums.iter().map(|s| s * s).sum();
    let plain = 12.0 / (n * kf * (kf + 1.0)) * squares - 3.0 * n * (kf + 1.0);
    let chi_square = (correction > 1e-12).then(|| (plain / correction).max(0.0));
    Ok(Friedman {
        mean_ranks: sums.iter().map(|s| s / n).collect(),
        blocks: blocks.len(),
        chi_square,
        p: chi_square.map(|x| chi_square_tail(x, k - 1)),
    })
}

/// Nemenyi's critical difference: two of `treatments` mean ranks over `blocks` differ at confidence `1 - alpha` if they are
/// this far apart, `q sqrt(k (k + 1) / (6 n))` with q the studentised range over the root of 2.
///
/// # Errors
/// [`Error::Invalid`] for no block, fewer than two treatments, or an alpha outside (0, 1).
pub fn nemenyi_difference(treatments: usize, blocks: usize, alpha: f64) -> Result<f64> {
    if treatments < 2 || blocks == 0 || !(alpha > 0.0 && alpha < 1.0) {
        return Err(Error::Invalid(format!(
            "critical difference of {treatments} treatments in {blocks} blocks at alpha {alpha}, expected at least two in \
             at least one, and an alpha between 0 and 1"
        )));
    }
    let (k, n) = (treatments as f64, blocks as f64);
    let q = studentised_range_quantile(treatments, 1.0 - alpha) / std::f64::consts::SQRT_2;
    Ok(q * (k * (k + 1.0) / (6.0 * n)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all_close, close, numbers, oracle};

    #[test]
    fn statistics_are_scipys() {
        let cases = oracle()["friedman"].as_array().unwrap().clone();
        assert!(cases.len() >= 2);
        for case in &cases {
            let blocks: Vec<Vec<f64>> = case["blocks"].as_array().unwrap().iter().map(numbers).collect();
            let found = friedman(&blocks).unwrap();
            close(found.chi_square.unwrap(), case["statistic"].as_f64().unwrap(), 1e-9);
            close(found.p.unwrap(), case["p"].as_f64().unwrap(), 1e-9);
            all_close(&found.mean_ranks, &numbers(&case["mean_ranks"]), 1e-12);
        }
    }

    #[test]
    fn critical_differences_are_demsars() {
        // Table 5 (a) of the paper gives q for α = 0.05 and 2 to 10 treatments, to three places.
        let table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164];
        for (k, q) in (2..).zip(table) {
            let (kf, n) = (k as f64, 14.0);
            close(nemenyi_difference(k, 14, 0.05).unwrap() / (kf * (kf + 1.0) / (6.0 * n)).sqrt(), q, 0.0011);
        }
    }

    #[test]
    fn ties_everywhere_and_what_is_refused() {
        let flat = friedman(&[vec![1.0, 1.0], vec![2.0, 2.0]]).unwrap();
        assert_eq!((flat.mean_ranks, flat.chi_square, flat.p), (vec![1.5, 1.5], None, None));
        assert!(friedman(&[]).is_err() && friedman(&[vec![1.0]]).is_err());
        assert!(friedman(&[vec![1.0, 2.0], vec![1.0]]).is_err());
        assert!(nemenyi_difference(1, 5, 0.05).is_err() && nemenyi_difference(3, 0, 0.05).is_err());
    }
}

//! DeLong's test of two AUCs on the same cases (DeLong et al. 1988), by mid-ranks (Sun and Xu 2014).

use super::special::{normal_quantile, two_sided};
use crate::rank::ranks;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// Two areas under the ROC curve and how far they can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeLong {
    /// Areas of both scores, ties counting a half.
    pub auc: [f64; 2],
    /// Their variances.
    pub variance: [f64; 2],
    /// Their covariance.
    pub covariance: f64,
    /// The difference in units of its deviation; `None` where that is 0.
    pub z: Option<f64>,
    /// Two-sided p value of no difference.
    pub p: Option<f64>,
}

impl DeLong {
    /// Normal interval of the first (0) or second (1) area, not cut off at 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another index or a confidence outside (0, 1).
    pub fn interval(&self, index: usize, confidence: f64) -> Result<(f64, f64)> {
        if index > 1 || !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::Invalid(format!(
                "interval of AUC {index} at confidence {confidence}, expected 0 or 1, and between 0 and 1"
            )));
        }
        let half = normal_quantile(0.5 + confidence / 2.0) * self.variance[index].sqrt();
        Ok((self.auc[index] - half, self.auc[index] + half))
    }
}

/// Do the scores `a` and `b` of the same cases separate the labels equally well? The cases are independent of each other.
///
/// # Errors
/// [`Error::Shape`] for lists of different lengths; [`Error::Invalid`] unless both classes have at least two cases.
pub fn delong(a: &[f64], b: &[f64], labels: &[bool]) -> Result<DeLong> {
    if a.len() != labels.len() || b.len() != labels.len() {
        return Err(Error::Shape {
            what: "two lists of scores".into(),
            expected: format!("[{}] each, one per label", labels.len()),
            found: vec![a.len(), b.len()],
        });
    }
    let positives = labels.iter().filter(|l| **l).count();
    let negatives = labels.len() - positives;
    if positives < 2 || negatives < 2 {
        return Err(Error::Invalid(format!(
            "DeLong's test: {positives} positive and {negatives} negative cases, expected at least 2 of each"
        )));
    }
    let (of_positives, of_negatives): (Vec<_>, Vec<_>) =
        [a, b].map(|scores| components(scores, labels)).into_iter().unzip();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let covariance_of = |v: &[Vec<f64>], i: usize, j: usize| {
        let (mi, mj) = (mean(&v[i]), mean(&v[j]));
        let products = v[i].iter().zip(&v[j]).map(|(x, y)| (x - mi) * (y - mj));
        products.sum::<f64>() / (v[i].len() - 1) as f64 / v[i].len() as f64
    };
    let covariance = |i, j| covariance_of(&of_positives, i, j) + covariance_of(&of_negatives, i, j);
    let auc = [mean(&of_positives[0]), mean(&of_positives[1])];
    let (variance, shared) = ([covariance(0, 0), covariance(1, 1)], covariance(0, 1));
    let spread = variance[0] + variance[1] - 2.0 * shared;
    // What rounding leaves of two equal scores is no spread.
    let z = (spread > 1e-12 * (variance[0] + variance[1])).then(|| (auc[0] - auc[1]) / spread.sqrt());
    Ok(DeLong { auc, variance, covariance: shared, z, p: z.map(two_sided) })
}

/// The structural components: for each positive the share of negatives below it, for each negative the share of positives
/// above it.
fn components(scores: &[f64], labels: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let of = |label: bool| -> Vec<usize> { (0..labels.len()).filter(|i| labels[*i] == label).collect() };
    let (positive, negative) = (of(true), of(false));
    let among = |set: &[usize]| ranks(&set.iter().map(|i| scores[*i]).collect::<Vec<_>>());
    let all = ranks(scores);
    // A rank among all less the rank among one's own is the number of the others below.
    let below =
        |set: &[usize]| -> Vec<f64> { set.iter().zip(among(set)).map(|(i, own)| all[*i] - own).collect() };
    let (m, n) = (positive.len() as f64, negative.len() as f64);
    (
        below(&positive).into_iter().map(|b| b / n).collect(),
        below(&negative).into_iter().map(|b| 1.0 - b / m).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, stats};

    #[test]
    fn agrees_with_the_reference() {
        let golden = &stats()["delong"];
        let labels: Vec<bool> = numbers(&golden["labels"]).iter().map(|l| *l == 1.0).collect();
        let found = delong(&numbers(&golden["scores_1"]), &numbers(&golden["scores_2"]), &labels).unwrap();
        let expected = |name: &str| golden[name].as_f64().unwrap();
        close(found.auc[0], expected("auc_1"), 1e-12);
        close(found.auc[1], expected("auc_2"), 1e-12);
        close(found.variance[0], expected("var_1"), 1e-12);
        close(found.variance[1], expected("var_2"), 1e-12);
        close(found.covariance, expected("cov_12"), 1e-12);
        close(found.z.unwrap(), expected("z_difference"), 1e-9);
        close(found.p.unwrap(), expected("p_two_sided"), 1e-9);
        let interval = numbers(&golden["ci95_1_normal"]);
        let (low, high) = found.interval(0, 0.95).unwrap();
        close(low, interval[0], 1e-9);
        close(high, interval[1], 1e-9);
    }

    #[test]
    fn areas_are_those_with_ties() {
        for case in stats()["auc_cases"].as_array().unwrap() {
            let labels: Vec<bool> = numbers(&case["labels"]).iter().map(|l| *l == 1.0).collect();
            let scores = numbers(&case["scores"]);
            if let Ok(found) = delong(&scores, &scores, &labels) {
                close(found.auc[0], case["auc"].as_f64().unwrap(), 1e-12);
                assert_eq!((found.z, found.p), (None, None), "a score does not differ from itself");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let labels = [true, false, false, true];
        assert!(delong(&[0.0; 3], &[0.0; 4], &labels).is_err());
        let few = delong(&[0.0; 4], &[0.0; 4], &[true, false, false, false]).unwrap_err().to_string();
        assert!(few.contains("1 positive and 3 negative"), "{few}");
        assert!(delong(&[0.1, 0.2, 0.3, 0.4], &[0.0; 4], &labels).unwrap().interval(2, 0.95).is_err());
    }
}

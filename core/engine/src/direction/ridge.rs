//! Ridge regression of f's score on standardised codes (Hoerl & Kennard 1970), for scores without a natural threshold.
//!
//! With z standardised and t the score less its mean, `beta = (Z^T Z + penalty I)^-1 Z^T t`, by Cholesky: scikit-learn's
//! `Ridge(alpha=penalty)` on standardised data.

use super::codes::{Standardised, along, side_by_side};
use linfa_linalg::cholesky::SolveC;
use ndarray::{Array1, Array2, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Direction, DirectionFinder, Error, LatentCodes, Result, Targets};

/// Scores are kept this far from 0 and 1 before their logit is taken.
const EDGE: f64 = 1e-6;

/// What is regressed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The score as it is.
    #[default]
    Score,
    /// `log(p / (1 - p))` of a score that is a probability.
    Logit,
}

/// `params` of `kind = "ridge"`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RidgeParams {
    /// Strength of the L2 penalty on the coefficients of standardised codes.
    pub penalty: f64,
    /// What is regressed on.
    pub response: Response,
}

impl Default for RidgeParams {
    fn default() -> Self {
        Self { penalty: 1.0, response: Response::Score }
    }
}

impl RidgeParams {
    /// Decodes and checks `params`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        let p: Self = crate::registry::decode(params)?;
        if !(p.penalty.is_finite() && p.penalty > 0.0) {
            return Err(Error::Invalid(format!("`penalty` is {}, expected a positive number", p.penalty)));
        }
        Ok(p)
    }
}

/// The finder. Its direction carries no latent classifier.
#[derive(Debug, Clone)]
pub struct Ridge {
    params: RidgeParams,
}

impl Ridge {
    /// A finder with these parameters.
    pub fn new(params: RidgeParams) -> Self {
        Self { params }
    }
}

/// The coefficients of `t` on the rows of `z`, both centred here.
fn fit(z: &Array2<f64>, t: &[f64], penalty: f64) -> Result<Vec<f64>> {
    let (n, k) = z.dim();
    let centre = z.sum_axis(Axis(0)) / n as f64;
    let z = z - &centre;
    let mean = t.iter().sum::<f64>() / n as f64;
    let t: Array1<f64> = t.iter().map(|v| v - mean).collect();
    let mut gram = z.t().dot(&z);
    gram.diag_mut().mapv_inplace(|v| v + penalty);
    let right = z.t().dot(&t).insert_axis(Axis(1));
    let solved = gram.solvec(&right).map_err(|e| {
        Error::component(
            "ridge regression",
            format!("{e}: the {k} coordinates depend on one another, raise `penalty`"),
        )
    })?;
    Ok(solved.iter().copied().collect())
}

impl DirectionFinder for Ridge {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let logit = |v: f64| {
            let p = v.clamp(EDGE, 1.0 - EDGE);
            (p / (1.0 - p)).ln()
        };
        let mut t: Vec<f64> = y.values.iter().map(|v| f64::from(*v)).collect();
        if self.params.response == Response::Logit {
            if let Some(v) = t.iter().find(|v| !(0.0..=1.0).contains(*v)) {
                return Err(Error::Invalid(format!(
                    "`response` = \"logit\" needs scores from 0 to 1, found {v}: use \"score\""
                )));
            }
            t.iter_mut().for_each(|v| *v = logit(*v));
        }
        let rows: Vec<usize> = (0..w.len()).collect();
        let codes = Standardised::of(w, &rows);
        let coefficients = fit(&codes.z, &t, self.params.penalty)?;
        along(w, &codes.raw(&coefficients, 0.0).0)
    }

    fn find_all(&mut self, problems: &[(LatentCodes, Targets)]) -> Result<Vec<Direction>> {
        side_by_side(self, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::super::logistic::tests::golden_data;
    use super::*;
    use crate::testing::golden_stats;

    #[test]
    fn coefficients_are_scikit_learns() {
        let (x, _) = golden_data();
        // A response that anyone can make again.
        let t: Vec<f64> =
            (0..x.nrows()).map(|i| x[[i, 0]] - 0.5 * x[[i, 5]] + (i as f64 * 0.37).sin()).collect();
        for (penalty, expected) in golden_stats()["ridge"].as_object().unwrap() {
            let got = fit(&x, &t, penalty.parse().unwrap()).unwrap();
            let expected: Vec<f64> =
                expected.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            for (g, e) in got.iter().zip(&expected) {
                assert!((g - e).abs() < 1e-9, "{penalty}: {g} {e}");
            }
        }
    }

    #[test]
    fn a_linear_score_is_found_whatever_the_scale_of_codes() {
        let (x, _) = golden_data();
        let scale = |j: usize| if j.is_multiple_of(2) { 0.1 } else { 4.0 };
        let raw: Vec<f32> = x.indexed_iter().map(|((_, j), v)| (v * scale(j)) as f32).collect();
        let w = LatentCodes::new([1500, 1, 64], raw).unwrap();
        let line = |i: usize| 2.0 * w.code(i)[3] - 7.0 * w.code(i)[4];
        let values: Vec<f32> = (0..1500).map(line).collect();
        let y = Targets { values: values.clone(), threshold: 0.0 };
        let params = RidgeParams { penalty: 1e-6, ..Default::default() };
        let d = Ridge::new(params).find(&w, &y).unwrap();
        let norm = 53f32.sqrt();
        assert!((d.alpha()[3] - 2.0 / norm).abs() < 1e-5 && (d.alpha()[4] + 7.0 / norm).abs() < 1e-5);
        // The logit of a logistic of it is the same line.
        let p = values.iter().map(|v| 1.0 / (1.0 + (-0.1 * v).exp())).collect();
        let params = RidgeParams { response: Response::Logit, ..params };
        let again = Ridge::new(params).find(&w, &Targets { values: p, threshold: 0.5 }).unwrap();
        assert!(crate::metrics::cosine(d.alpha(), again.alpha()).unwrap() > 1.0 - 1e-6);
        let message = Ridge::new(params).find(&w, &y).unwrap_err().to_string();
        assert!(message.contains("needs scores from 0 to 1"), "{message}");
    }

    #[test]
    fn parameters_are_checked() {
        let from = |s: &str| RidgeParams::from_json(&serde_json::from_str(s).unwrap());
        assert_eq!(from("{}").unwrap(), RidgeParams::default());
        assert!(from(r#"{"penalty": -1}"#).unwrap_err().to_string().contains("`penalty` is -1"));
        assert!(from(r#"{"alpha": 1}"#).unwrap_err().to_string().contains("unknown field `alpha`"));
        assert!(from(r#"{"response": "odds"}"#).unwrap_err().to_string().contains("unknown variant `odds`"));
    }
}

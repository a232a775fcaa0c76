//! Logistic regression on standardised codes, by linfa.
//!
//! With `z = (w - mean) / std` per coordinate and labels `s = ±1`, linfa minimises (L-BFGS)
//!
//! ```text
//! sum_i log(1 + exp(-s_i (<beta, z_i> + b))) + ||beta||^2 / (2 C)
//! ```
//!
//! which is scikit-learn's `LogisticRegression(C=C)` on standardised data (linfa's `alpha` is 1/C; the intercept is
//! not penalised). In the raw space the coefficients are `beta / std`; their unit vector is α, their norm the slope
//! of the latent classifier `c(w) = sigmoid(intercept + slope <w, α>)` (Schutte et al. 2021, section 2.3).
//!
//! linfa has no weights: with `class-weight = "balanced"` the same objective, weighted, is minimised by `linear.rs`.

use super::codes::{ClassWeight, Examples, Standardised, along, check_extremes, side_by_side};
use super::linear::{self, Loss};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};
use schemars::JsonSchema;
use serde::Deserialize;
use shiftlens_api::{Direction, DirectionFinder, Error, LatentCodes, Result, Targets};

/// `params` of `kind = "logistic"`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LogisticParams {
    /// Inverse strength of the L2 penalty, as scikit-learn's `C`: larger trusts the data more.
    pub c: f64,
    /// Most iterations of L-BFGS.
    pub iterations: u64,
    /// Share of the codes on either side, by score, that are fitted; all where it is missing.
    pub extremes: Option<f64>,
    /// How much each class weighs.
    pub class_weight: ClassWeight,
}

impl Default for LogisticParams {
    fn default() -> Self {
        Self { c: 1.0, iterations: 1000, extremes: None, class_weight: ClassWeight::None }
    }
}

impl LogisticParams {
    /// Decodes and checks `params`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        let p: Self = crate::registry::decode(params)?;
        check(p.c, p.iterations)?;
        check_extremes(p.extremes)?;
        Ok(p)
    }
}

/// `c` and `iterations`, checked.
pub(super) fn check(c: f64, iterations: u64) -> Result<()> {
    if !(c.is_finite() && c > 0.0) {
        return Err(Error::Invalid(format!("`c` is {c}, expected a positive number")));
    }
    if iterations == 0 {
        return Err(Error::invalid("`iterations` is 0, expected at least 1"));
    }
    Ok(())
}

/// The finder that the paper uses.
#[derive(Debug, Clone)]
pub struct Logistic {
    params: LogisticParams,
}

impl Logistic {
    /// A finder with these parameters.
    pub fn new(params: LogisticParams) -> Self {
        Self { params }
    }
}

/// Coefficients in the space they were fitted in.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// One per feature.
    pub coefficients: Vec<f64>,
    /// Logit at the origin.
    pub intercept: f64,
}

/// Fits on rows of `x` as they are.
///
/// # Errors
/// [`Error::Invalid`] if a class is missing; [`Error::Component`] if the optimiser fails.
pub fn fit(x: Array2<f64>, y: &[bool], params: &LogisticParams) -> Result<Fitted> {
    let positives = y.iter().filter(|v| **v).count();
    if positives == 0 || positives == y.len() {
        return Err(Error::Invalid(format!(
            "logistic regression needs both classes: {positives} of {} samples are positive",
            y.len()
        )));
    }
    let targets: Array1<bool> = y.iter().copied().collect();
    let model = LogisticRegression::default()
        .alpha(1.0 / params.c)
        .max_iterations(params.iterations)
        .gradient_tolerance(1e-4)
        .fit(&DatasetBase::new(x, targets))
        .map_err(|e| Error::component("logistic regression (linfa)", e))?;
    // linfa calls one of the two classes positive by its own rule.
    let sign = if model.labels().pos.class { 1.0 } else { -1.0 };
    Ok(Fitted {
        coefficients: model.params().iter().map(|v| sign * v).collect(),
        intercept: sign * model.intercept(),
    })
}

impl DirectionFinder for Logistic {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let p = &self.params;
        let examples = Examples::of(y, p.extremes)?;
        let mut codes = Standardised::of(w, &examples.rows);
        let fitted = match p.class_weight {
            ClassWeight::None => fit(std::mem::take(&mut codes.z), &examples.labels, p)?,
            ClassWeight::Balanced => {
                let mut weights = p.class_weight.weights(&examples.labels);
                weights.iter_mut().for_each(|v| *v *= p.c);
                linear::fit(&codes.z, &examples.labels, &weights, Loss::Logistic, p.iterations)?
            }
        };
        let (raw, intercept) = codes.raw(&fitted.coefficients, fitted.intercept);
        let mut direction = along(w, &raw)?;
        // Between extremes the classifier's border is not where f changes its mind: the caller calibrates it.
        if p.extremes.is_none() {
            direction.slope = raw.iter().map(|v| v * v).sum::<f64>().sqrt() as f32;
            direction.intercept = intercept as f32;
        }
        Ok(direction)
    }

    fn find_all(&mut self, problems: &[(LatentCodes, Targets)]) -> Result<Vec<Direction>> {
        side_by_side(self, problems)
    }
}

/// Mean and (population) standard deviation.
pub(super) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::golden_stats;
    use safetensors::SafeTensors;

    /// The golden data with stretched and moved coordinates, and by how much each is stretched: standardising must undo
    /// it.
    pub fn stretched(x: &Array2<f64>) -> (LatentCodes, Vec<f64>) {
        let scale: Vec<f64> = (0..x.ncols()).map(|j| 0.1 + j as f64 * 0.05).collect();
        let raw = x.indexed_iter().map(|((_, j), v)| (v * scale[j] + 3.0 - j as f64 * 0.1) as f32).collect();
        (LatentCodes::new([x.nrows(), 1, x.ncols()], raw).unwrap(), scale)
    }

    pub fn golden_data() -> (Array2<f64>, Vec<bool>) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/logreg.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let t = file.tensor(name).unwrap();
            t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let x = floats("logreg.X").iter().map(|v| f64::from(*v)).collect();
        (
            Array2::from_shape_vec((1500, 64), x).unwrap(),
            floats("logreg.y").iter().map(|v| *v == 1.0).collect(),
        )
    }

    #[test]
    fn coefficients_agree_with_scikit_learn() {
        let (x, y) = golden_data();
        for (c, fit_of) in golden_stats()["logreg"]["fits"].as_object().unwrap() {
            let params = LogisticParams { c: c.parse().unwrap(), ..Default::default() };
            let got = fit(x.clone(), &y, &params).unwrap();
            let expected: Vec<f64> =
                fit_of["coef_float64"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let scale = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
            for (g, e) in got.coefficients.iter().zip(&expected) {
                assert!((g - e).abs() < 1e-4 * scale, "C {c}: {g} {e}");
            }
        }
    }

    #[test]
    fn back_in_the_raw_space_it_classifies_as_in_the_standardised_one() {
        let (x, y) = golden_data();
        let (w, _) = stretched(&x);
        let targets = Targets { values: y.iter().map(|v| f32::from(u8::from(*v))).collect(), threshold: 0.5 };
        let direction = Logistic::new(LogisticParams::default()).find(&w, &targets).unwrap();

        let mut z = x;
        for mut c in z.columns_mut() {
            let (m, s) = moments(&c.to_vec());
            c.mapv_inplace(|v| (v - m) / s);
        }
        let plain = fit(z.clone(), &y, &LogisticParams::default()).unwrap();
        let got = direction.classify(&w).unwrap();
        for (i, p) in got.iter().enumerate() {
            let logit =
                z.row(i).iter().zip(&plain.coefficients).map(|(a, b)| a * b).sum::<f64>() + plain.intercept;
            let expected = 1.0 / (1.0 + (-logit).exp());
            assert!((f64::from(*p) - expected).abs() < 2e-3, "{i}: {p} {expected}");
        }
        let (mean, sigma) =
            moments(&direction.project(&w).unwrap().iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        assert!(
            (sigma - f64::from(direction.sigma)).abs() < 1e-4
                && (mean - f64::from(direction.mean)).abs() < 1e-4
        );
    }

    #[test]
    fn balanced_classes_move_the_border_and_extremes_leave_it_open() {
        let (x, y) = golden_data();
        let (w, _) = stretched(&x);
        let value = |(i, l): (usize, &bool)| if *l && i % 4 == 0 { 0.9 } else { 0.1 + i as f32 * 1e-5 };
        let y = Targets { values: y.iter().enumerate().map(value).collect(), threshold: 0.5 };
        let find = |params: LogisticParams| Logistic::new(params).find(&w, &y).unwrap();
        let share = |d: &Direction| d.classify(&w).unwrap().iter().filter(|p| **p >= 0.5).count();
        let plain = find(LogisticParams::default());
        let balanced = find(LogisticParams { class_weight: ClassWeight::Balanced, ..Default::default() });
        let positives = y.labels().iter().filter(|l| **l).count();
        assert!(share(&plain) < positives && share(&balanced) > 2 * positives, "{positives}");
        assert_eq!(find(LogisticParams { extremes: Some(0.1), ..Default::default() }).slope, 0.0);
    }

    #[test]
    fn both_classes_and_sane_parameters_are_needed() {
        let x = Array2::zeros((4, 2));
        assert!(fit(x, &[true; 4], &LogisticParams::default()).unwrap_err().to_string().contains("4 of 4"));
        let from = |s: &str| LogisticParams::from_json(&serde_json::from_str(s).unwrap());
        assert_eq!(from("{}").unwrap(), LogisticParams::default());
        assert_eq!(from(r#"{"c": 0.1}"#).unwrap().c, 0.1);
        assert!(from(r#"{"c": -1}"#).is_err() && from(r#"{"extremes": 0.6}"#).is_err());
        let balanced = from(r#"{"class-weight": "balanced", "extremes": 0.3}"#).unwrap();
        assert_eq!((balanced.class_weight, balanced.extremes), (ClassWeight::Balanced, Some(0.3)));
        assert!(from(r#"{"C": 1}"#).unwrap_err().to_string().contains("unknown field `C`"));
    }
}

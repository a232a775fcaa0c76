//! A linear support vector machine with squared hinge loss on standardised codes; with `extremes` on the codes with the
//! lowest and the highest scores alone, as InterFaceGAN fits its boundaries (Shen et al. 2020, arXiv 2005.09635).

use super::codes::{ClassWeight, Examples, Standardised, along, check_extremes, side_by_side};
use super::linear::{Loss, fit};
use schemars::JsonSchema;
use serde::Deserialize;
use shiftlens_api::{Direction, DirectionFinder, LatentCodes, Result, Targets};

/// `params` of `kind = "svm"`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct SvmParams {
    /// Inverse strength of the L2 penalty, as scikit-learn's `C`.
    pub c: f64,
    /// Most iterations of L-BFGS.
    pub iterations: u64,
    /// Share of the codes on either side, by score, that are fitted; all where it is missing.
    pub extremes: Option<f64>,
    /// How much each class weighs.
    pub class_weight: ClassWeight,
}

impl Default for SvmParams {
    fn default() -> Self {
        Self { c: 1.0, iterations: 1000, extremes: None, class_weight: ClassWeight::None }
    }
}

impl SvmParams {
    /// Decodes and checks `params`.
    ///
    /// # Errors
    /// [`shiftlens_api::Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        let p: Self = crate::registry::decode(params)?;
        super::logistic::check(p.c, p.iterations)?;
        check_extremes(p.extremes)?;
        Ok(p)
    }
}

/// The finder. Its direction carries no latent classifier: a margin is no probability.
#[derive(Debug, Clone)]
pub struct Svm {
    params: SvmParams,
}

impl Svm {
    /// A finder with these parameters.
    pub fn new(params: SvmParams) -> Self {
        Self { params }
    }
}

impl DirectionFinder for Svm {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let p = &self.params;
        let examples = Examples::of(y, p.extremes)?;
        let codes = Standardised::of(w, &examples.rows);
        let mut weights = p.class_weight.weights(&examples.labels);
        weights.iter_mut().for_each(|v| *v *= p.c);
        let fitted = fit(&codes.z, &examples.labels, &weights, Loss::SquaredHinge, p.iterations)?;
        along(w, &codes.raw(&fitted.coefficients, fitted.intercept).0)
    }

    fn find_all(&mut self, problems: &[(LatentCodes, Targets)]) -> Result<Vec<Direction>> {
        side_by_side(self, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::super::logistic::tests::{golden_data, stretched};
    use super::*;
    use crate::metrics::cosine;
    use crate::testing::golden_stats;

    #[test]
    fn it_undoes_the_scale_of_coordinates() {
        let (x, y) = golden_data();
        let (w, scale) = stretched(&x);
        let targets = Targets { values: y.iter().map(|v| f32::from(u8::from(*v))).collect(), threshold: 0.5 };
        let found = Svm::new(SvmParams::default()).find(&w, &targets).unwrap();
        assert_eq!(found.slope, 0.0);
        // The golden data are standardised, so that scikit-learn's coefficients are those of the standardised codes.
        let coef = golden_stats()["svm"]["coef"].clone();
        let expected: Vec<f32> = coef
            .as_array()
            .unwrap()
            .iter()
            .zip(&scale)
            .map(|(v, s)| (v.as_f64().unwrap() / s) as f32)
            .collect();
        assert!(cosine(found.alpha(), &expected).unwrap() > 1.0 - 1e-6);
    }

    #[test]
    fn extremes_choose_the_codes() {
        // Coordinate 0 orders the extremes, coordinate 1 the middle, the other way round.
        let value = |i: usize| i as f32 / 39.0;
        let mut data = Vec::new();
        for i in 0..40 {
            let outer = !(10..30).contains(&i);
            data.extend(if outer { [value(i) - 0.5, 0.01 * (i % 3) as f32] } else { [0.5 - value(i), 0.0] });
        }
        let w = LatentCodes::new([40, 1, 2], data).unwrap();
        let y = Targets { values: (0..40).map(value).collect(), threshold: 0.9 };
        let params = SvmParams { extremes: Some(0.25), ..Default::default() };
        let found = Svm::new(params).find(&w, &y).unwrap();
        assert!(found.alpha()[0] > 0.0, "{:?}", found.alpha());
    }

    #[test]
    fn parameters_are_checked() {
        let from = |s: &str| SvmParams::from_json(&serde_json::from_str(s).unwrap());
        assert_eq!(from("{}").unwrap(), SvmParams::default());
        assert_eq!(from(r#"{"class-weight": "balanced"}"#).unwrap().class_weight, ClassWeight::Balanced);
        for (bad, words) in [
            (r#"{"c": 0}"#, "`c` is 0"),
            (r#"{"iterations": 0}"#, "`iterations`"),
            (r#"{"extremes": 0.7}"#, "`extremes` is 0.7"),
            (r#"{"class-weight": "balance"}"#, "unknown variant `balance`"),
            (r#"{"class_weight": "balanced"}"#, "unknown field `class_weight`"),
        ] {
            let message = from(bad).unwrap_err().to_string();
            assert!(message.contains(words), "{bad}: {message}");
        }
    }
}

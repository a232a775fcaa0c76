//! Linear classifiers with weighted examples, by L-BFGS (argmin).
//!
//! With rows x, signs s = ±1 and weights c, what is minimised over (w, b) is, divided by the sum of c,
//!
//! ```text
//! (||w||^2 [+ b^2]) / 2 + sum_i c_i loss(s_i (<w, x_i> + b))
//! ```
//!
//! with `loss(m) = log(1 + exp(-m))` or `max(0, 1 - m)^2`: scikit-learn's `LogisticRegression` and `LinearSVC`. The
//! latter (liblinear: Fan et al. 2008) penalises b as well.

use super::Fitted;
use argmin::core::{CostFunction, Executor, Gradient, State, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use ndarray::{Array1, Array2, s};
use shiftlens_api::{Error, Result};

/// The norm of the gradient, of the objective per unit of weight, at which the search ends.
const TOLERANCE: f64 = 1e-7;

/// What a wrong or narrow decision costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Logistic,
    /// Penalises the intercept too.
    SquaredHinge,
}

impl Loss {
    /// Value and slope at margin `m`.
    fn at(self, m: f64) -> (f64, f64) {
        match self {
            // log(1 + exp(-m)) without overflow on either side.
            Self::Logistic => ((-m.abs()).exp().ln_1p() + (-m).max(0.0), -1.0 / (1.0 + m.exp())),
            Self::SquaredHinge => {
                let short = (1.0 - m).max(0.0);
                (short * short, -2.0 * short)
            }
        }
    }
}

/// A problem; its parameters are `[w, b]`.
struct Problem<'a> {
    x: &'a Array2<f64>,
    signs: Vec<f64>,
    weights: &'a [f64],
    loss: Loss,
    total: f64,
}

impl Problem<'_> {
    fn margins(&self, p: &Array1<f64>) -> Array1<f64> {
        let k = self.x.ncols();
        self.x.dot(&p.slice(s![..k])) + p[k]
    }
}

impl CostFunction for &Problem<'_> {
    type Param = Array1<f64>;
    type Output = f64;
    fn cost(&self, p: &Self::Param) -> std::result::Result<f64, argmin::core::Error> {
        let w = p.slice(s![..self.x.ncols()]);
        let b = if self.loss == Loss::SquaredHinge { p[self.x.ncols()] } else { 0.0 };
        let margins = self.margins(p);
        let losses = margins.iter().zip(&self.signs).zip(self.weights);
        let losses = losses.map(|((m, s), c)| c * self.loss.at(s * m).0);
        Ok((0.5 * (w.dot(&w) + b * b) + losses.sum::<f64>()) / self.total)
    }
}

impl Gradient for &Problem<'_> {
    type Param = Array1<f64>;
    type Gradient = Array1<f64>;
    fn gradient(&self, p: &Self::Param) -> std::result::Result<Array1<f64>, argmin::core::Error> {
        let k = self.x.ncols();
        let mut slopes = self.margins(p);
        for ((m, s), c) in slopes.iter_mut().zip(&self.signs).zip(self.weights) {
            *m = c * s * self.loss.at(s * *m).1;
        }
        let mut g = p.clone();
        if self.loss == Loss::Logistic {
            g[k] = 0.0;
        }
        let down = self.x.t().dot(&slopes);
        g.slice_mut(s![..k]).zip_mut_with(&down, |g, d| *g += d);
        g[k] += slopes.sum();
        Ok(g / self.total)
    }
}

/// The minimiser. `weights` already hold the factor C.
///
/// # Errors
/// [`Error::Component`] if the search fails or does not end within `iterations`.
pub(super) fn fit(
    x: &Array2<f64>,
    labels: &[bool],
    weights: &[f64],
    loss: Loss,
    iterations: u64,
) -> Result<Fitted> {
    let k = x.ncols();
    let signs = labels.iter().map(|l| if *l { 1.0 } else { -1.0 }).collect();
    let problem = Problem { x, signs, weights, loss, total: weights.iter().sum() };
    let what = match loss {
        Loss::Logistic => "logistic regression",
        Loss::SquaredHinge => "linear SVM",
    };
    let fail = |e: argmin::core::Error| Error::component(what, e);
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10).with_tolerance_grad(TOLERANCE).map_err(fail)?;
    let found = Executor::new(&problem, solver)
        .configure(|state| state.param(Array1::zeros(k + 1)).max_iters(iterations))
        .run()
        .map_err(fail)?;
    let state = found.state();
    if matches!(
        state.get_termination_status(),
        TerminationStatus::Terminated(TerminationReason::MaxItersReached)
    ) {
        return Err(Error::component(
            what,
            format!(
                "the search does not end within {iterations} iterations: raise `iterations`, or lower `c`"
            ),
        ));
    }
    let best = state.get_best_param().ok_or_else(|| Error::component(what, "the search answers nothing"))?;
    Ok(Fitted { coefficients: best.slice(s![..k]).to_vec(), intercept: best[k] })
}

#[cfg(test)]
mod tests {
    use super::super::logistic::tests::golden_data;
    use super::super::{LogisticParams, fit as by_linfa};
    use super::*;
    use crate::testing::golden_stats;

    fn close(got: &Fitted, coefficients: &serde_json::Value, intercept: f64, tolerance: f64) {
        let expected: Vec<f64> =
            coefficients.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(expected.len(), got.coefficients.len());
        let scale = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
        for (g, e) in got.coefficients.iter().zip(&expected) {
            assert!((g - e).abs() < tolerance * scale, "{g} {e}");
        }
        assert!((got.intercept - intercept).abs() < tolerance * scale, "{} {intercept}", got.intercept);
    }

    #[test]
    fn the_gradient_is_that_of_the_objective() {
        let x = Array2::from_shape_fn((7, 3), |(i, j)| ((i * 3 + j) as f64 * 0.73).sin());
        let weights: Vec<f64> = (0..7).map(|i| 0.5 + i as f64 * 0.2).collect();
        let signs: Vec<f64> = (0..7).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
        let p = Array1::from(vec![0.4, -0.9, 0.2, 0.3]);
        for loss in [Loss::Logistic, Loss::SquaredHinge] {
            let total = weights.iter().sum();
            let problem = Problem { x: &x, signs: signs.clone(), weights: &weights, loss, total };
            let g = (&problem).gradient(&p).unwrap();
            for j in 0..4 {
                let at = |t: f64| {
                    let mut q = p.clone();
                    q[j] += t;
                    (&problem).cost(&q).unwrap()
                };
                let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((g[j] - difference).abs() < 1e-8, "{loss:?} {j}: {} {difference}", g[j]);
            }
        }
    }

    #[test]
    fn the_svm_is_scikit_learns() {
        let (x, y) = golden_data();
        let golden = &golden_stats()["svm"];
        let got = fit(&x, &y, &vec![1.0; y.len()], Loss::SquaredHinge, 1000).unwrap();
        close(&got, &golden["coef"], golden["intercept"].as_f64().unwrap(), 1e-4);
        let signs = y.iter().map(|l| if *l { 1.0 } else { -1.0 }).collect();
        let problem =
            Problem { x: &x, signs, weights: &vec![1.0; y.len()], loss: Loss::SquaredHinge, total: 1.0 };
        let mut p = Array1::from(got.coefficients.clone());
        p.append(ndarray::Axis(0), ndarray::aview1(&[got.intercept])).unwrap();
        let objective = (&problem).cost(&p).unwrap();
        assert!((objective - golden["objective"].as_f64().unwrap()).abs() < 1e-3, "{objective}");
    }

    #[test]
    fn balanced_fits_are_scikit_learns() {
        let (x, y) = golden_data();
        // A rare class: three of four positives are left out.
        let mut seen = 0;
        let rows: Vec<usize> = (0..y.len())
            .filter(|i| {
                seen += usize::from(y[*i]);
                !y[*i] || seen % 4 == 0
            })
            .collect();
        let x = x.select(ndarray::Axis(0), &rows);
        let y: Vec<bool> = rows.iter().map(|i| y[*i]).collect();
        let weights = super::super::codes::ClassWeight::Balanced.weights(&y);
        let golden = &golden_stats()["balanced"];
        assert_eq!(golden["rows"].as_u64().unwrap() as usize, y.len());
        for (name, loss) in [("logreg", Loss::Logistic), ("svm", Loss::SquaredHinge)] {
            let got = fit(&x, &y, &weights, loss, 1000).unwrap();
            close(&got, &golden[name]["coef"], golden[name]["intercept"].as_f64().unwrap(), 1e-4);
        }
    }

    #[test]
    fn without_weights_it_is_linfas() {
        let (x, y) = golden_data();
        let linfa = by_linfa(x.clone(), &y, &LogisticParams { c: 0.1, ..Default::default() }).unwrap();
        let own = fit(&x, &y, &vec![0.1; y.len()], Loss::Logistic, 1000).unwrap();
        for (a, b) in own.coefficients.iter().zip(&linfa.coefficients) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn a_search_that_does_not_end_is_an_error() {
        let (x, y) = golden_data();
        let message = fit(&x, &y, &vec![1.0; y.len()], Loss::SquaredHinge, 2).unwrap_err().to_string();
        assert!(message.contains("within 2 iterations"), "{message}");
    }
}

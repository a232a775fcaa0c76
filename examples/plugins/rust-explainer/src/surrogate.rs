//! The linear model that stands for f near the image.

use linfa_linalg::cholesky::SolveC;
use ndarray::{Array1, Array2, Axis};
use shiftlens_sdk::api::{Error, Result};

/// g(z) = intercept + sum_s weights_s z_s, with z_s = 1 where rectangle s is seen and 0 where it is hidden.
pub struct Surrogate {
    /// One for each rectangle.
    pub weights: Vec<f64>,
    /// g with everything hidden.
    pub intercept: f64,
    /// Share of the scores' weighted variance that g explains; `None` where they do not vary.
    pub r_squared: Option<f64>,
}

/// pi(z) = exp(-D^2 / width^2), D being the cosine distance of z to the whole image: of k seen rectangles of M it is
/// 1 - sqrt(k / M) (section 3.3).
pub fn proximity(z: &[bool], width: f64) -> f64 {
    let seen = z.iter().filter(|s| **s).count() as f64;
    let distance = 1.0 - (seen / z.len() as f64).sqrt();
    (-(distance / width).powi(2)).exp()
}

impl Surrogate {
    /// Minimises `sum_i pi(z_i) (y_i - g(z_i))^2 + penalty |weights|^2` (equation 2, with ridge regression in place of
    /// choosing few rectangles; the intercept is not penalised).
    ///
    /// # Errors
    /// [`Error::Component`] if the normal equations cannot be solved.
    pub fn fit(samples: &[Vec<bool>], scores: &[f64], width: f64, penalty: f64) -> Result<Self> {
        let m = samples.first().map_or(0, Vec::len);
        let pi: Vec<f64> = samples.iter().map(|z| proximity(z, width)).collect();
        let total: f64 = pi.iter().sum();
        // The intercept makes the weighted means meet, so that what is left is a regression on what differs from them.
        let mut mean_z = vec![0.0; m];
        for (z, p) in samples.iter().zip(&pi) {
            mean_z.iter_mut().zip(z).for_each(|(mean, s)| *mean += p / total * value(*s));
        }
        let mean_y: f64 = scores.iter().zip(&pi).map(|(y, p)| p / total * y).sum();
        let mut a = Array2::from_diag_elem(m, penalty);
        let mut b = Array1::zeros(m);
        for ((z, y), p) in samples.iter().zip(scores).zip(&pi) {
            let centred: Array1<f64> = z.iter().zip(&mean_z).map(|(s, mean)| value(*s) - mean).collect();
            b.scaled_add(p * (y - mean_y), &centred);
            for (mut row, v) in a.rows_mut().into_iter().zip(&centred) {
                row.scaled_add(p * v, &centred);
            }
        }
        let solved = a.solvec(&b.insert_axis(Axis(1)));
        let weights: Vec<f64> =
            solved.map_err(|e| Error::component("LIME's linear model", e))?.iter().copied().collect();
        let intercept = mean_y - weights.iter().zip(&mean_z).map(|(w, mean)| w * mean).sum::<f64>();
        let mut fitted = Self { weights, intercept, r_squared: None };
        let (mut left, mut all) = (0.0, 0.0);
        for ((z, y), p) in samples.iter().zip(scores).zip(&pi) {
            left += p * (y - fitted.answer(z)).powi(2);
            all += p * (y - mean_y).powi(2);
        }
        fitted.r_squared = (all > 0.0).then(|| 1.0 - left / all);
        Ok(fitted)
    }

    /// g(z).
    pub fn answer(&self, z: &[bool]) -> f64 {
        self.intercept + self.weights.iter().zip(z).map(|(w, s)| w * value(*s)).sum::<f64>()
    }
}

fn value(seen: bool) -> f64 {
    f64::from(u8::from(seen))
}

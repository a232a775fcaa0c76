//! What the finders share: which codes are examples of which class, standardised codes, and a direction from a vector.

use super::moments;
use ndarray::{Array1, Array2, Axis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Direction, DirectionFinder, Error, LatentCodes, Result, Targets};

/// How much an example of each class weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeight {
    /// All alike.
    #[default]
    None,
    /// `n / (2 n_class)`: both classes weigh the same in all, as scikit-learn's `class_weight="balanced"`.
    Balanced,
}

impl ClassWeight {
    /// The weight of each example.
    pub(super) fn weights(self, labels: &[bool]) -> Vec<f64> {
        let n = labels.len() as f64;
        let positives = labels.iter().filter(|l| **l).count() as f64;
        let of = |members: f64| match self {
            Self::None => 1.0,
            Self::Balanced => n / (2.0 * members),
        };
        let (yes, no) = (of(positives), of(n - positives));
        labels.iter().map(|l| if *l { yes } else { no }).collect()
    }
}

/// Codes by their place, and their classes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Examples {
    /// Places among the codes.
    pub rows: Vec<usize>,
    /// True is the target class.
    pub labels: Vec<bool>,
}

/// `extremes` of a finder's parameters, checked.
pub(super) fn check_extremes(extremes: Option<f64>) -> Result<()> {
    match extremes {
        Some(q) if !(q > 0.0 && q <= 0.5) => {
            Err(Error::Invalid(format!("`extremes` is {q}, expected a share above 0 and up to 0.5")))
        }
        _ => Ok(()),
    }
}

impl Examples {
    /// All codes with the classes of `y`, or only those with the lowest and the highest values, a share `extremes` of all
    /// on either side.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a class is missing, or the extremes share a value.
    pub fn of(y: &Targets, extremes: Option<f64>) -> Result<Self> {
        let n = y.values.len();
        let Some(share) = extremes else {
            let labels = y.labels();
            let positives = labels.iter().filter(|v| **v).count();
            if positives == 0 || positives == n {
                return Err(Error::Invalid(format!(
                    "both classes are needed: {positives} of {n} samples are positive"
                )));
            }
            return Ok(Self { rows: (0..n).collect(), labels });
        };
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| y.values[*a].total_cmp(&y.values[*b]));
        let m = ((n as f64 * share) as usize).max(1);
        if 2 * m > n || y.values[order[m - 1]] >= y.values[order[n - m]] {
            return Err(Error::Invalid(format!(
                "`extremes` = {share}: the lowest and the highest of {n} values are not apart, expected scores that vary, \
                 as f's do and labels do not"
            )));
        }
        let mut rows = order[..m].to_vec();
        rows.extend_from_slice(&order[n - m..]);
        Ok(Self { rows, labels: (0..2 * m).map(|i| i >= m).collect() })
    }
}

/// The given codes as rows of f64.
pub(super) fn matrix(w: &LatentCodes, rows: &[usize]) -> Array2<f64> {
    let [_, l, d] = w.shape();
    Array2::from_shape_fn((rows.len(), l * d), |(i, j)| f64::from(w.code(rows[i])[j]))
}

/// Codes with mean 0 and standard deviation 1 in each coordinate.
pub(super) struct Standardised {
    /// `[N, K]`
    pub z: Array2<f64>,
    mean: Array1<f64>,
    spread: Array1<f64>,
}

impl Standardised {
    /// The given codes, standardised by their own moments. A coordinate that never varies carries nothing: it becomes 0.
    pub fn of(w: &LatentCodes, rows: &[usize]) -> Self {
        let mut z = matrix(w, rows);
        let mean = z.sum_axis(Axis(0)) / rows.len() as f64;
        z -= &mean;
        let spread = z.map_axis(Axis(0), |c| {
            let s = (c.dot(&c) / rows.len() as f64).sqrt();
            if s > 0.0 { s } else { 1.0 }
        });
        z /= &spread;
        Self { z, mean, spread }
    }

    /// A linear function of standardised codes, `<coefficients, z> + intercept`, as one of codes as they are.
    pub fn raw(&self, coefficients: &[f64], intercept: f64) -> (Vec<f64>, f64) {
        let raw: Vec<f64> = coefficients.iter().zip(&self.spread).map(|(b, s)| b / s).collect();
        let at_origin = intercept - raw.iter().zip(&self.mean).map(|(b, m)| b * m).sum::<f64>();
        (raw, at_origin)
    }
}

/// The direction of a vector in the space of `w`, with the spread and mean of their projections and no classifier.
///
/// # Errors
/// [`Error::Invalid`] for the zero vector, or one along which the codes do not vary.
pub(super) fn along(w: &LatentCodes, vector: &[f64]) -> Result<Direction> {
    let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    if !(norm.is_finite() && norm > 0.0) {
        return Err(Error::Invalid(format!(
            "the fit gives a vector of length {norm}, which has no direction"
        )));
    }
    let alpha: Vec<f64> = vector.iter().map(|v| v / norm).collect();
    let (centre, sigma) = moments(&projections(w, &alpha));
    Direction::new(alpha.iter().map(|v| *v as f32).collect(), w.shape()[1], sigma as f32, centre as f32)
}

/// Fits to each problem, as many at a time as there are cores: a fit by itself uses one.
///
/// # Errors
/// That of the first problem that fails.
pub(super) fn side_by_side<F: DirectionFinder + Clone + Sync>(
    finder: &F,
    problems: &[(LatentCodes, Targets)],
) -> Result<Vec<Direction>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = problems.len().div_ceil(cores).max(1);
    let fit = |part: &[(LatentCodes, Targets)]| -> Vec<Result<Direction>> {
        let mut own = finder.clone();
        part.iter().map(|(w, y)| own.find(w, y)).collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = problems.chunks(each).map(|part| scope.spawn(move || fit(part))).collect();
        let panicked = |_| vec![Err(Error::component("direction finder", "panicked"))];
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(panicked)).collect()
    })
}

/// What a series moves along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Along {
    /// α itself, the normal of the classifier's border, as in the paper.
    #[default]
    Normal,
    /// The codes' covariance with the classifier's answer, `S α` with S the covariance of codes: how codes really differ
    /// that it tells apart (the pattern that belongs to a filter: Haufe et al. 2014, NeuroImage 87). Where coordinates of
    /// codes are correlated, α leaves the codes that the generator was trained on; this does not.
    Pattern,
}

impl Along {
    /// The direction with its step, by the codes that it was fitted to.
    ///
    /// # Errors
    /// If the codes do not vary along alpha.
    pub(super) fn aim(self, direction: Direction, w: &LatentCodes) -> Result<Direction> {
        if self == Self::Normal {
            return Ok(direction);
        }
        let alpha: Vec<f64> = direction.alpha().iter().map(|v| f64::from(*v)).collect();
        let answers = projections(w, &alpha);
        let (centre, _) = moments(&answers);
        let mut step = vec![0.0; alpha.len()];
        // The mean of codes drops out, as the centred answers sum to 0.
        for (i, p) in answers.iter().enumerate() {
            step.iter_mut().zip(w.code(i)).for_each(|(s, v)| *s += (p - centre) * f64::from(*v));
        }
        let moved = along(w, &step)?;
        direction.with_step(moved.alpha().to_vec(), moved.sigma, moved.mean)
    }
}

/// `<w, vector>` for each code.
pub(super) fn projections(w: &LatentCodes, vector: &[f64]) -> Vec<f64> {
    (0..w.len()).map(|i| w.code(i).iter().zip(vector).map(|(w, a)| f64::from(*w) * a).sum()).collect()
}

/// `vector`, turned so that `values` rise along it (their correlation with the codes' projections is not negative).
pub(super) fn rising(w: &LatentCodes, values: &[f32], vector: Vec<f64>) -> Vec<f64> {
    let values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    match crate::metrics::pearson(&projections(w, &vector), &values) {
        Some(r) if r < 0.0 => vector.into_iter().map(|v| -v).collect(),
        _ => vector,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(values: &[f32]) -> Targets {
        Targets { values: values.to_vec(), threshold: 0.5 }
    }

    #[test]
    fn extremes_are_the_lowest_and_the_highest() {
        let y = targets(&[0.9, 0.1, 0.5, 0.3, 0.7, 0.6, 0.2, 0.8]);
        let e = Examples::of(&y, Some(0.25)).unwrap();
        assert_eq!((e.rows, e.labels), (vec![1, 6, 7, 0], vec![false, false, true, true]));
        assert_eq!(Examples::of(&y, Some(0.5)).unwrap().rows.len(), 8);
        assert_eq!(Examples::of(&y, None).unwrap().labels, y.labels());
        // f may say no to all of them: extremes have classes of their own.
        assert!(Examples::of(&targets(&[0.1, 0.2, 0.3, 0.4]), Some(0.25)).is_ok());
        let message = Examples::of(&targets(&[0.1, 0.2]), None).unwrap_err().to_string();
        assert!(message.contains("0 of 2 samples are positive"), "{message}");
        let message = Examples::of(&targets(&[1.0, 0.0, 1.0, 1.0]), Some(0.5)).unwrap_err().to_string();
        assert!(message.contains("not apart"), "{message}");
        for bad in [0.0, -0.1, 0.6, f64::NAN] {
            assert!(check_extremes(Some(bad)).unwrap_err().to_string().contains("`extremes`"));
        }
    }

    #[test]
    fn balanced_classes_weigh_alike() {
        let w = ClassWeight::Balanced.weights(&[true, false, false, false]);
        assert_eq!(w, [2.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(ClassWeight::None.weights(&[true, false]), [1.0, 1.0]);
    }

    #[test]
    fn a_function_of_standardised_codes_is_one_of_codes() {
        let w = LatentCodes::new([4, 1, 3], vec![1.0, 5.0, 7.0, 2.0, 3.0, 7.0, 4.0, 9.0, 7.0, 0.5, 1.0, 7.0])
            .unwrap();
        let s = Standardised::of(&w, &[0, 1, 2, 3]);
        for c in s.z.columns().into_iter().take(2) {
            let (m, sd) = moments(&c.to_vec());
            assert!(m.abs() < 1e-12 && (sd - 1.0).abs() < 1e-12);
        }
        assert!(s.z.column(2).iter().all(|v| *v == 0.0));
        let (raw, b) = s.raw(&[0.3, -0.7, 0.2], 0.1);
        for (i, p) in projections(&w, &raw).into_iter().enumerate() {
            let expected: f64 =
                s.z.row(i).iter().zip([0.3, -0.7, 0.2]).map(|(z, c)| z * c).sum::<f64>() + 0.1;
            assert!((p + b - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_pattern_is_the_covariance_with_the_answer() {
        // Covariance [[6.25, 6], [6, 6.25]], from four codes.
        let w = LatentCodes::new([4, 1, 2], vec![3.5, 3.5, -3.5, -3.5, 0.5, -0.5, -0.5, 0.5]);
        let w = w.unwrap();
        let d = along(&w, &[1.0, 0.0]).unwrap();
        assert_eq!(Along::Normal.aim(d.clone(), &w).unwrap(), d);
        let found = Along::Pattern.aim(d, &w).unwrap();
        // S α is proportional to (12.5, 12) / 2, and σ² = d^T S d for the unit vector d.
        let (a, b) = (6.25f64, 6.0f64);
        let norm = a.hypot(b);
        assert!((f64::from(found.step()[0]) - a / norm).abs() < 1e-6);
        assert!((f64::from(found.step()[1]) - b / norm).abs() < 1e-6);
        let variance = (6.25 * a * a + 2.0 * 6.0 * a * b + 6.25 * b * b) / (norm * norm);
        assert!((f64::from(found.sigma) - variance.sqrt()).abs() < 1e-5);
        assert_eq!(found.alpha(), [1.0, 0.0]);
    }

    #[test]
    fn a_vector_is_turned_to_where_the_values_rise() {
        let w = LatentCodes::new([3, 1, 2], vec![0.0, 1.0, 1.0, 0.0, 2.0, 1.0]).unwrap();
        assert_eq!(rising(&w, &[3.0, 2.0, 1.0], vec![1.0, 0.0]), [-1.0, 0.0]);
        assert_eq!(rising(&w, &[1.0, 2.0, 3.0], vec![1.0, 0.0]), [1.0, 0.0]);
        assert_eq!(rising(&w, &[1.0, 1.0, 1.0], vec![1.0, 0.0]), [1.0, 0.0]);
        let d = along(&w, &[3.0, 0.0]).unwrap();
        assert_eq!((d.alpha(), d.mean), (&[1.0, 0.0][..], 1.0));
        assert!((f64::from(d.sigma) - (2f64 / 3.0).sqrt()).abs() < 1e-6);
        assert!(along(&w, &[0.0, 0.0]).unwrap_err().to_string().contains("no direction"));
    }
}

//! Precision and recall for generators: Kynkäänniemi et al. 2019, section 2.
//!
//! A set of images is taken for a region of feature space: the union of balls around its members, each as large as the
//! distance to the member's k-th nearest neighbour (equation 2). Precision is the share of drawn images in the real region,
//! recall the share of real images in the drawn one (equation 3).

use super::FeatureSet;
use ndarray::{Array2, Axis};
use shiftlens_api::{Error, Result};

/// Neighbours that a ball reaches to, as in the paper.
pub const NEIGHBOURS: usize = 3;
/// Rows of the table of distances that are in memory at once.
const ROWS: usize = 512;

/// Shares in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecall {
    /// How many drawn images look real.
    pub precision: f64,
    /// How many real images could be drawn.
    pub recall: f64,
}

/// Squared distances of rows of `a` to all rows of `b`, a block of rows at a time: first row, distances.
fn blocks(a: &Array2<f64>, b: &Array2<f64>) -> impl Iterator<Item = (usize, Array2<f64>)> {
    let norms = |m: &Array2<f64>| m.map_axis(Axis(1), |r| r.dot(&r));
    let (na, nb) = (norms(a), norms(b));
    (0..a.nrows()).step_by(ROWS).map(move |from| {
        let to = (from + ROWS).min(a.nrows());
        let mut d = a.slice(ndarray::s![from..to, ..]).dot(&b.t());
        for (i, mut row) in d.rows_mut().into_iter().enumerate() {
            row.zip_mut_with(&nb, |v, n| *v = (na[from + i] + n - 2.0 * *v).max(0.0));
        }
        (from, d)
    })
}

/// Squared distance of each row to its k-th nearest other row.
fn radii(points: &Array2<f64>, k: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(points.nrows());
    for (from, d) in blocks(points, points) {
        for (i, row) in d.rows().into_iter().enumerate() {
            let mut others: Vec<f64> =
                row.iter().enumerate().filter(|(j, _)| *j != from + i).map(|(_, v)| *v).collect();
            let (_, nearest, _) = others.select_nth_unstable_by(k - 1, f64::total_cmp);
            out.push(*nearest);
        }
    }
    out
}

/// Share of `points` that lie within the ball of a centre.
fn covered(points: &Array2<f64>, centres: &Array2<f64>, radii: &[f64]) -> f64 {
    let mut inside = 0;
    for (_, d) in blocks(points, centres) {
        inside += d.rows().into_iter().filter(|row| row.iter().zip(radii).any(|(d, r)| d <= r)).count();
    }
    inside as f64 / points.nrows() as f64
}

/// Precision and recall of drawn images against real ones, with balls that reach to the `k`-th neighbour. Its values follow
/// the numbers of images; compare at equal ones.
///
/// # Errors
/// [`Error::Invalid`] if a set has no `k` neighbours or `k` is 0, [`Error::Shape`] for vectors of different sizes.
pub fn precision_recall(real: &FeatureSet, drawn: &FeatureSet, k: usize) -> Result<PrecisionRecall> {
    let (n, m) = (real.len(), drawn.len());
    if k == 0 || k >= n.min(m) {
        return Err(Error::Invalid(format!(
            "precision and recall: {k} neighbours among {n} real and {m} drawn images; expected at least 1, and fewer than \
             images"
        )));
    }
    if real.dimensions() != drawn.dimensions() {
        return Err(Error::Shape {
            what: "precision and recall: features of drawn images".into(),
            expected: format!("[N, {}]", real.dimensions()),
            found: vec![m, drawn.dimensions()],
        });
    }
    let mut real = real.matrix(0..n);
    let mut drawn = drawn.matrix(0..m);
    // Distances do not change, and their differences of large sums lose less.
    let centre = real.sum_axis(Axis(0)) / n as f64;
    real -= &centre;
    drawn -= &centre;
    Ok(PrecisionRecall {
        precision: covered(&drawn, &real, &radii(&real, k)),
        recall: covered(&real, &drawn, &radii(&drawn, k)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::tests::{fixture, spread};

    /// By the definition: all distances one by one, sorted.
    fn brute(real: &FeatureSet, drawn: &FeatureSet, k: usize) -> (f64, f64) {
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
        };
        let share = |points: &FeatureSet, centres: &FeatureSet| {
            let radius = |i: usize| {
                let others = (0..centres.len()).filter(|j| *j != i);
                let mut all: Vec<f64> = others.map(|j| distance(centres.row(i), centres.row(j))).collect();
                all.sort_by(f64::total_cmp);
                all[k - 1]
            };
            let balls: Vec<f64> = (0..centres.len()).map(radius).collect();
            let inside =
                |p: usize| (0..centres.len()).any(|c| distance(points.row(p), centres.row(c)) <= balls[c]);
            (0..points.len()).filter(|p| inside(*p)).count() as f64 / points.len() as f64
        };
        (share(drawn, real), share(real, drawn))
    }

    #[test]
    fn agrees_with_the_definition() {
        let narrow = {
            let all = spread(600, 3, 9);
            FeatureSet::from_rows(
                3,
                (0..600).flat_map(|i| all.row(i).iter().map(|v| 0.4 * v + 0.3)).collect(),
            )
            .unwrap()
        };
        for (real, drawn) in [(spread(700, 3, 4), narrow), (fixture("features_a"), fixture("features_b"))] {
            for k in [1, 3, 7] {
                let found = precision_recall(&real, &drawn, k).unwrap();
                let (precision, recall) = brute(&real, &drawn, k);
                assert!(
                    (found.precision - precision).abs() < 1e-12 && (found.recall - recall).abs() < 1e-12,
                    "{found:?}"
                );
                assert!(precision > 0.0 && recall < 1.0, "{found:?} shows nothing");
            }
        }
    }

    #[test]
    fn on_a_line_it_is_counted_by_hand() {
        // Real 0, 1, 2, 3, 4: with k = 1 all radii are 1, so the region is [-1, 5].
        let set = |v: &[f32]| FeatureSet::from_rows(1, v.to_vec()).unwrap();
        let real = set(&[0.0, 1.0, 2.0, 3.0, 4.0]);
        // Drawn -1 (on the edge), 0.25, 0.5, 9: radii 1.25, 0.25, 0.25, 8.5; regions [-2.25, 0.25], [0, 0.5], [0.25, 0.75],
        // [0.5, 17.5]: the real 0, 1, 2, 3 and 4 are all covered.
        let found = precision_recall(&real, &set(&[-1.0, 0.25, 0.5, 9.0]), 1).unwrap();
        assert_eq!((found.precision, found.recall), (0.75, 1.0));
        // Without the one at 9: the real 0 alone.
        let found = precision_recall(&real, &set(&[-1.0, 0.25, 0.5]), 1).unwrap();
        assert_eq!((found.precision, found.recall), (1.0, 0.2));
        // Equal sets, and sets far apart.
        let found = precision_recall(&real, &real, 3).unwrap();
        assert_eq!((found.precision, found.recall), (1.0, 1.0));
        let found = precision_recall(&real, &set(&[100.0, 101.0, 102.0]), 1).unwrap();
        assert_eq!((found.precision, found.recall), (0.0, 0.0));
    }

    #[test]
    fn too_few_images_are_refused() {
        let (a, b) = (spread(4, 3, 1), spread(3, 3, 1));
        assert!(precision_recall(&a, &b, 3).is_err_and(|e| e.to_string().contains("4 real and 3 drawn")));
        assert!(precision_recall(&a, &b, 0).is_err());
        assert!(matches!(precision_recall(&a, &spread(4, 2, 1), 1), Err(Error::Shape { .. })));
    }
}

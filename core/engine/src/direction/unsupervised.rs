//! Directions that do not look at f: for exploring what a generator can draw. f only says which way they point.
//!
//! * [`MeanDifference`]: from the mean of the negative codes to that of the positive ones.
//! * [`Principal`]: a principal component of codes (Härkönen et al. 2020, GANSpace, arXiv 2004.02546).
//! * [`Sefa`]: a closed-form factorisation of the generator's weights (Shen & Zhou 2021, arXiv 2007.06600).

use super::codes::{Examples, along, check_extremes, matrix, rising};
use crate::latent_shift::Layers;
use linfa_linalg::eigh::{EigSort, Eigh};
use ndarray::{Array2, Axis};
use schemars::JsonSchema;
use serde::Deserialize;
use shiftlens_api::{Direction, DirectionFinder, Error, LatentCodes, Result, Targets};
use std::path::Path;

/// `params` of `kind = "mean-difference"`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MeanDifferenceParams {
    /// Share of the codes on either side, by score, whose means are taken; all where it is missing.
    pub extremes: Option<f64>,
}

impl MeanDifferenceParams {
    /// Decodes and checks `params`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        let p: Self = crate::registry::decode(params)?;
        check_extremes(p.extremes)?;
        Ok(p)
    }
}

/// The difference of the classes' means.
#[derive(Debug, Clone)]
pub struct MeanDifference {
    params: MeanDifferenceParams,
}

impl MeanDifference {
    /// A finder with these parameters.
    pub fn new(params: MeanDifferenceParams) -> Self {
        Self { params }
    }
}

impl DirectionFinder for MeanDifference {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let examples = Examples::of(y, self.params.extremes)?;
        let [_, l, d] = w.shape();
        let mut means = [vec![0.0; l * d], vec![0.0; l * d]];
        let positives = examples.labels.iter().filter(|l| **l).count() as f64;
        let counts = [examples.labels.len() as f64 - positives, positives];
        for (row, label) in examples.rows.iter().zip(&examples.labels) {
            let side = usize::from(*label);
            means[side].iter_mut().zip(w.code(*row)).for_each(|(m, v)| *m += f64::from(*v) / counts[side]);
        }
        let [no, yes] = means;
        along(w, &yes.iter().zip(&no).map(|(a, b)| a - b).collect::<Vec<_>>())
    }
}

/// `params` of `kind = "pca"`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrincipalParams {
    /// Which component, from 0, by falling variance.
    pub component: usize,
}

/// A principal component of codes.
#[derive(Debug, Clone)]
pub struct Principal {
    params: PrincipalParams,
}

impl Principal {
    /// A finder with these parameters.
    pub fn new(params: PrincipalParams) -> Self {
        Self { params }
    }
}

/// Eigenvalues, falling, and eigenvectors as columns, of a symmetric matrix.
fn eigen(matrix: &Array2<f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    let (values, vectors) = matrix.eigh().map_err(|e| Error::component("eigenvectors", e))?.sort_eig_desc();
    Ok((values.to_vec(), vectors))
}

/// Column `component` of `vectors`, that which a finder's parameter asks for.
fn pick(vectors: &Array2<f64>, component: usize) -> Result<Vec<f64>> {
    let n = vectors.ncols();
    if component >= n {
        return Err(Error::Invalid(format!(
            "`component` is {component}, expected 0 to {}: the codes have {n} coordinates",
            n - 1
        )));
    }
    Ok(vectors.column(component).to_vec())
}

/// Variances, falling, and principal axes as columns, of the rows of `x`; variances are divided by `n - 1`.
fn principal(mut x: Array2<f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    let n = x.nrows();
    let mean = x.sum_axis(Axis(0)) / n as f64;
    x -= &mean;
    eigen(&(x.t().dot(&x) / (n as f64 - 1.0).max(1.0)))
}

impl DirectionFinder for Principal {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let rows: Vec<usize> = (0..w.len()).collect();
        let (_, axes) = principal(matrix(w, &rows))?;
        along(w, &rising(w, &y.values, pick(&axes, self.params.component)?))
    }
}

/// `params` of `kind = "sefa"`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SefaParams {
    /// Which eigenvector, from 0, by falling eigenvalue.
    pub component: usize,
    /// The style inputs whose affine layers are factorised.
    #[schemars(extend("default" = "all"))]
    pub layers: Layers,
}

impl SefaParams {
    /// Decodes and checks `params`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        crate::registry::decode(params)
    }
}

/// An eigenvector of `A^T A`, A the weights of a StyleGAN2 generator's affine layers.
#[derive(Debug, Clone)]
pub struct Sefa {
    vector: Vec<f64>,
}

impl Sefa {
    /// Factorises the generator at `path`.
    ///
    /// # Errors
    /// If the file is no StyleGAN2 generator, or has no such layers or component.
    pub fn open(path: &Path, params: SefaParams) -> Result<Self> {
        let inputs = shiftlens_stylegan2::sefa::style_inputs(path)?;
        let (d, a) = shiftlens_stylegan2::sefa::style_weights(path, params.layers.of(inputs)?)?;
        Self::of(d, &a, params.component)
    }

    /// Factorises A, `[R, d]` row-major.
    fn of(d: usize, a: &[f32], component: usize) -> Result<Self> {
        let a = Array2::from_shape_vec((a.len() / d, d), a.iter().map(|v| f64::from(*v)).collect());
        let a = a.map_err(|e| Error::component("sefa", e))?;
        let (_, vectors) = eigen(&a.t().dot(&a))?;
        Ok(Self { vector: pick(&vectors, component)? })
    }
}

impl DirectionFinder for Sefa {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let [_, rows, d] = w.shape();
        if d != self.vector.len() {
            return Err(Error::Shape {
                what: "codes for SeFa".into(),
                expected: format!("[N, L, {}], as the generator's", self.vector.len()),
                found: w.shape().to_vec(),
            });
        }
        // All rows of a code of W+ move alike.
        let vector = self.vector.repeat(rows);
        along(w, &rising(w, &y.values, vector))
    }
}

#[cfg(test)]
mod tests {
    use super::super::logistic::tests::golden_data;
    use super::*;
    use crate::testing::golden_stats;

    fn numbers(v: &serde_json::Value) -> Vec<f64> {
        v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    #[test]
    fn components_and_variances_are_scikit_learns() {
        let golden = &golden_stats()["pca"];
        let (values, axes) = principal(golden_data().0).unwrap();
        for (i, (e, v)) in numbers(&golden["explained_variance"]).iter().zip(&values).enumerate() {
            assert!((e - v).abs() < 1e-5, "{i}: {v} {e}");
        }
        for (i, expected) in golden["components"].as_array().unwrap().iter().enumerate() {
            let dot: f64 = numbers(expected).iter().zip(axes.column(i)).map(|(a, b)| a * b).sum();
            assert!((dot.abs() - 1.0).abs() < 1e-5, "component {i}: cosine {dot}");
        }
    }

    #[test]
    fn a_component_points_to_where_the_score_rises() {
        // Spread 3, 2 and 1 along the axes; the score falls with coordinate 1.
        let at =
            |i: usize, j: usize| [3.0f32, 2.0, 1.0][j] * ((i * (j + 2) * 7919 % 1000) as f32 / 500.0 - 1.0);
        let w = LatentCodes::new([1000, 1, 3], (0..3000).map(|p| at(p / 3, p % 3)).collect()).unwrap();
        let y = Targets { values: (0..1000).map(|i| -w.code(i)[1]).collect(), threshold: 0.0 };
        let found = Principal::new(PrincipalParams { component: 1 }).find(&w, &y).unwrap();
        assert!(found.alpha()[1] < -0.97, "{:?}", found.alpha());
        let message = Principal::new(PrincipalParams { component: 3 }).find(&w, &y).unwrap_err().to_string();
        assert!(message.contains("`component` is 3, expected 0 to 2"), "{message}");
    }

    #[test]
    fn the_difference_of_means_in_closed_form() {
        let w = LatentCodes::new([4, 1, 2], vec![0.0, 0.0, 2.0, 0.0, 3.0, 4.0, 5.0, 4.0]).unwrap();
        let y = Targets { values: vec![0.1, 0.2, 0.8, 0.9], threshold: 0.5 };
        let d = MeanDifference::new(Default::default()).find(&w, &y).unwrap();
        assert_eq!(d.alpha(), [0.6, 0.8], "(4, 4) less (1, 0) is (3, 4)");
        let extremes = MeanDifferenceParams { extremes: Some(0.25) };
        let d = MeanDifference::new(extremes).find(&w, &y).unwrap();
        let expected = [5.0 / 41f32.sqrt(), 4.0 / 41f32.sqrt()];
        assert!(d.alpha().iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6));
    }

    #[test]
    fn sefa_finds_what_the_weights_stretch_most() {
        // A turns (3, 4) / 5 into 10 units and its normal (-4, 3) / 5 into 1.
        let (u, v) = ([0.6f32, 0.8], [-0.8f32, 0.6]);
        let a: Vec<f32> = u.iter().map(|x| 10.0 * x).chain(v).collect();
        let w = LatentCodes::new([3, 2, 2], (0..12).map(|i| ((i * i) as f32).sin()).collect()).unwrap();
        let y = Targets { values: (0..3).map(|i| w.code(i).iter().sum()).collect(), threshold: 0.0 };
        for (component, axis) in [(0, u), (1, v)] {
            let d = Sefa::of(2, &a, component).unwrap().find(&w, &y).unwrap();
            let cosine = d.alpha()[..2].iter().zip(axis).map(|(a, b)| a * b).sum::<f32>() * 2f32.sqrt();
            assert!((cosine.abs() - 1.0).abs() < 1e-6, "{component}: {cosine}");
            assert_eq!(d.alpha()[..2], d.alpha()[2..], "rows of W+ move alike");
            let p: Vec<f64> = d.project(&w).unwrap().into_iter().map(f64::from).collect();
            let y: Vec<f64> = y.values.iter().map(|v| f64::from(*v)).collect();
            assert!(crate::metrics::pearson(&p, &y).unwrap() > 0.0);
        }
        assert!(Sefa::of(2, &a, 2).unwrap_err().to_string().contains("expected 0 to 1"));
        let other = LatentCodes::new([2, 1, 3], vec![0.5; 6]).unwrap();
        assert!(
            Sefa::of(2, &a, 0).unwrap().find(&other, &y).unwrap_err().to_string().contains("codes for SeFa")
        );
    }

    #[test]
    fn parameters_are_checked() {
        let json = |s: &str| serde_json::from_str::<serde_json::Value>(s).unwrap();
        let sefa = SefaParams::from_json(&json(r#"{"component": 2, "layers": "middle"}"#)).unwrap();
        assert_eq!(sefa, SefaParams { component: 2, layers: Layers::Middle });
        let says = |e: Error, words: &str| assert!(e.to_string().contains(words), "{e}");
        says(SefaParams::from_json(&json(r#"{"layers": "midle"}"#)).unwrap_err(), "did you mean `middle`");
        says(SefaParams::from_json(&json(r#"{"components": 2}"#)).unwrap_err(), "unknown field `components`");
        let mean = MeanDifferenceParams::from_json(&json(r#"{"extremes": 0.9}"#)).unwrap_err();
        says(mean, "`extremes` is 0.9");
        assert!(MeanDifferenceParams::from_json(&json("{}")).is_ok());
    }
}

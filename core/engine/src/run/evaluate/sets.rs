//! Distances of sets: the counterfactuals of a method, and real images of the class that they turn to.

use crate::quality::{FeatureSet, Gaussian, frechet_distance, kernel_distance};
use serde::Serialize;
use shiftlens_api::Result;
use std::collections::BTreeMap;

/// Pairs of subsets for KID.
const SUBSETS: usize = 100;
/// Images of one subset, at most (Bińkowski et al. 2018).
const SUBSET: usize = 1000;

/// FID and KID of a method's counterfactuals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetDistance {
    /// The method.
    pub method: String,
    /// The class that f decides for after the flip.
    pub towards: String,
    /// Counterfactuals.
    pub flips: usize,
    /// Real images of that class: by their label, where there is one, else by f's decision.
    pub real: usize,
    /// Features of an image. With no more images than these FID is biased upwards; KID is not.
    pub dimensions: usize,
    /// Fréchet distance; missing with fewer than two images on a side.
    pub fid: Option<f64>,
    /// Kernel distance, the mean over subsets; missing with fewer than four images on a side.
    pub kid: Option<f64>,
    /// Its standard deviation over the subsets.
    pub kid_deviation: Option<f64>,
}

/// The features of one side, image by image.
#[derive(Debug, Default, Clone)]
pub struct Side(Vec<f32>, usize);

impl Side {
    fn push(&mut self, row: &[f32]) {
        self.0.extend_from_slice(row);
        self.1 += 1;
    }
    fn set(&self) -> Option<Result<FeatureSet>> {
        (self.1 > 0).then(|| FeatureSet::from_rows(self.0.len() / self.1, self.0.clone()))
    }
}

/// Features as they are read, case by case.
#[derive(Debug, Default)]
pub struct Sides {
    real: BTreeMap<bool, Side>,
    flipped: BTreeMap<(String, bool), Side>,
}

impl Sides {
    /// A real image; `class` is true for the study's target.
    pub fn real(&mut self, class: bool, row: &[f32]) {
        self.real.entry(class).or_default().push(row);
    }
    /// A method's counterfactual, which f decides for `class`.
    pub fn flipped(&mut self, method: &str, class: bool, row: &[f32]) {
        self.flipped.entry((method.to_owned(), class)).or_default().push(row);
    }

    /// All distances, the methods in this order.
    ///
    /// # Errors
    /// If features of images differ in number.
    pub fn distances(
        &self,
        methods: &[String],
        seed: u64,
        name: impl Fn(bool) -> String,
    ) -> Result<Vec<SetDistance>> {
        let mut all = Vec::new();
        for method in methods {
            for class in [true, false] {
                let Some(side) = self.flipped.get(&(method.clone(), class)) else { continue };
                let Some(flips) = side.set().transpose()? else { continue };
                let real = self.real.get(&class).and_then(Side::set).transpose()?;
                let n = real.as_ref().map_or(0, FeatureSet::len);
                let mut found = SetDistance {
                    method: method.clone(),
                    towards: name(class),
                    flips: flips.len(),
                    real: n,
                    dimensions: flips.dimensions(),
                    fid: None,
                    kid: None,
                    kid_deviation: None,
                };
                let fewest = flips.len().min(n);
                if let Some(real) = real.filter(|_| fewest >= 2) {
                    found.fid = Some(frechet_distance(&Gaussian::of(&real)?, &Gaussian::of(&flips)?)?);
                    // Subsets that are the whole sets would show no deviation.
                    let size = SUBSET.min(fewest / 2);
                    if size >= 2 {
                        let kid = kernel_distance(&real, &flips, SUBSETS, size, seed)?;
                        (found.kid, found.kid_deviation) = (Some(kid.mean), Some(kid.deviation));
                    }
                }
                all.push(found);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_distances_of_its_own() {
        // One feature: real images of the target have 0 and 2, those without it 10 and 12; the flips 1 and 3, and 10 and 12.
        let mut sides = Sides::default();
        for v in [0.0, 2.0] {
            sides.real(true, &[v]);
            sides.real(false, &[10.0 + v]);
            sides.flipped("a", true, &[1.0 + v]);
            sides.flipped("a", false, &[10.0 + v]);
        }
        sides.flipped("b", true, &[1.0]);
        let methods = ["a".to_owned(), "b".into(), "c".into()];
        let all = sides.distances(&methods, 0, |target| if target { "sick".into() } else { "well".into() });
        let all = all.unwrap();
        // Of one feature FID is the squared difference of means plus that of deviations.
        let found: Vec<(&str, &str, usize, Option<f64>)> =
            all.iter().map(|d| (d.method.as_str(), d.towards.as_str(), d.flips, d.fid)).collect();
        assert_eq!(found[2], ("b", "sick", 1, None));
        assert!((found[0].3.unwrap() - 1.0).abs() < 1e-9 && found[1].3.unwrap().abs() < 1e-9, "{found:?}");
        assert_eq!((found[0].1, found[1].1, found.len()), ("sick", "well", 3));
        assert!(all.iter().all(|d| d.kid.is_none() && d.real == 2 && d.dimensions == 1));
    }

    #[test]
    fn kid_is_that_of_the_quality_module() {
        let mut sides = Sides::default();
        let row = |i: usize, shift: f32| [(i as f32 * 0.7).sin() + shift, (i as f32 * 1.3).cos()];
        for i in 0..12 {
            sides.real(true, &row(i, 0.0));
            sides.flipped("a", true, &row(i + 5, 0.5));
        }
        let set = |shift: f32, from: usize| {
            FeatureSet::from_rows(2, (0..12).flat_map(|i| row(i + from, shift)).collect()).unwrap()
        };
        let expected = kernel_distance(&set(0.0, 0), &set(0.5, 5), 100, 6, 3).unwrap();
        let all = sides.distances(&["a".into()], 3, |_| String::new()).unwrap();
        assert_eq!((all[0].kid, all[0].kid_deviation), (Some(expected.mean), Some(expected.deviation)));
    }
}

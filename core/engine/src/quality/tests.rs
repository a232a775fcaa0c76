//! Fixtures of the measures, and the evaluator against its parts.

use super::*;
use safetensors::SafeTensors;
use shiftlens_api::{Error, FeatureInfo, FeatureLayer, FeatureNetwork, Images, Result, Tensor};
use std::path::Path;

fn read_array(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let t = file.tensor(name).unwrap();
    let data = t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (t.shape().to_vec(), data)
}

/// An array of `tests/fixtures/quality`, as `cut.py` there says.
pub fn fixture_array(name: &str) -> (Vec<usize>, Vec<f32>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quality");
    read_array(&folder.join("quality.safetensors"), name)
}

/// Feature vectors among the fixtures.
pub fn fixture(name: &str) -> FeatureSet {
    let (shape, data) = fixture_array(name);
    FeatureSet::from_rows(shape[1], data).unwrap()
}

/// The expected values.
pub fn fixture_facts() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/quality/quality.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The whole reference's feature vectors and facts, where they lie beside the repository.
pub fn shared_features() -> Option<(FeatureSet, FeatureSet, serde_json::Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/stats");
    let (arrays, facts) = (folder.join("stats.safetensors"), folder.join("stats.json"));
    if !arrays.exists() || !facts.exists() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    let set = |name: &str| {
        let (shape, data) = read_array(&arrays, name);
        FeatureSet::from_rows(shape[1], data).unwrap()
    };
    let facts = serde_json::from_str(&std::fs::read_to_string(facts).unwrap()).unwrap();
    Some((set("fid.features_a"), set("fid.features_b"), facts))
}

/// Vectors of uniform values in [-1, 1), another set for another seed.
pub fn spread(n: usize, d: usize, seed: u64) -> FeatureSet {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    FeatureSet::from_rows(d, (0..n * d).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
}

/// Of grey 2 x 2 images: a map of both rows' means per place, and the vector of the four pixels.
struct Pixels;

impl FeatureNetwork for Pixels {
    fn info(&self) -> FeatureInfo {
        let layer = |name: &str, shape: &[usize]| FeatureLayer { name: name.into(), shape: shape.to_vec() };
        FeatureInfo {
            layers: vec![layer("map", &[1, 2, 2]), layer("vector", &[4])],
            channels: 1,
            size: (2, 2),
            backend: "closed form".into(),
        }
    }
    fn features(&mut self, x: &Tensor) -> Result<Vec<Tensor>> {
        let n = x.shape()[0];
        let twice = x.as_slice().iter().map(|v| 2.0 * v).collect();
        Ok(vec![Tensor::new(vec![n, 1, 2, 2], twice)?, Tensor::new(vec![n, 4], x.as_slice().to_vec())?])
    }
    fn pullback(&mut self, _: &Tensor, _: &[Tensor]) -> Result<Tensor> {
        Err(Error::Unsupported("no measure asks for it".into()))
    }
}

fn images(n: usize, seed: u64) -> Images {
    let set = spread(n, 4, seed);
    let data = (0..n).flat_map(|i| set.row(i).iter().map(|v| 0.5 + 0.5 * v).collect::<Vec<f32>>()).collect();
    Images::new([n, 1, 2, 2], data).unwrap()
}

fn settings() -> Settings {
    Settings {
        samples: 50,
        batch: 16,
        subsets: 7,
        subset_size: 20,
        manifold_size: 1000,
        neighbours: 3,
        seed: 4,
    }
}

#[test]
fn maps_are_averaged_and_layers_joined() {
    let x = Images::new([2, 1, 2, 2], vec![0.1, 0.2, 0.3, 0.4, 1.0, 0.0, 0.0, 0.0]).unwrap();
    let set = FeatureSet::of(&mut Pixels, [Ok(x)].into_iter()).unwrap();
    assert_eq!((set.len(), set.dimensions()), (2, 5));
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6);
    assert!(close(set.row(0), &[0.5, 0.1, 0.2, 0.3, 0.4]) && close(set.row(1), &[0.5, 1.0, 0.0, 0.0, 0.0]));
    assert!(FeatureSet::from_rows(3, vec![0.0; 7]).is_err());
}

#[test]
fn an_evaluator_measures_what_its_parts_do() {
    let real: Vec<Result<Images>> = (0..6).map(|i| Ok(images(9, 100 + i))).collect();
    let whole = FeatureSet::of(&mut Pixels, (0..6).map(|i| Ok(images(9, 100 + i)))).unwrap();
    let mut evaluator = Evaluator::new(Box::new(Pixels), settings(), real.into_iter()).unwrap();
    let pool = images(50, 7);
    let mut asked = Vec::new();
    let mut draw = |n: usize| {
        let from: usize = asked.iter().sum();
        asked.push(n);
        Ok(pool.slice(from, from + n))
    };
    let q = evaluator.evaluate(&mut draw).unwrap();
    assert_eq!(asked, [16, 16, 16, 2]);
    let drawn = FeatureSet::of(&mut Pixels, [Ok(pool.clone())].into_iter()).unwrap();
    let fid = frechet_distance(&Gaussian::of(&whole).unwrap(), &Gaussian::of(&drawn).unwrap()).unwrap();
    let kid = kernel_distance(&whole, &drawn, 7, 20, 4).unwrap();
    let shares = precision_recall(&whole, &drawn, 3).unwrap();
    assert_eq!((q.fid, q.kid, q.kid_deviation), (fid, kid.mean, kid.deviation));
    assert_eq!((q.precision, q.recall), (shares.precision, shares.recall));
    assert_eq!((q.real, q.drawn, q.dimensions, q.kid_subset), (54, 50, 5, 20));
    assert_eq!(q.figures()["kid"], kid.mean);
    // Drawn from the same distribution; one that is darker is farther, in every figure.
    let mut dark = |n: usize| {
        let x = images(n, 3);
        Images::new(x.shape(), x.as_slice().iter().map(|v| 0.2 * v).collect())
    };
    let worse = evaluator.evaluate(&mut dark).unwrap();
    assert!(
        worse.fid > 2.0 * q.fid && worse.kid > q.kid + q.kid_deviation && worse.recall < q.recall,
        "{q:?} {worse:?}"
    );
    assert!(q.remark().is_none());
    assert!(Quality { drawn: 5, ..q }.remark().is_some_and(|r| r.contains("54 real and 5 drawn")));
}

#[test]
fn fewer_images_make_smaller_subsets_and_thinner_manifolds() {
    let few = Settings { subset_size: 1000, manifold_size: 10, ..settings() };
    let mut evaluator = Evaluator::new(Box::new(Pixels), few, [Ok(images(30, 1))].into_iter()).unwrap();
    let q = evaluator.evaluate(&mut |n| Ok(images(n, 2))).unwrap();
    assert_eq!(q.kid_subset, 15);
    let thin = spread(30, 4, 1).thinned(10);
    assert_eq!((thin.len(), thin.row(9)), (10, spread(30, 4, 1).row(27)));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let open = |settings: Settings, n: usize| {
        Evaluator::new(Box::new(Pixels), settings, [Ok(images(n, 1))].into_iter())
    };
    let says = |e: Result<Evaluator>, words: &str| assert!(e.err().unwrap().to_string().contains(words));
    says(open(settings(), 3), "3 real images, expected at least 4");
    says(open(Settings { samples: 3, ..settings() }, 9), "samples = 3, expected at least 4");
    says(open(Settings { batch: 0, ..settings() }, 9), "batch = 0");
    says(open(Settings { subset_size: 1, ..settings() }, 9), "subset-size = 1");
    let mut evaluator = open(settings(), 9).unwrap();
    let e = evaluator.evaluate(&mut |n| Ok(images(n - 1, 2))).unwrap_err();
    assert!(matches!(e, Error::Shape { .. }), "{e}");
    let e = evaluator.evaluate(&mut |_| Err(Error::Cancelled)).unwrap_err();
    assert!(matches!(e, Error::Cancelled));
}

#[test]
fn images_are_fitted() {
    let x = Images::new([1, 3, 2, 2], [[1.0; 4], [0.5; 4], [0.0; 4]].concat()).unwrap();
    let y = fit(&x, 1, (3, 5)).unwrap();
    assert_eq!(y.shape(), [1, 1, 3, 5]);
    assert!(y.as_slice().iter().all(|v| (v - (0.299 + 0.2935)).abs() < 1e-6));
}

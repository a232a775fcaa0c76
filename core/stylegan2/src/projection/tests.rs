//! Codes that are known are found again; gradients against differences; limits and bad parameters.

use super::noise::Maps;
use super::*;
use crate::net::Space;
use crate::perceptual::Perceptual;
use crate::train::encoder::tests::{SIDE, Smooth, small_generator};
use shiftlens_api::Level;

const STYLES: usize = 4;
const DIM: usize = 6;

fn projection(params: ProjectionParams) -> (tempfile::TempDir, Projection) {
    let folder = tempfile::tempdir().unwrap();
    small_generator(folder.path());
    let made = Projection::new(&folder.path().join("g.safetensors"), params).unwrap();
    (folder, made)
}

/// Images of codes, and the codes.
fn known(p: &Projection, n: usize) -> (Images, LatentCodes) {
    let w = file::sample_w(&p.g, n, 77).unwrap();
    let y = p.g.synthesize(&p.g.broadcast(&w).unwrap(), Noise::Constant).unwrap();
    let largest = y.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(largest < 1.0, "images {largest} would be clamped");
    let values = y.affine(0.5, 0.5).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let codes = w.flatten_all().unwrap().to_vec1().unwrap();
    (Images::new([n, 1, SIDE, SIDE], values).unwrap(), LatentCodes::new([n, 1, DIM], codes).unwrap())
}

#[test]
fn known_codes_are_found_from_the_mean() {
    let params = ProjectionParams { steps: 300, batch: 3, prior_weight: 0.0, ..ProjectionParams::default() };
    let (_folder, mut p) = projection(params);
    let (x, w) = known(&p, 5);
    let start = p.mean_codes(5).unwrap();
    let (found, report) = p.project(&x, &start).unwrap();
    println!("{report:?}");
    assert_eq!((found.shape(), report.steps, report.before.len()), ([5, 1, DIM], 300, 5));
    for i in 0..5 {
        let (before, after) = (report.rmse_before[i], report.rmse_after[i]);
        assert!(after < 0.05 * before, "image {i}: {before} {after}");
        let spread = p.statistics().unwrap().std.to_vec1::<f32>().unwrap();
        let off = found.code(i).iter().zip(w.code(i)).zip(&spread).map(|((a, b), s)| ((a - b) / s).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off < 0.2, "image {i}: {off} standard deviations from its code");
    }
    // Another run is the same to the last bit, and an image's own descent does not see the others.
    assert_eq!(p.project(&x, &start).unwrap().0, found);
    let (alone, _) = p.project(&x.slice(4, 5), &start.slice(4, 5)).unwrap();
    let off = alone.as_slice().iter().zip(found.code(4)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-2, "{off}");
}

#[test]
fn nothing_gets_worse_than_its_start() {
    // So large a step leads away from the code that begins at the answer.
    let params = ProjectionParams { steps: 3, learning_rate: 5.0, ramp_down: 0.0, ..Default::default() };
    let (_folder, mut p) = projection(params);
    let (x, w) = known(&p, 2);
    let (found, report) = p.project(&x, &w).unwrap();
    assert_eq!(found, w);
    assert_eq!(report.before, report.after);
    assert!(report.rmse_after.iter().all(|r| *r < 1e-5), "{report:?}");
}

#[test]
fn styles_of_their_own_reach_further_and_features_count() {
    let params = ProjectionParams { steps: 150, prior_weight: 0.0, offset_weight: 0.0, ..Default::default() };
    let x = {
        let noise = Rng::new(3, 0).normals(2 * SIDE * SIDE);
        Images::new([2, 1, SIDE, SIDE], noise.iter().map(|v| 0.5 + 0.1 * v).collect()).unwrap()
    };
    let reach = |space: Space| {
        let (_folder, mut p) = projection(ProjectionParams { space, ..params.clone() });
        let start = p.mean_codes(2).unwrap();
        let (codes, report) = p.project(&x, &start).unwrap();
        assert_eq!(codes.shape()[1], if space == Space::W { 1 } else { STYLES });
        report.rmse_after.iter().sum::<f64>()
    };
    let (narrow, wide) = (reach(Space::W), reach(Space::WPlus));
    println!("W {narrow}, W+ {wide}");
    assert!(wide < 0.98 * narrow, "W {narrow}, W+ {wide}");

    // With the features' loss alone their distance falls, pixels or not.
    let (_folder, p) = projection(ProjectionParams { pixel_weight: 0.0, ..params });
    let distance = Perceptual::of_network(Box::new(Smooth::new(1)), "smooth", &[], (1, SIDE)).unwrap();
    let mut p = p.with_features(distance, 1.0).unwrap();
    let (y, _) = known(&p, 2);
    let start = p.mean_codes(2).unwrap();
    let (_, report) = p.project(&y, &start).unwrap();
    for (before, after) in report.before.iter().zip(&report.after) {
        assert!(*after < 0.05 * before, "{report:?}");
    }
}

#[test]
fn the_loss_has_the_gradient_of_its_differences() {
    let params = ProjectionParams {
        space: Space::WPlus,
        noise: NoiseInputs::Optimised,
        prior_weight: 0.3,
        offset_weight: 0.2,
        noise_weight: 10.0,
        ..Default::default()
    };
    let (_folder, p) = projection(params);
    let distance = Perceptual::of_network(Box::new(Smooth::new(1)), "smooth", &[], (1, SIDE)).unwrap();
    let mut p = p.with_features(distance, 0.5).unwrap();
    let (x, _) = known(&p, 2);
    p.measure().unwrap();
    let aim = p.aim(&x).unwrap();
    let u = Rng::new(5, 0).tensor(&[2, STYLES, DIM], &Device::Cpu).unwrap().affine(2.0, 0.5).unwrap();
    let u = Var::from_tensor(&u).unwrap();
    let maps = Maps::new(p.config(), 2, &mut Rng::new(6, 0), &Device::Cpu).unwrap();
    let grads = p.loss(u.as_tensor(), &aim, Some(&maps)).unwrap().graph.backward().unwrap();
    let mut vars = maps.vars();
    vars.push(("u".into(), u.clone()));
    let mut seen = 0;
    for (name, var) in vars {
        let g = grads.get(var.as_tensor()).unwrap().clone();
        let squared = g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let expected = f64::from(squared);
        let before = var.as_detached_tensor().copy().unwrap();
        let step = 5e-3 / expected.sqrt().max(1e-3);
        let mut at = |sign: f64| {
            var.set(&(&before + (&g * (sign * step)).unwrap()).unwrap()).unwrap();
            p.loss(u.as_tensor(), &aim, Some(&maps)).unwrap().values.iter().sum::<f64>()
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        var.set(&before).unwrap();
        println!("{name}: {slope:.5} {expected:.5}");
        assert!((slope - expected).abs() < 0.02 * expected + 1e-3, "{name}: {slope} {expected}");
        seen += usize::from(expected > 0.01);
    }
    assert!(seen >= 2, "{seen} gradients worth the name");
}

#[test]
fn autocorrelation_is_the_direct_sum_over_the_pyramid() {
    let side = 32;
    let maps = Rng::new(2, 0).normals(2 * side * side);
    // The second map has a slope: its neighbours are alike.
    let value = |i: usize| {
        let x = f64::from(maps[i]);
        if i < side * side { x } else { 0.3 * x + (i % side) as f64 / side as f64 }
    };
    let values: Vec<f64> = (0..2 * side * side).map(value).collect();
    let t = Tensor::from_slice(&values, (2, 1, side, side), &Device::Cpu).unwrap();
    let found = autocorrelation(&t).unwrap().to_vec1::<f64>().unwrap();
    for (map, found) in values.chunks_exact(side * side).zip(&found) {
        let (mut picture, mut r, mut expected) = (map.to_vec(), side, 0.0);
        loop {
            let at = |y: usize, x: usize| picture[(y % r) * r + x % r];
            let (mut across, mut down) = (0.0, 0.0);
            for y in 0..r {
                for x in 0..r {
                    across += at(y, x) * at(y, x + r - 1);
                    down += at(y, x) * at(y + r - 1, x);
                }
            }
            let size = (r * r) as f64;
            expected += (across / size).powi(2) + (down / size).powi(2);
            if r == 8 {
                break;
            }
            let half = r / 2;
            let four = |i: usize| {
                let (y, x) = (2 * (i / half), 2 * (i % half));
                (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 2.0
            };
            picture = (0..half * half).map(four).collect();
            r = half;
        }
        assert!((found - expected).abs() < 1e-9 * expected.max(1.0), "{found} {expected}");
    }
    assert!(found[1] > 100.0 * found[0], "{found:?}");
}

#[test]
fn optimised_noise_stays_standard_and_limits_hold() {
    let params = ProjectionParams { steps: 30, noise: NoiseInputs::Optimised, ..Default::default() };
    let (_folder, mut p) = projection(params.clone());
    let (x, _) = known(&p, 2);
    let start = p.mean_codes(2).unwrap();
    let (_, report) = p.project(&x, &start).unwrap();
    assert!(report.after.iter().zip(&report.before).all(|(a, b)| a < b), "{report:?}");
    let maps = Maps::new(p.config(), 2, &mut Rng::new(6, 0), &Device::Cpu).unwrap();
    let (_, first) = &maps.vars()[0];
    first.set(&first.as_detached_tensor().affine(3.0, 1.0).unwrap()).unwrap();
    maps.normalise().unwrap();
    for map in maps.tensors() {
        for one in map.flatten_from(1).unwrap().to_vec2::<f32>().unwrap() {
            let n = one.len() as f32;
            let mean = one.iter().sum::<f32>() / n;
            let square = one.iter().map(|v| v * v).sum::<f32>() / n;
            assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
        }
    }

    // The time is over before the steps are.
    let quick = ProjectionParams { steps: 1_000_000, seconds: Some(0.05), ..Default::default() };
    let (_folder, mut p) = projection(quick);
    let (_, report) = p.project(&x, &start).unwrap();
    assert!((1..1_000_000).contains(&report.steps), "{report:?}");
    assert!(report.after.iter().zip(&report.before).all(|(a, b)| a <= b), "{report:?}");

    struct Stop;
    impl Monitor for Stop {
        fn log(&self, _: Level, _: &str) {}
        fn progress(&self, _: &str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    assert!(matches!(p.project_watched(&x, &start, &Stop), Err(Error::Cancelled)));
    let error = p.project(&x, &start.slice(0, 1)).unwrap_err().to_string();
    assert!(error.contains("begin a projection") && error.contains("[1, 1, 6]"), "{error}");
}

#[test]
fn the_schedule_is_the_papers() {
    // 1000 steps, up over 50, down over 250, noise over 750: appendix D.
    let p = ProjectionParams { learning_rate: 0.1, ..ProjectionParams::default() };
    let rate = |step: u32| p.rate(f64::from(step) / 1000.0, 1e-3);
    assert!((rate(24) - 0.05).abs() < 1e-9 && (rate(49) - 0.1).abs() < 1e-9);
    assert!((rate(750) - 0.1).abs() < 1e-9 && (rate(875) - 0.05).abs() < 1e-9 && rate(999) < 1e-5);
    assert!((p.strength(0.0) - 0.05).abs() < 1e-12 && (p.strength(0.375) - 0.0125).abs() < 1e-12);
    assert_eq!((p.strength(0.75), p.strength(0.9)), (0.0, 0.0));
}

#[test]
fn bad_parameters_are_named() {
    let refused = |json: &str, words: &[&str]| {
        let p = serde_json::from_str::<ProjectionParams>(json).map_err(|e| e.to_string());
        let error = p.and_then(|p| p.check().map_err(|e| e.to_string())).unwrap_err();
        assert!(words.iter().all(|w| error.contains(w)), "{json}: {error}");
    };
    refused(r#"{ "stepz": 3 }"#, &["stepz", "steps"]);
    refused(r#"{ "steps": 0 }"#, &["`steps`", "at least 1"]);
    refused(r#"{ "seconds": -1 }"#, &["`seconds`", "positive"]);
    refused(r#"{ "learning-rate": 0 }"#, &["`learning-rate`"]);
    refused(r#"{ "ramp-up": 2 }"#, &["`ramp-up`", "0 to 1"]);
    refused(r#"{ "prior-weight": -0.1 }"#, &["`prior-weight`"]);
    refused(r#"{ "noise": "random" }"#, &["random", "optimised"]);
    refused(r#"{ "space": "z" }"#, &["w+"]);
    let (_folder, p) = projection(ProjectionParams::default());
    let distance = Perceptual::of_network(Box::new(Smooth::new(1)), "smooth", &[], (1, SIDE)).unwrap();
    assert!(p.with_features(distance, 0.0).err().unwrap().to_string().contains("weight of features"));
}

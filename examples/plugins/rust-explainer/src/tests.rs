//! A linear f has a linear model of its own, and a minimum cannot be improved.

use super::*;
use shiftlens_sdk::api::{Predictor, PredictorInfo, Scores, Silent};
use shiftlens_sdk::serde_json::json;

/// f(x) = 0.5 + sum_p a_p x_p, and 1 - f as the other class.
struct Linear {
    largest: usize,
}

/// a_p: between -0.004 and 0.004, without a pattern, so that f stays in [0, 1].
fn slope(p: usize) -> f64 {
    (((p * 37) % 29) as f64 / 14.0 - 1.0) * 0.004
}

impl Predictor for Linear {
    fn info(&self) -> PredictorInfo {
        let classes = vec!["no".into(), "yes".into()];
        PredictorInfo { classes, input_size: None, channels: 1, backend: "closed form".into() }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        self.largest = self.largest.max(x.len());
        let f = |i| x.image(i).iter().enumerate().fold(0.5, |f, (p, v)| f + slope(p) * f64::from(*v));
        Scores::new([x.len(), 2], (0..x.len()).flat_map(|i| [1.0 - f(i) as f32, f(i) as f32]).collect())
    }
}

fn image() -> Images {
    let data = (0..9 * 10).map(|p| ((p * 53 + 5) % 31) as f32 / 30.0).collect();
    Images::new([1, 1, 9, 10], data).unwrap()
}

/// A map's values, and its notes.
type Made = (Vec<f32>, Vec<(String, String)>);

fn explain(params: Value, seed: u64, f: &mut Linear) -> Result<Made> {
    let mut cx = Context { predictor: f, latent: None, monitor: &Silent, seed };
    let target = Target { class: 1, name: "yes".into() };
    let mut answer = Lime::create(&params)?.explain(&mut cx, &image(), &target)?.remove(0);
    let Explanation::Heatmap { map, notes, .. } = answer.remove(0) else { panic!("a heatmap") };
    Ok((map.as_slice().to_vec(), notes))
}

/// The rectangle of each pixel of a 9 x 10 image in a grid of 3 x 5: written anew, for these numbers alone.
fn rectangle(p: usize) -> usize {
    (p / 10 / 3) * 5 + p % 10 / 2
}

#[test]
fn of_a_linear_f_the_weights_are_what_each_rectangle_adds() {
    let x = image();
    for (hide, label) in [(json!("mean"), "mean"), (json!(0.25), "a value")] {
        let params = json!({ "grid": [3, 5], "samples": 400, "penalty": 1e-9, "hide": hide, "batch": 7 });
        let mut f = Linear { largest: 0 };
        let (map, notes) = explain(params, 3, &mut f).unwrap();
        assert_eq!(f.largest, 7);
        for (p, found) in map.iter().enumerate() {
            let mine: Vec<usize> = (0..90).filter(|q| rectangle(*q) == rectangle(p)).collect();
            let mean = mine.iter().map(|q| f64::from(x.image(0)[*q])).sum::<f64>() / mine.len() as f64;
            let hidden = if label == "mean" { mean } else { 0.25 };
            let adds: f64 = mine.iter().map(|q| slope(*q) * (f64::from(x.image(0)[*q]) - hidden)).sum();
            // f answers in f32.
            assert!((f64::from(*found) - adds).abs() < 2e-7, "hide {label}, pixel {p}: {found}, not {adds}");
        }
        let (_, fit) = notes.iter().find(|(k, _)| k.contains("linear model")).unwrap();
        assert_eq!(fit, "1.000");
    }
}

#[test]
fn the_linear_model_is_the_least_of_what_it_minimises() {
    let (m, n, width, penalty) = (6, 40, 0.4, 0.3);
    let samples: Vec<Vec<bool>> =
        (0..n).map(|i| (0..m).map(|s| i == 0 || (i * 7 + s * 5 + i * s) % 3 == 0).collect()).collect();
    let scores: Vec<f64> = (0..n).map(|i| ((i * i * 17 + 3) % 23) as f64 / 23.0).collect();
    let fitted = Surrogate::fit(&samples, &scores, width, penalty).unwrap();
    let objective = |w: &[f64], intercept: f64| {
        let loss: f64 = samples
            .iter()
            .zip(&scores)
            .map(|(z, y)| {
                let kept: Vec<f64> = (0..m).filter(|s| z[*s]).map(|s| w[s]).collect();
                let d = 1.0 - (kept.len() as f64 / m as f64).sqrt();
                (-d * d / (width * width)).exp() * (y - intercept - kept.iter().sum::<f64>()).powi(2)
            })
            .sum();
        loss + penalty * w.iter().map(|w| w * w).sum::<f64>()
    };
    let least = objective(&fitted.weights, fitted.intercept);
    let h = 1e-5;
    for s in 0..=m {
        let moved = |by: f64| {
            let (mut w, mut intercept) = (fitted.weights.clone(), fitted.intercept);
            if s < m {
                w[s] += by
            } else {
                intercept += by
            }
            objective(&w, intercept)
        };
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        assert!(slope.abs() < 1e-9, "coefficient {s}: the objective still falls, by {slope}");
        assert!(moved(0.01) > least && moved(-0.01) > least, "coefficient {s}");
    }
    // The whole image counts most, the empty one least.
    assert_eq!(surrogate::proximity(&[true; 4], 0.25), 1.0);
    assert!((surrogate::proximity(&[false; 4], 0.25) - (-16.0f64).exp()).abs() < 1e-18);
}

#[test]
fn a_seed_decides_about_the_samples() {
    let params = json!({ "grid": [3, 5], "samples": 20 });
    let map = |seed| explain(params.clone(), seed, &mut Linear { largest: 0 }).unwrap().0;
    assert_eq!(map(1), map(1));
    assert_ne!(map(1), map(2));
}

#[test]
fn mistakes_are_named() {
    for (params, words) in [
        (json!({ "gird": [3, 5] }), "unknown field `gird`"),
        (json!({ "grid": [1, 1] }), "`grid` is [1, 1]"),
        (json!({ "grid": [0, 4] }), "`grid` is [0, 4]"),
        (json!({ "grid": [10, 4] }), "the image has 9 rows and 10 columns"),
        (json!({ "samples": 1 }), "`samples` is 1"),
        (json!({ "width": 0.0 }), "`width` is 0"),
        (json!({ "penalty": -1.0 }), "`penalty` is -1"),
        (json!({ "batch": 0 }), "`batch` is 0"),
        (json!({ "hide": "grey" }), "`hide` is \"grey\", expected \"mean\""),
        (json!({ "hide": 1.5 }), "`hide` is 1.5"),
    ] {
        let message = explain(params, 0, &mut Linear { largest: 0 }).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

//! The Grad-CAM plugin through the real shared library, on predictors that are plugins themselves: one in Rust and two
//! in C.

mod plugin_support;

use plugin_support::{compile, every_kind, gradcam, halves, says};
use serde_json::{Value, json};
use shiftlens_api::{Heatmap, Images, Predictor};
use shiftlens_engine::plugin::{self, PluginLibrary};

fn in_c(source: &str) -> Box<dyn Predictor> {
    let lib = PluginLibrary::open(&compile(&format!("examples/plugins/{source}"))).unwrap();
    plugin::predictor(&lib, &Value::Null).unwrap()
}

#[track_caller]
fn close(map: &Heatmap, expected: impl Iterator<Item = f32>) {
    let expected: Vec<f32> = expected.collect();
    assert_eq!(map.as_slice().len(), expected.len());
    for (v, e) in map.as_slice().iter().zip(&expected) {
        assert!((v - e).abs() < 1e-4, "{:?}\n{expected:?}", map.as_slice());
    }
}

#[test]
fn it_explains_a_predictor_that_is_a_plugin_in_rust() {
    // Layer `halves`: A_0 the upper half, A_1 the lower; logit of `top` 1.25 (sum A_0 - sum A_1).
    let mut f = plugin::predictor(&every_kind(), &Value::Null).unwrap();
    let x = halves(2, 0.6, 0.5);
    let top = |p: usize| p < 8;
    let with = |method: &str| json!({ "method": method, "layer": "halves" });
    let slopes = |p: usize| if top(p) { 1.25 } else { -1.25 };
    for (i, (map, notes)) in gradcam(&mut *f, &x, 1, with("gradcam")).unwrap().iter().enumerate() {
        close(map, (0..16).map(|p| slopes(p) * x.image(i)[p]));
        let names: Vec<&str> = notes.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(names, ["layer", "score kind", "class", "score", "ReLU"]);
        assert_eq!((notes[0].1.as_str(), notes[2].1.as_str()), ("halves", "top"));
    }
    for (i, (map, _)) in gradcam(&mut *f, &x, 0, with("hirescam")).unwrap().iter().enumerate() {
        close(map, (0..16).map(|p| -slopes(p) * x.image(i)[p]));
    }
    // The other class's logit is the negative.
    for (i, (map, _)) in gradcam(&mut *f, &x, 1, with("finercam")).unwrap().iter().enumerate() {
        close(map, (0..16).map(|p| 1.6 * slopes(p) * x.image(i)[p]));
    }
    for (i, (map, _)) in gradcam(&mut *f, &x, 1, with("ablationcam")).unwrap().iter().enumerate() {
        let (above, below) = (10.0 * x.image(i)[0], 10.0 * x.image(i)[15]);
        let weight = |p: usize| if top(p) { above / (above - below) } else { -below / (above - below) };
        close(map, (0..16).map(|p| weight(p) * x.image(i)[p]));
    }
    // The corners are kept, so that channel 0 masks the lower half away and channel 1 the upper.
    for (i, (map, _)) in gradcam(&mut *f, &x, 1, with("scorecam")).unwrap().iter().enumerate() {
        let (above, below) = (10.0 * x.image(i)[0], 10.0 * x.image(i)[15]);
        let weight = |p: usize| 1.0 / (1.0 + (if top(p) { -1.0 } else { 1.0 } * (above + below)).exp());
        close(map, (0..16).map(|p| weight(p) * x.image(i)[p]));
    }
}

#[test]
fn it_explains_a_predictor_that_is_a_plugin_in_c() {
    // Layer `halves`: A_0 the left half, A_1 the right; logit of `left` 20/64 (sum A_0 - sum A_1).
    let mut f = in_c("c-white-box/two_masks.c");
    let x = Images::new([2, 1, 8, 8], (0..128).map(|j| 0.2 + 0.005 * j as f32).collect()).unwrap();
    let slope = |p: usize| if p % 8 < 4 { 20.0 / 64.0 } else { -20.0 / 64.0 };
    let logit = |i: usize| x.image(i).iter().enumerate().map(|(p, v)| slope(p) * v).sum::<f32>();
    for (i, (map, notes)) in gradcam(&mut *f, &x, 0, json!({"method": "gradcam"})).unwrap().iter().enumerate()
    {
        close(map, x.image(i).iter().enumerate().map(|(p, v)| slope(p) * v));
        let score: f32 = notes.iter().find(|(k, _)| k == "score").unwrap().1.parse().unwrap();
        assert!((score - logit(i)).abs() < 1e-4);
    }
    let params = json!({"method": "hirescam", "score": "probability"});
    for (i, (map, _)) in gradcam(&mut *f, &x, 1, params).unwrap().iter().enumerate() {
        let p = 1.0 / (1.0 + logit(i).exp());
        close(map, x.image(i).iter().enumerate().map(|(q, v)| -p * (1.0 - p) * slope(q) * v));
    }
    for method in ["scorecam", "eigencam", "gradcam++", "layercam", "finercam"] {
        gradcam(&mut *f, &x, 0, json!({ "method": method })).unwrap();
    }
    // It has no shiftlens.activations/1.
    let refused = gradcam(&mut *f, &x, 0, json!({"method": "ablationcam"}));
    says(
        refused,
        &[
            "Ablation-CAM",
            "plugin example.two-masks",
            "offers no `shiftlens.activations/1`",
            "gradcam, hirescam",
        ],
    );
    says(gradcam(&mut *f, &x, 0, json!({"layer": "halve"})), &["did you mean `halves`?"]);
}

#[test]
fn a_black_box_is_refused_with_the_methods_that_work() {
    let mut f = in_c("c-predictor/joint_space.c");
    let x = Images::new([1, 1, 32, 32], vec![0.5; 1024]).unwrap();
    for method in ["gradcam", "eigencam", "scorecam", "ablationcam"] {
        says(
            gradcam(&mut *f, &x, 0, json!({ "method": method })),
            &[
                "plugin shiftlens.gradcam",
                "black box",
                "eigencam and scorecam",
                "occlusion, rise or kernel-shap",
            ],
        );
    }
}

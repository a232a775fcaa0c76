//! The explainer against a predictor whose activations, gradients and scores are known in closed form.

use shiftlens_gradcam::explainer::GradCamExplainer;
use shiftlens_sdk::Create;
use shiftlens_sdk::api::{
    Context, Error, Explainer, Explanation, GradientOutput, GradientRequest, Gradients, Heatmap, Images,
    LayerInfo, Level, Monitor, Predictor, PredictorInfo, Result, ScoreKind, Scores, Silent, Target, Tensor,
};
use shiftlens_sdk::serde_json::{Value, json};
use std::sync::Mutex;

/// Two channels A = [x, 1 - x] at `relu_2`, A = [x] at `relu_1`, and the logit `s_k = sum_p (2 + k) A_0 - A_1` of
/// class k of three, whose probability is the sigmoid of it.
struct Linear {
    white: bool,
    derivable: bool,
    replaceable: bool,
    requests: Vec<GradientRequest>,
    /// Images of the largest call without layers, rows of the largest with replaced activations.
    largest: usize,
}

impl Linear {
    fn new() -> Self {
        Self { white: true, derivable: true, replaceable: true, requests: Vec::new(), largest: 0 }
    }
}

/// The logit of class `k` from the second layer's activations.
fn logit(k: usize, a0: &[f32], a1: &[f32]) -> f32 {
    (2.0 + k as f32) * a0.iter().sum::<f32>() - a1.iter().sum::<f32>()
}

fn inverted(x: &[f32]) -> Vec<f32> {
    x.iter().map(|v| 1.0 - v).collect()
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

impl Predictor for Linear {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            input_size: None,
            channels: 1,
            backend: "test".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        self.largest = self.largest.max(x.len());
        let score = |j: usize| sigmoid(logit(j % 3, x.image(j / 3), &inverted(x.image(j / 3))));
        Scores::new([x.len(), 3], (0..3 * x.len()).map(score).collect())
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        if self.white { Some(self) } else { None }
    }
}

impl Gradients for Linear {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        let layer = |name: &str, default| LayerInfo {
            name: name.into(),
            operator: "Relu".into(),
            shape: vec![Some(2), None, None],
            default,
        };
        Ok(vec![layer("relu_1", false), layer("relu_2", true)])
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        self.requests.push(request.clone());
        if request.layer_gradients && !self.derivable {
            return Err(Error::Unsupported("no rule for the operator `Round`".into()));
        }
        if let Some(other) = request.layers.iter().find(|l| !["relu_1", "relu_2"].contains(&l.as_str())) {
            return Err(Error::Invalid(format!("no tensor {other}")));
        }
        if request.layers.is_empty() {
            self.largest = self.largest.max(x.len());
        }
        let (n, (h, w)) = (x.len(), x.size());
        let class = |i: usize| request.classes[i.min(request.classes.len() - 1)];
        let (mut activations, mut gradients) = (Vec::new(), Vec::new());
        for name in &request.layers {
            let two = name == "relu_2";
            let (mut a, mut g) = (Vec::new(), Vec::new());
            for i in 0..n {
                let slope = 2.0 + class(i) as f32;
                a.extend_from_slice(x.image(i));
                // A_1 depends on x as well.
                g.extend(vec![if two { slope } else { slope + 1.0 }; h * w]);
                if two {
                    a.extend(inverted(x.image(i)));
                    g.extend(vec![-1.0; h * w]);
                }
            }
            let shape = vec![n, 1 + usize::from(two), h, w];
            activations.push(Tensor::new(shape.clone(), a)?);
            gradients.extend(request.layer_gradients.then_some(Tensor::new(shape, g)?));
        }
        let scores = (0..n).map(|i| logit(class(i), x.image(i), &inverted(x.image(i))));
        let kind = |s: f32| if request.score == ScoreKind::Logit { s } else { sigmoid(s) };
        Ok(GradientOutput {
            scores: scores.map(kind).collect(),
            activations,
            gradients,
            input_gradient: None,
        })
    }
    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        _: ScoreKind,
    ) -> Result<Vec<f32>> {
        assert_eq!((layer, x.len(), classes.len()), ("relu_2", 1, 1));
        if !self.replaceable {
            return Err(Error::Unsupported("the predictor takes no activations".into()));
        }
        let (h, w) = x.size();
        self.largest = self.largest.max(activations.shape()[0]);
        let rows = activations.as_slice().chunks_exact(2 * h * w);
        Ok(rows.map(|r| logit(classes[0], &r[..h * w], &r[h * w..])).collect())
    }
}

/// Three images of 2x2 with the values 0, 1/12, 2/12, …
fn pictures() -> Images {
    Images::new([3, 1, 2, 2], (0..12).map(|v| v as f32 / 12.0).collect()).unwrap()
}

fn explain(f: &mut Linear, params: Value) -> Result<Vec<Vec<Explanation>>> {
    let mut cx = Context { predictor: f, latent: None, monitor: &Silent, seed: 0 };
    let target = Target { class: 1, name: "b".into() };
    GradCamExplainer::create(&params)?.explain(&mut cx, &pictures(), &target)
}

fn heatmap(of_image: &[Explanation]) -> (&str, &Heatmap, &[(String, String)]) {
    match of_image {
        [Explanation::Heatmap { title, map, notes }] => (title, map, notes),
        other => panic!("{other:?}"),
    }
}

fn note<'a>(notes: &'a [(String, String)], key: &str) -> &'a str {
    notes.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str())
}

#[test]
fn one_call_explains_the_whole_batch_with_raw_signed_maps() {
    let mut f = Linear::new();
    let answer = explain(&mut f, json!({})).unwrap();
    assert_eq!((answer.len(), f.requests.len()), (3, 1));
    assert_eq!(f.requests[0].layers, ["relu_2"]);
    assert_eq!(f.requests[0].classes, [1]);
    for (i, explanations) in answer.iter().enumerate() {
        let (title, map, notes) = heatmap(explanations);
        assert_eq!((title, map.size()), ("Grad-CAM", (2, 2)));
        for (v, x) in map.as_slice().iter().zip(pictures().image(i)) {
            assert!((v - (3.0 * x - (1.0 - x))).abs() < 1e-6);
        }
        assert_eq!((note(notes, "layer"), note(notes, "score kind")), ("relu_2", "logit"));
        assert_eq!(note(notes, "class"), "b");
        assert!(note(notes, "ReLU").starts_with("not applied"));
        let score: f32 = note(notes, "score").parse().unwrap();
        assert!((score - map.as_slice().iter().sum::<f32>()).abs() < 1e-4);
    }
    // The first map is negative at its darkest place: no ReLU.
    assert!(heatmap(&answer[0]).1.range().0 < -0.9);
}

#[test]
fn a_method_of_activations_asks_for_no_gradients() {
    let mut f = Linear { derivable: false, ..Linear::new() };
    let answer = explain(&mut f, json!({"method": "eigencam", "layer": "relu_1"})).unwrap();
    assert!(!f.requests[0].layer_gradients);
    assert_eq!(f.requests[0].layers, ["relu_1"]);
    assert!(note(heatmap(&answer[0]).2, "class").contains("does not depend on it"));
}

/// Score-CAM's map in closed form: image and layer are of one size, so the masks are A scaled to [0, 1].
fn score_cam(x: &[f32], score: impl Fn(&[f32]) -> f32) -> Vec<f64> {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    let mask: Vec<f32> = x.iter().map(|v| (v - low) / (high - low)).collect();
    let under = |m: &dyn Fn(f32) -> f32| {
        let masked: Vec<f32> = x.iter().zip(&mask).map(|(x, v)| x * m(*v)).collect();
        f64::from(score(&masked)).exp()
    };
    let (e0, e1) = (under(&|m| m), under(&|m| 1.0 - m));
    let w = e0 / (e0 + e1);
    x.iter().map(|v| w * f64::from(*v) + (1.0 - w) * (1.0 - f64::from(*v))).collect()
}

#[test]
fn score_cam_masks_the_image_and_weighs_by_the_softmax() {
    let logits = |x: &[f32]| logit(1, x, &inverted(x));
    let probabilities = |x: &[f32]| sigmoid(logit(1, x, &inverted(x)));
    for (kind, score) in [("logit", &logits as &dyn Fn(&[f32]) -> f32), ("probability", &probabilities)] {
        for batch in [1, 2, 32] {
            let mut f = Linear { derivable: false, ..Linear::new() };
            let answer =
                explain(&mut f, json!({"method": "scorecam", "score": kind, "batch": batch})).unwrap();
            assert_eq!(f.largest, batch.min(2), "masked images at once");
            assert!(f.requests.iter().all(|r| !r.layer_gradients && !r.input_gradient));
            for (i, explanations) in answer.iter().enumerate() {
                let (title, map, notes) = heatmap(explanations);
                assert_eq!((title, note(notes, "score kind")), ("Score-CAM", kind));
                assert!(note(notes, "masked image").contains("[0, 1]"));
                for (v, e) in map.as_slice().iter().zip(score_cam(pictures().image(i), score)) {
                    assert!((f64::from(*v) - e).abs() < 1e-5, "{kind} {i}: {v} {e}");
                }
            }
        }
    }
}

#[test]
fn ablation_cam_weighs_by_the_relative_drop() {
    for batch in [1, 2, 32] {
        let mut f = Linear { derivable: false, ..Linear::new() };
        let answer = explain(&mut f, json!({"method": "ablationcam", "batch": batch})).unwrap();
        assert_eq!(f.largest, batch.min(2), "variants at once");
        for (i, explanations) in answer.iter().enumerate() {
            let x = pictures().image(i).to_vec();
            let (_, map, notes) = heatmap(explanations);
            let (s, a0, a1) =
                (logit(1, &x, &inverted(&x)), 3.0 * x.iter().sum::<f32>(), -inverted(&x).iter().sum::<f32>());
            for (v, x) in map.as_slice().iter().zip(&x) {
                let expected = (a0 * x + a1 * (1.0 - x)) / s;
                assert!((v - expected).abs() < 1e-5, "{i}: {v} {expected}");
            }
            // The logits are -2, 4.33 and 9.67.
            assert_eq!(note(notes, "sign").is_empty(), s > 0.0);
        }
    }
}

#[test]
fn finer_cam_takes_off_the_mean_of_the_reference_classes() {
    // w_0 = 3 - alpha mean_d (2 + d), w_1 = -1 + alpha.
    for (references, slope) in [(json!(["a"]), 2.0), (json!([0, 2]), 3.0), (json!(3), 3.0), (json!([2]), 4.0)]
    {
        let mut f = Linear::new();
        let params = json!({"method": "finercam", "alpha": 0.5, "references": references.clone()});
        let answer = explain(&mut f, params).unwrap();
        for (i, explanations) in answer.iter().enumerate() {
            let (_, map, notes) = heatmap(explanations);
            for (v, x) in map.as_slice().iter().zip(pictures().image(i)) {
                let expected = (3.0 - 0.5 * slope) * x - 0.5 * (1.0 - x);
                assert!((v - expected).abs() < 1e-5, "{references}: {v} {expected}");
            }
            assert_eq!(note(notes, "alpha"), "0.5");
            assert!(["a", "a, c", "c, a", "c"].contains(&note(notes, "reference classes")), "{notes:?}");
        }
    }
    // The nearest class is another for each image, and is asked for image by image.
    let mut f = Linear::new();
    let answer = explain(&mut f, json!({"method": "finercam", "references": 1})).unwrap();
    let named: Vec<_> = answer.iter().map(|e| note(heatmap(e).2, "reference classes")).collect();
    assert_eq!(named, ["a", "c", "c"]);
    assert_eq!(f.requests[1].classes, [0, 2, 2]);
}

#[test]
fn several_layers_become_one_map() {
    let mut f = Linear::new();
    let answer = explain(&mut f, json!({"layers": ["relu_1", "relu_2"]})).unwrap();
    assert_eq!(f.requests.len(), 1);
    assert_eq!(f.requests[0].layers, ["relu_1", "relu_2"]);
    for (i, explanations) in answer.iter().enumerate() {
        let (_, map, notes) = heatmap(explanations);
        assert_eq!(note(notes, "layers"), "relu_1, relu_2");
        assert!(note(notes, "mean over layers").contains("divided"));
        let x = pictures().image(i).to_vec();
        let one: Vec<f32> = x.iter().map(|x| 4.0 * x).collect();
        let two: Vec<f32> = x.iter().map(|x| 3.0 * x - (1.0 - x)).collect();
        let largest = |v: &[f32]| v.iter().fold(0f32, |a, v| a.max(v.abs()));
        for ((v, a), b) in map.as_slice().iter().zip(&one).zip(&two) {
            assert!((v - 0.5 * (a / largest(&one) + b / largest(&two))).abs() < 1e-5);
        }
    }
}

#[test]
fn mistakes_and_missing_abilities_get_clear_errors() {
    let refused = |mut f: Linear, params: Value, words: &[&str]| {
        let message = explain(&mut f, params).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "`{word}` is missing in: {message}");
        }
    };
    for method in ["gradcam", "eigencam", "scorecam", "ablationcam"] {
        let black = Linear { white: false, ..Linear::new() };
        let words = ["black box", "\"onnx\"", "eigencam and scorecam need activations alone", "occlusion"];
        refused(black, json!({ "method": method }), &words);
    }
    let underivable = || Linear { derivable: false, ..Linear::new() };
    refused(
        underivable(),
        json!({}),
        &["Grad-CAM", "`Round`", "need no gradients: eigencam, scorecam, ablationcam"],
    );
    let closed = Linear { replaceable: false, ..Linear::new() };
    let words =
        ["Ablation-CAM", "takes no activations", "gradcam, hirescam", "eigencam, eigengradcam, scorecam"];
    refused(closed, json!({"method": "ablationcam"}), &words);
    refused(Linear::new(), json!({"layer": "rel_2"}), &["`rel_2`", "did you mean `relu_2`?"]);
    refused(Linear::new(), json!({"layers": ["relu_1", "rel_2"]}), &["`rel_2`", "did you mean `relu_2`?"]);
    refused(Linear::new(), json!({"grid": [2, 2]}), &["params.grid", "`relu_2`", "[3, 2, 2, 2]"]);
    refused(Linear::new(), json!({"method": "finercam", "references": ["d"]}), &["no class `d`"]);
    refused(Linear::new(), json!({"method": "finercam", "references": ["b"]}), &["the target itself"]);
}

#[test]
fn a_score_of_zero_is_no_divisor() {
    // (2 + 1) * 0.25 - 0.75 = 0.
    let x = Images::new([1, 1, 1, 1], vec![0.25]).unwrap();
    let mut f = Linear::new();
    let mut cx = Context { predictor: &mut f, latent: None, monitor: &Silent, seed: 0 };
    let mut explainer = GradCamExplainer::create(&json!({"method": "ablationcam"})).unwrap();
    let message =
        explainer.explain(&mut cx, &x, &Target { class: 1, name: "b".into() }).unwrap_err().to_string();
    assert!(
        message.contains("score, which is 0 for image 0") && message.contains("params.score"),
        "{message}"
    );
}

/// Remembers progress, and stops the work after so many steps of it.
#[derive(Default)]
struct Impatient {
    steps: Mutex<Vec<(u64, u64)>>,
    patience: usize,
}

impl Monitor for Impatient {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: &str, done: u64, total: u64) {
        self.steps.lock().unwrap().push((done, total));
    }
    fn cancelled(&self) -> bool {
        self.steps.lock().unwrap().len() >= self.patience
    }
}

#[test]
fn long_work_reports_and_stops_between_batches() {
    let target = Target { class: 1, name: "b".into() };
    for method in ["scorecam", "ablationcam"] {
        let mut f = Linear::new();
        let mut explainer = GradCamExplainer::create(&json!({"method": method, "batch": 1})).unwrap();
        let patient = Impatient { patience: usize::MAX, ..Impatient::default() };
        let mut cx = Context { predictor: &mut f, latent: None, monitor: &patient, seed: 0 };
        explainer.explain(&mut cx, &pictures(), &target).unwrap();
        // Three images of two channels each.
        let steps: Vec<_> = (1..=6).map(|done| (done, 6)).collect();
        assert_eq!(patient.steps.into_inner().unwrap(), steps);
        let impatient = Impatient { patience: 3, ..Impatient::default() };
        let mut cx = Context { predictor: &mut f, latent: None, monitor: &impatient, seed: 0 };
        assert!(matches!(explainer.explain(&mut cx, &pictures(), &target), Err(Error::Cancelled)));
        assert_eq!(impatient.steps.into_inner().unwrap(), steps[..3]);
    }
}

#[test]
fn an_empty_batch_is_answered_with_nothing() {
    let x = Images::new([0, 1, 2, 2], Vec::new()).unwrap();
    let mut f = Linear::new();
    let mut cx = Context { predictor: &mut f, latent: None, monitor: &Silent, seed: 0 };
    let mut explainer = GradCamExplainer::create(&json!({})).unwrap();
    assert!(explainer.explain(&mut cx, &x, &Target { class: 0, name: "a".into() }).unwrap().is_empty());
}

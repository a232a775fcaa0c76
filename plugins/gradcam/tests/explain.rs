//! The explainer against a predictor whose gradients are known in closed form.

use shiftlens_gradcam::explainer::GradCamExplainer;
use shiftlens_sdk::Create;
use shiftlens_sdk::api::{
    Context, Error, Explainer, Explanation, GradientOutput, GradientRequest, Gradients, Images, LayerInfo,
    Predictor, PredictorInfo, Result, Scores, Silent, Target, Tensor,
};
use shiftlens_sdk::serde_json::{Value, json};

/// Two channels A = [x, 1 - x] and the score `sum_p (2 + class) A_0 - A_1`.
struct Linear {
    white: bool,
    calls: usize,
    request: GradientRequest,
}

impl Linear {
    fn new(white: bool) -> Self {
        Self { white, calls: 0, request: GradientRequest::default() }
    }
}

impl Predictor for Linear {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: vec!["a".into(), "b".into()],
            input_size: None,
            channels: 1,
            backend: "test".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        Scores::new([x.len(), 2], vec![0.5; 2 * x.len()])
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
        self.calls += 1;
        self.request = request.clone();
        if !request.layers[0].starts_with("relu_") {
            return Err(Error::Invalid(format!("no tensor {}", request.layers[0])));
        }
        let (n, (h, w)) = (x.len(), x.size());
        let slope = 2.0 + request.classes[0] as f32;
        let (mut a, mut g, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..n {
            a.extend_from_slice(x.image(i));
            a.extend(x.image(i).iter().map(|v| 1.0 - v));
            g.extend(vec![slope; h * w]);
            g.extend(vec![-1.0; h * w]);
            scores.push(x.image(i).iter().map(|v| slope * v - (1.0 - v)).sum());
        }
        let shape = vec![n, 2, h, w];
        Ok(GradientOutput {
            scores,
            activations: vec![Tensor::new(shape.clone(), a)?],
            gradients: if request.layer_gradients { vec![Tensor::new(shape, g)?] } else { Vec::new() },
            input_gradient: None,
        })
    }
}

fn explain(f: &mut Linear, params: Value) -> Result<Vec<Vec<Explanation>>> {
    let x = Images::new([3, 1, 2, 2], (0..12).map(|v| v as f32 / 12.0).collect()).unwrap();
    let mut cx = Context { predictor: f, latent: None, monitor: &Silent, seed: 0 };
    GradCamExplainer::create(&params)?.explain(&mut cx, &x, &Target { class: 1, name: "b".into() })
}

#[test]
fn one_call_explains_the_whole_batch_with_raw_signed_maps() {
    let mut f = Linear::new(true);
    let answer = explain(&mut f, json!({})).unwrap();
    assert_eq!((answer.len(), f.calls), (3, 1));
    assert_eq!(f.request.layers, ["relu_2"]);
    assert_eq!(f.request.classes, [1]);
    for (i, explanations) in answer.iter().enumerate() {
        let [Explanation::Heatmap { title, map, notes }] = &explanations[..] else {
            panic!("{explanations:?}")
        };
        assert_eq!((title.as_str(), map.size()), ("Grad-CAM", (2, 2)));
        for (p, v) in map.as_slice().iter().enumerate() {
            let x = (4 * i + p) as f32 / 12.0;
            assert!((v - (3.0 * x - (1.0 - x))).abs() < 1e-6);
        }
        let note = |key: &str| notes.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        assert_eq!((note("layer"), note("score kind")), (Some("relu_2"), Some("logit")));
        let score: f32 = note("score").unwrap().parse().unwrap();
        assert!((score - map.as_slice().iter().sum::<f32>()).abs() < 1e-4);
    }
    // The first map is negative at its darkest place: no ReLU.
    let Explanation::Heatmap { map, .. } = &answer[0][0] else { unreachable!() };
    assert!(map.range().0 < -0.9);
}

#[test]
fn a_method_of_activations_asks_for_no_gradients() {
    let mut f = Linear::new(true);
    explain(&mut f, json!({"method": "eigencam", "layer": "relu_1"})).unwrap();
    assert!(!f.request.layer_gradients);
    assert_eq!(f.request.layers, ["relu_1"]);
}

#[test]
fn mistakes_and_black_boxes_get_clear_errors() {
    let message = explain(&mut Linear::new(false), json!({})).unwrap_err().to_string();
    assert!(message.contains("no gradients") && message.contains("\"onnx\""), "{message}");
    let message = explain(&mut Linear::new(true), json!({"layer": "rel_2"})).unwrap_err().to_string();
    assert!(message.contains("`rel_2`") && message.contains("did you mean `relu_2`?"), "{message}");
}

#[test]
fn an_empty_batch_is_answered_with_nothing() {
    let x = Images::new([0, 1, 2, 2], Vec::new()).unwrap();
    let mut f = Linear::new(true);
    let mut cx = Context { predictor: &mut f, latent: None, monitor: &Silent, seed: 0 };
    let mut explainer = GradCamExplainer::create(&json!({})).unwrap();
    assert!(explainer.explain(&mut cx, &x, &Target { class: 0, name: "a".into() }).unwrap().is_empty());
}

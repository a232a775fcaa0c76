//! Raw maps against pytorch-grad-cam, from stored activations and gradients of fourteen classifiers.

mod recorded;

use recorded::{Golden, Head, Recorded};
use shiftlens_gradcam::explainer::GradCamExplainer;
use shiftlens_gradcam::layer::Layer;
use shiftlens_gradcam::layout::{Layout, Reading};
use shiftlens_gradcam::method::{METHODS, Method};
use shiftlens_sdk::Create;
use shiftlens_sdk::api::{Context, Explainer, Explanation, Silent, Target, Tensor};
use shiftlens_sdk::serde_json::{Value, json};

fn method(name: &str) -> &'static dyn Method {
    *METHODS.iter().find(|m| m.name() == name).unwrap()
}

fn layout(golden: &Golden) -> Layout {
    Layout::of("act", golden.array("act").shape(), &Reading::default(), (64, 64)).unwrap()
}

/// How far two sets of maps are apart, the worst sample of them.
#[derive(Debug, Clone, Copy)]
struct Distance {
    /// Largest difference relative to the largest value.
    relative: f64,
    /// Cosine of the angle between the maps.
    cosine: f64,
}

impl Distance {
    /// `sign_free` compares up to each map's sign.
    fn between(maps: &[Vec<f64>], golden: &Tensor, sign_free: bool) -> Self {
        let mut worst = Self { relative: 0.0, cosine: 1.0 };
        let size = golden.as_slice().len() / golden.shape()[0];
        assert_eq!(maps.len(), golden.shape()[0]);
        for (map, golden) in maps.iter().zip(golden.as_slice().chunks_exact(size)) {
            assert_eq!(map.len(), size);
            let golden: Vec<f64> = golden.iter().map(|v| f64::from(*v)).collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (mg, mm, gg) = (dot(map, &golden), dot(map, map), dot(&golden, &golden));
            let sign = if sign_free { mg.signum() } else { 1.0 };
            let largest = golden.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            let difference = map.iter().zip(&golden).fold(0.0f64, |m, (a, g)| m.max((sign * a - g).abs()));
            worst.relative = worst.relative.max(difference / largest);
            worst.cosine = worst.cosine.min(sign * mg / (mm * gg).sqrt());
        }
        worst
    }

    #[track_caller]
    fn must_be_small(self, what: &str) {
        println!("{what}: {:.1e}, 1 - cosine {:.1e}", self.relative, 1.0 - self.cosine);
        assert!(self.relative < 1e-4 && self.cosine > 0.9999, "{what}: {self:?}");
    }
}

fn maps(method: &dyn Method, golden: &Golden, gradients: Option<&Tensor>) -> Vec<Vec<f64>> {
    let (layout, act) = (layout(golden), golden.array("act"));
    (0..golden.len()).map(|i| method.map(&Layer::new(&layout, act, gradients, i).unwrap())).collect()
}

#[test]
fn methods_of_gradients_and_activations_agree() {
    let members = [
        ("gradcam", "gradcam", false),
        ("hirescam", "hirescam", false),
        ("gradcam++", "gradcampp", false),
        ("xgradcam", "xgradcam", false),
        ("layercam", "layercam", false),
        ("eigengradcam", "eigengradcam", true),
    ];
    for golden in Golden::all() {
        for (class, suffix) in golden.cases() {
            let gradients = golden.array(&format!("c{class}.grad_act{suffix}"));
            for (name, key, sign_free) in members {
                let expected = golden.array(&format!("c{class}.{key}{suffix}"));
                let found = maps(method(name), &golden, Some(gradients));
                Distance::between(&found, expected, sign_free)
                    .must_be_small(&format!("{} c{class}{suffix} {name}", golden.name));
            }
        }
        let found = maps(method("eigencam"), &golden, None);
        let expected = golden.array("eigencam");
        Distance::between(&found, expected, true).must_be_small(&format!("{} eigencam", golden.name));
    }
}

#[test]
fn score_cam_is_the_softmax_of_the_channels_scores() {
    let method = method("scorecam");
    for golden in Golden::all() {
        let (layout, act) = (layout(&golden), golden.array("act"));
        for (class, suffix) in golden.cases() {
            let weights = golden.array(&format!("c{class}.scorecam.weights{suffix}"));
            // The softmax leaves a constant open, so that the scores may be taken as the logarithms of the weights.
            let of_image = |i: usize| {
                let k = weights.shape()[1];
                let scores =
                    weights.as_slice()[i * k..(i + 1) * k].iter().map(|w| f64::from(*w).ln() + 700.0);
                let layer = Layer::new(&layout, act, None, i).unwrap();
                method.map(&layer.with_scores(0.0, scores.collect()).unwrap())
            };
            let found: Vec<_> = (0..golden.len()).map(of_image).collect();
            let expected = golden.array(&format!("c{class}.scorecam{suffix}"));
            Distance::between(&found, expected, false)
                .must_be_small(&format!("{} c{class}{suffix} scorecam", golden.name));
        }
    }
}

/// The maps of the whole component on a recorded network.
fn explain(network: &mut Recorded<'_>, class: usize, params: &Value) -> Vec<Vec<f64>> {
    let x = network.golden.images();
    let mut cx = Context { predictor: network, latent: None, monitor: &Silent, seed: 0 };
    let target = Target { class, name: class.to_string() };
    let all = GradCamExplainer::create(params).unwrap().explain(&mut cx, &x, &target).unwrap();
    let map = |of_image: &Vec<Explanation>| match &of_image[..] {
        [Explanation::Heatmap { map, .. }] => map.as_slice().iter().map(|v| f64::from(*v)).collect(),
        other => panic!("{other:?}"),
    };
    all.iter().map(map).collect()
}

#[test]
fn ablation_cam_silences_one_channel_at_a_time() {
    let mut linear = 0;
    for golden in Golden::all() {
        for (class, suffix) in golden.cases() {
            let expected = golden.array(&format!("c{class}.ablationcam{suffix}"));
            let gradients = golden.array(&format!("c{class}.grad_act{suffix}"));
            // A gradient that does not depend on the image is that of a linear head.
            let size = gradients.as_slice().len() / golden.len();
            let constant =
                gradients.as_slice().chunks_exact(size).all(|g| g == &gradients.as_slice()[..size]);
            linear += usize::from(constant);
            for head in if constant { &[Head::Recorded, Head::Linear][..] } else { &[Head::Recorded] } {
                let mut network = Recorded { golden: &golden, suffix, head: *head, largest: 0 };
                let found = explain(&mut network, class, &json!({ "method": "ablationcam", "batch": 5 }));
                assert_eq!(network.largest, 5);
                Distance::between(&found, expected, false)
                    .must_be_small(&format!("{} c{class}{suffix} ablationcam, {head:?}", golden.name));
            }
        }
    }
    assert!(linear >= 2, "no network with a linear head was found");
}

#[test]
fn finer_cam_is_linear_in_the_classes() {
    // Grad-CAM is linear in G, so Finer-CAM with one reference class is a difference of two of its maps.
    const ALPHA: f64 = 0.7;
    for golden in Golden::all() {
        for suffix in ["", "_logit"] {
            let classes: Vec<usize> =
                golden.cases().into_iter().filter(|(_, s)| *s == suffix).map(|(k, _)| k).collect();
            let &[a, b] = &classes[..] else { continue };
            for (class, other) in [(a, b), (b, a)] {
                let map = |k: usize| golden.array(&format!("c{k}.gradcam{suffix}"));
                let values = map(class).as_slice().iter().zip(map(other).as_slice());
                let values = values.map(|(a, b)| (f64::from(*a) - ALPHA * f64::from(*b)) as f32).collect();
                let expected = Tensor::new(map(class).shape().to_vec(), values).unwrap();
                let mut network = Recorded { golden: &golden, suffix, head: Head::Recorded, largest: 0 };
                let params = json!({ "method": "finercam", "alpha": ALPHA, "references": [other] });
                let found = explain(&mut network, class, &params);
                Distance::between(&found, &expected, false)
                    .must_be_small(&format!("{} c{class} over c{other}{suffix} finercam", golden.name));
            }
        }
    }
}

#[test]
fn names_and_titles_are_unique() {
    for (i, a) in METHODS.iter().enumerate() {
        assert!(METHODS[..i].iter().all(|b| a.name() != b.name() && a.title() != b.title()));
    }
}

//! Raw maps against pytorch-grad-cam, from stored activations and gradients.

use shiftlens_gradcam::layer::{Layer, Layout};
use shiftlens_gradcam::method::{METHODS, Method};
use shiftlens_sdk::api::Tensor;
use shiftlens_sdk::serde_json::{self, Value};
use std::collections::BTreeMap;
use std::path::Path;

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let index: Value =
        serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join(format!("{name}.f32"))).unwrap();
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let mut arrays = BTreeMap::new();
    for entry in index["arrays"].as_array().unwrap() {
        let shape: Vec<usize> =
            entry["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let data = values.by_ref().take(shape.iter().product()).collect();
        arrays.insert(entry["name"].as_str().unwrap().to_owned(), Tensor::new(shape, data).unwrap());
    }
    assert!(values.next().is_none());
    arrays
}

fn method(name: &str) -> &'static dyn Method {
    *METHODS.iter().find(|m| m.name() == name).unwrap()
}

/// Largest difference relative to the largest value, sample by sample; `sign_free` compares up to each map's sign.
fn error(method: &dyn Method, act: &Tensor, grad: Option<&Tensor>, golden: &Tensor, sign_free: bool) -> f64 {
    let layout = Layout::of("act", act.shape()).unwrap();
    assert_eq!(golden.shape(), [layout.images, layout.height, layout.width]);
    let mut worst = 0.0f64;
    for (i, golden) in golden.as_slice().chunks_exact(layout.height * layout.width).enumerate() {
        let map = method.map(&Layer::new(&layout, act, grad, i).unwrap());
        let dot: f64 = map.iter().zip(golden).map(|(m, g)| m * f64::from(*g)).sum();
        let sign = if sign_free { dot.signum() } else { 1.0 };
        let largest = golden.iter().fold(0.0, |m: f64, g| m.max(f64::from(g.abs())));
        let difference =
            map.iter().zip(golden).fold(0.0, |m: f64, (a, g)| m.max((sign * a - f64::from(*g)).abs()));
        worst = worst.max(difference / largest);
    }
    worst
}

#[test]
fn maps_are_those_of_pytorch_grad_cam() {
    let members = [
        ("gradcam", "gradcam", false),
        ("hirescam", "hirescam", false),
        ("gradcam++", "gradcampp", false),
        ("xgradcam", "xgradcam", false),
        ("layercam", "layercam", false),
        ("eigengradcam", "eigengradcam", true),
    ];
    for model in ["resnet_tiny", "vgg_tiny", "vit_tiny"] {
        let arrays = fixture(model);
        let mut compared = 0;
        for class in ["c1", "c4"] {
            for (name, key, sign_free) in members {
                let Some(golden) = arrays.get(&format!("{class}.{key}")) else { continue };
                let grad = &arrays[&format!("{class}.grad_act")];
                let e = error(method(name), &arrays["act"], Some(grad), golden, sign_free);
                println!("{model} {class} {name}: {e:.1e}");
                assert!(e < 1e-5, "{model} {class} {name}: {e}");
                compared += 1;
            }
        }
        let e = error(method("eigencam"), &arrays["act"], None, &arrays["eigencam"], true);
        println!("{model} eigencam: {e:.1e}");
        assert!(e < 1e-5, "{model} eigencam: {e}");
        assert!(compared >= 6, "{model}: the fixture holds only {compared} maps");
    }
}

#[test]
fn names_and_titles_are_unique() {
    for (i, a) in METHODS.iter().enumerate() {
        assert!(METHODS[..i].iter().all(|b| a.name() != b.name() && a.title() != b.title()));
    }
}

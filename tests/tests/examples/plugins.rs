//! `examples/plugins`: two predictors in C and an explainer in Rust.

use image::{GrayImage, Luma};
use shiftlens_api::record::ExplanationRecord;
use shiftlens_tests::document::{Workplace, blocks};
use shiftlens_tests::graph::Graph;
use shiftlens_tests::program::{arrays, cases, product, run_record, shiftlens};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

fn library(name: &str) {
    product(&format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"));
}

#[test]
fn the_predictor_in_c_is_built_and_run_as_its_document_says() {
    library("shiftlens_phantom");
    let folder = "examples/plugins/c-predictor";
    let place = Workplace::of(&[folder, "core/abi/include", "examples/phantom/images", "manifests"]);
    place.follow(&format!("{folder}/README.md"), None);
    let run = place.path("runs/phantom");
    let f = run_record(&run).components.into_iter().find(|c| c.role == "predictor").unwrap();
    assert!(f.backend.contains("example.joint-space"), "{f:?}");
    for case in cases(&run) {
        assert!(matches!(case.explanations[..], [ExplanationRecord::Shift { .. }]), "{case:?}");
    }
    // The table of functions names what is in the source.
    let read = |name: &str| std::fs::read_to_string(place.path(folder).join(name)).unwrap();
    let (document, source) = (read("README.md"), read("joint_space.c"));
    let table = document.lines().filter_map(|l| l.strip_prefix("| `")?.split_once(" |"));
    let names: Vec<&str> = table.flat_map(|(names, _)| names.split(['`', ',', ' '])).collect();
    let named: Vec<&&str> = names.iter().filter(|n| !n.is_empty()).collect();
    assert!(named.len() > 8, "{named:?}");
    for name in named {
        assert!(
            source.contains(&format!("{name}(")) || source.contains(&format!("{name} =")),
            "no {name} in joint_space.c"
        );
    }
}

#[test]
fn the_white_box_in_c_is_built_and_run_as_its_document_says() {
    library("shiftlens_gradcam");
    let folder = "examples/plugins/c-white-box";
    let place = Workplace::of(&[folder, "core/abi/include"]);
    place.follow(&format!("{folder}/README.md"), None);
    let case = cases(&place.path("runs/study")).remove(0);
    // The light comes from the right, and the two classes are each other's opposite.
    assert_eq!(case.explanations.len(), 2);
    let maps = arrays(&place.path("runs/study/cases").join(&case.id).join("arrays.safetensors"));
    let (left, right) = (maps["heatmap.0"].as_slice(), maps["heatmap.1"].as_slice());
    assert!(left.iter().zip(right).all(|(l, r)| (l + r).abs() < 1e-6 && *l != 0.0));
    assert!(right.iter().enumerate().all(|(p, v)| (*v > 0.0) == (p % 8 >= 4)), "{right:?}");
}

#[test]
fn the_explainer_in_rust_is_run_as_its_document_says() {
    library("lime_explainer");
    let folder = "examples/plugins/rust-explainer";
    let knee = ["examples/knee/classifier.onnx", "examples/knee/demo-images"];
    let place = Workplace::of(&[folder, knee[0], knee[1]]);
    let document = format!("{folder}/README.md");
    place.follow(&document, None);
    for case in cases(&place.path("runs/study")) {
        let [ExplanationRecord::Heatmap { title, range, notes, .. }] = &case.explanations[..] else {
            panic!("{case:?}")
        };
        assert_eq!(title, "LIME");
        assert!(range.0 < range.1, "{}: a flat map", case.id);
        assert!(notes.iter().any(|(k, v)| k == "grid" && v == "8 x 8 rectangles"), "{notes:?}");
    }
    // What it tells to build is a package of this workspace.
    let text = std::fs::read_to_string(place.path(&document)).unwrap();
    let build = blocks(&text).into_iter().find(|b| b.marks == ["build"]).expect("how it is built");
    let manifest = std::fs::read_to_string(place.path(folder).join("Cargo.toml")).unwrap();
    let package = manifest.lines().find_map(|l| l.strip_prefix("name = \"")).unwrap().trim_end_matches('"');
    assert!(build.text.contains(&format!("--package {package}\n")), "{}", build.text);
}

/// f is linear: the map is what each rectangle adds to the score.
#[test]
fn the_explainer_in_rust_finds_what_a_linear_classifier_does() {
    library("lime_explainer");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let slope: Vec<f32> = (0..256).map(|p| (((p * 37) % 29) as f32 / 14.0 - 1.0) * 1e-3).collect();
    Graph::default()
        .floats("slope", &[256, 1], &slope)
        .floats("half", &[], &[0.5])
        .node("Flatten", &["images"], "flat")
        .node("MatMul", &["flat", "slope"], "sum")
        .node("Add", &["sum", "half"], "score")
        .write(&at("linear.onnx"), ("images", &[1, 16, 16]), ("score", &[1]));
    let grey = |p: u32| ((p * 53 + 5) % 256) as u8;
    std::fs::create_dir(at("images")).unwrap();
    GrayImage::from_fn(16, 16, |x, y| Luma([grey(16 * y + x)])).save(at("images/a.png")).unwrap();
    let study = r#"schema = 1
name = "linear"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "linear.onnx"
output = { activation = "none" }
[[explainer]]
kind = "plugin:lime"
params = { grid = [4, 2], samples = 200, hide = 0.25, penalty = 1e-9 }
[plugins]
lime = "lime_explainer"
[report]
formats = ["csv"]
"#;
    std::fs::write(at("study.toml"), study).unwrap();
    shiftlens(folder.path(), &["run", "study.toml", "--out", "out"]).expect(0);
    let case = cases(&at("out")).remove(0);
    let map = &arrays(&at("out/cases").join(&case.id).join("arrays.safetensors"))["heatmap.0"];
    assert_eq!(map.shape(), [16, 16]);
    let rectangle = |p: usize| (p / 16 / 4, p % 16 / 8);
    for (p, found) in map.as_slice().iter().enumerate() {
        let mine = (0..256).filter(|q| rectangle(*q) == rectangle(p));
        let adds: f64 = mine.map(|q| f64::from(slope[q]) * (f64::from(grey(q as u32)) / 255.0 - 0.25)).sum();
        assert!((f64::from(*found) - adds).abs() < 1e-6, "pixel {p}: {found}, expected {adds}");
    }
    // A mistake in `params` is found before anything runs, and at its place.
    std::fs::write(at("study.toml"), study.replace("samples", "sample")).unwrap();
    shiftlens(folder.path(), &["check", "study.toml"])
        .expect(2)
        .says(&["plugin example.lime", "unknown field `sample`"]);
}

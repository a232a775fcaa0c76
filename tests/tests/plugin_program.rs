//! Plugins as a user of the program meets them: studies of phantoms whose generator and encoder come from a Rust
//! plugin and whose predictor is a C plugin, compiled here; and plugins that are wrong, each answered with one error.

use image::{GrayImage, Luma};
use shiftlens_api::record::ExplanationRecord;
use shiftlens_tests::program::{Answer, arrays, cases, product, shiftlens, shiftlens_with};
use shiftlens_tests::root;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;

const MANIFEST: &str = r#"schema = 1
name = "phantoms"

[data]
images = "images"

[predictor]
kind = "plugin:f"

[generator]
kind = "plugin:phantom"

[encoder]
kind = "plugin:phantom"

[direction]
kind = "logistic"
samples = 500
seed = 7

[[explainer]]
kind = "latent-shift"
params = { steps = 5 }

[plugins]
f = "joint_space"
phantom = "shiftlens_phantom"

[report]
formats = ["csv"]
"#;

/// Heatmaps alone need no generator.
const HEATMAPS: &str = r#"schema = 1
name = "heatmaps"

[data]
images = "images"

[predictor]
kind = "plugin:f"

[[explainer]]
kind = "plugin:gradcam"
params = { method = "gradcam" }

[plugins]
f = "two_masks"
gradcam = "shiftlens_gradcam"

[report]
formats = ["csv"]
"#;

/// Compiles a C plugin into `folder`.
fn compile(source: &str, folder: &Path) -> PathBuf {
    let source = root().join(source);
    let stem = source.file_stem().expect("a source file").to_string_lossy().into_owned();
    let out = folder.join(format!("{DLL_PREFIX}{stem}{DLL_SUFFIX}"));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-fPIC", "-shared", "-I"])
        .arg(root().join("core/abi/include"))
        .arg(&source)
        .args(["-lm", "-o"])
        .arg(&out)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}: this test needs a C compiler, as Rust's linker does"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// A study of two pictures, with `change` made to its manifest.
fn study(change: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("images")).expect("a folder");
    // Bone with a dark gap of 5 and of 9 pixels.
    for gap in [5u32, 9] {
        let dark = |y: u32| (68 - gap / 2..68 - gap / 2 + gap).contains(&y);
        let picture = GrayImage::from_fn(128, 128, |_, y| Luma([if dark(y) { 80 } else { 150 }]));
        picture.save(folder.path().join(format!("images/gap{gap}.png"))).expect("a written picture");
    }
    let mut text = MANIFEST.to_owned();
    for (from, to) in change {
        assert!(text.contains(from), "`{from}` is not in the manifest");
        text = text.replace(from, to);
    }
    std::fs::write(folder.path().join("study.toml"), text).expect("a written manifest");
    folder
}

fn check(folder: &Path) -> Answer {
    product(&format!("{DLL_PREFIX}shiftlens_phantom{DLL_SUFFIX}"));
    shiftlens(folder, &["check", "study.toml"])
}

#[test]
fn a_study_of_plugins_runs_and_widens_the_gap() {
    let folder = study(&[]);
    compile("examples/plugins/c-predictor/joint_space.c", folder.path());
    check(folder.path()).expect(0).says(&["plugin:f", "plugin:phantom", "narrow, wide"]);
    shiftlens(folder.path(), &["run", "study.toml", "--out", "run"]).expect(0);
    let cases = cases(&folder.path().join("run"));
    assert_eq!(cases.len(), 2);
    for case in &cases {
        let shift = case.explanations.iter().find_map(|e| match e {
            ExplanationRecord::Shift { lambdas, scores, .. } => Some((lambdas, scores)),
            ExplanationRecord::Heatmap { .. } => None,
        });
        let (lambdas, scores) = shift.unwrap_or_else(|| panic!("{}: no shift", case.id));
        assert_eq!(lambdas.len(), scores.len());
        assert!(scores.is_sorted(), "{}: f's score falls along its own direction: {scores:?}", case.id);
        assert!(scores[0] < 0.5 && scores[scores.len() - 1] > 0.5, "{}: {scores:?}", case.id);
    }
}

/// A study of one picture of 8x8 with the grey values 100, 101, …, with `change` made to its manifest.
fn heatmaps(change: &[(&str, &str)]) -> tempfile::TempDir {
    product(&format!("{DLL_PREFIX}shiftlens_gradcam{DLL_SUFFIX}"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("images")).expect("a folder");
    let picture = GrayImage::from_fn(8, 8, |x, y| Luma([100 + 8 * y as u8 + x as u8]));
    picture.save(folder.path().join("images/ramp.png")).expect("a written picture");
    let mut text = HEATMAPS.to_owned();
    for (from, to) in change {
        assert!(text.contains(from), "`{from}` is not in the manifest");
        text = text.replace(from, to);
    }
    std::fs::write(folder.path().join("study.toml"), text).expect("a written manifest");
    folder
}

#[test]
fn a_plugin_explains_a_plugin_that_offers_gradients() {
    let folder = heatmaps(&[]);
    compile("examples/plugins/c-white-box/two_masks.c", folder.path());
    shiftlens(folder.path(), &["run", "study.toml", "--out", "run"]).expect(0);
    let run = folder.path().join("run");
    let cases = cases(&run);
    assert_eq!(cases.len(), 1);
    let found = arrays(&run.join("cases").join(&cases[0].id).join("arrays.safetensors"));
    let map = &found["heatmap.0"];
    assert_eq!(map.shape(), [8, 8]);
    // The target is the last class, `right`: -20/64 on the left half, 20/64 on the right, times the grey value.
    for (p, v) in map.as_slice().iter().enumerate() {
        let slope = if p % 8 < 4 { -20.0 / 64.0 } else { 20.0 / 64.0 };
        let expected = slope * (100 + p) as f32 / 255.0;
        assert!((v - expected).abs() < 1e-5, "pixel {p}: {v}, expected {expected}");
    }
}

#[test]
fn methods_that_a_predictor_cannot_serve_are_answered_with_those_that_it_can() {
    let folder = heatmaps(&[("\"gradcam\" }", "\"ablationcam\" }")]);
    compile("examples/plugins/c-white-box/two_masks.c", folder.path());
    shiftlens(folder.path(), &["run", "study.toml", "--out", "run"]).expect(1).says(&[
        "plugin example.two-masks",
        "offers no `shiftlens.activations/1`",
        "methods of this plugin that put no activations in: gradcam, hirescam",
    ]);
    let folder = heatmaps(&[("two_masks", "joint_space")]);
    compile("examples/plugins/c-predictor/joint_space.c", folder.path());
    shiftlens(folder.path(), &["run", "study.toml", "--out", "run"]).expect(1).says(&[
        "this predictor (plugin example.joint-space 0.1.0",
        "is a black box",
        "eigencam and scorecam need activations alone",
        "occlusion, rise or kernel-shap",
    ]);
}

#[test]
fn a_plugin_is_found_in_the_search_path() {
    let (folder, elsewhere) = (study(&[]), tempfile::tempdir().expect("a temporary folder"));
    let lib = compile("examples/plugins/c-predictor/joint_space.c", elsewhere.path());
    check(folder.path()).expect(2).says(&["joint_space", "looked at", "SHIFTLENS_PLUGIN_PATH"]);
    let path = elsewhere.path().to_str().expect("a path in UTF-8");
    let found = [("SHIFTLENS_PLUGIN_PATH", path)];
    shiftlens_with(folder.path(), &["check", "study.toml"], &found).expect(0);
    shiftlens_with(folder.path(), &["plugins"], &found).expect(0).says(&["example.joint-space 0.1.0"]);
    let given = lib.to_str().expect("a path in UTF-8");
    shiftlens(folder.path(), &["plugins", given]).expect(0).says(&["offers shiftlens.predictor/1"]);
}

#[test]
fn wrong_plugins_are_answered_with_one_error() {
    for (name, words) in [
        ("other_abi", &["version 7", "this program has version 1"][..]),
        ("no_symbol", &["exports no `shiftlens_plugin`"]),
        ("wrong_shape", &["plugin bad.plugin 0.0.1", "predict", "expected shape [1, 2], found [1, 3]"]),
        ("not_a_number", &["plugin bad.plugin 0.0.1", "predict", "NaN"]),
        ("failing", &["plugin bad.plugin 0.0.1", "predict", "the sensor is unplugged"]),
    ] {
        let folder = study(&[("\"joint_space\"", &format!("{name:?}"))]);
        compile(&format!("tests/fixtures/bad-plugins/{name}.c"), folder.path());
        check(folder.path()).expect(2).says(words).says(&["study.toml:7"]);
    }
}

#[test]
fn a_plugin_that_panics_is_an_error_with_its_place() {
    let lib = product(&format!("examples/{DLL_PREFIX}every_kind{DLL_SUFFIX}"));
    let lib = format!("{:?}", lib.to_str().expect("a path in UTF-8"));
    for (function, words) in [("create", "create: panic at"), ("predict", "predict: panic at")] {
        let kind = format!("kind = \"plugin:f\"\nparams = {{ panic = {function:?} }}");
        let folder = study(&[("\"joint_space\"", &lib), ("kind = \"plugin:f\"", &kind)]);
        check(folder.path()).expect(2).says(&[
            "plugin example.every-kind",
            words,
            "every_kind.rs",
            "as asked",
        ]);
    }
}

#[test]
fn a_plugin_is_not_asked_for_what_it_does_not_offer() {
    let folder = study(&[("kind = \"plugin:f\"", "kind = \"plugin:phantom\"")]);
    check(folder.path()).expect(2).says(&["shiftlens.phantom", "offers no `shiftlens.predictor/1`"]);
}

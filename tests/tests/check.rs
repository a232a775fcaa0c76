//! `shiftlens check`.

use shiftlens_tests::program::{shiftlens, shiftlens_with};
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;
use std::process::Command;

#[test]
fn what_was_inferred_is_said() {
    let toy = Toy::new();
    let answer = toy.shiftlens(&["check", "study.toml"]).expect(0);
    answer.says(&[
        "\"toy\"",
        "images 8",
        "labels 4 positive, 4 negative, 0 without",
        "groups 4",
        "16x16",
        "target bright (class 1 of 2)",
        "inferred:",
        "output.activation = \"sigmoid\"",
        "the study is ready: shiftlens run study.toml",
    ]);
    assert!(!toy.path("runs").exists(), "check must not run anything");
}

#[test]
fn values_can_be_set_on_the_way() {
    let toy = Toy::new();
    toy.shiftlens(&["check", "study.toml", "--set", "direction.samples=321"])
        .expect(0)
        .says(&["321 with seed 7"]);
    toy.shiftlens(&["check", "study.toml", "--set", "direction.sampels=321"])
        .expect(2)
        .says(&["sampels", "samples"]);
}

#[test]
fn layers_are_checked_against_the_generator() {
    let toy = Toy::new();
    let layers = |value: &str| {
        let set = format!("explainer.0.params.layers={value}");
        toy.shiftlens(&["check", "study.toml", "--set", &set])
    };
    layers("\"all\"").expect(0);
    layers("[0, 0]").expect(0);
    layers("\"coarse\"").expect(2).says(&["`layers`", "coarse (style inputs 0 to 3)", "one style input"]);
    layers("\"corse\"").expect(2).says(&["did you mean `coarse`?"]);
    let knee = |value: &str| {
        let set = format!("explainer.0.params.layers={value}");
        shiftlens(&root(), &["check", "manifests/knee.toml", "--set", &set])
    };
    knee("\"fine\"").expect(0);
    knee("[4, 10]").expect(2).says(&["style inputs 4 to 10", "10 style inputs, numbered 0 to 9"]);
}

#[test]
fn a_heatmap_study_needs_no_generator() {
    let toy = Toy::new();
    let text = std::fs::read_to_string(toy.manifest()).unwrap();
    let without: String = text
        .split("\n\n")
        .filter(|s| !["[generator]", "[encoder]", "[direction]"].iter().any(|h| s.starts_with(h)))
        .filter(|s| !s.contains("latent-shift"))
        .map(|s| format!("{s}\n\n"))
        .collect();
    std::fs::write(toy.manifest(), without).unwrap();
    toy.shiftlens(&["check", "study.toml"]).expect(0).says(&["predictor onnx", "explainer plugin:gradcam"]);
}

/// Studies only: training manifests are checked by the crate that trains.
#[test]
fn every_committed_study_is_ready() {
    // The phantom's predictor is a plugin in C.
    let plugins = tempfile::tempdir().unwrap();
    let library = format!("{}joint_space{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let compiled = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-std=c99", "-O2", "-fPIC", "-shared", "-I", "core/abi/include"])
        .args(["examples/plugins/c-predictor/joint_space.c", "-lm", "-o"])
        .arg(plugins.path().join(library))
        .current_dir(root())
        .status();
    assert!(compiled.expect("a C compiler, as Rust's linker needs one").success());
    let search = plugins.path().display().to_string();

    let folder = root().join("manifests");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("train-") || !name.ends_with(".toml") {
            continue;
        }
        seen += 1;
        let args = ["check", &format!("manifests/{name}")];
        let answer = shiftlens_with(&root(), &args, &[("SHIFTLENS_PLUGIN_PATH", &search)]);
        assert_eq!(answer.code, 0, "manifests/{name}:\n{}", answer.text());
    }
    assert!(seen > 1, "{seen} studies in {}", folder.display());
}

#[test]
fn the_readmes_manifest_is_right_but_for_its_files() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let manifest = readme.split("```toml\n").nth(1).and_then(|s| s.split("```").next()).expect("a manifest");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("study.toml"), manifest).unwrap();
    let answer = shiftlens(folder.path(), &["check", "study.toml"]).expect(2);
    answer.says(&[
        "4 mistakes",
        "study.toml:5",
        "images: no such file or folder",
        "classifier.onnx: no such file or folder",
        "generator.safetensors: no such file or folder",
        "encoder.safetensors: no such file or folder",
    ]);
}

#[test]
fn all_files_that_are_missing_are_named_together() {
    let toy = Toy::new();
    toy.edit("images = \"images\"", "images = \"imags\"");
    toy.edit("path = \"encoder.onnx\"", "path = \"encodr.onnx\"");
    toy.edit("path = \"generator.onnx\"", "path = \"models/generator.onnx\"");
    toy.edit("\"shiftlens_gradcam\"", "\"shiftlens_gradkam\"");
    toy.shiftlens(&["check", "study.toml"]).expect(2).says(&[
        "4 mistakes",
        "study.toml:5",
        "did you mean `images`?",
        "study.toml:16",
        "there is no `models` in",
        "study.toml:20",
        "did you mean `encoder.onnx`?",
        "`shiftlens_gradkam` not found",
    ]);
}

#[test]
fn paths_may_hold_variables() {
    let toy = Toy::new();
    toy.edit("images = \"images\"", "images = \"${TOY_DATA}/images\"");
    toy.edit("path = \"classifier.onnx\"", "path = \"${TOY_MODELS:-.}/classifier.onnx\"");
    let check =
        |variables: &[(&str, &str)]| shiftlens_with(toy.folder(), &["check", "study.toml"], variables);
    let folder = toy.folder().to_str().unwrap();
    check(&[("TOY_DATA", folder)]).expect(0).says(&["images 8", "onnx ${TOY_MODELS:-.}/classifier.onnx"]);
    check(&[]).expect(2).says(&[
        "study.toml:5",
        "the environment variable `TOY_DATA` is not set",
        "${TOY_DATA:-default}",
    ]);
    check(&[("TOY_DATA", folder), ("TOY_MODELS", "nowhere")]).expect(2).says(&["there is no `nowhere` in"]);
}

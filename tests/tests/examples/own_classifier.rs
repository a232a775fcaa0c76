//! `examples/own-classifier`: from an ONNX file to a report, to a series, to a generator.

use shiftlens_api::record::ExplanationRecord;
use shiftlens_tests::document::Workplace;
use shiftlens_tests::graph::Graph;
use shiftlens_tests::program::{cases, product, run_record};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::process::Command;

const FOLDER: &str = "examples/own-classifier";
const README: &str = "examples/own-classifier/README.md";
const KNEE: [&str; 3] =
    ["examples/own-classifier", "examples/knee/classifier.onnx", "examples/knee/demo-images"];

fn place(more: &[&str]) -> Workplace {
    for name in ["shiftlens_gradcam", "shiftlens_attribution"] {
        product(&format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"));
    }
    Workplace::of(&[&KNEE[..], more].concat())
}

#[test]
fn an_onnx_file_leads_to_a_report() {
    let place = place(&[]);
    place.follow(README, None);
    assert!(place.path("runs/own/report.html").is_file());
    let run = place.path("runs/own");
    assert_eq!(run_record(&run).classes, ["healthy", "osteoarthritis"]);
    let cases = cases(&run);
    assert_eq!(cases.len(), 12);
    // The classifier is fed what it was trained on: it tells these images apart.
    let (least, most) = cases.iter().fold((1.0f32, 0.0f32), |(l, m), c| (l.min(c.score), m.max(c.score)));
    assert!(least < 0.4 && most > 0.6, "scores from {least} to {most}");
    let titles = |name: &str| -> Vec<String> {
        let case = shiftlens_tests::program::cases(&place.path(name)).remove(0);
        let title = |e: ExplanationRecord| match e {
            ExplanationRecord::Heatmap { title, .. } | ExplanationRecord::Shift { title, .. } => title,
        };
        case.explanations.into_iter().map(title).collect()
    };
    assert_eq!(titles("runs/own"), ["Grad-CAM"]);
    assert_eq!(titles("runs/own-occlusion"), ["Grad-CAM", "Occlusion"]);
}

#[test]
fn a_generator_adds_a_series() {
    let place = place(&["examples/knee/generator.safetensors", "examples/knee/encoder.safetensors"]);
    place.follow(README, Some("series"));
    for case in cases(&place.path("runs/own-series")) {
        let [ExplanationRecord::Shift { scores, .. }, ExplanationRecord::Heatmap { .. }] =
            &case.explanations[..]
        else {
            panic!("{case:?}")
        };
        assert!(scores[scores.len() - 1] - scores[0] > 0.1, "{}: {scores:?}", case.id);
    }
}

#[test]
fn a_generator_and_an_encoder_are_trained() {
    let place = place(&[]);
    // The trainings in little: a few steps, of small images, with few channels.
    for (file, from, to) in [
        ("train-generator.toml", "resolution = 64", "resolution = 16"),
        ("train-encoder.toml", "resolution = 64", "resolution = 16"),
        ("train-generator.toml", "images = 600000\nbatch = 32", "images = 32\nbatch = 8"),
        (
            "train-generator.toml",
            "channel-base = 2048\nchannel-max = 128",
            "channel-base = 256\nchannel-max = 8",
        ),
        ("train-generator.toml", "every = 20000", "every = 32"),
        ("train-encoder.toml", "images = 100000\nbatch = 16", "images = 8\nbatch = 4"),
        (
            "train-encoder.toml",
            "channel-base = 2048\nchannel-max = 128",
            "channel-base = 256\nchannel-max = 8",
        ),
        ("train-encoder.toml", "every = 5000", "every = 8"),
        ("train-encoder.toml", "every = 10000", "every = 8"),
    ] {
        place.edit(&format!("{FOLDER}/{file}"), from, to);
    }
    place.follow(README, Some("train"));
    for file in ["own-generator/generator.safetensors", "own-encoder/encoder.safetensors"] {
        let text = std::fs::read_to_string(place.path(README)).unwrap();
        assert!(text.contains(&format!("`runs/{file}`")), "{file}");
        assert!(place.path("runs").join(file).is_file(), "{file}");
    }
    // They fit each other, and what `init` makes of them is a study.
    let init = "shiftlens init --model examples/knee/classifier.onnx --images examples/knee/demo-images \
                --generator runs/own-generator/generator.safetensors --encoder runs/own-encoder/encoder.safetensors \
                -o trained.toml && shiftlens check trained.toml";
    place.sh(init, &[]).expect(0).says(&["stylegan2", "stylegan2-encoder", "the study is ready"]);
    // The measurement's command is one that the program takes.
    place.edit(README, "shiftlens measure own-series.toml", "shiftlens measure trained.toml --samples 12");
    place.follow(README, Some("measure"));
}

/// What the script exports is a study's classifier; without PyTorch that one is tried whose layers it names.
#[test]
fn an_exported_network_can_be_explained() {
    let place = place(&[]);
    let python = std::env::var("SHIFTLENS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = |modules: &str| {
        let output = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
        output.is_ok_and(|o| o.status.success())
    };
    if has("torch, onnx, onnxruntime") {
        let script = format!("\"{python}\" {FOLDER}/export.py mine.onnx");
        place.sh(&script, &[]).expect(0).says(&["answers what PyTorch answers"]);
    } else {
        println!(
            "skipped: no {python} with torch, onnx and onnxruntime (SHIFTLENS_PYTHON names another one)"
        );
        let weights: Vec<f32> = (0..32).map(|k| (k % 5) as f32 - 2.0).collect();
        Graph::default()
            .floats("kernel", &[32, 1, 1, 1], &weights)
            .floats("head", &[32, 1], &weights)
            .node_with("Conv", &["image", "kernel"], "map", &[("kernel_shape", &[1, 1])])
            .node("Relu", &["map"], "relu")
            .node("GlobalAveragePool", &["relu"], "mean")
            .node("Flatten", &["mean"], "flat")
            .node("MatMul", &["flat", "head"], "logit")
            .write(&place.path("mine.onnx"), ("image", &[1, 64, 64]), ("logit", &[1]));
    }
    let run = "shiftlens init --model mine.onnx --images examples/knee/demo-images --mean 0.5 --std 0.5 -o mine.toml
               shiftlens run mine.toml --limit 2";
    place.sh(run, &[]).expect(0).says(&["64x64 grey with 1 output", "2 images explained, 0 failed"]);
}

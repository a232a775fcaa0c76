//! The knee example as it is committed.

use shiftlens_api::record::ExplanationRecord;
use shiftlens_tests::program::{cases, run_record, shiftlens};
use shiftlens_tests::{root, shared};
use std::path::Path;

/// Fewer samples than the manifest's, so that the test takes seconds.
const FEWER: [&str; 2] = ["--set", "direction.samples=400"];

#[track_caller]
fn complete(out: &Path, images: usize) {
    let record = run_record(out);
    assert!(record.complete && record.failures.is_empty(), "{:?}", record.failures);
    let cases = cases(out);
    assert_eq!(cases.len(), images);
    for case in cases {
        assert!((0.0..=1.0).contains(&case.score), "{}: {}", case.id, case.score);
        let (mut shifts, mut maps) = (0, 0);
        for e in &case.explanations {
            match e {
                ExplanationRecord::Shift { lambdas, scores, pictures, origin, .. } => {
                    shifts += 1;
                    assert_eq!((lambdas.len(), scores.len(), pictures.len()), (9, 9, 9));
                    assert_eq!(lambdas[*origin], 0.0);
                    let spread = scores.iter().fold(0.0f32, |m, s| m.max((s - scores[0]).abs()));
                    assert!(spread > 0.01, "{}: the series changes nothing: {scores:?}", case.id);
                }
                ExplanationRecord::Heatmap { range, picture, .. } => {
                    maps += 1;
                    assert!(range.0 < range.1 && picture.is_some(), "{}: a flat map {range:?}", case.id);
                }
            }
        }
        assert_eq!((shifts, maps), (1, 1), "{}", case.id);
    }
    assert!(out.join("report.html").is_file() && out.join("cases.csv").is_file());
}

#[test]
fn synthetic_patients_are_explained() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().display().to_string();
    let args = ["run", "manifests/knee.toml", "--out", &folder, "--limit", "3", FEWER[0], FEWER[1]];
    shiftlens(&root(), &args).expect(0).says(&["3 images explained, 0 failed"]);
    complete(out.path(), 3);
    assert!(
        cases(out.path()).iter().all(|c| c.synthetic),
        "images drawn from a generator are labelled as such"
    );
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("synthetic"));
}

#[test]
fn real_radiographs_are_explained() {
    let Some(images) = shared("data/knee-oai-128/val") else { return };
    let out = tempfile::tempdir().unwrap();
    let (folder, images) = (out.path().display().to_string(), images.display().to_string());
    let args = [
        "run",
        "manifests/knee.toml",
        "--images",
        &images,
        "--out",
        &folder,
        "--limit",
        "3",
        FEWER[0],
        FEWER[1],
    ];
    shiftlens(&root(), &args).expect(0).says(&["3 images explained, 0 failed"]);
    complete(out.path(), 3);
    for case in cases(out.path()) {
        assert!(!case.synthetic && case.label.is_some() && case.group.is_some(), "{case:?}");
    }
}

#[test]
fn the_classifiers_layers_are_listed() {
    let answer = shiftlens(&root(), &["layers", "examples/knee/classifier.onnx"]).expect(0).says(&["Conv"]);
    assert_eq!(answer.stdout.matches("<- default").count(), 1, "{}", answer.stdout);
}

#[test]
fn a_precision_that_the_cpu_does_not_have_is_refused_at_its_place() {
    for (set, words) in [
        ("generator.params.precision=tf32", ["`precision` is \"tf32\"", "\"f32\" only"]),
        ("encoder.params.precision=bf16", ["`precision` is \"bf16\"", "\"f32\" only"]),
        ("generator.params.precision=fp16", ["`precision` is \"fp16\"", "\"tf32\" or \"bf16\""]),
    ] {
        shiftlens(&root(), &["check", "manifests/knee.toml", "--set", set]).expect(2).says(&words);
    }
    shiftlens(&root(), &["check", "manifests/knee.toml", "--set", "generator.params.precision=f32"])
        .expect(0);
}

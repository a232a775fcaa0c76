//! The knee example as it is committed.

use shiftlens_api::record::ExplanationRecord;
use shiftlens_tests::program::{arrays, cases, run_record, shiftlens};
use shiftlens_tests::{root, shared};
use std::path::Path;

/// Fewer samples than the manifest's, and a smaller audit, so that the test takes seconds.
const FEWER: [&str; 4] =
    ["--set", "direction.samples=400", "--set", "direction.audit={ refits = 2, randoms = 2, codes = 10 }"];

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
    let args = [
        "run",
        "manifests/knee.toml",
        "--out",
        &folder,
        "--limit",
        "3",
        FEWER[0],
        FEWER[1],
        FEWER[2],
        FEWER[3],
    ];
    shiftlens(&root(), &args).expect(0).says(&["3 images explained, 0 failed"]);
    complete(out.path(), 3);
    assert!(
        cases(out.path()).iter().all(|c| c.synthetic),
        "images drawn from a generator are labelled as such"
    );
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("synthetic"));
}

/// The same image shifted in all style inputs and in the fine ones alone: one reconstruction, and a smaller change that
/// is of high frequency, so it mostly goes away in the mean of 8 x 8 pixels.
#[test]
fn a_shift_can_be_confined_to_layers() {
    let out = tempfile::tempdir().unwrap();
    let series = |layers: &str| {
        let folder = out.path().join(layers.trim_matches('"')).display().to_string();
        let set = format!("explainer.0.params={{ steps = 3, range = 2.0, layers = {layers} }}");
        let args = [
            "run",
            "manifests/knee.toml",
            "--out",
            &folder,
            "--limit",
            "1",
            FEWER[0],
            FEWER[1],
            FEWER[2],
            FEWER[3],
            "--set",
            &set,
        ];
        shiftlens(&root(), &args).expect(0);
        let case = cases(Path::new(&folder)).remove(0);
        let ExplanationRecord::Shift { notes, .. } = &case.explanations[0] else { panic!("no shift") };
        let note = notes.iter().find(|(k, _)| k == "layers").map(|(_, v)| v.clone());
        let file = Path::new(&folder).join("cases").join(&case.id).join("arrays.safetensors");
        (arrays(&file)["series.0"].as_slice().to_vec(), note)
    };
    let ((all, none), (fine, said)) = (series("\"all\""), series("\"fine\""));
    assert_eq!((none, said.as_deref()), (None, Some("fine (style inputs from 8 on)")));
    let pixels = all.len() / 3;
    let side = pixels.isqrt();
    assert_eq!((fine.len(), side * side), (all.len(), pixels));
    let image = |v: &[f32], i: usize| v[i * pixels..(i + 1) * pixels].to_vec();
    let (a, b) = (image(&all, 1), image(&fine, 1));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "two reconstructions of one image");
    // Root mean square of the change from λ = -2 to 2, of pixels and of means of 8 x 8 pixels.
    let change = |v: &[f32]| {
        let d: Vec<f32> = image(v, 2).iter().zip(image(v, 0)).map(|(a, b)| a - b).collect();
        let mut means = vec![0.0; (side / 8) * (side / 8)];
        d.iter().enumerate().for_each(|(p, d)| means[p / side / 8 * (side / 8) + p % side / 8] += d / 64.0);
        let rms = |v: &[f32]| (v.iter().map(|v| v * v).sum::<f32>() / v.len() as f32).sqrt();
        (rms(&d), rms(&means))
    };
    let ((all, all_coarse), (fine, fine_coarse)) = (change(&all), change(&fine));
    assert!(fine > 1e-4, "the fine inputs change nothing: {fine}");
    assert!(fine < 0.5 * all && fine_coarse < all_coarse, "{fine} of {all}, {fine_coarse} of {all_coarse}");
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
        FEWER[2],
        FEWER[3],
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

/// The original and its pruned version have nearly the same AUC on radiographs, and decide differently.
#[test]
fn two_versions_of_the_classifier_stand_side_by_side() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().display().to_string();
    let study = ["run", "manifests/knee-two-predictors.toml", "--out", &folder, "--limit", "3"];
    shiftlens(&root(), &[&study[..], &FEWER[..]].concat()).expect(0).says(&[
        "predictor full (1 of 2)",
        "predictor pruned (2 of 2)",
        "full and pruned: 3 images",
    ]);
    for name in ["full", "pruned"] {
        complete(&out.path().join(name), 3);
    }
    let scores = |name: &str| cases(&out.path().join(name)).iter().map(|c| c.score).collect::<Vec<_>>();
    assert!(scores("full").iter().zip(scores("pruned")).all(|(a, b)| (a - b).abs() > 0.01));
    assert!(out.path().join("report.html").is_file() && out.path().join("comparison.csv").is_file());
}

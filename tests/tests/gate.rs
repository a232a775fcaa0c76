//! Directions from weights, series at levels, and the trust gate with its retry, on the committed example models.

use shiftlens_api::record::{ExplanationRecord, Metrics};
use shiftlens_tests::program::{cases, json, run_record, shiftlens};
use shiftlens_tests::root;

/// Few samples and steps, so that the tests take seconds.
fn run(out: &str, limit: &str, settings: &[&str]) -> shiftlens_tests::program::Answer {
    let mut args = vec!["run", "manifests/knee.toml", "--out", out, "--limit", limit];
    let quick = ["direction.samples=120", "direction.audit={ refits = 2, randoms = 2, codes = 8 }"];
    for s in quick.iter().chain(settings) {
        args.extend(["--set", s]);
    }
    shiftlens(&root(), &args)
}

#[test]
fn a_stubborn_image_is_projected_through_the_predictors_features() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("run");
    let gate = [
        "direction.along=pattern",
        "trust.max-gap=0.001",
        "trust.retry=projection",
        "trust.params={ steps = 24, learning-rate = 0.02, latent-noise = 0.0, features = { weight = 1.0 } }",
        "explainer.0.params={ range = \"levels\", levels = [0.2, 0.5, 0.8] }",
    ];
    run(&folder.display().to_string(), "2", &gate).expect(0).says(&["2 images explained, 0 failed"]);
    let roles: Vec<String> = run_record(&folder).components.into_iter().map(|c| c.role).collect();
    assert!(roles.contains(&"retry".to_owned()), "{roles:?}");
    let mut tried = 0;
    for case in cases(&folder) {
        let trust = case.trust.expect("the gate's word");
        let Some(retry) = trust.retry else {
            assert!(trust.reconstruction.gap <= 0.001);
            continue;
        };
        tried += 1;
        // Steps from the encoder's code, on f's own features and on pixels: the images come nearer.
        assert!(retry.after.gap < retry.before.gap || retry.after.rmse < retry.before.rmse, "{retry:?}");
        assert_eq!(retry.kept, trust.reconstruction == retry.after);
        let ExplanationRecord::Shift { lambdas, scores, origin, calibration, .. } = &case.explanations[0]
        else {
            panic!("{}: no shift", case.id)
        };
        assert!((scores[*origin] - trust.reconstruction.score).abs() < 1e-3, "{}: {scores:?}", case.id);
        let calibration = calibration.as_ref().expect("levels");
        let reached = calibration.levels.iter().filter(|l| l.lambda.is_some_and(|l| l.abs() > 1e-3)).count();
        assert_eq!((lambdas.len(), lambdas[*origin]), (reached + 1, 0.0));
        for l in calibration.levels.iter().filter(|l| l.lambda.is_some()) {
            // A score that f jumps over is not met, but it lies between those of two neighbours 0.01 σ apart.
            assert!((l.score.unwrap() - l.level).abs() < 0.05, "{}: {l:?}", case.id);
        }
    }
    assert!(tried > 0, "a threshold of 0.001 flags");
    let metrics: Metrics = json(&folder.join("metrics.json"));
    for name in ["flagged_share", "encoder_flagged_share", "encoder_gap_mean", "flip_share"] {
        assert!(metrics.values[name].value.is_some(), "{name}");
    }
}

#[test]
fn a_factor_of_the_weights_is_a_direction() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("run").display().to_string();
    let sefa = ["direction.kind=sefa", "direction.params={ component = 1, layers = \"middle\" }"];
    run(&folder, "1", &sefa).expect(0).says(&["1 images explained, 0 failed"]);
    let audit: shiftlens_api::record::AuditRecord = json(&out.path().join("run/direction/audit.json"));
    assert!(audit.flips.len() == 4 && audit.flips.iter().all(|f| f.codes == 8), "{audit:?}");
    // The weights do not change with the codes; which way the factor points may.
    let refits = audit.bootstrap.expect("refits");
    assert!((refits.least_cosine.abs() - 1.0).abs() < 1e-6, "{refits:?}");

    let far = ["direction.kind=sefa", "direction.params={ component = 4000 }"];
    run(&folder, "1", &far).expect(2).says(&["`component` is 4000, expected 0 to"]);
    let fine = ["direction.kind=sefa", "direction.params={ layers = [8, 12] }"];
    run(&folder, "1", &fine).expect(2).says(&["style inputs 8 to 12, but the generator has 10"]);
}

//! A whole run of a study whose truth is known: see `shiftlens_tests::toy`.

use shiftlens_api::record::{AuditRecord, ExplanationRecord, Metrics};
use shiftlens_tests::program::{arrays, cases, contents, json, run_record, same_run};
use shiftlens_tests::toy::{QUADRANT, SIDE, SLOPE, Toy, means, quadrant};

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

#[test]
fn numbers_are_those_of_the_closed_form() {
    let toy = Toy::new();
    toy.run("out").expect(0).says(&["8 images explained, 0 failed", "report: out/report.html"]);
    let out = toy.path("out");

    // The true direction is the first axis.
    let direction = &arrays(&out.join("direction").join("direction.safetensors"));
    let alpha = direction["alpha"].as_slice();
    assert!(alpha[0] >= 0.98, "alpha = {alpha:?}, expected the first axis");
    let audit: AuditRecord = json(&out.join("direction").join("audit.json"));
    assert!(audit.auc.unwrap() > 0.99 && (audit.sigma - 1.0).abs() < 0.1, "{audit:?}");

    for case in cases(&out) {
        let a = arrays(&out.join("cases").join(&case.id).join("arrays.safetensors"));
        let x = a["x"].as_slice();
        let y0 = 2.0 * means(x)[0] - 1.0;
        assert!((case.score - sigmoid(SLOPE * y0)).abs() < 1e-5, "{}: f(x) = {}", case.id, case.score);
        assert_eq!(case.label, Some(case.path.contains("high")));
        assert_eq!(case.group.as_deref(), Some(&case.id[..2]));

        let ExplanationRecord::Shift { lambdas, scores, origin, spearman, reconstruction_gap, flip, .. } =
            &case.explanations[0]
        else {
            panic!("{}: the first explanation is no shift", case.id)
        };
        assert_eq!((lambdas.as_slice(), *origin), (&[-2.0, -1.0, 0.0, 1.0, 2.0][..], 2));
        assert!(
            scores.windows(2).all(|s| s[0] < s[1]) && spearman.unwrap() > 0.999,
            "{}: {scores:?}",
            case.id
        );
        assert!(*reconstruction_gap < 1e-3, "{}: gap {reconstruction_gap}", case.id);
        let crosses = scores[0] < 0.5 && scores[4] >= 0.5;
        assert_eq!(flip.is_some(), crosses, "{}: {scores:?}", case.id);

        // Along the series the first quadrant changes, and hardly any other does.
        let series = &a["series.0"];
        assert_eq!(series.shape(), [5, 1, SIDE, SIDE]);
        let ends: Vec<[f32; 4]> = series.as_slice().chunks_exact(SIDE * SIDE).map(means).collect();
        let moved: Vec<f32> = (0..4).map(|k| (ends[4][k] - ends[0][k]).abs()).collect();
        assert!((1..4).all(|k| moved[k] < 0.1 * moved[0]), "{}: quadrants moved by {moved:?}", case.id);
        for (mean, score) in ends.iter().zip(scores) {
            assert!((score - sigmoid(SLOPE * (2.0 * mean[0] - 1.0))).abs() < 1e-4);
        }

        // HiResCAM: sum over channels of gradient times activation.
        let map = &a["heatmap.1"];
        assert_eq!(map.shape(), [SIDE, SIDE]);
        for (p, v) in map.as_slice().iter().enumerate() {
            let expected = if quadrant(p) == 0 { SLOPE / QUADRANT as f32 * (2.0 * x[p] - 1.0) } else { 0.0 };
            assert!((v - expected).abs() < 1e-5, "{}: pixel {p}: {v}, expected {expected}", case.id);
        }
    }

    let metrics: Metrics = json(&out.join("metrics.json"));
    let value = |name: &str| metrics.values[name].value.unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(value("auc_f"), 1.0);
    assert_eq!(value("auc_latent_vs_label"), 1.0);
    assert!(value("spearman_median") > 0.999 && value("reconstruction_gap_mean") < 1e-3);
}

#[test]
fn the_folder_holds_what_the_readme_says() {
    let toy = Toy::new();
    toy.run("out").expect(0);
    let record = run_record(&toy.path("out"));
    assert!(record.complete && record.cases.len() == 8 && record.failures.is_empty());
    let roles: Vec<&str> = record.components.iter().map(|c| c.role.as_str()).collect();
    assert_eq!(roles, ["predictor", "generator", "encoder", "direction", "explainer", "explainer"]);
    for c in record.components.iter().filter(|c| c.kind == "onnx") {
        assert!(c.sha256.as_ref().is_some_and(|s| s.len() == 64), "{c:?}");
    }
    let f = &record.components[0].backend;
    assert!(f.starts_with("onnxruntime") || f.starts_with("tract"), "{f}");

    let files = contents(&toy.path("out"));
    let id = &record.cases[0];
    for name in ["run.json", "metrics.json", "cases.csv", "report.html", "direction/audit.json"] {
        assert!(files.contains_key(name), "no {name}");
    }
    for record in cases(&toy.path("out")) {
        let folder = format!("cases/{}/", record.id);
        for picture in record.pictures.values() {
            assert!(files.contains_key(&format!("{folder}{picture}")), "no {folder}{picture}");
        }
        let ExplanationRecord::Shift { pictures, animation, difference, .. } = &record.explanations[0] else {
            panic!("no shift")
        };
        assert_eq!(pictures.len(), 5);
        for p in pictures.iter().chain(animation).chain(difference) {
            let bytes = files.get(&format!("{folder}{p}")).unwrap_or_else(|| panic!("no {folder}{p}"));
            image::load_from_memory(bytes).unwrap_or_else(|e| panic!("{folder}{p}: {e}"));
        }
        assert!(animation.is_some() && difference.is_some());
    }
    let html = String::from_utf8(files["report.html"].clone()).unwrap();
    assert!(html.contains(f.as_str()) && html.contains(id.as_str()));
    assert!(
        !html.contains("http://") || !html.contains("src=\"http"),
        "the report loads something from elsewhere"
    );
    let csv = String::from_utf8(files["cases.csv"].clone()).unwrap();
    assert_eq!(csv.lines().count(), 1 + 8 * 2, "one row per case and explainer:\n{csv}");
}

#[test]
fn two_runs_give_the_same_numbers() {
    let toy = Toy::new();
    toy.run("a").expect(0);
    toy.run("b").expect(0);
    same_run(&toy.path("a"), &toy.path("b"));
}

#[test]
fn a_run_goes_on_where_it_was() {
    let toy = Toy::new();
    toy.run("out").expect(0);
    let out = toy.path("out");
    let before = contents(&out);
    let record = run_record(&out);
    // As if it had been killed: two cases missing, one half written.
    for id in &record.cases[2..4] {
        std::fs::remove_dir_all(out.join("cases").join(id)).unwrap();
    }
    let part = out.join("cases").join(format!(".part-{}", record.cases[2]));
    std::fs::create_dir(&part).unwrap();
    std::fs::write(part.join("case.json"), "{").unwrap();
    let kept = out.join("cases").join(&record.cases[0]).join("case.json");
    let written = kept.metadata().unwrap().modified().unwrap();

    toy.run("out").expect(0).says(&["8 images explained (6 were there already), 0 failed"]);
    assert_eq!(kept.metadata().unwrap().modified().unwrap(), written, "a finished case was touched");
    let after = contents(&out);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bytes) in before.iter().filter(|(n, _)| n.starts_with("cases/") || n.ends_with(".json")) {
        assert!(bytes == &after[name], "{name} differs after resuming");
    }
}

#[test]
fn another_study_is_kept_out_of_a_runs_folder() {
    let toy = Toy::new();
    toy.run("out").expect(0);
    let before = contents(&toy.path("out"));
    toy.edit("seed = 7", "seed = 8");
    toy.run("out").expect(1).says(&["out", "another run", "--force"]);
    assert!(before == contents(&toy.path("out")), "a refused run changed the folder");
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--force"])
        .expect(0)
        .says(&["8 images explained, 0 failed"]);

    std::fs::create_dir(toy.path("mine")).unwrap();
    std::fs::write(toy.path("mine/thesis.txt"), "years of work").unwrap();
    toy.shiftlens(&["run", "study.toml", "--out", "mine", "--force"]).expect(1);
    assert_eq!(std::fs::read_to_string(toy.path("mine/thesis.txt")).unwrap(), "years of work");
}

#[test]
fn given_files_are_explained() {
    let toy = Toy::new();
    let files = ["images/low/p0_0.png", "images/high/p3_7.png"];
    toy.shiftlens(&["explain", "study.toml", files[0], files[1], "--out", "two"])
        .expect(0)
        .says(&["2 images explained, 0 failed"]);
    assert_eq!(run_record(&toy.path("two")).cases.len(), 2);
    let limited =
        toy.shiftlens(&["run", "study.toml", "--out", "three", "--limit", "3", "--images", "images/high"]);
    limited.expect(0).says(&["3 images explained, 0 failed"]);
}

#[test]
fn several_classes_are_explained_and_kept_apart() {
    let toy = Toy::new();
    toy.edit(
        "params = { method = \"hirescam\" }",
        "classes = [\"dark\", 1]\nparams = { method = \"hirescam\" }\n\n[[explainer]]\nkind = \"plugin:attribution\"\n\
         classes = [\"dark\"]\nparams = { method = \"saliency\" }",
    );
    toy.edit("[plugins]", "[plugins]\nattribution = \"shiftlens_attribution\"");
    toy.edit("target = \"bright\"", "target = 1");
    toy.shiftlens(&["check", "study.toml"]).expect(0).says(&[
        "target bright (class 1 of 2)",
        "explains: dark, bright",
        "explains: dark",
    ]);
    toy.run("out").expect(0).says(&["8 images explained, 0 failed"]);
    let out = toy.path("out");
    for case in cases(&out) {
        let about: Vec<&str> = case.explanations.iter().map(|e| e.class().unwrap().name.as_str()).collect();
        assert_eq!(about, ["bright", "dark", "bright", "dark"]);
        let a = arrays(&out.join("cases").join(&case.id).join("arrays.safetensors"));
        let x = a["x"].as_slice();
        for (p, x) in x.iter().enumerate() {
            let slope = if quadrant(p) == 0 { SLOPE / QUADRANT as f32 } else { 0.0 };
            let expected = [-slope * (2.0 * x - 1.0), slope * (2.0 * x - 1.0), -2.0 * slope];
            for (e, expected) in expected.into_iter().enumerate() {
                let v = a[&format!("heatmap.{}", e + 1)].as_slice()[p];
                assert!(
                    (v - expected).abs() < 1e-5,
                    "{}: map {e}, pixel {p}: {v}, expected {expected}",
                    case.id
                );
            }
        }
    }
    let csv = std::fs::read_to_string(out.join("cases.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains(",title,class,"));
    assert_eq!(csv.matches(",HiResCAM,dark,").count(), 8, "{csv}");
    let first = &run_record(&out).cases[0];
    let view = std::fs::read_to_string(out.join("report").join(format!("{first}.js"))).unwrap();
    assert!(view.contains("raw range, dark") && view.contains("raw range, bright"));

    // Set on the way: fewer classes are another run.
    let only = ["run", "study.toml", "--out", "out", "--set", "explainer.1.classes=[0]"];
    toy.shiftlens(&only).expect(1).says(&["another run", "differs in explainer"]);
    let other = ["run", "study.toml", "--out", "two", "--set", "explainer.1.classes=[0]"];
    toy.shiftlens(&other).expect(0);
    assert_eq!(cases(&toy.path("two"))[0].explanations.len(), 3);
}

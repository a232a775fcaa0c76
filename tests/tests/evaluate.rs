//! Metrics of explanations in a whole run of the program: see `shiftlens_tests::toy` for the study's truth.

use serde_json::Value;
use shiftlens_api::record::CaseRecord;
use shiftlens_tests::program::{arrays, cases, contents, json, run_record, same_run};
use shiftlens_tests::toy::{SIDE, Toy, quadrant};

/// The toy study with `[evaluation]`.
fn toy(section: &str) -> Toy {
    let toy = Toy::new();
    toy.edit("[plugins]", &format!("[evaluation]\n{section}\n[plugins]"));
    toy
}

/// A value of a case's record; fails if there is none.
#[track_caller]
fn value(case: &CaseRecord, method: &str, metric: &str) -> Option<f64> {
    let found = case.evaluation.iter().find(|v| v.method == method && v.metric == metric);
    found.unwrap_or_else(|| panic!("{}: no {metric} of {method} in {:?}", case.id, case.evaluation)).value
}

/// A metric of one of the study's tables.
#[track_caller]
fn metric<'a>(table: &'a Value, key: &str) -> &'a Value {
    let all = table["metrics"].as_array().expect("a table");
    all.iter().find(|m| m["key"] == key).unwrap_or_else(|| panic!("no {key} in {table:#}"))
}

#[test]
fn every_explanation_is_measured_beside_the_floor() {
    let toy =
        toy("steps = 16\nbudget = 200\n[evaluation.oracle]\nkind = \"onnx\"\npath = \"classifier.onnx\"\n");
    toy.run("out").expect(0).says(&[
        "8 images explained, 0 failed",
        "evaluation of 8 images in 4 groups",
        "[1] HiResCAM",
        "[2] random heatmap",
        "[2] random direction",
        "Insertion AUC, generator",
        "too few groups to show any difference",
        "Latent shift to bright: FID",
    ]);
    let out = toy.path("out");
    let roles: Vec<String> = run_record(&out).components.into_iter().map(|c| c.role).collect();
    assert!(roles.contains(&"oracle".into()) && roles.contains(&"features".into()), "{roles:?}");

    let mut flips = 0.0;
    for case in cases(&out) {
        assert_eq!(case.remarks, [""; 0], "{}", case.id);
        for method in ["HiResCAM", "random heatmap"] {
            for baseline in ["blur", "mean"] {
                let area = value(&case, method, &format!("insertion_auc.{baseline}")).unwrap();
                assert!((0.0..=1.0).contains(&area), "{}: {area}", case.id);
            }
            for metric in ["road", "average_drop", "infidelity", "complexity"] {
                assert!(value(&case, method, metric).is_some(), "{}: no {metric} of {method}", case.id);
            }
        }
        // HiResCAM knows the quadrant that counts. f asks nothing else, so removing the others changes nothing.
        assert_eq!(value(&case, "HiResCAM", "repeatability"), Some(1.0));
        assert!(value(&case, "HiResCAM", "max_sensitivity").unwrap() > 0.0);
        assert_eq!(value(&case, "HiResCAM", "scores_per_image"), Some(1.0));
        let flip = value(&case, "Latent shift", "flip_rate").unwrap();
        flips += flip;
        let distance = value(&case, "Latent shift", "flip_distance");
        assert_eq!(distance.is_some(), flip == 1.0);
        // The oracle is f itself: it sees every flip.
        let word = value(&case, "Latent shift", "oracle_sees");
        assert_eq!((word, value(&case, "Latent shift", "oracle_agreement")), (distance.map(|_| 1.0), word));
        assert!(value(&case, "random direction", "flip_rate").is_some());
        let a = arrays(&out.join("cases").join(&case.id).join("arrays.safetensors"));
        assert_eq!(a.contains_key("features.Latent shift"), flip == 1.0);
        let shown = a.keys().filter(|k| k.starts_with("series.") || k.starts_with("heatmap.")).count();
        assert!(
            a.contains_key("features.x") && shown == 2,
            "the floor is measured, not shown: {:?}",
            a.keys()
        );
    }
    assert!(flips >= 4.0, "{flips}");

    let study: Value = json(&out.join("evaluation.json"));
    assert_eq!((study["cases"].as_u64(), study["groups"].as_u64()), (Some(8), Some(4)));
    let maps = &study["heatmaps"];
    assert_eq!(maps["explainers"], serde_json::json!(["HiResCAM", "random heatmap"]));
    let road = metric(maps, "road");
    assert_eq!(road["means"][0]["n"], 8);
    assert_eq!(road["differences"][0]["verdict"], "cannot-be-shown");
    // By its best scale the true map explains more of f than a random one.
    let unexplained = &metric(maps, "infidelity_unexplained")["means"];
    let mean = |i: usize| unexplained[i]["value"].as_f64().unwrap();
    assert!(mean(0) < mean(1), "{unexplained}");
    let series = &study["counterfactuals"];
    assert_eq!(series["explainers"], serde_json::json!(["Latent shift", "random direction"]));
    assert_eq!(metric(series, "flip_rate")["means"][0]["value"].as_f64(), Some(flips / 8.0));
    assert!(study["metrics"].as_array().unwrap().iter().any(|m| m["reference"] == "Rong et al. 2022"));
    // The page shows what the engine wrote.
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for word in ["HiResCAM", "random heatmap", "random direction", "Insertion AUC, blur", "Rong et al. 2022"]
    {
        assert!(page.contains(word), "{word} is not on the page");
    }
    let table = std::fs::read_to_string(out.join("evaluation.csv")).unwrap();
    let rows: usize = cases(&out).iter().map(|c| c.evaluation.len()).sum();
    assert_eq!(table.lines().count(), 1 + rows);
    let sets = study["sets"].as_array().unwrap();
    assert!(sets.iter().any(|s| s["method"] == "Latent shift" && s["towards"] == "dark"), "{sets:?}");
}

#[test]
fn a_resumed_run_has_the_same_values() {
    let toy =
        toy("metrics = [\"road\", \"insertion_auc\", \"infidelity\", \"flip_rate\", \"fid\"]\nimages = 4");
    toy.run("a").expect(0);
    toy.run("b").expect(0);
    let id = &run_record(&toy.path("b")).cases[2];
    for gone in [format!("b/cases/{id}"), format!("b/cases/{}", run_record(&toy.path("b")).cases[3])] {
        std::fs::remove_dir_all(toy.path(&gone)).unwrap();
    }
    std::fs::remove_file(toy.path("b/evaluation.json")).unwrap();
    toy.run("b").expect(0).says(&["6 were there already", "evaluation of 4 images"]);
    let (a, b) = (contents(&toy.path("a")), contents(&toy.path("b")));
    for (name, bytes) in a.iter().filter(|(n, _)| n.starts_with("cases/") || n.ends_with(".json")) {
        assert!(bytes == &b[name], "{name} differs after resuming");
    }
    let measured = cases(&toy.path("a")).iter().filter(|c| !c.evaluation.is_empty()).count();
    assert_eq!(measured, 4);
    // Measured otherwise it is another run.
    toy.edit("images = 4", "images = 5");
    toy.run("a").expect(1).says(&["another run", "differs in evaluation"]);
}

#[test]
fn parts_joined_have_the_figures_of_the_whole_run() {
    // Which images are measured, and whose maps are compared with those of random weights, does not depend on the parts.
    let toy = toy("images = 5\nsteps = 8\nbudget = 100\nrandomisation = { images = 3 }");
    toy.run("whole").expect(0).says(&["evaluation of 5 images"]);
    let mut compared = Vec::new();
    for part in ["1/2", "2/2"] {
        let out = format!("part{}", &part[..1]);
        toy.shiftlens(&["run", "study.toml", "--out", &out, "--shard", part]).expect(0);
        let record: Value = json(&toy.path(&out).join("randomisation.json"));
        compared.push(record["cases"].as_array().unwrap().len());
    }
    assert_eq!(compared.iter().sum::<usize>(), 3, "{compared:?}");
    assert!(compared.iter().all(|n| *n > 0), "nothing was cut: {compared:?}");
    toy.shiftlens(&["merge", "joined", "part2", "part1"])
        .expect(0)
        .says(&["evaluation of 5 images", "Randomised weights: rank correlation"]);
    same_run(&toy.path("whole"), &toy.path("joined"));
    toy.run("whole").expect(0).says(&["nothing to do"]);
    toy.run("joined").expect(0).says(&["nothing to do"]);
    std::fs::remove_file(toy.path("joined/evaluation.json")).unwrap();
    toy.run("joined").expect(0).says(&["8 were there already", "evaluation of 5 images"]);
    same_run(&toy.path("whole"), &toy.path("joined"));
}

#[test]
fn maps_are_compared_with_masks() {
    let toy =
        toy("metrics = [\"pointing_game\", \"energy_pointing_game\", \"iou_matched\", \"iou_quantile\"]");
    // The mask is the quadrant that counts; one row has none, and one a mask of another size.
    let side = SIDE as u32;
    let inside = |x: u32, y: u32| u8::from(quadrant(y as usize * SIDE + x as usize) == 0);
    image::GrayImage::from_fn(side, side, |x, y| image::Luma([inside(x, y)]))
        .save(toy.path("mask.png"))
        .unwrap();
    image::GrayImage::new(9, 9).save(toy.path("other.png")).unwrap();
    let mut list = "path,roi,patient\n".to_owned();
    for (i, mask) in ["mask.png", "mask.png", "", "other.png"].into_iter().enumerate() {
        list += &format!("images/high/p{}_{}.png,{mask},p{i}\n", (i + 4) / 2, i + 4);
    }
    std::fs::write(toy.path("list.csv"), list).unwrap();
    toy.edit("images = \"images\"", "images = \"list.csv\"\nmask = { column = \"roi\" }");
    toy.edit("group = { file-name = '^(p\\d+)_' }", "group = { column = \"patient\" }");
    toy.run("out").expect(0).says(&["4 images explained", "note: on 2 of 4 cases"]);
    let all = cases(&toy.path("out"));
    for case in &all[..2] {
        // f is sure of these: the map is positive in the quadrant, and 0 elsewhere.
        for metric in ["pointing_game", "energy_pointing_game", "iou_matched"] {
            assert_eq!(value(case, "HiResCAM", metric), Some(1.0), "{}: {metric}", case.id);
        }
        // A tenth of 256 pixels lies within the 64: 26 of 64.
        let quantile = value(case, "HiResCAM", "iou_quantile").unwrap();
        assert!((quantile - 26.0 / 64.0).abs() < 1e-12, "{quantile}");
        assert!(value(case, "random heatmap", "iou_matched").unwrap() < 0.9);
    }
    let without = &all[2];
    assert!(without.evaluation.is_empty() && without.remarks[0].contains("no metric applies"), "{without:?}");
    assert!(all[3].remarks[0].contains("other.png: expected shape [16, 16]"), "{:?}", all[3].remarks);
}

#[test]
fn random_weights_change_the_maps() {
    let toy = toy(
        "metrics = [\"randomisation_spearman\", \"randomisation_top\", \"complexity\"]\nrandomisation = { images = 3 }",
    );
    toy.run("out").expect(0).says(&["Randomised weights: rank correlation"]);
    let study: Value = json(&toy.path("out/evaluation.json"));
    let found = &study["randomisation"];
    assert_eq!((found["mode"].as_str(), found["images"].as_u64()), (Some("cascading"), Some(3)));
    let layers: Vec<&str> =
        found["layers"].as_array().unwrap().iter().map(|l| l["layer"].as_str().unwrap()).collect();
    assert_eq!(layers, ["make_logit", "make_conv"], "from the output on");
    for layer in found["layers"].as_array().unwrap() {
        // The map was 0 outside of one quadrant, and is not with random weights everywhere.
        assert!(layer["spearman"].as_f64().unwrap() < 0.9, "{layer}");
    }
    let n: Vec<u64> = metric(&study["heatmaps"], "randomisation_spearman")["means"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["n"].as_u64().unwrap())
        .collect();
    assert_eq!(n, [3, 0]);
}

#[test]
fn programs_are_told_the_means_and_what_they_will_cost() {
    let toy = toy(
        "metrics = [\"road\", \"flip_rate\", \"randomisation_spearman\"]\nrandomisation = { images = 2 }",
    );
    let last = |more: &[&str]| -> Value {
        let args = [&["run", "study.toml", "--out", "out", "--json"], more].concat();
        let answer = toy.shiftlens(&args).expect(0);
        serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap()
    };
    let estimate = last(&["--dry-run"]);
    let seconds = |name: &str| estimate[name].as_f64().unwrap();
    assert!(seconds("seconds_randomisation") > 0.0 && seconds("seconds_evaluation") > 0.0, "{estimate}");
    assert!(seconds("seconds") > seconds("seconds_randomisation") + seconds("seconds_evaluation"));
    let end = last(&[]);
    let (told, study): (&Value, Value) = (&end["evaluation"], json(&toy.path("out/evaluation.json")));
    assert_eq!((&told["cases"], &told["groups"]), (&study["cases"], &study["groups"]));
    for (table, methods) in [
        ("heatmaps", ["HiResCAM", "random heatmap"]),
        ("counterfactuals", ["Latent shift", "random direction"]),
    ] {
        let found = told[table].as_object().unwrap();
        assert_eq!(found.len(), 2);
        for (i, method) in methods.into_iter().enumerate() {
            let means = found[method].as_object().unwrap();
            assert!(!means.is_empty());
            for (key, value) in means {
                assert_eq!(*value, metric(&study[table], key)["means"][i]["value"], "{method}, {key}");
            }
        }
    }
    assert!(told["heatmaps"]["HiResCAM"]["randomisation_spearman"].is_f64(), "{told}");
    // Nothing is left to be compared.
    assert_eq!(last(&["--dry-run"])["seconds_randomisation"], 0.0);
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_runs() {
    for (section, words) in [
        (
            "metrics = [\"insertion_acu\"]",
            &["unknown metric \"insertion_acu\"", "did you mean `insertion_auc`?"][..],
        ),
        ("metrics = [\"pointing_game\"]", &["needs `mask` in [data]"]),
        ("metrics = [\"oracle_sees\"]", &["needs [evaluation.oracle]"]),
        ("metrics = [\"randomisation_ssim\"]", &["needs `randomisation` in [evaluation]"]),
        ("metrics = []", &["names none"]),
        ("baselines = [\"blurr\"]", &["unknown baseline \"blurr\"", "did you mean `blur`?"]),
        (
            "randomisation = { mode = \"cascade\" }",
            &["`mode` of `randomisation` is \"cascade\"", "`cascading`"],
        ),
        ("budget = 3", &["`budget` in [evaluation]", "at least 20"]),
        ("alpha = 1.5", &["`alpha` is 1.5", "between 0 and 1"]),
        ("stepz = 3", &["unknown key `stepz` in [evaluation]", "did you mean `steps`?"]),
        (
            "features = { path = \"a.onnx\", layer = [] }",
            &["unknown field `layer`", "did you mean `layers`?"],
        ),
        ("features = { path = \"nowhere.onnx\" }", &["[evaluation.features]", "nowhere.onnx"]),
        ("oracle = { kind = \"onnx\", path = \"nowhere.onnx\" }", &["oracle (onnx)", "nowhere.onnx"]),
        (
            "oracle = { kind = \"onnx\", path = \"classifier.onnx\", output = { target = \"grey\" } }",
            &["the oracle has no class \"grey\""],
        ),
    ] {
        toy(section).run("out").expect(2).says(words);
    }
}

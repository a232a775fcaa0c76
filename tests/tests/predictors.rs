//! Several predictors in one study.

use serde_json::Value;
use shiftlens_api::record::ComparisonRecord;
use shiftlens_tests::program::{cases, contents, json, run_record, same_run, shiftlens_with};
use shiftlens_tests::toy::Toy;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

fn toy() -> Toy {
    let toy = Toy::new();
    toy.two_predictors();
    toy
}

/// The same study with one of the predictors alone, as another manifest.
fn alone(toy: &Toy, name: &str) -> String {
    let text = std::fs::read_to_string(toy.manifest()).unwrap();
    let sections: Vec<&str> = text.split("\n\n").collect();
    let ours = |s: &&str| !s.starts_with("[[predictor]]") || s.contains(&format!("name = \"{name}\"\n"));
    let kept: Vec<&str> = sections.into_iter().filter(ours).collect();
    let file = format!("{name}.toml");
    let text = kept.join("\n\n").replace(&format!("[[predictor]]\nname = \"{name}\"\n"), "[predictor]\n");
    assert!(text.contains("[predictor]") && !text.contains("[[predictor]]"), "{text}");
    std::fs::write(toy.path(&file), text).unwrap();
    file
}

fn comparison(out: &Path) -> ComparisonRecord {
    json(&out.join("comparison.json"))
}

/// Value and number of images of a figure of the first pair.
#[track_caller]
fn figure(record: &ComparisonRecord, key: &str) -> (Option<f64>, usize) {
    let found = record.pairs[0].figures.iter().find(|f| f.key == key);
    let figure = &found.unwrap_or_else(|| panic!("no {key}: {record:#?}")).figure;
    (figure.value, figure.n)
}

fn written(folder: &Path) -> BTreeMap<String, SystemTime> {
    let names = contents(folder).into_keys();
    names.map(|n| (n.clone(), folder.join(n).metadata().unwrap().modified().unwrap())).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// f1 = σ(6 y_0) and f2 = σ(3 y_0 + 3 y_1) are known for every image, and so are the figures.
#[test]
fn each_has_a_run_as_if_it_were_alone_and_pairs_are_compared() {
    let toy = toy();
    toy.run("out").expect(0).says(&[
        "predictor first (1 of 2)",
        "predictor second (2 of 2)",
        "12 images explained, 0 failed",
        "first and second: 12 images that both explained",
        "Share of images with the same decision (n = 12)",
        "Cosine of the two directions",
        "comparison: out/report.html",
    ]);
    for name in ["first", "second"] {
        let manifest = alone(&toy, name);
        let own = format!("alone-{name}");
        toy.shiftlens(&["run", &manifest, "--out", &own]).expect(0);
        same_run(&toy.path(&own), &toy.path("out").join(name));
        toy.shiftlens(&["run", &manifest, "--out", &format!("out/{name}")])
            .expect(0)
            .says(&["nothing to do"]);
    }
    let record = comparison(&toy.path("out"));
    assert_eq!(
        (record.predictors.as_slice(), record.pairs.len()),
        (&["first".into(), "second".into()][..], 1)
    );
    let pair = &record.pairs[0];
    assert!(pair.only_first.is_empty() && pair.only_second.is_empty() && pair.remarks.is_empty(), "{pair:?}");
    let (first, second) = (cases(&toy.path("out/first")), cases(&toy.path("out/second")));
    let y = |g: u8| 2.0 * f64::from(g) / 255.0 - 1.0;
    // Two quadrants of the images whose names end in these numbers.
    let known = [(8, 150, 60), (9, 100, 200), (10, 200, 180), (11, 60, 90), (0, 60, 90), (7, 216, 160)];
    for (i, a, b) in known {
        let at = first.iter().position(|c| c.id.ends_with(&format!("_{i}"))).unwrap();
        assert_eq!(first[at].id, second[at].id);
        assert!((f64::from(first[at].score) - sigmoid(6.0 * y(a))).abs() < 1e-4, "{:?}", first[at]);
        assert!(
            (f64::from(second[at].score) - sigmoid(3.0 * (y(a) + y(b)))).abs() < 1e-4,
            "{:?}",
            second[at]
        );
    }
    // Of twelve images they disagree on two, and decide "bright" of six each: p_e = 1/2.
    assert_eq!(figure(&record, "agreement"), (Some(10.0 / 12.0), 12));
    let kappa = figure(&record, "kappa").0.unwrap();
    assert!((kappa - 2.0 / 3.0).abs() < 1e-12, "{kappa}");
    assert_eq!(
        figure(&record, "first_right"),
        (Some(1.0), 2),
        "the first looks at what the folders are named by"
    );
    let mean =
        first.iter().zip(&second).map(|(a, b)| f64::from((a.score - b.score).abs())).sum::<f64>() / 12.0;
    assert!((figure(&record, "score_difference").0.unwrap() - mean).abs() < 1e-6);
    // The true directions are (1, 0, 0, 0) and (1, 1, 0, 0) / √2.
    let cosine = figure(&record, "direction_cosine").0.unwrap();
    assert!((cosine - 0.5f64.sqrt()).abs() < 0.06, "{cosine}");
    let maps = figure(&record, "heatmap_spearman.plugin:gradcam.bright.0");
    assert!(maps.1 == 12 && maps.0.is_some_and(|r| r > 0.0 && r <= 1.0), "{maps:?}");
    assert!(
        figure(&record, "flip_ratio").0.is_some_and(|r| r > 1.0),
        "the second direction is the slower one"
    );
    let agreement = pair.figures[0].figure.interval.unwrap();
    assert!(agreement.0 < 10.0 / 12.0 && agreement.1 <= 1.0, "{agreement:?}");
}

#[test]
fn what_is_there_is_kept_and_what_is_made_of_it_is_renewed() {
    let toy = toy();
    toy.run("out").expect(0);
    let before = written(&toy.path("out"));
    let nowhere = [("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")];
    let again = ["run", "study.toml", "--out", "out"];
    shiftlens_with(toy.folder(), &again, &nowhere).expect(0).says(&[
        "nothing to do: the run is complete, 12 images explained, 0 failed",
        "nothing to do: the runs and their comparison are complete",
        "comparison: out/report.html",
    ]);
    assert!(before == written(&toy.path("out")), "complete runs were written to");
    // What is missing is made again, without a model.
    std::fs::remove_file(toy.path("out/comparison.csv")).unwrap();
    let answer = shiftlens_with(toy.folder(), &again, &nowhere).expect(0);
    assert!(!answer.text().contains("and their comparison are complete"), "{}", answer.text());
    let after = written(&toy.path("out"));
    assert!(after.contains_key("comparison.csv"));
    let runs = |of: &BTreeMap<String, SystemTime>| -> Vec<(String, SystemTime)> {
        let below = |n: &str| n.starts_with("first/") || n.starts_with("second/");
        of.iter().filter(|(n, _)| below(n)).map(|(n, t)| (n.clone(), *t)).collect()
    };
    assert!(runs(&before) == runs(&after), "a run was written to");
    // A case that is gone is explained again, for the predictor that lacks it, and the comparison follows.
    let id = run_record(&toy.path("out/second")).cases[3].clone();
    std::fs::remove_dir_all(toy.path("out/second/cases").join(&id)).unwrap();
    toy.run("out")
        .expect(0)
        .says(&["nothing to do: the run is complete", "12 images explained (11 were there already)"]);
    toy.run("out").expect(0).says(&["and their comparison are complete"]);
    toy.run("undisturbed").expect(0);
    same_run(&toy.path("undisturbed"), &toy.path("out"));
    // One image more, explained for one predictor only: the page says so.
    toy.picture("images/high/p6_12.png", [180, 120, 90, 90]);
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--predictor", "second"])
        .expect(0)
        .says(&["predictor second (1 of 1)", "13 images explained (12 were there already)"]);
    let pair = &comparison(&toy.path("out")).pairs[0];
    assert_eq!(
        (pair.images, pair.only_first.len(), pair.only_second.as_slice()),
        (12, 0, &["p6_12".to_owned()][..])
    );
    let csv = std::fs::read_to_string(toy.path("out/comparison.csv")).unwrap();
    let row = csv.lines().find(|l| l.starts_with("p6_12,")).unwrap();
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let cell = |name: &str| row.split(',').nth(head.iter().position(|h| *h == name).unwrap()).unwrap();
    assert_eq!((cell("agree"), cell("score.first"), cell("decision.second")), ("", "", "1"));
    toy.run("out").expect(0).says(&["13 images explained (12 were there already)"]);
    assert_eq!(comparison(&toy.path("out")).pairs[0].images, 13);
}

#[test]
fn parts_are_joined_for_each_predictor() {
    let toy = toy();
    toy.run("whole").expect(0);
    for part in ["1/2", "2/2"] {
        let out = format!("part{}", &part[..1]);
        toy.shiftlens(&["run", "study.toml", "--out", &out, "--shard", part]).expect(0);
    }
    toy.shiftlens(&["merge", "joined", "part2", "part1"]).expect(0).says(&[
        "predictor first (1 of 2)",
        "first and second: 12 images that both explained",
        "comparison: joined/report.html",
    ]);
    same_run(&toy.path("whole"), &toy.path("joined"));
    toy.run("joined").expect(0).says(&["and their comparison are complete"]);
    // A predictor whose part is missing does not keep the other from being joined.
    std::fs::remove_dir_all(toy.path("part1/first")).unwrap();
    toy.shiftlens(&["merge", "again", "part1", "part2"]).expect(1).says(&[
        "part1/first",
        "1 of 2 predictors failed: first",
        "12 images explained",
    ]);
    assert!(toy.path("again/second/report.html").exists() && toy.path("again/report.html").exists());
    toy.shiftlens(&["merge", "mixed", "part2", "part2/second"])
        .expect(2)
        .says(&["a run of a single predictor"]);
    // A direction of each is taken from another such run, and from no other.
    let from = |run: &str| {
        toy.shiftlens(&["run", "study.toml", "--out", "from", "--shard", "1/2", "--direction-from", run])
    };
    from("whole")
        .expect(0)
        .says(&["direction from whole/first/direction", "direction from whole/second/direction"]);
    from("whole/first").expect(2).says(&["no runs of several predictors"]);
}

#[test]
fn single_images_estimates_and_events() {
    let toy = toy();
    let dry = toy.shiftlens(&["run", "study.toml", "--out", "out", "--dry-run"]).expect(0);
    dry.says(&["predictor first (1 of 2)", "12 of 12 images to explain", "predictor second", "all 2: time"]);
    assert!(!toy.path("out").exists());
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--only", "p4_8", "--only", "p1_2"])
        .expect(0)
        .says(&["2 images explained, 0 failed", "2 images that both explained"]);
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--only", "p4_9x"])
        .expect(2)
        .says(&["did you mean `p4_9`"]);
    let answer = toy.shiftlens(&["run", "study.toml", "--out", "told", "--limit", "4", "--json"]).expect(0);
    let events: Vec<Value> = answer.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |event: &str, predictor: &str| {
        events.iter().filter(|e| e["event"] == event && e["predictor"] == predictor).count()
    };
    for name in ["first", "second"] {
        assert_eq!((of("started", name), of("finished", name)), (1, 1), "{events:#?}");
        assert_eq!((of("case", name), of("stage", name) > 1), (4, true), "{events:#?}");
    }
    let last = events.last().unwrap();
    assert_eq!((&last["event"], last.get("predictor")), (&"finished".into(), None));
    assert_eq!(last["predictors"], serde_json::json!(["first", "second"]));
    assert_eq!((&last["pairs"][0]["first"], &last["report"]), (&"first".into(), &"told/report.html".into()));
    assert!(last["pairs"][0]["figures"]["agreement"]["value"].is_number());
    let others = events.iter().filter(|e| e.get("predictor").is_none()).count();
    assert_eq!(others, 1, "every other event says which predictor");
    let image = toy.path("images/high/p4_8.png").display().to_string();
    toy.shiftlens(&["explain", "study.toml", &image, "--predictor", "first", "--out", "one"]).expect(0);
    assert!(toy.path("one/first/report.html").exists() && !toy.path("one/second").exists());
    toy.shiftlens(&["explain", "study.toml", &image, "--out", "one"]).expect(0);
    assert!(toy.path("one/second/report.html").exists());
}

#[test]
fn check_and_measure_know_of_several() {
    let toy = toy();
    let answer = toy.shiftlens(&["check", "study.toml"]).expect(0);
    assert_eq!(answer.text().matches("images    12").count(), 1, "{}", answer.text());
    answer.says(&[
        "predictor \"first\"",
        "classifier.onnx",
        "predictor \"second\"",
        "second.onnx",
        "the study is ready",
    ]);
    let answer = toy.shiftlens(&["check", "study.toml", "--predictor", "second"]).expect(0);
    assert!(!answer.text().contains("\"first\""));
    toy.shiftlens(&["check", "study.toml", "--predictor", "secnd"])
        .expect(2)
        .says(&["did you mean `second`?"]);
    toy.shiftlens(&["measure", "study.toml"]).expect(2).says(&["`measure` is about one", "first, second"]);
    let measure = ["measure", "study.toml", "--predictor", "second", "--samples", "20", "--out", "m.json"];
    toy.shiftlens(&measure).expect(0);
    let single = alone(&toy, "first");
    toy.shiftlens(&["check", &single, "--predictor", "first"]).expect(2).says(&["which has no name"]);
    // Mistakes in what both share come once, those of each come together.
    toy.edit("path = \"encoder.onnx\"", "path = \"encodr.onnx\"");
    toy.edit("path = \"second.onnx\"", "path = \"secnd.onnx\"");
    toy.shiftlens(&["check", "study.toml"]).expect(2).says(&["2 mistakes", "encodr.onnx", "secnd.onnx"]);
    toy.run("out").expect(2).says(&["2 mistakes"]);
    assert!(!toy.path("out").exists());
}

#[test]
fn folders_are_guarded() {
    let toy = toy();
    let single = alone(&toy, "first");
    toy.shiftlens(&["run", &single, "--out", "one"]).expect(0);
    toy.run("one").expect(1).says(&["a run of a single predictor", "--force"]);
    toy.run("two").expect(0);
    toy.shiftlens(&["run", &single, "--out", "two"])
        .expect(1)
        .says(&["runs of several predictors", "--force"]);
    // A predictor that is no longer in the manifest.
    let text = std::fs::read_to_string(toy.manifest()).unwrap();
    std::fs::write(toy.manifest(), text.replace("name = \"second\"", "name = \"third\"")).unwrap();
    toy.run("two").expect(1).says(&["a run of predictor `second`, which the manifest does not have"]);
    assert!(toy.path("two/second/run.json").exists());
    toy.shiftlens(&["run", "study.toml", "--out", "two", "--force", "--predictor", "third"]).expect(0);
    assert!(!toy.path("two/second").exists() && toy.path("two/third/run.json").exists());
    toy.run("two").expect(0).says(&["nothing to do: the run is complete"]);
    toy.shiftlens(&["run", "study.toml", "--out", "one", "--force"]).expect(0);
    assert!(!toy.path("one/run.json").exists() && toy.path("one/predictors.json").exists());
    toy.shiftlens(&["run", &single, "--out", "one", "--force"]).expect(0);
    assert!(toy.path("one/run.json").exists() && !toy.path("one/first").exists());
}

#[test]
fn a_predictor_that_fails_does_not_hide_the_other() {
    let toy = toy();
    // The first one cannot be loaded.
    let good = std::fs::read(toy.path("classifier.onnx")).unwrap();
    std::fs::write(toy.path("classifier.onnx"), b"no model").unwrap();
    toy.run("out").expect(1).says(&[
        "classifier.onnx",
        "12 images explained",
        "1 of 2 predictors failed: first",
    ]);
    let page = std::fs::read_to_string(toy.path("out/report.html")).unwrap();
    assert!(page.contains("No run yet."));
    assert!(comparison(&toy.path("out")).pairs.is_empty());
    // Or answers nothing that can be used.
    toy.classifier_that_answers_nan();
    toy.run("out")
        .expect(1)
        .says(&["1 of 2 predictors failed: first", "nothing to do: the run is complete, 12 images"]);
    std::fs::write(toy.path("classifier.onnx"), good).unwrap();
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--predictor", "first"]).expect(0);
    assert_eq!(comparison(&toy.path("out")).pairs[0].images, 12);
    // With none that can be used nothing is run.
    for file in ["classifier.onnx", "second.onnx"] {
        std::fs::write(toy.path(file), b"no model").unwrap();
    }
    toy.run("none").expect(2);
}

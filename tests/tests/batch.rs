//! Runs of many images: parts, single images, runs that are complete, estimates, and what programs are told.

use serde_json::Value;
use shiftlens_tests::program::{contents, run_record, same_run, shiftlens_with};
use shiftlens_tests::toy::Toy;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

/// The toy with more patients, and an image that cannot be read.
fn toy() -> Toy {
    let toy = Toy::new();
    for i in 0..12u8 {
        toy.picture(&format!("images/high/q{}_{i}.png", i / 2), [150 + 5 * i, 100, 120, 90 + i]);
    }
    std::fs::write(toy.path("images/low/q9_9.png"), b"not a picture").unwrap();
    toy.edit(r"'^(p\d+)_'", r"'^([pq]\d+)_'");
    toy
}

/// When each file below a folder was last written.
fn written(folder: &Path) -> BTreeMap<String, SystemTime> {
    let names = contents(folder).into_keys();
    names.map(|n| (n.clone(), folder.join(n).metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn parts_are_joined_to_the_whole_run() {
    let toy = toy();
    toy.run("whole").expect(0).says(&["20 images explained, 1 failed"]);
    let mut groups = BTreeMap::new();
    for part in ["1/3", "2/3", "3/3"] {
        let out = format!("part{}", &part[..1]);
        toy.shiftlens(&["run", "study.toml", "--out", &out, "--shard", part, "--jobs", "2"]).expect(0);
        for id in run_record(&toy.path(&out)).cases {
            let patient = id.split('_').next().unwrap().to_owned();
            assert_eq!(groups.entry(patient).or_insert(part), &part, "{id}: a patient in two parts");
        }
    }
    assert!(groups.values().any(|p| *p != groups["p0"]), "nothing was cut");
    toy.shiftlens(&["merge", "joined", "part1", "part3"]).expect(1).says(&["missing: part 2/3"]);
    assert!(!toy.path("joined").exists());
    toy.shiftlens(&["merge", "joined", "part3", "part1", "part2"])
        .expect(0)
        .says(&["20 images explained, 1 failed", "report: joined/report.html"]);
    same_run(&toy.path("whole"), &toy.path("joined"));
    toy.run("joined").expect(0).says(&["nothing to do"]);

    // A part's folder takes no other part.
    let other = toy.shiftlens(&["run", "study.toml", "--out", "part1", "--shard", "2/3"]);
    other.expect(1).says(&["holds part 1/3", "asked for is part 2/3"]);
    // A direction that was fitted once serves all parts, and only parts of the same study.
    let from = ["run", "study.toml", "--out", "again", "--shard", "1/3", "--direction-from", "part2"];
    toy.shiftlens(&from).expect(0).says(&["taking the direction from part2/direction"]);
    toy.edit("seed = 7", "seed = 8");
    let from = ["run", "study.toml", "--out", "b", "--direction-from", "part2"];
    toy.shiftlens(&from).expect(1).says(&["part2: the folder has no direction that was fitted with this"]);
}

#[test]
fn a_complete_run_does_nothing() {
    let toy = toy();
    toy.run("out").expect(0);
    let before = written(&toy.path("out"));
    // No runtime is needed to see it.
    let nowhere = [("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")];
    let again = ["run", "study.toml", "--out", "out"];
    let answer = shiftlens_with(toy.folder(), &again, &nowhere).expect(0);
    answer.says(&[
        "nothing to do: the run is complete, 20 images explained, 1 failed",
        "report: out/report.html",
    ]);
    assert!(before == written(&toy.path("out")), "a complete run was written to");

    // What is missing is made again; what is there is not.
    std::fs::remove_file(toy.path("out/cases.csv")).unwrap();
    toy.run("out").expect(0).says(&["20 images explained (20 were there already)"]);
    assert!(toy.path("out/cases.csv").exists());
    toy.run("out").expect(0).says(&["nothing to do"]);
    // An image that could not be read is mended, another one changes, a third one comes.
    toy.picture("images/low/q9_9.png", [20, 100, 120, 90]);
    toy.run("out").expect(0).says(&["21 images explained (20 were there already), 0 failed"]);
    toy.picture("images/low/q9_9.png", [21, 100, 120, 90]);
    toy.run("out").expect(0).says(&["21 images explained (20 were there already), 0 failed"]);
    toy.picture("images/low/r0_0.png", [22, 100, 120, 90]);
    toy.run("out").expect(0).says(&["22 images explained (21 were there already), 0 failed"]);
    // A model that changes makes another run, also where nothing else is left to do.
    toy.classifier_that_fears_white();
    toy.run("out").expect(1).says(&["another run", "differs in", "predictor"]);
}

#[test]
fn other_formats_are_made_of_the_cases_that_are_there() {
    let toy = toy();
    let run = |formats: &str| {
        let set = format!("report.formats={formats}");
        toy.shiftlens(&["run", "study.toml", "--out", "out", "--set", &set])
    };
    run("[\"csv\"]").expect(0);
    let cases = |of: BTreeMap<String, SystemTime>| -> BTreeMap<String, SystemTime> {
        of.into_iter().filter(|(name, _)| name.starts_with("cases/")).collect()
    };
    let before = cases(written(&toy.path("out")));
    assert!(toy.path("out/cases.csv").exists() && !toy.path("out/report.html").exists());
    // No runtime is needed for it.
    let set = "report.formats=[\"html\",\"parquet\",\"contact-sheet\"]";
    let again = ["run", "study.toml", "--out", "out", "--set", set];
    let nowhere = [("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")];
    shiftlens_with(toy.folder(), &again, &nowhere)
        .expect(0)
        .says(&["20 images explained (20 were there already)", "report: out/report.html"]);
    assert!(before == cases(written(&toy.path("out"))), "a finished case was written to");
    for name in ["report.html", "report", "cases.parquet", "contact-sheet.png"] {
        assert!(toy.path("out").join(name).exists(), "{name}");
    }
    assert!(!toy.path("out/cases.csv").exists(), "it is not asked for any more");
    toy.shiftlens(&again).expect(0).says(&["nothing to do"]);
    // Animations belong to the cases.
    run("[\"html\",\"gif\"]").expect(1).says(&["another run", "differs in report"]);
}

#[test]
fn single_images_are_explained_now_and_the_rest_later() {
    let toy = toy();
    toy.run("whole").expect(0);
    let only = |ids: &[&str]| {
        let mut args = vec!["run", "study.toml", "--out", "out"];
        ids.iter().for_each(|id| args.extend(["--only", id]));
        toy.shiftlens(&args)
    };
    only(&["p1_2", "q3_7"]).expect(0).says(&["2 images explained, 0 failed"]);
    assert_eq!(run_record(&toy.path("out")).cases, ["q3_7", "p1_2"]);
    only(&["q3_7"]).expect(0).says(&["nothing to do"]);
    only(&["q37"]).expect(2).says(&["no image of the list has the id `q37`", "did you mean `q3_7`"]);
    toy.run("out").expect(0).says(&["20 images explained (2 were there already), 1 failed"]);
    same_run(&toy.path("whole"), &toy.path("out"));
}

#[test]
fn programs_are_told_in_json() {
    let toy = toy();
    let events = |args: &[&str], code: i32| -> Vec<Value> {
        let answer = toy.shiftlens(&[args, &["--json"][..]].concat()).expect(code);
        answer
            .stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
            .collect()
    };
    let of = |all: &[Value], event: &str| -> Vec<Value> {
        all.iter().filter(|e| e["event"] == event).cloned().collect()
    };
    let all = events(&["run", "study.toml", "--out", "out"], 0);
    assert_eq!(
        (&all[0]["event"], &all[0]["study"], &all[0]["images"]),
        (&"started".into(), &"toy".into(), &21.into())
    );
    let (cases, failures) = (of(&all, "case"), of(&all, "failure"));
    assert_eq!((cases.len(), failures.len()), (20, 1));
    for case in &cases {
        let record: Value = shiftlens_tests::program::json(
            &toy.path("out/cases").join(case["id"].as_str().unwrap()).join("case.json"),
        );
        assert_eq!(case["score"], record["score"]);
        assert!(case["seconds"].as_f64().unwrap() > 0.0);
    }
    assert!(failures[0]["path"].as_str().unwrap().ends_with("q9_9.png"));
    let stages = of(&all, "stage");
    let last = stages.iter().rfind(|s| s["stage"] == "explaining images").unwrap();
    assert_eq!((&last["done"], &last["total"], &last["failed"]), (&21.into(), &21.into(), &1.into()));
    let end = all.last().unwrap();
    assert_eq!((&end["event"], &end["cases"], &end["failed"]), (&"finished".into(), &20.into(), &1.into()));
    assert_eq!((&end["nothing_to_do"], &end["report"]), (&false.into(), &"out/report.html".into()));
    assert_eq!(end["metrics"]["auc_f"]["n"], 20);

    let all = events(&["run", "study.toml", "--out", "out"], 0);
    assert_eq!((all.len(), &all[1]["nothing_to_do"]), (2, &true.into()));
    let all = events(&["merge", "joined", "out"], 1);
    assert!(all.last().unwrap()["error"].as_str().unwrap().contains("holds no part of a run"));
}

#[test]
fn a_dry_run_estimates_and_leaves_nothing() {
    let toy = toy();
    let answer = toy.shiftlens(&["run", "study.toml", "--out", "out", "--dry-run"]).expect(0);
    answer.says(&["21 of 21 images to explain", "time", "direction", "disk", "in cases", "memory"]);
    assert!(!toy.path("out").exists() && !toy.path("runs").exists());
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--limit", "6"]).expect(0);
    let before = written(&toy.path("out"));
    let answer = toy.shiftlens(&["run", "study.toml", "--out", "out", "--dry-run", "--json"]).expect(0);
    let estimate: Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&estimate["to_do"], &estimate["seconds_direction"]), (&15.into(), &0.0.into()));
    assert!(estimate["bytes_disk"].as_f64().unwrap() > 0.0 && before == written(&toy.path("out")));
}

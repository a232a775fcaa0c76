//! The page and the tables of several predictors, from made-up runs.

mod common;

use common::*;
use serde_json::{Value, json};
use shiftlens_api::record::*;
use shiftlens_report::write_comparison;
use std::path::Path;

/// Two runs below a folder: `a` has cases x and y, `b` has y and z, on which it says something else.
fn two_runs(root: &Path, report: Value) {
    let (a, b) = (root.join("a"), root.join("b"));
    for (run, ids, score) in [(&a, ["x", "y"], 0.25), (&b, ["y", "z"], 0.75)] {
        put_run(run, &ids);
        for id in ids {
            let mut one = case(id, 1);
            (one.record.score, one.record.scores) = (score, vec![1.0 - score, score]);
            put_case(run, one);
        }
    }
    put_json(
        &root.join("predictors.json"),
        &PredictorsRecord {
            schema: RECORD_SCHEMA,
            name: "discs".into(),
            predictors: vec!["a".into(), "b".into(), "c".into()],
            report,
        },
    );
    let figure = |key: &str, title: &str, value, n, interval| PairFigure {
        key: key.into(),
        figure: Metric { title: title.into(), value, n, interval },
    };
    let figures = vec![
        figure("agreement", "Share of images with the same decision", Some(0.25), 1, Some((0.125, 0.5))),
        figure("kappa", HOSTILE, None, 1, None),
        figure("direction_cosine", "Cosine of the two directions", Some(0.625), 0, None),
    ];
    let pair = PairRecord {
        first: "a".into(),
        second: "b".into(),
        images: 1,
        only_first: vec!["x".into()],
        only_second: vec!["z".into()],
        figures,
        remarks: vec![format!("a remark {HOSTILE}")],
    };
    let predictors = vec!["a".into(), "b".into()];
    put_json(
        &root.join("comparison.json"),
        &ComparisonRecord { schema: RECORD_SCHEMA, predictors, pairs: vec![pair] },
    );
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

#[test]
fn the_page_lays_runs_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    two_runs(root, json!({ "html": true, "csv": true, "parquet": true }));
    let written = write_comparison(root).unwrap();
    let names: Vec<_> = written.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["comparison.csv", "comparison.parquet", "report.html"]);
    let html = read(root.join("report.html"));
    for words in [
        "What 2 predictors say of the same images",
        "<h2>c</h2>",
        "No run yet.",
        "href=\"a/report.html\"",
        "0.250",
        "0.125 – 0.500",
        "0.625",
        "1 image that a alone explained, and b not",
        "1 image that b alone explained, and a not",
        "AUC of f",
        "comparison.parquet",
        "<option value=\"score:1\">f(x) of b</option>",
        "<option value=\"missing\">",
    ] {
        assert!(html.contains(words), "`{words}` is missing");
    }
    assert!(!html.contains("<img src=x"), "markup of records stays text");
    // The row of y has both, those of the others one and nothing.
    let index = html.split("id=\"index\">").nth(1).unwrap().split("</script>").next().unwrap();
    let index: Value = serde_json::from_str(index).unwrap();
    assert_eq!(index["predictors"], json!(["a", "b"]));
    let rows = index["rows"].as_array().unwrap();
    let ids: Vec<&str> = rows.iter().map(|r| r[0][0].as_str().unwrap()).collect();
    assert_eq!(ids, ["x", "y", "z"]);
    assert_eq!(
        (&rows[0][3][1], &rows[2][3][0], &rows[1][3][1][1]),
        (&Value::Null, &Value::Null, &"0.75".into())
    );
    assert_eq!(rows[1][0][3], "a/cases/y/original.png");
    assert_eq!(rows[2][0][3], "b/cases/z/original.png");
    // A case's view has the image once, both series under ids of their own, and maps of one explainer beside each other.
    let view = read(root.join("report/y.js"));
    assert_eq!(view.matches("id=\\\"original\\\"").count(), 1);
    for words in [
        "id=\\\"p0-series-0\\\"",
        "id=\\\"p1-series-0-4\\\"",
        "a/cases/y/series-0/00.png",
        "b/cases/y/series-0/00.png",
        "Grad-CAM, large",
        "Grad-CAM of b",
        "b/report.html#case/y",
        "class=\\\"together\\\"",
    ] {
        assert!(view.contains(words), "`{words}` is missing in {view}");
    }
    assert!(!view.contains("aria-label=\\\"Play the series\\\""), "one button plays all");
    assert!(read(root.join("report/x.js")).contains("b has not explained this image."));
    let csv = read(root.join("comparison.csv"));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "case,path,group,label,agree,score_range,score.a,decision.a,score_reconstruction.a,flip_lambda.a,flagged.a,\
         score.b,decision.b,score_reconstruction.b,flip_lambda.b,flagged.b"
    );
    assert_eq!(lines[1], "x,3/x.png,9001,1,,,0.25,0,0.44,0.333,,,,,,");
    assert_eq!(lines[2], "y,3/y.png,9001,1,0,0.5,0.25,0,0.44,0.333,,0.75,1,0.44,0.333,");
    // Again, with less: what is no longer there goes.
    std::fs::remove_dir_all(root.join("a/cases/x")).unwrap();
    write_comparison(root).unwrap();
    assert!(!root.join("report/x.js").exists() && root.join("report/y.js").exists());
}

#[test]
fn the_page_stands_alone_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    two_runs(dir.path(), json!({ "html": true, "single-file": true }));
    assert_eq!(write_comparison(dir.path()).unwrap().len(), 1);
    let html = read(dir.path().join("report.html"));
    assert!(!dir.path().join("report").exists() && html.matches("<template data-case=").count() == 3);
    assert!(!html.contains("href=\"a/report.html") && !html.contains("comparison.json\""), "no dead links");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |words: &str| {
        let e = write_comparison(dir.path()).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    fails("predictors.json");
    two_runs(dir.path(), json!({ "html": "yes" }));
    fails("report");
    two_runs(dir.path(), json!({ "html": true }));
    std::fs::write(dir.path().join("b/cases/y/case.json"), "{}").unwrap();
    write_comparison(dir.path()).unwrap();
    let html = read(dir.path().join("report.html"));
    assert!(html.contains("skipped: ") && html.contains("case.json"), "an unreadable case is a remark");
    assert!(read(dir.path().join("report/y.js")).contains("b has not explained this image."));
    for run in ["a", "b"] {
        std::fs::remove_file(dir.path().join(run).join("run.json")).unwrap();
    }
    fails("none of the predictors has a run");
}

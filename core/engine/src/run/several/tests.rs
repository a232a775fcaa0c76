//! Folders of several predictors' runs.

use super::*;
use serde_json::json;

fn record(names: &[&str]) -> PredictorsRecord {
    PredictorsRecord {
        schema: RECORD_SCHEMA,
        name: "a study".into(),
        predictors: names.iter().map(|n| (*n).to_owned()).collect(),
        report: json!({ "html": true }),
    }
}

fn put(path: PathBuf) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "{}").unwrap();
}

#[test]
fn a_folder_is_of_one_kind_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let open = |names: &[&str], force: bool| SeveralFolder::open(root, record(names), force).map(drop);
    let refused = |names: &[&str], words: &str| {
        let e = open(names, false).unwrap_err().to_string();
        assert!(e.contains(words) && e.contains("--out"), "{e}");
    };
    // Someone else's folder.
    put(root.join("notes.txt"));
    refused(&["a", "b"], "files that are no run's");
    assert!(open(&["a", "b"], true).is_err(), "force removes runs, and nothing else");
    fs::remove_file(root.join("notes.txt")).unwrap();
    // An ordinary run.
    put(root.join("run.json"));
    put(root.join("cases/x/case.json"));
    refused(&["a", "b"], "a run of a single predictor");
    open(&["a", "b"], true).unwrap();
    assert!(!root.join("run.json").exists() && !root.join("cases").exists());
    // A predictor that goes is refused as long as it has results.
    put(root.join("b/cases/x/case.json"));
    put(root.join("b/run.json"));
    open(&["b", "a", "c"], false).unwrap();
    refused(&["a", "c"], "a run of predictor `b`");
    assert_eq!(read_predictors(root).unwrap().unwrap().predictors, ["b", "a", "c"]);
    open(&["a", "c"], true).unwrap();
    assert!(!root.join("b").exists());
    open(&["c"], false).unwrap();
    // And the other way round.
    put(root.join("c/direction/audit.json"));
    let run = |force| RunFolder::open(root, "print", &json!({}), force).map(drop);
    assert!(run(false).unwrap_err().to_string().contains("runs of several predictors"));
    assert!(root.join("c/direction/audit.json").exists());
    run(true).unwrap();
    assert!(!root.join("c").exists() && !root.join(PREDICTORS_FILE).exists());
}

#[test]
fn a_run_that_is_written_to_breaks_the_seal_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = SeveralFolder::open(dir.path(), record(&["a", "b"]), false).unwrap();
    assert!(!folder.sealed());
    put(dir.path().join("report.html"));
    folder.seal(vec!["report.html".into()]).unwrap();
    assert!(folder.sealed());
    let busy = SeveralFolder::open(dir.path(), record(&["a", "b"]), false).unwrap_err().to_string();
    assert!(busy.contains("another program"), "{busy}");
    let run = RunFolder::open(&folder.run("a"), "print", &json!({}), false).unwrap();
    assert!(folder.sealed(), "nothing was written");
    run.unseal().unwrap();
    assert!(!folder.sealed());
    folder.seal(vec!["report.html".into(), "comparison.csv".into()]).unwrap();
    assert!(!folder.sealed(), "a file is missing");
    drop(folder);
    // Another list of predictors, or other formats, are made anew.
    SeveralFolder::open(dir.path(), record(&["a", "b"]), false).unwrap().seal(vec![]).unwrap();
    assert!(SeveralFolder::open(dir.path(), record(&["a", "b"]), false).unwrap().sealed());
    let other = PredictorsRecord { report: json!({ "csv": true }), ..record(&["a", "b"]) };
    assert!(!SeveralFolder::open(dir.path(), other, false).unwrap().sealed());
    assert!(!dir.path().join("report.html").exists());
}

#[test]
fn damaged_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_predictors(dir.path()).unwrap(), None);
    for name in ["../elsewhere", "a/b", "", ".."] {
        write_json(&dir.path().join(PREDICTORS_FILE), &record(&["a", name])).unwrap();
        assert!(read_predictors(dir.path()).unwrap_err().to_string().contains("no predictor's name"));
    }
    write_json(&dir.path().join(PREDICTORS_FILE), &PredictorsRecord { schema: 9, ..record(&["a"]) }).unwrap();
    assert!(read_predictors(dir.path()).unwrap_err().to_string().contains("schema 9"));
}

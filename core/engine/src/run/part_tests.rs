//! Parts of a run, runs of single images, and estimates.

use super::tests::{Counter, F, Place, parts, place, target};
use super::*;
use crate::data;
use shiftlens_api::record::CaseRecord;
use shiftlens_api::{Context, Explainer, Explanation, Heatmap, Images, Silent, Target};
use std::path::Path;
use std::sync::atomic::Ordering;

/// A heatmap of one number that depends on all images of the batch and on the image's place in it, as rounding in a real
/// network does: equal maps are proof of equal batches.
struct Company;
impl Explainer for Company {
    fn explain(&mut self, _: &mut Context<'_>, x: &Images, _: &Target) -> Result<Vec<Vec<Explanation>>> {
        let sum: f32 = x.as_slice().iter().sum();
        let maps = (0..x.len()).map(|i| {
            let map = Heatmap::new(1, 2, vec![sum, i as f32])?;
            Ok(vec![Explanation::Heatmap { title: "Company".into(), map, notes: vec![] }])
        });
        maps.collect()
    }
}

fn company() -> Components {
    let mut all = parts(F);
    all.explainers[1] = Box::new(Company);
    all
}

/// All files of a run by name; JSON without what a clock made, and no lock.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                walk(root, &path, found);
            } else if name.ends_with(".json") {
                let mut value: serde_json::Value = folder::read_json(&path).unwrap();
                strip(&mut value);
                found.insert(name, value.to_string().into_bytes());
            } else if name != ".lock" {
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|key, _| key != "seconds" && key != "timings");
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name}: {}", String::from_utf8_lossy(&b[name]));
    }
}

impl Place {
    fn part(&self, name: &str, part: usize, parts: usize) -> RunOptions {
        RunOptions { shard: Some(Shard { part, parts }), ..self.out(name) }
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// Runs the three parts into `part1` to `part3`.
    fn thirds(&self) -> Vec<PathBuf> {
        let run = |k: usize| {
            let name = format!("part{k}");
            let o = self.run_with(company(), &self.part(&name, k, 3), &Counter::default()).unwrap();
            assert!(o.done + o.failures.len() < 13);
            self.at(&name)
        };
        (1..=3).map(run).collect()
    }
}

/// With an image that cannot be read: failures are joined too.
fn damaged() -> Place {
    let p = place();
    std::fs::write(p.dir.path().join("images/0/k07b.png"), b"not a picture").unwrap();
    p
}

#[test]
fn parts_joined_are_the_whole_run() {
    let p = damaged();
    let whole = p.run_with(company(), &p.out("whole"), &Counter::default()).unwrap();
    assert_eq!((whole.done, whole.failures.len()), (12, 1));
    let mut folders = p.thirds();
    let records: Vec<RunRecord> =
        folders.iter().map(|f| folder::read_json(&f.join("run.json")).unwrap()).collect();
    assert!(records.iter().all(|r| r.complete && r.fingerprint == records[0].fingerprint));
    assert!(records.iter().filter(|r| !r.cases.is_empty()).count() >= 2, "nothing was cut");
    assert_eq!(records.iter().map(|r| r.cases.len()).sum::<usize>(), 12);
    folders.reverse();
    let joined = merge(&p.at("joined"), &folders, false, &Silent).unwrap();
    assert_eq!((joined.done, joined.resumed), (12, 0));
    assert_eq!((joined.metrics, joined.failures), (whole.metrics, whole.failures));
    same(&p.at("whole"), &p.at("joined"));

    // A merge that was stopped goes on.
    std::fs::remove_dir_all(p.at("joined/cases/k03")).unwrap();
    std::fs::create_dir_all(p.at("joined/cases/.part-k03")).unwrap();
    std::fs::remove_file(p.at("joined/metrics.json")).unwrap();
    assert_eq!(merge(&p.at("joined"), &folders, false, &Silent).unwrap().resumed, 11);
    same(&p.at("whole"), &p.at("joined"));
}

#[test]
fn parts_that_do_not_make_one_run_are_refused_by_name() {
    let p = damaged();
    let folders = p.thirds();
    let refused = |folders: &[&Path]| {
        let folders: Vec<PathBuf> = folders.iter().map(|f| f.to_path_buf()).collect();
        let message = merge(&p.at("joined"), &folders, false, &Silent).unwrap_err().to_string();
        assert!(!p.at("joined").exists(), "a refused merge left something");
        message
    };
    let [a, b, c] = [&folders[0], &folders[1], &folders[2]].map(PathBuf::as_path);
    assert!(refused(&[]).contains("no folders"));
    let message = refused(&[a, c]);
    assert!(message.contains("missing: part 2/3"), "{message}");
    let message = refused(&[a, b, c, b]);
    assert!(message.contains("part 2/3 comes twice") && message.contains("part2"), "{message}");
    p.run_with(company(), &p.out("whole"), &Counter::default()).unwrap();
    let message = refused(&[a, b, &p.at("whole")]);
    assert!(message.contains("whole: the folder holds no part") && !message.contains("missing"), "{message}");
    p.run_with(company(), &p.part("fourth", 3, 4), &Counter::default()).unwrap();
    let message = refused(&[a, b, &p.at("fourth")]);
    assert!(
        message.contains("fourth: the folder is of another run") && message.contains("4 parts"),
        "{message}"
    );

    // Another list, another study, an unfinished part, several at once.
    let mut q = p;
    q.study.data.limit = Some(9);
    q.run_with(company(), &q.part("short", 3, 3), &Counter::default()).unwrap();
    q.study.data.limit = None;
    q.study.explainers[0].params = serde_json::json!({ "steps": 7 });
    q.run_with(company(), &q.part("other", 3, 3), &Counter::default()).unwrap();
    let refused = |last: &str| {
        let folders = [folders[0].clone(), folders[1].clone(), q.at(last)];
        merge(&q.at("joined"), &folders, false, &Silent).unwrap_err().to_string()
    };
    assert!(refused("short").contains("another list of images"), "{}", refused("short"));
    assert!(refused("other").contains("differs in explainer"), "{}", refused("other"));
    let path = q.at("part3/run.json");
    let mut record: RunRecord = folder::read_json(&path).unwrap();
    record.complete = false;
    folder::write_json(&path, &record).unwrap();
    assert!(refused("part3").contains("part 3/3 is not finished"), "{}", refused("part3"));
}

#[test]
fn parts_with_unlike_directions_are_refused() {
    let p = place();
    let folders = p.thirds();
    let with_cases =
        |f: &&PathBuf| !folder::read_json::<RunRecord>(&f.join("run.json")).unwrap().cases.is_empty();
    let changed = folders.iter().rfind(with_cases).unwrap().join("direction/direction.safetensors");
    let mut bytes = std::fs::read(&changed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let message = merge(&p.at("joined"), &folders, false, &Silent).unwrap_err().to_string();
    assert!(
        message.contains("another direction than in") && message.contains("--direction-from"),
        "{message}"
    );
}

#[test]
fn a_folder_holds_one_part() {
    let p = place();
    p.run_with(company(), &p.part("a", 1, 2), &Counter::default()).unwrap();
    for other in [p.part("a", 2, 2), p.out("a")] {
        let message = p.run_with(company(), &other, &Counter::default()).unwrap_err().to_string();
        assert!(message.contains("holds part 1/2") && message.contains("shiftlens merge"), "{message}");
    }
    p.run_with(company(), &p.part("a", 1, 2), &Counter::default()).unwrap();
    let forced = RunOptions { force: true, ..p.part("a", 2, 2) };
    p.run_with(company(), &forced, &Counter::default()).unwrap();
    let message = merge(&p.at("a"), &[p.at("a")], false, &Silent).unwrap_err().to_string();
    assert!(message.contains("missing: part 1/2"), "{message}");
}

#[test]
fn a_part_without_images_is_a_part() {
    let p = place();
    let folders: Vec<PathBuf> = (1..=40)
        .map(|k| {
            let name = format!("p{k}");
            p.run_with(company(), &p.part(&name, k, 40), &Counter::default()).unwrap();
            p.at(&name)
        })
        .collect();
    assert!(folders.iter().any(|f| !f.join("direction/audit.json").exists()), "every part has images");
    p.run_with(company(), &p.out("whole"), &Counter::default()).unwrap();
    merge(&p.at("joined"), &folders, false, &Silent).unwrap();
    same(&p.at("whole"), &p.at("joined"));
}

#[test]
fn single_images_are_explained_as_in_the_whole_run() {
    let p = damaged();
    p.run_with(company(), &p.out("whole"), &Counter::default()).unwrap();
    let only = |ids: &[&str]| {
        let only = ids.iter().map(|s| (*s).to_owned()).collect();
        p.run_with(company(), &RunOptions { only, ..p.out("a") }, &Counter::default())
    };
    let first = only(&["k04", "k07b"]).unwrap();
    assert_eq!((first.done, first.failures.len()), (1, 1));
    let second = only(&["k09", "k04"]).unwrap();
    assert_eq!((second.done, second.resumed, second.failures.len()), (2, 1, 1), "failures are kept");
    let record: RunRecord = folder::read_json(&p.at("a/run.json")).unwrap();
    assert!(!record.complete && record.cases == ["k04", "k09"]);
    let message = only(&["k4"]).unwrap_err().to_string();
    assert!(message.contains("`k4`: did you mean"), "{message}");
    // The rest follows, and nothing shows in what order it came.
    let writer = Counter::default();
    p.run_with(company(), &p.out("a"), &writer).unwrap();
    assert_eq!(writer.0.load(Ordering::Relaxed), 10);
    same(&p.at("whole"), &p.at("a"));
}

#[test]
fn what_a_kill_leaves_half_written_is_no_obstacle() {
    let p = place();
    p.run_with(company(), &p.out("whole"), &Counter::default()).unwrap();
    let out = p.at("a");
    std::fs::create_dir_all(out.join("cases")).unwrap();
    std::fs::write(out.join("run.json.part"), "{\"sch").unwrap();
    p.run_with(company(), &p.out("a"), &Counter::default()).unwrap();
    same(&p.at("whole"), &out);
    std::fs::remove_dir_all(out.join("cases/k01")).unwrap();
    std::fs::create_dir_all(out.join("cases/.part-k01/series-0")).unwrap();
    std::fs::remove_file(out.join("direction/direction.safetensors")).unwrap();
    for (name, text) in [
        ("metrics.json.part", "{"),
        ("direction/audit.json", "{"),
        ("direction/direction.safetensors.part", "x"),
    ] {
        std::fs::write(out.join(name), text).unwrap();
    }
    p.run_with(company(), &p.out("a"), &Counter::default()).unwrap();
    same(&p.at("whole"), &out);
    // Cases that nothing says the run of are nobody's.
    std::fs::remove_file(out.join("run.json")).unwrap();
    let message = p.run_with(company(), &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("no run.json that says of which run"), "{message}");
    let forced = RunOptions { force: true, ..p.out("a") };
    assert_eq!(p.run_with(company(), &forced, &Counter::default()).unwrap().resumed, 0);
    same(&p.at("whole"), &out);
}

#[test]
fn estimates_count_what_is_left_and_write_nothing() {
    let mut p = place();
    let items = data::scan(&p.study.data).unwrap();
    let estimated = |p: &mut Place, options: &RunOptions| {
        let e = estimate(&mut p.study, &mut company(), &items, options, &Silent, &Counter::default());
        e.unwrap()
    };
    let options = p.out("a");
    let e = estimated(&mut p, &options);
    assert_eq!((e.images, e.sample), ((12, 12), 10));
    assert!(e.direction > 0.0 && e.explain > 0.0 && e.bytes > 12.0 * 5.0 * 64.0 * 4.0);
    assert!(!p.at("a").exists(), "an estimate left something");

    let mut p = place();
    p.run_with(company(), &p.out("a"), &Counter::default()).unwrap();
    for gone in ["k01", "k07"] {
        std::fs::remove_dir_all(p.at("a/cases").join(gone)).unwrap();
    }
    let items = data::scan(&p.study.data).unwrap();
    let before = contents(&p.at("a"));
    let options = p.out("a");
    let e = estimate(&mut p.study, &mut company(), &items, &options, &Silent, &Counter::default()).unwrap();
    assert_eq!((e.images, e.direction), ((2, 12), 0.0));
    assert!(before == contents(&p.at("a")));

    // Labels: a direction of some of them serves for the sample.
    let mut p = place();
    p.study.direction.as_mut().unwrap().labels = LabelSource::Truth;
    let items = data::scan(&p.study.data).unwrap();
    let options = p.out("b");
    let e = estimate(&mut p.study, &mut company(), &items, &options, &Silent, &Counter::default()).unwrap();
    assert_eq!(e.images, (12, 12));
}

#[test]
fn stages_are_timed() {
    let p = place();
    let mut all = company();
    all.explained[1] = vec![target()];
    p.run_with(all, &p.out("a"), &Counter::default()).unwrap();
    let record: RunRecord = folder::read_json(&p.at("a/run.json")).unwrap();
    let names: Vec<&str> = record.timings.keys().map(String::as_str).collect();
    let expected = [
        "direction",
        "encode",
        "explain",
        "figures",
        "gradients",
        "predict",
        "read",
        "synthesise",
        "total",
        "wait-images",
        "wait-writers",
        "write",
    ];
    assert_eq!(names, expected);
    let of = |name: &str| record.timings[name];
    assert!(
        of("total") >= of("direction") + of("explain") + of("figures")
            && of("read") > 0.0
            && of("write") > 0.0
    );
    let case: CaseRecord = folder::read_json(&p.at("a/cases/k03/case.json")).unwrap();
    assert_eq!(case.id, "k03");
}

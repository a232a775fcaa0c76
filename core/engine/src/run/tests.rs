use super::*;
use crate::data;
use crate::latent_shift::{LatentShift, LatentShiftParams};
use crate::manifest::RawManifest;
use crate::registry::LatentParts;
use crate::testing::{LinearEncoder, LinearGenerator, PixelPredictor, SIDE};
use shiftlens_api::record::{AuditRecord, Case, CaseRecord, ExplanationRecord};
use shiftlens_api::{
    Context, Error, Explainer, Explanation, Generator, Heatmap, Images, LatentCodes, Predictor, Silent,
    Target,
};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const STUDY: &str = r#"
schema = 1
name = "closed form"
[data]
images = "images"
labels = { from = "folder", positive = ["1"], negative = ["0"] }
[predictor]
kind = "plugin:fake"
[generator]
kind = "plugin:fake"
[encoder]
kind = "plugin:fake"
[direction]
kind = "logistic"
samples = 400
seed = 3
[[explainer]]
kind = "latent-shift"
params = { steps = 5 }
[[explainer]]
kind = "plugin:fake"
[plugins]
fake = "fake"
"#;

/// The image itself as a heatmap.
struct Mirror;
impl Explainer for Mirror {
    fn explain(&mut self, _: &mut Context<'_>, x: &Images, _: &Target) -> Result<Vec<Vec<Explanation>>> {
        let (h, w) = x.size();
        (0..x.len())
            .map(|i| {
                let map = Heatmap::new(h, w, x.image(i)[..h * w].to_vec())?;
                Ok(vec![Explanation::Heatmap { title: "Mirror".into(), map, notes: vec![] }])
            })
            .collect()
    }
}

/// Draws nothing, counts.
#[derive(Default)]
pub struct Counter(pub AtomicUsize);
impl CaseWriter for Counter {
    fn write(&self, folder: &Path, case: &mut Case) -> Result<()> {
        assert!(folder.join("arrays.safetensors").exists());
        case.record.pictures.insert("original".into(), "original.png".into());
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub struct Place {
    pub dir: tempfile::TempDir,
    pub study: Study,
}

pub fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let study =
        RawManifest::parse("study.toml", STUDY, &[]).unwrap().check(&dir.path().join("study.toml")).unwrap();
    let w = LinearGenerator.sample(12, 99).unwrap();
    let x = LinearGenerator.synthesize(&w).unwrap();
    for i in 0..12 {
        let label = u8::from(w.code(i)[0] > 0.0);
        save(&dir.path().join(format!("images/{label}/k{i:02}.png")), x.image(i));
    }
    Place { dir, study }
}

pub fn save(path: &Path, pixels: &[f32]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bytes = pixels.iter().map(|v| (v * 255.0).round() as u8).collect();
    image::GrayImage::from_raw(SIDE as u32, SIDE as u32, bytes).unwrap().save(path).unwrap();
}

pub fn parts(predictor: impl Predictor + 'static) -> Components {
    let params = LatentShiftParams { steps: 5, ..Default::default() };
    Components {
        predictor: Box::new(predictor),
        latent: Some(LatentParts {
            generator: Box::new(LinearGenerator),
            encoder: Box::new(LinearEncoder),
            finder: Box::new(crate::direction::Logistic::new(Default::default())),
        }),
        refiner: None,
        explainers: vec![Box::new(LatentShift::new(params)), Box::new(Mirror)],
        target: target(),
        evaluation: None,
        explained: vec![vec![target()], vec![target()]],
        classes: vec!["absent".into(), "present".into()],
        records: vec![],
        remarks: vec![],
        clock: Default::default(),
    }
}

pub fn target() -> Target {
    Target { class: 1, name: "present".into() }
}

pub const F: PixelPredictor = PixelPredictor { gain: 3.0, bias: 0.0 };

impl Place {
    pub fn run_with(
        &self,
        mut parts: Components,
        options: &RunOptions,
        writer: &Counter,
    ) -> Result<RunOutcome> {
        let items = data::scan(&self.study.data).unwrap();
        run(&self.study, &mut parts, &items, options, &Silent, writer)
    }
    pub fn out(&self, name: &str) -> RunOptions {
        RunOptions { batch: 5, ..RunOptions::new(self.dir.path().join(name)) }
    }
}

fn cases(folder: &Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::fs::read_dir(folder.join("cases"))
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            let mut record: CaseRecord = folder::read_json(&e.path().join("case.json")).unwrap();
            for x in &mut record.explanations {
                match x {
                    ExplanationRecord::Heatmap { seconds, .. } | ExplanationRecord::Shift { seconds, .. } => {
                        *seconds = 0.0
                    }
                }
            }
            (e.file_name().into_string().unwrap(), serde_json::to_string(&record).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_run_leaves_everything_and_its_figures_are_right() {
    let p = place();
    let writer = Counter::default();
    let options = p.out("a");
    let outcome = p.run_with(parts(F), &options, &writer).unwrap();
    assert_eq!((outcome.done, outcome.resumed, outcome.failures.len()), (12, 0, 0));
    assert_eq!(writer.0.load(Ordering::Relaxed), 12);
    // f is monotone in w[0], and the label says whether w[0] > 0.
    let value = |name: &str| outcome.metrics.values[name].value.unwrap();
    assert_eq!(value("auc_f"), 1.0);
    assert!(value("auc_latent_vs_label") > 0.99 && value("auc_latent_vs_f") > 0.99);
    assert!(value("crossing_share") > 0.9 && value("spearman_median") == 1.0);
    assert!(value("reconstruction_gap_mean") < 0.01 && value("reconstruction_l1_mean") < 0.01);

    let record: RunRecord = folder::read_json(&options.out.join("run.json")).unwrap();
    assert!(
        record.complete && record.cases.len() == 12 && record.cases[0] == "k00" || record.cases.len() == 12
    );
    let audit: AuditRecord = folder::read_json(&options.out.join("direction/audit.json")).unwrap();
    assert!(audit.auc.unwrap() > 0.98 && audit.samples == (320, 80));
    let arrays = case::read_arrays(&options.out.join("cases/k03/arrays.safetensors")).unwrap();
    assert_eq!(arrays["x"].0, [1, SIDE, SIDE]);
    assert_eq!(arrays["series.0"].0, [5, 1, SIDE, SIDE]);
    assert_eq!(arrays["heatmap.1"].0, [SIDE, SIDE]);
    assert_eq!(arrays["x"].1, arrays["heatmap.1"].1);
    assert!(arrays.contains_key("code.0"));
}

#[test]
fn two_runs_agree_and_a_resumed_one_too() {
    let p = place();
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    p.run_with(parts(F), &p.out("b"), &Counter::default()).unwrap();
    let a = cases(&p.dir.path().join("a"));
    assert_eq!(a, cases(&p.dir.path().join("b")));

    // As a killed run leaves it: a case in flight, some missing, one cut short.
    let b = p.dir.path().join("b/cases");
    std::fs::create_dir(b.join(".part-k01")).unwrap();
    for gone in ["k01", "k07", "k08"] {
        std::fs::remove_dir_all(b.join(gone)).unwrap();
    }
    let cut = b.join("k05/arrays.safetensors");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 8]).unwrap();
    let writer = Counter::default();
    let outcome = p.run_with(parts(F), &p.out("b"), &writer).unwrap();
    assert_eq!((outcome.done, outcome.resumed, writer.0.load(Ordering::Relaxed)), (12, 8, 4));
    assert_eq!(a, cases(&p.dir.path().join("b")));

    // An image that changed is explained again.
    let w = LinearGenerator.sample(1, 5).unwrap();
    let item = &data::scan(&p.study.data).unwrap()[2];
    save(&item.path, LinearGenerator.synthesize(&w).unwrap().image(0));
    assert_eq!(p.run_with(parts(F), &p.out("b"), &Counter::default()).unwrap().resumed, 11);
}

#[test]
fn bad_images_are_reported_and_the_others_go_on() {
    let p = place();
    let at = |name: &str| p.dir.path().join("images/0").join(name);
    std::fs::write(at("cut.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    std::fs::write(at("text.png"), b"not a picture").unwrap();
    // PixelPredictor answers NaN where the last pixel is white.
    save(&at("nan.png"), &[1.0; SIDE * SIDE]);
    let outcome = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (12, 3));
    let message = |name: &str| {
        let f = outcome.failures.iter().find(|f| f.path.ends_with(name)).unwrap();
        f.error.clone()
    };
    assert!(message("cut.png").contains("truncated"), "{}", message("cut.png"));
    assert!(message("text.png").contains("not an image"));
    assert!(message("nan.png").contains("NaN"), "{}", message("nan.png"));
    let record: RunRecord = folder::read_json(&p.dir.path().join("a/run.json")).unwrap();
    assert_eq!(record.failures, outcome.failures);
}

#[test]
fn a_folder_of_another_run_is_refused_until_forced() {
    let mut p = place();
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    p.study.explainers[0].params = serde_json::json!({ "steps": 7 });
    let message = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("differs in explainer") && message.contains("--force"), "{message}");
    let forced = RunOptions { force: true, ..p.out("a") };
    assert_eq!(p.run_with(parts(F), &forced, &Counter::default()).unwrap().resumed, 0);

    std::fs::create_dir(p.dir.path().join("mine")).unwrap();
    std::fs::write(p.dir.path().join("mine/thesis.txt"), "x").unwrap();
    let forced = RunOptions { force: true, ..p.out("mine") };
    let message = p.run_with(parts(F), &forced, &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("no run's"), "{message}");
    assert!(p.dir.path().join("mine/thesis.txt").exists());
}

#[test]
fn a_run_that_got_nowhere_is_no_obstacle() {
    let p = place();
    assert!(
        p.run_with(parts(PixelPredictor { gain: 0.1, bias: -9.0 }), &p.out("a"), &Counter::default())
            .is_err()
    );
    let mut q = p;
    q.study.explainers[0].params = serde_json::json!({ "steps": 7 });
    assert_eq!(q.run_with(parts(F), &q.out("a"), &Counter::default()).unwrap().done, 12);
}

#[test]
fn files_given_one_by_one_gather_in_one_folder() {
    let mut p = place();
    let all: Vec<_> = data::scan(&p.study.data).unwrap().into_iter().map(|i| i.path).collect();
    for (part, resumed) in [(&all[..2], 0), (&all[1..4], 1)] {
        p.study.set_files(part.to_vec());
        let outcome = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
        assert_eq!((outcome.done, outcome.resumed), (part.len(), resumed));
    }
}

#[test]
fn a_direction_is_taken_from_another_run_with_the_same_models() {
    let p = place();
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    let from = RunOptions {
        direction_from: Some(DirectionFrom { run: p.dir.path().join("a"), must: true }),
        ..p.out("b")
    };
    // This generator would answer another direction; it must not be asked.
    struct Mute;
    impl Generator for Mute {
        fn info(&self) -> shiftlens_api::GeneratorInfo {
            LinearGenerator.info()
        }
        fn sample(&mut self, _: usize, _: u64) -> Result<LatentCodes> {
            Err(Error::invalid("asked for samples"))
        }
        fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
            LinearGenerator.synthesize(w)
        }
    }
    let mut again = parts(F);
    again.latent.as_mut().unwrap().generator = Box::new(Mute);
    p.run_with(again, &from, &Counter::default()).unwrap();
    let file =
        |run: &str| std::fs::read(p.dir.path().join(run).join("direction/direction.safetensors")).unwrap();
    assert_eq!(file("a"), file("b"));

    // Other settings are another direction: taken if it may be, refused if it must be.
    let mut q = p;
    q.study.direction.as_mut().unwrap().seed = 4;
    let from = |must| Some(DirectionFrom { run: q.dir.path().join("a"), must });
    q.run_with(parts(F), &RunOptions { direction_from: from(false), ..q.out("c") }, &Counter::default())
        .unwrap();
    let must = RunOptions { direction_from: from(true), ..q.out("d") };
    let message = q.run_with(parts(F), &must, &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("no direction that was fitted with this study's"), "{message}");
}

#[test]
fn truth_labels_fit_on_encoded_images() {
    let mut p = place();
    p.study.direction.as_mut().unwrap().labels = LabelSource::Truth;
    let outcome = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    assert!(outcome.remarks.iter().any(|r| r.contains("labelled images of this very list")));
    let audit: AuditRecord = folder::read_json(&p.dir.path().join("a/direction/audit.json")).unwrap();
    assert_eq!(audit.samples.0 + audit.samples.1, 12);
}

#[test]
fn one_class_only_stops_with_the_figures() {
    let p = place();
    let f = PixelPredictor { gain: 0.1, bias: -9.0 };
    let message = p.run_with(parts(f), &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("400 of 400 sampled codes are negative"), "{message}");
}

#[test]
fn a_full_disk_stops_the_run_and_a_bad_picture_does_not() {
    struct Failing(bool);
    impl CaseWriter for Failing {
        fn write(&self, folder: &Path, case: &mut Case) -> Result<()> {
            match self.0 {
                true => Err(Error::io(folder, std::io::Error::other("no space left"))),
                false if case.id == "k04" => Err(Error::invalid("cannot draw this")),
                false => Ok(()),
            }
        }
    }
    let p = place();
    let items = data::scan(&p.study.data).unwrap();
    let run = |full, name: &str| run(&p.study, &mut parts(F), &items, &p.out(name), &Silent, &Failing(full));
    assert!(run(true, "a").unwrap_err().to_string().contains("no space left"));
    let outcome = run(false, "b").unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (11, 1));
    assert!(!p.dir.path().join("b/cases/.part-k04").exists());
}

#[test]
fn cancelling_keeps_what_is_done() {
    struct Impatient(AtomicUsize);
    impl Monitor for Impatient {
        fn log(&self, _: Level, _: &str) {}
        fn progress(&self, what: &str, done: u64, _: u64) {
            if what == "explaining images" && done >= 5 {
                self.0.store(1, Ordering::Relaxed);
            }
        }
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) == 1
        }
    }
    let p = place();
    let items = data::scan(&p.study.data).unwrap();
    let monitor = Impatient(AtomicUsize::new(0));
    let stopped = run(&p.study, &mut parts(F), &items, &p.out("a"), &monitor, &Counter::default());
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let outcome = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    assert_eq!((outcome.done, outcome.resumed), (12, 5));
}

#[test]
fn an_explainer_of_several_classes_runs_for_each() {
    let p = place();
    let other = Target { class: 0, name: "absent".into() };
    let mut all = parts(F);
    all.explained[1] = vec![other.clone(), target()];
    p.run_with(all, &p.out("a"), &Counter::default()).unwrap();
    let record = folder::read_json::<CaseRecord>(&p.dir.path().join("a/cases/k03/case.json")).unwrap();
    let about: Vec<&Target> = record.explanations.iter().map(|e| e.class().unwrap()).collect();
    assert_eq!(about, [&target(), &other, &target()]);
    for (e, class) in record.explanations.iter().zip(about) {
        let (ExplanationRecord::Heatmap { notes, .. } | ExplanationRecord::Shift { notes, .. }) = e;
        assert_eq!(notes[0], ("class".to_owned(), class.name.clone()));
    }
    let arrays = case::read_arrays(&p.dir.path().join("a/cases/k03/arrays.safetensors")).unwrap();
    assert!(arrays.contains_key("heatmap.1") && arrays.contains_key("heatmap.2"));

    // Other classes are another run; the target by its name is the same one.
    let message = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("differs in explainer"), "{message}");
}

#[test]
fn the_latent_space_is_lent_for_the_target_only() {
    let p = place();
    let mut all = parts(F);
    // A latent shift that no check has kept from another class.
    all.explained[0] = vec![Target { class: 0, name: "absent".into() }];
    let outcome = p.run_with(all, &p.out("a"), &Counter::default()).unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (0, 12));
    let error = &outcome.failures[0].error;
    assert!(
        error.contains("class \"absent\"") && error.contains("for the target \"present\" only"),
        "{error}"
    );
}

#[test]
fn records_without_a_class_are_about_the_target() {
    let p = place();
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    let path = p.dir.path().join("a/cases/k03/case.json");
    let mut old: serde_json::Value = folder::read_json(&path).unwrap();
    for e in old["explanations"].as_array_mut().unwrap() {
        assert!(e.as_object_mut().unwrap().remove("class").is_some());
    }
    let record: CaseRecord = serde_json::from_value(old.clone()).unwrap();
    assert!(record.explanations.iter().all(|e| e.class().is_none() && e.is_about(&target())));
    // As an older version left it: the case is finished all the same.
    std::fs::write(&path, old.to_string()).unwrap();
    assert_eq!(p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap().resumed, 12);
}

//! A synthetic run in a temporary folder: records and arrays made up here, pictures drawn by the crate.

#![allow(dead_code, reason = "not every test program uses every helper")]

use shiftlens_api::record::*;
use shiftlens_api::{Calibration, Explanation, Heatmap, Images, ReachedLevel, ShiftSeries, Target};
use shiftlens_report::Pictures;
use std::path::Path;

/// Names that would run as script if they reached the page unescaped.
pub const HOSTILE: &str = r#"<img src=x onerror="alert(1)">'&{{ 7*7 }}"#;

pub const LAMBDAS: [f32; 5] = [-3.0, -1.5, 0.0, 1.5, 3.0];
pub const SCORES: [f32; 5] = [0.12, 0.31, 0.44, 0.71, 0.93];

/// A disc that grows with `r`, `[1, c, side, side]`.
pub fn disc(c: usize, side: usize, r: f32) -> Images {
    let m = side as f32 / 2.0;
    let data = (0..c * side * side).map(|i| {
        let (y, x) = ((i % (side * side)) / side, i % side);
        let d = ((x as f32 + 0.5 - m).powi(2) + (y as f32 + 0.5 - m).powi(2)).sqrt();
        if d < r * m { 0.8 } else { 0.2 }
    });
    Images::new([1, c, side, side], data.collect()).unwrap()
}

/// The class that the run is about.
pub fn target() -> Target {
    Target { class: 1, name: "large".into() }
}

fn flip(k: usize) -> FlipRecord {
    FlipRecord { lambda: k as f64, share: 0.22 * k as f64, random: Some(0.03 * k as f64), codes: 200 }
}

/// The search beside the series: the highest level is out of reach.
pub fn calibration() -> Calibration {
    let at = |level: f32, lambda: Option<f32>| ReachedLevel {
        level,
        lambda,
        score: lambda.map(|_| level + 0.002),
    };
    Calibration {
        limit: 4.0,
        levels: vec![at(0.1, Some(-3.41)), at(0.25, Some(-1.77)), at(0.5, Some(0.333)), at(0.97, None)],
        flip: Some(0.333),
        spearman: Some(0.983),
        inversions: 1,
        steps: 8,
    }
}

/// The gate's word: a gap that a second try has made smaller, or that it could not.
pub fn trust(kept: bool) -> TrustRecord {
    let (before, after) = (
        Reconstruction { score: 0.75, gap: 0.35, rmse: 0.081 },
        Reconstruction { score: 0.44, gap: 0.04, rmse: 0.052 },
    );
    let reasons = if kept { vec![] } else { vec!["f(G(E(x))) is too far <away>".to_owned()] };
    let retry = Some(RetryRecord { method: "projection".into(), before, after, kept, seconds: 1.0 });
    TrustRecord { reconstruction: if kept { after } else { before }, reasons, retry }
}

/// Adds a heatmap about a class to a case.
pub fn add_map(case: &mut Case, title: &str, class: Option<Target>, values: [f32; 4]) {
    let map = Heatmap::new(2, 2, values.to_vec()).unwrap();
    case.record.explanations.push(ExplanationRecord::Heatmap {
        explainer: "plugin:attribution".into(),
        class,
        title: title.into(),
        range: map.range(),
        size: map.size(),
        notes: vec![("class".into(), "said in the title".into())],
        picture: None,
        seconds: 0.01,
    });
    case.explanations.push(Explanation::Heatmap { title: title.into(), map, notes: vec![] });
}

/// A case with one shift of five steps and one heatmap.
pub fn case(id: &str, channels: usize) -> Case {
    let radii = [0.3, 0.4, 0.5, 0.6, 0.7];
    let images: Vec<Images> = radii.iter().map(|r| disc(channels, 16, *r)).collect();
    let series = ShiftSeries {
        lambdas: LAMBDAS.to_vec(),
        images: Images::concat(&images).unwrap(),
        scores: SCORES.to_vec(),
        code: vec![0.0; 4],
        origin: 2,
        latent_score: Some(0.4),
        calibration: Some(calibration()),
    };
    let map = Heatmap::new(2, 2, vec![0.0, 0.5, 1.0, 2.0]).unwrap();
    let record = CaseRecord {
        schema: RECORD_SCHEMA,
        id: id.into(),
        path: format!("3/{id}.png"),
        synthetic: false,
        group: Some("9001".into()),
        label: Some(true),
        metadata: vec![("site".into(), "North <1>".into())],
        scores: vec![0.6, 0.4],
        score: 0.4,
        explanations: vec![
            ExplanationRecord::Shift {
                explainer: "latent-shift".into(),
                class: Some(target()),
                title: "Latent shift".into(),
                lambdas: LAMBDAS.to_vec(),
                scores: SCORES.to_vec(),
                origin: 2,
                latent_score: Some(0.4),
                flip: Some(0.333),
                spearman: Some(1.0),
                calibration: Some(calibration()),
                reconstruction_gap: 0.04,
                reconstruction_l1: 0.031,
                notes: vec![],
                pictures: vec![],
                animation: None,
                difference: None,
                seconds: 0.25,
            },
            ExplanationRecord::Heatmap {
                explainer: "plugin:gradcam".into(),
                class: None,
                title: "Grad-CAM".into(),
                range: (0.0, 2.0),
                size: (2, 2),
                notes: vec![("layer".into(), "/features/conv8/Relu_output_0".into())],
                picture: None,
                seconds: 0.03,
            },
        ],
        trust: None,
        evaluation: vec![],
        remarks: vec![],
        pictures: Default::default(),
    };
    Case {
        id: id.into(),
        image: disc(channels, 24, 0.5),
        explanations: vec![
            Explanation::Shift { title: "Latent shift".into(), series, notes: vec![] },
            Explanation::Heatmap { title: "Grad-CAM".into(), map, notes: vec![] },
        ],
        record,
        arrays: vec![],
    }
}

/// Writes a case as the engine does: pictures, then `case.json`.
pub fn put_case(run: &Path, mut case: Case) {
    let folder = run.join("cases").join(&case.id);
    std::fs::create_dir_all(&folder).unwrap();
    Pictures::default().write(&folder, &mut case).unwrap();
    put_json(&folder.join("case.json"), &case.record);
}

pub fn put_json(path: &Path, value: &impl serde::Serialize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

/// A case's record as it is on disk.
pub fn read_case(run: &Path, id: &str) -> CaseRecord {
    serde_json::from_slice(&std::fs::read(run.join("cases").join(id).join("case.json")).unwrap()).unwrap()
}

/// Copies a case under other ids, pictures being shared.
pub fn copy_case(run: &Path, first: &str, ids: &[String]) {
    let (from, record) = (run.join("cases").join(first), read_case(run, first));
    let steps = (0..LAMBDAS.len()).map(|i| format!("series-0/{i:02}.png"));
    let shown = ["original.png", "difference-0.png", "heatmap-1-layer.png", "heatmap-1-raw.png"];
    let shown: Vec<String> = shown.into_iter().map(String::from).chain(steps).collect();
    for id in ids {
        let folder = run.join("cases").join(id);
        std::fs::create_dir_all(folder.join("series-0")).unwrap();
        for name in &shown {
            std::fs::hard_link(from.join(name), folder.join(name)).unwrap();
        }
        put_json(&folder.join("case.json"), &CaseRecord { id: id.clone(), ..record.clone() });
    }
}

/// Says what the run asks for beside the numbers.
pub fn put_formats(run: &Path, formats: serde_json::Value) {
    let path = run.join("run.json");
    let mut record: RunRecord = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record.manifest["report"] = formats;
    put_json(&path, &record);
}

/// `run.json`, `direction/audit.json`, `metrics.json` for the given cases. The page is asked for as a single file.
pub fn put_run(run: &Path, cases: &[&str]) -> RunRecord {
    let component = |role: &str, kind: &str, path: Option<&str>| ComponentRecord {
        role: role.into(),
        kind: kind.into(),
        path: path.map(Into::into),
        sha256: path.map(|_| "0123456789abcdef".repeat(4)),
        backend: "onnxruntime 1.30.0".into(),
        detail: "24x24, 1 channel".into(),
    };
    let record = RunRecord {
        schema: RECORD_SCHEMA,
        name: "discs".into(),
        version: "0.1.0".into(),
        complete: true,
        manifest: serde_json::json!({
            "schema": 1,
            "name": "discs",
            "report": { "html": true, "csv": true, "gif": true, "single-file": true },
        }),
        fingerprint: "fedcba9876543210".repeat(4),
        target: target(),
        classes: vec!["small".into(), "large".into()],
        components: vec![
            component("predictor", "onnx", Some("discs.onnx")),
            component("explainer", "plugin:gradcam", None),
        ],
        cases: cases.iter().map(|c| c.to_string()).collect(),
        failures: vec![],
        timings: [("cases".to_owned(), 12.5)].into(),
        remarks: vec![],
    };
    put_json(&run.join("run.json"), &record);
    put_json(
        &run.join("direction/audit.json"),
        &AuditRecord {
            samples: (16000, 4000),
            positives: 0.42,
            auc: Some(0.913),
            accuracy: None,
            stability: Some(0.97),
            bootstrap: Some(BootstrapRecord { refits: 10, mean_cosine: 0.951, least_cosine: 0.902 }),
            random: Some(RandomRecord {
                directions: 10,
                auc_mean: Some(0.553),
                auc_max: Some(0.618),
                accuracy_mean: Some(0.581),
                accuracy_max: Some(0.6),
            }),
            flips: (1..=4).map(flip).collect(),
            sigma: 1.83,
            seconds: 41.0,
        },
    );
    let mut metrics = Metrics::default();
    metrics.values.insert(
        "auc_f".into(),
        Metric { title: "AUC of f".into(), value: Some(0.8912), n: 2, interval: Some((0.8512, 0.9312)) },
    );
    metrics
        .values
        .insert("zeta".into(), Metric { title: "Something new".into(), value: None, n: 0, interval: None });
    put_json(&run.join("metrics.json"), &metrics);
    record
}

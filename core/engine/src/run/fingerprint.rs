//! What makes two runs the same: the resolved manifest and the sums of all model and plugin files.

use crate::data::Item;
use crate::direction::{Along, AuditPlan};
use crate::manifest::{ComponentSpec, EvaluationSpec, LabelSource, Study};
use crate::registry::{Components, FEATURES, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shiftlens_api::Target;
use shiftlens_api::record::ComponentRecord;

/// What is known of components besides what the manifest says of them.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    /// One for each component of [`specs`], in that order; then that of the network of features, if there is one.
    pub records: &'a [ComponentRecord],
    /// The study's class.
    pub target: &'a Target,
    /// The classes that each explainer explains.
    pub explained: &'a [Vec<Target>],
}

impl<'a> From<&'a Components> for Resolved<'a> {
    fn from(parts: &'a Components) -> Self {
        Self { records: &parts.records, target: &parts.target, explained: &parts.explained }
    }
}

/// A study's components in the order in which they are loaded and recorded. A network of features, which may be the
/// predictor's, comes behind them.
pub fn specs(study: &Study) -> Vec<&ComponentSpec> {
    let mut all = vec![&study.predictor];
    if let (Some(g), Some(e), Some(d)) = (&study.generator, &study.encoder, &study.direction) {
        all.extend([g, e, &d.finder]);
    }
    all.extend(study.trust.as_ref().and_then(|t| t.retry.as_ref()));
    all.extend(&study.explainers);
    all.extend(study.evaluation.as_ref().and_then(|e| e.oracle.as_ref()));
    all
}

fn component(spec: &ComponentSpec, parts: &Resolved<'_>, nth: usize) -> Value {
    let record = parts.records.iter().filter(|r| r.role == spec.role).nth(nth);
    json!({
        "kind": spec.kind.to_string(),
        "path": spec.shown_path,
        "sha256": record.and_then(|r| r.sha256.clone()),
        "device": spec.device,
        "backend": record.map(|r| r.backend.clone()),
        "input": spec.input,
        "output": spec.output,
        "params": spec.params,
    })
}

/// The manifest with everything resolved, as `run.json` keeps it.
pub fn resolved(study: &Study, parts: &Components) -> Value {
    resolve(study, &parts.into())
}

/// The same, of components that need not be loaded.
pub fn resolve(study: &Study, parts: &Resolved<'_>) -> Value {
    let direction = study.direction.as_ref().map(|d| {
        let mut v = json!({
            "finder": component(&d.finder, parts, 0),
            "labels": d.labels,
            "samples": d.samples,
            "seed": d.seed,
            "holdout": d.holdout,
            "threshold": d.threshold,
        });
        // Left out where nothing is said, so that runs from before these keys are the same runs.
        if let Some(data) = &d.data {
            v["data"] = json!(data);
        }
        if d.along != Along::Normal {
            v["along"] = json!(d.along);
        }
        if d.audit != AuditPlan::default() {
            v["audit"] = json!(d.audit);
        }
        v
    });
    let explainers: Vec<Value> = study
        .explainers
        .iter()
        .enumerate()
        .map(|(i, e)| {
            let mut v = component(e, parts, i);
            // Named or not, the same classes are the same run.
            if parts.explained[i] != std::slice::from_ref(parts.target) {
                v["classes"] = json!(parts.explained[i]);
            }
            v
        })
        .collect();
    let mut all = json!({
        "schema": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "name": study.name,
        "data": study.data,
        "predictor": component(&study.predictor, parts, 0),
        "target": parts.target,
        "generator": study.generator.as_ref().map(|g| component(g, parts, 0)),
        "encoder": study.encoder.as_ref().map(|e| component(e, parts, 0)),
        "direction": direction,
        "explainer": explainers,
        "report": study.report,
    });
    if let Some(t) = &study.trust {
        let retry = t.retry.as_ref().map(|r| component(r, parts, 0));
        all["trust"] = json!({ "max-gap": t.max_gap, "max-error": t.max_error, "retry": retry });
    }
    if let Some(e) = &study.evaluation {
        all["evaluation"] = evaluation(e, parts);
    }
    all
}

fn evaluation(spec: &EvaluationSpec, parts: &Resolved<'_>) -> Value {
    let features = parts.records.iter().find(|r| r.role == FEATURES);
    json!({
        "metrics": spec.metrics,
        "images": spec.images,
        "steps": spec.steps,
        "baselines": spec.baselines,
        "seed": spec.seed,
        "budget": spec.budget,
        "oracle": spec.oracle.as_ref().map(|o| component(o, parts, 0)),
        "features": features.map(|r| json!({
            "manifest": spec.features.as_ref().map(|f| &f.shown),
            "sha256": r.sha256,
            "backend": r.backend,
        })),
        "randomisation": spec.randomisation,
        "confidence": spec.confidence,
        "alpha": spec.alpha,
    })
}

/// The run's fingerprint. Left out is what a resumed run may change: how many images, what is known of them (each case is
/// compared with its image on its own), and what is made of the cases when they are there; animations are part of a case.
pub fn of_run(resolved: &Value) -> String {
    let mut v = resolved.clone();
    if let Some(data) = v.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|k, _| ["images", "crop", "window"].contains(&k.as_str()));
        // Files given one by one gather in one folder.
        if let Some(images) = data.get_mut("images").and_then(Value::as_object_mut)
            && images.contains_key("files")
        {
            images.insert("files".into(), Value::Null);
        }
    }
    if let Some(report) = v.get_mut("report").and_then(Value::as_object_mut) {
        report.retain(|k, _| ["gif", "apng"].contains(&k.as_str()));
    }
    sum(&v)
}

/// The direction's fingerprint: the models and settings that shape it and its audit, and the images if it is fitted
/// to theirs.
pub fn of_direction(study: &Study, parts: &Components, labelled: &[Item]) -> String {
    let all = resolved(study, parts);
    let mut v = json!({
        "version": all["version"],
        "generator": all["generator"],
        "direction": all["direction"],
        "predictor": all["predictor"],
        "target": all["target"],
    });
    if let Some(d) = study.direction.as_ref().filter(|d| d.labels == LabelSource::Truth || d.data.is_some()) {
        let data = d.data.as_ref().unwrap_or(&study.data);
        let seen: Vec<Value> = labelled.iter().map(|i| json!([i.id, i.label, i.group])).collect();
        v["encoder"] = all["encoder"].clone();
        v["items"] = json!([data.images, seen]);
        if let Some(crop) = data.crop {
            v["crop"] = json!(crop);
        }
        if !data.window.is_default() {
            v["window"] = json!(data.window);
        }
    }
    sum(&v)
}

/// serde_json keeps objects sorted by key, so equal values have equal sums.
fn sum(v: &Value) -> String {
    hex(&Sha256::digest(v.to_string().as_bytes()))
}

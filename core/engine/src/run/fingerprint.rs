//! What makes two runs the same: the resolved manifest and the sums of all model and plugin files.

use crate::data::Item;
use crate::direction::{Along, AuditPlan};
use crate::manifest::{ComponentSpec, EvaluationSpec, LabelSource, Study};
use crate::registry::Components;
use crate::registry::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn component(spec: &ComponentSpec, parts: &Components, nth: usize) -> Value {
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
            if parts.explained[i] != std::slice::from_ref(&parts.target) {
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

fn evaluation(spec: &EvaluationSpec, parts: &Components) -> Value {
    let features = parts.records.iter().find(|r| r.role == "features");
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

/// The run's fingerprint. Left out is what a resumed run may change: how many images, and what is known of them
/// (each case is compared with its image on its own).
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

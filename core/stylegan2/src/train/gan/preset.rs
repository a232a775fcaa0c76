//! Values of keys that a manifest leaves out.

use schemars::Schema;
use serde_json::{Value as Json, json};
use toml::{Table, Value};

/// The keys that `preset = "auto"` gives.
const AUTO: [&str; 4] = ["learning-rate", "r1-gamma", "ema-half-life", "ema-rampup"];
/// The key that is always given where it is left out.
const ALWAYS: &str = "path-length-weight";
/// The key that is given without a preset too, where the discriminator is projected.
const PROJECTED: &str = "r1-gamma";

/// Fills in `[training]`.
///
/// With `preset = "auto"` the step size, R1's weight and the half-life of the averaged weights follow from the resolution
/// and the batch (Karras et al. 2020b, arXiv 2006.06676, appendix C): learning-rate 2.5e-3, from 1024 pixels on and for
/// a projected discriminator (Sauer et al. 2021, section 4) 2e-3; r1-gamma `0.0002 resolution^2 / batch`; ema-half-life
/// `10 / 32 batch` thousand images, ema-rampup 0.05. Keys that are there stay as they are. Without a preset these keys
/// must be there, except that a projected discriminator takes no r1-gamma. path-length-weight is 2, or 0 with a projected
/// discriminator.
pub fn fill(manifest: &mut Table) -> Result<(), String> {
    let projected = manifest
        .get("discriminator")
        .and_then(|d| d.get("kind"))
        .is_some_and(|k| k.as_str() == Some("projected"));
    let resolution = manifest.get("generator").and_then(|g| g.get("resolution")).and_then(Value::as_integer);
    // What is missing or of another type is for the reader of the whole to say.
    let Some(Value::Table(training)) = manifest.get_mut("training") else { return Ok(()) };
    let mut defaults = vec![(ALWAYS, if projected { 0.0 } else { 2.0 })];
    if projected {
        defaults.push((PROJECTED, 0.0));
    }
    match training.remove("preset") {
        None => {}
        Some(Value::String(name)) if name == "auto" => {
            let batch = training.get("batch").and_then(Value::as_integer);
            let (Some(resolution), Some(batch)) = (resolution, batch) else {
                return Err("training.preset needs generator.resolution and training.batch".into());
            };
            let (side, batch) = (resolution as f64, (batch as f64).max(1.0));
            let values = [
                if projected || resolution >= 1024 { 2e-3 } else { 2.5e-3 },
                0.0002 * side * side / batch,
                batch * 10.0 / 32.0 * 1000.0,
                0.05,
            ];
            defaults.extend(AUTO.into_iter().zip(values));
        }
        Some(other) => return Err(format!("training.preset is {other}, expected \"auto\"")),
    }
    for (key, value) in defaults {
        training.entry(key).or_insert(Value::Float(value));
    }
    Ok(())
}

/// Tells the schema of `[training]` of the preset, and that a key may be left out which [`fill`] gives.
pub fn describe(schema: &mut Schema) {
    let section = schema.ensure_object();
    if let Some(Json::Object(keys)) = section.get_mut("properties") {
        let text = "Takes step size, R1, and the half-life of the averages from resolution and batch; every key \
                    overrides. Without it these keys must be there.";
        keys.insert("preset".into(), json!({ "const": "auto", "description": text }));
    }
    let Some(Json::Array(required)) = section.get_mut("required") else { return };
    let given = |key: &Json| key.as_str().is_some_and(|k| AUTO.contains(&k));
    let of_preset: Vec<Json> = required.iter().filter(|k| given(k) && **k != PROJECTED).cloned().collect();
    required.retain(|k| !given(k) && *k != ALWAYS);
    section.insert("if".into(), json!({ "not": { "required": ["preset"] } }));
    section.insert("then".into(), json!({ "required": of_preset }));
}

/// Tells the schema of the whole manifest when [`PROJECTED`] must be there.
pub fn describe_manifest(schema: &mut Schema) {
    let is_projected = json!({ "required": ["kind"], "properties": { "kind": { "const": "projected" } } });
    let without = json!({
        "discriminator": { "not": is_projected },
        "training": { "not": { "required": ["preset"] } },
    });
    schema.insert("if".into(), json!({ "properties": without }));
    schema.insert("then".into(), json!({ "properties": { "training": { "required": [PROJECTED] } } }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<Table, String> {
        let mut table: Table = toml::from_str(text).unwrap();
        fill(&mut table)?;
        let Some(Value::Table(training)) = table.remove("training") else { panic!("no training") };
        Ok(training)
    }

    fn number(table: &Table, key: &str) -> Option<f64> {
        table.get(key).and_then(Value::as_float)
    }

    #[test]
    fn presets_follow_resolution_and_batch_and_give_way_to_keys() {
        // 256 pixels, batch 64: the paper's figures for its configurations, gamma = 0.0002 * 65536 / 64.
        let t = filled("[generator]\nresolution = 256\n[training]\npreset = \"auto\"\nbatch = 64").unwrap();
        assert_eq!(number(&t, "learning-rate"), Some(2.5e-3));
        assert!((number(&t, "r1-gamma").unwrap() - 0.2048).abs() < 1e-12);
        assert_eq!(number(&t, "ema-half-life"), Some(20_000.0));
        assert_eq!((number(&t, "path-length-weight"), t.get("preset")), (Some(2.0), None));
        let text =
            "[generator]\nresolution = 1024\n[training]\npreset = \"auto\"\nbatch = 32\nr1-gamma = 10.0";
        let t = filled(text).unwrap();
        assert_eq!((number(&t, "learning-rate"), number(&t, "r1-gamma")), (Some(2e-3), Some(10.0)));
        let projected = "[discriminator]\nkind = \"projected\"\n[training]\nbatch = 32";
        let t = filled(projected).unwrap();
        assert_eq!((number(&t, "path-length-weight"), number(&t, "r1-gamma")), (Some(0.0), Some(0.0)));
        assert_eq!(number(&t, "learning-rate"), None);
        let error = filled("[training]\npreset = \"atuo\"").unwrap_err();
        assert!(error.contains("atuo") && error.contains("\"auto\""), "{error}");
        let error = filled("[training]\npreset = \"auto\"\nbatch = 8").unwrap_err();
        assert!(error.contains("generator.resolution"), "{error}");
    }
}

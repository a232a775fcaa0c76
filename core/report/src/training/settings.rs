//! What a training was told: from its checkpoint, and from provenance beside it.

use crate::number;
use serde::Serialize;
use serde_json::Value;
use shiftlens_api::{Error, Result};
use std::io::Read as _;
use std::path::Path;

/// A table of settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Section {
    pub title: String,
    pub rows: Vec<(String, String)>,
}

/// A checkpoint's header is a table of names and shapes; this is more than any has.
const HEADER: u64 = 64 << 20;

/// The text `state` in the header of a checkpoint, a safetensors file, as JSON. Its numbers are not read.
pub(super) fn state(path: &Path) -> Result<Value> {
    let io = |e| Error::io(path, e);
    let invalid = |what: &str| Error::Invalid(format!("{}: {what}", path.display()));
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER {
        return Err(invalid("not a safetensors file: its header would be longer than 64 MiB"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(io)?;
    let header: Value = serde_json::from_slice(&header).map_err(|e| invalid(&format!("header: {e}")))?;
    let Some(state) = header["__metadata__"]["state"].as_str() else {
        return Err(invalid("no training state in its header: not a checkpoint"));
    };
    serde_json::from_str(state).map_err(|e| invalid(&format!("training state: {e}")))
}

/// An object's entries as tables: one for its plain entries under `title`, one for each object in it.
pub(super) fn sections(title: &str, object: &Value) -> Vec<Section> {
    let Some(map) = object.as_object() else { return Vec::new() };
    let plain = map.iter().filter(|(_, v)| !v.is_object()).map(|(k, v)| (k.clone(), text(v)));
    let mut out = vec![Section { title: title.into(), rows: plain.collect() }];
    for (name, value) in map.iter().filter(|(_, v)| v.is_object()) {
        let mut rows = Vec::new();
        flatten("", value, &mut rows);
        out.push(Section { title: name.clone(), rows });
    }
    out.retain(|s| !s.rows.is_empty());
    out
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value.as_object() {
        Some(map) => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, rows);
            }
        }
        None => rows.push((prefix.into(), text(value))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => "none".into(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Number(n) => match n.as_u64() {
            Some(n) if n >= 10_000 => usize::try_from(n).map_or_else(|_| n.to_string(), number::count),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_become_tables() {
        let object = json!({
            "name": "knee", "data": { "images": ["a", "b"], "flip": true },
            "training": { "images": 400_000, "r1-gamma": 0.1, "seed": 7, "augment": { "pipeline": { "noise": 0.5 } } },
            "output": {},
        });
        let row = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let section = |title: &str, rows: &[_]| Section { title: title.into(), rows: rows.to_vec() };
        assert_eq!(
            sections("manifest", &object),
            [
                section("manifest", &[row("name", "knee")]),
                section("data", &[row("flip", "true"), row("images", "a, b")]),
                section(
                    "training",
                    &[
                        row("augment.pipeline.noise", "0.5"),
                        row("images", "400\u{202f}000"),
                        row("r1-gamma", "0.1"),
                        row("seed", "7"),
                    ]
                ),
            ]
        );
        assert!(sections("x", &json!(3)).is_empty());
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            state(&path).map_err(|e| e.to_string())
        };
        let file = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 9]].concat();
        let found = with(&file(r#"{"__metadata__":{"state":"{\"step\":3}"},"w":{}}"#));
        assert_eq!(found.unwrap(), json!({ "step": 3 }));
        for (bytes, words) in [
            (vec![1, 2], "checkpoint.safetensors"),
            (vec![255; 20], "64 MiB"),
            (file("{"), "header"),
            (file("{}"), "not a checkpoint"),
            (file(r#"{"__metadata__":{"state":"?"}}"#), "training state"),
        ] {
            let message = with(&bytes).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}

//! What derived schemas say of Rust, and manifests have no use for.

use serde_json::{Map, Value};

/// Takes out what no manifest can hold or no reader understands: `null` (TOML has none; an absent key is left out),
/// formats of numbers in memory, links in descriptions; and shortens numbers of single precision.
pub fn tidy_object(schema: &mut Map<String, Value>) {
    // Names of keys are no keywords.
    for key in ["properties", "definitions"] {
        if let Some(Value::Object(named)) = schema.get_mut(key) {
            named.values_mut().for_each(tidy);
        }
    }
    schema.remove("format");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    without_null(schema);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = plain(text);
    }
    let others = schema.iter_mut().filter(|(k, _)| !["properties", "definitions"].contains(&k.as_str()));
    others.for_each(|(_, v)| tidy(v));
}

fn tidy(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(tidy),
        Value::Object(object) => tidy_object(object),
        Value::Number(n) => {
            let short = n.as_f64().filter(|_| n.is_f64()).and_then(shortest);
            if let Some(short) = short {
                *value = short;
            }
        }
        _ => {}
    }
}

/// A number of single precision as short as it is read: 0.1 and not 0.10000000149011612.
fn shortest(number: f64) -> Option<Value> {
    let single = number as f32;
    let same = f64::from(single) == number;
    same.then(|| single.to_string().parse::<f64>().ok()).flatten().map(Value::from)
}

fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    let is_null = |v: &Value| v.get("type").is_some_and(|t| t == "null");
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|c| !is_null(c));
        if choices.len() == 1
            && let Some(Value::Object(only)) = choices.pop()
        {
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

/// A doc comment's text in one line and without links: `(see [`crate::prior`])` goes, [`Self::Bgc`] becomes `bgc`.
fn plain(text: &str) -> String {
    let mut out = text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some((before, rest)) = out.split_once("[`") {
        let Some((link, after)) = rest.split_once("`]") else { break };
        let name = link.rsplit("::").next().unwrap_or(link);
        let see = [" (see ", ", see ", "; see "].iter().find_map(|s| before.strip_suffix(s));
        out = match (see, after.strip_prefix(')')) {
            (Some(kept), Some(after)) if before.ends_with("(see ") => format!("{kept}{after}"),
            (Some(kept), _) if !before.ends_with("(see ") => format!("{kept}{after}"),
            _ => format!("{before}`{}`{after}", kebab(name)),
        };
    }
    out
}

/// `ChannelsAndScales` as a manifest writes it.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nulls_formats_and_links_go() {
        let mut schema = json!({
            "properties": {
                "format": { "type": ["integer", "null"], "format": "uint", "minimum": 0, "default": null },
                "type": { "anyOf": [{ "$ref": "#/definitions/A" }, { "type": "null" }], "description": "a\nb" },
                "p": { "type": ["number", "string", "null"], "default": f64::from(0.1f32) },
            },
            "default": [0.1, f64::from(0.9f32), 3, 1.0 / 3.0],
        });
        tidy(&mut schema);
        let expected = json!({
            "properties": {
                "format": { "type": "integer", "minimum": 0 },
                "type": { "$ref": "#/definitions/A", "description": "a b" },
                "p": { "type": ["number", "string"], "default": 0.1 },
            },
            "default": [0.1, 0.9, 3, 1.0 / 3.0],
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn texts_become_plain() {
        assert_eq!(plain("Longer than W's codes (see [`crate::prior`])."), "Longer than W's codes.");
        assert_eq!(
            plain("Weights are those of the parts, see [`super::x`]."),
            "Weights are those of the parts."
        );
        assert_eq!(plain("[`Self::Bgcf`] and\nnoise."), "`bgcf` and noise.");
        assert_eq!(plain("[`Mixing::ChannelsAndScales`]"), "`channels-and-scales`");
        assert_eq!(plain("[0, 1] and `[N, C]`"), "[0, 1] and `[N, C]`");
    }
}

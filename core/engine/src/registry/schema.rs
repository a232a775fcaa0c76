//! What the section of a built-in kind may hold, for the manifest's published schema.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// The keys of a section that differ from kind to kind, each with the schema of its value.
pub struct Section {
    /// `params`.
    pub params: Schema,
    /// `input`, of a kind that takes it.
    pub input: Option<Schema>,
    /// `output`, of a kind that takes it.
    pub output: Option<Schema>,
}

/// The section of a kind whose `params` decode to `P`.
pub fn params<P: JsonSchema>(generator: &mut SchemaGenerator) -> Section {
    Section { params: generator.subschema_for::<P>(), input: None, output: None }
}

/// The section of a kind that is configured by a `C`: four of its keys stand beside `kind`, the others in `params`.
pub fn beside<C: JsonSchema>(generator: &mut SchemaGenerator) -> Section {
    let mut params = C::json_schema(generator);
    let object = params.ensure_object();
    let [_, _, input, output] = ["path", "sha256", "input", "output"].map(|key| {
        if let Some(Value::Array(required)) = object.get_mut("required") {
            required.retain(|k| *k != key);
        }
        match object.get_mut("properties") {
            Some(Value::Object(keys)) => keys.remove(key),
            _ => None,
        }
    });
    if object.get("required").is_some_and(|r| r.as_array().is_some_and(Vec::is_empty)) {
        object.remove("required");
    }
    let schema = |value: Option<Value>| value.and_then(|v| Schema::try_from(v).ok());
    Section { input: schema(input), output: schema(output), params }
}

/// A class by its name or by its index.
pub fn class() -> Schema {
    json_schema!({
        "description": "A class by its name, or by its index from 0.",
        "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 0 }],
    })
}

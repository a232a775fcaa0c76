//! The schema of a study's manifest.

use super::texts;
use crate::features::FeatureSpec;
use crate::manifest::check::{ALONG, FORMATS, LABEL_SOURCES};
use crate::manifest::evaluation::{BASELINES, MODES};
use crate::manifest::outline::{Field, Shape};
use crate::manifest::predictors::NAME;
use crate::manifest::raw::{SCHEMA, outline};
use crate::registry::{self, Rules, class_schema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use shiftlens_evaluation::Metric;
use shiftlens_input::Window;

/// Keys whose absence the parser notices without asking for them as required.
const ALSO_REQUIRED: [&str; 2] = ["data.labels.positive", "data.labels.negative"];
/// Keys with a fixed choice of values, or of entries.
const CHOICES: [(&str, &[&str]); 6] = [
    ("data.labels.from", &["folder", "column"]),
    ("direction.labels", &LABEL_SOURCES),
    ("direction.along", &ALONG),
    ("evaluation.baselines", &BASELINES),
    ("evaluation.randomisation.mode", &MODES),
    ("report.formats", &FORMATS),
];
/// Numbers between 0 and 1, neither included.
const SHARES: [&str; 4] =
    ["direction.holdout", "direction.threshold", "evaluation.confidence", "evaluation.alpha"];
/// Lists that name something, if they are there.
const NOT_EMPTY: [&str; 2] = ["evaluation.metrics", "evaluation.baselines"];
/// Sections of a predictor.
const CLASSIFIERS: [&str; 2] = ["predictor", "evaluation.oracle"];
/// Numbers above 0.
const POSITIVE: [&str; 2] = ["trust.max-gap", "trust.max-error"];

/// The schema of `shiftlens run`'s manifest.
pub fn study() -> Value {
    let mut writer = Writer { generator: super::generator() };
    let mut root = Schema::from(writer.section("", &outline()));
    root.insert("title".into(), "Study".into());
    root.insert(
        "description".into(),
        "The manifest of `shiftlens run`, `explain`, `check` and `measure`.".into(),
    );
    super::finish(writer.generator, root)
}

/// The path under which what is said of `data` serves the data of a direction too.
fn shared(path: &str) -> &str {
    path.strip_prefix("direction.").filter(|p| p.starts_with("data.")).unwrap_or(path)
}

struct Writer {
    generator: SchemaGenerator,
}

impl Writer {
    /// A table with these keys and no others; `path` is empty for the whole manifest.
    fn section(&mut self, path: &str, fields: &[Field]) -> Map<String, Value> {
        let (mut keys, mut required) = (Map::new(), Vec::new());
        for field in fields {
            let key = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
            if field.required || ALSO_REQUIRED.contains(&shared(&key)) {
                required.push(Value::from(field.key));
            }
            let mut value = self.value(&key, &field.shape);
            if let Some((_, text)) = texts::entry(&key) {
                value.insert("description".into(), (*text).into());
            }
            keys.insert(field.key.into(), Value::Object(value));
        }
        if let Some(rules) = kinds(path) {
            self.kinds_of(path, &rules, &mut keys);
        }
        let mut section = Map::new();
        section.insert("type".into(), "object".into());
        section.insert("additionalProperties".into(), false.into());
        if !required.is_empty() {
            section.insert("required".into(), Value::Array(required));
        }
        if let Some(rules) = kinds(path) {
            let cases = rules.iter().map(|r| self.case(path, r, &keys)).collect::<Vec<_>>();
            let plugin = (path != "trust").then(|| plugin_case(path, &keys));
            section.insert("allOf".into(), cases.into_iter().chain(plugin).collect());
        }
        section.insert("properties".into(), Value::Object(keys));
        section.extend(between_keys(shared(path)));
        section
    }

    fn value(&mut self, path: &str, shape: &Shape) -> Map<String, Value> {
        let choice = CHOICES.iter().find(|(p, _)| *p == shared(path)).map(|(_, values)| *values);
        let schema = match shape {
            Shape::Text if path.ends_with(".sha256") => {
                json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
            }
            Shape::Text if path.ends_with(".device") => {
                json!({ "type": "string", "pattern": "^(cpu|cuda(:[0-9]+)?)$", "default": "cpu" })
            }
            Shape::Text if path == "predictor.name" => {
                json!({ "type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$" })
            }
            Shape::Text | Shape::Path => match choice {
                Some(values) => json!({ "type": "string", "enum": values }),
                None => json!({ "type": "string" }),
            },
            Shape::Count(least) => json!({ "type": "integer", "minimum": least }),
            Shape::Number if SHARES.contains(&path) => {
                json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 })
            }
            Shape::Number if POSITIVE.contains(&path) => json!({ "type": "number", "exclusiveMinimum": 0 }),
            Shape::Number => json!({ "type": "number" }),
            Shape::Flag => json!({ "type": "boolean", "default": false }),
            Shape::Texts if path == "evaluation.metrics" => {
                let keys: Vec<&str> = Metric::all().iter().map(|i| i.key).collect();
                json!({ "type": "array", "items": { "enum": keys } })
            }
            Shape::Texts => match choice {
                Some(values) => json!({ "type": "array", "items": { "enum": values } }),
                None => json!({ "type": "array", "items": { "type": ["string", "integer"] } }),
            },
            Shape::OneOrSections(fields) => {
                let alone: Vec<Field> = fields.iter().filter(|f| f.key != NAME).cloned().collect();
                let (one, entry) = (self.section(path, &alone), self.section(path, fields));
                json!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": entry }] })
            }
            Shape::Classes => json!({ "type": "array", "minItems": 1, "items": class_schema() }),
            Shape::Libraries => {
                let name = json!({ "type": "string", "minLength": 1 });
                json!({ "type": "object", "propertyNames": { "minLength": 1 }, "additionalProperties": name })
            }
            Shape::Section(fields) => return self.section(path, fields),
            Shape::Sections(fields) => {
                let section = self.section(path, fields);
                json!({ "type": "array", "minItems": 1, "items": section })
            }
            Shape::Any if path == "schema" => json!({ "const": SCHEMA }),
            // What else they may hold depends on the kind.
            Shape::Any if path.strip_suffix(".output").is_some_and(|s| !CLASSIFIERS.contains(&s)) => {
                json!({ "type": "string" })
            }
            Shape::Any if shared(path) == "data.window" => {
                Window::json_schema(&mut self.generator).to_value()
            }
            Shape::Any if path == "evaluation.features" => {
                FeatureSpec::json_schema(&mut self.generator).to_value()
            }
            Shape::Any => json!({ "type": "object" }),
        };
        let mut schema = object(schema);
        if NOT_EMPTY.contains(&path) {
            schema.insert("minItems".into(), 1.into());
        }
        schema
    }

    /// Says which kinds there are, and offers the parameters of all of them: editors complete from the choices here, the
    /// conditions ([`Writer::case`]) then take the kind's own.
    fn kinds_of(&mut self, path: &str, rules: &[Rules], keys: &mut Map<String, Value>) {
        let names: Vec<&str> = rules.iter().map(|r| r.kind).collect();
        let kind = match path {
            "trust" => json!({ "enum": names }),
            _ => json!({ "anyOf": [{ "enum": names }, { "pattern": "^plugin:." }] }),
        };
        if let (Some(Value::Object(key)), Value::Object(kind)) = (keys.get_mut(kind_key(path)), kind) {
            key.extend(kind);
        }
        let mut params: Vec<Value> =
            rules.iter().map(|r| (r.section)(&mut self.generator).params.to_value()).collect();
        params.push(json!({ "type": "object" }));
        if let Some(Value::Object(key)) = keys.get_mut("params") {
            key.insert("anyOf".into(), params.into());
        }
    }

    /// What a built-in kind's section may hold.
    fn case(&mut self, path: &str, rule: &Rules, keys: &Map<String, Value>) -> Value {
        let section = (rule.section)(&mut self.generator);
        let mut then = Map::new();
        then.insert("params".into(), section.params.to_value());
        let or_none = |schema: Option<Schema>| schema.map_or(Value::Bool(false), Schema::to_value);
        for (key, schema) in [("input", or_none(section.input)), ("output", or_none(section.output))] {
            then.insert(key.into(), schema);
        }
        if !rule.device {
            then.insert("device".into(), false.into());
        }
        let mut needed = Vec::new();
        if rule.path {
            // A search without an encoder begins at the mean code.
            needed.extend((rule.kind != registry::PROJECTION).then_some("path"));
        } else {
            then.extend([("path".into(), false.into()), ("sha256".into(), false.into())]);
        }
        // A section without the key refuses it anyway.
        then.retain(|key, _| keys.contains_key(key));
        let key = kind_key(path);
        let mut then = json!({ "properties": then });
        if !needed.is_empty() {
            then["required"] = needed.into();
        }
        json!({ "if": { "required": [key], "properties": { key: { "const": rule.kind } } }, "then": then })
    }
}

/// What a plugin's section may hold: of a predictor `output` names the target.
fn plugin_case(path: &str, keys: &Map<String, Value>) -> Value {
    let refused = ["path", "device", "input", "output"];
    let refused = if CLASSIFIERS.contains(&path) { &refused[..2] } else { &refused[..] };
    let then: Map<String, Value> =
        refused.iter().filter(|k| keys.contains_key(**k)).map(|k| ((*k).into(), false.into())).collect();
    json!({
        "if": { "required": ["kind"], "properties": { "kind": { "pattern": "^plugin:" } } },
        "then": { "properties": then },
    })
}

/// The kinds of the component that a section names.
fn kinds(path: &str) -> Option<Vec<Rules>> {
    Some(match path {
        "predictor" | "evaluation.oracle" => registry::rules(registry::PREDICTORS),
        "generator" => registry::rules(registry::GENERATORS),
        "encoder" => registry::rules(registry::ENCODERS),
        "direction" => registry::rules(registry::DIRECTIONS),
        "trust" => registry::rules(registry::REFINERS),
        "explainer" => registry::rules(registry::EXPLAINERS),
        _ => return None,
    })
}

/// The key that names the kind.
fn kind_key(path: &str) -> &'static str {
    if path == "trust" { "retry" } else { "kind" }
}

/// What keys of a table ask of one another.
fn between_keys(path: &str) -> Map<String, Value> {
    let rules = match path {
        "" => json!({
            "dependencies": { "direction": ["generator", "encoder"], "trust": ["generator", "encoder"] },
            "if": {
                "required": ["explainer"],
                "properties": {
                    "explainer": {
                        "contains": {
                            "required": ["kind"],
                            "properties": { "kind": { "const": registry::LATENT_SHIFT } },
                        },
                    },
                },
            },
            "then": { "required": ["generator", "encoder"] },
        }),
        "data.labels" => json!({
            "if": { "required": ["from"], "properties": { "from": { "const": "column" } } },
            "then": { "required": ["column"] },
            "else": { "properties": { "column": false } },
        }),
        "data.group" => json!({ "maxProperties": 1 }),
        "trust" => json!({
            "anyOf": [{ "required": ["max-gap"] }, { "required": ["max-error"] }],
            "dependencies": { "params": ["retry"], "device": ["retry"] },
        }),
        _ => return Map::new(),
    };
    object(rules)
}

fn object(schema: Value) -> Map<String, Value> {
    match schema {
        Value::Object(object) => object,
        other => unreachable!("every schema here is written as an object, not {other}"),
    }
}

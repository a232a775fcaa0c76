//! Checks documents against the schemas of these tests: the keywords of JSON Schema draft 7 that they use, as RFC draft
//! `draft-handrews-json-schema-validation-01` defines them. A keyword that is not known here fails the test.

use regex::Regex;
use serde_json::Value;

/// What is wrong with `value`, each with the JSON pointer to its place.
pub fn check(root: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(root, root, value, "", &mut wrong);
    wrong
}

fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut wrong = Vec::new();
    walk(root, schema, value, "", &mut wrong);
    wrong.is_empty()
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // A number without a fraction, however it is written.
        "integer" => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        other => panic!("unknown type {other}"),
    }
}

fn walk(root: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let schema = match schema {
        Value::Bool(true) => return,
        Value::Bool(false) => return wrong.push(format!("{place}: not allowed")),
        other => other.as_object().unwrap_or_else(|| panic!("{place}: no schema: {other}")),
    };
    let mut say = |what: String| wrong.push(format!("{place}: {what}"));
    let count = |v: &Value| v.as_u64().expect("a count") as usize;
    let (number, text, array) = (value.as_f64(), value.as_str(), value.as_array());
    let object = value.as_object();
    let mut inner: Vec<(&Value, &Value, String)> = Vec::new();
    for (keyword, rule) in schema {
        let all = || rule.as_array().unwrap_or_else(|| panic!("{keyword}: {rule}")).iter();
        let limit = || rule.as_f64().expect("a number");
        match keyword.as_str() {
            "$schema" | "definitions" | "title" | "description" | "default" => {}
            // Looked at with `if`.
            "then" | "else" => {}
            "$ref" => {
                let pointer = rule.as_str().and_then(|r| r.strip_prefix('#')).expect("a local reference");
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{rule} leads nowhere"));
                inner.push((target, value, place.to_owned()));
            }
            "type" => {
                let fits = match rule {
                    Value::String(kind) => is(kind, value),
                    _ => all().any(|k| is(k.as_str().expect("a type"), value)),
                };
                if !fits {
                    say(format!("{value} is not of type {rule}"));
                }
            }
            "const" if rule != value => say(format!("{value} is not {rule}")),
            "const" => {}
            "enum" => {
                // 1 and 1.0 are one number.
                let same = |v: &Value| v == value || v.as_f64().is_some() && v.as_f64() == number;
                if !all().any(same) {
                    say(format!("{value} is none of {rule}"));
                }
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().expect("a pattern")).unwrap();
                if text.is_some_and(|t| !pattern.is_match(t)) {
                    say(format!("{value} does not match {rule}"));
                }
            }
            "minLength" if text.is_some_and(|t| t.chars().count() < count(rule)) => say("too short".into()),
            "minimum" if number.is_some_and(|n| n < limit()) => say(format!("{value} is less than {rule}")),
            "maximum" if number.is_some_and(|n| n > limit()) => say(format!("{value} is more than {rule}")),
            "exclusiveMinimum" if number.is_some_and(|n| n <= limit()) => {
                say(format!("{value} is not above {rule}"))
            }
            "exclusiveMaximum" if number.is_some_and(|n| n >= limit()) => {
                say(format!("{value} is not below {rule}"))
            }
            "multipleOf" if number.is_some_and(|n| n % limit() != 0.0) => {
                say(format!("{value} is no multiple of {rule}"))
            }
            "minItems" if array.is_some_and(|a| a.len() < count(rule)) => say("too few entries".into()),
            "maxItems" if array.is_some_and(|a| a.len() > count(rule)) => say("too many entries".into()),
            "maxProperties" if object.is_some_and(|o| o.len() > count(rule)) => say("too many keys".into()),
            "minLength" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
            | "minItems" | "maxItems" | "maxProperties" => {}
            "required" => {
                let keys = all().map(|k| k.as_str().expect("a key"));
                let missing = keys.filter(|k| object.is_some_and(|o| !o.contains_key(*k)));
                missing.for_each(|k| say(format!("`{k}` is missing")));
            }
            "dependencies" => {
                for (key, needed) in rule.as_object().expect("keys") {
                    let needed = needed.as_array().expect("keys").iter().filter_map(Value::as_str);
                    let there = |k: &str| object.is_some_and(|o| o.contains_key(k));
                    needed
                        .filter(|n| there(key) && !there(n))
                        .for_each(|n| say(format!("`{key}` needs `{n}`")));
                }
            }
            "properties" => {
                for (key, schema) in rule.as_object().expect("keys") {
                    let found = object.and_then(|o| o.get(key));
                    inner.extend(found.map(|v| (schema, v, format!("{place}/{key}"))));
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others =
                    object.into_iter().flatten().filter(|(k, _)| known.is_none_or(|p| !p.contains_key(*k)));
                inner.extend(others.map(|(k, v)| (rule, v, format!("{place}/{k}"))));
            }
            "propertyNames" => {
                for key in object.into_iter().flatten().map(|(k, _)| k) {
                    if !holds(root, rule, &key.as_str().into()) {
                        say(format!("`{key}` is no name for a key"));
                    }
                }
            }
            "items" => {
                let entries = array.into_iter().flatten().enumerate();
                inner.extend(entries.map(|(i, v)| (rule, v, format!("{place}/{i}"))));
            }
            "contains" => {
                if array.is_some_and(|a| !a.iter().any(|v| holds(root, rule, v))) {
                    say(format!("no entry is {rule}"));
                }
            }
            "allOf" => inner.extend(all().map(|s| (s, value, place.to_owned()))),
            "anyOf" if !all().any(|s| holds(root, s, value)) => {
                say(format!("{value} fits none of the choices"))
            }
            "oneOf" if all().filter(|s| holds(root, s, value)).count() != 1 => {
                say(format!("{value} does not fit one of the choices"))
            }
            "anyOf" | "oneOf" => {}
            "not" if holds(root, rule, value) => say(format!("{value} is what it must not be")),
            "not" => {}
            "if" => {
                let then = if holds(root, rule, value) { "then" } else { "else" };
                inner.extend(schema.get(then).map(|s| (s, value, place.to_owned())));
            }
            other => panic!("{place}: the keyword `{other}` is not known here"),
        }
    }
    for (schema, value, place) in inner {
        walk(root, schema, value, &place, wrong);
    }
}

#[test]
fn every_keyword_accepts_and_refuses() {
    use serde_json::json;
    for (schema, good, bad) in [
        (json!({ "type": "integer" }), json!(3.0), json!(3.5)),
        (json!({ "type": ["string", "boolean"] }), json!(true), json!(1)),
        (json!({ "const": 1 }), json!(1), json!("1")),
        (json!({ "enum": [1, 3] }), json!(3), json!(2)),
        (json!({ "pattern": "^a+$" }), json!("aa"), json!("ab")),
        (json!({ "minLength": 1 }), json!("a"), json!("")),
        (json!({ "minimum": 1 }), json!(1), json!(0)),
        (json!({ "maximum": 1 }), json!(1), json!(1.5)),
        (json!({ "exclusiveMinimum": 0 }), json!(0.1), json!(0)),
        (json!({ "exclusiveMaximum": 1 }), json!(0.9), json!(1)),
        (json!({ "multipleOf": 2 }), json!(4), json!(5)),
        (json!({ "not": { "multipleOf": 2 } }), json!(5), json!(4)),
        (json!({ "minItems": 1 }), json!([0]), json!([])),
        (json!({ "maxItems": 1 }), json!([0]), json!([0, 1])),
        (json!({ "items": { "type": "string" } }), json!(["a"]), json!(["a", 1])),
        (json!({ "contains": { "const": 1 } }), json!([0, 1]), json!([0])),
        (json!({ "required": ["a"] }), json!({ "a": 1 }), json!({ "b": 1 })),
        (json!({ "maxProperties": 1 }), json!({ "a": 1 }), json!({ "a": 1, "b": 1 })),
        (json!({ "dependencies": { "a": ["b"] } }), json!({ "b": 1 }), json!({ "a": 1 })),
        (json!({ "properties": { "a": false } }), json!({ "b": 1 }), json!({ "a": 1 })),
        (
            json!({ "properties": { "a": true }, "additionalProperties": false }),
            json!({ "a": 1 }),
            json!({ "a": 1, "b": 1 }),
        ),
        (json!({ "propertyNames": { "minLength": 1 } }), json!({ "a": 1 }), json!({ "": 1 })),
        (json!({ "allOf": [{ "minimum": 1 }, { "maximum": 2 }] }), json!(2), json!(3)),
        (json!({ "anyOf": [{ "const": 1 }, { "const": 2 }] }), json!(2), json!(3)),
        (json!({ "oneOf": [{ "minimum": 1 }, { "maximum": 2 }] }), json!(3), json!(2)),
        (
            json!({ "if": { "minimum": 5 }, "then": { "maximum": 6 }, "else": { "maximum": 1 } }),
            json!(6),
            json!(4),
        ),
        (json!({ "$ref": "#/definitions/a", "definitions": { "a": { "const": 1 } } }), json!(1), json!(2)),
    ] {
        assert_eq!(check(&schema, &good), [""; 0], "{schema}");
        assert_eq!(check(&schema, &bad).len(), 1, "{schema}: {bad}");
    }
    let nested = json!({ "properties": { "a": { "items": { "type": "string" } } } });
    assert_eq!(check(&nested, &json!({ "a": ["x", 2] })), ["/a/1: 2 is not of type \"string\""]);
    let unknown = std::panic::catch_unwind(|| check(&json!({ "minimun": 1 }), &json!(2)));
    assert!(unknown.is_err());
}

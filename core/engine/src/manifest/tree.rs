//! A TOML document as an owned tree in which every key and value knows its place.

use super::problem::{At, Problem, Sources};
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// TOML's types.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Value {
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Date(String),
    Array(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

/// A table's key and its place.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub at: At,
}

impl Node {
    /// The type's name for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Str(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::Date(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The value as JSON, for a component's own parameters.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Str(s) | Value::Date(s) => s.as_str().into(),
            Value::Int(i) => (*i).into(),
            Value::Float(f) => (*f).into(),
            Value::Bool(b) => (*b).into(),
            Value::Array(a) => a.iter().map(Node::json).collect(),
            Value::Table(t) => t.iter().map(|(k, v)| (k.name.clone(), v.json())).collect(),
        }
    }

    /// The place of the first key called `name`, at any depth.
    pub fn find_key(&self, name: &str) -> Option<At> {
        match &self.value {
            Value::Table(t) => t
                .iter()
                .find(|(k, _)| k.name == name)
                .map(|(k, _)| k.at)
                .or_else(|| t.iter().find_map(|(_, v)| v.find_key(name))),
            Value::Array(a) => a.iter().find_map(|v| v.find_key(name)),
            _ => None,
        }
    }

    /// Sets `path` (keys, or indices into arrays) to `leaf`, making tables on the way; `key` is where `path` stands.
    ///
    /// # Errors
    /// What is in the way.
    pub fn set(&mut self, path: &[&str], key: At, leaf: Node) -> Result<(), String> {
        let Some((first, rest)) = path.split_first() else {
            *self = leaf;
            return Ok(());
        };
        let kind = self.kind();
        match &mut self.value {
            Value::Table(t) => {
                let i = t.iter().position(|(k, _)| k.name == *first).unwrap_or_else(|| {
                    let empty = Node { at: key, value: Value::Table(Vec::new()) };
                    t.push((Key { name: (*first).to_owned(), at: key }, empty));
                    t.len() - 1
                });
                if rest.is_empty() {
                    t[i].0.at = key;
                }
                t[i].1.set(rest, key, leaf)
            }
            Value::Array(a) => {
                let n = a.len();
                match first.parse::<usize>().ok().and_then(|i| a.get_mut(i)) {
                    Some(node) => node.set(rest, key, leaf),
                    None => Err(format!(
                        "`{first}` is no entry of this array: expected an index from 0 to {}",
                        n.max(1) - 1
                    )),
                }
            }
            _ => Err(format!("`{first}` cannot be set inside {kind}")),
        }
    }
}

fn convert(value: DeValue<'_>, at: At) -> Result<Value, String> {
    let place = |span: std::ops::Range<usize>| At { source: at.source, start: span.start, end: span.end };
    Ok(match value {
        DeValue::String(s) => Value::Str(s.into_owned()),
        DeValue::Integer(i) => Value::Int(
            i64::from_str_radix(i.as_str(), i.radix()).map_err(|e| format!("integer {}: {e}", i.as_str()))?,
        ),
        DeValue::Float(f) => {
            Value::Float(f.as_str().parse().map_err(|e| format!("number {}: {e}", f.as_str()))?)
        }
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(d) => Value::Date(d.to_string()),
        DeValue::Array(a) => Value::Array(
            a.into_iter()
                .map(|v| {
                    let at = place(v.span());
                    Ok(Node { at, value: convert(v.into_inner(), at)? })
                })
                .collect::<Result<_, String>>()?,
        ),
        DeValue::Table(t) => {
            let mut entries = Vec::with_capacity(t.len());
            for (k, v) in t {
                let (key_at, at) = (place(k.span()), place(v.span()));
                let key = Key { name: k.into_inner().into_owned(), at: key_at };
                entries.push((key, Node { at, value: convert(v.into_inner(), at)? }));
            }
            entries.sort_by_key(|(k, _)| k.at.start);
            Value::Table(entries)
        }
    })
}

/// Reads text `source`.
///
/// # Errors
/// Every syntax error, each at its place.
pub fn parse(sources: &Sources, source: usize, text: &str) -> Result<Node, Vec<Problem>> {
    let whole = At { source, start: 0, end: text.len() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|e| {
                let span = e.span().unwrap_or(0..0);
                let at = At { source, start: span.start, end: span.end };
                sources.problem(
                    at,
                    format!("not TOML: {}", e.message()),
                    "see https://toml.io for the format",
                )
            })
            .collect());
    }
    let value = convert(DeValue::Table(table.into_inner()), whole)
        .map_err(|e| vec![sources.problem(whole, e, "")])?;
    Ok(Node { at: At { end: 0, ..whole }, value })
}

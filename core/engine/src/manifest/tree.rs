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

    /// The place of the first value that is written as `text`, at any depth.
    pub fn find_value(&self, text: &str) -> Option<At> {
        let is = match &self.value {
            Value::Table(t) => return t.iter().find_map(|(_, v)| v.find_value(text)),
            Value::Array(a) => return a.iter().find_map(|v| v.find_value(text)),
            Value::Str(s) | Value::Date(s) => s == text,
            Value::Int(i) => i.to_string() == text,
            // As serde writes it.
            Value::Float(f) => f.to_string() == text || format!("{f:?}") == text,
            Value::Bool(b) => b.to_string() == text,
        };
        is.then_some(self.at)
    }

    /// Sets `path` (keys, or indices into arrays) to `leaf`; `key` is where `path` stands. Tables are made on the way, and
    /// the index behind an array's last appends to it; one that is not there begins with the index 0.
    ///
    /// # Errors
    /// What is in the way.
    pub fn set(&mut self, path: &[String], key: At, leaf: Node) -> Result<(), String> {
        // A place that nothing stands in yet.
        let new = |rest: &[String]| match rest.first() {
            Some(next) if next == "0" => Node { at: key, value: Value::Array(Vec::new()) },
            _ => Node { at: key, value: Value::Table(Vec::new()) },
        };
        let Some((first, rest)) = path.split_first() else {
            *self = leaf;
            return Ok(());
        };
        let kind = self.kind();
        match &mut self.value {
            Value::Table(t) => {
                let i = t.iter().position(|(k, _)| k.name == *first).unwrap_or_else(|| {
                    t.push((Key { name: first.clone(), at: key }, new(rest)));
                    t.len() - 1
                });
                if rest.is_empty() {
                    t[i].0.at = key;
                }
                t[i].1.set(rest, key, leaf)
            }
            Value::Array(a) => {
                let n = a.len();
                let index = first.parse::<usize>().ok().filter(|i| *i <= n).ok_or_else(|| match n {
                    0 => format!("`{first}` is no entry of this array, which is empty: 0 makes the first"),
                    _ => format!(
                        "`{first}` is no entry of this array: expected an index from 0 to {}, or {n} for one more",
                        n - 1
                    ),
                })?;
                if index == n {
                    a.push(new(rest));
                }
                a[index].set(rest, key, leaf)
            }
            _ => Err(format!("`{first}` cannot be set inside {kind}")),
        }
    }
}

/// The names of a key such as `explainer.0.params."my key"`; `None` if it is none.
pub fn key_path(sources: &Sources, source: usize, key: &str) -> Option<Vec<String>> {
    let mut node = parse(sources, source, &format!("{key}=0")).ok()?;
    let mut path = Vec::new();
    while let Value::Table(mut t) = node.value {
        let (key, value) = t.pop().filter(|_| t.is_empty())?;
        path.push(key.name);
        node = value;
    }
    Some(path)
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

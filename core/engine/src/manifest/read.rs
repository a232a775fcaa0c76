//! Reading typed values out of a table: every key that is asked for is known, every other key is a mistake.

use super::problem::{At, Located, Problem, Sources};
use super::study::ClassRef;
use super::tree::{Key, Node, Value};
use crate::nearest::suggest;
use std::cell::RefCell;

/// Where mistakes are gathered.
pub struct Sink<'a> {
    /// The texts.
    pub sources: &'a Sources,
    /// What was found so far.
    pub problems: RefCell<Vec<Problem>>,
}

impl Sink<'_> {
    /// Notes a mistake.
    pub fn add(&self, at: At, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(self.sources.problem(at, message, help));
    }
}

/// A table being read.
pub struct Table<'a> {
    what: String,
    at: At,
    entries: &'a [(Key, Node)],
    asked: Vec<&'static str>,
    sink: &'a Sink<'a>,
}

impl<'a> Table<'a> {
    /// `node` as a table called `what` in messages; a mistake is noted if it is none.
    pub fn new(what: impl Into<String>, node: &'a Node, sink: &'a Sink<'a>) -> Option<Self> {
        let what = what.into();
        match &node.value {
            Value::Table(entries) => Some(Self { what, at: node.at, entries, asked: Vec::new(), sink }),
            _ => {
                sink.add(node.at, format!("{what} is {}, expected a table", node.kind()), "");
                None
            }
        }
    }

    /// Where the table stands.
    pub fn at(&self) -> At {
        self.at
    }

    /// The value under `key`.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, v)| v)
    }

    /// The value under `key`; its absence is a mistake, `help` says how to write it.
    pub fn required(&mut self, key: &'static str, help: &str) -> Option<&'a Node> {
        let found = self.node(key);
        if found.is_none() {
            self.sink.add(self.at, format!("{} lacks the key `{key}`", self.what), help);
        }
        found
    }

    fn typed<T>(
        &self,
        key: &str,
        node: Option<&'a Node>,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<Located<T>> {
        let node = node?;
        let value = read(&node.value);
        if value.is_none() {
            let message = format!("`{key}` in {} is {}, expected {expected}", self.what, node.kind());
            self.sink.add(node.at, message, "");
        }
        value.map(|value| Located { value, at: node.at })
    }

    /// An optional string.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.node(key);
        self.typed(key, node, "a string", as_string)
    }

    /// A required string.
    pub fn required_string(&mut self, key: &'static str, help: &str) -> Option<Located<String>> {
        let node = self.required(key, help);
        self.typed(key, node, "a string", as_string)
    }

    /// An optional whole number of at least `min`.
    pub fn count(&mut self, key: &'static str, min: u64) -> Option<Located<u64>> {
        let node = self.node(key);
        self.typed(key, node, &format!("a whole number of at least {min}"), |v| match v {
            Value::Int(i) => u64::try_from(*i).ok().filter(|i| *i >= min),
            _ => None,
        })
    }

    /// An optional number.
    pub fn number(&mut self, key: &'static str) -> Option<Located<f64>> {
        let node = self.node(key);
        self.typed(key, node, "a number", |v| match v {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        })
    }

    /// A switch, off where it is left out.
    pub fn flag(&mut self, key: &'static str) -> bool {
        let node = self.node(key);
        let read = |v: &Value| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        };
        self.typed(key, node, "true or false", read).is_some_and(|b| b.value)
    }

    /// An optional array of strings (numbers are taken as their text, so that `[3, 4]` names folders too).
    pub fn strings(&mut self, key: &'static str) -> Option<Located<Vec<Located<String>>>> {
        let node = self.node(key);
        self.typed(key, node, "an array of strings", |v| match v {
            Value::Array(a) => a
                .iter()
                .map(|n| {
                    let value = match &n.value {
                        Value::Str(s) => s.clone(),
                        Value::Int(i) => i.to_string(),
                        _ => return None,
                    };
                    Some(Located { value, at: n.at })
                })
                .collect(),
            _ => None,
        })
    }

    /// An optional list of classes, by name or index; each entry that is neither, and an empty list, is a mistake.
    pub fn classes(&mut self, key: &'static str) -> Option<Vec<Located<ClassRef>>> {
        let node = self.node(key)?;
        let Value::Array(entries) = &node.value else {
            let message = format!("`{key}` in {} is {}, expected a list of classes", self.what, node.kind());
            self.sink.add(node.at, message, "write it as classes = [\"healthy\", 1]");
            return None;
        };
        if entries.is_empty() {
            let message = format!("`{key}` in {} names no class", self.what);
            self.sink.add(node.at, message, "leave it out to explain the target");
        }
        let read = |n: &Node| {
            let value = as_class(n);
            if value.is_none() {
                let message = format!("`{key}` in {} has {} as an entry, {CLASS}", self.what, n.kind());
                self.sink.add(n.at, message, "");
            }
            value.map(|value| Located { value, at: n.at })
        };
        Some(entries.iter().filter_map(read).collect())
    }

    /// All keys with string values, for tables whose keys are free.
    pub fn free_strings(self) -> Vec<(Located<String>, Located<String>)> {
        let mut out = Vec::new();
        for (k, v) in self.entries {
            if let Some(s) = self.typed(&k.name, Some(v), "a string", as_string) {
                out.push((Located { value: k.name.clone(), at: k.at }, s));
            }
        }
        out
    }

    /// Ends the reading: every key that was not asked for is a mistake.
    pub fn finish(self) {
        for (k, _) in self.entries {
            if !self.asked.contains(&k.name.as_str()) {
                let message = format!("unknown key `{}` in {}", k.name, self.what);
                self.sink.add(k.at, message, suggest(&k.name, &self.asked));
            }
        }
    }
}

/// What [`as_class`] takes.
pub const CLASS: &str = "expected a class name or an index from 0";

/// A class by its name, or by its index.
pub fn as_class(node: &Node) -> Option<ClassRef> {
    match &node.value {
        Value::Str(s) => Some(ClassRef::Name(s.clone())),
        Value::Int(i) => usize::try_from(*i).ok().map(ClassRef::Index),
        _ => None,
    }
}

fn as_string(v: &Value) -> Option<String> {
    match v {
        Value::Str(s) => Some(s.clone()),
        _ => None,
    }
}

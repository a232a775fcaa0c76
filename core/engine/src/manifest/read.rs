//! Reading typed values out of a table: every key that is asked for is known, every other key is a mistake.

use super::outline::{EMPTY, Outline, Shape};
use super::problem::{At, Located, Problem, Sources};
use super::study::ClassRef;
use super::tree::{Key, Node, Value};
use crate::nearest::suggest;
use shiftlens_api::variables::expand_from_environment;
use std::cell::RefCell;

/// Where mistakes are gathered.
pub struct Sink<'a> {
    /// The texts.
    pub sources: &'a Sources,
    /// What was found so far.
    pub problems: RefCell<Vec<Problem>>,
    /// Where the keys that are asked for are written down; then no manifest is read.
    pub outline: Option<Outline>,
}

impl<'a> Sink<'a> {
    /// A sink for mistakes in `sources`.
    pub fn new(sources: &'a Sources) -> Self {
        Self { sources, problems: RefCell::default(), outline: None }
    }

    /// Notes a mistake.
    pub fn add(&self, at: At, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(self.sources.problem(at, message, help));
    }
}

/// A table, or the entries of an array of tables.
pub enum OneOrMore<'a> {
    /// `[key]`.
    One(&'a Node),
    /// `[[key]]`.
    More(Vec<&'a Node>),
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
            Value::Table(entries) => {
                sink.outline.iter().for_each(Outline::open);
                Some(Self { what, at: node.at, entries, asked: Vec::new(), sink })
            }
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

    fn ask(&mut self, key: &'static str, shape: Shape, required: bool) -> Option<&'a Node> {
        self.asked.push(key);
        if let Some(outline) = &self.sink.outline {
            let nested = matches!(shape, Shape::Any | Shape::Sections(_) | Shape::OneOrSections(_));
            outline.ask(key, shape, required);
            return nested.then_some(&EMPTY);
        }
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, v)| v)
    }

    fn ask_for(&mut self, key: &'static str, shape: Shape, help: &str) -> Option<&'a Node> {
        let found = self.ask(key, shape, true);
        if found.is_none() && self.sink.outline.is_none() {
            self.sink.add(self.at, format!("{} lacks the key `{key}`", self.what), help);
        }
        found
    }

    /// The value under `key`.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.ask(key, Shape::Any, false)
    }

    /// The value under `key`; its absence is a mistake, `help` says how to write it.
    pub fn required(&mut self, key: &'static str, help: &str) -> Option<&'a Node> {
        self.ask_for(key, Shape::Any, help)
    }

    /// The tables of the array under `key`, which must have one.
    pub fn sections(&mut self, key: &'static str, help: &str) -> Option<Vec<&'a Node>> {
        let node = self.ask_for(key, Shape::Sections(Vec::new()), help)?;
        match &node.value {
            _ if self.sink.outline.is_some() => Some(vec![node]),
            Value::Array(a) if !a.is_empty() => Some(a.iter().collect()),
            _ => {
                let message = format!("`{key}` is {}, expected `[[{key}]]` sections", node.kind());
                self.sink.add(node.at, message, "");
                None
            }
        }
    }

    /// The table under `key`, or the tables of the array there, of which there must be one.
    pub fn one_or_sections(&mut self, key: &'static str, help: &str) -> Option<OneOrMore<'a>> {
        let node = self.ask_for(key, Shape::OneOrSections(Vec::new()), help)?;
        match &node.value {
            // The entries have all keys of the table.
            _ if self.sink.outline.is_some() => Some(OneOrMore::More(vec![node])),
            Value::Table(_) => Some(OneOrMore::One(node)),
            Value::Array(a) if !a.is_empty() => Some(OneOrMore::More(a.iter().collect())),
            _ => {
                let kind = node.kind();
                let message =
                    format!("`{key}` is {kind}, expected a `[{key}]` section, or `[[{key}]]` sections");
                self.sink.add(node.at, message, help);
                None
            }
        }
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
        let node = self.ask(key, Shape::Text, false);
        self.typed(key, node, "a string", as_string)
    }

    /// A required string.
    pub fn required_string(&mut self, key: &'static str, help: &str) -> Option<Located<String>> {
        let node = self.ask_for(key, Shape::Text, help);
        self.typed(key, node, "a string", as_string)
    }

    /// An optional path, in which variables have been replaced (see [`shiftlens_api::variables`]).
    pub fn path(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.ask(key, Shape::Path, false);
        let found = self.typed(key, node, "a string", as_string);
        self.expand(key, found)
    }

    /// A required path, see [`Table::path`].
    pub fn required_path(&mut self, key: &'static str, help: &str) -> Option<Located<String>> {
        let node = self.ask_for(key, Shape::Path, help);
        let found = self.typed(key, node, "a string", as_string);
        self.expand(key, found)
    }

    /// The string under `key` as it stands.
    pub fn as_written(&self, key: &str) -> Option<String> {
        self.entries.iter().find(|(k, _)| k.name == key).and_then(|(_, v)| as_string(&v.value))
    }

    fn expand(&self, key: &str, found: Option<Located<String>>) -> Option<Located<String>> {
        let found = found?;
        match expand_from_environment(&found.value) {
            Ok(value) => Some(Located { value, at: found.at }),
            Err(e) => {
                let at = self.sink.sources.within(found.at, &e.written);
                self.sink.add(at, format!("`{key}` in {}: {e}", self.what), &e.help);
                None
            }
        }
    }

    /// An optional whole number of at least `min`.
    pub fn count(&mut self, key: &'static str, min: u64) -> Option<Located<u64>> {
        let node = self.ask(key, Shape::Count(min), false);
        self.typed(key, node, &format!("a whole number of at least {min}"), |v| match v {
            Value::Int(i) => u64::try_from(*i).ok().filter(|i| *i >= min),
            _ => None,
        })
    }

    /// An optional number.
    pub fn number(&mut self, key: &'static str) -> Option<Located<f64>> {
        let node = self.ask(key, Shape::Number, false);
        self.typed(key, node, "a number", |v| match v {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        })
    }

    /// A switch, off where it is left out.
    pub fn flag(&mut self, key: &'static str) -> bool {
        let node = self.ask(key, Shape::Flag, false);
        let read = |v: &Value| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        };
        self.typed(key, node, "true or false", read).is_some_and(|b| b.value)
    }

    /// An optional array of strings (numbers are taken as their text, so that `[3, 4]` names folders too).
    pub fn strings(&mut self, key: &'static str) -> Option<Located<Vec<Located<String>>>> {
        let node = self.ask(key, Shape::Texts, false);
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
        let node = self.ask(key, Shape::Classes, false)?;
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

    /// All keys with string values, for tables whose keys are free; the values are paths, see [`Table::path`].
    pub fn free_paths(self) -> Vec<(Located<String>, Located<String>)> {
        self.sink.outline.iter().for_each(Outline::close_free);
        let mut out = Vec::new();
        for (k, v) in self.entries {
            let found = self.typed(&k.name, Some(v), "a string", as_string);
            if let Some(s) = self.expand(&k.name, found) {
                out.push((Located { value: k.name.clone(), at: k.at }, s));
            }
        }
        out
    }

    /// Ends the reading: every key that was not asked for is a mistake.
    pub fn finish(self) {
        self.sink.outline.iter().for_each(Outline::close);
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

//! The keys that a manifest may have, written down while they are asked for.
//!
//! The functions that read a manifest ask a [`super::read::Table`] for one key after the other. With an [`Outline`] in
//! their sink they are handed tables without entries, and the questions are the answer: so the published schema has the
//! parser's keys, and no others.

use super::problem::At;
use super::tree::{Node, Value};
use std::cell::RefCell;

/// A table without entries, which stands for every nested one.
pub static EMPTY: Node = Node { at: At { source: 0, start: 0, end: 0 }, value: Value::Table(Vec::new()) };

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A string.
    Text,
    /// A string that names a file or a folder.
    Path,
    /// A whole number of at least this.
    Count(u64),
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// Strings, or whole numbers taken as their text.
    Texts,
    /// Classes by name or index.
    Classes,
    /// Strings that name libraries, under free names.
    Libraries,
    /// A table.
    Section(Vec<Field>),
    /// An array of tables.
    Sections(Vec<Field>),
    /// A table, or an array of tables, whose keys these are; the table lacks the key that names an entry.
    OneOrSections(Vec<Field>),
    /// What is read elsewhere.
    Any,
}

/// A key.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub key: &'static str,
    /// Its absence is a mistake.
    pub required: bool,
    /// What it holds.
    pub shape: Shape,
}

/// The questions so far: those of the open tables, from the outermost on, and of the first that was closed last.
#[derive(Debug, Default)]
pub struct Outline {
    open: RefCell<Vec<Vec<Field>>>,
    whole: RefCell<Vec<Field>>,
}

impl Outline {
    /// A table is opened: that under the key asked for last.
    pub fn open(&self) {
        self.open.borrow_mut().push(Vec::new());
    }

    /// A key is asked for.
    pub fn ask(&self, key: &'static str, shape: Shape, required: bool) {
        if let Some(fields) = self.open.borrow_mut().last_mut() {
            fields.push(Field { key, required, shape });
        }
    }

    /// The table opened last is closed.
    pub fn close(&self) {
        let mut open = self.open.borrow_mut();
        let fields = open.pop().unwrap_or_default();
        match open.last_mut().and_then(|above| above.last_mut()) {
            Some(key) => {
                key.shape = match key.shape {
                    Shape::Sections(_) => Shape::Sections(fields),
                    Shape::OneOrSections(_) => Shape::OneOrSections(fields),
                    _ => Shape::Section(fields),
                }
            }
            None => *self.whole.borrow_mut() = fields,
        }
    }

    /// The table opened last is closed, and its names are free.
    pub fn close_free(&self) {
        self.close();
        if let Some(key) = self.open.borrow_mut().last_mut().and_then(|above| above.last_mut()) {
            key.shape = Shape::Libraries;
        }
    }

    /// The keys of the outermost table.
    pub fn finish(self) -> Vec<Field> {
        self.whole.into_inner()
    }
}

//! Python pickles, protocols 0 to 5 (Python's `pickletools` documents every opcode), read as data.
//!
//! A pickle is a program for a small stack machine. This one runs it without ever calling anything: a global is a pair
//! of names, a call is a record of its callee and arguments, an object is a call with a state. All values stand in one
//! arena and are named by their index, so that shared values are shared, cycles leak nothing, and no depth of nesting
//! reaches the machine's stack. Each opcode makes at most two values and copies no text, so memory follows the size
//! of the file.

use super::scan::Scan;
use shiftlens_api::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;

/// Opcodes that one pickle may have: checkpoints with the state of two optimisers have some hundred thousand.
const MAX_OPCODES: usize = 1 << 22;

/// A value of a [`Pickle`], by its place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u32);

/// A value.
#[derive(Debug)]
pub enum Node<'a> {
    None,
    Bool(bool),
    Int(i128),
    /// An integer of more than 128 bits, which nothing here asks for.
    Big,
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Set(Vec<Id>),
    /// A class or a function: never looked up, let alone called. Both are texts.
    Global {
        module: Id,
        name: Id,
    },
    /// What a callable would have been asked to make.
    Call(Box<Call>),
    /// A value that stands elsewhere in the file.
    Persistent(Id),
}

/// A call that was not made.
#[derive(Debug)]
pub struct Call {
    /// The class or the function.
    pub callee: Id,
    /// A tuple.
    pub args: Id,
    /// What the object's `__setstate__` would get.
    pub state: Option<Id>,
    /// What the object would have got by `object[key] = value`.
    pub entries: Vec<(Id, Id)>,
    /// What the object would have got by `append` or `add`.
    pub elements: Vec<Id>,
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
    end: usize,
}

const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`; more may follow it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the offset if it is cut short, is no pickle, or needs what only Python has (extension
    /// codes, buffers outside the pickle).
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let nodes = vec![Node::None, Node::Bool(false), Node::Bool(true)];
        let scan = Scan::new(bytes);
        let mut m = Machine { scan, nodes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        for _ in 0..MAX_OPCODES {
            let offset = m.scan.offset();
            match m.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { nodes: m.nodes, root, end: m.scan.offset() }),
                Err(e) => return Err(Error::Invalid(format!("pickle, opcode at byte {offset}: {e}"))),
            }
        }
        Err(Error::Invalid(format!("pickle: more than {MAX_OPCODES} opcodes")))
    }

    /// The pickled value.
    pub fn root(&self) -> Id {
        self.root
    }
    /// Bytes that the pickle takes.
    pub fn end(&self) -> usize {
        self.end
    }
    /// A value.
    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }
    /// The text, if it is one.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(t) => Some(t),
            // What Python 2 pickled as `str`; a name, so that no long one is looked through again and again.
            Node::Bytes(b) if b.len() <= 4096 => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }
    /// The integer, if it is one.
    pub fn int(&self, id: Id) -> Option<i128> {
        if let Node::Int(i) = self.node(id) { Some(*i) } else { None }
    }
    /// True for `None`.
    pub fn is_none(&self, id: Id) -> bool {
        matches!(self.node(id), Node::None)
    }
    /// Elements of a tuple or a list.
    pub fn elements(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(v) | Node::List(v) => Some(v),
            _ => None,
        }
    }
    /// Module and name of a global.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        let Node::Global { module, name } = self.node(id) else { return None };
        Some((self.text(*module)?, self.text(*name)?))
    }
    /// The call.
    pub fn call(&self, id: Id) -> Option<&Call> {
        if let Node::Call(c) = self.node(id) { Some(c) } else { None }
    }
    /// Module and name of what is called, and its arguments.
    pub fn called(&self, id: Id) -> Option<((&str, &str), &[Id])> {
        let call = self.call(id)?;
        Some((self.global(call.callee)?, self.elements(call.args)?))
    }
    /// Keys and values of a dict or of an object of a class that derives from it.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(v) => Some(v),
            Node::Call(c) if !c.entries.is_empty() => Some(&c.entries),
            Node::Call(c) => match self.called(id)? {
                // Protocols 0 and 1 give the contents of a subclass of dict as the third argument.
                (("copyreg" | "copy_reg", "_reconstructor"), [_, _, base]) => match self.node(*base) {
                    Node::Dict(v) => Some(v),
                    _ => None,
                },
                (("collections", "OrderedDict"), []) => Some(&c.entries),
                _ => None,
            },
            _ => None,
        }
    }
    /// The value of a key; the last one, as in Python, if it was set several times.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.entries(id)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// What all persistent values say of themselves.
    pub fn persistents(&self) -> impl Iterator<Item = Id> {
        self.nodes.iter().filter_map(|n| if let Node::Persistent(id) = n { Some(*id) } else { None })
    }
    /// The values of a key in whatever dict it stands.
    pub fn values(&self, key: &'static str) -> impl Iterator<Item = Id> {
        let all = self.nodes.iter().filter_map(|n| if let Node::Dict(v) = n { Some(v) } else { None });
        all.flatten().filter(move |(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
    /// All globals: what the pickle would have imported.
    pub fn globals(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.nodes.len() as u32).filter_map(|i| self.global(Id(i)))
    }
}

struct Machine<'a> {
    scan: Scan<'a>,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn make(&mut self, node: Node<'a>) -> Id {
        self.nodes.push(node);
        // At most two values for each of MAX_OPCODES.
        Id((self.nodes.len() - 1) as u32)
    }
    fn push(&mut self, node: Node<'a>) {
        let id = self.make(node);
        self.stack.push(id);
    }
    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }
    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }
    /// What lies above the last mark, which goes away.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let at = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(at))
    }
    fn pairs(values: &[Id]) -> Step<Vec<(Id, Id)>> {
        if !values.len().is_multiple_of(2) {
            return Err(format!("{} keys and values, expected an even number", values.len()));
        }
        Ok(values.chunks_exact(2).map(|p| (p[0], p[1])).collect())
    }
    fn call(&mut self, callee: Id, args: Id) {
        let (entries, elements) = (Vec::new(), Vec::new());
        self.push(Node::Call(Box::new(Call { callee, args, state: None, entries, elements })));
    }
    fn extend(&mut self, values: &[Id], add: bool) -> Step<()> {
        let target = self.top()?;
        match &mut self.nodes[target.0 as usize] {
            Node::List(v) if !add => v.extend(values),
            Node::Set(v) if add => v.extend(values),
            Node::Call(c) => c.elements.extend(values),
            other => return Err(format!("cannot append to {}", kind(other))),
        }
        Ok(())
    }
    fn set(&mut self, pairs: Vec<(Id, Id)>) -> Step<()> {
        let target = self.top()?;
        match &mut self.nodes[target.0 as usize] {
            Node::Dict(v) => v.extend(pairs),
            Node::Call(c) => c.entries.extend(pairs),
            other => return Err(format!("cannot set keys of {}", kind(other))),
        }
        Ok(())
    }
    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut values = Vec::with_capacity(n);
        for _ in 0..n {
            values.push(self.pop()?);
        }
        values.reverse();
        self.push(Node::Tuple(values));
        Ok(())
    }
    fn put(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }
    fn recall(&mut self, key: u64) -> Step<()> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key} was never set"))?;
        self.stack.push(id);
        Ok(())
    }
    fn global(&mut self) -> Step<Id> {
        let (module, name) = (self.scan.utf8_line()?, self.scan.utf8_line()?);
        let module = self.make(Node::Text(Cow::Borrowed(module)));
        let name = self.make(Node::Text(Cow::Borrowed(name)));
        Ok(self.make(Node::Global { module, name }))
    }
    fn bytes(&mut self, length: u64) -> Step<()> {
        let bytes = self.scan.take(length)?;
        self.push(Node::Bytes(Cow::Borrowed(bytes)));
        Ok(())
    }
    fn text(&mut self, length: u64) -> Step<()> {
        let text = std::str::from_utf8(self.scan.take(length)?).map_err(|e| e.to_string())?;
        self.push(Node::Text(Cow::Borrowed(text)));
        Ok(())
    }
    fn long(&mut self, length: u64) -> Step<()> {
        let bytes = self.scan.take(length)?;
        if bytes.len() > 16 {
            self.push(Node::Big);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i128::from_le_bytes(wide)));
        Ok(())
    }
    /// An integer in decimal digits, `01` and `00` being booleans where Python 2 wrote them.
    fn decimal(&mut self, booleans: bool) -> Step<()> {
        let line = self.scan.line()?;
        let digits = line.strip_suffix(b"L").unwrap_or(line);
        let text = std::str::from_utf8(digits).map_err(|e| e.to_string())?;
        match text {
            "01" if booleans => self.stack.push(TRUE),
            "00" if booleans => self.stack.push(FALSE),
            _ => match text.parse() {
                Ok(i) => self.push(Node::Int(i)),
                Err(_)
                    if text.len() > 38
                        && text.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) =>
                {
                    self.push(Node::Big);
                }
                Err(_) => return Err(format!("\"{text}\" is no integer")),
            },
        }
        Ok(())
    }

    /// Runs one opcode; the pickled value at the end.
    fn step(&mut self) -> Step<Option<Id>> {
        let opcode = self.scan.byte()?;
        match opcode {
            0x80 => match self.scan.byte()? {
                0..=5 => {}
                other => return Err(format!("protocol {other}, expected 0 to 5")),
            },
            // A frame only says how far Python may read ahead.
            0x95 => {
                let length = self.scan.u64()?;
                self.scan.peek(length)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'.' => return self.pop().map(Some),
            b'0' => {
                // At a mark it takes the mark away.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'I' => self.decimal(true)?,
            b'L' => self.decimal(false)?,
            b'J' => {
                let v = self.scan.array::<4>()?;
                self.push(Node::Int(i32::from_le_bytes(v).into()));
            }
            b'K' => {
                let v = self.scan.byte()?;
                self.push(Node::Int(v.into()));
            }
            b'M' => {
                let v = self.scan.array::<2>()?;
                self.push(Node::Int(u16::from_le_bytes(v).into()));
            }
            0x8a => {
                let n = self.scan.byte()?.into();
                self.long(n)?;
            }
            0x8b => {
                let n = self.scan.length_i32()?;
                self.long(n)?;
            }
            b'F' => {
                let line = self.scan.utf8_line()?;
                let v = line.trim().parse().map_err(|_| format!("\"{line}\" is no number"))?;
                self.push(Node::Float(v));
            }
            b'G' => {
                let v = self.scan.array::<8>()?;
                self.push(Node::Float(f64::from_be_bytes(v)));
            }
            b'S' => {
                let v = self.scan.quoted_line()?;
                self.push(Node::Bytes(v));
            }
            b'T' => {
                let n = self.scan.length_i32()?;
                self.bytes(n)?;
            }
            b'U' | b'C' => {
                let n = self.scan.byte()?.into();
                self.bytes(n)?;
            }
            b'B' => {
                let n = self.scan.u32()?.into();
                self.bytes(n)?;
            }
            0x8e | 0x96 => {
                let n = self.scan.u64()?;
                self.bytes(n)?;
            }
            b'V' => {
                let v = self.scan.escaped_line()?;
                self.push(Node::Text(v));
            }
            0x8c => {
                let n = self.scan.byte()?.into();
                self.text(n)?;
            }
            b'X' => {
                let n = self.scan.u32()?.into();
                self.text(n)?;
            }
            0x8d => {
                let n = self.scan.u64()?;
                self.text(n)?;
            }
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let v = self.marked()?;
                self.push(Node::Tuple(v));
            }
            b']' => self.push(Node::List(Vec::new())),
            b'l' => {
                let v = self.marked()?;
                self.push(Node::List(v));
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b'd' => {
                let v = Self::pairs(&self.marked()?)?;
                self.push(Node::Dict(v));
            }
            0x8f => self.push(Node::Set(Vec::new())),
            0x91 => {
                let v = self.marked()?;
                self.push(Node::Set(v));
            }
            b'a' => {
                let v = self.pop()?;
                self.extend(&[v], false)?;
            }
            b'e' => {
                let v = self.marked()?;
                self.extend(&v, false)?;
            }
            0x90 => {
                let v = self.marked()?;
                self.extend(&v, true)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let v = Self::pairs(&self.marked()?)?;
                self.set(v)?;
            }
            b'p' => {
                let key = self.scan.number_line()?;
                self.put(key)?;
            }
            b'q' => {
                let key = self.scan.byte()?.into();
                self.put(key)?;
            }
            b'r' => {
                let key = self.scan.u32()?.into();
                self.put(key)?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'g' => {
                let key = self.scan.number_line()?;
                self.recall(key)?;
            }
            b'h' => {
                let key = self.scan.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = self.scan.u32()?.into();
                self.recall(key)?;
            }
            b'c' => {
                let id = self.global()?;
                self.stack.push(id);
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                for id in [module, name] {
                    if !matches!(self.nodes[id.0 as usize], Node::Text(_) | Node::Bytes(_)) {
                        return Err("a global's names must be texts".into());
                    }
                }
                self.push(Node::Global { module, name });
            }
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                if !matches!(self.nodes[args.0 as usize], Node::Tuple(_)) {
                    return Err(format!(
                        "arguments are {}, expected a tuple",
                        kind(&self.nodes[args.0 as usize])
                    ));
                }
                self.call(callee, args);
            }
            0x92 => {
                // Keyword arguments belong to classes that nothing here looks into.
                let (_, args, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callee, args);
            }
            b'i' => {
                let callee = self.global()?;
                let args = self.marked()?;
                let args = self.make(Node::Tuple(args));
                self.call(callee, args);
            }
            b'o' => {
                let mut args = self.marked()?;
                if args.is_empty() {
                    return Err("an object without a class".into());
                }
                let callee = args.remove(0);
                let args = self.make(Node::Tuple(args));
                self.call(callee, args);
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match &mut self.nodes[target.0 as usize] {
                    Node::Call(c) => c.state = Some(state),
                    other => return Err(format!("{} cannot have a state", kind(other))),
                }
            }
            b'P' => {
                let id = Cow::Borrowed(self.scan.utf8_line()?);
                let id = self.make(Node::Text(id));
                self.push(Node::Persistent(id));
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            0x82..=0x84 => return Err("an extension code, which only Python's registry can resolve".into()),
            0x97 | 0x98 => return Err("a buffer outside the pickle".into()),
            other => return Err(format!("unknown opcode 0x{other:02x}")),
        }
        Ok(None)
    }
}

fn kind(node: &Node<'_>) -> &'static str {
    match node {
        Node::None => "None",
        Node::Bool(_) => "a boolean",
        Node::Int(_) | Node::Big => "an integer",
        Node::Float(_) => "a float",
        Node::Text(_) => "a text",
        Node::Bytes(_) => "bytes",
        Node::Tuple(_) => "a tuple",
        Node::List(_) => "a list",
        Node::Dict(_) => "a dict",
        Node::Set(_) => "a set",
        Node::Global { .. } => "a global",
        Node::Call(_) => "an object",
        Node::Persistent(_) => "a persistent value",
    }
}

#[cfg(test)]
mod tests;

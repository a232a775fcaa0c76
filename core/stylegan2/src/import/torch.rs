//! Tensors in files that PyTorch wrote: archives (`torch.save` since 1.6), the older format of several pickles in a
//! row, and plain pickles in which every tensor brings its numbers along, in the older format, as bytes.
//!
//! A tensor is a view of a storage: offset, sizes and strides. Views are read without their numbers; what is loaded
//! is bounded by the size of the file, however often a file names the same storage.

use super::pickle::{Id, Node, Pickle};
use super::scan::Scan;
use candle_core::{DType, Device, Tensor};
use shiftlens_api::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Cursor;
use std::rc::Rc;
use zip::{CompressionMethod, ZipArchive};

/// The first of the pickles in the older format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The second one.
const VERSION: i128 = 1001;
/// Axes that a tensor may have.
const MAX_RANK: usize = 8;
/// Bytes of a storage's name, which is a number.
const MAX_KEY: usize = 64;

fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid(message.into())
}

/// Element type of a storage: name, bytes per element, and the type in which it can be loaded.
type Kind = (&'static str, usize, Option<DType>);

const KINDS: [Kind; 13] = [
    ("FloatStorage", 4, Some(DType::F32)),
    ("HalfStorage", 2, Some(DType::F16)),
    ("BFloat16Storage", 2, Some(DType::BF16)),
    ("DoubleStorage", 8, Some(DType::F64)),
    ("LongStorage", 8, Some(DType::I64)),
    ("IntStorage", 4, None),
    ("ShortStorage", 2, None),
    ("CharStorage", 1, None),
    ("ByteStorage", 1, None),
    ("BoolStorage", 1, None),
    ("ComplexFloatStorage", 8, None),
    ("ComplexDoubleStorage", 16, None),
    ("UntypedStorage", 1, None),
];

/// What a persistent value says of a storage.
struct Claim<'p> {
    kind: Kind,
    key: &'p str,
    len: usize,
}

/// `('storage', class, key, device, length)`, in the older format with a sixth entry that is None.
fn claim<'p>(pickle: &'p Pickle<'_>, id: Id) -> Result<Claim<'p>> {
    let broken = |what: &str| invalid(format!("a storage's {what} cannot be read"));
    let fields = pickle.elements(id).ok_or_else(|| broken("description"))?;
    let (class, key, len, view) = match fields {
        [word, class, key, _, len] if pickle.text(*word) == Some("storage") => (*class, *key, *len, None),
        [word, class, key, _, len, view] if pickle.text(*word) == Some("storage") => {
            (*class, *key, *len, Some(*view))
        }
        _ => return Err(broken("description")),
    };
    if view.is_some_and(|v| !pickle.is_none(v)) {
        return Err(Error::Unsupported(
            "a storage is a view of another, as PyTorch before 0.4 wrote; load and save it again with a newer one"
                .into(),
        ));
    }
    let (module, name) = pickle.global(class).ok_or_else(|| broken("class"))?;
    let kind =
        KINDS.iter().find(|k| k.0 == name && ["torch", "torch.cuda", "torch.storage"].contains(&module));
    let kind =
        *kind.ok_or_else(|| Error::Unsupported(format!("storage class {module}.{name} is not known")))?;
    let key = pickle.text(key).filter(|k| k.len() <= MAX_KEY).ok_or_else(|| broken("key"))?;
    let len = pickle.int(len).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| broken("length"))?;
    Ok(Claim { kind, key, len })
}

/// A file in the older format.
struct Older<'a> {
    pickle: Pickle<'a>,
    storages: HashMap<String, &'a [u8]>,
}

/// Reads the older format; `None` if `first`, the pickle at the start of `bytes`, is not its magic number.
fn older<'a>(bytes: &'a [u8], first: &Pickle<'a>) -> Result<Option<Older<'a>>> {
    if first.int(first.root()) != Some(MAGIC) {
        return Ok(None);
    }
    let mut at = first.end();
    let mut next = || -> Result<Pickle<'a>> {
        let p = Pickle::read(&bytes[at..])?;
        at += p.end();
        Ok(p)
    };
    let (version, system, pickle, keys) = (next()?, next()?, next()?, next()?);
    if version.int(version.root()) != Some(VERSION) {
        return Err(invalid(format!("a file of PyTorch's older format, but not of version {VERSION}")));
    }
    if let Some(little) = system.get(system.root(), "little_endian")
        && !matches!(system.node(little), Node::Bool(true))
    {
        return Err(Error::Unsupported("the file was written on a big-endian machine".into()));
    }
    let mut claims = HashMap::new();
    for id in pickle.persistents() {
        let c = claim(&pickle, id)?;
        claims.insert(c.key.to_owned(), (c.kind.1, c.len));
    }
    let mut scan = Scan::new(&bytes[at..]);
    let mut storages = HashMap::new();
    for key in keys.elements(keys.root()).ok_or_else(|| invalid("the list of storages cannot be read"))? {
        let key = keys.text(*key).ok_or_else(|| invalid("the list of storages cannot be read"))?;
        let (size, claimed) =
            claims.get(key).ok_or_else(|| invalid(format!("storage \"{key}\" has no class")))?;
        let fail = |e: String| invalid(format!("storage \"{key}\": {e}"));
        let len = scan.u64().map_err(fail)?;
        if len != *claimed as u64 {
            return Err(fail(format!("{len} elements, but {claimed} were announced")));
        }
        let data = scan.take(len.saturating_mul(*size as u64)).map_err(fail)?;
        storages.insert(key.to_owned(), data);
    }
    Ok(Some(Older { pickle, storages }))
}

/// Where persistent storages stand.
enum Store<'a> {
    /// Nowhere: a plain pickle.
    None,
    Older(HashMap<String, &'a [u8]>),
    Archive {
        archive: Box<ZipArchive<Cursor<&'a [u8]>>>,
        bytes: &'a [u8],
        folder: String,
        /// Entries whose checksum was compared: a file may name one as often as it likes.
        read: HashMap<String, &'a [u8]>,
    },
}

/// The numbers of a storage.
struct Storage<'a> {
    kind: Kind,
    data: Cow<'a, [u8]>,
}

/// A tensor without its numbers.
#[derive(Debug, Clone)]
pub struct View {
    storage: Id,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
    count: usize,
}

impl View {
    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// A file that PyTorch or `pickle` wrote.
pub struct Checkpoint<'a> {
    /// The pickled value.
    pub pickle: Pickle<'a>,
    store: Store<'a>,
    /// Storages that were bytes in the pickle, by those.
    storages: HashMap<Id, Rc<Storage<'a>>>,
    /// Elements that may still be loaded.
    left: usize,
}

/// The stored bytes of an archive's entry, their checksum verified; `None` if there is no such entry.
fn entry<'a>(
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
    name: &str,
) -> Result<Option<&'a [u8]>> {
    let fail = |e: &dyn std::fmt::Display| invalid(format!("archive entry {name}: {e}"));
    let Some(index) = archive.index_for_name(name) else { return Ok(None) };
    let mut file = archive.by_index(index).map_err(|e| fail(&e))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(fail(&"is compressed; PyTorch stores without compression"));
    }
    let start = file.data_start().ok_or_else(|| fail(&"has no data"))?;
    let range = usize::try_from(start).ok().zip(usize::try_from(file.size()).ok());
    let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
    let data = range.and_then(|r| bytes.get(r)).ok_or_else(|| fail(&"is cut short"))?;
    // Reading to the end is what compares the checksum.
    std::io::copy(&mut file, &mut std::io::sink()).map_err(|e| fail(&e))?;
    Ok(Some(data))
}

impl<'a> Checkpoint<'a> {
    /// Reads the file `bytes` without its numbers.
    ///
    /// # Errors
    /// If it is none of the formats, or damaged.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        // Nothing here is loaded from less than two bytes an element.
        let left = bytes.len() / 2;
        let storages = HashMap::new();
        if bytes.starts_with(b"PK\x03\x04") {
            let (pickle, store) = Self::archive(bytes)?;
            return Ok(Self { pickle, store, storages, left });
        }
        let first = Pickle::read(bytes)?;
        Ok(match older(bytes, &first)? {
            Some(o) => Self { pickle: o.pickle, store: Store::Older(o.storages), storages, left },
            None => Self { pickle: first, store: Store::None, storages, left },
        })
    }

    fn archive(bytes: &'a [u8]) -> Result<(Pickle<'a>, Store<'a>)> {
        let mut archive =
            ZipArchive::new(Cursor::new(bytes)).map_err(|e| invalid(format!("archive: {e}")))?;
        let folder = archive
            .file_names()
            .filter_map(|n| n.ok()?.strip_suffix("data.pkl").map(str::to_owned))
            .find(|folder| folder.is_empty() || folder.ends_with('/'))
            .ok_or_else(|| invalid("an archive without data.pkl: not written by torch.save"))?;
        if let Some(order) = entry(&mut archive, bytes, &format!("{folder}byteorder"))?
            && order != b"little"
        {
            return Err(Error::Unsupported(format!(
                "the file's byte order is \"{}\", expected \"little\"",
                String::from_utf8_lossy(&order[..order.len().min(16)])
            )));
        }
        let pickle = entry(&mut archive, bytes, &format!("{folder}data.pkl"))?;
        let pickle = Pickle::read(pickle.ok_or_else(|| invalid("data.pkl is missing"))?)?;
        Ok((pickle, Store::Archive { archive: Box::new(archive), bytes, folder, read: HashMap::new() }))
    }

    /// The tensor or parameter `id`, without its numbers; `None` if it is something else.
    ///
    /// # Errors
    /// If it is a tensor whose description makes no sense.
    pub fn view(&self, id: Id) -> Result<Option<View>> {
        let p = &self.pickle;
        let Some((mut function, mut args)) = p.called(id) else { return Ok(None) };
        // A parameter around a typed tensor around a tensor is as deep as it gets.
        for _ in 0..4 {
            match (function, args) {
                (
                    ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                    | ("torch.nn.parameter", "Parameter"),
                    [inner, ..],
                ) => {
                    (function, args) =
                        p.called(*inner).ok_or_else(|| invalid("a parameter without a tensor"))?;
                }
                (("torch._tensor", "_rebuild_from_type_v2"), [rebuild, _, inner, ..]) => {
                    let call = p.global(*rebuild).zip(p.elements(*inner));
                    (function, args) = call.ok_or_else(|| invalid("a typed tensor without a tensor"))?;
                }
                (
                    ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"),
                    [storage, offset, shape, stride, ..],
                ) => return self.strided(*storage, *offset, *shape, *stride).map(Some),
                (("torch._utils", name), _) if name.starts_with("_rebuild_") => {
                    return Err(Error::Unsupported(format!(
                        "a tensor that is stored by torch._utils.{name}"
                    )));
                }
                _ => return Ok(None),
            }
        }
        Err(invalid("a parameter of a parameter"))
    }

    fn strided(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Result<View> {
        let p = &self.pickle;
        let size = |id: Id| p.int(id).and_then(|i| usize::try_from(i).ok());
        let sizes = |id: Id| -> Option<Vec<usize>> {
            let all = p.elements(id).filter(|v| v.len() <= MAX_RANK)?;
            all.iter().map(|i| size(*i)).collect()
        };
        let fields = size(offset).zip(sizes(shape)).zip(sizes(stride));
        let Some(((offset, shape), stride)) =
            fields.filter(|((_, shape), stride)| shape.len() == stride.len())
        else {
            return Err(invalid("a tensor's offset, sizes or strides cannot be read"));
        };
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let count = count.ok_or_else(|| invalid(format!("a tensor of shape {shape:?} is too large")))?;
        Ok(View { storage, offset, shape, stride, count })
    }

    fn storage(&mut self, id: Id) -> Result<Rc<Storage<'a>>> {
        let p = &self.pickle;
        if let Node::Persistent(inner) = p.node(id) {
            let c = claim(p, *inner)?;
            let missing = || invalid(format!("storage \"{}\" is missing", c.key));
            let data = match &mut self.store {
                Store::None => return Err(missing()),
                Store::Older(all) => *all.get(c.key).ok_or_else(missing)?,
                Store::Archive { archive, bytes, folder, read } => match read.get(c.key) {
                    Some(data) => *data,
                    None => {
                        let data = entry(archive, bytes, &format!("{folder}data/{}", c.key))?;
                        let data = data.ok_or_else(missing)?;
                        read.insert(c.key.to_owned(), data);
                        data
                    }
                },
            };
            return fitting(&c, Cow::Borrowed(data)).map(Rc::new);
        }
        let Some((("torch.storage", "_load_from_bytes"), [bytes])) = p.called(id) else {
            return Err(invalid("a tensor's storage cannot be read"));
        };
        // Protocols before 3 have no bytes: a call that would make them from a text stands for them.
        let (source, is_text) = match p.called(*bytes) {
            Some((("_codecs", "encode"), [text, codec]))
                if p.text(*codec).is_some_and(|c| ["latin1", "latin-1"].contains(&c)) =>
            {
                (*text, true)
            }
            _ => (*bytes, false),
        };
        // What several storages share is read once, so that time and memory follow the size of the file.
        if let Some(known) = self.storages.get(&source) {
            return Ok(known.clone());
        }
        let broken = || invalid("a storage's bytes cannot be read");
        let storage = match p.node(source) {
            Node::Bytes(Cow::Borrowed(b)) if !is_text => nested(b)?,
            Node::Text(text) if is_text => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                let bytes = bytes.ok_or_else(broken)?;
                let inner = nested(&bytes)?;
                Storage { kind: inner.kind, data: Cow::Owned(inner.data.into_owned()) }
            }
            _ => return Err(broken()),
        };
        let storage = Rc::new(storage);
        self.storages.insert(source, storage.clone());
        Ok(storage)
    }

    /// The numbers of a tensor, on the CPU in f32.
    ///
    /// # Errors
    /// If they reach beyond the storage, are of a type that cannot be loaded, are not finite, or if more is asked for
    /// than a file of this size can hold.
    pub fn load(&mut self, view: &View) -> Result<Tensor> {
        let storage = self.storage(view.storage)?;
        let (name, size, dtype) = storage.kind;
        let dtype = dtype.ok_or_else(|| Error::Unsupported(format!("numbers of type {name}")))?;
        self.left = self.left.checked_sub(view.count).ok_or_else(|| {
            invalid(format!("a tensor of shape {:?}: the tensors are larger than the file", view.shape))
        })?;
        let len = storage.data.len() / size;
        let axes = || view.shape.iter().zip(&view.stride);
        let last =
            axes().try_fold(view.offset, |at, (d, s)| at.checked_add(d.saturating_sub(1).checked_mul(*s)?));
        if view.count > 0 && last.is_none_or(|at| at >= len) {
            return Err(invalid(format!(
                "a tensor of shape {:?} and strides {:?} at {} reaches beyond its storage of {len}",
                view.shape, view.stride, view.offset
            )));
        }
        let mut row = 1;
        let contiguous = axes().rev().all(|(d, s)| {
            let fits = *d == 1 || *s == row;
            row = row.saturating_mul(*d);
            fits
        });
        let data = if view.count == 0 {
            Cow::Borrowed(&[][..])
        } else if contiguous {
            Cow::Borrowed(&storage.data[view.offset * size..(view.offset + view.count) * size])
        } else {
            Cow::Owned(gather(&storage.data, size, view))
        };
        let fail = |e: candle_core::Error| Error::component("network file", e);
        let tensor = Tensor::from_raw_buffer(&data, dtype, &view.shape, &Device::Cpu).map_err(fail)?;
        tensor.to_dtype(DType::F32).map_err(fail)
    }
}

fn fitting<'a>(c: &Claim<'_>, data: Cow<'a, [u8]>) -> Result<Storage<'a>> {
    if c.len.checked_mul(c.kind.1) != Some(data.len()) {
        return Err(invalid(format!(
            "storage \"{}\": {} elements of {} bytes expected, {} bytes found",
            c.key,
            c.len,
            c.kind.1,
            data.len()
        )));
    }
    Ok(Storage { kind: c.kind, data })
}

/// A storage alone in the older format.
fn nested(bytes: &[u8]) -> Result<Storage<'_>> {
    let first = Pickle::read(bytes)?;
    let file = older(bytes, &first)?.ok_or_else(|| invalid("a storage in a format that is not PyTorch's"))?;
    let Node::Persistent(id) = file.pickle.node(file.pickle.root()) else {
        return Err(invalid("a storage's bytes hold something else"));
    };
    let c = claim(&file.pickle, *id)?;
    let data =
        file.storages.get(c.key).ok_or_else(|| invalid(format!("storage \"{}\" is missing", c.key)))?;
    fitting(&c, Cow::Borrowed(data))
}

/// The elements of a view in row-major order; all are inside.
fn gather(data: &[u8], size: usize, view: &View) -> Vec<u8> {
    let mut out = Vec::with_capacity(view.count * size);
    let mut index = vec![0; view.shape.len()];
    let mut at = view.offset;
    for _ in 0..view.count {
        out.extend_from_slice(&data[at * size..(at + 1) * size]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += view.stride[axis];
            if index[axis] < view.shape[axis] {
                break;
            }
            at -= view.stride[axis] * view.shape[axis];
            index[axis] = 0;
        }
    }
    out
}

//! Named tensors of a file, loaded when they are asked for.

use super::pickle::Pickle;
use super::torch::{Checkpoint, View};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use shiftlens_api::{Error, Result};
use std::collections::BTreeMap;

enum Origin<'a> {
    Torch(Box<Checkpoint<'a>>),
    Safe(SafeTensors<'a>),
}

enum Place {
    View(View),
    Name(String),
}

struct Entry {
    place: Place,
    shape: Vec<usize>,
}

/// The tensors of one network in a file.
pub struct Arrays<'a> {
    origin: Origin<'a>,
    entries: BTreeMap<String, Entry>,
}

impl<'a> Arrays<'a> {
    /// Those of a file that PyTorch or `pickle` wrote.
    pub fn torch(checkpoint: Checkpoint<'a>, views: BTreeMap<String, View>) -> Self {
        let entry = |v: View| Entry { shape: v.shape().to_vec(), place: Place::View(v) };
        let entries = views.into_iter().map(|(name, v)| (name, entry(v))).collect();
        Self { origin: Origin::Torch(Box::new(checkpoint)), entries }
    }

    /// Those of a safetensors file.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn safe(bytes: &'a [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::Invalid(format!("not a sound safetensors file: {e}")))?;
        let entry =
            |name: &str, shape: &[usize]| Entry { place: Place::Name(name.into()), shape: shape.to_vec() };
        let entries = file.iter().map(|(name, t)| (name.to_owned(), entry(name, t.shape()))).collect();
        Ok(Self { origin: Origin::Safe(file), entries })
    }

    /// The pickle that the tensors were found in.
    pub fn pickle(&self) -> Option<&Pickle<'a>> {
        if let Origin::Torch(c) = &self.origin { Some(&c.pickle) } else { None }
    }
    /// Names that were not taken, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
    /// Sizes of a tensor's axes.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }
    /// Takes a prefix off all names that have it.
    pub fn without_prefix(mut self, prefix: &str) -> Self {
        let short = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
        self.entries = self.entries.into_iter().map(|(name, e)| (short(name), e)).collect();
        self
    }
    /// Gives a tensor another name, and a shape of as many elements.
    ///
    /// # Errors
    /// If it is missing, or has another number of elements.
    pub fn rename(&mut self, from: &str, to: String, shape: &[usize]) -> Result<()> {
        let mut entry =
            self.entries.remove(from).ok_or_else(|| Error::Invalid(format!("tensor `{from}` is missing")))?;
        // Shapes of files may be as large as they like: sizes are compared without their ones, not multiplied.
        let significant = |s: &[usize]| s.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        if significant(&entry.shape) != significant(shape) {
            return Err(Error::Shape {
                what: format!("tensor `{from}`"),
                expected: format!("{shape:?}, ones aside"),
                found: entry.shape,
            });
        }
        entry.shape = shape.to_vec();
        self.entries.insert(to, entry);
        Ok(())
    }

    /// Loads a tensor, on the CPU in f32; it is not there any more afterwards. `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be loaded or holds numbers that are not finite; the message names it.
    pub fn take(&mut self, name: &str) -> Result<Option<Tensor>> {
        let Some(entry) = self.entries.remove(name) else { return Ok(None) };
        let named = |e: Error| match e {
            Error::Invalid(m) => Error::Invalid(format!("tensor `{name}`: {m}")),
            Error::Unsupported(m) => Error::Unsupported(format!("tensor `{name}`: {m}")),
            e => e,
        };
        let fail = |e: candle_core::Error| Error::Invalid(format!("tensor `{name}`: {e}"));
        let tensor = match (&mut self.origin, &entry.place) {
            (Origin::Torch(c), Place::View(v)) => c.load(v).map_err(named)?,
            (Origin::Safe(file), Place::Name(original)) => {
                let view = file.tensor(original).map_err(|e| Error::Invalid(e.to_string()))?;
                view.load(&Device::Cpu).and_then(|t| t.to_dtype(DType::F32)).map_err(fail)?
            }
            _ => return Err(Error::component("import", format!("tensor `{name}` stands in another file"))),
        };
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(fail)?;
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite { what: format!("tensor `{name}`"), index, value: values[index] });
        }
        Tensor::from_vec(values, entry.shape, &Device::Cpu).map(Some).map_err(fail)
    }
}

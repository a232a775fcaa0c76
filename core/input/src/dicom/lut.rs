//! Tables: PS3.3 C.7.6.3.1.5 (colours), C.11.1.1.1 (modality), C.11.2.1.1 (values of interest).

use super::attributes::{element, keyword};
use crate::Said;
use crate::window::table_at;
use dicom_core::Tag;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// A table of whole numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Lut {
    /// The value that the first entry belongs to.
    pub first: i64,
    /// The entries, as they are.
    pub entries: Vec<f32>,
    /// The largest entry that can be.
    pub most: f32,
}

impl Lut {
    /// Reads the table of a pair of attributes. `signed` says whether the values that are looked up may be negative.
    pub fn read(object: &InMemDicomObject, descriptor: Tag, data: Tag, signed: bool) -> Said<Self> {
        let wrong = |tag: Tag| format!("`{}` is no table's", keyword(tag));
        let numbers = element(object, descriptor).and_then(|e| e.to_multi_int::<i32>().ok());
        let Some([count, first, bits]) = numbers.as_deref() else { return Err(wrong(descriptor)) };
        // The count is unsigned and 0 stands for 65536; the second is signed if the values are. What either was read as
        // depends on the transfer syntax.
        let count = match count & 0xffff {
            0 => 65_536,
            n => n as usize,
        };
        let first = match i64::from(first & 0xffff) {
            v if signed && v >= 0x8000 => v - 0x1_0000,
            v => v,
        };
        if !(8..=16).contains(bits) {
            return Err(format!("`{}` says {bits} bits, expected 8 to 16", keyword(descriptor)));
        }
        let value = element(object, data).ok_or_else(|| format!("`{}` is missing", keyword(data)))?.value();
        let Value::Primitive(value) = value else { return Err(wrong(data)) };
        let entries = entries(value, count, *bits <= 8).ok_or_else(|| {
            format!("`{}` has fewer entries than `{}` says, {count}", keyword(data), keyword(descriptor))
        })?;
        Ok(Self { first, entries, most: ((1u32 << bits) - 1) as f32 })
    }

    /// The entry of a value; those outside take the nearest.
    pub fn at(&self, x: f64) -> f32 {
        table_at(self.first, &self.entries, x)
    }

    /// The entries in [0, 1].
    pub fn brightness(&self) -> Vec<f32> {
        self.entries.iter().map(|v| v / self.most).collect()
    }
}

/// `count` entries: words, or, if they may be bytes, two in a word.
fn entries(value: &PrimitiveValue, count: usize, narrow: bool) -> Option<Vec<f32>> {
    let bytes = match value {
        PrimitiveValue::U8(bytes) => bytes.to_vec(),
        other => other.to_multi_int::<i32>().ok()?.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect(),
    };
    if bytes.len() >= 2 * count {
        let words = bytes.chunks_exact(2).take(count);
        return Some(words.map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect());
    }
    (narrow && bytes.len() >= count).then(|| bytes.iter().take(count).map(|b| (*b).into()).collect())
}

/// The colours of a palette's entries, `[3, H, W]` in [0, 1].
pub fn palette(object: &InMemDicomObject, values: &[f32]) -> Said<Vec<f32>> {
    let colours = [
        (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA),
        (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA),
        (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA),
    ];
    if object.get(tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA).is_some()
        && object.get(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA).is_none()
    {
        return Err("segmented palettes are not supported".into());
    }
    let mut out = Vec::with_capacity(3 * values.len());
    for (descriptor, data) in colours {
        let lut = Lut::read(object, descriptor, data, false)?;
        out.extend(values.iter().map(|v| lut.at(f64::from(*v)) / lut.most));
    }
    Ok(out)
}

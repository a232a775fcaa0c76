//! The bytes of one frame: PS3.5, section 8 and annex A.4.

use super::attributes::Object;
use super::layout::Layout;
use crate::Said;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_dictionary_std::tags;
use std::borrow::Cow;

const MISSING: &str = "`PixelData` is missing";

/// The bytes of frame `k` of pixels that are not encoded, little-endian.
pub fn native<'a>(object: &'a Object, layout: &Layout, k: usize) -> Said<Cow<'a, [u8]>> {
    let value = object.get(tags::PIXEL_DATA).ok_or(MISSING)?.value();
    let Value::Primitive(value) = value else {
        return Err("`PixelData` is encapsulated, its transfer syntax says that it is not".into());
    };
    let n = layout.frame_bytes();
    let range = k * n..(k + 1) * n;
    let found = match value {
        PrimitiveValue::U8(bytes) => bytes.get(range).map(Cow::Borrowed),
        // Words; a frame may begin in the middle of one.
        PrimitiveValue::U16(words) => {
            let (from, to) = (range.start / 2, range.end.div_ceil(2));
            words.get(from..to).map(|words| {
                let bytes = words.iter().flat_map(|w| w.to_le_bytes());
                Cow::Owned(bytes.skip(range.start % 2).take(n).collect())
            })
        }
        _ => return Err("`PixelData` holds neither bytes nor words".into()),
    };
    found.ok_or_else(|| format!("truncated: `PixelData` ends before frame {}", k + 1))
}

/// The encoded bytes of frame `k`: its fragments, one after the other.
pub fn encoded<'a>(object: &'a Object, layout: &Layout, k: usize) -> Said<Cow<'a, [u8]>> {
    let value = object.get(tags::PIXEL_DATA).ok_or(MISSING)?.value();
    let Value::PixelSequence(sequence) = value else {
        return Err("`PixelData` is not encapsulated, its transfer syntax says that it is".into());
    };
    let (fragments, offsets) = (sequence.fragments(), sequence.offset_table());
    let join = |parts: &[&'a Vec<u8>]| match parts {
        [] => Err(format!("truncated: no fragment of `PixelData` belongs to frame {}", k + 1)),
        [one] => Ok(Cow::Borrowed(one.as_slice())),
        many => Ok(Cow::Owned(many.iter().flat_map(|f| f.iter().copied()).collect())),
    };
    if layout.frames == 1 {
        return join(&fragments.iter().collect::<Vec<_>>());
    }
    if fragments.len() == layout.frames {
        return join(&[&fragments[k]]);
    }
    let Some(begin) = offsets.get(k) else {
        return Err(format!(
            "{} fragments of `PixelData` for {} frames, and no table of offsets",
            fragments.len(),
            layout.frames
        ));
    };
    // Offsets count from the first item behind the table; an item has a header of 8 bytes.
    let end = offsets.get(k + 1).map_or(u64::MAX, |e| u64::from(*e));
    let mut at = 0;
    let mut parts = Vec::new();
    for fragment in fragments {
        if (u64::from(*begin)..end).contains(&at) {
            parts.push(fragment);
        }
        at += fragment.len() as u64 + 8;
    }
    join(&parts)
}

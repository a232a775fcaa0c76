//! Values of attributes, by tag. Messages name the attribute and never its value, which may be a person's.

use crate::Said;
use dicom_core::dictionary::DataDictionaryEntry;
use dicom_core::{DataDictionary, Tag};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::mem::InMemElement;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

/// A parsed file.
pub type Object = DefaultDicomObject;

/// The keyword of a tag.
pub fn keyword(tag: Tag) -> String {
    StandardDataDictionary.by_tag(tag).map_or_else(|| tag.to_string(), |e| e.alias().to_owned())
}

/// The element of a tag, unless it is empty.
pub fn element(object: &InMemDicomObject, tag: Tag) -> Option<&InMemElement> {
    object.get(tag).filter(|e| e.value().multiplicity() > 0)
}

/// The element of a frame, counted from 0: in its own functional group, in the shared one, else at the top (PS3.3
/// C.7.6.16).
pub fn of_frame(object: &InMemDicomObject, frame: usize, group: Tag, tag: Tag) -> Option<&InMemElement> {
    let inside = |sequence: Tag, i: usize| {
        let macros = object.get(sequence)?.items()?.get(i)?.get(group)?;
        element(macros.items()?.first()?, tag)
    };
    inside(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame)
        .or_else(|| inside(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0))
        .or_else(|| element(object, tag))
}

/// The first of an element's numbers.
pub fn number(element: &InMemElement) -> Said<f64> {
    let first = element.to_multi_float64().ok().and_then(|v| v.first().copied());
    first.filter(|v| v.is_finite()).ok_or_else(|| format!("`{}` is no number", keyword(element.header().tag)))
}

/// A whole number that must be there.
pub fn required(object: &InMemDicomObject, tag: Tag) -> Said<u32> {
    let found = element(object, tag).ok_or_else(|| format!("`{}` is missing", keyword(tag)))?;
    found.to_int::<u32>().map_err(|_| format!("`{}` is no whole number", keyword(tag)))
}

/// A whole number that may be left out.
pub fn optional(object: &InMemDicomObject, tag: Tag) -> Said<Option<u32>> {
    element(object, tag).map(|_| required(object, tag)).transpose()
}

/// A code, less the padding.
pub fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = element(object, tag)?.to_str().ok()?;
    Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
}

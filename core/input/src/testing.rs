//! Helpers of the unit tests: files that the tests write themselves.

use dicom_core::smallvec::SmallVec;
use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use image::{DynamicImage, ImageFormat};

pub fn bytes_of(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

pub fn text(tag: Tag, vr: VR, value: &str) -> InMemElement {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

pub fn short(tag: Tag, value: u16) -> InMemElement {
    DataElement::new(tag, VR::US, PrimitiveValue::from(value))
}

pub fn words(tag: Tag, vr: VR, values: &[u16]) -> InMemElement {
    DataElement::new(tag, vr, PrimitiveValue::U16(SmallVec::from_slice(values)))
}

pub fn bytes(tag: Tag, values: &[u8]) -> InMemElement {
    DataElement::new(tag, VR::OB, PrimitiveValue::U8(SmallVec::from_slice(values)))
}

/// Encapsulated pixel data: a table of offsets, and fragments.
pub fn fragments(offsets: &[u32], fragments: &[&[u8]]) -> InMemElement {
    let fragments: SmallVec<[Vec<u8>; 2]> = fragments.iter().map(|f| f.to_vec()).collect();
    let sequence = PixelFragmentSequence::new(SmallVec::from_slice(offsets), fragments);
    let value: Value<InMemDicomObject, Vec<u8>> = Value::PixelSequence(sequence);
    DataElement::new(tags::PIXEL_DATA, VR::OB, value)
}

pub fn sequence(tag: Tag, items: Vec<Vec<InMemElement>>) -> InMemElement {
    let items: Vec<InMemDicomObject> = items.into_iter().map(InMemDicomObject::from_element_iter).collect();
    let value: Value<InMemDicomObject, Vec<u8>> = Value::new_sequence(items, dicom_core::Length::UNDEFINED);
    DataElement::new(tag, VR::SQ, value)
}

/// A grey image of `allocated` bits, all of which are used; `more` replaces and adds elements.
pub fn dicom(syntax: &str, (rows, columns): (u16, u16), allocated: u16, more: Vec<InMemElement>) -> Vec<u8> {
    let usual = [
        text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.7"),
        text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        short(tags::SAMPLES_PER_PIXEL, 1),
        short(tags::ROWS, rows),
        short(tags::COLUMNS, columns),
        short(tags::BITS_ALLOCATED, allocated),
        short(tags::BITS_STORED, allocated),
        short(tags::HIGH_BIT, allocated - 1),
        short(tags::PIXEL_REPRESENTATION, 0),
    ];
    let mut object = InMemDicomObject::from_element_iter(usual);
    for element in more {
        object.put(element);
    }
    let file = object.with_meta(FileMetaTableBuilder::new().transfer_syntax(syntax)).unwrap();
    let mut out = Vec::new();
    file.write_all(&mut out).unwrap();
    out
}

//! The values that were asked for, and no others.

use super::attributes::Object;
use crate::Said;
use crate::nearest::nearest;
use dicom_core::dictionary::{DataDictionaryEntry, VirtualVr};
use dicom_core::{DataDictionary, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// Keywords that are often asked for, to name the nearest to a mistyped one.
const USUAL: [&str; 25] = [
    "AcquisitionDate",
    "BodyPartExamined",
    "ConvolutionKernel",
    "ImageLaterality",
    "InstitutionName",
    "KVP",
    "Laterality",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "PatientAge",
    "PatientID",
    "PatientName",
    "PatientPosition",
    "PatientSex",
    "PatientSize",
    "PatientWeight",
    "PixelSpacing",
    "ProtocolName",
    "SeriesDescription",
    "SliceThickness",
    "StationName",
    "StudyDate",
    "StudyDescription",
    "ViewPosition",
];

/// An attribute that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyword {
    name: String,
    tag: Tag,
}

/// The attribute of a keyword of the standard's dictionary (PS3.6), if its value is text or numbers.
///
/// # Errors
/// What is wrong with the keyword, with the nearest usual one.
pub fn check_keyword(name: &str) -> Said<Keyword> {
    let Some(entry) = StandardDataDictionary.by_name(name) else {
        let near = nearest(name, USUAL).map(|n| format!(": did you mean `{n}`?")).unwrap_or_default();
        return Err(format!("`{name}` is no keyword of a DICOM attribute{near}"));
    };
    let text = match entry.vr() {
        VirtualVr::Exact(vr) => {
            !matches!(vr, VR::SQ | VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
        }
        VirtualVr::Xs => true,
        _ => false,
    };
    if !text {
        return Err(format!("`{name}` is neither text nor numbers"));
    }
    Ok(Keyword { name: name.to_owned(), tag: entry.tag() })
}

/// Name and value of those attributes that a file has.
pub fn read(object: &Object, keywords: &[Keyword]) -> Vec<(String, String)> {
    let value = |k: &Keyword| {
        let text = object.get(k.tag)?.to_str().ok()?;
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| (k.name.clone(), text.to_owned()))
    };
    keywords.iter().filter_map(value).collect()
}

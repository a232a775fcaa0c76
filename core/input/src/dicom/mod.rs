//! DICOM files: one frame at a time, as values with a meaning.
//!
//! The way of a pixel is that of PS3.3 C.11 and PS3.4 N.2: stored value, modality transformation (rescale slope and
//! intercept, or a table), values of interest (window, or a table), presentation (MONOCHROME1 is shown inverted). The last
//! two are described here and applied by [`crate::Window`]. Colours have neither.
//!
//! [`lengths`] looks a file through before it is parsed; [`layout`] reads what describes the pixels, [`frames`] finds a
//! frame's bytes, [`codec`] decodes them, [`lut`] holds tables, [`attributes`] reads values and names them in messages
//! without repeating any, [`metadata`] reads what was asked for by keyword.

mod attributes;
mod codec;
mod frames;
mod grey;
mod layout;
mod lengths;
mod lut;
mod metadata;

pub use metadata::{Keyword, check_keyword};

use crate::Said;
use crate::pixels::Pixels;
use attributes::Object;
use dicom_dictionary_std::tags;
use dicom_object::{OpenFileOptions, ReadError};
use layout::{Colours, Layout};
use std::fs::File;
use std::io::{BufReader, Cursor, Seek};
use std::path::Path;

/// A DICOM file in memory.
pub struct Dicom {
    object: Object,
    layout: Layout,
}

impl Dicom {
    pub fn open(bytes: &[u8]) -> Said<Self> {
        lengths::check(&mut Cursor::new(bytes), bytes.len() as u64)?;
        let object =
            OpenFileOptions::new().read_to(tags::PIXEL_DATA).from_reader(bytes).map_err(|e| said(&e))?;
        let layout = Layout::of(&object, bytes.len() as u64)?;
        Ok(Self { object, layout })
    }

    pub fn frames(&self) -> usize {
        self.layout.frames
    }

    /// Frame `k`, counted from 0.
    pub fn frame(&self, k: usize) -> Said<Pixels> {
        let mut values = codec::decode(&self.object, &self.layout, k)?;
        let shape = (self.layout.samples, self.layout.rows, self.layout.columns);
        match self.layout.colours {
            Colours::Grey { inverted } => grey::describe(&self.object, &self.layout, k, values, inverted),
            Colours::Palette => {
                let values = lut::palette(&self.object, &values)?;
                Ok(Pixels::plain((3, shape.1, shape.2), values, Some((0.0, 1.0))))
            }
            Colours::Rgb | Colours::Ybr { .. } => {
                if let Colours::Ybr { .. } = self.layout.colours {
                    to_rgb(&mut values, self.layout.full().1);
                }
                Ok(Pixels::plain(shape, values, Some(self.layout.full())))
            }
        }
    }
}

/// How many images a file holds, and the values of `keywords`, from the part of the file before its pixels.
pub fn header(path: &Path, keywords: &[Keyword]) -> Said<(usize, Vec<(String, String)>)> {
    let system = |e: std::io::Error| e.to_string();
    let file = File::open(path).map_err(system)?;
    let size = file.metadata().map_err(system)?.len();
    let mut file = BufReader::new(file);
    lengths::check(&mut file, size)?;
    file.rewind().map_err(system)?;
    let object =
        OpenFileOptions::new().read_until(tags::PIXEL_DATA).from_reader(file).map_err(|e| said(&e))?;
    Ok((Layout::of(&object, size)?.frames, metadata::read(&object, keywords)))
}

/// What the parser says, less what could repeat a value of the file: only the outer two layers of its errors are known to
/// name tags, lengths and positions and nothing else.
fn said(e: &ReadError) -> String {
    let message = match e {
        ReadError::UnexpectedToken { .. } => "an element stands where it must not".to_owned(),
        ReadError::ReadUnsupportedTransferSyntax { uid, name, .. }
        | ReadError::ReadUnsupportedTransferSyntaxWithSuggestion { uid, name, .. } => {
            return codec::unsupported(uid, name);
        }
        ReadError::ReadUnrecognizedTransferSyntax { .. } => "its transfer syntax is not known".to_owned(),
        ReadError::ReadToken { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    format!("not a readable DICOM file (truncated or damaged?): {message}")
}

/// Planes of full-range Y, Cb, Cr to R, G, B in place (PS3.3 C.7.6.3.1.2), `white` being the largest value.
fn to_rgb(values: &mut [f32], white: f64) {
    let n = values.len() / 3;
    let middle = (white + 1.0) / 2.0;
    let (y, chroma) = values.split_at_mut(n);
    let (cb, cr) = chroma.split_at_mut(n);
    for ((a, b), c) in y.iter_mut().zip(cb).zip(cr) {
        let (y, cb, cr) = (f64::from(*a), f64::from(*b) - middle, f64::from(*c) - middle);
        *a = (y + 1.402 * cr) as f32;
        *b = (y - 0.114 * 1.772 / 0.587 * cb - 0.299 * 1.402 / 0.587 * cr) as f32;
        *c = (y + 1.772 * cb) as f32;
    }
}

#[cfg(test)]
mod tests;

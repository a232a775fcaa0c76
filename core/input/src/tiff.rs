//! TIFF: pages, and grey pixels of the types that other formats do not have.
//!
//! Pages that are reduced versions of others, or masks of transparency (`NewSubfileType`, tag 254 of TIFF 6.0), are not
//! counted. Pages of 8 and 16 bits are read as any other picture; grey of 32 bits, signed, or floating point is read here
//! and has no range of its own.

use crate::Said;
use crate::picture;
use crate::pixels::{Pixels, check_size};
use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError, TiffResult};
use image::ImageFormat;
use std::io::{Cursor, Read, Seek};

/// Most pages that a file may have.
const MAX_PAGES: usize = 100_000;

/// A TIFF file in memory.
pub struct Tiff {
    bytes: Vec<u8>,
    /// Where the directory of each page stands.
    pages: Vec<u64>,
}

impl Tiff {
    pub fn open(bytes: Vec<u8>) -> Said<Self> {
        let pages = pages(Cursor::new(&bytes))?;
        Ok(Self { bytes, pages })
    }

    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Page `k`, counted from 0.
    pub fn page(&mut self, k: usize) -> Said<Pixels> {
        let place = *self.pages.get(k).ok_or_else(|| format!("no page {}", k + 1))?;
        // The decoders take the first directory: the header is made to name this one.
        self.begin_at(place)?;
        match special(&self.bytes)? {
            Some(pixels) => Ok(pixels),
            None => picture::decode(&self.bytes, ImageFormat::Tiff),
        }
    }

    /// Writes the place of the first directory into the header: 4 bytes at 4, or 8 bytes at 8 for BigTIFF (version 43).
    fn begin_at(&mut self, place: u64) -> Said<()> {
        let little = self.bytes.starts_with(b"II");
        let mut bytes = place.to_be_bytes();
        if little {
            bytes.reverse();
        }
        let big = self.bytes.get(2..4) == Some(if little { &[43, 0] } else { &[0, 43] });
        let (at, from) = match (big, little) {
            (true, _) => (8, &bytes[..]),
            (false, true) => (4, &bytes[..4]),
            (false, false) => (4, &bytes[4..]),
        };
        let target =
            self.bytes.get_mut(at..at + from.len()).ok_or("not a readable TIFF: its header is cut off")?;
        target.copy_from_slice(from);
        Ok(())
    }
}

fn fail(e: &TiffError) -> String {
    format!("not a readable TIFF (truncated or damaged?): {e}")
}

/// The places of the directories of all pages; at least one.
pub fn pages<R: Read + Seek>(file: R) -> Said<Vec<u64>> {
    walk(file).map_err(|e| fail(&e)).and_then(|(pages, first)| match (pages.len(), first) {
        (0, Some(first)) => Ok(vec![first]),
        (0, None) => Err("not a readable TIFF: it has no page".into()),
        (n, _) if n > MAX_PAGES => Err(format!("more than {MAX_PAGES} pages")),
        _ => Ok(pages),
    })
}

fn walk<R: Read + Seek>(file: R) -> TiffResult<(Vec<u64>, Option<u64>)> {
    let mut decoder = Decoder::new(file)?;
    let (mut pages, mut first) = (Vec::new(), None);
    loop {
        let place = decoder.ifd_pointer().map(|p| p.0);
        first = first.or(place);
        let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType)?.unwrap_or(0);
        // Bit 0: a reduced version; bit 2: a mask.
        if kind & 0b101 == 0 {
            pages.extend(place);
        }
        if !decoder.more_images() || pages.len() > MAX_PAGES {
            return Ok((pages, first));
        }
        decoder.next_image()?;
    }
}

/// The first page, if it is grey of a type that has no range of its own.
fn special(bytes: &[u8]) -> Said<Option<Pixels>> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::MAX;
    limits.intermediate_buffer_size = usize::MAX;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| fail(&e))?.with_limits(limits);
    let formats =
        decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(|e| fail(&e))?.unwrap_or_default();
    let unsigned = formats.first().is_none_or(|f| *f == 1);
    match decoder.colortype().map_err(|e| fail(&e))? {
        ColorType::Gray(bits) if bits > 16 || !unsigned => {}
        _ => return Ok(None),
    }
    let (w, h) = decoder.dimensions().map_err(|e| fail(&e))?;
    check_size(w.into(), h.into(), 1)?;
    let values: Vec<f32> = match decoder.read_image().map_err(|e| fail(&e))? {
        DecodingResult::U8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U32(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::U64(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::I8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I32(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::I64(v) => v.into_iter().map(|x| x as f32).collect(),
        DecodingResult::F16(v) => v.into_iter().map(|x| x.to_f32()).collect(),
        DecodingResult::F32(v) => v,
        DecodingResult::F64(v) => v.into_iter().map(|x| x as f32).collect(),
    };
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return Err(format!("pixel {i} is {}, expected finite numbers", values[i]));
    }
    if values.len() as u64 != u64::from(w) * u64::from(h) {
        return Err(format!("{} values for {w}x{h} pixels", values.len()));
    }
    Ok(Some(Pixels::plain((1, h as usize, w as usize), values, None)))
}

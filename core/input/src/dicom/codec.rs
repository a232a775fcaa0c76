//! Transfer syntaxes: which are read, and how a frame is decoded.
//!
//! All decoders are written in Rust. The sizes that an encoded frame claims are compared with those of the file before it is
//! decoded, and JPEG's own idea of its colours is not asked: `PhotometricInterpretation` has been.

use super::attributes::Object;
use super::frames;
use super::layout::{Colours, Layout};
use crate::Said;
use crate::picture::ends_as_jpeg;
use crate::pixels::planes;
use dicom_dictionary_std::uids;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use jpeg_decoder::{ColorTransform, Decoder};
use std::io::Cursor;

/// Explicit VR Big Endian, which is retired; files of it are not.
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// How frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Codec {
    /// Not at all.
    Native,
    /// Not at all, but each frame in a fragment of its own.
    Encapsulated,
    /// Run lengths: PS3.5, annex G.
    Rle,
    /// JPEG, baseline or lossless.
    Jpeg,
    /// JPEG 2000.
    Jpeg2000,
}

/// The codec of a transfer syntax.
pub fn codec_of(uid: &str) -> Said<Codec> {
    let uid = uid.trim_end_matches(['\0', ' ']);
    Ok(match uid {
        uids::IMPLICIT_VR_LITTLE_ENDIAN | uids::EXPLICIT_VR_LITTLE_ENDIAN | BIG_ENDIAN => Codec::Native,
        uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN => Codec::Encapsulated,
        uids::RLE_LOSSLESS => Codec::Rle,
        uids::JPEG_BASELINE8_BIT
        | uids::JPEG_EXTENDED12_BIT
        | uids::JPEG_LOSSLESS
        | uids::JPEG_LOSSLESS_SV1 => Codec::Jpeg,
        uids::JPEG2000_LOSSLESS | uids::JPEG2000 => Codec::Jpeg2000,
        _ => return Err(unsupported(uid, TransferSyntaxRegistry.get(uid).map_or("unknown", |ts| ts.name()))),
    })
}

/// What is said of a transfer syntax that is not read.
pub fn unsupported(uid: &str, name: &str) -> String {
    format!(
        "the transfer syntax {uid} ({name}) is not supported: expected uncompressed pixels, RLE Lossless, JPEG (baseline, \
         lossless) or JPEG 2000; DICOM toolkits convert it, for example `gdcmconv --raw`"
    )
}

/// The samples of frame `k`, `[samples, rows, columns]`.
pub fn decode(object: &Object, layout: &Layout, k: usize) -> Said<Vec<f32>> {
    match layout.codec {
        Codec::Native => Ok(native(&frames::native(object, layout, k)?, layout)),
        codec => {
            let bytes = frames::encoded(object, layout, k)?;
            match codec {
                Codec::Rle => rle(&bytes, layout),
                Codec::Jpeg => jpeg(&bytes, layout),
                Codec::Jpeg2000 => jpeg2000(&bytes, layout),
                Codec::Native | Codec::Encapsulated => {
                    let bytes = bytes.get(..layout.frame_bytes());
                    Ok(native(
                        bytes.ok_or_else(|| format!("truncated: frame {} is too short", k + 1))?,
                        layout,
                    ))
                }
            }
        }
    }
}

/// Samples of bytes that are a frame's.
fn native(bytes: &[u8], layout: &Layout) -> Vec<f32> {
    let values: Vec<f32> = match layout.allocated {
        8 => bytes.iter().map(|b| layout.value((*b).into())).collect(),
        16 => bytes.chunks_exact(2).map(|b| layout.value(u16::from_le_bytes([b[0], b[1]]).into())).collect(),
        _ => bytes
            .chunks_exact(4)
            .map(|b| layout.value(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
    };
    match layout.colours {
        // Y1, Y2, Cb, Cr: the differences are those of the left pixel and serve both.
        Colours::Ybr { halved: true } if layout.codec == Codec::Native => {
            let of = |take: fn(&[f32]) -> [f32; 2]| values.chunks_exact(4).flat_map(take);
            of(|v| [v[0], v[1]]).chain(of(|v| [v[2], v[2]])).chain(of(|v| [v[3], v[3]])).collect()
        }
        _ if layout.planar => values,
        _ => planes(values, layout.samples),
    }
}

/// PS3.5, annex G: a segment for each byte of each sample, the highest first, packed by run lengths.
fn rle(bytes: &[u8], layout: &Layout) -> Said<Vec<f32>> {
    let word = |i: usize| {
        let bytes = bytes.get(4 * i..4 * i + 4).ok_or("truncated: the RLE header has 64 bytes")?;
        Ok::<_, String>(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let per_sample = (layout.allocated / 8) as usize;
    let (found, expected) = (word(0)?, layout.samples * per_sample);
    if found != expected {
        return Err(format!("the RLE header names {found} segments, expected {expected}"));
    }
    let mut out = Vec::with_capacity(layout.samples * layout.pixels());
    for sample in 0..layout.samples {
        let mut raw = vec![0u32; layout.pixels()];
        for i in sample * per_sample..(sample + 1) * per_sample {
            let begin = word(1 + i)?;
            let end = if i + 1 < found { word(2 + i)? } else { bytes.len() };
            let segment = bytes
                .get(begin.max(64)..end)
                .filter(|_| begin >= 64)
                .ok_or_else(|| format!("RLE segment {} lies outside its frame", i + 1))?;
            let unpacked = unpack(segment, layout.pixels());
            if unpacked.len() < raw.len() {
                let (have, need) = (unpacked.len(), raw.len());
                return Err(format!("truncated: RLE segment {} has {have} bytes, expected {need}", i + 1));
            }
            raw.iter_mut().zip(unpacked).for_each(|(r, b)| *r = *r << 8 | u32::from(b));
        }
        out.extend(raw.into_iter().map(|r| layout.value(r)));
    }
    Ok(out)
}

/// PackBits, up to `most` bytes (PS3.5, G.3.1).
fn unpack(mut bytes: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(most);
    while let [head, rest @ ..] = bytes {
        let head = head.cast_signed();
        let left = most - out.len();
        bytes = match (head, rest) {
            (-128, rest) => rest,
            (0.., rest) => {
                let (literal, rest) = rest.split_at((head as usize + 1).min(rest.len()));
                out.extend(literal.iter().take(left));
                rest
            }
            (_, [value, rest @ ..]) => {
                out.resize(out.len() + (1 - isize::from(head)).cast_unsigned().min(left), *value);
                rest
            }
            (_, []) => break,
        };
        if out.len() == most {
            break;
        }
    }
    out
}

/// Refuses an encoded frame of other sizes than the file's.
fn check_same(what: &str, found: (usize, usize, usize), layout: &Layout) -> Said<()> {
    let expected = (layout.columns, layout.rows, layout.samples);
    if found == expected {
        return Ok(());
    }
    let shown = |(w, h, c): (usize, usize, usize)| format!("{w}x{h} pixels of {c} samples");
    Err(format!("the {what} frame has {}, the file says {}", shown(found), shown(expected)))
}

const TRUNCATED: &str = "its end marker is missing; fetch the file again";

fn jpeg(bytes: &[u8], layout: &Layout) -> Said<Vec<f32>> {
    let (precision, h, w, components) = start_of_frame(bytes).ok_or("a JPEG frame without its header")?;
    check_same("JPEG", (w, h, components), layout)?;
    if !ends_as_jpeg(bytes) {
        return Err(format!("truncated JPEG frame: {TRUNCATED}"));
    }
    let n = layout.samples * layout.pixels();
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_max_decoding_buffer_size(4 * n);
    if components == 3 {
        // Components as they are; luminance and differences become colours elsewhere.
        decoder.set_color_transform(ColorTransform::RGB);
    }
    let decoded =
        decoder.decode().map_err(|e| format!("not a readable JPEG frame of {precision} bits: {e}"))?;
    let values: Vec<f32> = if decoded.len() == n {
        decoded.iter().map(|b| layout.decoded((*b).into())).collect()
    } else if decoded.len() == 2 * n {
        let words = decoded.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
        words.map(|v| layout.decoded(v.into())).collect()
    } else {
        return Err(format!("the JPEG frame decodes to {} bytes, expected {n} or {}", decoded.len(), 2 * n));
    };
    Ok(planes(values, layout.samples))
}

/// Precision, height, width and number of components, from a JPEG's start-of-frame segment.
fn start_of_frame(bytes: &[u8]) -> Option<(u8, usize, usize, usize)> {
    let mut at = 2;
    loop {
        let marker = match bytes.get(at..at + 2)? {
            [0xff, 0xff] => {
                at += 1;
                continue;
            }
            [0xff, marker] => *marker,
            _ => return None,
        };
        at += 2;
        if marker == 1 || (0xd0..=0xd9).contains(&marker) {
            continue;
        }
        let short = |i: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(i)?, *bytes.get(i + 1)?])));
        if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
            return Some((*bytes.get(at + 2)?, short(at + 3)?, short(at + 5)?, (*bytes.get(at + 7)?).into()));
        }
        at += short(at)?;
    }
}

/// Where the precision of the first component stands in a codestream (ISO/IEC 15444-1, A.5.1): behind two markers, length,
/// capabilities, eight sizes and the number of components. Its highest bit says whether values are signed.
const SSIZ: usize = 42;

fn jpeg2000(bytes: &[u8], layout: &Layout) -> Said<Vec<f32>> {
    let fail = |e: hayro_jpeg2000::DecodeError| format!("not a readable JPEG 2000 frame: {e}");
    if !bytes.starts_with(&[0xff, 0x4f, 0xff, 0x51]) {
        return Err("a JPEG 2000 frame without its header".into());
    }
    if !ends_as_jpeg(bytes) {
        return Err(format!("truncated JPEG 2000 frame: {TRUNCATED}"));
    }
    let settings = DecodeSettings { resolve_palette_indices: false, strict: false, target_resolution: None };
    let image = Image::new(bytes, &settings).map_err(fail)?;
    let mut context = DecoderContext::default();
    let size = (image.width() as usize, image.height() as usize);
    check_same("JPEG 2000", (size.0, size.1, layout.samples), layout)?;
    let decoded = image.decode(&mut context).map_err(fail)?;
    let components = decoded.components();
    check_same("JPEG 2000", (size.0, size.1, components.len()), layout)?;
    let signed = bytes.get(SSIZ).is_some_and(|s| s & 0x80 != 0);
    let mut out = Vec::with_capacity(layout.samples * layout.pixels());
    for component in components {
        if component.samples().len() != layout.pixels() {
            return Err("a JPEG 2000 frame whose components differ in size".into());
        }
        // The decoder treats all values as unsigned. Where some was lost, they may leave their range.
        let range = 2f32.powi(component.bit_depth().into());
        let shift = if signed { range / 2.0 } else { 0.0 };
        out.extend(component.samples().iter().map(|v| {
            let value = v.round().clamp(0.0, range - 1.0);
            // An unsigned codestream may carry the bits of signed values.
            if signed { value - shift } else { layout.decoded(value as u32) }
        }));
    }
    Ok(out)
}

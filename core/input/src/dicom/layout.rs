//! What describes the pixels: PS3.3 C.7.6.3, and which encodings are read.

use super::attributes::{Object, keyword, optional, required, text};
use super::codec::{Codec, codec_of};
use crate::Said;
use crate::pixels::check_size;
use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// What describes the pixels of every frame.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub rows: usize,
    pub columns: usize,
    /// Samples per pixel: 1 or 3.
    pub samples: usize,
    /// Bits that a sample takes: 8, 16 or 32.
    pub allocated: u32,
    /// Bits of them that are used.
    pub stored: u32,
    /// The highest of those, counted from 0.
    pub high: u32,
    /// Two's complement.
    pub signed: bool,
    /// True if the planes of a colour image stand one after the other.
    pub planar: bool,
    pub colours: Colours,
    pub codec: Codec,
    pub frames: usize,
}

/// `PhotometricInterpretation`, as it matters once a frame is decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Colours {
    /// MONOCHROME1 is inverted, MONOCHROME2 is not.
    Grey { inverted: bool },
    /// Entries of a table of colours.
    Palette,
    /// Red, green, blue.
    Rgb,
    /// Luminance and two colour differences in full range; `halved` if neighbours in a row share the latter.
    Ybr { halved: bool },
}

impl Layout {
    /// Reads and checks the description. `size` is that of the whole file in bytes.
    pub fn of(object: &Object, size: u64) -> Said<Self> {
        for tag in [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA] {
            if object.get(tag).is_some() {
                return Err(format!("floating-point pixels (`{}`) are not supported", keyword(tag)));
            }
        }
        if object.get(tags::ROWS).is_none() && object.get(tags::PIXEL_DATA).is_none() {
            return Err("the DICOM file holds no image (it has neither `Rows` nor `PixelData`)".into());
        }
        let codec = codec_of(object.meta().transfer_syntax())?;
        let (rows, columns) = (required(object, tags::ROWS)?, required(object, tags::COLUMNS)?);
        let samples = required(object, tags::SAMPLES_PER_PIXEL)?;
        let colours = colours(object, samples, codec)?;
        check_size(
            columns.into(),
            rows.into(),
            if colours == Colours::Palette { 3 } else { samples.into() },
        )?;
        let allocated = required(object, tags::BITS_ALLOCATED)?;
        let stored = required(object, tags::BITS_STORED)?;
        let high = optional(object, tags::HIGH_BIT)?.unwrap_or(stored.saturating_sub(1));
        let expect = |ok: bool, tag: Tag, found: u32, expected: &str| {
            if ok { Ok(()) } else { Err(format!("`{}` is {found}, expected {expected}", keyword(tag))) }
        };
        expect(rows > 0, tags::ROWS, rows, "at least 1")?;
        expect(columns > 0, tags::COLUMNS, columns, "at least 1")?;
        expect([8, 16, 32].contains(&allocated), tags::BITS_ALLOCATED, allocated, "8, 16 or 32")?;
        expect((1..=allocated).contains(&stored), tags::BITS_STORED, stored, "1 to `BitsAllocated`")?;
        expect((stored - 1..allocated).contains(&high), tags::HIGH_BIT, high, "`BitsStored` less 1")?;
        let representation = required(object, tags::PIXEL_REPRESENTATION)?;
        expect(representation <= 1, tags::PIXEL_REPRESENTATION, representation, "0 or 1")?;
        let planar = optional(object, tags::PLANAR_CONFIGURATION)?.unwrap_or(0);
        expect(planar <= 1, tags::PLANAR_CONFIGURATION, planar, "0 or 1")?;
        let halved = matches!(colours, Colours::Ybr { halved: true });
        if let Colours::Ybr { .. } = colours {
            expect(stored == 8, tags::BITS_STORED, stored, "8 for luminance and colour differences")?;
        }
        if halved && codec == Codec::Native {
            expect(allocated == 8, tags::BITS_ALLOCATED, allocated, "8 for YBR_FULL_422")?;
            expect(columns.is_multiple_of(2), tags::COLUMNS, columns, "an even number for YBR_FULL_422")?;
        }
        let frames = optional(object, tags::NUMBER_OF_FRAMES)?.unwrap_or(1);
        expect(frames > 0, tags::NUMBER_OF_FRAMES, frames, "at least 1")?;
        let layout = Self {
            rows: rows as usize,
            columns: columns as usize,
            samples: samples as usize,
            allocated,
            stored,
            high,
            signed: representation == 1,
            planar: planar == 1,
            colours,
            codec,
            frames: frames as usize,
        };
        // An encoded frame has at least the header of its item.
        let least = if codec == Codec::Native { layout.frame_bytes() as u64 } else { 8 };
        if least.saturating_mul(frames.into()) > size {
            return Err(format!(
                "truncated, or `NumberOfFrames` is wrong: {frames} frames do not fit into a file of {size} bytes"
            ));
        }
        Ok(layout)
    }

    /// Pixels of a frame.
    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of a frame that is not encoded.
    pub fn frame_bytes(&self) -> usize {
        match self.colours {
            Colours::Ybr { halved: true } if self.codec == Codec::Native => 2 * self.pixels(),
            _ => self.pixels() * self.samples * (self.allocated / 8) as usize,
        }
    }

    /// The value of a sample that a decoder has put into the lowest bits.
    pub fn decoded(&self, raw: u32) -> f32 {
        Self { high: self.stored - 1, ..*self }.value(raw)
    }

    /// The value of a sample's bits.
    pub fn value(&self, raw: u32) -> f32 {
        let unused = 32 - self.stored;
        let bits = raw >> (self.high + 1 - self.stored) << unused;
        if self.signed { (bits.cast_signed() >> unused) as f32 } else { (bits >> unused) as f32 }
    }

    /// The least and the largest value that a sample can have.
    pub fn full(&self) -> (f64, f64) {
        let range = 2f64.powi(self.stored as i32);
        if self.signed { (-range / 2.0, range / 2.0 - 1.0) } else { (0.0, range - 1.0) }
    }
}

fn colours(object: &Object, samples: u32, codec: Codec) -> Said<Colours> {
    let missing = || format!("`{}` is missing", keyword(tags::PHOTOMETRIC_INTERPRETATION));
    let name = text(object, tags::PHOTOMETRIC_INTERPRETATION).ok_or_else(missing)?;
    let (colours, expected) = match name.as_str() {
        "MONOCHROME1" => (Colours::Grey { inverted: true }, 1),
        "MONOCHROME2" => (Colours::Grey { inverted: false }, 1),
        "PALETTE COLOR" => (Colours::Palette, 1),
        "RGB" => (Colours::Rgb, 3),
        "YBR_FULL" => (Colours::Ybr { halved: false }, 3),
        "YBR_FULL_422" => (Colours::Ybr { halved: true }, 3),
        // JPEG 2000's own transformations, which its decoder undoes.
        "YBR_RCT" | "YBR_ICT" if codec == Codec::Jpeg2000 => (Colours::Rgb, 3),
        // A defined term is short and names nobody; anything else is not repeated.
        other => {
            let known =
                ["YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB", "HSV", "ARGB", "CMYK"];
            let shown = known.iter().find(|k| **k == other).map_or("none of the defined terms", |k| k);
            return Err(format!(
                "`PhotometricInterpretation` is {shown}, expected MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL or \
                 YBR_FULL_422 (with JPEG 2000 also YBR_RCT and YBR_ICT)"
            ));
        }
    };
    if samples != expected {
        return Err(format!("`SamplesPerPixel` is {samples}, expected {expected} for {name}"));
    }
    Ok(colours)
}

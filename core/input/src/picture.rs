//! PNG, JPEG, WebP, BMP, GIF, and the usual pages of TIFF.
//!
//! Grey stays one channel, colour three; an alpha channel is dropped. Pixels are taken in the order they are stored (an
//! EXIF orientation is not applied), as the usual training pipelines do. Of an animation the first frame is taken.

use crate::Said;
use crate::pixels::{Pixels, check_size, planes};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Most memory that a decoder may ask for on its way.
const MAX_MEMORY: u64 = 2 << 30;

/// Decodes the content of a file.
pub fn decode(bytes: &[u8], format: ImageFormat) -> Said<Pixels> {
    if format == ImageFormat::Jpeg && !ends_as_jpeg(bytes) {
        return Err("truncated JPEG: its end marker is missing; fetch the file again".into());
    }
    let name = format!("{format:?}").to_uppercase();
    let fail = |e: image::ImageError| format!("not a readable {name} (truncated or damaged?): {e}");
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(fail)?;
    let (w, h) = decoder.dimensions();
    check_size(w.into(), h.into(), decoder.color_type().channel_count().into())?;
    let picture = DynamicImage::from_decoder(decoder).map_err(fail)?;
    let (channels, full, interleaved): (usize, f64, Vec<f32>) = match picture {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => {
            (1, 255.0, picture.into_luma8().iter().map(|v| f32::from(*v)).collect())
        }
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
            (1, 65535.0, picture.into_luma16().iter().map(|v| f32::from(*v)).collect())
        }
        DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) => {
            (3, 255.0, picture.into_rgb8().iter().map(|v| f32::from(*v)).collect())
        }
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => {
            (3, 65535.0, picture.into_rgb16().iter().map(|v| f32::from(*v)).collect())
        }
        other => {
            return Err(format!("pixels of type {:?}, expected 8 or 16 bits per channel", other.color()));
        }
    };
    let shape = (channels, h as usize, w as usize);
    Ok(Pixels::plain(shape, planes(interleaved, channels), Some((0.0, full))))
}

/// True if an end-of-image marker (JPEG), or end of codestream (JPEG 2000), stands near the end; decoders fill what is
/// missing with grey without a word.
pub fn ends_as_jpeg(bytes: &[u8]) -> bool {
    // Some devices pad files or append a little data of their own.
    let tail = &bytes[bytes.len().saturating_sub(4096)..];
    tail.windows(2).any(|w| w == [0xff, 0xd9])
}

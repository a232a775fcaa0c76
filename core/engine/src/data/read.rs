//! Reading one image file.
//!
//! 8-bit values are divided by 255 and 16-bit values by 65535. Grey stays one channel, colour three; an alpha
//! channel is dropped. Pixels are taken in the order they are stored (an EXIF orientation is not applied), as the
//! usual training pipelines do.

use image::{DynamicImage, ImageReader};
use shiftlens_api::{Error, Images, Result};
use std::io::Cursor;
use std::path::Path;

/// Images with a side below this are refused: they are icons, or files that went wrong.
pub const SMALLEST_SIDE: u32 = 8;

/// Reads the file at `path` as `[1, C, H, W]`; with `crop`, its centre square of so many pixels.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Invalid`] as [`decode`] and [`centre`].
pub fn read(path: &Path, crop: Option<usize>) -> Result<Images> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    decode(path, &bytes).and_then(|x| centre(path, x, crop))
}

/// The centre square of `crop` pixels ([`Images::centre`]), or the image as it is without. `path` is only named in messages.
///
/// # Errors
/// [`Error::Invalid`] if a side is shorter than the square's.
pub fn centre(path: &Path, x: Images, crop: Option<usize>) -> Result<Images> {
    let Some(side) = crop else { return Ok(x) };
    x.centre(side).ok_or_else(|| {
        let (h, w) = x.size();
        Error::Invalid(format!(
            "{}: the image is {w}x{h} pixels, `crop` asks for its centre square of {side}",
            path.display()
        ))
    })
}

/// Decodes the content of a file; `path` is only named in messages.
///
/// # Errors
/// [`Error::Invalid`] if it is no image, truncated, too small, or of a pixel type without a fixed range.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Images> {
    let fail = |message: String| Error::Invalid(format!("{}: {message}", path.display()));
    if bytes.is_empty() {
        return Err(fail("the file is empty".into()));
    }
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::io(path, e))?;
    let Some(format) = reader.format() else {
        return Err(fail("not an image: expected PNG, JPEG, TIFF, WebP, BMP or GIF".into()));
    };
    if format == image::ImageFormat::Jpeg && !ends_as_jpeg(bytes) {
        return Err(fail("truncated JPEG: its end marker is missing; fetch the file again".into()));
    }
    let name = format!("{format:?}").to_uppercase();
    let picture =
        reader.decode().map_err(|e| fail(format!("not a readable {name} (truncated or damaged?): {e}")))?;
    let (w, h) = (picture.width(), picture.height());
    if w.min(h) < SMALLEST_SIDE {
        return Err(fail(format!(
            "the image is {w}x{h} pixels, expected at least {SMALLEST_SIDE} on each side"
        )));
    }
    let (channels, interleaved): (usize, Vec<f32>) = match picture {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => {
            (1, picture.into_luma8().iter().map(|v| f32::from(*v) / 255.0).collect())
        }
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
            (1, picture.into_luma16().iter().map(|v| f32::from(*v) / 65535.0).collect())
        }
        DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) => {
            (3, picture.into_rgb8().iter().map(|v| f32::from(*v) / 255.0).collect())
        }
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => {
            (3, picture.into_rgb16().iter().map(|v| f32::from(*v) / 65535.0).collect())
        }
        other => {
            return Err(fail(format!(
                "pixels of type {:?}, expected 8 or 16 bits per channel",
                other.color()
            )));
        }
    };
    let (h, w) = (h as usize, w as usize);
    let data = if channels == 1 {
        interleaved
    } else {
        let mut planes = Vec::with_capacity(interleaved.len());
        for c in 0..channels {
            planes.extend(interleaved.iter().skip(c).step_by(channels));
        }
        planes
    };
    Images::new([1, channels, h, w], data)
}

/// True if an end-of-image marker stands near the end; decoders fill what is missing with grey without a word.
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    // Some devices pad files or append a little data of their own.
    let tail = &bytes[bytes.len().saturating_sub(4096)..];
    tail.windows(2).any(|w| w == [0xff, 0xd9])
}

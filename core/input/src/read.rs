//! Reading one image.

use crate::dicom::Dicom;
use crate::format::{Format, HEAD, recognise};
use crate::pixels::Pixels;
use crate::tiff::Tiff;
use crate::window::Window;
use crate::{Said, picture};
use image::ImageFormat;
use sha2::{Digest, Sha256};
use shiftlens_api::{Error, Images, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// Images of a study with a side below this are refused: they are icons, or files that went wrong.
pub const SMALLEST_SIDE: usize = 8;

/// Larger files are refused: a file is read as a whole.
const LARGEST_FILE: u64 = 4 << 30;

/// One image: a file, or a frame of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Frame (DICOM) or page (TIFF), counted from 1. Left out where the file has one image.
    pub frame: Option<usize>,
}

impl Source {
    /// The only image of a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), frame: None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frame {
            Some(frame) => write!(f, "{}#{frame}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// How images are seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct View {
    /// Which stored values are black and white.
    pub window: Window,
    /// Side of the centre square that is cut out.
    pub crop: Option<usize>,
    /// Images with a shorter side than this are refused.
    pub smallest: usize,
}

/// Reads images. A file of several frames is kept until another is asked for, so that reading one after the other opens it
/// once.
pub struct Reader {
    view: View,
    kept: Option<Open>,
}

/// A file in memory.
struct Open {
    path: PathBuf,
    content: Content,
    sha256: Option<String>,
}

enum Content {
    Picture(Vec<u8>, ImageFormat),
    Tiff(Tiff),
    Dicom(Box<Dicom>),
}

impl Reader {
    /// A reader of images that are seen so.
    pub fn new(view: View) -> Self {
        Self { view, kept: None }
    }

    /// Reads an image as `[1, C, H, W]` in [0, 1], grey or RGB.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Invalid`] if it is no image, truncated, of a kind that is not
    /// supported, too large or too small, has no such frame, or several and none is named.
    pub fn read(&mut self, source: &Source) -> Result<Images> {
        Ok(self.any(source, false)?.0)
    }

    /// The same, and the sha256 of the whole file in hexadecimal digits.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_hashed(&mut self, source: &Source) -> Result<(Images, String)> {
        let (images, sum) = self.any(source, true)?;
        Ok((images, sum.unwrap_or_default()))
    }

    fn any(&mut self, source: &Source, hash: bool) -> Result<(Images, Option<String>)> {
        let path = source.path.as_path();
        let mut open = match self.kept.take().filter(|o| o.path == path && (o.sha256.is_some() || !hash)) {
            Some(open) => open,
            None => {
                let bytes = load(path)?;
                let sha256 = hash.then(|| sum(&bytes));
                let content = Content::open(bytes).map_err(|e| named(source, &e))?;
                Open { path: path.to_owned(), content, sha256 }
            }
        };
        let images = open.content.frame(source.frame).and_then(|pixels| self.view.see(pixels));
        let sha256 = open.sha256.clone();
        self.kept = (open.content.frames() > 1).then_some(open);
        Ok((images.map_err(|e| named(source, &e))?, sha256))
    }
}

fn named(source: &Source, message: &str) -> Error {
    Error::Invalid(format!("{source}: {message}"))
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn load(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > LARGEST_FILE {
        return Err(Error::Invalid(format!(
            "{}: the file has {size} bytes, more than {LARGEST_FILE}: split it",
            path.display()
        )));
    }
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

impl Content {
    fn open(bytes: Vec<u8>) -> Said<Self> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        match recognise(&bytes[..bytes.len().min(HEAD)]) {
            Some(Format::Dicom) => Ok(Self::Dicom(Box::new(Dicom::open(&bytes)?))),
            Some(Format::Tiff) => Ok(Self::Tiff(Tiff::open(bytes)?)),
            Some(Format::Picture(format)) => Ok(Self::Picture(bytes, format)),
            None => {
                Err("not an image: expected PNG, JPEG, TIFF, WebP, BMP, GIF, or DICOM with its prefix `DICM`"
                    .into())
            }
        }
    }

    fn frames(&self) -> usize {
        match self {
            Self::Picture(..) => 1,
            Self::Tiff(tiff) => tiff.pages(),
            Self::Dicom(dicom) => dicom.frames(),
        }
    }

    /// A frame, counted from 1; the only one where none is named.
    fn frame(&mut self, frame: Option<usize>) -> Said<Pixels> {
        let frames = self.frames();
        let k = match frame {
            Some(k) if (1..=frames).contains(&k) => k - 1,
            Some(k) => return Err(format!("frame {k} of a file that has {frames}, counted from 1")),
            None if frames == 1 => 0,
            None => return Err(format!("the file has {frames} frames: name one")),
        };
        match self {
            Self::Picture(bytes, format) => picture::decode(bytes, *format),
            Self::Tiff(tiff) => tiff.page(k),
            Self::Dicom(dicom) => dicom.frame(k),
        }
    }
}

impl View {
    fn see(&self, mut pixels: Pixels) -> Said<Images> {
        let (w, h) = (pixels.width, pixels.height);
        if w.min(h) < self.smallest {
            return Err(format!(
                "the image is {w}x{h} pixels, expected at least {} on each side",
                self.smallest
            ));
        }
        self.window.apply(&mut pixels)?;
        let shape = [1, pixels.channels, h, w];
        let images = Images::new(shape, pixels.values).map_err(|e| e.to_string())?;
        match self.crop {
            None => Ok(images),
            Some(side) => images.centre(side).ok_or_else(|| {
                format!("the image is {w}x{h} pixels, `crop` asks for its centre square of {side}")
            }),
        }
    }
}

/// Reads a mask as `[1, 1, H, W]`: 1 wherever a value is not 0, 0 elsewhere; with `crop`, its centre square. The values are
/// those that the file stores, whatever they look like.
///
/// # Errors
/// As [`Reader::read`], and if the mask has colours.
pub fn read_mask(source: &Source, crop: Option<usize>) -> Result<Images> {
    let pixels = || {
        let mut content = Content::open(load(&source.path)?).map_err(|e| named(source, &e))?;
        content.frame(source.frame).map_err(|e| named(source, &e))
    };
    let mut pixels = pixels()?;
    if pixels.channels != 1 {
        return Err(named(source, &format!("a mask of {} channels, expected 1", pixels.channels)));
    }
    pixels.values.iter_mut().for_each(|v| *v = f32::from(u8::from(*v != 0.0)));
    let seen = Pixels::plain((1, pixels.height, pixels.width), pixels.values, Some((0.0, 1.0)));
    View { crop, ..View::default() }.see(seen).map_err(|e| named(source, &e))
}

#[cfg(test)]
mod tests;

//! What a file is, by its first bytes.

use image::ImageFormat;
use std::path::Path;

/// Endings of the files that a folder is searched for. Files without one, or with a number for one (names of DICOM files
/// are often identifiers such as `1.2.840.113619.2.55`), are looked into.
pub const EXTENSIONS: [&str; 11] =
    ["png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp", "gif", "dcm", "dicom", "ima"];

/// As many bytes of a file's begin as [`recognise`] looks at.
pub const HEAD: usize = 132;

/// What can be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    /// PS3.10 of the DICOM standard.
    Dicom,
    /// TIFF, which has pages and more types of pixels than the others.
    Tiff,
    /// One picture of 8 or 16 bits.
    Picture(ImageFormat),
}

/// The format of a file that begins with `head`.
pub fn recognise(head: &[u8]) -> Option<Format> {
    // PS3.10, section 7.1: a preamble of 128 bytes, then the prefix. Some programs leave the preamble out.
    if head.get(128..HEAD) == Some(b"DICM") || head.starts_with(b"DICM") {
        return Some(Format::Dicom);
    }
    match image::guess_format(head).ok()? {
        ImageFormat::Tiff => Some(Format::Tiff),
        f @ (ImageFormat::Png
        | ImageFormat::Jpeg
        | ImageFormat::WebP
        | ImageFormat::Bmp
        | ImageFormat::Gif) => Some(Format::Picture(f)),
        _ => None,
    }
}

/// The first bytes of a file.
pub fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut head = Vec::with_capacity(HEAD);
    std::fs::File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn ending(path: &Path) -> Option<String> {
    path.extension().map(|e| e.to_string_lossy().to_lowercase())
}

/// True if the last part of the name is no ending but part of an identifier, or there is none.
pub fn is_bare(path: &Path) -> bool {
    ending(path).is_none_or(|e| !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit()))
}

/// True if a search of folders takes the file. A `DICOMDIR` is a directory of other files and has no image.
pub fn is_image(path: &Path) -> bool {
    if is_bare(path) {
        let directory = path.file_name().is_some_and(|n| n.eq_ignore_ascii_case("DICOMDIR"));
        return !directory && head(path).is_ok_and(|head| recognise(&head).is_some());
    }
    ending(path).is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// True if a file's name says that it holds one picture only, so that nobody has to look into it.
pub fn is_single(path: &Path) -> bool {
    ending(path).is_some_and(|e| ["png", "jpg", "jpeg", "webp", "bmp", "gif"].contains(&e.as_str()))
}

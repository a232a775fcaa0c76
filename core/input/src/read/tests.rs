use super::*;
use crate::testing::{bytes, bytes_of, dicom, text};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use image::DynamicImage;

const STUDY: View = View { window: Window::File, crop: None, smallest: SMALLEST_SIDE };

fn name() -> Source {
    Source::file("knee.png")
}

fn decode_as(view: View, frame: Option<usize>, content: &[u8]) -> Result<Images> {
    let source = Source { frame, ..name() };
    Content::open(content.to_vec())
        .and_then(|mut c| c.frame(frame))
        .and_then(|pixels| view.see(pixels))
        .map_err(|e| named(&source, &e))
}

fn decode(content: &[u8]) -> Result<Images> {
    decode_as(STUDY, None, content)
}

fn grey8() -> DynamicImage {
    DynamicImage::ImageLuma8(image::GrayImage::from_fn(12, 9, |x, y| image::Luma([(x * 20 + y) as u8])))
}

#[test]
fn every_format_keeps_values_and_channels() {
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
        let x = decode(&bytes_of(&grey8(), format)).unwrap();
        let [n, c, h, w] = x.shape();
        assert_eq!((n, h, w), (1, 9, 12));
        let grey = x.with_channels(1).unwrap();
        assert!((grey.as_slice()[12 + 3] - 61.0 / 255.0).abs() < 1e-6, "{format:?} with {c} channels");
    }
    let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_fn(8, 8, |x, _| image::Rgb([x as u8, 100, 200])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let x = decode(&bytes_of(&rgb, format)).unwrap();
        assert_eq!(x.shape(), [1, 3, 8, 8]);
        assert_eq!(x.as_slice()[5], 5.0 / 255.0);
        assert_eq!(x.as_slice()[64], 100.0 / 255.0);
        assert_eq!(x.as_slice()[128], 200.0 / 255.0);
    }
    let jpeg = decode(&bytes_of(&grey8(), ImageFormat::Jpeg)).unwrap();
    assert_eq!(jpeg.shape(), [1, 1, 9, 12]);
    assert_eq!(decode(&bytes_of(&rgb, ImageFormat::Gif)).unwrap().shape(), [1, 3, 8, 8]);
}

#[test]
fn sixteen_bits_are_scaled_by_65535_or_a_window() {
    let grey = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(8, 8, image::Luma([13_107u16])));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let content = bytes_of(&grey, format);
        let x = decode(&content).unwrap();
        assert!(x.channels() == 1 && x.as_slice().iter().all(|v| (v - 0.2).abs() < 1e-6));
        let window = Window::Range { low: 13_000.0, high: 13_200.0 };
        let x = decode_as(View { window, ..STUDY }, None, &content).unwrap();
        assert!(x.as_slice().iter().all(|v| (v - 0.535).abs() < 1e-6), "{format:?}");
    }
    let rgb =
        DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(8, 8, image::Rgb([65_535u16, 0, 13_107])));
    let x = decode(&bytes_of(&rgb, ImageFormat::Png)).unwrap();
    assert!((x.as_slice()[0], x.as_slice()[64]) == (1.0, 0.0) && (x.as_slice()[128] - 0.2).abs() < 1e-6);
}

#[test]
fn bad_files_say_what_is_wrong() {
    let message = |content: &[u8]| decode(content).unwrap_err().to_string();
    assert!(message(b"").contains("knee.png: the file is empty"));
    assert!(message(b"hello, this is text").contains("not an image"));
    for format in
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::WebP]
    {
        let big = DynamicImage::ImageRgb8(image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 37 % 251) as u8, (y * 91 % 241) as u8, (x * y) as u8])
        }));
        let whole = bytes_of(&big, format);
        assert!(decode(&whole).is_ok(), "{format:?}");
        let cut = message(&whole[..whole.len() / 2]);
        assert!(cut.contains("truncated"), "{format:?}: {cut}");
    }
    let dot = DynamicImage::ImageLuma8(image::GrayImage::new(1, 1));
    assert!(message(&bytes_of(&dot, ImageFormat::Png)).contains("1x1 pixels, expected at least 8"));
    let absent = Source::file("/nowhere/at/all.png");
    assert!(matches!(Reader::new(STUDY).read(&absent), Err(Error::Io { .. })));
    // A header of 20 bytes that claims 40000 x 40000 pixels.
    let mut bomb = bytes_of(&dot, ImageFormat::Bmp);
    bomb[18..22].copy_from_slice(&40_000u32.to_le_bytes());
    bomb[22..26].copy_from_slice(&40_000u32.to_le_bytes());
    assert!(message(&bomb).contains("40000x40000 pixels of 3 channels are more than"), "{}", message(&bomb));
}

#[test]
fn the_centre_square_is_cut_out_of_every_channel() {
    // Pixel (y, x) of channel c is 100 c + 10 y + x, in thousandths.
    let at = |c: usize, y: usize, x: usize| (100 * c + 10 * y + x) as f32 / 1000.0;
    let values = || (0..3 * 8 * 9).map(|p| at(p / 72, p % 72 / 9, p % 9)).collect();
    let see = |crop| View { crop, ..STUDY }.see(Pixels::plain((3, 8, 9), values(), Some((0.0, 1.0))));
    let cut = see(Some(4)).unwrap();
    assert_eq!(cut.shape(), [1, 3, 4, 4]);
    for (p, v) in cut.as_slice().iter().enumerate() {
        assert_eq!(*v, at(p / 16, p % 16 / 4 + 2, p % 4 + 2));
    }
    assert_eq!(see(None).unwrap().as_slice(), values().as_slice() as &[f32]);
    let message = see(Some(9)).unwrap_err();
    assert!(message.contains("the image is 9x8 pixels, `crop` asks for its centre square of 9"), "{message}");
}

/// A TIFF of pages with one strip each: values as bytes, bits, and format of samples (1 unsigned, 2 signed, 3 float).
fn tiff(pages: &[(&[u8], u16, u16, u32)]) -> Vec<u8> {
    let mut out = b"II\x2a\x00\x08\x00\x00\x00".to_vec();
    for (i, (data, bits, format, subfile)) in pages.iter().enumerate() {
        let side = 8u32;
        let entries: [(u16, u16, u32); 11] = [
            (254, 4, *subfile),
            (256, 4, side),
            (257, 4, side),
            (258, 3, (*bits).into()),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, out.len() as u32 + 2 + 11 * 12 + 4),
            (277, 3, 1),
            (278, 4, side),
            (279, 4, data.len() as u32),
            (339, 3, (*format).into()),
        ];
        out.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, value) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend(1u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        let next = if i + 1 < pages.len() { out.len() + 4 + data.len() } else { 0 };
        out.extend((next as u32).to_le_bytes());
        out.extend(*data);
    }
    out
}

#[test]
fn tiff_has_pages_and_types_of_its_own() {
    let eight: Vec<u8> = (0..64).collect();
    let signed: Vec<u8> = (0..64i16).flat_map(|v| (v - 20).to_le_bytes()).collect();
    let float: Vec<u8> = (0..64).flat_map(|v| (v as f32 / 4.0 - 1.0).to_le_bytes()).collect();
    let content =
        tiff(&[(&eight, 8, 1, 0), (&eight[32..], 4, 1, 1), (&signed, 16, 2, 0), (&float, 32, 3, 0)]);
    // The second page is a reduced version and does not count.
    let open = Content::open(content.clone()).unwrap();
    assert_eq!(open.frames(), 3);
    let x = decode_as(STUDY, Some(1), &content).unwrap();
    assert_eq!(x.as_slice()[9], 9.0 / 255.0);
    for (page, low, high, expected) in [(2, -20.0, 43.0, 9.0 / 63.0), (3, 0.0, 2.5, 0.5)] {
        let x =
            decode_as(View { window: Window::Range { low, high }, ..STUDY }, Some(page), &content).unwrap();
        assert!((x.as_slice()[9] - expected).abs() < 1e-6, "page {page}: {}", x.as_slice()[9]);
        let message = decode_as(STUDY, Some(page), &content).unwrap_err().to_string();
        assert!(message.contains("no range of their own: set `window`"), "{message}");
    }
    let message = |frame| decode_as(STUDY, frame, &content).unwrap_err().to_string();
    assert!(message(None).contains("the file has 3 frames: name one"));
    assert!(message(Some(4)).contains("knee.png#4: frame 4 of a file that has 3"));
    let nan = f32::NAN.to_le_bytes().repeat(64);
    let window = View { window: Window::MinMax, ..STUDY };
    let message = decode_as(window, None, &tiff(&[(&nan, 32, 3, 0)])).unwrap_err().to_string();
    assert!(message.contains("pixel 0 is NaN"), "{message}");
}

#[test]
fn a_file_of_frames_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("us");
    let write = |first: u8| {
        let more = vec![
            text(tags::NUMBER_OF_FRAMES, VR::IS, "2"),
            bytes(tags::PIXEL_DATA, &[vec![first; 64], vec![255; 64]].concat()),
        ];
        std::fs::write(&path, dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (8, 8), 8, more)).unwrap();
    };
    let source = |frame| Source { path: path.clone(), frame: Some(frame) };
    write(0);
    let mut reader = Reader::new(STUDY);
    assert_eq!(reader.read(&source(2)).unwrap().as_slice()[0], 1.0);
    write(255);
    assert_eq!(reader.read(&source(1)).unwrap().as_slice()[0], 0.0, "kept");
    assert_eq!(Reader::new(STUDY).read(&source(1)).unwrap().as_slice()[0], 1.0);
    let (_, sum) = reader.read_hashed(&source(1)).unwrap();
    assert_eq!(sum, super::sum(&std::fs::read(&path).unwrap()));
}

#[test]
fn masks_are_where_values_are_not_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.png");
    let mask = image::GrayImage::from_fn(10, 9, |x, y| image::Luma([u8::from(x == 4 && y > 2) * 3]));
    mask.save(&path).unwrap();
    let found = read_mask(&Source::file(&path), Some(3)).unwrap();
    // The centre square begins at row 3, column 3.
    assert_eq!(found.as_slice(), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    image::RgbImage::new(8, 8).save(&path).unwrap();
    let message = read_mask(&Source::file(&path), None).unwrap_err().to_string();
    assert!(message.contains("a mask of 3 channels, expected 1"), "{message}");
}

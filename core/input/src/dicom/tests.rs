use super::*;
use crate::testing::{bytes, bytes_of, dicom, fragments, sequence, short, text, words};
use crate::window::Window;
use dicom_core::VR;
use dicom_dictionary_std::uids;
use dicom_object::mem::InMemElement;
use image::{DynamicImage, ImageFormat};

/// Brightness of frame `k` as a study sees it.
fn shown(file: &[u8], k: usize) -> Vec<f32> {
    let mut pixels = Dicom::open(file).unwrap().frame(k).unwrap();
    Window::File.apply(&mut pixels).unwrap();
    pixels.values
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - b).abs() < 2e-6, "value {i}: {a}, expected {b}");
    }
}

fn refused(file: &[u8]) -> String {
    Dicom::open(file).and_then(|d| d.frame(0)).and_then(|mut p| Window::File.apply(&mut p)).unwrap_err()
}

fn pixels(values: &[u16]) -> InMemElement {
    words(tags::PIXEL_DATA, VR::OW, values)
}

fn stored(bits: u16) -> [InMemElement; 2] {
    [short(tags::BITS_STORED, bits), short(tags::HIGH_BIT, bits - 1)]
}

#[test]
fn every_uncompressed_syntax_holds_the_same_values() {
    let values: Vec<u16> = (0..72).map(|i| i * 57).collect();
    let expected: Vec<f64> = values.iter().map(|v| f64::from(*v) / 4095.0).collect();
    for syntax in [uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::EXPLICIT_VR_LITTLE_ENDIAN, codec::BIG_ENDIAN] {
        let mut more = vec![pixels(&values)];
        more.extend(stored(12));
        let file = dicom(syntax, (8, 9), 16, more.clone());
        let frame = Dicom::open(&file).unwrap().frame(0).unwrap();
        assert_eq!((frame.height, frame.width), (8, 9));
        close(&shown(&file, 0), &expected);
        // Without its preamble the file is still one.
        close(&shown(&file[128..], 0), &expected);
        more.push(text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"));
        let inverted: Vec<f64> = expected.iter().map(|v| 1.0 - v).collect();
        close(&shown(&dicom(syntax, (8, 9), 16, more), 0), &inverted);
    }
}

#[test]
fn signed_values_are_rescaled_and_windowed() {
    // Stored in 12 bits of 16; the bits above are not the value's.
    let raw = [0xf000 | (0x1000 - 100), 0x7000, 20, 0x2000 | 120, 0x0800, 0x07ff];
    let hounsfield = [-201.0, -1.0, 39.0, 239.0, -4097.0, 4093.0];
    let mut more = vec![
        pixels(&raw),
        short(tags::PIXEL_REPRESENTATION, 1),
        text(tags::RESCALE_SLOPE, VR::DS, "2 "),
        text(tags::RESCALE_INTERCEPT, VR::DS, "-1"),
    ];
    more.extend(stored(12));
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (2, 3), 16, more.clone());
    let frame = Dicom::open(&file).unwrap().frame(0).unwrap();
    close(&frame.values, &hounsfield);
    assert_eq!(frame.full, Some((-4097.0, 4093.0)));
    // PS3.3 C.11.2.1.2.1 with c = 40, w = 400: black up to -160, white above 239. The first of two windows counts.
    more.push(text(tags::WINDOW_CENTER, VR::DS, "40\\-600"));
    more.push(text(tags::WINDOW_WIDTH, VR::DS, "400\\1500"));
    let linear = |x: f64| ((x - 39.5) / 399.0 + 0.5).clamp(0.0, 1.0);
    let expected = [0.0, linear(-1.0), linear(39.0), 1.0, 0.0, 1.0];
    close(&shown(&dicom(uids::IMPLICIT_VR_LITTLE_ENDIAN, (2, 3), 16, more.clone()), 0), &expected);
    more.push(text(tags::VOILUT_FUNCTION, VR::CS, "SIGMOID"));
    let expected = hounsfield.map(|x| 1.0 / (1.0 + (-4.0 * (x - 40.0) / 400.0).exp()));
    close(&shown(&dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (2, 3), 16, more.clone()), 0), &expected);
    // A slope below 0 turns the range over.
    more.retain(|e| e.header().tag != tags::WINDOW_CENTER);
    more.push(text(tags::RESCALE_SLOPE, VR::DS, "-1"));
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (2, 3), 16, more);
    assert_eq!(Dicom::open(&file).unwrap().frame(0).unwrap().full, Some((-2048.0, 2047.0)));
}

#[test]
fn bits_may_stand_above_the_lowest_and_be_32() {
    let mut more = vec![pixels(&[0x1230, 0xffff]), short(tags::BITS_STORED, 12), short(tags::HIGH_BIT, 15)];
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 16, more.clone());
    close(&Dicom::open(&file).unwrap().frame(0).unwrap().values, &[f64::from(0x123), 4095.0]);
    more = vec![pixels(&[0x0001, 0x0002, 0xffff, 0xffff]), short(tags::PIXEL_REPRESENTATION, 1)];
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 32, more);
    close(&Dicom::open(&file).unwrap().frame(0).unwrap().values, &[131_073.0, -1.0]);
}

#[test]
fn frames_are_read_one_by_one() {
    let values: Vec<u8> = (0..27).collect();
    let more = vec![
        text(tags::NUMBER_OF_FRAMES, VR::IS, "3"),
        bytes(tags::PIXEL_DATA, &[&values[..], &[0]].concat()),
    ];
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (3, 3), 8, more);
    let open = Dicom::open(&file).unwrap();
    assert_eq!(open.frames(), 3);
    for k in 0..3 {
        let expected: Vec<f64> = (0..9).map(|i| f64::from(9 * k as u32 + i)).collect();
        close(&open.frame(k).unwrap().values, &expected);
    }

    // Enhanced multi-frame: what differs stands in a frame's own group, what does not in the shared one.
    let group = |sequence_tag, elements| sequence(sequence_tag, vec![elements]);
    let rescale = |intercept: &str| {
        let elements =
            vec![text(tags::RESCALE_SLOPE, VR::DS, "1"), text(tags::RESCALE_INTERCEPT, VR::DS, intercept)];
        vec![group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, elements)]
    };
    let window = vec![
        text(tags::WINDOW_CENTER, VR::DS, "15"),
        text(tags::WINDOW_WIDTH, VR::DS, "20"),
        text(tags::VOILUT_FUNCTION, VR::CS, "LINEAR_EXACT"),
    ];
    let more = vec![
        text(tags::NUMBER_OF_FRAMES, VR::IS, "2"),
        bytes(tags::PIXEL_DATA, &[5, 10, 15, 20]),
        sequence(
            tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            vec![vec![group(tags::FRAME_VOILUT_SEQUENCE, window)]],
        ),
        sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, vec![rescale("0"), rescale("-10")]),
    ];
    let file = dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 8, more);
    close(&shown(&file, 0), &[0.0, 0.25]);
    close(&shown(&file, 1), &[0.0, 0.25]);
}

/// Runs of one, PS3.5 G.3: every byte is a literal of its own.
fn rle(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0] = segments.len() as u8;
    for (i, segment) in segments.iter().enumerate() {
        let at = out.len() as u32;
        out[4 + 4 * i..8 + 4 * i].copy_from_slice(&at.to_le_bytes());
        out.extend(segment);
    }
    out
}

#[test]
fn run_lengths_are_unpacked() {
    // The example of Apple's Technical Note TN1023, which defines PackBits: 15 bytes for 24; -128 does nothing.
    let packed =
        [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0x80, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
    let unpacked: [u8; 24] = [
        0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa,
        0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
    ];
    let frame = rle(&[packed.to_vec()]);
    let more = vec![fragments(&[], &[&frame])];
    let file = dicom(uids::RLE_LOSSLESS, (4, 6), 8, more);
    close(&Dicom::open(&file).unwrap().frame(0).unwrap().values, &unpacked.map(f64::from));

    // 16 bits: a segment of high bytes, one of low ones. Two frames, the first in two fragments.
    let literal = |values: &[u8]| values.iter().flat_map(|v| [0, *v]).collect::<Vec<u8>>();
    let frame = |high: &[u8], low: &[u8]| rle(&[literal(high), literal(low)]);
    let (first, second) = (frame(&[1, 2], &[3, 4]), frame(&[5, 6], &[7, 8]));
    let (a, b) = first.split_at(66);
    let more = vec![
        text(tags::NUMBER_OF_FRAMES, VR::IS, "2"),
        fragments(&[0, first.len() as u32 + 16], &[a, b, &second]),
    ];
    let file = dicom(uids::RLE_LOSSLESS, (1, 2), 16, more);
    let open = Dicom::open(&file).unwrap();
    close(&open.frame(0).unwrap().values, &[f64::from(0x103), f64::from(0x204)]);
    close(&open.frame(1).unwrap().values, &[f64::from(0x507), f64::from(0x608)]);

    let broken =
        |frame: &[u8]| refused(&dicom(uids::RLE_LOSSLESS, (1, 2), 16, vec![fragments(&[], &[frame])]));
    assert!(broken(&first[..64]).contains("RLE segment 1 lies outside its frame"));
    assert!(broken(&first[..first.len() - 2]).contains("truncated: RLE segment 2 has 1 bytes, expected 2"));
    assert!(broken(&first[..2]).contains("the RLE header has 64 bytes"));
    assert!(broken(&rle(&[vec![0, 1]])).contains("names 1 segments, expected 2"));
}

fn colour(interpretation: &str, planar: u16, values: &[u8]) -> Vec<InMemElement> {
    vec![
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, interpretation),
        short(tags::SAMPLES_PER_PIXEL, 3),
        short(tags::PLANAR_CONFIGURATION, planar),
        bytes(tags::PIXEL_DATA, values),
    ]
}

#[test]
fn colours_become_red_green_and_blue() {
    let file = |more| dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 8, more);
    let expected = [255.0, 1.0, 100.0, 2.0, 0.0, 3.0].map(|v| v / 255.0);
    close(&shown(&file(colour("RGB", 0, &[255, 100, 0, 1, 2, 3])), 0), &expected);
    close(&shown(&file(colour("RGB", 1, &[255, 1, 100, 2, 0, 3])), 0), &expected);
    // Full-range red and green of ITU-R BT.601, rounded; a halved pair shares its colour differences.
    let near = |found: &[f32], expected: [f64; 6]| {
        assert!(
            found.iter().zip(expected).all(|(a, b)| (f64::from(*a) * 255.0 - b).abs() < 1.1),
            "{found:?}"
        );
    };
    let clamped = |more| shown(&file(more), 0).iter().map(|v| v.clamp(0.0, 1.0)).collect::<Vec<f32>>();
    near(&clamped(colour("YBR_FULL", 0, &[76, 85, 255, 150, 44, 21])), [255.0, 0.0, 0.0, 255.0, 0.0, 1.0]);
    near(&clamped(colour("YBR_FULL_422", 0, &[76, 76, 85, 255])), [255.0, 255.0, 0.0, 0.0, 0.0, 0.0]);

    let table = |values: &[u16]| values.to_vec();
    let palette = vec![
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"),
        words(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, VR::US, &[2, 5, 16]),
        words(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, VR::US, &[2, 5, 16]),
        words(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, VR::US, &[2, 5, 16]),
        words(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &table(&[0, 65_535])),
        words(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &table(&[13_107, 0])),
        words(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, VR::OW, &table(&[65_535, 26_214])),
        // Below the first entry, and its neighbour.
        bytes(tags::PIXEL_DATA, &[0, 6]),
    ];
    close(&shown(&file(palette), 0), &[0.0, 1.0, 0.2, 0.0, 1.0, 0.4]);
    assert!(
        refused(&file(colour("YBR_PARTIAL_420", 0, &[0; 6])))
            .contains("is YBR_PARTIAL_420, expected MONOCHROME1")
    );
    assert!(refused(&file(colour("MONOCHROME2", 0, &[0; 6]))).contains("`SamplesPerPixel` is 3, expected 1"));
}

#[test]
fn tables_stand_for_rescaling_and_windows() {
    let lut = |descriptor: &[u16], data: &[u16]| {
        vec![words(tags::LUT_DESCRIPTOR, VR::US, descriptor), words(tags::LUT_DATA, VR::OW, data)]
    };
    let file = |more: Vec<InMemElement>| {
        let more = [vec![bytes(tags::PIXEL_DATA, &[9, 10, 11, 200])], more].concat();
        dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 4), 8, more)
    };
    let modality = sequence(tags::MODALITY_LUT_SEQUENCE, vec![lut(&[3, 10, 12], &[7, 4000, 4095])]);
    let frame = Dicom::open(&file(vec![modality.clone()])).unwrap().frame(0).unwrap();
    close(&frame.values, &[7.0, 7.0, 4000.0, 4095.0]);
    assert_eq!(frame.full, Some((0.0, 4095.0)));
    // Values of interest: bytes, two to a word.
    let voi = sequence(tags::VOILUT_SEQUENCE, vec![lut(&[4, 9, 8], &[0xff00, 0x1133])]);
    close(&shown(&file(vec![voi.clone()]), 0), &[0.0, 1.0, 0.2, f64::from(0x11) / 255.0]);
    let short_table = sequence(tags::VOILUT_SEQUENCE, vec![lut(&[5, 9, 16], &[1, 2, 3, 4])]);
    let message = refused(&file(vec![short_table]));
    assert!(message.contains("`LUTData` has") && message.contains("`LUTDescriptor` says, 5"), "{message}");
}

#[test]
fn jpeg_frames_are_those_of_another_decoder() {
    let grey = DynamicImage::ImageLuma8(image::GrayImage::from_fn(24, 16, |x, y| {
        image::Luma([(9 * x + 3 * y) as u8])
    }));
    let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([(10 * x) as u8, (15 * y) as u8, 255 - (5 * (x + y)) as u8])
    }));
    for (picture, interpretation, samples) in [(&grey, "MONOCHROME2", 1), (&rgb, "YBR_FULL_422", 3)] {
        let mut frame = bytes_of(picture, ImageFormat::Jpeg);
        let other = image::load_from_memory(&frame).unwrap();
        let truth: Vec<f32> = match samples {
            1 => other.to_luma8().iter().map(|v| f32::from(*v) / 255.0).collect(),
            _ => {
                let flat = other.to_rgb8();
                (0..3)
                    .flat_map(|c| {
                        flat.iter().skip(c).step_by(3).map(|v| f32::from(*v) / 255.0).collect::<Vec<_>>()
                    })
                    .collect()
            }
        };
        let make = |frame: &[u8], interpretation: &str| {
            let more = vec![
                text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, interpretation),
                short(tags::SAMPLES_PER_PIXEL, samples),
                short(tags::PLANAR_CONFIGURATION, 0),
                fragments(&[], &[frame]),
            ];
            dicom(uids::JPEG_BASELINE8_BIT, (16, 24), 8, more)
        };
        let found = shown(&make(&frame, interpretation), 0);
        let most = found.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == truth.len() && most < 3.0 / 255.0, "{interpretation}: {most}");
        if samples == 3 {
            // What the file says of its colours counts, not what the frame does.
            let kept = shown(&make(&frame, "RGB"), 0);
            let most = kept.iter().zip(&truth).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most > 0.2, "{most}");
        }
        frame.truncate(frame.len() / 2);
        assert!(refused(&make(&frame, interpretation)).contains("truncated JPEG frame"));
    }
    let frame = bytes_of(&grey, ImageFormat::Jpeg);
    let message = refused(&dicom(uids::JPEG_BASELINE8_BIT, (16, 23), 8, vec![fragments(&[], &[&frame])]));
    assert!(
        message.contains("the JPEG frame has 24x16 pixels of 1 samples, the file says 23x16"),
        "{message}"
    );
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let encapsulated = |syntax: &str| refused(&dicom(syntax, (8, 8), 8, vec![fragments(&[], &[&[0; 20]])]));
    assert!(encapsulated(uids::JPEGLS_LOSSLESS).contains("1.2.840.10008.1.2.4.80 (JPEG-LS Lossless"));
    assert!(encapsulated(uids::MPEG2MPML).contains("(MPEG2 Main Profile / Main Level"));
    assert!(encapsulated(uids::JPEG2000).contains("a JPEG 2000 frame without its header"));
    let native = |more| refused(&dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 8, more));
    let two = || bytes(tags::PIXEL_DATA, &[0, 1]);
    assert!(
        native(vec![two(), short(tags::BITS_ALLOCATED, 1)])
            .contains("`BitsAllocated` is 1, expected 8, 16 or 32")
    );
    assert!(native(vec![two(), short(tags::BITS_STORED, 9)]).contains("`BitsStored` is 9, expected 1 to"));
    assert!(native(vec![two(), text(tags::RESCALE_SLOPE, VR::DS, "0")]).contains("`RescaleSlope` is 0"));
    assert!(
        native(vec![two(), text(tags::RESCALE_SLOPE, VR::DS, "x")]).contains("`RescaleSlope` is no number")
    );
    let window = vec![two(), text(tags::WINDOW_CENTER, VR::DS, "0"), text(tags::WINDOW_WIDTH, VR::DS, "0")];
    assert!(native(window).contains("width is 0, expected at least 1; set `window`"));
    assert!(native(vec![]).contains("`PixelData` is missing"));
    assert!(native(vec![bytes(tags::PIXEL_DATA, &[])]).contains("`PixelData`"));
}

#[test]
fn claims_are_weighed_before_memory_is_asked_for() {
    let file = |more| dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 8, more);
    let two = || bytes(tags::PIXEL_DATA, &[0, 1]);
    let frames = file(vec![two(), text(tags::NUMBER_OF_FRAMES, VR::IS, "2000000000")]);
    assert!(refused(&frames).contains("2000000000 frames do not fit into a file of"));
    let huge = file(vec![two(), short(tags::ROWS, 65_535), short(tags::COLUMNS, 65_535)]);
    assert!(refused(&huge).contains("65535x65535 pixels of 1 channels are more than"));
    // The length of the last element: 2 bytes become 3 GB.
    let mut bomb = file(vec![two()]);
    let at = bomb.len() - 6;
    bomb[at..at + 4].copy_from_slice(&3_000_000_000u32.to_le_bytes());
    let message = refused(&bomb);
    assert!(message.contains("`PixelData` (7FE0,0010) claims 3000000000 bytes, 2 are left"), "{message}");
}

const SECRET: &str = "Zebra^Quagga";

#[test]
fn damaged_files_name_what_is_wrong_and_nobody() {
    let frame = rle(&[vec![0, 1, 0, 2, 0, 3, 0, 4]]);
    let person = |syntax: &str, data: InMemElement| {
        let more = vec![
            text(tags::PATIENT_NAME, VR::PN, SECRET),
            text(tags::PATIENT_ID, VR::LO, SECRET),
            text(tags::STUDY_DATE, VR::DA, SECRET),
            text(tags::SERIES_DESCRIPTION, VR::LO, SECRET),
            text(tags::INSTANCE_NUMBER, VR::IS, SECRET),
            sequence(
                tags::REFERENCED_PATIENT_SEQUENCE,
                vec![vec![text(tags::PATIENT_COMMENTS, VR::LT, SECRET)]],
            ),
            text(tags::WINDOW_CENTER, VR::DS, "1"),
            text(tags::WINDOW_WIDTH, VR::DS, "5"),
            data,
        ];
        dicom(syntax, (1, 4), 8, more)
    };
    let see = |file: &[u8]| {
        let found = Dicom::open(file).and_then(|d| d.frame(0)).and_then(|mut p| {
            Window::File.apply(&mut p)?;
            Ok(p)
        });
        let words = format!("{found:?}");
        assert!(!words.contains("Zebra") && !words.contains("Quagga"), "{words}");
        found
    };
    for file in [
        person(uids::EXPLICIT_VR_LITTLE_ENDIAN, bytes(tags::PIXEL_DATA, &[1, 2, 3, 4])),
        person(uids::IMPLICIT_VR_LITTLE_ENDIAN, bytes(tags::PIXEL_DATA, &[1, 2, 3, 4])),
        person(uids::RLE_LOSSLESS, fragments(&[], &[&frame])),
    ] {
        assert!(file.windows(5).any(|w| w == b"Zebra"));
        see(&file).unwrap();
        let mut cut = 0;
        for length in 0..file.len() {
            if let Err(message) = see(&file[..length]) {
                cut += 1;
                assert!(!message.is_empty());
            }
        }
        // All but the delimiters behind the last fragment is needed.
        assert!(cut > file.len() - 20, "{cut} of {}", file.len());
        for at in 128..file.len() {
            let mut damaged = file.clone();
            for bits in [0xff, 0x04] {
                damaged[at] = file[at] ^ bits;
                let _ = see(&damaged);
            }
        }
    }
}

#[test]
fn attributes_are_read_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knee");
    let more = vec![
        text(tags::PATIENT_NAME, VR::PN, SECRET),
        text(tags::PATIENT_AGE, VR::AS, "061Y"),
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY "),
        text(tags::NUMBER_OF_FRAMES, VR::IS, "2"),
        bytes(tags::PIXEL_DATA, &[0; 4]),
    ];
    std::fs::write(&path, dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (1, 2), 8, more)).unwrap();
    let keywords: Vec<Keyword> =
        ["PatientAge", "BodyPartExamined", "ImageType", "Rows"].map(|n| check_keyword(n).unwrap()).into();
    let (frames, values) = header(&path, &keywords).unwrap();
    assert_eq!(frames, 2);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        values,
        [pair("PatientAge", "061Y"), pair("ImageType", "ORIGINAL\\PRIMARY"), pair("Rows", "1")]
    );
    assert!(check_keyword("PatientAgge").unwrap_err().contains("did you mean `PatientAge`?"));
    for wrong in ["PixelData", "PatientAgeless", "SharedFunctionalGroupsSequence", "(0010,0010)"] {
        assert!(check_keyword(wrong).is_err(), "{wrong}");
    }
}

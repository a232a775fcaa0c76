use super::*;
use image::{DynamicImage, ImageFormat};
use shiftlens_api::Images;

fn bytes_of(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn grey8() -> DynamicImage {
    DynamicImage::ImageLuma8(image::GrayImage::from_fn(12, 9, |x, y| image::Luma([(x * 20 + y) as u8])))
}

fn name() -> &'static Path {
    Path::new("knee.png")
}

#[test]
fn every_format_keeps_values_and_channels() {
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
        let x = decode(name(), &bytes_of(&grey8(), format)).unwrap();
        let [n, c, h, w] = x.shape();
        assert_eq!((n, h, w), (1, 9, 12));
        let grey = x.with_channels(1).unwrap();
        assert!((grey.as_slice()[12 + 3] - 61.0 / 255.0).abs() < 1e-6, "{format:?} with {c} channels");
    }
    let rgb = DynamicImage::ImageRgb8(image::RgbImage::from_fn(8, 8, |x, _| image::Rgb([x as u8, 100, 200])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let x = decode(name(), &bytes_of(&rgb, format)).unwrap();
        assert_eq!(x.shape(), [1, 3, 8, 8]);
        assert_eq!(x.as_slice()[5], 5.0 / 255.0);
        assert_eq!(x.as_slice()[64], 100.0 / 255.0);
        assert_eq!(x.as_slice()[128], 200.0 / 255.0);
    }
    let jpeg = decode(name(), &bytes_of(&grey8(), ImageFormat::Jpeg)).unwrap();
    assert_eq!(jpeg.shape(), [1, 1, 9, 12]);
}

#[test]
fn sixteen_bits_are_scaled_by_65535() {
    let grey = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(8, 8, image::Luma([13_107u16])));
    let x = decode(name(), &bytes_of(&grey, ImageFormat::Png)).unwrap();
    assert!(x.channels() == 1 && x.as_slice().iter().all(|v| (v - 0.2).abs() < 1e-6));
    let rgb =
        DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(8, 8, image::Rgb([65_535u16, 0, 13_107])));
    let x = decode(name(), &bytes_of(&rgb, ImageFormat::Png)).unwrap();
    assert!((x.as_slice()[0], x.as_slice()[64]) == (1.0, 0.0) && (x.as_slice()[128] - 0.2).abs() < 1e-6);
}

#[test]
fn bad_files_say_what_is_wrong() {
    let message = |bytes: &[u8]| decode(name(), bytes).unwrap_err().to_string();
    assert!(message(b"").contains("knee.png: the file is empty"));
    assert!(message(b"hello, this is text").contains("not an image"));
    for format in
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::WebP]
    {
        let big = DynamicImage::ImageRgb8(image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 37 % 251) as u8, (y * 91 % 241) as u8, (x * y) as u8])
        }));
        let whole = bytes_of(&big, format);
        assert!(decode(name(), &whole).is_ok(), "{format:?}");
        let cut = message(&whole[..whole.len() / 2]);
        assert!(cut.contains("truncated"), "{format:?}: {cut}");
    }
    let dot = DynamicImage::ImageLuma8(image::GrayImage::new(1, 1));
    assert!(message(&bytes_of(&dot, ImageFormat::Png)).contains("1x1 pixels, expected at least 8"));
    assert!(matches!(read(Path::new("/nowhere/at/all.png"), None), Err(Error::Io { .. })));
}

fn spec(images: ImageSource) -> DataSpec {
    DataSpec { images, root: None, crop: None, labels: None, group: None, limit: None, synthetic: false }
}

#[test]
fn folders_are_sorted_labelled_and_grouped() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["4/9001L.png", "4/9001R.png", "0/9002L.png", "1/9003L.png", "0/.hidden.png", "0/notes.txt"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }
    let mut spec = spec(ImageSource::Folder(dir.path().into()));
    spec.labels =
        Some(Labels { by: LabelBy::Folder, positive: vec!["4".into()], negative: vec!["0".into()] });
    spec.group = Some(GroupBy::FileName(regex::Regex::new(r"^(\d+)[LR]").unwrap()));
    let items = scan(&spec).unwrap();
    let ids: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["9002L", "9003L", "9001L", "9001R"]);
    let labels: Vec<_> = items.iter().map(|i| i.label).collect();
    assert_eq!(labels, [Some(false), None, Some(true), Some(true)]);
    assert_eq!(items[2].group.as_deref(), Some("9001"));
    let count = census(&items);
    assert_eq!((count.images, count.positive, count.negative, count.groups), (4, 2, 1, 3));

    spec.limit = Some(2);
    let ids: Vec<String> = scan(&spec).unwrap().into_iter().map(|i| i.id).collect();
    assert_eq!(ids, ["9002L", "9001L"], "a limit spreads evenly");
}

#[test]
fn csv_names_paths_labels_and_groups() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("knees.csv");
    std::fs::write(&csv, "path,grade,patient\nb.png,4,p1\nsub/a.png, 0 ,p2\nc.png,,\n").unwrap();
    let mut spec = spec(ImageSource::Csv(csv.clone()));
    let by = LabelBy::Column("grade".into());
    spec.labels = Some(Labels { by, positive: vec!["4".into()], negative: vec!["0".into()] });
    spec.group = Some(GroupBy::Column("patient".into()));
    let items = scan(&spec).unwrap();
    assert_eq!(items[1].path, dir.path().join("sub/a.png"));
    assert_eq!(items.iter().map(|i| i.label).collect::<Vec<_>>(), [Some(true), Some(false), None]);
    assert_eq!(items[0].group.as_deref(), Some("p1"));
    assert_eq!(items[2].group, None);

    spec.root = Some("/elsewhere".into());
    assert_eq!(scan(&spec).unwrap()[1].path, Path::new("/elsewhere/sub/a.png"));

    spec.group = Some(GroupBy::Column("patent".into()));
    let message = scan(&spec).unwrap_err().to_string();
    assert!(message.contains("no column `patent`: did you mean `patient`?"), "{message}");
    std::fs::write(&csv, "file\nb.png\n").unwrap();
    assert!(scan(&spec).unwrap_err().to_string().contains("no column `path`"));
}

#[test]
fn globs_and_empty_places() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.png", "a.png", "c.jpg"] {
        std::fs::write(dir.path().join(name), b"x").unwrap();
    }
    let found = scan(&spec(ImageSource::new(dir.path(), "*.png"))).unwrap();
    assert_eq!(found.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(
        scan(&spec(ImageSource::new(dir.path(), "*.bmp")))
            .unwrap_err()
            .to_string()
            .contains("no file matches")
    );
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let empty = scan(&spec(ImageSource::new(dir.path(), "empty"))).unwrap_err().to_string();
    assert!(empty.contains("no image in this folder"));
    assert!(matches!(scan(&spec(ImageSource::new(dir.path(), "absent"))), Err(Error::Io { .. })));
}

#[test]
fn ids_are_safe_and_unique() {
    let paths = ["0/a b.png", "1/a b.png", "1/A B.jpg", "x/ü.png", "x/..a.png", "k.png"].map(Path::new);
    let ids = unique_ids(paths.into_iter());
    assert_eq!(ids, ["0_a-b", "1_a-b", "1_A-B-2", "-", "-.a", "k"]);
    let same = ["k.png", "k.png", "k.png"].map(Path::new);
    assert_eq!(unique_ids(same.into_iter()), ["k", "k-2", "k-3"]);
}

#[test]
fn the_centre_square_is_cut_out_of_every_channel() {
    // Pixel (y, x) of channel c is 100 c + 10 y + x, in thousandths.
    let at = |c: usize, y: usize, x: usize| (100 * c + 10 * y + x) as f32 / 1000.0;
    let data = (0..3 * 8 * 9).map(|p| at(p / 72, p % 72 / 9, p % 9)).collect();
    let x = Images::new([1, 3, 8, 9], data).unwrap();
    let cut = centre(name(), x.clone(), Some(4)).unwrap();
    assert_eq!(cut.shape(), [1, 3, 4, 4]);
    for (p, v) in cut.as_slice().iter().enumerate() {
        assert_eq!(*v, at(p / 16, p % 16 / 4 + 2, p % 4 + 2));
    }
    assert_eq!(centre(name(), x.clone(), None).unwrap(), x);
    let message = centre(name(), x, Some(9)).unwrap_err().to_string();
    assert!(
        message.contains("knee.png: the image is 9x8 pixels, `crop` asks for its centre square of 9"),
        "{message}"
    );
}

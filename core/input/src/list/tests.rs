use super::*;
use crate::read::{Reader, SMALLEST_SIDE, View};
use crate::testing::{bytes, dicom, text};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use std::fs;

fn spec(images: ImageSource) -> DataSpec {
    DataSpec::new(images)
}

fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|i| i.id.as_str()).collect()
}

#[test]
fn folders_are_sorted_labelled_and_grouped() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["4/9001L.png", "4/9001R.png", "0/9002L.png", "1/9003L.png", "0/.hidden.png", "0/notes.txt"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
    let mut spec = spec(ImageSource::Folder(dir.path().into()));
    spec.labels =
        Some(Labels { by: LabelBy::Folder, positive: vec!["4".into()], negative: vec!["0".into()] });
    spec.group = Some(GroupBy::FileName(regex::Regex::new(r"^(\d+)[LR]").unwrap()));
    let items = scan(&spec).unwrap();
    assert_eq!(ids(&items), ["9002L", "9003L", "9001L", "9001R"]);
    let labels: Vec<_> = items.iter().map(|i| i.label).collect();
    assert_eq!(labels, [Some(false), None, Some(true), Some(true)]);
    assert_eq!(items[2].group.as_deref(), Some("9001"));
    let count = census(&items);
    assert_eq!((count.images, count.positive, count.negative, count.groups), (4, 2, 1, 3));

    spec.limit = Some(2);
    assert_eq!(ids(&scan(&spec).unwrap()), ["9002L", "9001L"], "a limit spreads evenly");
}

#[test]
fn csv_names_paths_labels_and_groups() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("knees.csv");
    fs::write(&csv, "path,grade,patient\nb.png,4,p1\nsub/a.png, 0 ,p2\nc.png,,\n").unwrap();
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
    fs::write(&csv, "file\nb.png\n").unwrap();
    assert!(scan(&spec).unwrap_err().to_string().contains("no column `path`"));
    fs::write(&csv, "path,patent,grade\nb.png,p,1\n,p,1\n").unwrap();
    let message = scan(&spec).unwrap_err().to_string();
    assert!(message.contains("knees.csv:3: the column `path` is empty"), "{message}");
}

#[test]
fn globs_and_empty_places() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.png", "a.png", "c.jpg"] {
        fs::write(dir.path().join(name), b"x").unwrap();
    }
    let from = |text: &str| scan(&spec(ImageSource::new(dir.path(), text)));
    assert_eq!(ids(&from("*.png").unwrap()), ["a", "b"]);
    assert!(from("*.bmp").unwrap_err().to_string().contains("no file matches"));
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(from("empty").unwrap_err().to_string().contains("no image in this folder"));
    assert!(sources(&ImageSource::Folder(dir.path().join("empty")), None).unwrap().is_empty());
    assert!(matches!(from("absent"), Err(Error::Io { .. })));
    for list in ["absent.csv", "absent.tsv", "absent.parquet"] {
        assert!(matches!(from(list), Err(Error::Io { .. })), "{list}");
    }
}

/// Columns of text, or of numbers, as a Parquet file.
mod written {
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    pub enum Column {
        Text(Vec<Option<&'static str>>),
        Whole(Vec<i64>),
        Real(Vec<Option<f64>>),
    }

    /// Writes a group of rows for each of `groups`.
    pub fn parquet(path: &Path, schema: &str, groups: &[Vec<Column>], compression: Compression) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        for group in groups {
            let mut rows = file.next_row_group().unwrap();
            for column in group {
                let mut to = rows.next_column().unwrap().unwrap();
                match column {
                    Column::Text(cells) => {
                        let levels: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
                        let values: Vec<ByteArray> =
                            cells.iter().flatten().map(|c| ByteArray::from(*c)).collect();
                        to.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                    }
                    Column::Whole(cells) => {
                        to.typed::<Int64Type>().write_batch(cells, None, None).unwrap();
                    }
                    Column::Real(cells) => {
                        let levels: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
                        let values: Vec<f64> = cells.iter().flatten().copied().collect();
                        to.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
                    }
                }
                to.close().unwrap();
            }
            rows.close().unwrap();
        }
        file.close().unwrap();
    }
}

const SCHEMA: &str = "message knees {
    optional binary site (UTF8);
    required int64 grade;
    optional binary path (UTF8);
    optional double age;
    optional binary raw;
    optional group nested { optional int32 inner; }
}";

#[test]
fn every_kind_of_list_says_the_same() {
    use parquet::basic::{Compression, ZstdLevel};
    use written::Column::{Real, Text, Whole};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("k.csv"), "site,grade,path,age\nA,4,b.png,61\n,0,a.png,70.5\nB,2,c.png,\n").unwrap();
    fs::write(at("k.tsv"), "site\tgrade\tpath\tage\nA\t4\tb.png\t61\n\t0\ta.png\t70.5\nB\t2\tc.png\t\n")
        .unwrap();
    let flat = SCHEMA.replace("    optional group nested { optional int32 inner; }\n", "");
    for (name, compression) in [
        ("k.parquet", Compression::UNCOMPRESSED),
        ("snappy.parquet", Compression::SNAPPY),
        ("gzip.parquet", Compression::GZIP(Default::default())),
        ("zstd.pq", Compression::ZSTD(ZstdLevel::default())),
    ] {
        // Two groups of rows, and a column that nobody asks for.
        let first = vec![
            Text(vec![Some("A"), None]),
            Whole(vec![4, 0]),
            Text(vec![Some("b.png"), Some("a.png")]),
            Real(vec![Some(61.0), Some(70.5)]),
            Text(vec![None, None]),
        ];
        let second = vec![
            Text(vec![Some("B")]),
            Whole(vec![2]),
            Text(vec![Some("c.png")]),
            Real(vec![None]),
            Text(vec![Some("x")]),
        ];
        written::parquet(&at(name), &flat, &[first, second], compression);
    }
    let read = |name: &str| {
        let mut spec = spec(ImageSource::new(dir.path(), name));
        let by = LabelBy::Column("grade".into());
        spec.labels = Some(Labels { by, positive: vec!["4".into()], negative: vec!["0".into()] });
        spec.metadata = vec!["age".into(), "site".into()];
        scan(&spec).unwrap()
    };
    let expected = read("k.csv");
    assert_eq!(ids(&expected), ["b", "a", "c"]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(expected[0].metadata, [pair("age", "61"), pair("site", "A")]);
    assert_eq!(expected[1].metadata, [pair("age", "70.5")]);
    for name in ["k.tsv", "k.parquet", "snappy.parquet", "gzip.parquet", "zstd.pq"] {
        assert_eq!(read(name), expected, "{name}");
    }
}

#[test]
fn parquet_that_does_not_serve_says_why() {
    use parquet::basic::Compression;
    use written::Column::{Text, Whole};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.parquet");
    let schema = "message m { optional binary path (UTF8); required int64 number; }";
    let write = |cells: Vec<Option<&'static str>>| {
        let numbers = Whole((0..cells.len() as i64).collect());
        written::parquet(&path, schema, &[vec![Text(cells), numbers]], Compression::SNAPPY);
    };
    let message = |name: Option<&str>| {
        let mut spec = spec(ImageSource::Parquet(path.clone()));
        spec.group = name.map(|n| GroupBy::Column(n.into()));
        scan(&spec).unwrap_err().to_string()
    };
    write(vec![Some("a.png"), None]);
    assert!(message(None).contains("k.parquet: row 2: the column `path` is empty"), "{}", message(None));
    assert!(message(Some("numbr")).contains("no column `numbr`: did you mean `number`?"));
    write(vec![]);
    assert!(message(None).contains("no rows below the header"));
    write(vec![Some("a.png"); 50]);
    let whole = fs::read(&path).unwrap();
    for length in [0, 3, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            message(None).contains("k.parquet: not a readable Parquet file"),
            "{length}: {}",
            message(None)
        );
    }
    let nested = "message m { required group path { optional int32 inner; } }";
    let list = parquet::schema::parser::parse_message_type(nested).unwrap();
    let file = fs::File::create(&path).unwrap();
    let writer = parquet::file::writer::SerializedFileWriter::new(file, list.into(), Default::default());
    writer.unwrap().close().unwrap();
    assert!(message(None).contains("the column `path` is nested"), "{}", message(None));
}

const SECRET: &str = "Zebra^Quagga";

/// A DICOM file of so many frames of 8 x 8 pixels, each as bright as its number.
fn scan_of(frames: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (1..=frames).flat_map(|f| [f; 64]).collect();
    let more = vec![
        text(tags::PATIENT_NAME, VR::PN, SECRET),
        text(tags::PATIENT_ID, VR::LO, SECRET),
        text(tags::PATIENT_AGE, VR::AS, "061Y"),
        text(tags::BODY_PART_EXAMINED, VR::CS, "KNEE"),
        text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string()),
        bytes(tags::PIXEL_DATA, &pixels),
    ];
    dicom(uids::EXPLICIT_VR_LITTLE_ENDIAN, (8, 8), 8, more)
}

#[test]
fn files_without_an_ending_are_looked_into_and_frames_are_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("1.2.840.55"), scan_of(1)).unwrap();
    fs::write(at("IM01"), scan_of(3)).unwrap();
    fs::write(at("DICOMDIR"), scan_of(1)).unwrap();
    fs::write(at("README"), "DICOM files").unwrap();
    fs::write(at("cut.dcm"), &scan_of(2)[..300]).unwrap();
    let mut spec = spec(ImageSource::Folder(dir.path().into()));
    let items = scan(&spec).unwrap();
    assert_eq!(ids(&items), ["1.2.840.55", "IM01-f1", "IM01-f2", "IM01-f3", "cut"]);
    assert!(!format!("{items:?}").contains("Zebra") && items.iter().all(|i| i.metadata.is_empty()));
    let mut reader = Reader::new(View { smallest: SMALLEST_SIDE, ..View::default() });
    let x = reader.read(&items[2].source()).unwrap();
    assert_eq!(x.as_slice()[0], 2.0 / 255.0);
    // What cannot be read is one image, and says so when it is read.
    let message = reader.read(&items[4].source()).unwrap_err().to_string();
    assert!(message.contains("cut.dcm: truncated or damaged DICOM file"), "{message}");
    assert!(!message.contains("Zebra"));

    spec.metadata = vec!["BodyPartExamined".into(), "PatientAge".into()];
    spec.limit = Some(2);
    let items = scan(&spec).unwrap();
    assert_eq!(ids(&items), ["1.2.840.55", "IM01-f2"]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(items[1].metadata, [pair("BodyPartExamined", "KNEE"), pair("PatientAge", "061Y")]);
    assert!(!format!("{items:?}").contains("Zebra"));
    spec.metadata = vec!["PatientsAge".into()];
    let message = scan(&spec).unwrap_err().to_string();
    assert!(message.contains("metadata: `PatientsAge` is no keyword") && message.contains("`PatientAge`?"));

    let found = sources(&ImageSource::of(dir.path().into()), None).unwrap();
    assert_eq!(found.len(), 5);
    assert_eq!(found[3].to_string(), format!("{}#3", at("IM01").display()));
}

#[test]
fn a_row_may_name_a_frame_a_mask_and_more() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("us.dcm"), scan_of(3)).unwrap();
    let list = at("l.csv");
    fs::write(&list, "path,slice,roi,site\nus.dcm,2,m/2.png,A\nus.dcm,,,B\n").unwrap();
    let mut spec = spec(ImageSource::Csv(list.clone()));
    spec.frame = Some("slice".into());
    spec.mask = Some("roi".into());
    spec.metadata = vec!["PatientAge".into(), "site".into()];
    let items = scan(&spec).unwrap();
    let frames: Vec<_> = items.iter().map(|i| i.frame).collect();
    assert_eq!(frames, [Some(2), Some(1), Some(2), Some(3)], "a row without a frame has all");
    assert_eq!(items[0].mask, Some(at("m/2.png")));
    assert_eq!((items[1].mask.clone(), items[3].id.as_str()), (None, "us-f3"));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(items[2].metadata, [pair("PatientAge", "061Y"), pair("site", "B")]);

    fs::write(&list, "path,slice,roi,site\nus.dcm,0,,\n").unwrap();
    let message = scan(&spec).unwrap_err().to_string();
    assert!(message.contains("l.csv:2: `slice` is \"0\", expected a whole number from 1 on"), "{message}");
    spec.metadata = vec!["sitee".into()];
    let message = scan(&spec).unwrap_err().to_string();
    assert!(message.contains("no keyword") && message.contains("did you mean `site`?"), "{message}");
}

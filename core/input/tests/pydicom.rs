//! DICOM files that pydicom wrote, against what pydicom makes of them (`fixtures/make.py`): rescaling, windows, inversion,
//! run lengths, lossless JPEG, JPEG 2000 of signed values and of colours, frames.

use shiftlens_input::{DataSpec, ImageSource, Reader, scan};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[test]
fn brightness_is_what_pydicom_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).unwrap();
    let mut spec = DataSpec::new(ImageSource::Folder(folder));
    spec.metadata = vec!["BodyPartExamined".into(), "PatientAge".into()];
    let items = scan(&spec).unwrap();
    let ids: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["ct-jpeg2000", "ct-rle", "ct", "dx-jpeg", "dx", "us-f1", "us-f2"]);
    let mut reader = Reader::new(spec.view());
    let mut found: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for item in &items {
        let (x, sum) = reader.read_hashed(&item.source()).unwrap();
        assert_eq!((x.size(), sum.len()), ((10, 12), 64), "{}", item.id);
        let name = item.path.file_name().unwrap().to_str().unwrap();
        found.entry(name.to_owned()).or_default().extend(x.as_slice());
        let copied: Vec<&str> = item.metadata.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(copied, ["KNEE", "061Y"]);
    }
    assert!(found.keys().eq(expected.keys()));
    for (name, values) in &expected {
        assert_eq!(found[name].len(), values.len(), "{name}");
        for (i, (a, b)) in found[name].iter().zip(values).enumerate() {
            assert!((f64::from(*a) - b).abs() < 2e-6, "{name}, value {i}: {a}, expected {b}");
        }
        assert!(values.iter().any(|v| *v > 0.9) && values.iter().any(|v| *v < 0.1), "{name} shows something");
    }
    // Who a file is of leaves it only by the two keywords.
    let said = format!("{items:?}{:?}", reader.read(&shiftlens_input::Source::file(PathBuf::from("absent"))));
    assert!(!said.contains("Doe") && !said.contains("4711"));
}

//! What a hospital has, through the program: a list of DICOM files with frames, and no patient in what comes of it.

use shiftlens_tests::program::{arrays, cases, contents};
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;

const STUDY: &str = r#"schema = 1
name = "inputs"

[data]
images = "list.tsv"
labels = { from = "column", column = "finding", positive = ["yes"], negative = ["no"] }
group = { column = "site" }
metadata = ["BodyPartExamined"]

[predictor]
kind = "onnx"
path = "classifier.onnx"
output = { classes = ["dark", "bright"], target = "bright" }

[[explainer]]
kind = "plugin:gradcam"
params = { method = "hirescam" }

[plugins]
gradcam = "shiftlens_gradcam"
"#;

#[test]
fn frames_of_dicom_files_become_cases_and_patients_stay_behind() {
    let toy = Toy::new();
    for name in ["ct-jpeg2000.dcm", "dx.dcm", "us.dcm"] {
        let from = root().join("core/input/tests/fixtures").join(name);
        std::fs::copy(from, toy.path(name)).unwrap();
    }
    let cut = std::fs::read(toy.path("dx.dcm")).unwrap();
    assert!(cut.windows(8).any(|w| w == b"Doe^Jane") && cut.windows(6).any(|w| w == b"P-4711"));
    std::fs::write(toy.path("cut"), &cut[..cut.len() - 20]).unwrap();
    let list = "path\tfinding\tsite\nct-jpeg2000.dcm\tyes\tA\ndx.dcm\tno\tB\nus.dcm\tyes\tA\ncut\t\tB\n";
    std::fs::write(toy.path("list.tsv"), list).unwrap();
    std::fs::write(toy.manifest(), STUDY).unwrap();
    toy.shiftlens(&["check", "study.toml"]).expect(0).says(&[
        "images 5",
        "labels 3 positive, 1 negative, 1 without",
        "groups 2",
        "first ct-jpeg2000.dcm (12x10, grey)",
    ]);
    let answer = toy
        .run("out")
        .expect(0)
        .says(&["4 images explained, 1 failed", "warning: cut: truncated or damaged DICOM file: `PixelData` (7FE0,0010) claims 240 bytes, 220 are left"]);
    let out = toy.path("out");
    let found = cases(&out);
    let paths: Vec<(&str, &str)> = found.iter().map(|c| (c.id.as_str(), c.path.as_str())).collect();
    assert_eq!(
        paths,
        [("ct-jpeg2000", "ct-jpeg2000.dcm"), ("dx", "dx.dcm"), ("us-f1", "us.dcm#1"), ("us-f2", "us.dcm#2")]
    );
    assert_eq!(found[0].metadata, [("BodyPartExamined".to_owned(), "KNEE".to_owned())]);
    assert_eq!(arrays(&out.join("cases/us-f2/arrays.safetensors"))["x"].shape(), [3, 10, 12]);
    for (name, content) in contents(&out).into_iter().chain([("the terminal".into(), answer.text().into())]) {
        for person in [&b"Doe^"[..], b"^Jane", b"P-4711"] {
            assert!(!content.windows(person.len()).any(|w| w == person), "{name} names the patient");
        }
    }

    // Another window is another run, which sees other pictures of the same files.
    let windowed = ["run", "study.toml", "--out", "out", "--set", "data.window=\"full\""];
    toy.shiftlens(&windowed).expect(1).says(&["another run", "differs in data"]);
    let windowed = ["run", "study.toml", "--out", "two", "--set", "data.window={ low = -300, high = 600 }"];
    toy.shiftlens(&windowed).expect(0).says(&["2 images explained, 3 failed", "`window` is for grey images"]);
    let x = |run: &str| arrays(&toy.path(run).join("cases/ct-jpeg2000/arrays.safetensors"))["x"].clone();
    assert_ne!(x("out").as_slice(), x("two").as_slice());
}

//! `shiftlens generate`: pictures and raw arrays from seeds and codes.

use safetensors::tensor::{Dtype, TensorView};
use shiftlens_tests::program::{Answer, arrays, shiftlens};
use shiftlens_tests::root;
use std::path::{Path, PathBuf};

/// The example generator: 64 x 64 grey pixels, w of 256 values, 10 style inputs.
fn knee() -> String {
    root().join("examples/knee/generator.safetensors").display().to_string()
}

fn generate(folder: &Path, more: &[&str]) -> Answer {
    shiftlens(folder, &[&["generate", &knee()], more].concat())
}

/// Values of one tensor of a file.
#[track_caller]
fn tensor(folder: &Path, file: &str, name: &str, shape: &[usize]) -> Vec<f32> {
    let found = arrays(&folder.join(file)).remove(name).unwrap_or_else(|| panic!("{file} has no `{name}`"));
    assert_eq!(found.shape(), shape, "{file}, {name}");
    found.into_vec()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes a file with one tensor.
fn write(folder: &Path, file: &str, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> PathBuf {
    let view = TensorView::new(dtype, shape.to_vec(), data).unwrap();
    let path = folder.join(file);
    safetensors::serialize_to_file([(name, view)], None, &path).unwrap();
    path
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn pictures_and_raw_values_are_the_same_images() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let seeds = ["--seeds", "3,7-9,100000", "--truncation", "0.7"];
    generate(at, &[&seeds[..], &["--out", "drawn", "--batch", "2"]].concat())
        .expect(0)
        .says(&["5 images in drawn", "images/s"]);
    generate(at, &[&seeds[..], &["--raw", "all.safetensors"]].concat()).expect(0).says(&["5 images in all"]);
    let raw = tensor(at, "all.safetensors", "images", &[5, 1, 64, 64]);
    let mut names: Vec<String> = std::fs::read_dir(at.join("drawn"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected =
        ["seed00003", "seed00007", "seed00008", "seed00009", "seed100000"].map(|n| format!("{n}.png"));
    assert_eq!(names, expected);
    for (name, values) in names.iter().zip(raw.chunks_exact(64 * 64)) {
        let picture = image::open(at.join("drawn").join(name)).unwrap();
        assert_eq!(picture.color(), image::ColorType::L8);
        for (p, v) in picture.into_luma8().into_raw().into_iter().zip(values) {
            // Batches of 2 and of 8 round differently in the last place.
            let grey = 255.0 * (0.5 * v + 0.5).clamp(0.0, 1.0);
            assert!((f32::from(p) - grey).abs() < 0.51, "{name}: {p}, expected {grey}");
        }
    }
    assert!(raw.iter().any(|v| *v > 0.2) && raw.iter().any(|v| *v < -0.2), "flat images prove nothing");
    // A seed is one image, whatever stands beside it.
    generate(at, &["--seeds", "9", "--truncation", "0.7", "--raw", "one.safetensors"]).expect(0);
    let one = tensor(at, "one.safetensors", "images", &[1, 1, 64, 64]);
    assert!(largest(&one, &raw[3 * 64 * 64..4 * 64 * 64]) < 1e-5);
}

#[test]
fn codes_give_the_images_they_were_saved_with() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let same = ["--batch", "3"];
    generate(
        at,
        &[&same[..], &["--seeds", "0-6", "--raw", "a.safetensors", "--save-codes", "w.safetensors"]].concat(),
    )
    .expect(0);
    generate(
        at,
        &[
            &same[..],
            &["--codes", "w.safetensors", "--raw", "b.safetensors", "--save-codes", "v.safetensors"],
        ]
        .concat(),
    )
    .expect(0);
    let a = tensor(at, "a.safetensors", "images", &[7, 1, 64, 64]);
    assert!(a == tensor(at, "b.safetensors", "images", &[7, 1, 64, 64]));
    let w = tensor(at, "w.safetensors", "w", &[7, 256]);
    assert!(w == tensor(at, "v.safetensors", "w", &[7, 256]));

    // W+: the rows of W repeated are W, and another last row changes the image.
    let mut plus: Vec<f32> = w.chunks_exact(256).flat_map(|row| row.repeat(10)).collect();
    plus[10 * 256 + 9 * 256..][..256].iter_mut().for_each(|v| *v = -*v);
    write(at, "plus.safetensors", "w", Dtype::F32, &[7, 10, 256], &bytes(&plus));
    generate(
        at,
        &[
            &same[..],
            &["--codes", "plus.safetensors", "--raw", "c.safetensors", "--save-codes", "u.safetensors"],
        ]
        .concat(),
    )
    .expect(0);
    let c = tensor(at, "c.safetensors", "images", &[7, 1, 64, 64]);
    assert!(plus == tensor(at, "u.safetensors", "w", &[7, 10, 256]));
    for (i, (a, c)) in a.chunks_exact(64 * 64).zip(c.chunks_exact(64 * 64)).enumerate() {
        let off = largest(a, c);
        assert!(if i == 1 { off > 1e-2 } else { off < 1e-5 }, "image {i}: {off:e}");
    }
    generate(at, &["--codes", "plus.safetensors", "--out", "drawn"]).expect(0);
    assert!(at.join("drawn/code00006.png").is_file() && !at.join("drawn/code00007.png").exists());
}

#[test]
fn truncation_and_noise_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let raw = |name: &str, more: &[&str]| {
        let file = format!("{name}.safetensors");
        generate(at, &[&["--seeds", "1-2", "--raw", &file], more].concat()).expect(0);
        let values = tensor(at, &file, "images", &[2, 1, 64, 64]);
        let (a, b) = values.split_at(64 * 64);
        (a.to_vec(), b.to_vec())
    };
    let (a, b) = raw("mean", &["--truncation", "0"]);
    assert!(a == b, "psi 0 leaves the mean image alone");
    let (c, d) = raw("all", &[]);
    assert!(largest(&c, &d) > 0.1 && largest(&a, &c) > 0.1);
    // Three rows truncated to the mean, and the others those of the seed.
    let cut = ["--truncation", "0", "--truncation-cutoff", "3", "--save-codes", "cut_w.safetensors"];
    let (f, _) = raw("cut", &cut);
    assert!(largest(&f, &a) > 1e-2 && largest(&f, &c) > 1e-2);
    let w = tensor(at, "cut_w.safetensors", "w", &[2, 10, 256]);
    let row = |i: usize, l: usize| &w[(i * 10 + l) * 256..][..256];
    assert!(row(0, 0) == row(1, 2) && row(0, 3) == row(0, 9) && row(0, 3) != row(1, 3));
    let (e, _) = raw("none", &["--noise", "none"]);
    let off = largest(&c, &e);
    assert!(off > 1e-3, "noise changes nothing: {off:e}");
}

/// Images of the reference implementation, through import and generation.
#[test]
fn images_are_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let fixtures = root().join("core/stylegan2/tests/fixtures");
    let network = fixtures.join("g32_G.safetensors").display().to_string();
    shiftlens(at, &["import", "stylegan2", &network, "-o", "g.safetensors"]).expect(0);
    let io = arrays(&fixtures.join("g32_io.safetensors"));
    for (codes, images, noise) in [
        ("ws_psi1", "img_const_psi1", "const"),
        ("ws_psi0.7", "img_none_psi0.7", "none"),
        ("ws_mixed", "img_const_mixed", "const"),
    ] {
        let (Some(ws), Some(expected)) = (io.get(codes), io.get(images)) else {
            panic!("the fixtures lack {codes} or {images}")
        };
        write(at, "w.safetensors", "w", Dtype::F32, ws.shape(), &bytes(ws.as_slice()));
        let args = [
            "generate",
            "g.safetensors",
            "--codes",
            "w.safetensors",
            "--raw",
            "x.safetensors",
            "--noise",
            noise,
        ];
        shiftlens(at, &args).expect(0);
        let found = tensor(at, "x.safetensors", "images", expected.shape());
        let square: f64 = expected.as_slice().iter().map(|v| f64::from(*v).powi(2)).sum();
        let rms = (square / found.len() as f64).sqrt() as f32;
        let off = largest(&found, expected.as_slice()) / rms;
        assert!(off < 1e-4, "{images}: off by {off:e} of rms");
    }
}

#[test]
fn bad_input_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ones = |n: usize| bytes(&vec![1.0; n]);
    write(at, "x.safetensors", "x", Dtype::F32, &[3, 256], &ones(768));
    write(at, "half.safetensors", "w", Dtype::F16, &[3, 256], &ones(384));
    write(at, "wide.safetensors", "w", Dtype::F32, &[2, 128], &ones(256));
    write(at, "rows.safetensors", "w", Dtype::F32, &[2, 14, 256], &ones(2 * 14 * 256));
    write(at, "none.safetensors", "w", Dtype::F32, &[0, 256], &[]);
    let good = write(at, "good.safetensors", "w", Dtype::F32, &[3, 256], &ones(768));
    let whole = std::fs::read(&good).unwrap();
    std::fs::write(at.join("short.safetensors"), &whole[..whole.len() - 4]).unwrap();
    std::fs::write(at.join("text.safetensors"), "no codes, but long enough for a length").unwrap();
    std::fs::write(at.join("empty.safetensors"), "").unwrap();
    let codes = |file: &str, code: i32, words: &[&str]| {
        generate(
            at,
            &[
                "--codes",
                file,
                "--raw",
                "out.safetensors",
                "--save-codes",
                "kept.safetensors",
                "--batch",
                "2",
            ],
        )
        .expect(code)
        .says(words);
    };
    let expected = "expected F32 [N, 256] or [N, 10, 256]";
    codes("x.safetensors", 2, &["x.safetensors", "no tensor `w`", expected, "found `x` F32 [3, 256]"]);
    codes("half.safetensors", 2, &["`w` is F16 [3, 256]", expected]);
    codes("wide.safetensors", 2, &["`w` is F32 [2, 128]", expected]);
    codes("rows.safetensors", 2, &["`w` is F32 [2, 14, 256]", expected]);
    codes("none.safetensors", 2, &["at least one code"]);
    codes("short.safetensors", 2, &["short.safetensors", "ends within"]);
    codes("text.safetensors", 2, &["text.safetensors", "not a safetensors file"]);
    codes("empty.safetensors", 2, &["empty.safetensors", "not a safetensors file"]);
    codes("missing.safetensors", 2, &["missing.safetensors"]);
    // The third code is read after the first two were drawn: what was begun goes away.
    let mut values = vec![1.0; 768];
    values[2 * 256 + 5] = f32::NAN;
    write(at, "nan.safetensors", "w", Dtype::F32, &[3, 256], &bytes(&values));
    codes("nan.safetensors", 1, &["nan.safetensors", "code 2 of `w` holds NaN"]);
    let left: Vec<String> = std::fs::read_dir(at)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| {
            n.contains("out") || n.contains("kept") || n.contains("partial") || n.contains("generated")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let usage = |more: &[&str], words: &[&str]| {
        generate(at, more).expect(2).says(words);
    };
    usage(&["--seeds", "5-3"], &["5-3", "range upwards"]);
    usage(&["--seeds", "a"], &["\"a\" is no seed"]);
    usage(&["--seeds", "1", "--codes", "good.safetensors"], &["--seeds", "--codes"]);
    usage(&["--truncation", "0.5", "--codes", "good.safetensors"], &["--truncation", "--codes"]);
    usage(&["--raw", "a.safetensors", "--out", "b"], &["--raw", "--out"]);
    usage(&["--batch", "0"], &["--batch", "1..=1024"]);
    usage(&["--noise", "random"], &["const", "none"]);
    usage(&["--truncation", "3"], &["truncation 3", "0 to 2"]);
    usage(&["--truncation-cutoff", "3"], &["--truncation"]);
    usage(&["--class", "0"], &["class", "not class-conditional"]);
    usage(&["--device", "gpu"], &["device \"gpu\"", "cpu"]);
    usage(&["--codes", "good.safetensors", "--raw", "good.safetensors"], &["--raw", "written over"]);
    usage(&["--raw", "a.safetensors", "--save-codes", "a.safetensors"], &["both name a.safetensors"]);
    usage(&["--raw", "."], &["a folder"]);
    usage(&["--raw", "nowhere/a.safetensors"], &["error: nowhere/a.safetensors: "]);
    usage(&["--save-codes", "nowhere/w.safetensors"], &["error: nowhere/w.safetensors: "]);
    assert_eq!(std::fs::read(&good).unwrap(), whole);
    shiftlens(at, &["generate", "good.safetensors"])
        .expect(2)
        .says(&["good.safetensors", "what network it is"]);
    shiftlens(at, &["generate", "nothing.safetensors"]).expect(2).says(&["nothing.safetensors"]);
}

//! Generators and encoders that are no StyleGAN2 file: ONNX graphs and plugins, alone and mixed, in `run` and `generate`.

use image::GenericImageView;
use safetensors::tensor::{Dtype, TensorView};
use shiftlens_tests::graph::Graph;
use shiftlens_tests::program::{arrays, cases, shiftlens};
use shiftlens_tests::root;
use shiftlens_tests::toy::{GAIN, Toy, quadrant};

/// A study of the knee example whose encoder is a linear ONNX graph beside it.
const MIXED: &str = r#"schema = 1
name = "mixed"

[data]
images = "images"

[predictor]
kind = "onnx"
path = "KNEE/classifier.onnx"
input = { layout = "nchw", size = [64, 64], channels = 1, scale = 255.0, mean = [127.0], std = [128.0] }
output = { activation = "sigmoid", classes = ["healthy", "osteoarthritis"], target = "osteoarthritis" }

[generator]
kind = "stylegan2"
path = "KNEE/generator.safetensors"

[encoder]
kind = "onnx"
path = "encoder.onnx"
input = { mean = [0.5], std = [0.5] }

[direction]
kind = "logistic"
samples = 200
seed = 7

[[explainer]]
kind = "latent-shift"
params = { steps = 3, range = 1.0, layers = "middle" }
"#;

/// E answers `w_j = 0.5 sin(j) + mean over the pixels of cos(j + p) y_p`, y in [-1, 1]; the picture at λ = 0 must be what
/// `generate` draws from that code.
#[test]
fn a_stylegan2_generator_works_with_an_onnx_encoder() {
    const PIXELS: usize = 64 * 64;
    const D: usize = 256;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let weight = |p: usize, j: usize| ((j + p) as f32).cos() / PIXELS as f32;
    let bias: Vec<f32> = (0..D).map(|j| 0.5 * (j as f32).sin()).collect();
    let weights: Vec<f32> = (0..PIXELS).flat_map(|p| (0..D).map(move |j| weight(p, j))).collect();
    Graph::default()
        .floats("weights", &[PIXELS as i64, D as i64], &weights)
        .floats("bias", &[D as i64], &bias)
        .node("Flatten", &["images"], "flat")
        .node("MatMul", &["flat", "weights"], "product")
        .node("Add", &["product", "bias"], "codes")
        .write(&at.join("encoder.onnx"), ("images", &[1, 64, 64]), ("codes", &[D as i64]));
    std::fs::create_dir(at.join("images")).unwrap();
    let picture = image::GrayImage::from_fn(64, 64, |x, y| image::Luma([(3 * x + y) as u8]));
    picture.save(at.join("images/a.png")).unwrap();
    let knee = root().join("examples/knee").display().to_string();
    std::fs::write(at.join("study.toml"), MIXED.replace("KNEE", &knee)).unwrap();
    shiftlens(at, &["run", "study.toml", "--out", "out"]).expect(0).says(&["1 images explained, 0 failed"]);
    let case = cases(&at.join("out")).remove(0);
    let found = arrays(&at.join("out/cases").join(&case.id).join("arrays.safetensors"));
    let series = &found["series.0"];
    assert_eq!(series.shape(), [3, 1, 64, 64]);

    let x = found["x"].as_slice();
    let code: Vec<f32> = (0..D)
        .map(|j| bias[j] + x.iter().enumerate().map(|(p, x)| (2.0 * x - 1.0) * weight(p, j)).sum::<f32>())
        .collect();
    let bytes: Vec<u8> = code.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![1, D], &bytes).unwrap();
    safetensors::serialize_to_file([("w", view)], None, &at.join("w.safetensors")).unwrap();
    let raw = ["generate", "study.toml", "--codes", "w.safetensors", "--raw", "x.safetensors"];
    shiftlens(at, &raw).expect(0);
    let drawn = &arrays(&at.join("x.safetensors"))["images"];
    assert_eq!(drawn.shape(), [1, 1, 64, 64]);
    for (i, (a, b)) in drawn.as_slice().iter().zip(&series.as_slice()[PIXELS..2 * PIXELS]).enumerate() {
        assert!((0.5 * a + 0.5 - b).abs() < 1e-4, "pixel {i}: {a} drawn, {b} in the series");
    }
    let change = series.as_slice().iter().zip(&series.as_slice()[2 * PIXELS..]).map(|(a, b)| (a - b).abs());
    assert!(change.fold(0.0, f32::max) > 1e-3, "the middle styles change nothing");
}

#[test]
fn an_onnx_generator_draws_its_closed_form() {
    let toy = Toy::new();
    toy.shiftlens(&["generate", "study.toml", "--seeds", "4-8", "--batch", "2", "--out", "drawn"]).expect(0);
    let both = ["--raw", "x.safetensors", "--save-codes", "w.safetensors"];
    toy.shiftlens(&[&["generate", "study.toml", "--seeds", "4-8"], &both[..]].concat()).expect(0);
    let (x, w) = (&arrays(&toy.path("x.safetensors"))["images"], &arrays(&toy.path("w.safetensors"))["w"]);
    assert_eq!((x.shape(), w.shape()), (&[5, 1, 16, 16][..], &[5, 4][..]));
    for (i, (x, w)) in x.as_slice().chunks_exact(256).zip(w.as_slice().chunks_exact(4)).enumerate() {
        let picture = image::open(toy.path(&format!("drawn/seed{:05}.png", i + 4))).unwrap().into_luma8();
        for (p, x) in x.iter().enumerate() {
            let y = (GAIN * w[quadrant(p)]).tanh();
            assert!((x - y).abs() < 1e-5, "image {i}, pixel {p}: {x}, expected {y}");
            let grey = f32::from(picture.get_pixel(p as u32 % 16, p as u32 / 16).0[0]);
            assert!((grey - 255.0 * (0.5 * y + 0.5)).abs() < 0.51, "image {i}, pixel {p}: {grey}");
        }
    }
    toy.shiftlens(&["generate", "study.toml", "--truncation", "0.5"])
        .expect(2)
        .says(&["--truncation", "study.toml"]);
    toy.edit("path = \"generator.onnx\"", "path = \"gone.onnx\"");
    toy.shiftlens(&["generate", "study.toml"]).expect(2).says(&["gone.onnx"]);
}

#[test]
fn a_plugins_generator_draws() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let manifest = root().join("manifests/phantom.toml").display().to_string();
    let draw = |more: &[&str]| shiftlens(at, &[&["generate", &manifest, "--seeds", "2,5"], more].concat());
    draw(&["--out", "drawn"]).expect(0).says(&["2 images in drawn"]);
    draw(&["--raw", "x.safetensors", "--save-codes", "w.safetensors"]).expect(0);
    let x = &arrays(&at.join("x.safetensors"))["images"];
    assert_eq!(
        (x.shape(), arrays(&at.join("w.safetensors"))["w"].shape()),
        (&[2, 1, 128, 128][..], &[2, 6][..])
    );
    let (a, b) = x.as_slice().split_at(128 * 128);
    assert_ne!(a, b);
    for (seed, values) in [("2", a), ("5", b)] {
        let picture = image::open(at.join(format!("drawn/seed0000{seed}.png"))).unwrap();
        assert_eq!(picture.dimensions(), (128, 128));
        for (p, v) in picture.into_luma8().into_raw().into_iter().zip(values) {
            assert!((f32::from(p) - 255.0 * (0.5 * v + 0.5)).abs() < 0.51, "{p} and {v}");
        }
    }
    // A plugin's L is 1: codes of another space are named.
    let view = TensorView::new(Dtype::F32, vec![1, 7], &[0; 28]).unwrap();
    safetensors::serialize_to_file([("w", view)], None, &at.join("wide.safetensors")).unwrap();
    shiftlens(at, &["generate", &manifest, "--codes", "wide.safetensors"])
        .expect(2)
        .says(&["`w` is F32 [1, 7]", "expected F32 [N, 6]"]);
}

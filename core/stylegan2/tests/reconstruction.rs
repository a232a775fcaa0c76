//! An encoder that is trained with the generator: what both learn, resuming, and what is refused.

mod support;

use shiftlens_api::{Encoder, Generator, Images, Silent};
use shiftlens_stylegan2::train::{GeneratorManifest, Parts, train_generator_with};
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Encoder, StyleGan2Generator};
use std::path::Path;
use support::pictures;

fn manifest(
    folder: &Path,
    output: &str,
    images: u64,
    (training, section): (&str, &str),
) -> shiftlens_api::Result<GeneratorManifest> {
    let text = format!(
        r#"
schema = 1
name = "discs"
data = {{ images = ["pictures"] }}
{}[reconstruction]
pixel-weight = 20.0
latent-weight = 1.0
code-weight = 1.0
{section}
[reconstruction.encoder]
resolution = 16
channels = 1
w-dim = 8
channel-base = 128
channel-max = 16
[training]
seed = 3
images = {images}
batch = 16
learning-rate = 4e-3
r1-gamma = 0.1
path-length-weight = 0.0
ema-half-life = 100
{training}
[output]
folder = {:?}
checkpoint-every = 64
samples-every = 64
"#,
        support::networks(16),
        folder.join(output)
    );
    let path = folder.join("train.toml");
    std::fs::write(&path, text).unwrap();
    GeneratorManifest::read(&path)
}

const PLAIN: (&str, &str) = ("style-mixing = 0.0", "");

fn stop(after: Option<u64>) -> Parts<'static> {
    Parts { stop_after: after, ..Parts::default() }
}

/// Root mean square error of G(E(x)) in [0, 1], and of the mean image in x's place.
fn errors(folder: &Path, x: &Images) -> (f64, f64) {
    let options = GeneratorOptions::default();
    let mut g = StyleGan2Generator::load(&folder.join("generator.safetensors"), &options).unwrap();
    let mut e = StyleGan2Encoder::load(&folder.join("encoder.safetensors"), "cpu").unwrap();
    let y = g.synthesize(&e.encode(x).unwrap()).unwrap();
    let (n, pixels) = (x.len(), x.image(0).len());
    let mean: Vec<f32> = (0..pixels).map(|p| (0..n).map(|i| x.image(i)[p]).sum::<f32>() / n as f32).collect();
    let rms = |other: &dyn Fn(usize, usize) -> f32| {
        let off = (0..n).flat_map(|i| (0..pixels).map(move |p| (i, p)));
        let sum: f64 = off.map(|(i, p)| f64::from(x.image(i)[p] - other(i, p)).powi(2)).sum();
        (sum / (n * pixels) as f64).sqrt()
    };
    (rms(&|i, p| y.image(i)[p]), rms(&|_, p| mean[p]))
}

#[test]
fn both_learn_and_a_resumed_run_is_bit_for_bit_an_undisturbed_one() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    // D joins in after two thirds.
    let half = (PLAIN.0, "warm-up = 1600");
    let new = |output: &str| manifest(folder.path(), output, 2400, half).unwrap();
    train_generator_with(&new("whole"), stop(None), &Silent).unwrap();
    for after in [Some(96), Some(1600), None] {
        train_generator_with(&new("parts"), stop(after), &Silent).unwrap();
    }
    for file in ["generator.safetensors", "encoder.safetensors"] {
        let read = |o: &str| std::fs::read(folder.path().join(o).join(file)).unwrap();
        assert!(read("whole") == read("parts"), "{file} differs");
    }
    let out = folder.path().join("whole");
    let x: Vec<f32> = (0..24)
        .flat_map(|i| {
            let path = folder.path().join(format!("pictures/{i:02}.png"));
            image::open(path).unwrap().to_luma8().into_raw().into_iter().map(|v| f32::from(v) / 255.0)
        })
        .collect();
    let (found, mean) = errors(&out, &Images::new([24, 1, 16, 16], x).unwrap());
    assert!(found < 0.7 * mean, "G(E(x)) is {found} from x, the mean image {mean}");
    let mut log = csv::Reader::from_path(out.join("log.csv")).unwrap();
    let rows: Vec<std::collections::BTreeMap<String, String>> =
        log.deserialize().map(Result::unwrap).collect();
    let number = |row: usize, column: &str| rows[row][column].parse::<f64>().unwrap();
    let last = rows.len() - 1;
    assert!(number(last, "pixel_mse") < 0.8 * number(0, "pixel_mse"), "{rows:?}");
    // What D has not seen yet is missing, and not 0.
    assert!(rows[0]["g_loss"].is_empty() && rows[0]["latent_mse"].is_empty(), "{rows:?}");
    assert!(number(last, "g_loss").is_finite() && number(last, "latent_mse") > 0.0);
    assert!(number(last, "codes").is_finite() && number(last, "feature") == 0.0);
    assert!(out.join("reconstructions-00002400.png").is_file());
}

#[test]
fn a_warm_start_takes_the_encoder_too() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    train_generator_with(&manifest(folder.path(), "first", 64, PLAIN).unwrap(), stop(None), &Silent).unwrap();
    let path = folder.path().join("train.toml");
    manifest(folder.path(), "second", 16, PLAIN).unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace("4e-3", "1e-12");
    std::fs::write(&path, format!("{text}[start]\nweights = \"first/checkpoint.safetensors\"\n")).unwrap();
    let second = GeneratorManifest::read(&path).unwrap();
    train_generator_with(&second, stop(None), &Silent).unwrap();
    let tensors = |o: &str| {
        let path = folder.path().join(o).join("checkpoint.safetensors");
        candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap()
    };
    let (first, second) = (tensors("first"), tensors("second"));
    let mut compared = 0;
    for (name, t) in first.iter().filter(|(name, _)| name.starts_with("E.")) {
        let apart =
            (t - &second[name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-6, "{name} moved by {apart}");
        compared += 1;
    }
    assert!(compared > 10, "{compared} tensors of E");
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |training: &str, section: &str, words: &str| {
        let error = manifest(folder.path(), "out", 64, (training, section)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("style-mixing = 0.9", "", "latent-weight needs training.style-mixing = 0");
    refused("style-mixing = 0.0\naccumulate = 4", "", "mbstd-group");
    let feature = "[[reconstruction.features]]\npath = \"f.onnx\"\n";
    refused(PLAIN.0, feature, "reconstruction.features: real-weight must be positive");
    refused(PLAIN.0, &format!("{feature}real-weight = 1.0\nweight = 1.0\n"), "has no place here");
    let text = std::fs::read_to_string(folder.path().join("train.toml")).unwrap();
    let text = text.replace(&format!("{feature}real-weight = 1.0\nweight = 1.0\n"), "");
    let (before, encoder) = text.split_once("[reconstruction.encoder]").unwrap();
    for (from, to, words) in [
        ("w-dim = 8", "w-dim = 9", "differ in channels, resolution or w-dim"),
        ("w-dim = 8", "w-dim = 8\nspace = \"w+\"", "reconstruction.encoder.space: expected \"w\""),
    ] {
        let path = folder.path().join("bad.toml");
        let encoder = encoder.replacen(from, to, 1);
        std::fs::write(&path, format!("{before}[reconstruction.encoder]{encoder}")).unwrap();
        let error = GeneratorManifest::read(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let path = folder.path().join("bad.toml");
    std::fs::write(&path, text.replace("pixel-weight = 20.0", "pixel-weight = 0.0")).unwrap();
    let error = GeneratorManifest::read(&path).unwrap_err().to_string();
    assert!(error.contains("must say what a reconstruction is like"), "{error}");
}

//! The encoder's training with all parts of its loss: resuming is exact, and scores of real images are kept.

use candle_core::{DType, Device};
use shiftlens_api::{Encoder, FeatureInfo, FeatureLayer, FeatureNetwork, Generator, Result, Silent, Tensor};
use shiftlens_stylegan2::file::save_generator;
use shiftlens_stylegan2::net::{Architecture, GeneratorConfig, GeneratorNet, SynthesisInput};
use shiftlens_stylegan2::train::{EncoderManifest, EncoderReport, train_encoder};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Encoder, StyleGan2Generator};
use std::path::Path;

const SIDE: usize = 16;

/// f: how much brighter the left half is than the right, a logit that is linear in the image.
struct Halves;

fn weight(i: usize) -> f32 {
    let sign = if i % SIDE < SIDE / 2 { 1.0 } else { -1.0 };
    sign * 20.0 / (SIDE * SIDE) as f32
}

impl FeatureNetwork for Halves {
    fn info(&self) -> FeatureInfo {
        let layers = vec![FeatureLayer { name: "logit".into(), shape: vec![1] }];
        FeatureInfo { layers, channels: 1, size: (SIDE, SIDE), backend: "test".into() }
    }
    fn features(&mut self, x: &Tensor) -> Result<Vec<Tensor>> {
        let images = x.as_slice().chunks_exact(SIDE * SIDE);
        let logits: Vec<f32> =
            images.map(|x| x.iter().enumerate().map(|(i, v)| weight(i) * v).sum()).collect();
        Ok(vec![Tensor::new(vec![logits.len(), 1], logits)?])
    }
    fn pullback(&mut self, x: &Tensor, cotangents: &[Tensor]) -> Result<Tensor> {
        let rows = cotangents[0].as_slice();
        let data = rows.iter().flat_map(|c| (0..SIDE * SIDE).map(move |i| c * weight(i))).collect();
        Tensor::new(x.shape().to_vec(), data)
    }
}

fn generator(folder: &Path) {
    let config = GeneratorConfig {
        resolution: SIDE,
        channels: 1,
        z_dim: 8,
        w_dim: 8,
        mapping_layers: 2,
        channel_base: 128,
        channel_max: 16,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: SynthesisInput::Constant,
        label_dim: 0,
    };
    let weights = Weights::random(1, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    // New networks make images far beyond [-1, 1].
    let calm = |(name, t): (String, candle_core::Tensor)| {
        let scale = if name.ends_with("torgb.weight") { 0.1 } else { 1.0 };
        (name, t.detach().affine(scale, 0.0).unwrap())
    };
    let tensors = weights.tensors().into_iter().map(calm).collect();
    save_generator(&folder.join("g.safetensors"), &config, &tensors, DType::F32).unwrap();
    // Real images: those of codes that training does not draw, half as strong.
    let mut g =
        StyleGan2Generator::load(&folder.join("g.safetensors"), &GeneratorOptions::default()).unwrap();
    let codes = g.sample(24, 99).unwrap();
    let images = g.synthesize(&codes).unwrap();
    std::fs::create_dir_all(folder.join("pictures")).unwrap();
    for i in 0..24 {
        let grey = images.image(i).iter().map(|v| ((v * 0.5 + 0.25) * 255.0).round() as u8).collect();
        let picture = image::GrayImage::from_raw(SIDE as u32, SIDE as u32, grey).unwrap();
        picture.save(folder.join(format!("pictures/{i:02}.png"))).unwrap();
    }
}

/// `real`: the weights of pixels and of f on real images.
fn manifest(folder: &Path, out: &str, images: u64, real: [f64; 2]) -> EncoderManifest {
    let [pixels, feature] = real;
    let text = format!(
        r#"
schema = 1
name = "halves"
generator = "g.safetensors"
data = {{ images = ["pictures"], flip = true }}
features = [{{ path = "halves.onnx", weight = 0.5, real-weight = {feature:?} }}]
output = {{ folder = {:?}, checkpoint-every = 32, samples-every = 640 }}
[encoder]
resolution = 16
channels = 1
w-dim = 8
channel-base = 128
channel-max = 16
space = "w+"
blocks = 1
context = true
head = 32
[training]
seed = 5
batch = 8
learning-rate = 4e-3
latent-weight = 1.0
pixel-weight = 1.0
real-prior-weight = 0.001
offset-weight = 0.01
style-mixing = 0.5
real-from = 0.25
images = {images}
real-pixel-weight = {pixels:?}
"#,
        folder.join(out)
    );
    let path = folder.join(format!("{out}.toml"));
    std::fs::write(&path, text).unwrap();
    EncoderManifest::read(&path).unwrap()
}

fn train(manifest: &EncoderManifest, stop_after: Option<u64>) -> EncoderReport {
    train_encoder(manifest, vec![Box::new(Halves)], stop_after, &Silent).unwrap()
}

#[test]
fn a_resumed_encoder_is_bit_for_bit_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    generator(folder.path());
    let of = |out: &str| manifest(folder.path(), out, 96, [2.0, 1.0]);
    let (whole, parts) = (of("whole"), of("parts"));
    let report = train(&whole, None);
    // Before real images join in, and after.
    for stop in [Some(16), Some(32), None] {
        train(&parts, stop);
    }
    let read = |o: &str, f: &str| std::fs::read(folder.path().join(o).join(f)).unwrap();
    assert_eq!(read("whole", "encoder.safetensors"), read("parts", "encoder.safetensors"));
    assert!(report.real_feature.is_some() && report.real_rmse.is_some() && report.images == 96);
    let mut other = parts.clone();
    other.features[0].real_weight = 7.0;
    let error = train_encoder(&other, vec![Box::new(Halves)], None, &Silent).unwrap_err().to_string();
    assert!(error.contains("another manifest"), "{error}");
    let error = train_encoder(&parts, Vec::new(), None, &Silent).unwrap_err().to_string();
    assert!(error.contains("0 feature networks for 1"), "{error}");
}

/// Mean of |f(x) - f(G(E(x)))| in logits over the real images.
fn kept(folder: &Path, report: &EncoderReport) -> f64 {
    let mut e = StyleGan2Encoder::load(&report.file, "cpu").unwrap();
    let mut g =
        StyleGan2Generator::load(&folder.join("g.safetensors"), &GeneratorOptions::default()).unwrap();
    let mut gap = 0.0;
    for i in 0..24 {
        let picture =
            image::open(folder.join(format!("pictures/{i:02}.png"))).unwrap().to_luma32f().into_raw();
        let x = shiftlens_api::Images::new([1, 1, SIDE, SIDE], picture).unwrap();
        let w = e.encode(&x).unwrap();
        assert_eq!(w.shape(), [1, 6, 8]);
        let y = g.synthesize(&w).unwrap();
        let logit = |x: &shiftlens_api::Images| {
            let t = Tensor::new(vec![1, 1, SIDE, SIDE], x.as_slice().to_vec()).unwrap();
            f64::from(Halves.features(&t).unwrap()[0].as_slice()[0])
        };
        gap += (logit(&x) - logit(&y)).abs() / 24.0;
    }
    gap
}

#[test]
fn scores_of_real_images_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    generator(folder);
    let run = |out: &str, real: [f64; 2]| {
        let report = train(&manifest(folder, out, 2400, real), None);
        println!("{out}: {report:?}, gap {:.4}", kept(folder, &report));
        (kept(folder, &report), report)
    };
    let blind = run("blind", [0.0, 0.0]);
    let (gap, report) = run("full", [2.0, 1.0]);
    // An answer that knows nothing of the image has R2 0.
    assert!(report.latent_r2 > 0.1, "{report:?}");
    let (before, after) = (blind.1.real_feature.unwrap(), report.real_feature.unwrap());
    assert!(after < 0.25 * before, "{before} {after}");
    assert!(gap < 0.7 * blind.0, "{gap} {}", blind.0);
    assert!(report.real_rmse.unwrap() < 1.2 * blind.1.real_rmse.unwrap(), "{report:?} {:?}", blind.1);
    let log = std::fs::read_to_string(folder.join("full/log.csv")).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(
        lines[0],
        "images,seconds,latent_mse,pixel_mse,real_pixel_mse,feature,real_feature,rate"
            .split(',')
            .collect::<Vec<_>>()
    );
    assert!(lines.iter().all(|l| l.len() == 8));
    // Real images joined in after a quarter.
    let of = |l: &[&str], i: usize| l[i].parse::<f64>().ok();
    let (early, late) = (&lines[2], &lines[lines.len() - 1]);
    assert!(of(early, 0) == Some(256.0) && early[4].is_empty() && early[6].is_empty(), "{early:?}");
    assert!(of(late, 4).is_some() && of(late, 6).is_some() && of(late, 5) < of(&lines[1], 5), "{late:?}");
}

//! Training runs on a tiny data set: resuming is exact, both trainers learn, divergence is reported.

mod support;

use shiftlens_api::{Encoder, Generator, Monitor, Silent};
use shiftlens_stylegan2::file::save_generator;
use shiftlens_stylegan2::net::{Architecture, GeneratorConfig, GeneratorNet, SynthesisInput};
use shiftlens_stylegan2::train::{EncoderManifest, GeneratorManifest, train_encoder, train_generator};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Encoder, StyleGan2Generator};
use std::path::Path;
use support::pictures;

fn gan_manifest(folder: &Path, output: &str, images: u64) -> GeneratorManifest {
    let text = format!(
        r#"
schema = 1
name = "discs"
data = {{ images = ["pictures"], flip = true }}
{}[training]
seed = 3
images = {images}
batch = 8
learning-rate = 2.5e-3
r1-gamma = 0.1
r1-interval = 4
ema-half-life = 200
ema-rampup = 0.05
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
    GeneratorManifest::read(&path).unwrap()
}

#[test]
fn a_resumed_run_is_bit_for_bit_an_undisturbed_one() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let whole = gan_manifest(folder.path(), "whole", 96);
    let parts = gan_manifest(folder.path(), "parts", 96);
    assert!(whole.training.path_length_weight > 0.0 && whole.training.style_mixing > 0.0);
    train_generator(&whole, None, &Silent).unwrap();
    // Stops within an R1 interval, so that the lazy schedule is tested too.
    for stop in [Some(24), Some(32), None] {
        train_generator(&parts, stop, &Silent).unwrap();
    }
    let read = |o: &str, f: &str| std::fs::read(folder.path().join(o).join(f)).unwrap();
    assert_eq!(read("whole", "generator.safetensors"), read("parts", "generator.safetensors"));
    // Another manifest does not take over the folder.
    let mut other = parts.clone();
    other.training.learning_rate = 1e-3;
    let error = train_generator(&other, None, &Silent).unwrap_err().to_string();
    assert!(error.contains("another manifest"), "{error}");
}

#[test]
fn generator_and_encoder_learn_and_their_files_load() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let report = train_generator(&gan_manifest(folder.path(), "gan", 4000), None, &Silent).unwrap();
    assert_eq!((report.images, report.training_set), (4000, 24));
    let mut g = StyleGan2Generator::load(&report.file, &GeneratorOptions::default()).unwrap();
    let info = g.info();
    assert_eq!((info.latent_dim, info.latent_layers, info.height, info.channels), (8, 6, 16, 1));
    let few = g.sample(3, 5).unwrap();
    let many = g.sample(40, 5).unwrap();
    assert_eq!(few.as_slice(), &many.as_slice()[..24]);
    let images = g.synthesize(&many).unwrap();
    // Bright discs on a dark ground; an untrained network gives grey everywhere.
    let mean = images.as_slice().iter().sum::<f32>() / images.as_slice().len() as f32;
    let discs = (0..40).filter(|i| images.image(*i).iter().any(|v| *v > 0.6)).count();
    assert!((0.05..0.4).contains(&mean) && discs > 20, "mean {mean}, {discs} of 40 with a disc");
    // W and W+ agree where every layer gets the same code.
    let [n, _, d] = few.shape();
    let wide: Vec<f32> = (0..n).flat_map(|i| few.code(i).repeat(6)).collect();
    let wide = shiftlens_api::LatentCodes::new([n, 6, d], wide).unwrap();
    assert_eq!(g.synthesize(&wide).unwrap().as_slice(), g.synthesize(&few).unwrap().as_slice());

    let text = format!(
        r#"
schema = 1
name = "discs' encoder"
generator = {:?}
[data]
images = ["pictures"]
[encoder]
resolution = 16
channels = 1
w-dim = 8
channel-base = 128
channel-max = 16
[training]
seed = 4
images = 4000
batch = 16
learning-rate = 5e-3
latent-weight = 4.0
pixel-weight = 1.0
real-pixel-weight = 1.0
real-prior-weight = 0.01
[output]
folder = {:?}
checkpoint-every = 1600
samples-every = 4000
"#,
        report.file,
        folder.path().join("encoder")
    );
    let path = folder.path().join("encoder.toml");
    std::fs::write(&path, text).unwrap();
    let report = train_encoder(&EncoderManifest::read(&path).unwrap(), Vec::new(), None, &Silent).unwrap();
    println!("{report:?}");
    // A constant answer would have R2 0, and miss every disc.
    assert!(report.latent_r2 > 0.15 && report.synthetic_rmse < 0.1, "{report:?}");
    let mut e = StyleGan2Encoder::load(&report.file, "cpu").unwrap();
    let back = e.encode(&images).unwrap();
    assert_eq!(back.shape(), [40, 1, 8]);
    let error = StyleGan2Encoder::load(&folder.path().join("gan/generator.safetensors"), "cpu");
    assert!(error.err().unwrap().to_string().contains("stylegan2-encoder"));
    let cuda = GeneratorOptions { device: "cuda:0".into(), ..Default::default() };
    if !cfg!(feature = "cuda") {
        let error = StyleGan2Generator::load(&folder.path().join("gan/generator.safetensors"), &cuda);
        assert!(error.err().unwrap().to_string().contains("without CUDA"));
    }
}

#[test]
fn classes_are_for_encoders_only() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("train.toml");
    gan_manifest(folder.path(), "gan", 8);
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("[generator]", "[generator]\nlabel-dim = 2")).unwrap();
    let error = GeneratorManifest::read(&manifest).unwrap_err().to_string();
    assert!(error.contains("label-dim: training is unconditional"), "{error}");

    // An encoder learns on images of all classes.
    let config = GeneratorConfig {
        resolution: 8,
        channels: 1,
        z_dim: 4,
        w_dim: 6,
        mapping_layers: 1,
        channel_base: 64,
        channel_max: 8,
        conv_clamp: None,
        architecture: Architecture::Resnet,
        input: SynthesisInput::Constant,
        label_dim: 3,
    };
    let weights = Weights::random(1, &candle_core::Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    let generator = folder.path().join("g.safetensors");
    let tensors = weights.tensors().into_iter().collect();
    save_generator(&generator, &config, &tensors, candle_core::DType::F32).unwrap();
    let text = format!(
        r#"
schema = 1
name = "classes"
generator = {generator:?}
[encoder]
resolution = 8
channels = 1
w-dim = 6
channel-base = 64
channel-max = 8
[training]
seed = 4
images = 320
batch = 16
learning-rate = 5e-3
latent-weight = 1.0
pixel-weight = 0.0
[output]
folder = {:?}
checkpoint-every = 320
samples-every = 320
"#,
        folder.path().join("encoder")
    );
    std::fs::write(&manifest, text).unwrap();
    let report =
        train_encoder(&EncoderManifest::read(&manifest).unwrap(), Vec::new(), None, &Silent).unwrap();
    assert!(report.latent_r2.is_finite() && report.synthetic_rmse.is_finite(), "{report:?}");
    let mut e = StyleGan2Encoder::load(&report.file, "cpu").unwrap();
    let options = GeneratorOptions { class: Some(2), ..Default::default() };
    let mut g = StyleGan2Generator::load(&generator, &options).unwrap();
    let w = g.sample(4, 1).unwrap();
    assert_eq!(e.encode(&g.synthesize(&w).unwrap()).unwrap().shape(), w.shape());
}

#[test]
fn a_diverged_run_stops_with_a_message_and_cancelling_keeps_a_checkpoint() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let mut wild = gan_manifest(folder.path(), "wild", 4000);
    wild.training.learning_rate = 1e30;
    let error = train_generator(&wild, None, &Silent).unwrap_err().to_string();
    assert!(error.contains("diverged") && error.contains("learning-rate"), "{error}");
    assert!(error.contains("No checkpoint had been written"), "{error}");

    struct Stop;
    impl Monitor for Stop {
        fn log(&self, _: shiftlens_api::Level, _: &str) {}
        fn progress(&self, _: &str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let stopped = gan_manifest(folder.path(), "stopped", 4000);
    assert!(matches!(train_generator(&stopped, None, &Stop), Err(shiftlens_api::Error::Cancelled)));
    assert!(folder.path().join("stopped/checkpoint.safetensors").exists());
}

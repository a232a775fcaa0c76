//! Networks stored in half precision answer nearly what they did.

use candle_core::{DType, Device, Tensor};
use shiftlens_api::{Encoder, Generator, LatentCodes};
use shiftlens_stylegan2::file::{self, convert, save_encoder, save_generator};
use shiftlens_stylegan2::net::{
    Architecture, EncoderConfig, EncoderNet, GeneratorConfig, GeneratorNet, Space, SynthesisInput,
};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Encoder, StyleGan2Generator};
use std::collections::HashMap;
use std::path::Path;

/// Random weights, those that begin at a constant (biases, strengths of noise) moved from it.
fn stored(weights: &Weights) -> HashMap<String, Tensor> {
    let mut rng = shiftlens_stylegan2::rng::Rng::new(11, 0);
    let moved = weights.tensors().into_iter().map(|(name, t)| {
        let more = rng.tensor(t.dims(), &Device::Cpu).unwrap();
        (name, (t.detach() + (more * 0.1).unwrap()).unwrap())
    });
    moved.collect()
}

fn generator(path: &Path) {
    let config = GeneratorConfig {
        resolution: 64,
        channels: 3,
        z_dim: 32,
        w_dim: 32,
        mapping_layers: 4,
        channel_base: 1024,
        channel_max: 64,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: SynthesisInput::Constant,
        label_dim: 0,
    };
    let weights = Weights::random(1, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    save_generator(path, &config, &stored(&weights), DType::F32).unwrap();
}

fn encoder(path: &Path) {
    let config = EncoderConfig {
        resolution: 64,
        channels: 3,
        w_dim: 32,
        channel_base: 1024,
        channel_max: 64,
        space: Space::WPlus,
        blocks: 1,
        context: true,
        head: Some(96),
    };
    let weights = Weights::random(2, &Device::Cpu);
    EncoderNet::new(&config, &weights).unwrap();
    save_encoder(path, &config, &stored(&weights), DType::F32).unwrap();
}

fn rms(v: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = v.clone().count() as f64;
    (v.map(|v| v * v).sum::<f64>() / n).sqrt()
}

/// Root mean square of the difference, over that of `b` around its mean.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    let mean = b.iter().map(|v| f64::from(*v)).sum::<f64>() / b.len() as f64;
    let off = rms(a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / rms(b.iter().map(|v| f64::from(*v) - mean))
}

#[test]
fn images_and_codes_hardly_change_and_back_again_nothing_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    generator(&at("g"));
    encoder(&at("e"));
    for name in ["g", "e"] {
        let made = convert(&at(name), &at(&format!("{name}16")), true).unwrap();
        assert_eq!(made.kind, if name == "g" { "stylegan2-generator" } else { "stylegan2-encoder" });
        convert(&at(&format!("{name}16")), &at(&format!("{name}32")), false).unwrap();
        let size = |file: &str| at(file).metadata().unwrap().len() as f64;
        let (whole, half) = (size(name), size(&format!("{name}16")));
        assert!((0.49..0.56).contains(&(half / whole)), "{name}: {half} of {whole} bytes");
        assert!(made.parameters as f64 * 4.0 < whole && made.parameters as f64 * 4.4 > whole);
    }
    let draw = |file: &str| {
        let mut g = StyleGan2Generator::load(&at(file), &GeneratorOptions::default()).unwrap();
        let w = g.sample(8, 3).unwrap();
        (w.as_slice().to_vec(), g.synthesize_raw(&w).unwrap(), g.synthesize(&w).unwrap())
    };
    let (w, raw, images) = draw("g");
    let (w16, raw16, _) = draw("g16");
    let (codes, pixels) = (relative(&w16, &w), relative(&raw16, &raw));
    println!("codes {codes:.1e}, images {pixels:.1e} of rms");
    assert!(codes > 0.0 && codes < 1e-2 && pixels > 0.0 && pixels < 1e-2, "{codes} {pixels}");
    assert_eq!(draw("g32").1, raw16);
    let encode = |file: &str| -> LatentCodes {
        StyleGan2Encoder::load(&at(file), "cpu").unwrap().encode(&images).unwrap()
    };
    let (e, e16) = (encode("e"), encode("e16"));
    assert_eq!(e.shape(), [8, 10, 32]);
    let off = relative(e16.as_slice(), e.as_slice());
    println!("encoder's codes {off:.1e} of rms");
    assert!(off > 0.0 && off < 1e-2, "{off}");
    assert_eq!(encode("e32"), e16);
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    generator(&at("g"));
    let error = convert(&at("g"), &at("g"), true).unwrap_err().to_string();
    assert!(error.contains("written over"), "{error}");
    let (config, mut tensors) = file::load_generator(&at("g")).unwrap();
    let large = Tensor::full(7e4f32, 3, &Device::Cpu).unwrap();
    tensors.insert("synthesis.b4.torgb.bias".into(), large);
    save_generator(&at("large"), &config, &tensors, DType::F32).unwrap();
    let error = convert(&at("large"), &at("out"), true).unwrap_err().to_string();
    assert!(error.contains("`synthesis.b4.torgb.bias`: 70000 is too large"), "{error}");
    std::fs::write(at("text"), "no network").unwrap();
    let error = convert(&at("text"), &at("out"), true).unwrap_err().to_string();
    assert!(error.contains("not a safetensors file"), "{error}");
    let plain = [("x".to_owned(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap())];
    candle_core::safetensors::save(&HashMap::from(plain), at("plain")).unwrap();
    let error = convert(&at("plain"), &at("out"), true).unwrap_err().to_string();
    assert!(error.contains("does not say what network"), "{error}");
    assert!(!at("out").exists());
}

//! The loss against its definition, and its gradient against finite differences.

use super::features::Loss;
use super::trainer::{Batch, Trainer};
use super::{EncoderManifest, checkpoint, generator};
use crate::file;
use crate::net::{Architecture, Discriminator, DiscriminatorConfig, GeneratorConfig, GeneratorNet};
use crate::perceptual::Perceptual;
use crate::rng::Rng;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use shiftlens_api::{FeatureInfo, FeatureLayer, FeatureNetwork, Result, Tensor as Array};
use std::path::Path;

pub const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;

/// `tanh(A x)` and a logit `b . tanh(A x)` of grey images, with a seeded A: smooth, so that differences are exact.
pub struct Smooth {
    a: Vec<f64>,
    b: Vec<f64>,
}

const UNITS: usize = 6;

impl Smooth {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let a = rng.normals(UNITS * PIXELS).iter().map(|v| f64::from(*v) * 0.3).collect();
        let b = rng.normals(UNITS).iter().map(|v| f64::from(*v)).collect();
        Self { a, b }
    }
    fn units(&self, x: &[f32]) -> Vec<f64> {
        let rows = self.a.chunks_exact(PIXELS);
        rows.map(|a| a.iter().zip(x).map(|(a, x)| a * f64::from(*x)).sum::<f64>().tanh()).collect()
    }
    fn logit(&self, units: &[f64]) -> f64 {
        units.iter().zip(&self.b).map(|(u, b)| u * b).sum()
    }
    /// d on both layers between two images in network range, straight from its definition.
    pub fn distance(&self, y: &[f32], x: &[f32], weights: &[f64], squares: &[f64]) -> f64 {
        let to = |v: &[f32]| self.units(&v.iter().map(|v| 0.5 * v + 0.5).collect::<Vec<_>>());
        let (a, b) = (to(y), to(x));
        let units = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / UNITS as f64;
        let logit = (self.logit(&a) - self.logit(&b)).powi(2);
        weights[0] / squares[0] * units + weights[1] / squares[1] * logit
    }
}

impl FeatureNetwork for Smooth {
    fn info(&self) -> FeatureInfo {
        let layer = |name: &str, n| FeatureLayer { name: name.into(), shape: vec![n] };
        FeatureInfo {
            layers: vec![layer("units", UNITS), layer("logit", 1)],
            channels: 1,
            size: (SIDE, SIDE),
            backend: "test".into(),
        }
    }
    fn features(&mut self, x: &Array) -> Result<Vec<Array>> {
        let n = x.shape()[0];
        let units: Vec<Vec<f64>> = x.as_slice().chunks_exact(PIXELS).map(|x| self.units(x)).collect();
        let flat = units.iter().flatten().map(|v| *v as f32).collect();
        let logits = units.iter().map(|u| self.logit(u) as f32).collect();
        Ok(vec![Array::new(vec![n, UNITS], flat)?, Array::new(vec![n, 1], logits)?])
    }
    fn pullback(&mut self, x: &Array, cotangents: &[Array]) -> Result<Array> {
        let mut out = Vec::new();
        let rows = cotangents[0].as_slice().chunks_exact(UNITS).zip(cotangents[1].as_slice());
        for (x, (units, logit)) in x.as_slice().chunks_exact(PIXELS).zip(rows) {
            let mut gradient = vec![0.0; PIXELS];
            for (k, value) in self.units(x).iter().enumerate() {
                let slope = (f64::from(units[k]) + f64::from(*logit) * self.b[k]) * (1.0 - value * value);
                gradient.iter_mut().zip(&self.a[k * PIXELS..]).for_each(|(g, a)| *g += slope * a);
            }
            out.extend(gradient.iter().map(|v| *v as f32));
        }
        Array::new(x.shape().to_vec(), out)
    }
}

pub fn small_generator(folder: &Path) -> GeneratorConfig {
    let config = GeneratorConfig {
        resolution: SIDE,
        channels: 1,
        z_dim: 4,
        w_dim: 6,
        mapping_layers: 2,
        channel_base: 64,
        channel_max: 8,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: crate::net::SynthesisInput::Constant,
        label_dim: 0,
    };
    let weights = Weights::random(3, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    // New networks make nothing of their noise inputs, and images beyond [-1, 1].
    let strength = |name: String, t: Tensor| {
        let t = match &name {
            n if n.ends_with("noise_strength") => (t.detach() + 0.1).unwrap(),
            n if n.ends_with("torgb.weight") => (t.detach() * 0.1).unwrap(),
            _ => t,
        };
        (name, t)
    };
    let tensors = weights.tensors().into_iter().map(|(name, t)| strength(name, t)).collect();
    file::save_generator(&folder.join("g.safetensors"), &config, &tensors, DType::F32).unwrap();
    config
}

fn manifest(folder: &Path, training: &str) -> EncoderManifest {
    let text = format!(
        r#"
schema = 1
name = "small"
generator = "g.safetensors"
data = {{ images = ["pictures"] }}
encoder = {{ resolution = {SIDE}, channels = 1, w-dim = 6, channel-base = 64, channel-max = 8, space = "w+", blocks = 1, context = true, head = 12 }}
output = {{ folder = "out", checkpoint-every = 64, samples-every = 64 }}
[training]
seed = 4
images = 64
batch = 6
learning-rate = 1e-3
{training}
"#
    );
    std::fs::write(folder.join("e.toml"), text).unwrap();
    EncoderManifest::read(&folder.join("e.toml")).unwrap()
}

const ALL: &str = "latent-weight = 0.5
pixel-weight = 0.3
real-pixel-weight = 0.7
real-prior-weight = 0.2
offset-weight = 0.4
style-mixing = 0.5";

/// A checkpoint as a generator's training leaves it, as far as it is read here, and its discriminator.
fn discriminator(path: &Path) -> Discriminator {
    let config = DiscriminatorConfig {
        resolution: SIDE,
        channels: 1,
        channel_base: 64,
        channel_max: 8,
        mbstd_group: 2,
        mbstd_channels: 1,
        conv_clamp: None,
        architecture: Architecture::Resnet,
        label_dim: 0,
        cmap_dim: None,
        mapping_layers: 8,
    };
    let weights = Weights::random(9, &Device::Cpu);
    let net = Discriminator::new(&config, &weights).unwrap();
    let state = serde_json::json!({ "manifest": { "discriminator": config } }).to_string();
    let tensors = weights.tensors().into_iter().map(|(name, t)| (format!("D.{name}"), t)).collect();
    checkpoint::save(path, &state, &tensors).unwrap();
    net
}

fn trainer(folder: &Path, training: &str) -> Trainer {
    let config = small_generator(folder);
    let manifest = manifest(folder, training);
    let (_, tensors) = file::load_generator(&folder.join("g.safetensors")).unwrap();
    let g = generator(&manifest.generator, &config, tensors, &Device::Cpu).unwrap();
    discriminator(&folder.join("d.safetensors"));
    let sizes = (1, SIDE);
    let on_features = Perceptual::of_network(Box::new(Smooth::new(1)), "smooth", &LAYERS, sizes).unwrap();
    let on_blocks =
        Perceptual::of_discriminator(&folder.join("d.safetensors"), &[2.0], sizes, &Device::Cpu).unwrap();
    let losses = vec![
        Loss { distance: on_features, weight: 0.6, real_weight: 0.8 },
        Loss { distance: on_blocks, weight: 0.2, real_weight: 0.1 },
    ];
    let mut trainer = Trainer::new(&manifest, g, losses, None).unwrap();
    trainer.measure_features(None).unwrap();
    trainer
}

const LAYERS: [f64; 2] = [0.7, 1.5];

/// Four synthetic images and three that no code makes.
fn batch(trainer: &Trainer) -> Batch {
    let made = trainer.batch(None, 0.0).unwrap();
    let real = Rng::new(8, 0).tensor(&[3, 1, SIDE, SIDE], &Device::Cpu).unwrap().affine(0.4, 0.1).unwrap();
    let images = made.images.narrow(0, 0, 4).unwrap();
    let codes = made.codes.unwrap().narrow(0, 0, 4).unwrap();
    Batch { codes: Some(codes), images: Tensor::cat(&[images, real], 0).unwrap() }
}

#[test]
fn the_whole_loss_has_the_gradient_of_its_differences() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(folder.path(), ALL);
    let batch = batch(&trainer);
    // Offsets start at 0, where nothing about them could be wrong.
    let vars = trainer.vars();
    for (name, var) in &vars {
        if name.contains("offsets") {
            let shape = var.dims().to_vec();
            var.set(&Rng::new(7, 0).tensor(&shape, &Device::Cpu).unwrap().affine(0.3, 0.0).unwrap()).unwrap();
        }
    }
    let (loss, parts) = trainer.loss(&batch).unwrap();
    assert!(parts.total > 0.5, "{parts:?}");
    let grads = loss.backward().unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut seen = 0;
    for (name, var) in &vars {
        let g = grads.get(var.as_tensor()).unwrap();
        let length = norm(&flat(g));
        let before = var.as_detached_tensor().copy().unwrap();
        // Along the gradient the loss changes by its length.
        let step = 2e-3 / length.max(1e-3);
        let at = |trainer: &mut Trainer, sign: f64| {
            var.set(&(&before + (g * (sign * step)).unwrap()).unwrap()).unwrap();
            trainer.loss(&batch).unwrap().1.total
        };
        let slope = (at(&mut trainer, 1.0) - at(&mut trainer, -1.0)) / (2.0 * step);
        var.set(&before).unwrap();
        let expected = length * length;
        println!("{name}: {slope:.5} {expected:.5}");
        assert!((slope - expected).abs() < 0.02 * expected + 2e-4, "{name}: {slope} {expected}");
        seen += usize::from(expected > 1e-3);
    }
    assert!(seen > 12, "{seen} parameters with a gradient worth the name");
}

#[test]
fn the_loss_is_the_sum_of_its_definition() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(folder.path(), ALL);
    let batch = batch(&trainer);
    let (u, y, prior) = trainer.answers(&batch.images).unwrap();
    let flat = |t: &Tensor| -> Vec<f64> {
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let square =
        |a: &[f64], b: &[f64]| mean(&a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).collect::<Vec<_>>());
    let part = |t: &Tensor, from: usize, n: usize| flat(&t.narrow(0, from, n).unwrap());
    let codes = flat(&trainer.standardise(batch.codes.as_ref().unwrap()).unwrap());
    let x = &batch.images;
    let mut total = 0.5 * square(&part(&u, 0, 4), &codes);
    total += 0.3 * square(&part(&y, 0, 4), &part(x, 0, 4));
    total += 0.7 * square(&part(&y, 4, 3), &part(x, 4, 3));
    total += 0.2 * mean(&part(&prior, 4, 3));
    let rows = flat(&u.narrow(0, 4, 3).unwrap());
    let mut offsets = Vec::new();
    for code in rows.chunks_exact(4 * 6) {
        offsets.extend((6..24).map(|i| (code[i] - code[i % 6]).powi(2)));
    }
    total += 0.4 * mean(&offsets);
    let smooth = Smooth::new(1);
    let (squares, of_blocks) = trainer.mean_squares();
    let pixels = |t: &Tensor, i: usize| t.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let d = discriminator(&folder.path().join("again.safetensors"));
    // One at a time, which the minibatch statistics behind the blocks allow.
    let blocks = |t: &Tensor| {
        let mut seen = Vec::new();
        for i in 0..7 {
            let one = t.narrow(0, i, 1).unwrap();
            d.trace(&one, |name, t| seen.extend((name == "b8.x").then(|| flat(t)))).unwrap();
        }
        seen.concat()
    };
    let (of_y, of_x) = (blocks(&y), blocks(x));
    let size = of_y.len() / 7;
    for i in 0..7 {
        let (weight, also, share) = if i < 4 { (0.6, 0.2, 0.25) } else { (0.8, 0.1, 1.0 / 3.0) };
        total += weight * share * smooth.distance(&pixels(&y, i), &pixels(x, i), &LAYERS, &squares);
        let range = i * size..(i + 1) * size;
        total += also * share * 2.0 / of_blocks[0] * square(&of_y[range.clone()], &of_x[range]);
    }
    let found = trainer.loss(&batch).unwrap().1.total;
    println!("{found} {total}");
    assert!((found - total).abs() < 1e-4 * total, "{found} {total}");
}

#[test]
fn mixed_codes_have_two_parts_and_shares_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let count = |training: &str| {
        let trainer = trainer(folder.path(), training);
        let batch = trainer.batch(None, 0.0).unwrap();
        let codes = batch.codes.unwrap().to_vec3::<f32>().unwrap();
        assert_eq!((codes.len(), codes[0].len(), batch.images.dims()[0]), (6, 4, 6));
        // A code changes at most once on its way through the rows.
        let changes = |c: &Vec<Vec<f32>>| c.windows(2).filter(|w| w[0] != w[1]).count();
        assert!(codes.iter().all(|c| changes(c) <= 1));
        codes.iter().filter(|c| changes(c) == 1).count()
    };
    assert_eq!(count("latent-weight = 1.0\npixel-weight = 1.0"), 0);
    assert_eq!(count("latent-weight = 1.0\npixel-weight = 1.0\nstyle-mixing = 1.0"), 6);
}

#[test]
fn wrong_manifests_and_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    small_generator(folder);
    manifest(folder, ALL);
    let text = std::fs::read_to_string(folder.join("e.toml")).unwrap();
    let refused = |from: &str, to: &str, word: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(folder.join("bad.toml"), text.replace(from, to)).unwrap();
        let error = EncoderManifest::read(&folder.join("bad.toml")).unwrap_err().to_string();
        assert!(error.contains(word), "{from} -> {to}: {error}");
    };
    refused("space = \"w+\"", "space = \"w\"", "need encoder.space");
    refused("space = \"w+\"", "space = \"z\"", "w+");
    refused("head = 12", "head = 0", "at least 1");
    refused("style-mixing = 0.5", "style-mixing = 1.5", "between 0 and 1");
    refused("real-pixel-weight = 0.7", "real-pixel-weight = -0.7", "at least 0");
    refused("real-pixel-weight", "reel-pixel-weight", "real-pixel-weight");
    refused("data = { images = [\"pictures\"] }", "", "need [data]");
    refused("[training]", "features = [{ path = \"f.onnx\" }]\n[training]", "real-weight must be positive");
    refused("[training]", "features = [{ path = \"f.onnx\", weigth = 1.0 }]\n[training]", "`weight`");
    let of =
        |weights: &[f64], sizes| Perceptual::of_network(Box::new(Smooth::new(1)), "smooth", weights, sizes);
    let error = of(&[1.0], (1, SIDE)).err().unwrap().to_string();
    assert!(error.contains("layer-weights") && error.contains("expected 2"), "{error}");
    let error = of(&[], (3, SIDE)).err().unwrap().to_string();
    assert!(error.contains("smooth") && error.contains("8x8 images of 1 channels"), "{error}");
    discriminator(&folder.join("d.safetensors"));
    let error = Perceptual::of_discriminator(&folder.join("d.safetensors"), &[], (1, 16), &Device::Cpu);
    assert!(error.err().unwrap().to_string().contains("judges 8x8"));
    let state = serde_json::json!({ "manifest": { "discriminator": { "kind": "projected" } } }).to_string();
    checkpoint::save(&folder.join("p.safetensors"), &state, &std::collections::BTreeMap::new()).unwrap();
    let error = Perceptual::of_discriminator(&folder.join("p.safetensors"), &[], (1, SIDE), &Device::Cpu);
    assert!(error.err().unwrap().to_string().contains("projected"));
}

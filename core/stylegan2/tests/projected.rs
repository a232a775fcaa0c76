//! The projected discriminator: gradients of the whole chain, a toy distribution, resuming, and what is refused.

mod support;

use candle_core::{DType, Device, Tensor, Var};
use shiftlens_api::{FeatureInfo, FeatureLayer, FeatureNetwork, Silent, Tensor as Plain};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{
    FeatureSection, GeneratorManifest, Mixing, Parts, Projected, ProjectedConfig, train_generator_with,
};
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Generator};
use std::path::Path;
use support::pictures;

/// Three levels of fixed random convolutions with smooth activations; gradients by candle.
struct Pyramid {
    weights: Vec<Tensor>,
    info: FeatureInfo,
}

impl Pyramid {
    fn new(channels: usize, side: usize) -> Self {
        let widths = [channels, 6, 8, 10];
        let weights = (0..3)
            .map(|i| {
                let (c, k) = (widths[i], widths[i + 1]);
                let scale = (9.0 * c as f32).sqrt();
                let values =
                    Rng::new(9, i as u64).normals(k * c * 9).iter().map(|v| 2.0 * v / scale).collect();
                Tensor::from_vec(values, (k, c, 3, 3), &Device::Cpu).unwrap()
            })
            .collect();
        let layer = |i: usize| FeatureLayer {
            name: format!("level{i}"),
            shape: vec![widths[i + 1], side >> i, side >> i],
        };
        let layers = (0..3).map(layer).collect();
        Self { weights, info: FeatureInfo { layers, channels, size: (side, side), backend: "test".into() } }
    }

    fn run(&self, x: &Tensor) -> Vec<Tensor> {
        let mut x = x.clone();
        let mut out = Vec::new();
        for (i, w) in self.weights.iter().enumerate() {
            if i > 0 {
                x = x.avg_pool2d(2).unwrap();
            }
            x = x.conv2d(w, 1, 1, 1, 1).unwrap().tanh().unwrap();
            out.push(x.clone());
        }
        let wanted = self.info.layers.iter().map(|l| l.name.strip_prefix("level").unwrap().parse::<usize>());
        wanted.map(|i| out[i.unwrap()].clone()).collect()
    }
}

fn candle(t: &Plain) -> Tensor {
    Tensor::from_slice(t.as_slice(), t.shape(), &Device::Cpu).unwrap()
}

fn plain(t: &Tensor) -> Plain {
    Plain::new(t.dims().to_vec(), t.flatten_all().unwrap().to_vec1().unwrap()).unwrap()
}

impl FeatureNetwork for Pyramid {
    fn info(&self) -> FeatureInfo {
        self.info.clone()
    }
    fn features(&mut self, x: &Plain) -> shiftlens_api::Result<Vec<Plain>> {
        Ok(self.run(&candle(x)).iter().map(plain).collect())
    }
    fn pullback(&mut self, x: &Plain, cotangents: &[Plain]) -> shiftlens_api::Result<Plain> {
        let x = Var::from_tensor(&candle(x)).unwrap();
        let terms = self.run(x.as_tensor());
        let terms = terms.iter().zip(cotangents).map(|(f, c)| (f * candle(c)).unwrap().sum_all().unwrap());
        let sum = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        Ok(plain(sum.backward().unwrap().get(x.as_tensor()).unwrap()))
    }
}

fn config(mixing: Mixing, batch_norm: bool) -> ProjectedConfig {
    ProjectedConfig {
        features: FeatureSection {
            path: "features.onnx".into(),
            sha256: None,
            layers: Vec::new(),
            input: None,
            upsample: None,
        },
        channel_base: 64,
        channel_max: 16,
        mixing,
        batch_norm,
    }
}

fn images(n: usize, seed: u64) -> Tensor {
    let values = Rng::new(seed, 0).normals(n * 256).iter().map(|v| 0.5 * v).collect();
    Tensor::from_vec(values, (n, 1, 16, 16), &Device::Cpu).unwrap()
}

fn value(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// In f64, in which the sum of many numbers shows a small change.
fn mean(t: &Tensor) -> f64 {
    value(&t.to_dtype(DType::F64).unwrap().mean_all().unwrap())
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// D's hinge loss in f64, in which the sum of many numbers shows a small change.
fn hinge(d: &mut Projected, fake: &Tensor, real: &Tensor) -> f64 {
    let mut side = |x: &Tensor, sign: f64| {
        let logits = d.judge(x).unwrap();
        let level = |t: &Tensor| {
            let t = flat(t);
            t.iter().map(|v| (1.0 + sign * f64::from(*v)).max(0.0)).sum::<f64>() / t.len() as f64
        };
        logits.iter().map(level).sum::<f64>()
    };
    side(fake, 1.0) + side(real, -1.0)
}

#[test]
fn gradients_of_the_whole_chain_are_finite_differences() {
    shiftlens_stylegan2::enable_second_order();
    for (mixing, norm) in
        [(Mixing::ChannelsAndScales, false), (Mixing::ChannelsAndScales, true), (Mixing::None, false)]
    {
        let real = images(6, 1);
        let mut d =
            Projected::new(&config(mixing, norm), Box::new(Pyramid::new(1, 16)), 7, None, &real).unwrap();
        // G's loss along directions in the space of what makes the images: x = tanh(y).
        let y = Var::from_tensor(&images(6, 2)).unwrap();
        let (loss, surrogate, seen) = d.guide(&y.as_tensor().tanh().unwrap()).unwrap();
        let grads = surrogate.backward().unwrap();
        let gradient = grads.get(y.as_tensor()).unwrap();
        let mut of = |y: &Tensor| {
            let logits = d.judge(&y.tanh().unwrap()).unwrap();
            logits.iter().map(|t| -mean(t)).sum::<f64>()
        };
        assert!((loss - of(&y.as_detached_tensor())).abs() < 1e-5);
        for k in 0..4 {
            // Towards the gradient and across: a direction of pure chance would hardly change the loss.
            let across = (images(6, 30 + k) * 0.02).unwrap();
            let norm = value(&gradient.sqr().unwrap().sum_all().unwrap()).sqrt();
            let along = (gradient / norm).unwrap();
            let v = (along + across).unwrap();
            let step = 0.02;
            let moved = |s: f64| (y.as_detached_tensor() + (&v * s).unwrap()).unwrap();
            let found = (of(&moved(step)) - of(&moved(-step))) / (2.0 * step);
            let expected = value(&(gradient * &v).unwrap().sum_all().unwrap());
            println!("{mixing:?} {norm}: {found} {expected}");
            assert!((found - expected).abs() < 0.02 * expected.abs(), "{found} {expected}");
        }
        // D's loss along its own weights; the singular vectors are brought up to date first, so that the quotient's
        // gradient is the whole.
        for _ in 0..100 {
            d.iterate().unwrap();
        }
        let vars = d.vars();
        let (loss, sign) = d.loss(&seen, &real).unwrap();
        assert!((-1.0..=1.0).contains(&sign));
        let grads = loss.backward().unwrap();
        let fake = y.as_detached_tensor().tanh().unwrap();
        assert!((value(&loss) - hinge(&mut d, &fake, &real)).abs() < 1e-5);
        let mut checked = 0;
        for (name, var) in &vars {
            let start = var.as_detached_tensor().copy().unwrap();
            let Some(g) = grads.get(var.as_tensor()) else { panic!("{name} has no gradient") };
            let norm = value(&g.sqr().unwrap().sum_all().unwrap()).sqrt();
            // Biases that both sides' means cancel, and what batch normalisation takes out again.
            if norm < 1e-3 {
                continue;
            }
            let v = (g / norm).unwrap();
            let mut at = |s: f64| {
                var.set(&(&start + (&v * s).unwrap()).unwrap()).unwrap();
                (0..20).for_each(|_| d.iterate().unwrap());
                hinge(&mut d, &fake, &real)
            };
            let step = 2e-4;
            let found = (at(step) - at(-step)) / (2.0 * step);
            var.set(&start).unwrap();
            println!("{mixing:?} {name}: {found} {norm}");
            assert!((found - norm).abs() < 0.03 * norm, "{mixing:?} {name}: {found} {norm}");
            checked += 1;
        }
        assert!(checked > 6, "{checked} gradients");
    }
}

#[test]
fn its_state_comes_back_and_layers_that_do_not_fit_are_refused() {
    shiftlens_stylegan2::enable_second_order();
    let real = images(4, 1);
    let new = |stored| {
        let network = Box::new(Pyramid::new(1, 16));
        Projected::new(&config(Mixing::ChannelsAndScales, true), network, 7, stored, &real).unwrap()
    };
    let mut first = new(None);
    first.iterate().unwrap();
    let mut second = new(Some(first.state().unwrap().into_iter().collect()));
    let x = images(4, 5);
    for (a, b) in first.judge(&x).unwrap().iter().zip(second.judge(&x).unwrap()) {
        assert_eq!(flat(a), flat(&b));
    }
    let refuse = |network: Pyramid, words: &str| {
        let config = config(Mixing::ChannelsAndScales, true);
        let error = Projected::new(&config, Box::new(network), 7, None, &real).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    };
    refuse(Pyramid::new(3, 16), "takes images [3, 16, 16], training has [1, 16, 16]");
    let mut pooled = Pyramid::new(1, 16);
    pooled.info.layers[2].shape = vec![10];
    refuse(pooled, "`level2` has shape [10]");
    let mut turned = Pyramid::new(1, 16);
    turned.info.layers.reverse();
    refuse(turned, "expected each 1, 2, 4");
}

fn manifest(
    folder: &Path,
    output: &str,
    images: u64,
    more: &str,
) -> shiftlens_api::Result<GeneratorManifest> {
    std::fs::write(folder.join("features.onnx"), "stands for a network").unwrap();
    let text = format!(
        r#"
schema = 1
name = "discs"
data = {{ images = ["pictures"], flip = true }}
{}[discriminator]
kind = "projected"
channel-base = 128
channel-max = 32
features = {{ path = "features.onnx" }}
[augment]
pipeline = "blit"
p = 0.1
[training]
seed = 3
images = {images}
batch = 8
learning-rate = 2e-3
ema-half-life = 200
{more}
[output]
folder = {:?}
checkpoint-every = 64
samples-every = 64
"#,
        support::generator_section(16),
        folder.join(output)
    );
    let path = folder.join("train.toml");
    std::fs::write(&path, text).unwrap();
    GeneratorManifest::read(&path)
}

fn parts(stop_after: Option<u64>) -> Parts<'static> {
    Parts { features: Some(Box::new(Pyramid::new(1, 16))), stop_after, ..Parts::default() }
}

#[test]
fn a_resumed_run_is_bit_for_bit_an_undisturbed_one() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let more = "path-length-weight = 2.0\naccumulate = 2";
    let new = |output: &str| manifest(folder.path(), output, 96, more).unwrap();
    let whole = new("whole");
    train_generator_with(&whole, parts(None), &Silent).unwrap();
    for stop in [Some(24), Some(32), None] {
        train_generator_with(&new("parts"), parts(stop), &Silent).unwrap();
    }
    let read = |o: &str| std::fs::read(folder.path().join(o).join("generator.safetensors")).unwrap();
    assert_eq!(read("whole"), read("parts"));
    // Another feature network makes it another run.
    std::fs::write(folder.path().join("features.onnx"), "another").unwrap();
    let error = train_generator_with(&whole, parts(None), &Silent).unwrap_err().to_string();
    assert!(error.contains("another manifest or feature network"), "{error}");
}

#[test]
fn a_toy_distribution_is_learned() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    pictures(&folder.path().join("pictures"));
    let manifest = manifest(folder.path(), "out", 3200, "").unwrap();
    let report = train_generator_with(&manifest, parts(None), &Silent).unwrap();
    let mut g = StyleGan2Generator::load(&report.file, &GeneratorOptions::default()).unwrap();
    let codes = shiftlens_api::Generator::sample(&mut g, 40, 5).unwrap();
    let images = shiftlens_api::Generator::synthesize(&mut g, &codes).unwrap();
    // Bright discs on a dark ground; an untrained network gives grey everywhere.
    let mean = images.as_slice().iter().sum::<f32>() / images.as_slice().len() as f32;
    let discs = (0..40).filter(|i| images.image(*i).iter().any(|v| *v > 0.6)).count();
    println!("mean {mean}, {discs} of 40 with a disc, {:.0} s", report.seconds);
    assert!((0.05..0.4).contains(&mean) && discs > 20, "mean {mean}, {discs} of 40 with a disc");
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |more: &str, words: &str| {
        let error = manifest(folder.path(), "out", 64, more).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("r1-gamma = 1.0", "training.r1-gamma: a projected discriminator has no gradient penalty");
    refused("accumulate = 3", "multiple of training.accumulate");
    refused("style-mixing = 1.5", "style-mixing");
    refused("path-length-wieght = 2", "path-length-wieght");
    let text = std::fs::read_to_string(folder.path().join("train.toml")).unwrap();
    let text = text.replace("path-length-wieght = 2", "");
    for (from, to, words) in [
        ("\"projected\"", "\"projcted\"", "expected \"stylegan2\" or \"projected\""),
        ("channel-max = 32", "channel-maximum = 32", "unknown field `channel-maximum`"),
        ("channel-max = 32", "channel-max = 0", "channel-max: expected at least 1"),
    ] {
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = GeneratorManifest::read(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

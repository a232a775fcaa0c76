//! What a GPU executes, run on the CPU: the composed operations against candle's own, finite differences, and the
//! reference's numbers; the networks and the trainers on them; and the precisions.
//!
//! f64 always takes the composed operations, f32 does inside `ops::composed`.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use shiftlens_api::{Generator, Silent};
use shiftlens_stylegan2::net::{Discriminator, DiscriminatorConfig, GeneratorConfig, GeneratorNet, Noise};
use shiftlens_stylegan2::ops::{self, Activation, Gather, Precision};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{EncoderManifest, GeneratorManifest, train_encoder, train_generator};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Encoder, StyleGan2Generator};
use std::collections::HashMap;
use std::path::Path;

fn random(shape: &[usize], seed: u64) -> Tensor {
    Rng::new(seed, 0).tensor(shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// L2 norm of the difference over the norm of `b`.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let norm = b.iter().map(|v| v * v).sum::<f64>().sqrt();
    a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / norm.max(1e-30)
}

#[track_caller]
fn close(what: &str, a: &Tensor, b: &Tensor, limit: f64) {
    let e = relative(a, b);
    println!("{what}: {e:.1e}");
    assert!(e < limit, "{what}: {e}");
}

/// Zeros between and around, then every channel by itself with the 4x4 filter, by candle's own convolution.
fn filter(x: &Tensor, up: usize, down: usize, (before, after): (usize, usize), gain: f64) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let x = x.reshape((n * c, h, 1, w, 1))?.pad_with_zeros(2, 0, up - 1)?.pad_with_zeros(4, 0, up - 1)?;
    let x = x.reshape((n * c, 1, h * up, w * up))?;
    let x = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
    let taps = Tensor::new(&[1f64, 3.0, 3.0, 1.0], &Device::Cpu)?;
    let kernel = (taps.reshape((4, 1))?.matmul(&taps.reshape((1, 4))?)? * (gain / 64.0))?;
    let y = x.conv2d(&kernel.reshape((1, 1, 4, 4))?, 0, down, 1, 1)?;
    let (_, _, h, w) = y.dims4()?;
    y.reshape((n, c, h, w))
}

#[test]
fn values_are_those_of_candles_own_operations() {
    for way in [Gather::Auto, Gather::Windows, Gather::Shifts] {
        ops::with_gather(way, values_are_candles);
    }
}

fn values_are_candles() {
    let check =
        |what: &str, a: Result<Tensor>, b: Result<Tensor>| close(what, &a.unwrap(), &b.unwrap(), 1e-7);
    let (x, w) = (random(&[2, 3, 6, 8], 1), random(&[5, 3, 3, 3], 2));
    let up = |x: &Tensor, w: &Tensor| x.conv_transpose2d(&w.transpose(0, 1)?.contiguous()?, 0, 0, 2, 1);
    check("conv2d", ops::conv2d(&x, &w), x.conv2d(&w, 1, 1, 1, 1));
    let one = random(&[5, 3, 1, 1], 3);
    check("conv2d 1x1", ops::conv2d(&x, &one), x.conv2d(&one, 0, 1, 1, 1));
    let odd = random(&[2, 3, 7, 9], 4);
    check("conv2d_down", ops::conv2d_down(&odd, &w), odd.conv2d(&w, 0, 2, 1, 1));
    check("conv2d_up", ops::conv2d_up(&x, &w), up(&x, &w));
    check("upsample", ops::upsample(&x), filter(&x, 2, 1, (2, 1), 4.0));
    check("downsample", ops::downsample(&x), filter(&x, 1, 2, (1, 1), 1.0));
    check("blur", ops::blur(&x, 2, 1.0), filter(&x, 1, 1, (2, 2), 1.0));
    let halved = filter(&x, 1, 1, (2, 2), 1.0).and_then(|x| x.conv2d(&w, 0, 2, 1, 1));
    check("conv2d_halve", ops::conv2d_halve(&x, &w), halved);
    let (style, demod) = (random(&[2, 3], 5), random(&[2, 5], 6));
    let scaled = |t: &Tensor, s: &Tensor| t.broadcast_mul(&s.reshape((2, s.dim(1)?, 1, 1))?);
    let doubled = scaled(&x, &style)
        .and_then(|x| filter(&up(&x, &w)?, 1, 1, (1, 1), 4.0))
        .and_then(|y| scaled(&y, &demod));
    check("modulated_conv2d_double", ops::modulated_conv2d_double(&x, &style, &w, &demod), doubled);
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// `sum(f c)` with its gradients, and the energy of those gradients with its own.
fn orders(f: Function<'_>, at: &[Tensor]) -> (f64, Vec<Tensor>, f64, Vec<Tensor>) {
    let run = || -> Result<_> {
        let vars: Vec<Var> = at.iter().map(Var::from_tensor).collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors)?;
        let loss = (&y * random(y.dims(), 99))?.sum_all()?;
        let store = loss.backward()?;
        let pick = |v: &Var| store.get(v.as_tensor()).expect("every input matters").clone();
        let first: Vec<Tensor> = vars.iter().map(pick).collect();
        let mut energy = Tensor::zeros((), DType::F64, &Device::Cpu)?;
        for (i, g) in first.iter().enumerate() {
            // Different weights, so that terms cannot cancel.
            energy = (energy + (g.sqr()?.sum_all()? * (1.0 + i as f64))?)?;
        }
        let store = energy.backward()?;
        let second = vars.iter().map(|v| match store.get(v.as_tensor()) {
            Some(g) => Ok(g.clone()),
            None => v.as_tensor().zeros_like(),
        });
        let second: Vec<Tensor> = second.collect::<Result<_>>()?;
        Ok((loss.to_scalar::<f64>()?, first, energy.to_scalar::<f64>()?, second))
    };
    run().unwrap()
}

/// Gradients of both orders against central differences along a random direction of every input.
fn differences(what: &str, f: Function<'_>, at: &[Tensor]) {
    shiftlens_stylegan2::enable_second_order();
    let (_, first, _, second) = orders(f, at);
    let step = 1e-5;
    for i in 0..at.len() {
        let direction = random(at[i].dims(), 50 + i as u64);
        let moved = |sign: f64| {
            let mut at = at.to_vec();
            at[i] = (&at[i] + (&direction * (sign * step)).unwrap()).unwrap();
            orders(f, &at)
        };
        let (up, down) = (moved(1.0), moved(-1.0));
        let along = |g: &Tensor| (g * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        for (order, found, expected, scale) in [
            (1, along(&first[i]), (up.0 - down.0) / (2.0 * step), up.0.abs()),
            (2, along(&second[i]), (up.2 - down.2) / (2.0 * step), up.2.abs()),
        ] {
            let e = (found - expected).abs() / (expected.abs() + 0.01 * scale + 1e-3);
            assert!(e < 1e-5, "{what}, input {i}, order {order}: {found}, by differences {expected}");
        }
    }
}

#[test]
fn gradients_of_both_orders_are_finite_differences() {
    for way in [Gather::Windows, Gather::Shifts] {
        ops::with_gather(way, gradients_are_differences);
    }
}

fn gradients_are_differences() {
    let (x, w) = (random(&[2, 3, 4, 6], 1), random(&[4, 3, 3, 3], 2));
    differences("conv2d", &|t| ops::conv2d(&t[0], &t[1]), &[x.clone(), w.clone()]);
    differences("1x1", &|t| ops::conv2d(&t[0], &t[1]), &[x.clone(), random(&[4, 3, 1, 1], 3)]);
    let odd = random(&[2, 3, 5, 7], 4);
    differences("conv2d_down", &|t| ops::conv2d_down(&t[0], &t[1]), &[odd, w.clone()]);
    differences("conv2d_up", &|t| ops::conv2d_up(&t[0], &t[1]), &[x.clone(), w.clone()]);
    differences("conv2d_halve", &|t| ops::conv2d_halve(&t[0], &t[1]), &[x.clone(), w.clone()]);
    let factors = [random(&[2, 3], 5), random(&[2, 4], 6)];
    let all = [x.clone(), factors[0].clone(), w, factors[1].clone()];
    differences("double", &|t| ops::modulated_conv2d_double(&t[0], &t[1], &t[2], &t[3]), &all);
    differences("modulated", &|t| ops::modulated_conv2d(&t[0], &t[1], &t[2], &t[3], false), &all);
    // Squares first: otherwise the second order of a linear map is nothing to look at.
    let square = [random(&[2, 3, 4, 4], 7)];
    differences("upsample", &|t| ops::upsample(&t[0].sqr()?), &square);
    differences("downsample", &|t| ops::downsample(&t[0].sqr()?), &square);
    let (b, e) = (random(&[3], 8), random(&[2, 1, 4, 6], 9));
    let act = Activation::leaky(0.7).clamped(Some(2.0));
    let noisy = |t: &[Tensor]| ops::bias_act(&t[0].sqr()?, &t[1].sqr()?, Some(&t[2].sqr()?.neg()?), act);
    differences("bias_act", &noisy, &[x, b, e]);
}

fn fixture(name: &str) -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn d32() -> DiscriminatorConfig {
    support::discriminator(32, 1, 2048, 64)
}

/// Largest difference over the rms of `b`.
fn largest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let rms = (b.iter().map(|v| v * v).sum::<f64>() / b.len() as f64).sqrt();
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / rms
}

#[test]
fn generator_matches_the_reference() {
    let io = fixture("g32_io.safetensors");
    let weights = Weights::frozen(fixture("g32_G.safetensors"), &Device::Cpu);
    let g = GeneratorNet::new(&support::generator("g32"), &weights).unwrap();
    let mut prepared = GeneratorNet::new(&support::generator("g32"), &weights).unwrap();
    prepared.prepare().unwrap();
    let clamped = GeneratorConfig { conv_clamp: Some(0.5), ..support::generator("g32") };
    let clamped = GeneratorNet::new(&clamped, &weights).unwrap();
    ops::composed(|| {
        for (ws, image, noise) in [
            ("ws_psi1", "img_const_psi1", Noise::Constant),
            ("ws_psi1", "img_none_psi1", Noise::Zero),
            ("ws_mixed", "img_const_mixed", Noise::Constant),
        ] {
            let e = largest(&g.synthesize(&io[ws], noise).unwrap(), &io[image]);
            println!("{image}: {e:.1e}");
            assert!(e < 1e-4, "{image}: {e}");
        }
        let e =
            largest(&prepared.synthesize(&io["ws_psi1"], Noise::Constant).unwrap(), &io["img_const_psi1"]);
        assert!(e < 1e-4, "prepared: {e}");
        let e = largest(
            &clamped.synthesize(&io["ws_psi1"], Noise::Constant).unwrap(),
            &io["img_const_psi1_conv_clamp0.5"],
        );
        assert!(e < 1e-4, "clamped: {e}");
    });
}

/// Logits, R1 and the gradients of R1 with respect to D's parameters.
fn r1(io: &HashMap<String, Tensor>) -> (Tensor, Tensor, Vec<(String, Tensor)>) {
    let weights = Weights::trainable(fixture("g32_D.safetensors"), &Device::Cpu);
    let d = Discriminator::new(&d32(), &weights).unwrap();
    let images = Var::from_tensor(&io["img_const_psi1"]).unwrap();
    let logits = d.forward(images.as_tensor()).unwrap();
    let store = logits.sum_all().unwrap().backward().unwrap();
    let penalty = store.get(images.as_tensor()).unwrap().sqr().unwrap().sum((1, 2, 3)).unwrap();
    let store = ops::first_order(|| (penalty.mean_all().unwrap() * 5.0).unwrap().backward().unwrap());
    let all = weights.vars().into_iter();
    let all = all.filter_map(|(name, v)| Some((name, store.get(v.as_tensor())?.detach()))).collect();
    (logits.detach(), penalty.detach(), all)
}

#[test]
fn discriminator_and_r1_match_the_reference_and_our_kernels() {
    shiftlens_stylegan2::enable_second_order();
    let io = fixture("g32_io.safetensors");
    let (logits, penalty, grads) = ops::composed(|| ops::with_gather(Gather::Shifts, || r1(&io)));
    assert!(largest(&logits, &io["D_logits"]) < 1e-4);
    close("R1", &penalty, &io["D_r1_penalty"], 1e-4);
    let (_, _, native) = r1(&io);
    assert_eq!(grads.len(), native.len());
    assert!(grads.len() >= 20, "only {} gradients", grads.len());
    for ((name, a), (other, b)) in grads.iter().zip(&native) {
        assert_eq!(name, other);
        if values(b).iter().any(|v| v.abs() > 1e-9) {
            close(name, a, b, 1e-3);
        }
    }
}

/// The image's gradients with respect to ws under random pixels (path length), and those of their energy with respect
/// to the parameters.
fn path_length(io: &HashMap<String, Tensor>) -> (Tensor, Vec<(String, Tensor)>) {
    let weights = Weights::trainable(fixture("g32_G.safetensors"), &Device::Cpu);
    let g = GeneratorNet::new(&support::generator("g32"), &weights).unwrap();
    let ws = Var::from_tensor(&io["ws_psi1"]).unwrap();
    let image = g.synthesize(ws.as_tensor(), Noise::Constant).unwrap();
    let store = (image * &io["pl_noise"]).unwrap().sum_all().unwrap().backward().unwrap();
    let first = store.get(ws.as_tensor()).unwrap().clone();
    let store = first.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let all = weights.vars().into_iter();
    let all = all.filter_map(|(name, v)| Some((name, store.get(v.as_tensor())?.detach()))).collect();
    (first.detach(), all)
}

#[test]
fn path_length_matches_the_reference_and_our_kernels() {
    shiftlens_stylegan2::enable_second_order();
    let io = fixture("g32_io.safetensors");
    let (first, grads) = ops::composed(|| path_length(&io));
    close("path length", &first, &io["pl_grads"], 1e-4);
    // An encoder is trained through a frozen generator that keeps what follows from its weights.
    let frozen = Weights::frozen(fixture("g32_G.safetensors"), &Device::Cpu);
    let mut g = GeneratorNet::new(&support::generator("g32"), &frozen).unwrap();
    ops::composed(|| {
        g.prepare().unwrap();
        let ws = Var::from_tensor(&io["ws_psi1"]).unwrap();
        let image = g.synthesize(ws.as_tensor(), Noise::Constant).unwrap();
        let loss = (image * &io["pl_noise"]).unwrap().sum_all().unwrap();
        let store = ops::first_order(|| loss.backward()).unwrap();
        close("prepared", store.get(ws.as_tensor()).unwrap(), &io["pl_grads"], 1e-4);
    });
    let (_, native) = path_length(&io);
    assert_eq!(grads.len(), native.len());
    assert!(grads.len() >= 20, "only {} gradients", grads.len());
    for ((name, a), (_, b)) in grads.iter().zip(&native) {
        if values(b).iter().any(|v| v.abs() > 1e-9) {
            close(name, a, b, 1e-3);
        }
    }
}

#[test]
fn bf16_rounds_and_is_bounded() {
    shiftlens_stylegan2::enable_second_order();
    let io = fixture("g32_io.safetensors");
    let g = GeneratorNet::new(
        &support::generator("g32"),
        &Weights::frozen(fixture("g32_G.safetensors"), &Device::Cpu),
    )
    .unwrap();
    let image = |p| {
        let run = || g.synthesize(&io["ws_psi1"], Noise::Constant).unwrap();
        ops::composed(|| ops::with_precision(p, run))
    };
    let e = relative(&image(Precision::Bf16), &io["img_const_psi1"]);
    println!("bf16, image: {e:.1e} of rms");
    // Seven bits of mantissa: 2^-8 for each factor, more after ten layers, less by averaging over many products.
    assert!((1e-4..2e-2).contains(&e), "{e}");
    assert!(relative(&image(Precision::F32), &io["img_const_psi1"]) < 1e-5);
    assert_eq!(
        Precision::ALL.map(Precision::for_second_order),
        [Precision::F32, Precision::Tf32, Precision::Tf32]
    );
    let (_, penalty, grads) = ops::composed(|| ops::with_precision(Precision::Bf16, || r1(&io)));
    let e = relative(&penalty, &io["D_r1_penalty"]);
    println!("bf16, R1: {e:.1e}");
    assert!((1e-5..5e-2).contains(&e), "{e}");
    let (_, _, exact) = r1(&io);
    let flat = |all: &[(String, Tensor)]| {
        Tensor::cat(&all.iter().map(|(_, t)| t.flatten_all().unwrap()).collect::<Vec<_>>(), 0).unwrap()
    };
    let e = relative(&flat(&grads), &flat(&exact));
    println!("bf16, gradients of R1: {e:.1e}");
    assert!((1e-5..5e-2).contains(&e), "{e}");
}

const TRAIN: &str = r#"
schema = 1
name = "stripes"
data = { images = ["pictures"] }
generator = { resolution = 16, channels = 1, z-dim = 8, w-dim = 8, mapping-layers = 2, channel-base = 128, channel-max = 16 }
discriminator = { resolution = 16, channels = 1, channel-base = 128, channel-max = 16, mbstd-group = 4, mbstd-channels = 1 }
training = { seed = 3, images = 128, batch = 8, learning-rate = 1e-4, r1-gamma = 0.1, r1-interval = 4, ema-half-life = 200, ema-rampup = 0.05 }
output = { folder = "OUT", checkpoint-every = 64, samples-every = 128 }
"#;

const ENCODE: &str = r#"
schema = 1
name = "stripes' encoder"
generator = "native/generator.safetensors"
data = { images = ["pictures"] }
encoder = { resolution = 16, channels = 1, w-dim = 8, channel-base = 128, channel-max = 16 }
training = { seed = 4, images = 128, batch = 8, learning-rate = 1e-4, latent-weight = 4.0, pixel-weight = 1.0, real-pixel-weight = 1.0, real-prior-weight = 0.1 }
output = { folder = "OUT", checkpoint-every = 64, samples-every = 128 }
"#;

fn write(folder: &Path, text: &str, out: &str) -> std::path::PathBuf {
    let path = folder.join(format!("{out}.toml"));
    std::fs::write(&path, text.replace("OUT", &folder.join(out).display().to_string())).unwrap();
    path
}

/// The numbers of the log's last line, without seconds and rates.
fn losses(folder: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("log.csv")).unwrap();
    let (header, line) = (text.lines().next().unwrap(), text.lines().last().unwrap());
    let wanted = header
        .split(',')
        .zip(line.split(','))
        .filter(|(name, _)| name.contains("loss") || name.contains("mse"));
    wanted.map(|(_, v)| v.parse().unwrap()).collect()
}

#[test]
fn both_trainers_run_on_the_composed_operations() {
    shiftlens_stylegan2::enable_second_order();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("pictures")).unwrap();
    for i in 0..8u32 {
        let picture = image::GrayImage::from_fn(16, 16, |x, y| {
            image::Luma([if (x + i * y) % 4 < 2 { 200 } else { 40 }])
        });
        picture.save(folder.join("pictures").join(format!("{i}.png"))).unwrap();
    }
    let generator = |out: &str| {
        train_generator(&GeneratorManifest::read(&write(folder, TRAIN, out)).unwrap(), None, &Silent)
            .unwrap();
        losses(&folder.join(out))
    };
    let encoder = |out: &str| {
        train_encoder(
            &EncoderManifest::read(&write(folder, ENCODE, out)).unwrap(),
            Vec::new(),
            None,
            &Silent,
        )
        .unwrap();
        losses(&folder.join(out))
    };
    let both = [
        (generator("native"), ops::composed(|| generator("composed"))),
        (encoder("e-native"), ops::composed(|| encoder("e-composed"))),
    ];
    for (native, composed) in both {
        println!("{native:?} {composed:?}");
        assert!(native.len() >= 2);
        // Adam's first steps have the sign of the gradient: rounding near 0 grows.
        for (a, b) in native.iter().zip(&composed) {
            assert!((a - b).abs() < 0.02 * a.abs().max(0.05), "{native:?} {composed:?}");
        }
    }

    let path = folder.join("native/generator.safetensors");
    let load = || StyleGan2Generator::load(&path, &GeneratorOptions::default()).unwrap();
    assert!(load().with_precision(Precision::F32).is_ok());
    assert!(load().info().backend.starts_with("cpu"));
    for p in [Precision::Tf32, Precision::Bf16] {
        let error = load().with_precision(p).err().unwrap().to_string();
        assert!(error.contains(p.name()) && error.contains("\"f32\" only"), "{error}");
    }
    let e = StyleGan2Encoder::load(&folder.join("e-native/encoder.safetensors"), "cpu").unwrap();
    assert!(e.with_precision(Precision::Tf32).err().unwrap().to_string().contains("tf32"));
    let bad = write(folder, &TRAIN.replace("seed = 3,", "seed = 3, precision = \"tf32\","), "refused");
    let error =
        train_generator(&GeneratorManifest::read(&bad).unwrap(), None, &Silent).unwrap_err().to_string();
    assert!(error.contains("tf32") && error.contains("CPU"), "{error}");
    let bad = write(folder, &TRAIN.replace("seed = 3,", "seed = 3, precision = \"fp8\","), "unknown");
    let error = GeneratorManifest::read(&bad).unwrap_err().to_string();
    assert!(error.contains("fp8") && error.contains("tf32"), "{error}");
    let bad = write(folder, &TRAIN.replace("seed = 3,", "seed = 3, device = \"gpu\","), "device");
    let error =
        train_generator(&GeneratorManifest::read(&bad).unwrap(), None, &Silent).unwrap_err().to_string();
    assert!(error.contains("\"gpu\"") && error.contains("cuda:0"), "{error}");
}

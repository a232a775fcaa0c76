//! Everything that runs on a device, against the CPU's own kernels and the reference's numbers.

use crate::networks::{self, Sizes, Tensors, normal};
use crate::{Done, on};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use shiftlens_api::Silent;
use shiftlens_stylegan2::net::{Discriminator, EncoderNet, GeneratorNet, Noise};
use shiftlens_stylegan2::ops::{Precision, first_order, with_precision};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{EncoderManifest, GeneratorManifest, train_encoder, train_generator};
use shiftlens_stylegan2::weights::Weights;
use std::path::Path;

/// The network of the reference numbers.
const G32: Sizes = Sizes { resolution: 32, channels: 1, base: 2048, max: 64, dim: 64, mapping: 2 };
/// A large one, whose convolutions go in parts.
const LARGE: Sizes = Sizes { resolution: 256, channels: 3, base: 32768, max: 512, dim: 128, mapping: 2 };
const MIDDLE: Sizes = Sizes { resolution: 64, channels: 3, base: 4096, max: 128, dim: 64, mapping: 2 };

const G32_G: &[u8] = include_bytes!("../../tests/fixtures/g32_G.safetensors");
const G32_D: &[u8] = include_bytes!("../../tests/fixtures/g32_D.safetensors");
const G32_IO: &[u8] = include_bytes!("../../tests/fixtures/g32_io.safetensors");

fn fixture(bytes: &[u8]) -> Result<Tensors> {
    candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
}

/// The table of errors.
struct Report {
    precision: Precision,
    /// Nothing is measured: the CPU imitates the device.
    all_well: bool,
}

impl Report {
    /// Relative errors beyond which something is broken and not just rounded, for values and for gradients.
    fn limits(&self) -> (f64, f64) {
        match self.precision {
            Precision::F32 => (1e-4, 1e-3),
            Precision::Tf32 => (1e-2, 3e-2),
            Precision::Bf16 => (5e-2, 1.5e-1),
        }
    }
    /// Notes the L2 norm of the difference over that of `expected`, and the largest difference over its rms.
    fn note(&mut self, what: &str, found: &Tensor, expected: &Tensor, limit: f64) -> Result<()> {
        let flat =
            |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        if found.dims() != expected.dims() {
            bail!("{what}: shape {:?}, expected {:?}", found.dims(), expected.dims());
        }
        let (a, b) = (flat(found)?, flat(expected)?);
        let rms = (b.iter().map(|v| v * v).sum::<f64>() / b.len() as f64).sqrt().max(1e-30);
        let difference = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let relative = (difference / b.len() as f64).sqrt() / rms;
        let largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / rms;
        self.line(what, relative, largest, limit);
        Ok(())
    }
    fn line(&mut self, what: &str, relative: f64, largest: f64, limit: f64) {
        // A NaN is no small error.
        let well = relative <= limit;
        self.all_well &= well;
        let verdict = if well { "ok" } else { "WRONG" };
        println!(
            "{:5} {what:44} {relative:9.1e} {largest:9.1e}   limit {limit:7.0e}  {verdict}",
            self.precision.name()
        );
    }
}

/// Runs all checks in all precisions that the device has; true if all is well.
pub fn run(name: &str, device: &Device) -> Done<bool> {
    println!("device {name}; error: rms and largest, over the rms of what is expected\n");
    let mut all_well = true;
    for precision in Precision::ALL {
        if device.is_cpu() && precision == Precision::Tf32 {
            continue; // nothing on the CPU imitates it
        }
        let mut report = Report { precision, all_well: true };
        with_precision(precision, || -> Result<()> {
            reference(&mut report, device)?;
            large(&mut report, device)?;
            gradients(&mut report, device)?;
            encoder(&mut report, device)?;
            if precision == Precision::F32 {
                random(&mut report, device)?;
            }
            Ok(())
        })?;
        if precision.check(device).is_ok() {
            training(&mut report, name)?;
        }
        all_well &= report.all_well;
        println!();
    }
    println!("{}", if all_well { "all well" } else { "something is WRONG" });
    Ok(all_well)
}

/// A function of a network's file on one device: values, and gradients by name.
type Part = (Vec<(&'static str, Tensor)>, Tensors);

fn collect(weights: &Weights, store: &candle_core::backprop::GradStore) -> Tensors {
    let vars = weights.vars().into_iter();
    vars.filter_map(|(name, v)| Some((name, store.get(v.as_tensor())?.detach()))).collect()
}

/// All gradients as one vector, in name order.
fn joined(all: &Tensors) -> Result<Tensor> {
    let mut names: Vec<&String> = all.keys().collect();
    names.sort();
    let parts =
        names.iter().map(|n| all[*n].flatten_all()?.to_device(&Device::Cpu)).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 0)
}

/// Compares a part on the device with the same on the CPU's own kernels.
fn both(
    report: &mut Report,
    what: &str,
    device: &Device,
    part: impl Fn(&Device) -> Result<Part> + Sync,
) -> Result<()> {
    let (values, gradients) = on(device, || part(device))?;
    let (expected, exact) = native(|| part(&Device::Cpu))?;
    for ((name, found), (_, expected)) in values.iter().zip(&expected) {
        report.note(&format!("{what}: {name}, to CPU"), found, expected, report.limits().1)?;
    }
    if gradients.len() != exact.len() {
        bail!("{what}: {} gradients, expected {}", gradients.len(), exact.len());
    }
    if !exact.is_empty() {
        let name = format!("{what}: {} gradients, to CPU", exact.len());
        report.note(&name, &joined(&gradients)?, &joined(&exact)?, report.limits().1)?;
    }
    Ok(())
}

/// Runs `f` on the CPU's own kernels in f32, also in the rehearsal: both switches belong to a thread.
fn native<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|s| s.spawn(f).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
}

fn reference(report: &mut Report, device: &Device) -> Result<()> {
    let (value, _) = report.limits();
    let io = fixture(G32_IO)?;
    let mut g = GeneratorNet::new(&G32.generator(), &Weights::frozen(fixture(G32_G)?, device))?;
    g.prepare()?;
    let ws = io["ws_psi1"].to_device(device)?;
    let w = g.broadcast(&g.map(&io["z"].to_device(device)?)?)?.contiguous()?;
    report.note("mapping, to the reference", &w, &io["ws_psi1"], value)?;
    for (noise, expected) in [(Noise::Constant, "img_const_psi1"), (Noise::Zero, "img_none_psi1")] {
        let image = g.synthesize(&ws, noise)?;
        report.note(&format!("{expected}, to the reference"), &image, &io[expected], value)?;
    }
    let d = Discriminator::new(&G32.discriminator(), &Weights::frozen(fixture(G32_D)?, device))?;
    let logits = d.forward(&io["img_const_psi1"].to_device(device)?)?;
    report.note("D's logits, to the reference", &logits, &io["D_logits"], value)?;
    both(report, "R1", device, |device| {
        let weights = Weights::trainable(fixture(G32_D)?, device);
        let d = Discriminator::new(&G32.discriminator(), &weights)?;
        let images = Var::from_tensor(&fixture(G32_IO)?["img_const_psi1"].to_device(device)?)?;
        let store = d.forward(images.as_tensor())?.sum_all()?.backward()?;
        let Some(g) = store.get(images.as_tensor()) else { bail!("D depends on its input") };
        let penalty = g.sqr()?.sum((1, 2, 3))?;
        let second = first_order(|| penalty.mean_all()?.backward())?;
        Ok((
            vec![("gradient of the logits", g.detach()), ("penalty", penalty.detach())],
            collect(&weights, &second),
        ))
    })?;
    both(report, "path length", device, |device| {
        let weights = Weights::trainable(fixture(G32_G)?, device);
        let g = GeneratorNet::new(&G32.generator(), &weights)?;
        let io = fixture(G32_IO)?;
        let ws = Var::from_tensor(&io["ws_psi1"].to_device(device)?)?;
        let image = g.synthesize(ws.as_tensor(), Noise::Constant)?;
        let store = (image * io["pl_noise"].to_device(device)?)?.sum_all()?.backward()?;
        let Some(first) = store.get(ws.as_tensor()) else { bail!("the image depends on ws") };
        let second = first.sqr()?.sum_all()?.backward()?;
        Ok((vec![("gradient to ws", first.detach())], collect(&weights, &second)))
    })
}

fn large(report: &mut Report, device: &Device) -> Result<()> {
    let sizes = if device.is_cpu() { Sizes { resolution: 64, base: 2048, ..LARGE } } else { LARGE };
    let tensors = networks::generator(&sizes, 5)?;
    both(report, &format!("{0}x{0}", sizes.resolution), device, |device| {
        let g = GeneratorNet::new(&sizes.generator(), &Weights::frozen(tensors.clone(), device))?;
        let w = g.map(&normal(&[5, sizes.dim], 6)?.to_device(device)?)?;
        let images = g.synthesize(&g.broadcast(&w)?, Noise::Constant)?;
        Ok((vec![("w", w), ("images", images)], Tensors::new()))
    })
}

fn gradients(report: &mut Report, device: &Device) -> Result<()> {
    let (gt, dt) = (networks::generator(&MIDDLE, 7)?, networks::discriminator(&MIDDLE, 8)?);
    both(report, "first order, G and D", device, |device| {
        let (gw, dw) = (Weights::trainable(gt.clone(), device), Weights::trainable(dt.clone(), device));
        let g = GeneratorNet::new(&MIDDLE.generator(), &gw)?;
        let d = Discriminator::new(&MIDDLE.discriminator(), &dw)?;
        let w = g.map(&normal(&[8, MIDDLE.dim], 9)?.to_device(device)?)?;
        let logits = d.forward(&g.synthesize(&g.broadcast(&w)?, Noise::Constant)?)?;
        let store = first_order(|| logits.sum_all()?.backward())?;
        let mut all = collect(&gw, &store);
        all.extend(collect(&dw, &store).into_iter().map(|(name, t)| (format!("D.{name}"), t)));
        Ok((vec![("logits", logits.detach())], all))
    })
}

fn encoder(report: &mut Report, device: &Device) -> Result<()> {
    let tensors = networks::encoder(&MIDDLE, 10)?;
    both(report, "encoder", device, |device| {
        let e = EncoderNet::new(&MIDDLE.encoder(), &Weights::frozen(tensors.clone(), device))?;
        let side = MIDDLE.resolution;
        let codes = e.forward(&normal(&[5, MIDDLE.channels, side, side], 11)?.to_device(device)?)?;
        Ok((vec![("codes", codes)], Tensors::new()))
    })
}

/// The device's own random numbers: standard normal, and the same for the same seed.
fn random(report: &mut Report, device: &Device) -> Result<()> {
    let draw = |seed| -> Result<Vec<f32>> {
        Rng::new(seed, 0).tensor(&[1001, 999], device)?.flatten_all()?.to_vec1()
    };
    let (a, again, other) = (draw(1)?, draw(1)?, draw(2)?);
    let n = a.len() as f64;
    let mean = a.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let var = a.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    // Five standard errors.
    report.line("noise: mean", mean.abs(), mean.abs(), 5.0 / n.sqrt());
    report.line("noise: variance", (var - 1.0).abs(), (var - 1.0).abs(), 5.0 * (2.0 / n).sqrt());
    let same = f64::from(u8::from(a != again || a == other));
    report.line("noise: follows its seed", same, same, 0.0);
    Ok(())
}

const TRAIN: &str = r#"
schema = 1
name = "stripes"
data = { images = ["pictures"] }
generator = { resolution = 16, channels = 1, z-dim = 16, w-dim = 16, mapping-layers = 2, channel-base = 256, channel-max = 32 }
discriminator = { resolution = 16, channels = 1, channel-base = 256, channel-max = 32, mbstd-group = 4, mbstd-channels = 1 }
training = { seed = 3, images = 512, batch = 16, learning-rate = 2e-4, r1-gamma = 0.1, r1-interval = 4, ema-half-life = 200, ema-rampup = 0.05, DEVICE }
output = { folder = "OUT", checkpoint-every = 512, samples-every = 512 }
"#;

const ENCODE: &str = r#"
schema = 1
name = "stripes' encoder"
generator = "GENERATOR"
data = { images = ["pictures"] }
encoder = { resolution = 16, channels = 1, w-dim = 16, channel-base = 256, channel-max = 32 }
training = { seed = 4, images = 512, batch = 16, learning-rate = 2e-4, latent-weight = 4.0, pixel-weight = 1.0, real-pixel-weight = 1.0, real-prior-weight = 0.1, DEVICE }
output = { folder = "OUT", checkpoint-every = 512, samples-every = 512 }
"#;

/// The means of the losses in a training log, by column.
fn losses(folder: &Path) -> Done<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(folder.join("log.csv"))?;
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
    let mut all = Vec::new();
    for (i, name) in rows[0].iter().enumerate().filter(|(_, n)| n.contains("loss") || n.contains("mse")) {
        let values = rows[1..].iter().map(|r| r[i].parse()).collect::<std::result::Result<Vec<f64>, _>>()?;
        all.push(((*name).to_owned(), values.iter().sum::<f64>() / values.len() as f64));
    }
    Ok(all)
}

/// Both trainers for 32 steps on the device and on the CPU. Noise differs and rounding grows, so that the mean
/// losses agree and not the weights.
fn training(report: &mut Report, device: &str) -> Done {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("pictures"))?;
    for i in 0..16u32 {
        let stripe = |x: u32, y: u32| image::Luma([if (x + i * y) % 4 < 2 { 200 } else { 40 }]);
        image::GrayImage::from_fn(16, 16, stripe).save(folder.join("pictures").join(format!("{i}.png")))?;
    }
    let run = |out: &str, at: &str| -> Done<Vec<(String, f64)>> {
        let write = |text: &str, out: &str| -> Done<std::path::PathBuf> {
            let path = folder.join(format!("{out}.toml"));
            let text = text.replace("OUT", out).replace("DEVICE", at);
            // Both encoders are trained for the CPU's generator.
            let text = text.replace("GENERATOR", "g-cpu/generator.safetensors");
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let mut g = GeneratorManifest::read(&write(TRAIN, &format!("g-{out}"))?)?;
        g.output.folder = folder.join(&g.output.folder);
        train_generator(&g, None, &Silent)?;
        let mut e = EncoderManifest::read(&write(ENCODE, &format!("e-{out}"))?)?;
        e.output.folder = folder.join(&e.output.folder);
        train_encoder(&e, Vec::new(), None, &Silent)?;
        let mut all = losses(&g.output.folder)?;
        all.extend(losses(&e.output.folder)?);
        Ok(all)
    };
    let expected = native(|| run("cpu", "device = \"cpu\"").map_err(|e| e.to_string()))?;
    let at = format!("device = \"{device}\", precision = \"{}\"", report.precision);
    for ((name, found), (_, expected)) in run("device", &at)?.iter().zip(&expected) {
        let e = (found - expected).abs() / expected.abs().max(0.05);
        report.line(&format!("training, 32 steps: {name}, to CPU"), e, e, 0.05);
    }
    Ok(())
}

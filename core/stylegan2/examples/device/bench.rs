//! Synthesis and training against PyTorch on the same device and the same weights.
//!
//! PyTorch runs in a process of its own, which answers one line for each command. Before anything is timed, both sides'
//! numbers are compared. Then they take turns, round by round, so that what disturbs the machine meets both; a row's
//! figures are medians of rounds, its ratio the median of the rounds' ratios.

use crate::networks::{self, Sizes, Tensors, normal};
use crate::{Done, on};
use candle_core::{Device, Tensor, Var};
use shiftlens_stylegan2::net::{Discriminator, GeneratorNet, Noise};
use shiftlens_stylegan2::ops::{Precision, first_order, with_precision};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::Adam;
use shiftlens_stylegan2::weights::Weights;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// How to measure.
pub struct Options {
    folder: PathBuf,
    pub python: String,
    pub rounds: usize,
    /// Networks that a CPU can rehearse.
    pub small: bool,
}

impl Options {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, python: "python3".into(), rounds: 7, small: false }
    }
}

/// Seconds that one side's turn of a round should take.
const TURN: f64 = 0.2;

struct Case {
    name: &'static str,
    sizes: Sizes,
    /// Batches of synthesis; none where the case is for training.
    synthesis: &'static [usize],
    /// Batch of training.
    training: Option<usize>,
}

const fn sizes(resolution: usize, channels: usize, base: usize) -> Sizes {
    Sizes { resolution, channels, base, max: 512, dim: 512, mapping: 8 }
}

const CASES: [Case; 3] = [
    Case { name: "64-1ch-16384", sizes: sizes(64, 1, 16384), synthesis: &[1, 8, 32], training: Some(32) },
    Case { name: "128-1ch-16384", sizes: sizes(128, 1, 16384), synthesis: &[], training: Some(32) },
    Case { name: "256-3ch-32768", sizes: sizes(256, 3, 32768), synthesis: &[1, 8, 32], training: None },
];

const SMALL: Sizes = Sizes { resolution: 32, channels: 3, base: 512, max: 32, dim: 16, mapping: 2 };
const REHEARSAL: [Case; 1] =
    [Case { name: "32-3ch-512", sizes: SMALL, synthesis: &[1, 4], training: Some(8) }];

const PYTORCH: &str = include_str!("pytorch.py");

/// PyTorch's process.
struct Torch {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Torch {
    fn start(options: &Options, device: &str) -> Done<Self> {
        let script = options.folder.join("pytorch.py");
        std::fs::write(&script, PYTORCH)?;
        let mut child = Command::new(&options.python)
            .arg(&script)
            .arg(&options.folder)
            .arg(device)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("`{}` cannot be started: {e}", options.python))?;
        let to = child.stdin.take().ok_or("no pipe to PyTorch")?;
        let from = BufReader::new(child.stdout.take().ok_or("no pipe from PyTorch")?);
        Ok(Self { child, to, from })
    }
    fn ask(&mut self, command: &str) -> Done<String> {
        writeln!(self.to, "{command}")?;
        self.to.flush()?;
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(format!("PyTorch's process ended at `{command}`; its message stands above").into());
        }
        Ok(line.trim().to_owned())
    }
    fn seconds(&mut self, command: &str) -> Done<f64> {
        let answer = self.ask(command)?;
        Ok(answer.parse().map_err(|_| format!("PyTorch answered `{answer}` to `{command}`"))?)
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    if v.len().is_multiple_of(2) { (v[v.len() / 2 - 1] + v[v.len() / 2]) / 2.0 } else { v[v.len() / 2] }
}

/// Rows on the screen and in `table.csv`.
struct Table {
    rounds: usize,
    text: String,
    all_well: bool,
}

/// Seconds for one run of `f`, over `times` runs.
fn timed(device: &Device, times: usize, f: &mut dyn FnMut() -> candle_core::Result<()>) -> Done<f64> {
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..times {
        f()?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / times as f64)
}

impl Table {
    /// Both sides' times of what both have been told to run; `difference` is that of their numbers.
    fn measure(
        &mut self,
        torch: &mut Torch,
        device: &Device,
        what: &str,
        (difference, limit): (f64, f64),
        f: &mut dyn FnMut() -> candle_core::Result<()>,
    ) -> Done {
        if difference.is_nan() || difference > limit {
            println!("{what:44} the numbers differ by {difference:.1e}, allowed {limit:.0e}: not timed");
            self.all_well = false;
            return Ok(());
        }
        timed(device, 3, f)?;
        let times = |one: f64| (TURN / one.max(1e-6)).clamp(1.0, 1000.0) as usize;
        let (ours, theirs) = (times(timed(device, 1, f)?), times(torch.seconds("warm")?));
        let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            a.push(timed(device, ours, f)?);
            b.push(torch.seconds(&format!("time {theirs}"))?);
            ratios.push(b[b.len() - 1] / a[a.len() - 1]);
        }
        let (a, b, ratio) = (median(a) * 1e3, median(b) * 1e3, median(ratios));
        println!("{what:44} {a:9.3} ms  PyTorch {b:9.3} ms  ratio {ratio:5.2}  difference {difference:.1e}");
        writeln!(self.text, "{what},{a:.4},{b:.4},{ratio:.3},{difference:.2e}")?;
        Ok(())
    }
}

/// L2 norm of the difference over that of `b`.
fn relative(a: &Tensor, b: &Tensor) -> Done<f64> {
    let a = a.to_device(&Device::Cpu)?;
    if a.dims() != b.dims() {
        return Err(format!("shapes {:?} and {:?}", a.dims(), b.dims()).into());
    }
    let energy = |t: Tensor| t.sqr()?.mean_all()?.to_scalar::<f32>();
    Ok(f64::from((energy((&a - b)?)? / energy(b.clone())?).sqrt()))
}

/// How far two sides may differ that round in other places.
fn limit(p: Precision) -> f64 {
    match p {
        Precision::F32 => 1e-3,
        Precision::Tf32 => 2e-2,
        Precision::Bf16 => 1e-1,
    }
}

/// Runs all cases; true if both sides' numbers agreed everywhere.
pub fn run(options: &Options, name: &str, device: &Device) -> Done<bool> {
    std::fs::create_dir_all(&options.folder)?;
    let mut torch = Torch::start(options, name)?;
    println!("{name} against {}; a ratio above 1: PyTorch takes longer\n", torch.ask("device")?);
    let header = "case,shiftlens_ms,pytorch_ms,ratio,difference\n";
    let mut table = Table { rounds: options.rounds, text: header.into(), all_well: true };
    let precisions: &[Precision] = if device.is_cpu() { &[Precision::F32] } else { &Precision::ALL };
    let cases: &[Case] = if options.small { &REHEARSAL } else { &CASES };
    for case in cases {
        let (g, d) = write(case, &options.folder)?;
        for &p in precisions {
            for &batch in case.synthesis {
                synthesis(&mut table, &mut torch, options, (case, p, batch), (device, &g))?;
            }
            if let Some(batch) = case.training {
                training(&mut table, &mut torch, (case, p, batch), device, (&g, &d))?;
            }
        }
    }
    let file = options.folder.join("table.csv");
    std::fs::write(&file, &table.text)?;
    println!("\n{}", file.display());
    Ok(table.all_well)
}

/// Writes a case's weights and inputs for the other side.
fn write(case: &Case, folder: &Path) -> Done<(Tensors, Tensors)> {
    let (s, name) = (&case.sizes, case.name);
    let (g, d) = (networks::generator(s, 1)?, networks::discriminator(s, 2)?);
    let batch = case.synthesis.iter().copied().chain(case.training).max().unwrap_or(1);
    let real = normal(&[case.training.unwrap_or(1), s.channels, s.resolution, s.resolution], 4)?;
    let io =
        Tensors::from([("z".to_owned(), normal(&[batch, s.dim], 3)?), ("real".to_owned(), (real * 0.5)?)]);
    for (part, tensors) in [("G", &g), ("D", &d), ("io", &io)] {
        candle_core::safetensors::save(tensors, folder.join(format!("{name}_{part}.safetensors")))?;
    }
    Ok((g, d))
}

fn synthesis(
    table: &mut Table,
    torch: &mut Torch,
    options: &Options,
    (case, p, batch): (&Case, Precision, usize),
    (device, tensors): (&Device, &Tensors),
) -> Done {
    let mut g = GeneratorNet::new(&case.sizes.generator(), &Weights::frozen(tensors.clone(), device))?;
    g.prepare()?;
    // A stream's first codes are the same however many are drawn.
    let z = normal(&[batch, case.sizes.dim], 3)?.to_device(device)?;
    let ws = g.broadcast(&g.map(&z)?)?;
    let f = || with_precision(p, || on(device, || g.synthesize(&ws, Noise::Constant)));
    let ours = f()?;
    torch.ask(&format!("synthesis {} {batch} {p}", case.name))?;
    let answer = candle_core::safetensors::load(options.folder.join("answer.safetensors"), &Device::Cpu)?;
    let theirs = answer.get("images").ok_or("PyTorch wrote no images")?;
    let what = format!("{} synthesis, batch {batch}, {p}", case.name);
    let difference = relative(&ours, theirs)?;
    table.measure(torch, device, &what, (difference, limit(p)), &mut || f().map(drop))
}

/// The steps of both trainers of a case, as `shiftlens train generator` takes them.
struct Training {
    g: GeneratorNet,
    d: Discriminator,
    frozen: Discriminator,
    g_adam: Adam,
    d_adam: Adam,
    z: Tensor,
    real: Tensor,
    rng: Rng,
    p: Precision,
}

const RATE: f64 = 1e-3;

fn softplus(x: &Tensor) -> candle_core::Result<Tensor> {
    (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?.mean_all()
}

impl Training {
    fn new(
        (case, p, batch): (&Case, Precision, usize),
        device: &Device,
        (g, d): (&Tensors, &Tensors),
    ) -> Done<Self> {
        let (gw, dw) = (Weights::trainable(g.clone(), device), Weights::trainable(d.clone(), device));
        let s = &case.sizes;
        let real = (normal(&[batch, s.channels, s.resolution, s.resolution], 4)? * 0.5)?;
        Ok(Self {
            g: GeneratorNet::new(&s.generator(), &gw)?,
            d: Discriminator::new(&s.discriminator(), &dw)?,
            frozen: Discriminator::new(&s.discriminator(), &dw.detached())?,
            g_adam: Adam::new(gw.vars(), (0.0, 0.99))?,
            d_adam: Adam::new(dw.vars(), (0.0, 0.99))?,
            z: normal(&[batch, s.dim], 3)?.to_device(device)?,
            real: real.to_device(device)?,
            rng: Rng::new(5, 0),
            p,
        })
    }

    fn r1(&mut self) -> candle_core::Result<()> {
        let images = Var::from_tensor(&self.real)?;
        let store = self.d.forward(images.as_tensor())?.sum_all()?.backward()?;
        let Some(g) = store.get(images.as_tensor()) else { candle_core::bail!("D depends on its input") };
        let loss = (g.sqr()?.sum_all()? / self.real.dim(0)? as f64)?;
        let store = first_order(|| loss.backward())?;
        self.d_adam.step(&store, RATE)
    }

    /// Losses of G and of D, not yet fetched.
    fn step(&mut self, check: bool, r1: bool) -> candle_core::Result<(Tensor, Tensor)> {
        with_precision(self.p, || {
            let (g_loss, fake) = first_order(|| {
                let ws = self.g.broadcast(&self.g.map(&self.z)?)?;
                let noise = if check { Noise::Constant } else { Noise::Random(&mut self.rng) };
                let fake = self.g.synthesize(&ws, noise)?;
                let loss = softplus(&self.frozen.forward(&fake)?.neg()?)?;
                self.g_adam.step(&loss.backward()?, RATE)?;
                candle_core::Result::Ok((loss.detach(), fake.detach()))
            })?;
            let d_loss = first_order(|| {
                let loss =
                    (softplus(&self.d.forward(&fake)?)? + softplus(&self.d.forward(&self.real)?.neg()?)?)?;
                self.d_adam.step(&loss.backward()?, RATE)?;
                candle_core::Result::Ok(loss.detach())
            })?;
            if r1 {
                with_precision(self.p.for_second_order(), || self.r1())?;
            }
            Ok((g_loss, d_loss))
        })
    }
}

fn training(
    table: &mut Table,
    torch: &mut Torch,
    which: (&Case, Precision, usize),
    device: &Device,
    tensors: (&Tensors, &Tensors),
) -> Done {
    let (case, p, batch) = which;
    let mut run = Training::new(which, device, tensors)?;
    let mut losses = Vec::new();
    for i in 0..3 {
        let (g, d) = on(device, || run.step(true, i == 1))?;
        losses.extend([g.to_scalar::<f32>()?, d.to_scalar::<f32>()?]);
    }
    let answer = torch.ask(&format!("training {} {p}", case.name))?;
    let theirs: Vec<f32> =
        answer.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_| answer.clone())?;
    if theirs.len() != losses.len() {
        return Err(format!("PyTorch answered {} losses, expected {}", theirs.len(), losses.len()).into());
    }
    // The largest relative difference of the losses of three steps; the second step ends with the penalty.
    let differences = losses.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs() / b.abs().max(0.1)));
    let difference = differences.fold(0.0, f64::max);
    for (word, r1, text) in [("step", false, "training step"), ("r1", true, "training step with R1")] {
        torch.ask(word)?;
        let what = format!("{} {text}, batch {batch}, {p}", case.name);
        // Adam divides by the gradient's size, so that rounding near 0 makes steps of full length.
        let allowed = (difference, 10.0 * limit(p));
        table.measure(torch, device, &what, allowed, &mut || on(device, || run.step(false, r1)).map(drop))?;
    }
    Ok(())
}

//! Whole training steps of generator and discriminator on the CPU against PyTorch: the same networks and weights, batch,
//! losses, regularisers and optimiser, in f32.
//!
//! `cargo xtask bench-training` runs it (`--python`, `--rounds`, `--resolution 64` or `128`; `--alone` leaves PyTorch out;
//! `--augment` times the augmentation of a batch instead). Both sides have as many threads as `RAYON_NUM_THREADS` says.
//! `--cpu-time` counts the processors' time in place of the clock's, on Linux: with one thread that is about what a
//! machine with other work would take without it.
//!
//! PyTorch runs in a process of its own, eager, once with images laid out plainly and once with channels last; the faster
//! one is measured. Before anything is timed, both sides' losses of some steps are compared. Then they take turns, phase by
//! phase, so that the machine's noise meets both: figures are medians of rounds, ratios medians of the rounds' ratios.
//! Images per second with regularisation have R1 in every sixteenth step and path lengths, over half of the batch, in every
//! fourth (Karras et al. 2020, arXiv 1912.04958, section 3.1 and appendix B). Reading images and averaging weights are not
//! part of it.

#[path = "../../examples/device/networks.rs"]
#[allow(dead_code, reason = "shared with the benchmark of a GPU, which has an encoder too")]
mod networks;
mod ours;
mod torch;

use candle_core::Device;
use networks::Sizes;
use ours::{PHASES, Training};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Augment, Params, Pipeline, Preset};
use std::path::Path;
use std::time::Instant;
use torch::Torch;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Largest relative difference of losses with which they are timed: Adam divides by the gradient's size, so that rounding
/// near 0 makes steps of full length.
const TOLERANCE: f64 = 1e-2;
/// Runs of a phase per step, in [`PHASES`]' order.
const PER_STEP: [f64; 4] = [1.0, 1.0, 1.0 / 16.0, 1.0 / 4.0];

struct Case {
    name: &'static str,
    sizes: Sizes,
    batch: usize,
}

const CASES: [Case; 2] = [
    Case {
        name: "64",
        sizes: Sizes { resolution: 64, channels: 1, base: 2048, max: 128, dim: 256, mapping: 4 },
        batch: 32,
    },
    Case {
        name: "128",
        sizes: Sizes { resolution: 128, channels: 1, base: 4096, max: 128, dim: 256, mapping: 4 },
        batch: 16,
    },
];

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Losses of three steps, the second with R1; then a mean path length, and the losses of a step behind its update.
fn check(run: &mut Training, torch: &mut Torch, training: &str) -> Outcome {
    let mut found = Vec::new();
    for i in 0..3 {
        found.extend([run.phase("g", true)?, run.phase("d", true)?]);
        if i == 1 {
            run.phase("r1", true)?;
        }
    }
    found.push(run.phase("path", true)?);
    found.extend([run.phase("g", true)?, run.phase("d", true)?]);
    let mut expected = torch.numbers(training)?;
    for command in ["path", "losses"] {
        expected.extend(torch.numbers(command)?);
    }
    if found.len() != expected.len() {
        return Err(format!("PyTorch answered {} numbers, expected {}", expected.len(), found.len()).into());
    }
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(0.1)).fold(0.0, f64::max);
    if off.is_nan() || off > TOLERANCE {
        return Err(format!("losses differ by {off:.1e}: {found:?}, PyTorch {expected:?}").into());
    }
    println!("  losses of both agree within {off:.1e}");
    Ok(())
}

/// What seconds are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Wall,
    /// Of all threads of a process.
    Processor,
}

impl Clock {
    /// Seconds since some moment.
    fn now(self) -> Outcome<f64> {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        if self == Self::Wall {
            return Ok(START.get_or_init(Instant::now).elapsed().as_secs_f64());
        }
        let path = "/proc/self/stat";
        let stat = std::fs::read_to_string(path).map_err(|e| format!("--cpu-time: {path}: {e}"))?;
        // Behind the name in brackets, which may hold anything: field 3 and on. User and system time are fields 14 and 15,
        // in ticks of a hundredth of a second (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<f64>().ok());
        match (ticks(14), ticks(15)) {
            (Some(user), Some(system)) => Ok((user + system) / 100.0),
            _ => Err(format!("--cpu-time: {path}: expected times in fields 14 and 15, found {stat}").into()),
        }
    }
}

fn timed(run: &mut Training, phase: &str, clock: Clock) -> Outcome<f64> {
    let start = clock.now()?;
    run.phase(phase, false)?;
    Ok(clock.now()? - start)
}

/// Seconds per step, without and with what is due now and then.
fn per_step(phases: &[f64]) -> [f64; 2] {
    let sum = |n: usize| phases.iter().zip(PER_STEP).take(n).map(|(t, often)| t * often).sum();
    [sum(2), sum(4)]
}

fn measure(case: &Case, folder: &Path, options: &Options) -> Outcome {
    let Case { name, sizes, batch } = case;
    println!(
        "\n{name}x{name}, {} channel, base {}, at most {}, batch {batch}",
        sizes.channels, sizes.base, sizes.max
    );
    let (g, d) = (networks::generator(sizes, 1)?, networks::discriminator(sizes, 2)?);
    let inputs = ours::inputs(sizes, *batch)?;
    for (part, tensors) in [("G", &g), ("D", &d), ("io", &inputs)] {
        candle_core::safetensors::save(tensors, folder.join(format!("{name}_{part}.safetensors")))?;
    }
    let (clock, rounds) = (options.clock, options.rounds);
    if options.alone {
        let mut run = Training::new(sizes, (&g, &d), &inputs)?;
        let mut seconds = [[]; 4].map(Vec::from);
        for round in 0..=rounds {
            for (seconds, phase) in seconds.iter_mut().zip(PHASES) {
                let one = timed(&mut run, phase, clock)?;
                // The first round warms up.
                seconds.extend((round > 0).then_some(one));
            }
        }
        let seconds = seconds.map(median);
        let rates = per_step(&seconds).map(|s| *batch as f64 / s);
        println!("  {PHASES:?}: {:.0?} ms", seconds.map(|s| s * 1e3));
        println!("  {:.1} images/s, with R1 and path lengths {:.1}", rates[0], rates[1]);
        return Ok(());
    }
    let mut torch = Torch::start(&options.python, folder)?;
    if clock == Clock::Processor {
        torch.ask("cpu-time")?;
    }
    println!("  {}; this side: {} threads", torch.ask("device")?, rayon::current_num_threads());
    // One round of each layout behind one that warms up, summed as steps are.
    let mut layouts = Vec::new();
    for layout in ["plain", "channels-last"] {
        check(
            &mut Training::new(sizes, (&g, &d), &inputs)?,
            &mut torch,
            &format!("training {name} f32 {layout}"),
        )?;
        let mut phases = [[0.0; 4]; 2];
        for round in &mut phases {
            for (seconds, phase) in round.iter_mut().zip(PHASES) {
                *seconds = torch.seconds(phase)?;
            }
        }
        layouts.push((per_step(&phases[1])[1], layout));
    }
    layouts.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!(
        "  PyTorch is faster with {} ({:.0} %)",
        layouts[0].1,
        100.0 * (layouts[1].0 / layouts[0].0 - 1.0)
    );
    torch.ask(&format!("training {name} f32 {}", layouts[0].1))?;
    let mut run = Training::new(sizes, (&g, &d), &inputs)?;
    for phase in PHASES {
        timed(&mut run, phase, clock)?;
        torch.seconds(phase)?;
    }
    let mut seconds = vec![[[0.0; 4]; 2]; rounds];
    for (i, round) in seconds.iter_mut().enumerate() {
        for (k, phase) in PHASES.into_iter().enumerate() {
            for turn in 0..2 {
                let side = (i + turn) % 2;
                round[side][k] =
                    if side == 0 { timed(&mut run, phase, clock)? } else { torch.seconds(phase)? };
            }
        }
    }
    println!("  {:44} {:>11} {:>11} {:>6}", "", "Shiftlens", "PyTorch", "ratio");
    let all = |f: &dyn Fn(&[[f64; 4]; 2]) -> f64| median(seconds.iter().map(f).collect());
    for (k, what) in
        ["generator", "discriminator", "R1", "path lengths, half the batch"].into_iter().enumerate()
    {
        let (a, b, ratio) = (all(&|r| r[0][k]), all(&|r| r[1][k]), all(&|r| r[1][k] / r[0][k]));
        println!("  {what:44} {:8.1} ms {:8.1} ms {ratio:6.2}", a * 1e3, b * 1e3);
    }
    for (k, what) in ["without regularisation", "with R1 and path lengths"].into_iter().enumerate() {
        let rate = |side: usize| all(&|r| *batch as f64 / per_step(&r[side])[k]);
        let ratio = all(&|r| per_step(&r[1])[k] / per_step(&r[0])[k]);
        println!("  {what:44} {:5.1} img/s {:5.1} img/s {ratio:6.2}", rate(0), rate(1));
    }
    Ok(())
}

/// Augmentations in a round.
const REPEATS: usize = 10;

/// What the augmentation of a batch costs, with its backward pass.
fn augmentation(options: &Options) -> Outcome {
    for case in &CASES {
        let (side, n) = (case.sizes.resolution, case.batch);
        for channels in [1, 3] {
            let x = networks::normal(&[n, channels, side, side], 7)?.to_device(&Device::Cpu)?;
            let x = candle_core::Var::from_tensor(&x)?;
            for preset in [Preset::Bgc, Preset::Bgcfnc] {
                let augment = Augment::new(&Pipeline::from(preset), channels, side)?;
                print!("{side}x{side}, {channels} channel(s), batch {n}, {preset:?}: forth and back");
                for p in [0.0, 0.1, 0.5, 0.8] {
                    let seconds = (0..options.rounds as u64).map(|round| -> Outcome<[f64; 2]> {
                        let params: Params = augment.draw(n, p, &mut Rng::new(round, 0));
                        let start = options.clock.now()?;
                        let results = (0..REPEATS).map(|_| augment.apply(x.as_tensor(), &params));
                        let results = results.collect::<Result<Vec<_>, _>>()?;
                        let middle = options.clock.now()?;
                        for y in results {
                            y.sum_all()?.backward()?;
                        }
                        Ok([middle - start, options.clock.now()? - middle].map(|s| s / REPEATS as f64))
                    });
                    let seconds = seconds.collect::<Outcome<Vec<_>>>()?;
                    let [a, b] = [0, 1].map(|k| median(seconds.iter().map(|s| s[k] * 1e3).collect()));
                    print!(", p {p}: {a:.2} + {b:.2} ms");
                }
                println!();
            }
        }
    }
    Ok(())
}

struct Options {
    python: String,
    rounds: usize,
    resolution: Option<String>,
    clock: Clock,
    alone: bool,
    augment: bool,
}

const HELP: &str = "--python PYTHON, --rounds N, --resolution 64|128, --cpu-time, --alone or --augment";

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut o = Self {
            python: "python3".into(),
            rounds: 5,
            resolution: None,
            clock: Clock::Wall,
            alone: false,
            augment: false,
        };
        let mut rest = arguments.iter().filter(|a| *a != "--bench");
        while let Some(name) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{name} needs a value"));
            let number = |text: String| match text.parse() {
                Ok(n) if n > 0 => Ok(n),
                _ => Err(format!("{name} {text}: expected 1 or more")),
            };
            match name.as_str() {
                "--python" => o.python = value()?,
                "--rounds" => o.rounds = number(value()?)?,
                "--resolution" => {
                    let text = value()?;
                    if CASES.iter().all(|c| c.name != text) {
                        return Err(format!("--resolution {text}: expected 64 or 128").into());
                    }
                    o.resolution = Some(text);
                }
                "--cpu-time" => o.clock = Clock::Processor,
                "--alone" => o.alone = true,
                "--augment" => o.augment = true,
                other => return Err(format!("no option `{other}`, expected {HELP}").into()),
            }
        }
        Ok(o)
    }
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // cargo test and nextest start every benchmark's program, with no arguments or `--list`; cargo bench says so.
    if !arguments.iter().any(|a| a == "--bench") || arguments.iter().any(|a| a == "--list") {
        return Ok(());
    }
    shiftlens_stylegan2::enable_second_order();
    let options = Options::parse(&arguments)?;
    // As the program does for a training.
    shiftlens_stylegan2::keep_memory();
    if options.augment {
        return augmentation(&options);
    }
    let folder = tempfile::tempdir()?;
    for case in CASES.iter().filter(|c| options.resolution.as_ref().is_none_or(|only| c.name == only)) {
        measure(case, folder.path(), &options)?;
    }
    Ok(())
}

//! A GPU on trial: `device check` compares everything that runs there with the CPU, `device bench` with PyTorch.
//!
//! `cargo xtask cuda` builds it beside the program. It is one file that needs nothing else: the reference's numbers are
//! within it, and so is PyTorch's part of the benchmark. With `--device cpu` the same operations run on the CPU, which
//! is a rehearsal and no measurement.
//!
//! Exit codes: 0 all well; 1 a number is wrong or work failed; 2 the device cannot be had, or the call is wrong.

mod bench;
mod check;
mod layers;
mod networks;

use candle_core::Device;
use shiftlens_stylegan2::{open_device, ops};
use std::process::ExitCode;

/// Answer of a part: `Err` is a failure that says what failed.
type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

const HELP: &str = "\
device check [--device cuda:0]            every network and both trainers against the CPU and reference numbers
device bench FOLDER [--device cuda:0]     against PyTorch, on the same weights; FOLDER gets weights and table.csv
             [--python python3] [--rounds 7] [--small]
device layers [--device cuda:0]           single operations, timed
";

enum Task {
    Check,
    Bench(bench::Options),
    Layers,
}

struct Call {
    task: Task,
    device: String,
}

fn parse(args: &[String]) -> Result<Call, String> {
    let (task, rest) = args.split_first().ok_or(HELP)?;
    let mut rest = rest.iter();
    let kind = match task.as_str() {
        "check" => Task::Check,
        "layers" => Task::Layers,
        "bench" => Task::Bench(bench::Options::new(rest.next().ok_or("bench: expected a folder")?.into())),
        other => return Err(format!("no task `{other}`\n{HELP}")),
    };
    let mut call = Call { task: kind, device: "cuda:0".into() };
    while let Some(name) = rest.next() {
        let mut value = || rest.next().cloned().ok_or(format!("{name} needs a value"));
        match (name.as_str(), &mut call.task) {
            ("--device", _) => call.device = value()?,
            ("--python", Task::Bench(b)) => b.python = value()?,
            ("--small", Task::Bench(b)) => b.small = true,
            ("--rounds", Task::Bench(b)) => {
                let text = value()?;
                b.rounds = text
                    .parse()
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or(format!("--rounds {text}: expected 1 or more"))?;
            }
            _ => return Err(format!("{task}: no option `{name}`\n{HELP}")),
        }
    }
    Ok(call)
}

fn main() -> ExitCode {
    shiftlens_stylegan2::enable_second_order();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let opened =
        parse(&args).and_then(|call| Ok((open_device(&call.device).map_err(|e| e.to_string())?, call)));
    let (device, call) = match opened {
        Ok(both) => both,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    match on(&device, || run(&call, &device)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(call: &Call, device: &Device) -> Done<bool> {
    match &call.task {
        Task::Check => check::run(&call.device, device),
        Task::Bench(options) => bench::run(options, &call.device, device),
        Task::Layers => layers::run(device),
    }
}

/// Runs `f` with the operations of a GPU, also on the CPU.
fn on<R>(device: &Device, f: impl FnOnce() -> R) -> R {
    if device.is_cpu() { ops::composed(f) } else { f() }
}

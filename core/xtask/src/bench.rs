//! Benchmarks that need more than `cargo bench` builds.

use crate::setup;
use crate::shell::{Failure, Outcome, cargo, step};
use std::path::PathBuf;

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}

/// Builds the plugins and runs the benchmark of Grad-CAM with `options`.
pub fn gradcam(options: &[String]) -> Outcome {
    setup::setup();
    step(cargo(&["build", "--locked", "--release"]))?;
    let mut bench = cargo(&["bench", "--locked", "--bench", "gradcam", "--"]);
    bench.args(options).env("SHIFTLENS_PLUGIN_PATH", target().join("release"));
    step(bench)
}

/// Runs the benchmark of synthesis with `options`; for `--generate` it builds the program first and names it.
pub fn synthesis(options: &[String]) -> Outcome {
    let mut bench = cargo(&["bench", "--locked", "--workspace", "--bench", "synthesis", "--"]);
    for option in options {
        bench.arg(option);
        if option == "--generate" {
            step(cargo(&["build", "--locked", "--release", "--workspace", "--bin", "shiftlens"]))?;
            bench.arg(target().join("release").join(format!("shiftlens{}", std::env::consts::EXE_SUFFIX)));
        }
    }
    step(bench)
}

/// Runs the benchmark of training steps with `options`.
pub fn training(options: &[String]) -> Outcome {
    let mut bench = cargo(&["bench", "--locked", "--workspace", "--bench", "steps", "--"]);
    bench.args(options);
    step(bench)
}

/// Builds the program and its plugins, and runs the benchmark of a whole run with `options`.
pub fn batch(options: &[String]) -> Outcome {
    setup::setup();
    step(cargo(&["build", "--locked", "--release", "--workspace"]))?;
    let mut bench = cargo(&["bench", "--locked", "--workspace", "--bench", "batch", "--"]);
    bench
        .arg("--program")
        .arg(target().join("release").join(format!("shiftlens{}", std::env::consts::EXE_SUFFIX)));
    bench.args(options);
    step(bench)
}

/// Kills runs of the knee example at random moments and compares what they come to with a run that nothing disturbs.
pub fn kills(options: &[String]) -> Outcome {
    let mut test = cargo(&["test", "--locked", "--release", "--workspace", "--test", "kills", "--"]);
    test.args(["--ignored", "--nocapture"]);
    let mut options = options.iter();
    while let Some(name) = options.next() {
        let variable = match name.as_str() {
            "--kills" => "SHIFTLENS_KILLS",
            "--images" => "SHIFTLENS_KILL_IMAGES",
            "--seed" => "SHIFTLENS_KILL_SEED",
            other => {
                let known = "expected --kills N, --images N or --seed N";
                return Err(Failure::usage(format!("kills: no option `{other}`, {known}")));
            }
        };
        let value = options.next().filter(|v| v.parse::<u64>().is_ok());
        let value = value.ok_or_else(|| Failure::usage(format!("kills: {name} needs a whole number")))?;
        test.env(variable, value);
    }
    setup::setup();
    step(cargo(&["build", "--locked", "--release", "--workspace"]))?;
    step(test)
}

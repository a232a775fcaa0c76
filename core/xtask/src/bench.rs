//! Benchmarks that need more than `cargo bench` builds.

use crate::setup;
use crate::shell::{Outcome, cargo, step};
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

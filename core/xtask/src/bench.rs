//! Benchmarks that need more than `cargo bench` builds.

use crate::setup;
use crate::shell::{Outcome, cargo, step};
use std::path::PathBuf;

/// Builds the plugins and runs the benchmark of Grad-CAM with `options`.
pub fn gradcam(options: &[String]) -> Outcome {
    setup::setup();
    step(cargo(&["build", "--locked", "--release"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    let mut bench = cargo(&["bench", "--locked", "--bench", "gradcam", "--"]);
    bench.args(options).env("SHIFTLENS_PLUGIN_PATH", target.join("release"));
    step(bench)
}

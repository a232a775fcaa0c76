//! Benchmarks that need more than `cargo bench` builds.

use crate::setup;
use crate::shell::{Outcome, cargo, step};

/// Builds the plugins and runs the benchmark of Grad-CAM with `options`.
pub fn gradcam(options: &[String]) -> Outcome {
    setup::setup();
    step(cargo(&["build", "--locked", "--release"]))?;
    let mut bench = cargo(&["bench", "--locked", "--bench", "gradcam", "--"]);
    bench.args(options).env("SHIFTLENS_PLUGIN_PATH", crate::root().join("target").join("release"));
    step(bench)
}

//! `cargo xtask test`: everything that must pass.

use crate::shell::{Outcome, cargo, step, works};
use crate::{setup, tidy};
use std::time::Instant;

/// Runs all steps, the cheap ones first, and stops at the first that fails.
///
/// The build comes before the tests because `cargo test` builds neither the shared libraries of the plugins nor the
/// program of another package, and the integration tests use both. All steps that compile name the same packages and
/// targets, so that they share their work.
pub fn run() -> Outcome {
    let started = Instant::now();
    step(cargo(&["fmt", "--all", "--check"]))?;
    println!("==> tidiness");
    tidy::report(&crate::root())?;
    setup::setup();
    step(cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step(cargo(&["build", "--locked", "--workspace", "--all-targets"]))?;
    if works(&mut cargo(&["nextest", "--version"])) {
        step(cargo(&["nextest", "run", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]))?;
    } else {
        step(cargo(&["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]))?;
    }
    step(cargo(&["test", "--locked", "--workspace", "--doc"]))?;
    println!("all of it passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

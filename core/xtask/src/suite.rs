//! `cargo xtask test` and `cargo xtask lint`: everything that must pass.

use crate::shell::{Outcome, cargo, step, works};
use crate::{setup, tidy};
use std::time::Instant;

/// What can be said without running anything, the cheap steps first.
///
/// Apart from the tests because clippy checks all crates once more, which takes as long as their build.
pub fn lint() -> Outcome {
    step(cargo(&["fmt", "--all", "--check"]))?;
    println!("==> tidiness");
    tidy::report(&crate::root())?;
    step(cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Builds and tests all of it; stops at the first step that fails.
///
/// The build comes before the tests because `cargo test` builds neither the shared libraries of the plugins nor the
/// program of another package, and the integration tests use both. All steps that compile name the same packages and
/// targets, so that they share their work: tests load libraries that are examples. Benchmarks are left to clippy.
pub fn test() -> Outcome {
    let started = Instant::now();
    let all = ["--locked", "--workspace", "--lib", "--bins", "--examples", "--tests"];
    let with = |first: &[&str], last: &[&str]| cargo(&[first, &all, last].concat());
    setup::setup();
    step(with(&["build"], &[]))?;
    if works(&mut cargo(&["nextest", "--version"])) {
        step(with(&["nextest", "run"], &["--no-fail-fast"]))?;
    } else {
        step(with(&["test"], &["--no-fail-fast"]))?;
    }
    step(cargo(&["test", "--locked", "--workspace", "--doc"]))?;
    println!("all of it passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

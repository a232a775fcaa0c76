//! What the integration tests share: the built program, and a small study whose truth is known.
//!
//! * [`program`]: starting `shiftlens`, the shared libraries beside it, and reading what a run leaves.
//! * [`toy`]: a study of four latent factors as ONNX files, made by the test that needs it.
//! * [`graph`]: ONNX graphs in a few lines.
//! * [`document`]: documents whose commands are run as they stand.
//! * [`browser`]: a headless Chromium, where there is one.

pub mod browser;
pub mod document;
pub mod graph;
pub mod program;
pub mod toy;

use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A file or folder of the shared data, which is not committed; `None`, and a line that says so, where it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = root().join("..").join("shared").join(path);
    if full.exists() {
        return full.canonicalize().ok();
    }
    println!("skipped: ../shared/{path} is not there");
    None
}

/// The README's Rust, compiled as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

//! Manifests, plugin host, directions, latent shift and the run itself.
//!
//! ```text
//! manifest text --parse--> RawManifest --check--> Study --load--> Components --run--> a run's folder
//! ```
//!
//! * [`manifest`]: TOML to [`Study`], every mistake at its place.
//! * [`registry`]: from kind to component; [`plugin`]: the same from shared libraries.
//! * [`data`]: which images, and reading them. [`features`]: networks that measures and losses look through.
//! * [`direction`]: α, fitted and audited. [`latent_shift`]: the explanation along it.
//! * [`mod@run`]: the pipeline, its folder, resuming. [`metrics`]: figures of merit. [`quality`]: of generators and
//!   encoders.

pub mod data;
pub mod direction;
pub mod features;
pub mod latent_shift;
pub mod manifest;
pub mod metrics;
pub mod plugin;
pub mod quality;
pub mod registry;
pub mod run;

pub use shiftlens_input::nearest;

pub use manifest::{ManifestError, RawManifest, Study};
pub use registry::Components;
pub use run::{RunOptions, RunOutcome, run};

#[cfg(test)]
mod testing;

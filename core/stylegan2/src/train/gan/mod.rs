//! Adversarial training of the generator (Goodfellow et al. 2014; Karras et al. 2020).
//!
//! One step, on a batch of B real images x and B codes z:
//! 1. G: the non-saturating loss `mean softplus(-D(G(z)))`, or against a projected discriminator the hinge's;
//! 2. every `path-length-interval` steps `path-length-interval * weight * mean (|J^T y| - a)^2` for G;
//! 3. D: `mean softplus(D(G(z))) + mean softplus(-D(x))`, or the hinge loss, on the images of phase 1;
//! 4. every `r1-interval` steps `r1-interval * gamma / 2 * mean |dD/dx|^2` for D (lazy R1);
//! 5. the moving average of G's weights.
//!
//! With `[reconstruction]` half of the batch are G(E(x)) and not G(z), see `joint`.
//!
//! D sees images x and G(z) through the transformations of `[augment]`, if there are any; R1 goes through them.
//!
//! Step sizes and decays of Adam are adjusted for the extra steps of 2 and 4 as in Karras et al. 2020, appendix B.

mod control;
mod critic;
mod health;
mod joint;
pub(super) mod losses;
mod manifest;
mod preset;
mod quality;
mod resume;
mod run;
mod start;
mod step;
mod trainer;

pub use control::AugmentSection;
pub use joint::ReconstructionSection;
pub use manifest::{DiscriminatorSection, GanTraining, GeneratorManifest};
pub use quality::{Evaluate, QualitySection};
pub use run::{GeneratorReport, Parts, Saved, train_generator, train_generator_with};
pub use start::StartSection;

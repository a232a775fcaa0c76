//! How good a generator and an encoder are, in numbers.
//!
//! * Sets of images, on the features of a network: [`frechet`] (FID), [`kernel`] (KID), [`manifold`] (precision and
//!   recall). [`Evaluator`] holds the features of the real images and judges drawn ones.
//! * Pairs of images: [`similarity`] (SSIM, PSNR), [`perceptual`].
//! * A whole study: [`mod@measure`].
//!
//! FID and KID are known from features of one network trained on ImageNet (Inception). Here the network is the user's
//! choice, so that it may be one that knows the kind of images; values can be compared between generators under one network
//! and one number of images only. All sums are in f64.

mod evaluator;
mod features;
pub mod frechet;
pub mod kernel;
pub mod manifold;
pub mod measure;
pub mod perceptual;
pub mod similarity;

pub use evaluator::{Evaluator, Quality, Settings};
pub use features::{FeatureSet, fit};
pub use frechet::{Gaussian, frechet_distance};
pub use kernel::{KernelDistance, kernel_distance};
pub use manifold::{PrecisionRecall, precision_recall};
pub use measure::{Measurement, Plan, Reconstructions, measure};
pub use perceptual::perceptual;
pub use similarity::{mse, psnr, ssim};

#[cfg(test)]
mod tests;

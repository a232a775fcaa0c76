//! Measures of a counterfactual: an image that was changed until f decides otherwise.
//!
//! | function | formula | better |
//! | --- | --- | --- |
//! | [`outcome`] | is there a picture of the series that f decides otherwise, and at which λ does f's decision change? | flipped, small absolute λ |
//! | [`distance`] | Euclidean distance of latent codes, or of features | lower |
//! | [`change()`] | mean absolute, root mean square, SSIM of two images; share of changed pixels; Gini index of the change | less change, sparser |
//! | [`diversity`] | mean distance of the counterfactuals of one image from each other | higher |
//! | [`Verdict`], [`OracleCounts`] | does a second classifier see the flip? | higher |
//!
//! Set distances (FID, KID) need the features of all counterfactuals at once and are none of one image's measures.

mod change;
mod flip;
mod oracle;

pub use change::{Change, change, distance, diversity};
pub use flip::{Flip, Outcome, Series, outcome};
pub use oracle::{OracleCounts, Verdict};

//! How good explanations are, and which differences between explainers are real.
//!
//! * [`heatmap`]: measures of a relevance map, of one image each: faithfulness, robustness, complexity, localisation,
//!   similarity of two maps.
//! * [`counterfactual`]: measures of an image that was changed until f decides otherwise.
//! * [`statistics`]: intervals over groups, paired tests, corrections, ranks, and the table [`statistics::Comparison`].
//! * [`Metric`]: all of them by name, with what they measure, which way is better, and their source.
//! * [`image_similarity`], [`rank`]: what several of them need.
//!
//! Everything here is a function of its arguments: no file, no clock, no thread, and no random number without a seed. f is
//! reached through a closure behind a [`Scorer`], which asks it for a bounded number of images at a time. Sums are in f64.
//! A figure that does not exist (the share of a map without a positive value) is `None`, never 0.

pub mod counterfactual;
mod gaussian;
pub mod heatmap;
pub mod image_similarity;
mod metric;
pub mod rank;
mod scorer;
pub mod statistics;
#[cfg(test)]
mod testing;

pub use metric::{Better, Family, Metric, MetricInfo};
pub use scorer::Scorer;

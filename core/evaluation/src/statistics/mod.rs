//! Intervals over groups, paired tests, corrections and ranks, and the table that they make together.
//!
//! | item | what it answers | source |
//! | --- | --- | --- |
//! | [`Clusters`] | which rows belong together: images of one patient are no independent evidence | |
//! | [`bootstrap()`], [`bootstrap_mean`] | interval of any figure, whole clusters drawn; percentile or BCa | Efron and Tibshirani 1993, chapters 13 and 14 |
//! | [`sign_flip()`] | is a mean of paired differences 0? clusters change sign together | Fisher 1935; Winkler et al. 2014 |
//! | [`wilcoxon()`] | is a symmetric distribution of paired differences centred at 0? | Wilcoxon 1945 |
//! | [`holm()`] | p values of a family, corrected | Holm 1979 |
//! | [`friedman()`], [`nemenyi_difference`] | do mean ranks differ at all, and by how much must they? | Friedman 1937; Demšar 2006 |
//! | [`wilson`], [`clopper_pearson`] | interval of a share | Wilson 1927; Clopper and Pearson 1934 |
//! | [`delong()`] | do the AUCs of two scores differ? | DeLong et al. 1988 |
//! | [`Comparison`] | which explainers differ, in which metric, by how much, and is it real? | |
//!
//! All random numbers come from the seeds given; nothing depends on the number of threads.

mod binomial;
mod bootstrap;
mod clusters;
mod comparison;
mod delong;
mod difference;
mod friedman;
mod holm;
mod sign_flip;
mod special;
mod wilcoxon;

pub use binomial::{clopper_pearson, wilson};
pub use bootstrap::{BootstrapSettings, Estimate, IntervalMethod, bootstrap, bootstrap_mean};
pub use clusters::Clusters;
pub use comparison::{Column, Comparison, ComparisonSettings, Mean, MetricComparison, Ranking};
pub use delong::{DeLong, delong};
pub use difference::{Difference, HolmFamily, Test, Verdict, Wins};
pub use friedman::{Friedman, friedman, nemenyi_difference};
pub use holm::holm;
pub use sign_flip::{SignFlip, sign_flip};
pub use wilcoxon::{Wilcoxon, wilcoxon};

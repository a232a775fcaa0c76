//! Two explainers in one metric.

use super::{BootstrapSettings, Clusters, ComparisonSettings, bootstrap_mean, holm, sign_flip, wilcoxon};
use crate::Better;
use serde::{Deserialize, Serialize};
use shiftlens_api::Result;

/// Which test gives the p values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Of the mean difference, the signs of whole groups being flipped ([`sign_flip()`]).
    #[default]
    SignFlip,
    /// Of the groups' mean differences by their ranks ([`wilcoxon()`]).
    Wilcoxon,
}

/// Which tests are corrected together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HolmFamily {
    /// All pairs of explainers in one metric: the chance of any wrong verdict is bounded for each metric.
    #[default]
    Metric,
    /// All pairs in all metrics: the chance of any wrong verdict in the whole table is bounded.
    Table,
}

/// What can be said about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The corrected p value is small enough.
    Real,
    /// It is not, though it could have been.
    NotShown,
    /// However clear the difference, so few groups (or permutations) could not have shown it after the correction.
    CannotBeShown,
    /// No image has a value of both explainers.
    NoData,
}

/// Images on which either explainer is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wins {
    /// The first is better.
    pub a: usize,
    /// Both have the same value.
    pub ties: usize,
    /// The second is better.
    pub b: usize,
}

/// Two explainers compared on the images for which both have a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The first explainer.
    pub a: String,
    /// The second one.
    pub b: String,
    /// Images.
    pub n: usize,
    /// Groups that they are of.
    pub groups: usize,
    /// Mean over the images of the first one's value less the second one's.
    pub difference: Option<f64>,
    /// Its bootstrap interval, whole groups being drawn.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p value of no difference.
    pub p: Option<f64>,
    /// The same after Holm's correction.
    pub p_holm: Option<f64>,
    /// What it would be if the difference were as clear as it can be.
    pub least_holm: Option<f64>,
    /// Image by image; `None` for metrics of which neither end is better.
    pub wins: Option<Wins>,
    /// The explainer whose mean is better; `None` for equal ones and for metrics of which neither end is better.
    pub ahead: Option<String>,
    /// What follows.
    pub verdict: Verdict,
}

impl Difference {
    /// Compares the values of two explainers, an entry per image. P values are not corrected yet; the second answer is the
    /// smallest that could have been had.
    pub(super) fn new(
        names: (&str, &str),
        values: (&[Option<f64>], &[Option<f64>]),
        better: Better,
        clusters: &Clusters,
        settings: &ComparisonSettings,
    ) -> Result<(Self, Option<f64>)> {
        let (rows, d): (Vec<usize>, Vec<f64>) = values
            .0
            .iter()
            .zip(values.1)
            .enumerate()
            .filter_map(|(i, (a, b))| Some((i, (*a)? - (*b)?)))
            .unzip();
        let clusters = clusters.of_rows(&rows);
        let mut found = Self {
            a: names.0.into(),
            b: names.1.into(),
            n: d.len(),
            groups: clusters.len(),
            difference: None,
            interval: None,
            p: None,
            p_holm: None,
            least_holm: None,
            wins: None,
            ahead: None,
            verdict: Verdict::NoData,
        };
        if d.is_empty() {
            return Ok((found, None));
        }
        let estimate = bootstrap_mean(&clusters, &settings.bootstrap, &d)?;
        (found.difference, found.interval) = (estimate.value, estimate.interval);
        let (p, least) = test(&d, &clusters, settings)?;
        found.p = Some(p);
        let sign = match better {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
            Better::Neither => return Ok((found, Some(least))),
        };
        let count = |f: fn(f64) -> bool| d.iter().filter(|d| f(sign * **d)).count();
        found.wins = Some(Wins { a: count(|d| d > 0.0), ties: count(|d| d == 0.0), b: count(|d| d < 0.0) });
        let mean = sign * found.difference.unwrap_or(0.0);
        found.ahead = if mean > 0.0 {
            Some(found.a.clone())
        } else if mean < 0.0 {
            Some(found.b.clone())
        } else {
            None
        };
        Ok((found, Some(least)))
    }
}

/// The p value, and the smallest that could have been had.
fn test(d: &[f64], clusters: &Clusters, settings: &ComparisonSettings) -> Result<(f64, f64)> {
    Ok(match settings.test {
        Test::SignFlip => {
            let BootstrapSettings { seed, .. } = settings.bootstrap;
            let found = sign_flip(d, clusters, settings.permutations, seed)?;
            (found.p, found.least)
        }
        // Differences that are all 0 say nothing, as little as none.
        Test::Wilcoxon => wilcoxon(&clusters.means(d)).map_or((1.0, 1.0), |w| (w.p, w.least)),
    })
}

/// Corrects the p values of one family, and says what follows at level `alpha`. `least` holds the smallest p value that each
/// could have had.
pub(super) fn correct(family: &mut [(&mut Difference, Option<f64>)], alpha: f64) {
    let mut tested: Vec<(&mut Difference, f64, f64)> = family
        .iter_mut()
        .filter_map(|(d, least)| match (d.p, *least) {
            (Some(p), Some(least)) => Some((&mut **d, p, least)),
            _ => None,
        })
        .collect();
    let mut p: Vec<f64> = tested.iter().map(|(_, p, _)| *p).collect();
    let corrected = holm(&p);
    for (i, (difference, own, least)) in tested.iter_mut().enumerate() {
        p[i] = *least;
        let best = holm(&p)[i];
        p[i] = *own;
        difference.p_holm = Some(corrected[i]);
        difference.least_holm = Some(best);
        difference.verdict = if corrected[i] <= alpha {
            Verdict::Real
        } else if best <= alpha {
            Verdict::NotShown
        } else {
            Verdict::CannotBeShown
        };
    }
}

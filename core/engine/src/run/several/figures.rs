//! Figures of two predictors on the images that both explained.
//!
//! | key | what it is |
//! | --- | --- |
//! | `agreement`, `kappa` | share of images on which both decide alike at 0.5; the same beyond chance (Cohen 1960) |
//! | `score_pearson`, `score_spearman` | correlation of both scores, and of their ranks |
//! | `score_difference` | mean of abs(f1(x) - f2(x)) |
//! | `first_right` | of the images with a label on which they disagree, the share on which the first is right |
//! | `both_flip` | share of images whose series flips for both |
//! | `flip_spearman`, `flip_ratio` | where both flip: rank correlation of abs(λ) there, and the median of abs(λ2) / abs(λ1) |
//! | `heatmap_spearman.…` | median rank correlation of both heatmaps of one explainer |
//! | `direction_cosine` | of α1 and α2, where both directions lie in one latent space |
//!
//! A flip is that of the search along the direction where the explainer makes one, else that within the series; λ counts
//! standard deviations along the predictor's own direction. Intervals are those of a study's figures: the percentile bootstrap
//! over groups (patients), or over images where there are none, 95 %, 1000 resamples (Efron and Tibshirani 1993, chapter 13).

use crate::metrics::{mean, median, pearson, spearman};
use shiftlens_api::Result;
use shiftlens_api::record::{Metric, PairFigure};
use shiftlens_evaluation::statistics::{BootstrapSettings, Clusters, Estimate, IntervalMethod, bootstrap};

/// Where a predictor changes its mind.
const DECISION: f64 = 0.5;

const SETTINGS: BootstrapSettings =
    BootstrapSettings { resamples: 1000, confidence: 0.95, method: IntervalMethod::Percentile, seed: 0 };

/// What one predictor says of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Side {
    pub group: Option<String>,
    pub label: Option<bool>,
    pub score: f64,
    /// Where there is a series: λ at the flip, if there is one.
    pub flip: Option<Option<f64>>,
    /// Key, title and index of each heatmap.
    pub maps: Vec<(String, String, usize)>,
}

impl Side {
    fn decision(&self) -> bool {
        self.score >= DECISION
    }
}

/// An image that both explained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub id: &'a str,
    pub first: &'a Side,
    pub second: &'a Side,
}

/// Rank correlations of both predictors' maps of one explainer.
#[derive(Debug)]
pub(super) struct Alike {
    pub key: String,
    pub title: String,
    /// One for each pair; `None` for one that was not looked at, or where a map does not vary.
    pub values: Vec<Option<f64>>,
}

/// Two numbers of an image.
type Both = (f64, f64);

/// A figure: the numbers of each image that has them, and what is made of those.
struct Figure {
    key: String,
    title: String,
    values: Vec<Option<Both>>,
    of: fn(&[f64], &[f64]) -> Option<f64>,
}

/// All figures of the pairs, with those of `maps`.
///
/// # Errors
/// None that input can reach: the settings of the bootstrap are constants that it takes.
pub(super) fn figures(pairs: &[Pair<'_>], maps: &[Alike]) -> Result<Vec<PairFigure>> {
    let keys: Vec<(bool, &str)> = pairs
        .iter()
        .map(|p| match &p.first.group {
            Some(group) => (true, group.as_str()),
            None => (false, p.id),
        })
        .collect();
    let clusters = Clusters::by(&keys);
    let finished = |figure: Figure| {
        let Estimate { value, interval } = bootstrap(&clusters, &SETTINGS, |rows| {
            let (a, b): (Vec<f64>, Vec<f64>) = rows.iter().filter_map(|r| figure.values[*r]).unzip();
            (figure.of)(&a, &b)
        })?;
        let n = figure.values.iter().flatten().count();
        Ok(PairFigure { key: figure.key, figure: Metric { title: figure.title, value, n, interval } })
    };
    all(pairs, maps).into_iter().map(finished).collect()
}

fn all(pairs: &[Pair<'_>], maps: &[Alike]) -> Vec<Figure> {
    let mut all = Vec::new();
    let mut add =
        |key: &str, title: &str, of: fn(&[f64], &[f64]) -> Option<f64>, values: Vec<Option<Both>>| {
            all.push(Figure { key: key.into(), title: title.into(), values, of });
        };
    let each = |of: &dyn Fn(&Pair<'_>) -> Option<Both>| pairs.iter().map(of).collect::<Vec<_>>();
    let decisions = each(&|p| Some((number(p.first.decision()), number(p.second.decision()))));
    add("agreement", "Share of images with the same decision", agreement, decisions.clone());
    add("kappa", "Cohen's kappa of the decisions", kappa, decisions);
    let scores = each(&|p| Some((p.first.score, p.second.score)));
    add("score_pearson", "Correlation of the scores (Pearson)", pearson, scores.clone());
    add("score_spearman", "Rank correlation of the scores (Spearman)", spearman, scores.clone());
    add("score_difference", "Mean |f₁(x) − f₂(x)|", difference, scores);
    let labelled = pairs.iter().any(|p| p.first.label.is_some());
    if labelled {
        let right = each(&|p| {
            let (a, b) = (p.first.decision(), p.second.decision());
            p.first.label.filter(|_| a != b).map(|label| (number(a == label), number(b == label)))
        });
        let title = "Where they disagree, share in which the first is right";
        add("first_right", title, |a, _| mean(a), right);
    }
    let flips = |p: &Pair<'_>| Some((p.first.flip?, p.second.flip?));
    if pairs.iter().any(|p| flips(p).is_some()) {
        let both = each(&|p| flips(p).map(|(a, b)| (number(a.is_some() && b.is_some()), 0.0)));
        add("both_flip", "Share of images whose series flips for both", |a, _| mean(a), both);
        let at = each(&|p| flips(p).and_then(|(a, b)| Some((a?.abs(), b?.abs()))));
        let title = "Rank correlation of |λ| at the flip, where both flip";
        add("flip_spearman", title, spearman, at.clone());
        let at = at.into_iter().map(|v| v.filter(|(a, _)| *a > 0.0)).collect();
        add("flip_ratio", "Median |λ₂| / |λ₁| at the flip, each in its own σ", ratio, at);
    }
    for Alike { key, title, values } in maps {
        let values = values.iter().map(|v| v.map(|v| (v, 0.0))).collect();
        let title = format!("Median rank correlation of the maps: {title}");
        add(&format!("heatmap_spearman.{key}"), &title, |a, _| median(a), values);
    }
    all
}

fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn agreement(a: &[f64], b: &[f64]) -> Option<f64> {
    mean(&a.iter().zip(b).map(|(a, b)| number(a == b)).collect::<Vec<_>>())
}

/// Cohen's kappa of two lists of 0 and 1: (p_o - p_e) / (1 - p_e), p_e being the agreement of independent lists with these
/// shares; `None` where that is complete.
fn kappa(a: &[f64], b: &[f64]) -> Option<f64> {
    let (observed, p, q) = (agreement(a, b)?, mean(a)?, mean(b)?);
    let expected = p * q + (1.0 - p) * (1.0 - q);
    (expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

fn difference(a: &[f64], b: &[f64]) -> Option<f64> {
    mean(&a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>())
}

fn ratio(a: &[f64], b: &[f64]) -> Option<f64> {
    median(&a.iter().zip(b).map(|(a, b)| b / a).collect::<Vec<_>>())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn side(score: f64, label: Option<bool>, flip: Option<Option<f64>>) -> Side {
        Side { group: None, label, score, flip, maps: Vec::new() }
    }

    fn value(all: &[PairFigure], key: &str) -> (Option<f64>, usize) {
        let found = all.iter().find(|f| f.key == key).unwrap_or_else(|| panic!("no {key}: {all:?}"));
        (found.figure.value, found.figure.n)
    }

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|f| (f - expected).abs() < 1e-12), "{found:?}, expected {expected}");
    }

    /// Expected values are worked out by hand from the definitions.
    #[test]
    fn figures_are_those_of_their_definitions() {
        let first = [0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.4, 0.45];
        let second = [0.95, 0.7, 0.4, 0.3, 0.1, 0.6, 0.35, 0.2];
        let label = |i: usize| (i != 7).then_some(i < 3);
        let flips_a = [Some(-1.0), Some(-2.0), Some(-0.5), None, Some(1.0), Some(0.0), None, Some(4.0)];
        let flips_b = [Some(-2.0), Some(-1.0), Some(0.25), Some(1.0), None, Some(0.5), None, Some(12.0)];
        let sides = |scores: [f64; 8], flips: [Option<f64>; 8]| -> Vec<Side> {
            (0..8).map(|i| side(scores[i], label(i), Some(flips[i]))).collect()
        };
        let (a, b) = (sides(first, flips_a), sides(second, flips_b));
        let ids: Vec<String> = (0..8).map(|i| i.to_string()).collect();
        let pairs: Vec<Pair<'_>> =
            (0..8).map(|i| Pair { id: &ids[i], first: &a[i], second: &b[i] }).collect();
        let mut values = vec![Some(0.5), None, Some(0.1), Some(0.9)];
        values.resize(8, None);
        let maps = [Alike { key: "k".into(), title: "K".into(), values }];
        let all = figures(&pairs, &maps).unwrap();
        close(value(&all, "agreement").0, 5.0 / 8.0);
        // p_o = 5/8, shares 4/8 and 3/8: p_e = 1/2, kappa = 1/4.
        close(value(&all, "kappa").0, 0.25);
        // Means 0.51875 and 0.45; sums of products and squares of what differs from them.
        close(value(&all, "score_pearson").0, 0.3175 / (0.559_687_5f64 * 0.555).sqrt());
        // Ranks 8 7 6 5 2 1 3 4 and 8 7 5 3 1 6 4 2: 1 - 6 * 36 / (8 * 63).
        close(value(&all, "score_spearman").0, 4.0 / 7.0);
        close(value(&all, "score_difference").0, (0.05 + 0.1 + 0.3 + 0.3 + 0.1 + 0.5 + 0.05 + 0.25) / 8.0);
        // They disagree on images 2, 3 and 5; the first is right on 2 and 5.
        let (share, n) = value(&all, "first_right");
        close(share, 2.0 / 3.0);
        assert_eq!(n, 3);
        assert_eq!(value(&all, "both_flip"), (Some(5.0 / 8.0), 8));
        let (rho, n) = value(&all, "flip_spearman");
        // |λ|: 1, 2, 0.5, 0, 4 and 2, 1, 0.25, 0.5, 12: ranks 3 4 2 1 5 and 4 3 1 2 5.
        close(rho, 0.8);
        assert_eq!(n, 5);
        // Ratios 2, 0.5, 0.5, 3 without the one whose first λ is 0.
        assert_eq!(value(&all, "flip_ratio"), (Some(1.25), 4));
        assert_eq!(value(&all, "heatmap_spearman.k"), (Some(0.5), 3));
        let agreement = &all[0].figure;
        let (low, high) = agreement.interval.expect("an interval");
        assert!(low < 5.0 / 8.0 && high > 5.0 / 8.0, "{agreement:?}");
    }

    #[test]
    fn what_cannot_be_had_has_no_value() {
        let (a, b) = (side(0.9, None, None), side(0.8, None, None));
        let pairs = [Pair { id: "a", first: &a, second: &b }];
        let all = figures(&pairs, &[]).unwrap();
        assert_eq!(value(&all, "agreement"), (Some(1.0), 1));
        assert_eq!((value(&all, "kappa").0, value(&all, "score_pearson").0), (None, None));
        assert!(all.iter().all(|f| f.figure.interval.is_none()), "one image has no interval");
        assert!(!all.iter().any(|f| f.key.starts_with("flip") || f.key == "first_right"), "{all:?}");
        assert_eq!(value(&figures(&[], &[]).unwrap(), "agreement"), (None, 0));
    }

    /// Two images of one patient are one piece of evidence: with two patients the bootstrap has but few values.
    #[test]
    fn groups_are_drawn_whole() {
        let grouped = |score: f64, group: &str| Side { group: Some(group.into()), ..side(score, None, None) };
        let first = [grouped(0.9, "p"), grouped(0.9, "p"), grouped(0.9, "q"), grouped(0.9, "q")];
        let second = [grouped(0.9, "p"), grouped(0.9, "p"), grouped(0.1, "q"), grouped(0.1, "q")];
        let pairs: Vec<Pair<'_>> =
            (0..4).map(|i| Pair { id: "x", first: &first[i], second: &second[i] }).collect();
        let all = figures(&pairs, &[]).unwrap();
        assert_eq!((all[0].figure.value, all[0].figure.interval), (Some(0.5), Some((0.0, 1.0))));
    }
}

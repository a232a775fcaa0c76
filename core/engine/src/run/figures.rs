//! The study's figures, from the records of its cases.
//!
//! | name | what it is |
//! | --- | --- |
//! | `auc_f`, `accuracy_f` | f against the labels |
//! | `auc_reconstruction` | f(G(E(x))) against the labels |
//! | `auc_latent_vs_label`, `accuracy_latent_vs_label` | c(E(x)) against the labels |
//! | `auc_latent_vs_f`, `accuracy_latent_vs_f` | c(E(x)) against f's decision |
//! | `reconstruction_gap_mean` | mean of abs(f(x) - f(G(E(x)))) |
//! | `reconstruction_rmse_mean`, `reconstruction_l1_mean` | pixels of x and G(E(x)) |
//! | `flip_share`, `flip_lambda_median` | images whose prediction flips within the limit, and how far that is |
//! | `spearman_median`, `monotone_share` | how steadily f follows λ |
//! | `crossing_share` | images whose prediction crosses the threshold within the series |
//! | `flagged_share` | images that the trust gate flags; `encoder_flagged_share` and `encoder_gap_mean` before its retries |
//!
//! Each has a 95 % interval: the percentile bootstrap over groups (patients), or over images where there are none, with
//! the same 1000 resamples for all figures (Efron & Tibshirani 1993, chapter 13).

use crate::metrics::{accuracy, auc, mean, median};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, Metric, Metrics, Reconstruction};
use shiftlens_api::{Calibration, Target};
use std::collections::BTreeMap;

/// Resamples of the bootstrap, and their seed.
const RESAMPLES: usize = 1000;
const SEED: u64 = 0;

/// The first shift series of a case about the target.
struct Shift<'a> {
    latent_score: Option<f32>,
    flip: Option<f32>,
    spearman: Option<f32>,
    calibration: Option<&'a Calibration>,
    gap: f32,
    l1: f32,
}

fn shift<'a>(case: &'a CaseRecord, target: &Target) -> Option<Shift<'a>> {
    case.explanations.iter().filter(|e| e.is_about(target)).find_map(|e| match e {
        ExplanationRecord::Shift {
            latent_score,
            flip,
            spearman,
            calibration,
            reconstruction_gap,
            reconstruction_l1,
            ..
        } => Some(Shift {
            latent_score: *latent_score,
            flip: *flip,
            spearman: *spearman,
            calibration: calibration.as_ref(),
            gap: *reconstruction_gap,
            l1: *reconstruction_l1,
        }),
        ExplanationRecord::Heatmap { .. } => None,
    })
}

/// What the figures of a case are made of.
struct Row<'a> {
    case: &'a CaseRecord,
    shift: Option<Shift<'a>>,
    /// What c(E(x)) rises with.
    latent: Option<f64>,
    /// f's decision.
    decision: bool,
}

impl Row<'_> {
    /// |f(x) - f(G(E(x)))|
    fn gap(&self) -> Option<f64> {
        let gate = self.case.trust.as_ref().map(|t| t.reconstruction.gap);
        gate.or_else(|| self.shift.as_ref().map(|s| s.gap)).map(f64::from)
    }
    /// With the encoder's own code.
    fn encoder(&self) -> Option<Reconstruction> {
        let trust = self.case.trust.as_ref()?;
        Some(trust.retry.as_ref().map_or(trust.reconstruction, |r| r.before))
    }
    fn calibration(&self) -> Option<&Calibration> {
        self.shift.as_ref().and_then(|s| s.calibration)
    }
    fn spearman(&self) -> Option<f64> {
        let s = self.shift.as_ref()?;
        s.calibration.map_or(s.spearman, |c| c.spearman).map(f64::from)
    }
}

/// A figure on some of the rows: its value, and how many it stands on.
type Figure<'a> = Box<dyn Fn(&[&Row<'_>]) -> (Option<f64>, usize) + 'a>;

/// A figure on what `of` answers, where it answers.
fn over<'a, T: 'a>(
    of: impl Fn(&Row<'_>) -> Option<T> + 'a,
    figure: impl Fn(Vec<T>) -> Option<f64> + 'a,
) -> Figure<'a> {
    Box::new(move |rows| {
        let values: Vec<T> = rows.iter().filter_map(|r| of(r)).collect();
        let n = values.len();
        (figure(values), n)
    })
}

fn ranked(pairs: Vec<(f64, bool)>) -> Option<f64> {
    let (scores, labels): (Vec<f64>, Vec<bool>) = pairs.into_iter().unzip();
    auc(&scores, &labels)
}

fn right(pairs: Vec<(f64, bool)>, threshold: f64) -> Option<f64> {
    let (scores, labels): (Vec<f64>, Vec<bool>) = pairs.into_iter().unzip();
    accuracy(&scores, &labels, threshold)
}

fn share(values: Vec<bool>) -> Option<f64> {
    mean(&values.into_iter().map(|v| f64::from(u8::from(v))).collect::<Vec<_>>())
}

/// Name, title and figure. `limit` is how far calibrations searched, `retried` whether the gate tried anything again.
fn all<'a>(
    threshold: f32,
    limit: Option<f32>,
    retried: bool,
    gated: bool,
) -> Vec<(&'static str, String, Figure<'a>)> {
    let f = f64::from(threshold);
    let c = |r: &Row<'_>| r.shift.as_ref().and_then(|s| s.latent_score).map(f64::from);
    let mut all: Vec<(&'static str, String, Figure<'a>)> = Vec::new();
    let mut add = |name, title: &str, figure| all.push((name, title.to_owned(), figure));
    let label = |r: &Row<'_>| Some((f64::from(r.case.score), r.case.label?));
    add("auc_f", "AUC of f against the labels", over(label, ranked));
    add("accuracy_f", "Accuracy of f against the labels", over(label, move |p| right(p, f)));
    let again = |r: &Row<'_>| Some((f64::from(r.case.trust.as_ref()?.reconstruction.score), r.case.label?));
    add("auc_reconstruction", "AUC of f(G(E(x))) against the labels", over(again, ranked));
    let to_label = |r: &Row<'_>| Some((r.latent?, r.case.label?));
    add("auc_latent_vs_label", "AUC of c(E(x)) against the labels", over(to_label, ranked));
    let to_f = |r: &Row<'_>| Some((r.latent?, r.decision));
    add("auc_latent_vs_f", "AUC of c(E(x)) against f's decision", over(to_f, ranked));
    let sure = move |r: &Row<'_>| Some((c(r)?, r.case.label?));
    add("accuracy_latent_vs_label", "Accuracy of c(E(x)) against the labels", over(sure, |p| right(p, 0.5)));
    let sure = move |r: &Row<'_>| Some((c(r)?, r.decision));
    add("accuracy_latent_vs_f", "Accuracy of c(E(x)) against f's decision", over(sure, |p| right(p, 0.5)));
    let gap = over(|r: &Row<'_>| r.gap(), |v| mean(&v));
    add("reconstruction_gap_mean", "Mean |f(x) - f(G(E(x)))|", gap);
    if retried {
        let gap = over(|r: &Row<'_>| r.encoder().map(|e| f64::from(e.gap)), |v| mean(&v));
        add("encoder_gap_mean", "Mean |f(x) - f(G(E(x)))| before retries", gap);
    }
    if gated {
        let flagged = over(|r: &Row<'_>| r.case.trust.as_ref().map(|t| t.flagged()), share);
        add("flagged_share", "Share of images whose reconstruction is flagged", flagged);
    }
    if retried {
        // What was tried again was flagged before.
        let flagged = |r: &Row<'_>| r.case.trust.as_ref().map(|t| t.flagged() || t.retry.is_some());
        add(
            "encoder_flagged_share",
            "Share of images whose reconstruction is flagged before retries",
            over(flagged, share),
        );
    }
    let rmse =
        over(|r: &Row<'_>| r.case.trust.as_ref().map(|t| f64::from(t.reconstruction.rmse)), |v| mean(&v));
    add("reconstruction_rmse_mean", "Mean root mean square pixel difference of x and G(E(x))", rmse);
    let l1 = |r: &Row<'_>| r.shift.as_ref().map(|s| f64::from(s.l1)).filter(|v| v.is_finite());
    let title = "Mean absolute pixel difference of x and G(E(x))";
    add("reconstruction_l1_mean", title, over(l1, |v| mean(&v)));
    let within = limit.map(|k| format!(" within ±{k} σ")).unwrap_or_default();
    if limit.is_some() {
        let title = format!("Share of images whose prediction flips{within}");
        add("flip_share", &title, over(|r: &Row<'_>| r.calibration().map(|c| c.flip.is_some()), share));
        let at = |r: &Row<'_>| r.calibration().and_then(|c| c.flip).map(|l| f64::from(l.abs()));
        add("flip_lambda_median", "Median |λ| of the smallest flip, in σ", over(at, |v| median(&v)));
        let steady = |r: &Row<'_>| r.calibration().map(|c| c.inversions == 0);
        let title = format!("Share of images along which f's score never falls{within}");
        add("monotone_share", &title, over(steady, share));
    }
    let title = format!("Median Spearman correlation of λ and f's score{within}");
    add("spearman_median", &title, over(|r: &Row<'_>| r.spearman(), |v| median(&v)));
    let crossing = over(|r: &Row<'_>| r.shift.as_ref().map(|s| s.flip.is_some()), share);
    let title = "Share of images whose prediction crosses the threshold within the series";
    add("crossing_share", title, crossing);
    all
}

/// All figures; a figure that cannot be had (no labels, one class) has no value. `latent` holds each case's value that
/// the latent classifier c(E(x)) rises with, `threshold` is f's, `target` the study's class, `gated` whether the manifest
/// has thresholds for reconstructions.
pub fn figures(
    cases: &[CaseRecord],
    latent: &[Option<f64>],
    threshold: f32,
    target: &Target,
    gated: bool,
) -> Metrics {
    let rows: Vec<Row<'_>> = cases
        .iter()
        .zip(latent)
        .map(|(case, latent)| Row {
            case,
            shift: shift(case, target),
            latent: *latent,
            decision: case.score >= threshold,
        })
        .collect();
    let everything: Vec<&Row<'_>> = rows.iter().collect();
    // One explainer makes all series: they are searched equally far.
    let limit = rows.iter().find_map(|r| r.calibration().map(|c| c.limit));
    let retried = cases.iter().any(|c| c.trust.as_ref().is_some_and(|t| t.retry.is_some()));
    let mut figures = all(threshold, limit, retried, gated);
    if rows.iter().all(|r| r.shift.is_none()) {
        figures.retain(|(name, ..)| ["auc_f", "accuracy_f"].contains(name));
    }
    let mut resampled: Vec<Vec<f64>> = vec![Vec::new(); figures.len()];
    for rows in resamples(&rows) {
        for ((.., figure), values) in figures.iter().zip(&mut resampled) {
            values.extend(figure(&rows).0);
        }
    }
    let values = figures.into_iter().zip(resampled).map(|((name, title, figure), resampled)| {
        let (value, n) = figure(&everything);
        let interval = value.and_then(|_| interval(resampled));
        (name.to_owned(), Metric { title, value, n, interval })
    });
    Metrics { values: values.collect() }
}

/// Bootstrap samples of the rows, whole groups drawn with replacement; none where there are not two groups.
fn resamples<'a, 'b>(rows: &'a [Row<'b>]) -> impl Iterator<Item = Vec<&'a Row<'b>>> {
    let mut groups: BTreeMap<(bool, &str), Vec<&Row<'_>>> = BTreeMap::new();
    for row in rows {
        let key = match &row.case.group {
            Some(group) => (true, group.as_str()),
            None => (false, row.case.id.as_str()),
        };
        groups.entry(key).or_default().push(row);
    }
    let groups: Vec<Vec<&Row<'_>>> = groups.into_values().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let n = if groups.len() < 2 { 0 } else { RESAMPLES };
    (0..n).map(move |_| {
        (0..groups.len()).flat_map(|_| &groups[rng.random_range(0..groups.len())]).copied().collect()
    })
}

/// The middle 95 % of a figure's values; `None` where it has no value on half of the resamples or more.
fn interval(mut values: Vec<f64>) -> Option<(f64, f64)> {
    if 2 * values.len() <= RESAMPLES {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        values[low] + part * (values[(low + 1).min(values.len() - 1)] - values[low])
    };
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_api::ReachedLevel;
    use shiftlens_api::record::{RetryRecord, TrustRecord};

    fn target() -> Target {
        Target { class: 1, name: "present".into() }
    }

    fn case(score: f32, label: Option<bool>, latent: f32, flip: Option<f32>) -> CaseRecord {
        CaseRecord {
            schema: 1,
            id: "a".into(),
            path: "a".into(),
            synthetic: false,
            group: None,
            label,
            metadata: vec![],
            scores: vec![1.0 - score, score],
            score,
            explanations: vec![ExplanationRecord::Shift {
                explainer: "latent-shift".into(),
                class: None,
                title: String::new(),
                lambdas: vec![],
                scores: vec![],
                origin: 0,
                latent_score: Some(latent),
                flip,
                spearman: Some(latent),
                calibration: None,
                reconstruction_gap: 0.25,
                reconstruction_l1: 0.5,
                notes: vec![],
                pictures: vec![],
                animation: None,
                difference: None,
                seconds: 0.0,
            }],
            trust: None,
            evaluation: vec![],
            remarks: vec![],
            pictures: Default::default(),
        }
    }

    #[test]
    fn figures_count_what_they_stand_on() {
        let cases = [
            case(0.9, Some(true), 0.8, Some(-1.0)),
            case(0.6, Some(false), 0.3, None),
            case(0.7, Some(true), 0.2, Some(-0.5)),
            case(0.1, None, 0.1, Some(1.0)),
        ];
        let latent = [Some(0.8), Some(0.3), Some(0.2), Some(0.1)];
        let m = figures(&cases, &latent, 0.5, &target(), false).values;
        let get = |name: &str| (m[name].value, m[name].n);
        assert_eq!(get("auc_f"), (Some(1.0), 3));
        assert_eq!(get("auc_latent_vs_label"), (Some(0.5), 3));
        assert_eq!(get("auc_latent_vs_f"), (Some(1.0), 4));
        assert_eq!(get("crossing_share"), (Some(0.75), 4));
        assert_eq!(get("spearman_median").0, Some(f64::from(0.2f32) / 2.0 + f64::from(0.3f32) / 2.0));
        assert_eq!(get("reconstruction_gap_mean"), (Some(0.25), 4));
        // A series about another class is no figure of the target's.
        let mut other = cases.to_vec();
        if let ExplanationRecord::Shift { class, .. } = &mut other[0].explanations[0] {
            *class = Some(Target { class: 0, name: "absent".into() });
        }
        let m = figures(&other, &latent, 0.5, &target(), false).values;
        assert_eq!(m["crossing_share"].n, 3);
        assert_eq!(figures(&[], &[], 0.5, &target(), false).values["auc_f"].value, None);
    }
    /// The same with a calibration to 4 σ and the gate's word.
    fn searched(
        case: CaseRecord,
        flip: Option<f32>,
        inversions: usize,
        gap: f32,
        before: Option<f32>,
    ) -> CaseRecord {
        let mut case = case;
        let ExplanationRecord::Shift { calibration, .. } = &mut case.explanations[0] else {
            panic!("a shift")
        };
        let levels = vec![ReachedLevel { level: 0.5, lambda: flip, score: flip.map(|_| 0.5) }];
        let spearman = Some(1.0 - 0.1 * inversions as f32);
        *calibration = Some(Calibration { limit: 4.0, levels, flip, spearman, inversions, steps: 8 });
        let at = |gap: f32| Reconstruction { score: case.score - gap, gap, rmse: 0.02 };
        let retry = before.map(|b| RetryRecord {
            method: "projection".into(),
            before: at(b),
            after: at(gap),
            kept: true,
            seconds: 0.0,
        });
        let reasons = if gap > 0.1 { vec!["too far".to_owned()] } else { vec![] };
        case.trust = Some(TrustRecord { reconstruction: at(gap), reasons, retry });
        case
    }

    #[test]
    fn calibrations_and_the_gate_have_figures_of_their_own() {
        let cases = [
            searched(case(0.9, Some(true), 0.8, None), Some(-3.0), 0, 0.05, Some(0.3)),
            searched(case(0.2, Some(false), 0.3, None), Some(1.0), 2, 0.2, Some(0.4)),
            searched(case(0.4, Some(true), 0.6, None), None, 0, 0.0, None),
            searched(case(0.6, Some(false), 0.1, None), Some(-0.5), 1, 0.1, None),
        ];
        let latent = [Some(0.8), Some(0.3), Some(0.6), Some(0.1)];
        let m = figures(&cases, &latent, 0.5, &target(), true).values;
        let get = |name: &str| m[name].value.unwrap();
        let close =
            |name: &str, expected: f64| assert!((get(name) - expected).abs() < 1e-6, "{name}: {}", get(name));
        close("accuracy_f", 0.5);
        close("accuracy_latent_vs_label", 1.0);
        close("accuracy_latent_vs_f", 0.5);
        close("flip_share", 0.75);
        close("flip_lambda_median", 1.0);
        close("monotone_share", 0.5);
        close("spearman_median", 0.95);
        close("reconstruction_gap_mean", 0.35 / 4.0);
        close("encoder_gap_mean", 0.8 / 4.0);
        close("flagged_share", 0.25);
        close("encoder_flagged_share", 0.5);
        close("reconstruction_rmse_mean", 0.02);
        // f(G(E(x))) is 0.85, 0, 0.4, 0.5: one of four pairs is the wrong way round.
        close("auc_reconstruction", 0.75);
        assert!(m["flip_share"].title.contains("within ±4 σ"));
        let without = figures(&cases[2..3], &latent[2..3], 0.5, &target(), false).values;
        assert!(!without.contains_key("flagged_share") && !without.contains_key("encoder_gap_mean"));
    }

    #[test]
    fn intervals_are_those_of_resampled_groups() {
        // 200 images, f right on 150: the accuracy's interval is that of a binomial share, about 0.75 ± 0.06.
        let make = |i: usize, group: Option<String>| {
            let mut c = case(if i.is_multiple_of(4) { 0.1 } else { 0.9 }, Some(true), 0.5, None);
            (c.id, c.group) = (format!("k{i}"), group);
            c
        };
        let latent = vec![Some(0.5); 200];
        let run = |cases: &[CaseRecord]| figures(cases, &latent, 0.5, &target(), false).values;
        let alone: Vec<CaseRecord> = (0..200).map(|i| make(i, None)).collect();
        let (low, high) = run(&alone)["accuracy_f"].interval.unwrap();
        let half = 1.96 * (0.75f64 * 0.25 / 200.0).sqrt();
        assert!((low - (0.75 - half)).abs() < 0.01 && (high - (0.75 + half)).abs() < 0.01, "{low} {high}");
        assert_eq!(run(&alone)["accuracy_f"].interval, Some((low, high)), "seeded");
        assert_eq!(run(&alone)["auc_f"].interval, None, "one class has no AUC");
        // Groups of ten that are all right or all wrong know as little as their number, twenty.
        let grouped: Vec<CaseRecord> = (0..200).map(|i| make(i / 10, Some(format!("p{}", i / 10)))).collect();
        let (low, high) = run(&grouped)["accuracy_f"].interval.unwrap();
        let half = 1.96 * (0.75f64 * 0.25 / 20.0).sqrt();
        assert!((high - low - 2.0 * half).abs() < 0.06, "{low} {high}, expected ± {half}");
        let one: Vec<CaseRecord> = (0..200).map(|i| make(i, Some("p".into()))).collect();
        assert_eq!(run(&one)["accuracy_f"].interval, None, "one group cannot be resampled");
    }
}

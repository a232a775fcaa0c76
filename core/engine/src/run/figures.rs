//! The study's figures, from the records of its cases.

use crate::metrics::{auc, mean, median};
use shiftlens_api::Target;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, Metric, Metrics};

/// The first shift series of a case about the target: flip, Spearman, |f(x) - f(G(E(x)))|, pixel difference.
struct Shift {
    flip: Option<f32>,
    spearman: Option<f32>,
    gap: f32,
    l1: f32,
}

fn shift(case: &CaseRecord, target: &Target) -> Option<Shift> {
    case.explanations.iter().filter(|e| e.is_about(target)).find_map(|e| match e {
        ExplanationRecord::Shift { flip, spearman, reconstruction_gap, reconstruction_l1, .. } => {
            Some(Shift { flip: *flip, spearman: *spearman, gap: *reconstruction_gap, l1: *reconstruction_l1 })
        }
        ExplanationRecord::Heatmap { .. } => None,
    })
}

/// All figures; a figure that cannot be had (no labels, one class) has no value. `latent` holds each case's value that
/// the latent classifier c(E(x)) rises with, `threshold` is f's, `target` the study's class.
pub fn figures(cases: &[CaseRecord], latent: &[Option<f64>], threshold: f32, target: &Target) -> Metrics {
    let mut metrics = Metrics::default();
    let mut add = |name: &str, title: &str, value: Option<f64>, n: usize| {
        metrics.values.insert(name.into(), Metric { title: title.into(), value, n });
    };
    let ranked = |pairs: &[(f64, bool)]| {
        let (scores, labels): (Vec<f64>, Vec<bool>) = pairs.iter().copied().unzip();
        auc(&scores, &labels)
    };
    let of_f: Vec<(f64, bool)> = cases.iter().filter_map(|c| Some((f64::from(c.score), c.label?))).collect();
    add("auc_f", "AUC of f against the labels", ranked(&of_f), of_f.len());

    let shifts: Vec<Shift> = cases.iter().filter_map(|c| shift(c, target)).collect();
    if shifts.is_empty() {
        return metrics;
    }
    let coded = || cases.iter().zip(latent).filter_map(|(c, l)| Some((c, (*l)?)));
    let to_label: Vec<(f64, bool)> = coded().filter_map(|(c, l)| Some((l, c.label?))).collect();
    let to_f: Vec<(f64, bool)> = coded().map(|(c, l)| (l, c.score >= threshold)).collect();
    add("auc_latent_vs_label", "AUC of c(E(x)) against the labels", ranked(&to_label), to_label.len());
    add("auc_latent_vs_f", "AUC of c(E(x)) against f's decision", ranked(&to_f), to_f.len());
    let crossing = shifts.iter().filter(|s| s.flip.is_some()).count();
    let title = "Share of images whose prediction crosses the threshold within the series";
    add("crossing_share", title, Some(crossing as f64 / shifts.len() as f64), shifts.len());
    let rho: Vec<f64> = shifts.iter().filter_map(|s| s.spearman.map(f64::from)).collect();
    add("spearman_median", "Median Spearman correlation of λ and f's score", median(&rho), rho.len());
    let gaps: Vec<f64> = shifts.iter().map(|s| f64::from(s.gap)).collect();
    add("reconstruction_gap_mean", "Mean |f(x) - f(G(E(x)))|", mean(&gaps), gaps.len());
    let l1: Vec<f64> = shifts.iter().map(|s| f64::from(s.l1)).filter(|v| v.is_finite()).collect();
    let title = "Mean absolute pixel difference of x and G(E(x))";
    add("reconstruction_l1_mean", title, mean(&l1), l1.len());
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

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
                reconstruction_gap: 0.25,
                reconstruction_l1: 0.5,
                notes: vec![],
                pictures: vec![],
                animation: None,
                difference: None,
                seconds: 0.0,
            }],
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
        let m = figures(&cases, &latent, 0.5, &target()).values;
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
        let m = figures(&other, &latent, 0.5, &target()).values;
        assert_eq!(m["crossing_share"].n, 3);
        assert_eq!(figures(&[], &[], 0.5, &target()).values["auc_f"].value, None);
    }
}

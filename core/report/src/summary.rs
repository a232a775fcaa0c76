//! The study's figures and the direction's audit as the page's templates see them.

use crate::case::{Fact, fact};
use crate::number::{count, duration, fixed, significant};
use serde::Serialize;
use shiftlens_api::record::{AuditRecord, Metric, Metrics};

#[derive(Serialize)]
pub(crate) struct MetricView {
    title: String,
    value: Option<String>,
    interval: Option<String>,
    n: String,
}

/// A row of the flip-rate curve.
#[derive(Serialize)]
pub(crate) struct FlipView {
    lambda: String,
    share: String,
    random: Option<String>,
    /// Lengths of the bars, in percent.
    percent: f64,
    random_percent: f64,
}

fn percent(v: f64) -> String {
    format!("{} %", fixed(100.0 * v, 0))
}

/// How often f's decision flips along the direction and along random ones.
pub(crate) fn flips(a: &AuditRecord) -> Vec<FlipView> {
    let view = |f: &shiftlens_api::record::FlipRecord| FlipView {
        lambda: format!("±{}", f.lambda),
        share: percent(f.share),
        random: f.random.map(percent),
        percent: (f.share.clamp(0.0, 1.0) * 1000.0).round() / 10.0,
        random_percent: (f.random.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0).round() / 10.0,
    };
    a.flips.iter().map(view).collect()
}

pub(crate) fn audit(a: &AuditRecord) -> Vec<Fact> {
    let or_dash = |v: Option<f64>| v.map_or("not available".into(), |v| fixed(v, 3));
    let mut facts = vec![
        fact(
            "Latent codes",
            format!("{} to fit, {} held out", count(a.samples.0), count(a.samples.1)),
            "Codes drawn from the generator, or of images; f's answer or the label stands against each.",
        ),
        fact("Positive among the fitted", format!("{} %", fixed(100.0 * a.positives, 1)), ""),
        fact(
            "AUC on held-out codes",
            or_dash(a.auc),
            "How well the direction predicts what it was fitted to. 0.5 is chance, 1 is perfect.",
        ),
        fact("Accuracy on held-out codes", or_dash(a.accuracy), ""),
    ];
    if let Some(r) = &a.random {
        let both = |mean: Option<f64>, max: Option<f64>| match (mean, max) {
            (Some(mean), Some(max)) => format!("{}, best {}", fixed(mean, 3), fixed(max, 3)),
            _ => "not available".into(),
        };
        facts.push(fact(
            "AUC of random directions",
            both(r.auc_mean, r.auc_max),
            "Mean and best of directions drawn at random in the whitened space of codes, each turned to where the score \
             rises.",
        ));
        facts.push(fact("Accuracy of random directions", both(r.accuracy_mean, r.accuracy_max), ""));
    }
    if let Some(b) = &a.bootstrap {
        facts.push(fact(
            "Stability under resampling",
            format!("{}, least {}", fixed(b.mean_cosine, 3), fixed(b.least_cosine, 3)),
            "Mean and least cosine of the direction and refits to bootstrap samples of the codes. 1 means the same \
             direction.",
        ));
    }
    facts.extend([
        fact(
            "Stability",
            or_dash(a.stability),
            "Mean cosine of directions fitted to two halves of the codes. 1 means the same direction.",
        ),
        fact(
            "One σ",
            significant(a.sigma),
            "Standard deviation of the codes along the direction: the unit of λ, in units of the latent space.",
        ),
        fact("Time", duration(a.seconds), ""),
    ]);
    facts
}

/// In which order figures are shown; others follow by name.
const ORDER: [&str; 18] = [
    "auc_f",
    "auc_latent_vs_label",
    "auc_latent_vs_f",
    "auc_reconstruction",
    "accuracy_f",
    "accuracy_latent_vs_label",
    "accuracy_latent_vs_f",
    "flip_share",
    "flip_lambda_median",
    "spearman_median",
    "monotone_share",
    "crossing_share",
    "reconstruction_gap_mean",
    "encoder_gap_mean",
    "flagged_share",
    "encoder_flagged_share",
    "reconstruction_rmse_mean",
    "reconstruction_l1_mean",
];

fn number(v: f64) -> String {
    if v.abs() < 10.0 { fixed(v, 3) } else { significant(v) }
}

/// A figure in a table that has several beside each other.
#[derive(Serialize)]
pub(crate) struct CellView {
    value: Option<String>,
    interval: Option<String>,
    /// How many images it stands on, where it stands on any.
    n: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct RowView {
    title: String,
    cells: Vec<CellView>,
}

fn cell(metric: Option<&Metric>) -> CellView {
    CellView {
        value: metric.and_then(|m| m.value).map(number),
        interval: metric
            .and_then(|m| m.interval)
            .map(|(low, high)| format!("{} – {}", number(low), number(high))),
        n: metric.filter(|m| m.n > 0).map(|m| count(m.n)),
    }
}

/// Figures by name as rows, in the order in which they are first met; a column for each list.
pub(crate) fn beside(columns: &[Vec<(&str, &Metric)>]) -> Vec<RowView> {
    let mut names: Vec<(&str, &Metric)> = Vec::new();
    for (name, metric) in columns.iter().flatten() {
        if !names.iter().any(|(n, _)| n == name) {
            names.push((*name, *metric));
        }
    }
    let find = |column: &Vec<(&str, &Metric)>, name: &str| {
        cell(column.iter().find(|(n, _)| *n == name).map(|(_, metric)| *metric))
    };
    let row = |(name, metric): (&str, &Metric)| RowView {
        title: metric.title.clone(),
        cells: columns.iter().map(|column| find(column, name)).collect(),
    };
    names.into_iter().map(row).collect()
}

/// The figures of a run by name, in the order in which they are shown.
pub(crate) fn ordered(m: &Metrics) -> Vec<(&str, &Metric)> {
    let known = ORDER.iter().filter_map(|name| Some((*name, m.values.get(*name)?)));
    let others = m.values.iter().filter(|(name, _)| !ORDER.contains(&name.as_str()));
    known.chain(others.map(|(name, m)| (name.as_str(), m))).collect()
}

pub(crate) fn metrics(m: &Metrics) -> Vec<MetricView> {
    let view = |m: &Metric| MetricView {
        title: m.title.clone(),
        value: m.value.map(number),
        interval: m.interval.map(|(low, high)| format!("{} – {}", number(low), number(high))),
        n: count(m.n),
    };
    ordered(m).into_iter().map(|(_, m)| view(m)).collect()
}

//! What a case's template sees: every number already in words.

use crate::evaluation::{Evaluation, Measures};
use crate::maps::{MapsView, maps};
use crate::number::{duration, fixed, lambda, score, significant};
use crate::sources::{Picture, Sources};
use crate::writer::DIFFERENCE_SCALE;
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, Reconstruction, RunRecord, TrustRecord};
use shiftlens_api::{Calibration, Target};

/// The score at which f changes its mind.
pub(crate) const DECISION: f32 = 0.5;

/// A line of a table of facts.
#[derive(Serialize)]
pub(crate) struct Fact {
    pub(crate) key: String,
    value: String,
    /// What it means, in a sentence; may be empty.
    help: &'static str,
}

#[derive(Serialize)]
pub(crate) struct CaseView {
    id: String,
    path: String,
    synthetic: bool,
    group: Option<String>,
    metadata: Vec<(String, String)>,
    /// Ground truth in words, where known.
    label: Option<String>,
    /// The decision of f disagrees with the ground truth.
    wrong: bool,
    score: String,
    positive: bool,
    others: Vec<Fact>,
    /// Why the case is flagged; empty where it is not.
    reasons: Vec<String>,
    /// What a second try changed.
    retry: Option<String>,
    pub(crate) original: Option<Picture>,
    pub(crate) shifts: Vec<ShiftView>,
    pub(crate) maps: MapsView,
    measures: Option<Measures>,
    /// What could not be measured.
    remarks: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct ShiftView {
    anchor: String,
    title: String,
    explainer: String,
    summary: String,
    steps: Vec<StepView>,
    columns: usize,
    origin: usize,
    chart: ChartView,
    reconstruction_score: String,
    gap: String,
    calibration: Option<CalibrationView>,
    facts: Vec<Fact>,
    /// Files of the animation: their format and address.
    animations: Vec<(&'static str, Value)>,
    difference: Option<Picture>,
    scale: Option<String>,
    lambda_first: String,
    lambda_last: String,
}

/// At which λ f reaches given scores.
#[derive(Serialize)]
struct CalibrationView {
    limit: String,
    levels: Vec<LevelView>,
    steadiness: String,
}

#[derive(Serialize)]
struct LevelView {
    level: String,
    /// `None`: not reached.
    lambda: Option<String>,
    score: Option<String>,
}

#[derive(Serialize)]
struct StepView {
    picture: Option<Picture>,
    lambda: String,
    /// λ as a number.
    at: f32,
    score: String,
    /// Share of the score's bar, in percent.
    percent: f32,
    positive: bool,
    origin: bool,
    /// f crosses 0.5 between the step before and this one.
    crossing: bool,
    x: f32,
    y: f32,
}

/// f's score over λ, in the units of the picture's viewBox.
#[derive(Serialize)]
struct ChartView {
    line: String,
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
    decision: f32,
    flip: Option<f32>,
    origin: f32,
    low: String,
    high: String,
}

pub(crate) fn fact(key: &str, value: String, help: &'static str) -> Fact {
    Fact { key: key.into(), value, help }
}

pub(crate) fn notes(notes: &[(String, String)]) -> impl Iterator<Item = Fact> {
    notes.iter().filter(|(k, _)| k != DIFFERENCE_SCALE).map(|(k, v)| fact(k, v.clone(), ""))
}

/// The view of a case; pictures that cannot be read become remarks of `sources`.
pub(crate) fn case(
    record: &CaseRecord,
    run: &RunRecord,
    evaluation: Option<&Evaluation>,
    sources: &mut Sources,
) -> CaseView {
    let RunRecord { classes, target, .. } = run;
    let mut shifts = Vec::new();
    for (e, explanation) in record.explanations.iter().enumerate() {
        shifts.extend(shift(e, record, explanation, sources));
    }
    let others = if classes.len() > 2 && record.scores.len() == classes.len() {
        let mut order: Vec<usize> = (0..classes.len()).filter(|k| *k != target.class).collect();
        order.sort_by(|a, b| record.scores[*b].total_cmp(&record.scores[*a]));
        order.iter().take(3).map(|&k| fact(&classes[k], score(record.scores[k]), "")).collect()
    } else {
        Vec::new()
    };
    let positive = record.score >= DECISION;
    CaseView {
        id: record.id.clone(),
        path: record.path.clone(),
        synthetic: record.synthetic,
        group: record.group.clone(),
        metadata: record.metadata.clone(),
        label: record.label.map(|l| label(l, classes, target)),
        wrong: record.label.is_some_and(|l| l != positive),
        score: score(record.score),
        positive,
        others,
        reasons: record.trust.as_ref().map(|t| t.reasons.clone()).unwrap_or_default(),
        retry: record.trust.as_ref().and_then(retry),
        original: record.pictures.get("original").and_then(|name| sources.picture(&record.id, name)),
        shifts,
        maps: maps(record, target, sources),
        measures: Measures::of(record, evaluation),
        remarks: record.remarks.clone(),
    }
}

/// Ground truth or a decision in words: the other class, where there are two.
pub(crate) fn label(is_target: bool, classes: &[String], target: &Target) -> String {
    match (is_target, classes) {
        (true, _) => target.name.clone(),
        (false, [a, b]) => if target.class == 0 { b } else { a }.clone(),
        (false, _) => format!("not {}", target.name),
    }
}

/// What a second try changed, in a sentence.
fn retry(trust: &TrustRecord) -> Option<String> {
    let r = trust.retry.as_ref()?;
    let of = |r: &Reconstruction| {
        format!("gap {}, pixel error {}", fixed(f64::from(r.gap), 3), fixed(f64::from(r.rmse), 3))
    };
    let (before, after) = (of(&r.before), of(&r.after));
    Some(if r.kept {
        format!("The encoder's code was replaced by {}: {after} instead of {before}.", r.method)
    } else {
        format!("Tried again by {}, which gave {after}: the encoder's code with {before} is kept.", r.method)
    })
}

fn calibration(c: &Calibration) -> CalibrationView {
    let levels = c.levels.iter().map(|l| LevelView {
        level: score(l.level),
        lambda: l.lambda.map(lambda),
        score: l.score.map(score),
    });
    let steadiness = match (c.inversions, c.spearman) {
        (_, None) => "f's score does not move at all".into(),
        (0, Some(_)) => format!("f's score never falls over {} steps", c.steps),
        (n, Some(_)) => format!("f's score falls on {n} of {} steps", c.steps),
    };
    let rho = c.spearman.map(|r| format!(", Spearman {}", fixed(f64::from(r), 2))).unwrap_or_default();
    CalibrationView {
        limit: significant(f64::from(c.limit)).trim_end_matches('0').trim_end_matches('.').to_owned(),
        levels: levels.collect(),
        steadiness: format!("{steadiness}{rho}."),
    }
}

fn shift(
    e: usize,
    record: &CaseRecord,
    explanation: &ExplanationRecord,
    sources: &mut Sources,
) -> Option<ShiftView> {
    let ExplanationRecord::Shift {
        explainer,
        title,
        lambdas,
        scores,
        origin,
        latent_score,
        flip,
        spearman,
        calibration: found,
        reconstruction_gap,
        reconstruction_l1,
        notes: said,
        pictures,
        animation,
        difference,
        seconds,
        ..
    } = explanation
    else {
        return None;
    };
    let (chart, points) = chart(lambdas, scores, *origin, *flip);
    let steps = (0..lambdas.len())
        .map(|i| StepView {
            picture: pictures.get(i).and_then(|name| sources.picture(&record.id, name)),
            lambda: lambda(lambdas[i]),
            at: lambdas[i],
            score: score(scores[i]),
            percent: (scores[i].clamp(0.0, 1.0) * 1000.0).round() / 10.0,
            positive: scores[i] >= DECISION,
            origin: i == *origin,
            crossing: i > 0 && (scores[i - 1] >= DECISION) != (scores[i] >= DECISION),
            x: points[i].0,
            y: points[i].1,
        })
        .collect();
    let mut facts = vec![fact(
        "mean |x − G(E(x))| per pixel",
        fixed(f64::from(*reconstruction_l1), 3),
        "Mean difference of pixel values, which run from 0 to 1.",
    )];
    if let Some(c) = latent_score {
        facts.push(fact("c(E(x))", score(*c), "What the latent classifier says about the image's code."));
    }
    if let Some(t) = &record.trust {
        let help = "Root mean square difference of pixel values, which run from 0 to 1.";
        facts.push(fact("root mean square of x − G(E(x))", fixed(f64::from(t.reconstruction.rmse), 3), help));
    }
    let rho = spearman.map_or("not defined (all scores are equal)".into(), |v| fixed(f64::from(v), 2));
    facts.push(fact("Spearman of λ and f in the series", rho, "1: f's score rises with every step."));
    facts.extend(notes(said));
    facts.push(fact("time", duration(*seconds), ""));
    let sides = if scores[*origin] >= DECISION { ("at or above", "below") } else { ("below", "at or above") };
    let summary = match flip {
        Some(l) => {
            format!("f changes its mind at λ = {} σ: from {} 0.5 to {} it.", lambda(*l), sides.0, sides.1)
        }
        None => format!("f does not change its mind within this series: it stays {} 0.5.", sides.0),
    };
    let animation = animation.as_ref().map(|name| ("GIF", name));
    let lossless = record.pictures.get(&format!("series-{e}-apng")).map(|name| ("APNG", name));
    let file = |(format, name): (&'static str, &String)| {
        (format, Value::from_safe_string(sources.address(&record.id, name)))
    };
    Some(ShiftView {
        anchor: format!("{}series-{e}", sources.anchors),
        title: title.clone(),
        explainer: explainer.clone(),
        summary,
        steps,
        columns: lambdas.len().min(13),
        origin: *origin,
        chart,
        reconstruction_score: score(scores[*origin]),
        gap: fixed(f64::from(*reconstruction_gap), 3),
        calibration: found.as_ref().map(calibration),
        facts,
        // A page that stands alone has no files beside it.
        animations: if sources.embed {
            Vec::new()
        } else {
            animation.into_iter().chain(lossless).map(file).collect()
        },
        difference: difference.as_ref().and_then(|name| sources.picture(&record.id, name)),
        scale: said.iter().find(|(key, _)| key == DIFFERENCE_SCALE).map(|(_, v)| v.clone()),
        lambda_first: lambda(lambdas[0]),
        lambda_last: lambda(lambdas[lambdas.len() - 1]),
    })
}

/// The chart's geometry, and where each step's point lies.
fn chart(lambdas: &[f32], scores: &[f32], origin: usize, flip: Option<f32>) -> (ChartView, Vec<(f32, f32)>) {
    let (left, right, top, bottom) = (26.0, 272.0, 8.0, 112.0);
    let tenth = |v: f32| (v * 10.0).round() / 10.0;
    let (first, last) = (lambdas[0], lambdas[lambdas.len() - 1]);
    let width = if last > first { last - first } else { 1.0 };
    let low = scores.iter().copied().fold(0.0, f32::min);
    let high = scores.iter().copied().fold(1.0, f32::max);
    let x = |l: f32| tenth(left + (right - left) * (l - first) / width);
    let y = |s: f32| tenth(bottom - (bottom - top) * (s - low) / (high - low));
    let points: Vec<(f32, f32)> = lambdas.iter().zip(scores).map(|(l, s)| (x(*l), y(*s))).collect();
    let line = points.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ");
    let ends = |v: f32| if v == 0.0 || v == 1.0 { format!("{v}") } else { significant(f64::from(v)) };
    let view = ChartView {
        line,
        left,
        right,
        top,
        bottom,
        decision: y(DECISION),
        flip: flip.filter(|l| (first..=last).contains(l)).map(x),
        origin: points[origin].0,
        low: ends(low),
        high: ends(high),
    };
    (view, points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_maps_the_ends_of_both_axes() {
        let (view, points) = chart(&[-2.0, 0.0, 2.0], &[0.0, 0.5, 1.0], 1, Some(0.0));
        assert_eq!(points, [(26.0, 112.0), (149.0, 60.0), (272.0, 8.0)]);
        assert_eq!((view.decision, view.flip, view.origin), (60.0, Some(149.0), 149.0));
        assert_eq!(view.line, "26,112 149,60 272,8");
        let (view, points) = chart(&[0.0], &[3.0], 0, None);
        assert_eq!(points, [(26.0, 8.0)]);
        assert_eq!((view.low.as_str(), view.high.as_str()), ("0", "3.00"));
    }

    #[test]
    fn labels_name_the_other_class_where_there_are_two() {
        let classes = ["healthy".to_owned(), "ill".to_owned()];
        let target = |class: usize| Target { class, name: classes[class].clone() };
        assert_eq!(label(false, &classes, &target(1)), "healthy");
        assert_eq!(label(false, &classes, &target(0)), "ill");
        assert_eq!(label(true, &classes, &target(1)), "ill");
        assert_eq!(label(false, &classes[1..], &Target { class: 0, name: "ill".into() }), "not ill");
    }
}

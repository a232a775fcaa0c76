//! The direction α: sample, synthesise, predict, fit, and measure how far it can be trusted.
//!
//! Schutte et al. 2021, section 2.3: draw many w, ask f about G(w), fit a classifier c on (w, f(G(w)) >= 0.5). The
//! audit holds codes back, and refits on two halves to see how stable the direction is.

mod logistic;
mod store;

pub use logistic::{Fitted, Logistic, LogisticParams, fit};
pub use store::{load, save};

use crate::metrics;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use shiftlens_api::record::AuditRecord;
use shiftlens_api::{
    Direction, DirectionFinder, Error, Generator, LatentCodes, Monitor, Predictor, Result, Target, Targets,
};
use std::time::Instant;

/// Codes synthesised and predicted at a time.
pub const BATCH: usize = 32;

/// A class rarer than this among the samples is worth a remark.
const RARE: f64 = 0.01;

/// A direction and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// α, σ and the latent classifier.
    pub direction: Direction,
    /// Held-out figures.
    pub audit: AuditRecord,
}

/// How to split and label the codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Share held out for the audit.
    pub holdout: f64,
    /// Value from which a target counts as positive.
    pub threshold: f32,
    /// Seed of the split.
    pub seed: u64,
}

/// f's score of the target class on G(w) for every code, without keeping the images.
///
/// # Errors
/// If a component fails; [`Error::Component`] that names the sample if f's answer is not finite.
pub fn score_codes(
    w: &LatentCodes,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
    monitor: &dyn Monitor,
) -> Result<Vec<f32>> {
    let mut scores = Vec::with_capacity(w.len());
    for from in (0..w.len()).step_by(BATCH) {
        monitor.check()?;
        let to = (from + BATCH).min(w.len());
        let images = generator.synthesize(&w.slice(from, to))?;
        let answer = predictor.predict(&images).and_then(|s| s.class(target.class)).map_err(|e| match e {
            Error::NotFinite { .. } => Error::component(
                "predictor",
                format!("on samples {from} to {} of the generator: {e}", to - 1),
            ),
            e => e,
        })?;
        scores.extend(answer);
        monitor.progress("sampling the direction", to as u64, w.len() as u64);
    }
    Ok(scores)
}

/// Fits a direction to `values` on `codes` and audits it. Codes of one group (`groups[i]`, where given) stay on one
/// side of every split.
///
/// # Errors
/// [`Error::Invalid`] if only one class is present, with the figures; or if the finder fails.
pub fn find(
    finder: &mut dyn DirectionFinder,
    codes: &LatentCodes,
    values: &[f32],
    groups: Option<&[String]>,
    plan: Plan,
    what: &str,
    monitor: &dyn Monitor,
) -> Result<Found> {
    let started = Instant::now();
    let labels = |v: &[f32]| v.iter().map(|v| *v >= plan.threshold).collect::<Vec<_>>();
    both_classes(values, plan.threshold, what)?;
    let order = split_order(codes.len(), groups, plan.seed);
    let held = ((codes.len() as f64 * plan.holdout) as usize).clamp(1, codes.len().saturating_sub(2).max(1));
    // A group is never cut: the boundary moves to the group's end.
    let mut held_end = held;
    if let Some(g) = groups {
        while held_end < order.len() && g[order[held_end]] == g[order[held_end - 1]] {
            held_end += 1;
        }
    }
    let (test, train) = order.split_at(held_end);
    let (train_w, train_y) = (pick(codes, train)?, pick_values(values, train));
    let (test_w, test_y) = (pick(codes, test)?, pick_values(values, test));
    both_classes(&train_y, plan.threshold, &format!("{what} (those to fit)"))?;

    monitor.progress("fitting the direction", 0, 3);
    let targets = Targets { values: train_y.clone(), threshold: plan.threshold };
    let mut direction = finder.find(&train_w, &targets)?;
    if direction.slope == 0.0 {
        calibrate(&mut direction, &train_w, &targets)?;
    }
    monitor.progress("fitting the direction", 1, 3);
    let projections: Vec<f64> = direction.project(&test_w)?.into_iter().map(f64::from).collect();
    let test_labels = labels(&test_y);
    let probabilities: Vec<f64> = direction.classify(&test_w)?.into_iter().map(f64::from).collect();

    let mut halves = Vec::new();
    for (i, part) in
        [train.iter().step_by(2), train[1.min(train.len())..].iter().step_by(2)].into_iter().enumerate()
    {
        monitor.check()?;
        let part: Vec<usize> = part.copied().collect();
        let y = pick_values(values, &part);
        if both_classes(&y, plan.threshold, what).is_ok() {
            let targets = Targets { values: y, threshold: plan.threshold };
            halves.push(finder.find(&pick(codes, &part)?, &targets)?);
        }
        monitor.progress("fitting the direction", i as u64 + 2, 3);
    }
    let positives = labels(&train_y).iter().filter(|l| **l).count() as f64 / train.len() as f64;
    let audit = AuditRecord {
        samples: (train.len(), test.len()),
        positives,
        auc: metrics::auc(&projections, &test_labels),
        accuracy: metrics::accuracy(&probabilities, &test_labels, 0.5),
        stability: match halves.as_slice() {
            [a, b] => metrics::cosine(a.alpha(), b.alpha()),
            _ => None,
        },
        sigma: f64::from(direction.sigma),
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Found { direction, audit })
}

/// What a user must know about a direction with this audit.
pub fn remarks(audit: &AuditRecord) -> Vec<String> {
    let mut out = Vec::new();
    let (p, n) = (audit.positives, audit.samples.0 as f64);
    if p.min(1.0 - p) < RARE {
        out.push(format!(
            "direction: only {} of {n} fitted codes are {} ({:.2} %): it rests on few examples; sample more codes, or \
             check that the generator makes both classes",
            (p.min(1.0 - p) * n).round(),
            if p < 0.5 { "positive" } else { "negative" },
            100.0 * p.min(1.0 - p)
        ));
    }
    if let Some(auc) = audit.auc.filter(|a| *a < 0.6) {
        out.push(format!(
            "direction: held-out AUC {auc:.3}: the latent space hardly tells the classes apart along it; the series may \
             not show what the predictor looks at"
        ));
    }
    if let Some(s) = audit.stability.filter(|s| *s < 0.5) {
        out.push(format!(
            "direction: two halves of the codes give directions with cosine {s:.2}: sample more codes for a stable one"
        ));
    }
    out
}

fn both_classes(values: &[f32], threshold: f32, what: &str) -> Result<()> {
    let positives = values.iter().filter(|v| **v >= threshold).count();
    if positives > 0 && positives < values.len() {
        return Ok(());
    }
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    Err(Error::Invalid(format!(
        "direction: {} of {} {what} are {} (values {low:.4} to {high:.4}, threshold {threshold}): both sides are \
         needed. Next: check `output.target` and the predictor's input normalisation with `shiftlens check`, sample \
         more codes, or set `threshold` in [direction] within that range",
        values.len(),
        values.len(),
        if positives == 0 { "negative" } else { "positive" },
    )))
}

/// Gives a direction without a classifier one: a logistic regression on the projections alone.
fn calibrate(direction: &mut Direction, w: &LatentCodes, y: &Targets) -> Result<()> {
    let projections: Vec<f64> = direction.project(w)?.into_iter().map(f64::from).collect();
    let (mean, sigma) = logistic::moments(&projections);
    let sigma = if sigma > 0.0 { sigma } else { 1.0 };
    let z = projections.iter().map(|p| (p - mean) / sigma).collect();
    let x = ndarray::Array2::from_shape_vec((w.len(), 1), z).map_err(|e| Error::invalid(e.to_string()))?;
    let fitted = fit(x, &y.labels(), &LogisticParams::default())?;
    direction.slope = (fitted.coefficients[0] / sigma) as f32;
    direction.intercept = (fitted.intercept - fitted.coefficients[0] / sigma * mean) as f32;
    Ok(())
}

/// A shuffled order in which the members of a group are neighbours.
fn split_order(n: usize, groups: Option<&[String]>, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..n).collect();
    match groups {
        None => order.shuffle(&mut rng),
        Some(groups) => {
            let mut names: Vec<&String> = groups.iter().collect();
            names.sort();
            names.dedup();
            names.shuffle(&mut rng);
            let place: std::collections::HashMap<&String, usize> =
                names.into_iter().enumerate().map(|(i, g)| (g, i)).collect();
            order.sort_by_key(|&i| place[&groups[i]]);
        }
    }
    order
}

fn pick(codes: &LatentCodes, which: &[usize]) -> Result<LatentCodes> {
    let [_, l, d] = codes.shape();
    LatentCodes::new([which.len(), l, d], which.iter().flat_map(|&i| codes.code(i)).copied().collect())
}

fn pick_values(values: &[f32], which: &[usize]) -> Vec<f32> {
    which.iter().map(|&i| values[i]).collect()
}

#[cfg(test)]
mod tests;

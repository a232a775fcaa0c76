//! The direction α: sample, synthesise, predict, fit, and measure how far it can be trusted.
//!
//! Schutte et al. 2021, section 2.3: draw many w, ask f about G(w), fit a classifier c on (w, f(G(w)) >= 0.5). The
//! audit holds codes back, refits on two halves and on bootstrap samples, compares with random directions, and counts how
//! often f's decision on held-out codes flips along it.
//!
//! | kind | what it fits |
//! | --- | --- |
//! | `logistic` | logistic regression, the paper's: [`Logistic`] |
//! | `svm` | linear support vector machine: [`Svm`] |
//! | `ridge` | regression on the score itself: [`Ridge`] |
//! | `mean-difference` | the classes' means: [`MeanDifference`] |
//! | `pca` | a principal component of the codes: [`Principal`] |
//! | `sefa` | a factor of the generator's weights: [`Sefa`] |

mod audit;
mod codes;
mod linear;
mod logistic;
mod ridge;
mod store;
mod svm;
mod unsupervised;

pub use audit::{Ask, AuditPlan, REACH, random_direction};
pub use codes::{Along, ClassWeight};
pub use logistic::{Fitted, Logistic, LogisticParams, fit};
pub use ridge::{Response, Ridge, RidgeParams};
pub use store::{load, read, save};
pub use svm::{Svm, SvmParams};
pub use unsupervised::{MeanDifference, MeanDifferenceParams, Principal, PrincipalParams, Sefa, SefaParams};

use crate::metrics;
use logistic::moments;
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
    /// f's score from which it says yes, for the flip-rate curve.
    pub decision: f32,
    /// Seed of the split, and of the audit's random numbers.
    pub seed: u64,
    /// What a series moves along.
    pub along: Along,
    /// How much is spent on the audit.
    pub audit: AuditPlan,
}

/// What a direction is fitted to.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The codes.
    pub codes: &'a LatentCodes,
    /// What stands against each, as [`Targets::values`].
    pub values: &'a [f32],
    /// The group of each. Codes of one group stay on one side of every split, and are resampled together.
    pub groups: Option<&'a [String]>,
    /// What they are, in messages: `sampled codes`.
    pub what: &'a str,
}

/// f's score of the target class on G(w) for every code, without keeping the images; the monitor is told of the step `what`.
///
/// # Errors
/// If a component fails; [`Error::Component`] that names the sample if f's answer is not finite.
pub fn score_codes(
    w: &LatentCodes,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
    what: Option<&str>,
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
        if let Some(what) = what {
            monitor.progress(what, to as u64, w.len() as u64);
        }
    }
    Ok(scores)
}

/// Fits a direction to a sample and audits it. `ask` answers f(G(w)); without it there is no flip-rate curve.
///
/// # Errors
/// [`Error::Invalid`] if only one class is present, with the figures; or if the finder fails.
pub fn find(
    finder: &mut dyn DirectionFinder,
    sample: Sample<'_>,
    plan: Plan,
    ask: Option<Ask<'_>>,
    monitor: &dyn Monitor,
) -> Result<Found> {
    let started = Instant::now();
    let Sample { codes, values, groups, what } = sample;
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
    let direction = plan.along.aim(direction, &train_w)?;
    monitor.progress("fitting the direction", 1, 3);
    let test_labels = labels(&test_y);
    let (auc, accuracy) = audit::held_out(&direction, &test_w, &test_labels)?;

    let mut halves = Vec::new();
    for first in 0..2.min(train.len()) {
        let part: Vec<usize> = train[first..].iter().step_by(2).copied().collect();
        let y = pick_values(values, &part);
        if both_classes(&y, plan.threshold, what).is_ok() {
            halves.push((pick(codes, &part)?, Targets { values: y, threshold: plan.threshold }));
        }
    }
    monitor.check()?;
    let fits = finder.find_all(&halves)?;
    let aimed = fits.into_iter().zip(&halves).map(|(d, (w, _))| plan.along.aim(d, w));
    let halves = aimed.collect::<Result<Vec<_>>>()?;
    monitor.progress("fitting the direction", 3, 3);
    let positives = labels(&train_y).iter().filter(|l| **l).count() as f64 / train.len() as f64;
    let train_groups: Option<Vec<String>> = groups.map(|g| train.iter().map(|i| g[*i].clone()).collect());
    let (threshold, seed, AuditPlan { refits, randoms, codes: curve }) =
        (plan.threshold, plan.seed, plan.audit);
    let bootstrap = audit::bootstrap(
        finder,
        &direction,
        plan.along,
        &train_w,
        &train_y,
        train_groups.as_deref(),
        threshold,
        refits,
        seed,
        monitor,
    )?;
    let randoms = audit::random_directions(&train_w, &targets, randoms, seed)?;
    let random = audit::random_record(&randoms, &test_w, &test_labels)?;
    let flips = match ask {
        Some(ask) => {
            let sample = pick(codes, &audit::deal(test, curve, seed))?;
            audit::flips(&direction, &randoms, &sample, plan.decision, ask, monitor)?
        }
        None => Vec::new(),
    };
    let audit = AuditRecord {
        samples: (train.len(), test.len()),
        positives,
        auc,
        accuracy,
        stability: match halves.as_slice() {
            [a, b] => metrics::cosine(a.step(), b.step()),
            _ => None,
        },
        bootstrap,
        random,
        flips,
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
    if let (Some(auc), Some(random)) = (audit.auc, audit.random.as_ref().and_then(|r| r.auc_max))
        && auc <= random
    {
        out.push(format!(
            "direction: held-out AUC {auc:.3}, the best of the random directions has {random:.3}: it says no more of the \
             predictor than chance"
        ));
    }
    if let Some(last) = audit.flips.last().filter(|f| f.share < 0.5) {
        let better = last.random.is_some_and(|r| r > last.share);
        out.push(format!(
            "direction: f changes its mind on {:.0} % of {} held-out samples within ±{} σ: most series will not cross{}",
            100.0 * last.share,
            last.codes,
            last.lambda,
            if better { "; random directions do better, try along = \"pattern\"" } else { "" }
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
    let (mean, sigma) = moments(&projections);
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

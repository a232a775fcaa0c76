//! What says how far a direction can be trusted: refits to resampled codes, random directions, and how often f's
//! decision flips along it.

use super::codes::{Along, along as directed, rising};
use super::{both_classes, calibrate, pick, pick_values};
use crate::metrics;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use shiftlens_api::record::{BootstrapRecord, FlipRecord, RandomRecord};
use shiftlens_api::{Direction, DirectionFinder, LatentCodes, Monitor, Result, Targets};
use std::collections::BTreeMap;

/// How much is spent on the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AuditPlan {
    /// Refits to bootstrap samples.
    pub refits: usize,
    /// Random directions to compare with.
    pub randoms: usize,
    /// Held-out codes that the flip-rate curve is measured on, at most.
    pub codes: usize,
}

impl Default for AuditPlan {
    fn default() -> Self {
        Self { refits: 10, randoms: 10, codes: 200 }
    }
}

/// The curve goes to this many sigma on both sides.
pub const REACH: usize = 4;

/// Answers f(G(w)) for codes.
pub type Ask<'a> = &'a mut dyn FnMut(&LatentCodes) -> Result<Vec<f32>>;

/// Streams of the audit's random numbers, so that none depends on how many another takes.
const RESAMPLE: u64 = 1;
const RANDOM: u64 = 2;
const DEAL: u64 = 3;

fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Refits to bootstrap samples of the codes, whole groups drawn where there are any. Samples with one class alone are
/// drawn anew; `None` if none of ten times as many has both.
#[allow(clippy::too_many_arguments)]
pub(super) fn bootstrap(
    finder: &mut dyn DirectionFinder,
    direction: &Direction,
    along: Along,
    codes: &LatentCodes,
    values: &[f32],
    groups: Option<&[String]>,
    threshold: f32,
    refits: usize,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<Option<BootstrapRecord>> {
    let mut rng = stream(seed, RESAMPLE);
    let members: Vec<Vec<usize>> = match groups {
        None => (0..codes.len()).map(|i| vec![i]).collect(),
        Some(groups) => {
            let mut by_name: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
            groups.iter().enumerate().for_each(|(i, g)| by_name.entry(g).or_default().push(i));
            by_name.into_values().collect()
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cosines = Vec::new();
    let (mut made, mut tried) = (0, 0);
    while made < refits && tried < 10 * refits {
        monitor.check()?;
        // As many samples at a time as can be fitted side by side: each is a copy of the codes.
        let mut problems = Vec::new();
        while problems.len() < cores.min(refits - made) && tried < 10 * refits {
            tried += 1;
            let drawn = (0..members.len()).flat_map(|_| &members[rng.random_range(0..members.len())]);
            let rows: Vec<usize> = drawn.copied().collect();
            let values = pick_values(values, &rows);
            if both_classes(&values, threshold, "resampled codes").is_ok() {
                problems.push((pick(codes, &rows)?, Targets { values, threshold }));
            }
        }
        made += problems.len();
        for (refit, (resampled, _)) in finder.find_all(&problems)?.into_iter().zip(&problems) {
            cosines.extend(metrics::cosine(direction.step(), along.aim(refit, resampled)?.step()));
        }
        monitor.progress("refitting the direction", made as u64, refits as u64);
    }
    Ok(metrics::mean(&cosines).map(|mean_cosine| BootstrapRecord {
        refits: cosines.len(),
        mean_cosine,
        least_cosine: cosines.iter().copied().fold(f64::INFINITY, f64::min),
    }))
}

/// Directions drawn evenly in the whitened space of codes, turned to where `y` rises and calibrated on it.
///
/// `sum_i g_i (w_i - mean)` with standard normal g is normal with the codes' covariance: a step to every side of the
/// whitened space is as likely, without whitening.
pub(super) fn random_directions(
    codes: &LatentCodes,
    y: &Targets,
    n: usize,
    seed: u64,
) -> Result<Vec<Direction>> {
    let mut rng = stream(seed, RANDOM);
    let mean = mean_code(codes);
    (0..n)
        .map(|_| {
            let vector = drawn(codes, &mean, &mut rng);
            let mut direction = directed(codes, &rising(codes, &y.values, vector))?;
            calibrate(&mut direction, codes, y)?;
            Ok(direction)
        })
        .collect()
}

/// The mean of the codes, `[L, D]` flattened.
fn mean_code(codes: &LatentCodes) -> Vec<f64> {
    let [n, l, d] = codes.shape();
    let mut mean = vec![0.0; l * d];
    for i in 0..n {
        mean.iter_mut().zip(codes.code(i)).for_each(|(m, v)| *m += f64::from(*v) / n as f64);
    }
    mean
}

/// A normal vector with the covariance of the codes, whose mean is `mean`.
fn drawn(codes: &LatentCodes, mean: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut vector = vec![0.0; mean.len()];
    for i in 0..codes.len() {
        let g: f64 = rng.sample(StandardNormal);
        let rows = codes.code(i).iter().zip(mean);
        vector.iter_mut().zip(rows).for_each(|(v, (w, m))| *v += g * (f64::from(*w) - m));
    }
    vector
}

/// A direction drawn as those of the audit are, which knows nothing of f: neither turned to where its score rises, nor with a
/// classifier.
///
/// # Errors
/// [`shiftlens_api::Error::Invalid`] if the codes do not vary.
pub fn random_direction(codes: &LatentCodes, seed: u64) -> Result<Direction> {
    directed(codes, &drawn(codes, &mean_code(codes), &mut stream(seed, RANDOM)))
}

/// AUC of a direction's projections and accuracy of its classifier on held-out codes.
pub(super) fn held_out(
    direction: &Direction,
    codes: &LatentCodes,
    labels: &[bool],
) -> Result<(Option<f64>, Option<f64>)> {
    let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<_>>();
    let projections = wide(direction.project(codes)?);
    let probabilities = wide(direction.classify(codes)?);
    Ok((metrics::auc(&projections, labels), metrics::accuracy(&probabilities, labels, 0.5)))
}

/// Held-out figures of random directions; `None` if there are none.
pub(super) fn random_record(
    directions: &[Direction],
    codes: &LatentCodes,
    labels: &[bool],
) -> Result<Option<RandomRecord>> {
    let mut figures = (Vec::new(), Vec::new());
    for d in directions {
        let (auc, accuracy) = held_out(d, codes, labels)?;
        figures.0.extend(auc);
        figures.1.extend(accuracy);
    }
    let most = |v: &[f64]| v.iter().copied().reduce(f64::max);
    Ok((!directions.is_empty()).then(|| RandomRecord {
        directions: directions.len(),
        auc_mean: metrics::mean(&figures.0),
        auc_max: most(&figures.0),
        accuracy_mean: metrics::mean(&figures.1),
        accuracy_max: most(&figures.1),
    }))
}

/// The share of `codes` on which f decides otherwise at λ = -k or λ = k than at 0, for k = 1 to [`REACH`], along the
/// direction and along the random ones, code i along that of number i modulo their count.
pub(super) fn flips(
    direction: &Direction,
    randoms: &[Direction],
    codes: &LatentCodes,
    threshold: f32,
    ask: Ask<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<FlipRecord>> {
    let n = codes.len();
    if n == 0 {
        return Ok(Vec::new());
    }
    let start = ask(codes)?;
    // `along` is dealt out among the codes.
    let mut share = |along: &[Direction], k: usize| -> Result<f64> {
        let mut flipped = vec![false; n];
        for lambda in [-(k as f32), k as f32] {
            let moved = (0..n).map(|i| along[i % along.len()].shift(&codes.slice(i, i + 1), &[lambda]));
            let scores = ask(&LatentCodes::concat(&moved.collect::<Result<Vec<_>>>()?)?)?;
            for ((f, a), b) in flipped.iter_mut().zip(&start).zip(&scores) {
                *f |= (*a >= threshold) != (*b >= threshold);
            }
        }
        Ok(flipped.iter().filter(|f| **f).count() as f64 / n as f64)
    };
    (1..=REACH)
        .map(|k| {
            monitor.progress("auditing the direction", k as u64 - 1, REACH as u64);
            let random = match randoms {
                [] => None,
                all => Some(share(all, k)?),
            };
            let share = share(std::slice::from_ref(direction), k)?;
            monitor.progress("auditing the direction", k as u64, REACH as u64);
            Ok(FlipRecord { lambda: k as f64, share, random, codes: n })
        })
        .collect()
}

/// At most `n` of the places in `from`, in a random order.
pub(super) fn deal(from: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut order = from.to_vec();
    order.shuffle(&mut stream(seed, DEAL));
    order.truncate(n);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_api::Silent;

    /// Codes whose coordinates have the standard deviations `spread`, independent of one another.
    fn codes(n: usize, spread: &[f32]) -> LatentCodes {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let data = (0..n).flat_map(|_| spread).map(|s| s * rng.sample::<f32, _>(StandardNormal)).collect();
        LatentCodes::new([n, 1, spread.len()], data).unwrap()
    }

    #[test]
    fn random_directions_are_even_in_the_whitened_space() {
        let spread = [4.0f32, 1.0, 0.25, 2.0];
        let w = codes(600, &spread);
        let y = Targets { values: (0..600).map(|i| w.code(i)[1]).collect(), threshold: 0.0 };
        let all = random_directions(&w, &y, 300, 5).unwrap();
        // Divided by the spreads the directions have no preferred axis: each holds a quarter of the squared length.
        let mut share = [0.0; 4];
        for d in &all {
            let z: Vec<f32> = d.alpha().iter().zip(spread).map(|(a, s)| a / s).collect();
            let total: f32 = z.iter().map(|v| v * v).sum();
            share.iter_mut().zip(&z).for_each(|(s, v)| *s += v * v / total / 300.0);
        }
        assert!(share.iter().all(|s| (s - 0.25).abs() < 0.06), "{share:?}");
        for d in &all {
            let p: Vec<f64> = d.project(&w).unwrap().into_iter().map(f64::from).collect();
            let values: Vec<f64> = y.values.iter().map(|v| f64::from(*v)).collect();
            let r = metrics::pearson(&p, &values).unwrap();
            assert!(r >= 0.0 && d.slope != 0.0, "turned to where the values rise: {r}");
        }
        assert_eq!(all[..3], random_directions(&w, &y, 3, 5).unwrap());
        // The one that knows nothing is the first of them, but for its sign and the classifier.
        let alone = random_direction(&w, 5).unwrap();
        assert!((metrics::cosine(alone.step(), all[0].step()).unwrap().abs() - 1.0).abs() < 1e-6);
        assert_eq!((alone.sigma, alone.slope), (all[0].sigma, 0.0));
        assert_ne!(all[..3], random_directions(&w, &y, 3, 6).unwrap());
        let labels = y.labels();
        let record = random_record(&all, &w, &labels).unwrap().unwrap();
        assert_eq!(record.directions, 300);
        // Half of the variance of a random direction's classifier is noise or more: far from 1, above chance.
        let mean = record.auc_mean.unwrap();
        assert!(mean > 0.5 && mean < 0.85 && record.auc_max.unwrap() > mean, "{record:?}");
        assert_eq!(random_record(&[], &w, &labels).unwrap(), None);
    }

    #[test]
    fn flips_in_closed_form() {
        // f looks at coordinate 0, of spread 1: it flips within k where |w0| <= k.
        let w = codes(400, &[1.0, 1.0]);
        let axis = |j: usize| {
            let mut alpha = vec![0.0; 2];
            alpha[j] = 1.0;
            Direction::new(alpha, 1, 1.0, 0.0).unwrap()
        };
        let mut asked = 0;
        let mut ask = |c: &LatentCodes| {
            asked += c.len();
            Ok((0..c.len()).map(|i| 1.0 / (1.0 + (-c.code(i)[0]).exp())).collect())
        };
        let all = flips(&axis(0), &[axis(1), axis(0)], &w, 0.5, &mut ask, &Silent).unwrap();
        assert_eq!(asked, 400 * (1 + 2 * 2 * REACH));
        assert_eq!(all.iter().map(|f| f.lambda).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        for f in &all {
            let within = |only: fn(usize) -> bool| {
                (0..400).filter(|i| only(*i) && f64::from(w.code(*i)[0].abs()) <= f.lambda).count() as f64
                    / 400.0
            };
            assert!((f.share - within(|_| true)).abs() < 1e-9, "{f:?}");
            // Every second code goes along the axis that f does not look at.
            assert!((f.random.unwrap() - within(|i| i % 2 == 1)).abs() < 1e-9, "{f:?}");
        }
        let mut ask = |c: &LatentCodes| Ok(vec![0.3; c.len()]);
        let none = flips(&axis(0), &[], &w.slice(0, 3), 0.5, &mut ask, &Silent).unwrap();
        assert!(none.iter().all(|f| f.share == 0.0 && f.random.is_none() && f.codes == 3));
    }

    #[test]
    fn refits_draw_whole_groups() {
        /// The direction is the mean of the codes, the number of codes its first coordinate.
        struct Mean;
        impl DirectionFinder for Mean {
            fn find(&mut self, w: &LatentCodes, _: &Targets) -> Result<Direction> {
                let mean = |j: usize| (0..w.len()).map(|i| w.code(i)[j]).sum::<f32>() / w.len() as f32;
                for i in (0..w.len()).step_by(2) {
                    assert_eq!(w.code(i)[2], w.code(i + 1)[2], "a group was cut");
                }
                Direction::new(vec![mean(0), mean(1), 0.0], 1, 1.0, 0.0)
            }
        }
        let data = (0..40).flat_map(|i| [1.0, (i as f32).sin(), (i / 2) as f32]).collect();
        let w = LatentCodes::new([40, 1, 3], data).unwrap();
        let y: Vec<f32> = (0..40).map(|i| f32::from(u8::from(i / 2 % 2 == 0))).collect();
        let groups: Vec<String> = (0..40).map(|i| format!("g{:02}", i / 2)).collect();
        let d = Direction::new(vec![1.0, 0.0, 0.0], 1, 1.0, 0.0).unwrap();
        let run = |y: &[f32], refits| {
            bootstrap(&mut Mean, &d, Along::Normal, &w, y, Some(&groups), 0.5, refits, 3, &Silent).unwrap()
        };
        let record = run(&y, 8).unwrap();
        assert_eq!(record.refits, 8);
        assert!(record.least_cosine < record.mean_cosine && record.mean_cosine < 1.0, "{record:?}");
        assert_eq!(run(&y, 8).unwrap(), record);
        assert_eq!(run(&y, 0), None);
        assert_eq!(run(&[1.0; 40], 2), None, "one class alone cannot be fitted");
    }

    #[test]
    fn a_dealt_sample_has_no_doubles() {
        let from: Vec<usize> = (100..150).collect();
        let mut dealt = deal(&from, 20, 1);
        assert_eq!(dealt.len(), 20);
        assert_ne!(dealt, deal(&from, 20, 2));
        dealt.sort_unstable();
        dealt.dedup();
        assert!(dealt.len() == 20 && dealt.iter().all(|i| from.contains(i)));
        assert_eq!(deal(&from, 1000, 1).len(), 50);
    }
}

//! The bootstrap over clusters (Efron and Tibshirani 1993; Field and Welsh 2007): whole clusters are drawn with replacement.

use super::Clusters;
use super::special::{normal_cdf, normal_quantile};
use crate::rank::{mean, quantile};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// How the values of the resamples become an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntervalMethod {
    /// The middle of the values (chapter 13).
    #[default]
    Percentile,
    /// Bias-corrected and accelerated (chapter 14): second-order accurate, also for skewed figures.
    Bca,
}

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BootstrapSettings {
    /// Resamples.
    pub resamples: usize,
    /// Share of resamples within the interval.
    pub confidence: f64,
    /// How the interval is made.
    pub method: IntervalMethod,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for BootstrapSettings {
    /// 2000 resamples, 95 %, percentile.
    fn default() -> Self {
        Self { resamples: 2000, confidence: 0.95, method: IntervalMethod::Percentile, seed: 0 }
    }
}

impl BootstrapSettings {
    /// Refuses what leads to no interval.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer than 100 resamples, or a confidence outside (0, 1).
    pub fn check(&self) -> Result<()> {
        if self.resamples < 100 || !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(Error::Invalid(format!(
                "bootstrap: {} resamples at confidence {}, expected at least 100, and a confidence between 0 and 1",
                self.resamples, self.confidence
            )));
        }
        Ok(())
    }
}

/// A figure with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On all rows; `None` where the figure has no value.
    pub value: Option<f64>,
    /// Lower and upper limit. `None` with fewer than two clusters, where the figure has no value on half of the resamples or
    /// more, and for BCa also where it lacks one without some cluster, lies outside of all
    /// resamples, or hangs on a single cluster.
    pub interval: Option<(f64, f64)>,
}

/// A figure of rows, given as their indices (with repeats), and its interval.
///
/// # Errors
/// As [`BootstrapSettings::check`].
pub fn bootstrap(
    clusters: &Clusters,
    settings: &BootstrapSettings,
    figure: impl Fn(&[usize]) -> Option<f64>,
) -> Result<Estimate> {
    let mut rows = Vec::with_capacity(clusters.rows());
    estimate(clusters.len(), settings, |drawn| {
        rows.clear();
        drawn.iter().for_each(|c| rows.extend_from_slice(clusters.members(*c)));
        figure(&rows)
    })
}

/// The mean over rows and its interval: as [`bootstrap()`], but as fast as there are clusters and not rows.
///
/// # Errors
/// As [`BootstrapSettings::check`]; [`Error::Shape`] for a number of values other than that of the rows.
pub fn bootstrap_mean(clusters: &Clusters, settings: &BootstrapSettings, values: &[f64]) -> Result<Estimate> {
    if values.len() != clusters.rows() {
        return Err(Error::Shape {
            what: "values of rows in clusters".into(),
            expected: format!("[{}]", clusters.rows()),
            found: vec![values.len()],
        });
    }
    let sums = clusters.sums(values);
    estimate(clusters.len(), settings, |drawn| {
        let (sum, n) =
            drawn.iter().fold((0.0, 0), |(sum, n), c| (sum + sums[*c], n + clusters.members(*c).len()));
        (n > 0).then(|| sum / n as f64)
    })
}

fn estimate(
    n: usize,
    settings: &BootstrapSettings,
    mut figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Result<Estimate> {
    settings.check()?;
    let all: Vec<usize> = (0..n).collect();
    let Some(value) = figure(&all) else { return Ok(Estimate { value: None, interval: None }) };
    if n < 2 {
        return Ok(Estimate { value: Some(value), interval: None });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut drawn = vec![0; n];
    let mut resampled = Vec::with_capacity(settings.resamples);
    for _ in 0..settings.resamples {
        drawn.iter_mut().for_each(|d| *d = rng.random_range(0..n));
        resampled.extend(figure(&drawn));
    }
    if 2 * resampled.len() <= settings.resamples {
        return Ok(Estimate { value: Some(value), interval: None });
    }
    resampled.sort_by(f64::total_cmp);
    let interval = match settings.method {
        IntervalMethod::Percentile => Some(percentile(&resampled, settings.confidence)),
        IntervalMethod::Bca => {
            let without = |left_out: usize| -> Vec<usize> { (0..n).filter(|c| *c != left_out).collect() };
            let jackknife: Option<Vec<f64>> = (0..n).map(|c| figure(&without(c))).collect();
            jackknife.and_then(|jackknife| bca(value, &resampled, &jackknife, settings.confidence))
        }
    };
    Ok(Estimate { value: Some(value), interval })
}

/// The middle share `confidence` of the sorted values.
fn percentile(resampled: &[f64], confidence: f64) -> (f64, f64) {
    let tail = (1.0 - confidence) / 2.0;
    (quantile(resampled, tail), quantile(resampled, 1.0 - tail))
}

/// The BCa interval (Efron and Tibshirani 1993, equations 14.9 to 14.15) from the sorted values of the resamples and the
/// values without each cluster. Resamples that equal the value count a half below it.
fn bca(value: f64, resampled: &[f64], jackknife: &[f64], confidence: f64) -> Option<(f64, f64)> {
    // A sum in another order is another sum by a rounding, and the same value nevertheless.
    let rounding = 1e-12 * resampled.last()?.abs().max(resampled.first()?.abs());
    let below = resampled.iter().filter(|r| **r < value - rounding).count();
    let equal = resampled.iter().filter(|r| (**r - value).abs() <= rounding).count();
    let bias = normal_quantile((below as f64 + equal as f64 / 2.0) / resampled.len() as f64);
    if !bias.is_finite() {
        return None;
    }
    let centre = mean(jackknife)?;
    let power = |k: i32| jackknife.iter().map(|j| (centre - j).powi(k)).sum::<f64>();
    let spread = power(2);
    // A figure that no cluster moves is not skewed.
    let acceleration = if spread > 0.0 { power(3) / (6.0 * spread.powf(1.5)) } else { 0.0 };
    let place = |p: f64| {
        let z = bias + normal_quantile(p);
        let stretch = 1.0 - acceleration * z;
        // Beyond this the transformation of equation 14.8 turns round: the figure hangs on a single cluster.
        (stretch > 0.0).then(|| normal_cdf(bias + z / stretch))
    };
    let tail = (1.0 - confidence) / 2.0;
    Some((quantile(resampled, place(tail)?), quantile(resampled, place(1.0 - tail)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, oracle};

    #[test]
    fn limits_are_scipys_on_its_own_resamples() {
        let cases = oracle()["bootstrap"].as_array().unwrap().clone();
        assert_eq!(cases.len(), 2);
        for case in &cases {
            let mut resampled = numbers(&case["resampled"]);
            resampled.sort_by(f64::total_cmp);
            let value = case["value"].as_f64().unwrap();
            let (percentiles, expected) = (percentile(&resampled, 0.9), numbers(&case["percentile"]));
            close(percentiles.0, expected[0], 1e-12);
            close(percentiles.1, expected[1], 1e-12);
            let found = bca(value, &resampled, &numbers(&case["jackknife"]), 0.9).unwrap();
            let expected = numbers(&case["bca"]);
            close(found.0, expected[0], 1e-12);
            close(found.1, expected[1], 1e-12);
            assert!((expected[1] - percentiles.1).abs() > 1e-3, "the correction moves the limit");
        }
    }

    #[test]
    fn a_share_has_the_interval_of_a_binomial() {
        let right: Vec<f64> = (0..200).map(|i| f64::from(i % 4 != 0)).collect();
        let half = 1.96 * (0.75f64 * 0.25 / 200.0).sqrt();
        for method in [IntervalMethod::Percentile, IntervalMethod::Bca] {
            let settings = BootstrapSettings { method, ..Default::default() };
            let found = bootstrap_mean(&Clusters::alone(200), &settings, &right).unwrap();
            let (low, high) = found.interval.unwrap();
            assert_eq!(found.value, Some(0.75));
            close(low, 0.75 - half, 0.012);
            close(high, 0.75 + half, 0.012);
        }
        // Clusters of ten equal rows know as little as their number, twenty.
        let right: Vec<f64> = (0..200).map(|i| f64::from(i / 10 % 4 != 0)).collect();
        let clusters = Clusters::by(&(0..200).map(|i| i / 10).collect::<Vec<_>>());
        let (low, high) = bootstrap_mean(&clusters, &Default::default(), &right).unwrap().interval.unwrap();
        close(high - low, 2.0 * 1.96 * (0.75f64 * 0.25 / 20.0).sqrt(), 0.06);
    }

    #[test]
    fn means_by_sums_and_by_rows_are_one_thing() {
        let values = [0.1, 0.9, 0.4, -0.3, 2.0, 1.5, 0.0];
        let clusters = Clusters::by(&[0, 1, 1, 2, 2, 2, 3]);
        for method in [IntervalMethod::Percentile, IntervalMethod::Bca] {
            let settings = BootstrapSettings { resamples: 300, method, seed: 4, ..Default::default() };
            let fast = bootstrap_mean(&clusters, &settings, &values).unwrap();
            let slow = bootstrap(&clusters, &settings, |rows| {
                mean(&rows.iter().map(|r| values[*r]).collect::<Vec<_>>())
            });
            let (fast, slow) = (fast.interval.unwrap(), slow.unwrap().interval.unwrap());
            close(fast.0, slow.0, 1e-12);
            close(fast.1, slow.1, 1e-12);
        }
    }

    #[test]
    fn figures_without_a_value_and_settings_without_an_interval() {
        let of = |figure: &dyn Fn(&[usize]) -> Option<f64>, n: usize, method| {
            let settings = BootstrapSettings { method, ..Default::default() };
            bootstrap(&Clusters::alone(n), &settings, figure).unwrap()
        };
        let (percentile, bca) = (IntervalMethod::Percentile, IntervalMethod::Bca);
        assert_eq!(of(&|_| None, 5, percentile), Estimate { value: None, interval: None });
        assert_eq!(of(&|_| Some(1.0), 1, percentile).interval, None);
        assert_eq!(of(&|_| Some(1.0), 5, percentile).interval, Some((1.0, 1.0)));
        assert_eq!(of(&|_| Some(1.0), 5, bca).interval, Some((1.0, 1.0)));
        // Has a value only where rows 0 and 1 are there: (1 - 0.8⁵)² or so of the resamples, less than half.
        let rare = |rows: &[usize]| (rows.contains(&0) && rows.contains(&1)).then_some(2.0);
        assert_eq!(of(&rare, 5, percentile), Estimate { value: Some(2.0), interval: None });
        // Without row 0 there is no value, so no jackknife.
        let often = |rows: &[usize]| rows.contains(&0).then_some(2.0);
        assert_eq!(of(&often, 5, bca).interval, None);
        assert!(of(&often, 5, percentile).interval.is_some());
        for (resamples, confidence) in [(99, 0.95), (1000, 1.0), (1000, f64::NAN)] {
            let settings = BootstrapSettings { resamples, confidence, ..Default::default() };
            assert!(bootstrap_mean(&Clusters::alone(3), &settings, &[1.0; 3]).is_err());
        }
        assert!(bootstrap_mean(&Clusters::alone(3), &Default::default(), &[1.0; 2]).is_err());
    }
}

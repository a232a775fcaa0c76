//! The table of a study: all explainers, all metrics, and which differences are real.

use super::difference::correct;
use super::{
    BootstrapSettings, Clusters, Difference, Friedman, HolmFamily, Test, bootstrap_mean, friedman,
    nemenyi_difference,
};
use crate::Better;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// A metric's values in a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The metric's key, with its variant where there are several: `insertion_auc`, `insertion_auc.blur`.
    pub key: String,
    /// For tables.
    pub title: String,
    /// Which way is better.
    pub better: Better,
    /// `[explainer][image]`; `None` where the metric has no value.
    pub values: Vec<Vec<Option<f64>>>,
}

/// How explainers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ComparisonSettings {
    /// Intervals and their confidence. Its seed is the tests' too.
    pub bootstrap: BootstrapSettings,
    /// A corrected p value up to this shows a difference.
    pub alpha: f64,
    /// The test.
    pub test: Test,
    /// Sign patterns that a sign-flip test draws where there are too many to try all.
    pub permutations: usize,
    /// Which tests are corrected together.
    pub family: HolmFamily,
}

impl Default for ComparisonSettings {
    /// 95 %, 2000 resamples, level 0.05, sign-flip tests of 9999 permutations, corrected for each metric.
    fn default() -> Self {
        Self {
            bootstrap: BootstrapSettings::default(),
            alpha: 0.05,
            test: Test::default(),
            permutations: 9999,
            family: HolmFamily::default(),
        }
    }
}

/// An explainer's mean in a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The explainer.
    pub explainer: String,
    /// Images with a value.
    pub n: usize,
    /// Groups that they are of.
    pub groups: usize,
    /// Mean over these images.
    pub value: Option<f64>,
    /// Its bootstrap interval, whole groups being drawn.
    pub interval: Option<(f64, f64)>,
}

/// Explainers ranked in each group by their mean there; only images for which all have a value count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Mean rank of each explainer, in the order of the table: 1 is best.
    pub mean_ranks: Vec<f64>,
    /// Groups.
    pub groups: usize,
    /// P value of Friedman's test of no difference; `None` if all tie everywhere.
    pub p: Option<f64>,
    /// Nemenyi's critical difference: mean ranks that are closer do not differ.
    pub critical_difference: f64,
}

/// All explainers in one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// The metric's key.
    pub key: String,
    /// For tables.
    pub title: String,
    /// Which way is better.
    pub better: Better,
    /// One for each explainer, in the order of the table.
    pub means: Vec<Mean>,
    /// One for each pair of explainers: (0, 1), (0, 2), ..., (1, 2), ...
    pub differences: Vec<Difference>,
    /// `None` for metrics of which neither end is better, a single explainer, and where no image has all values.
    pub ranking: Option<Ranking>,
}

/// All explainers in all metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// In the order of the table.
    pub explainers: Vec<String>,
    /// How they were compared.
    pub settings: ComparisonSettings,
    /// One for each column.
    pub metrics: Vec<MetricComparison>,
}

impl Comparison {
    /// Compares `explainers` in the metrics `columns`; `clusters` says which images are of one group.
    ///
    /// # Errors
    /// [`Error::Shape`] for a column without a value (or `None`) for each explainer and image; [`Error::Invalid`] for values
    /// that are not finite, a level outside (0, 1), and for settings that the bootstrap or the test refuses.
    pub fn new(
        explainers: &[String],
        clusters: &Clusters,
        columns: &[Column],
        settings: &ComparisonSettings,
    ) -> Result<Self> {
        settings.bootstrap.check()?;
        if !(settings.alpha > 0.0 && settings.alpha < 1.0) {
            return Err(Error::Invalid(format!(
                "comparison: alpha {}, expected a number between 0 and 1",
                settings.alpha
            )));
        }
        columns.iter().try_for_each(|c| check(c, explainers, clusters))?;
        let mut least = Vec::new();
        let mut metrics = Vec::new();
        for column in columns {
            let (metric, its_least) = one(column, explainers, clusters, settings)?;
            metrics.push(metric);
            least.push(its_least);
        }
        let mut families: Vec<Vec<(&mut Difference, Option<f64>)>> =
            metrics.iter_mut().zip(least).map(|(m, l)| m.differences.iter_mut().zip(l).collect()).collect();
        if settings.family == HolmFamily::Table {
            families = vec![families.into_iter().flatten().collect()];
        }
        families.iter_mut().for_each(|family| correct(family, settings.alpha));
        Ok(Self { explainers: explainers.to_vec(), settings: *settings, metrics })
    }
}

fn check(column: &Column, explainers: &[String], clusters: &Clusters) -> Result<()> {
    let shape: Vec<usize> = column.values.iter().map(Vec::len).collect();
    if shape.len() != explainers.len() || shape.iter().any(|n| *n != clusters.rows()) {
        return Err(Error::Shape {
            what: format!("values of `{}`, images of each explainer", column.key),
            expected: format!("{} times {}", explainers.len(), clusters.rows()),
            found: shape,
        });
    }
    for (explainer, values) in explainers.iter().zip(&column.values) {
        if let Some(i) = values.iter().position(|v| v.is_some_and(|v| !v.is_finite())) {
            return Err(Error::Invalid(format!(
                "`{}` of {explainer}: value {i} is {:?}, expected finite numbers",
                column.key, values[i]
            )));
        }
    }
    Ok(())
}

/// A column's comparison, not yet corrected, and the smallest p values that its differences could have had.
fn one(
    column: &Column,
    explainers: &[String],
    clusters: &Clusters,
    settings: &ComparisonSettings,
) -> Result<(MetricComparison, Vec<Option<f64>>)> {
    let Column { key, title, better, values } = column;
    let mut means = Vec::new();
    for (explainer, values) in explainers.iter().zip(values) {
        let (rows, there): (Vec<usize>, Vec<f64>) =
            values.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))).unzip();
        let clusters = clusters.of_rows(&rows);
        let estimate = bootstrap_mean(&clusters, &settings.bootstrap, &there)?;
        means.push(Mean {
            explainer: explainer.clone(),
            n: rows.len(),
            groups: clusters.len(),
            value: estimate.value,
            interval: estimate.interval,
        });
    }
    let (mut differences, mut least) = (Vec::new(), Vec::new());
    for i in 0..explainers.len() {
        for j in i + 1..explainers.len() {
            let names = (explainers[i].as_str(), explainers[j].as_str());
            let (difference, its_least) =
                Difference::new(names, (&values[i], &values[j]), *better, clusters, settings)?;
            differences.push(difference);
            least.push(its_least);
        }
    }
    let ranking = ranking(column, clusters, settings)?;
    let (key, title) = (key.clone(), title.clone());
    Ok((MetricComparison { key, title, better: *better, means, differences, ranking }, least))
}

fn ranking(column: &Column, clusters: &Clusters, settings: &ComparisonSettings) -> Result<Option<Ranking>> {
    let sign = match column.better {
        Better::Higher => -1.0,
        Better::Lower => 1.0,
        Better::Neither => return Ok(None),
    };
    let rows: Vec<usize> =
        (0..clusters.rows()).filter(|i| column.values.iter().all(|v| v[*i].is_some())).collect();
    let k = column.values.len();
    if rows.is_empty() || k < 2 {
        return Ok(None);
    }
    let clusters = clusters.of_rows(&rows);
    let means: Vec<Vec<f64>> = column
        .values
        .iter()
        .map(|v| clusters.means(&rows.iter().filter_map(|i| v[*i].map(|v| sign * v)).collect::<Vec<_>>()))
        .collect();
    let blocks: Vec<Vec<f64>> = (0..clusters.len()).map(|g| means.iter().map(|m| m[g]).collect()).collect();
    let Friedman { mean_ranks, blocks, p, .. } = friedman(&blocks)?;
    let critical_difference = nemenyi_difference(k, blocks, settings.alpha)?;
    Ok(Some(Ranking { mean_ranks, groups: blocks, p, critical_difference }))
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;

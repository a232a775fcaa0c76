//! The figures of the whole study, from its cases on disk alone: so a resumed run has those of an undisturbed one, and
//! shards that were joined those of a run that was never cut.

use super::sanity::{FILE, RandomisationRecord};
use super::sets::{SetDistance, Sides};
use super::{RANDOM_DIRECTION, RANDOM_HEATMAP, names};
use crate::manifest::{EvaluationSpec, Study};
use crate::metrics::mean;
use crate::run::case::read_array;
use crate::run::finish::threshold_of;
use crate::run::folder::{RunFolder, read_json};
use serde::{Deserialize, Serialize};
use shiftlens_api::record::{CaseRecord, ExplanationRecord, RECORD_SCHEMA, RunRecord};
use shiftlens_api::{Error, Result, Target};
use shiftlens_evaluation::statistics::{BootstrapSettings, Clusters, Column, Comparison, ComparisonSettings};
use shiftlens_evaluation::{Metric, MetricInfo};
use std::collections::{BTreeMap, BTreeSet};

/// `evaluation.json`.
#[derive(Debug, Clone, Serialize)]
pub struct StudyEvaluation {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// Cases that were measured.
    pub cases: usize,
    /// Groups that they are of; a case without one is its own.
    pub groups: usize,
    /// Questions to f for one image, method and metric, at most.
    pub budget: usize,
    /// What the metrics are that the tables name.
    pub metrics: Vec<&'static MetricInfo>,
    /// Heatmaps compared; their seconds stand under `timings`.
    pub heatmaps: Option<Comparison>,
    /// Series compared.
    pub counterfactuals: Option<Comparison>,
    /// FID and KID of the counterfactuals.
    pub sets: Vec<SetDistance>,
    /// Maps of f with random weights; each image's mean over the layers is a metric of `heatmaps`.
    pub randomisation: Option<RandomisationSummary>,
    /// What a reader of the tables must know.
    pub remarks: Vec<String>,
    /// Seconds by method.
    pub timings: BTreeMap<String, Timing>,
}

/// How like the maps are, layer by layer: means over the images.
#[derive(Debug, Clone, Serialize)]
pub struct RandomisationSummary {
    /// `cascading` or `independent`.
    pub mode: String,
    /// Images.
    pub images: usize,
    /// From the output to the input.
    pub layers: Vec<RandomisedLayer>,
}

/// One stage of a randomisation.
#[derive(Debug, Clone, Serialize)]
pub struct RandomisedLayer {
    /// The layer whose weights are random, alone or with all behind it.
    pub layer: String,
    /// The method.
    pub method: String,
    /// Mean rank correlation.
    pub spearman: Option<f64>,
    /// Mean structural similarity.
    pub ssim: Option<f64>,
    /// Mean share of the most relevant pixels in common.
    pub top: Option<f64>,
}

/// What a method costs, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timing {
    /// Mean of one explanation.
    pub seconds_per_image: Option<f64>,
    /// Mean of all its metrics.
    pub evaluation_seconds_per_image: Option<f64>,
}

/// What a summary depends on besides the cases.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    target: &'a Target,
    classes: &'a [String],
    /// Score from which f says yes.
    threshold: f32,
    settings: Settings,
}

/// What of `[evaluation]` matters to a summary; `run.json` keeps it under the same names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Settings {
    metrics: Option<Vec<Metric>>,
    budget: usize,
    seed: u64,
    confidence: f64,
    alpha: f64,
}

impl Settings {
    fn wants(&self, metric: Metric) -> bool {
        self.metrics.as_ref().is_none_or(|m| m.contains(&metric))
    }
}

impl<'a> Terms<'a> {
    /// Those of a study that measures as `spec` says; `classes` are its predictor's.
    pub fn of_study(study: &Study, spec: &EvaluationSpec, target: &'a Target, classes: &'a [String]) -> Self {
        let settings = Settings {
            metrics: spec.metrics.clone(),
            budget: spec.budget,
            seed: spec.seed,
            confidence: spec.confidence,
            alpha: spec.alpha,
        };
        let threshold = study.direction.as_ref().map_or(0.5, |d| d.threshold);
        Self { target, classes, threshold, settings }
    }

    /// Those that a run's record keeps; `None` where its study measures nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the record says something else.
    pub fn of_run(run: &'a RunRecord) -> Result<Option<Self>> {
        let said = &run.manifest["evaluation"];
        if said.is_null() {
            return Ok(None);
        }
        let settings = Settings::deserialize(said)
            .map_err(|e| Error::Invalid(format!("run.json: manifest.evaluation: {e}")))?;
        let threshold = threshold_of(&run.manifest);
        Ok(Some(Self { target: &run.target, classes: &run.classes, threshold, settings }))
    }
}

/// A metric with its variant, in the order of the table of metrics.
type Key = (Metric, String);

fn key_of(text: &str) -> Result<Key> {
    let (metric, variant) = text.split_once('.').unwrap_or((text, ""));
    Ok((Metric::from_key(metric)?, variant.to_owned()))
}

fn written((metric, variant): &Key) -> String {
    if variant.is_empty() { metric.key().to_owned() } else { format!("{}.{variant}", metric.key()) }
}

/// All that is kept of the cases.
#[derive(Default)]
struct Gathered {
    /// Group of each case; those without one are named by their id.
    groups: Vec<(bool, String)>,
    ids: Vec<String>,
    /// In the order in which they come, the floor last.
    heatmaps: Vec<String>,
    series: Vec<String>,
    /// Values by method and metric: of case i, where there is one.
    values: BTreeMap<(String, Key), Vec<(usize, f64)>>,
    keys: BTreeSet<Key>,
    sides: Sides,
    seconds: BTreeMap<String, Vec<f64>>,
    measured: BTreeMap<String, Vec<f64>>,
}

impl Gathered {
    fn add(
        &mut self,
        case: &CaseRecord,
        folder: &RunFolder,
        (target, threshold): (&Target, f32),
    ) -> Result<()> {
        let index = self.groups.len();
        self.ids.push(case.id.clone());
        self.groups.push(match &case.group {
            Some(group) => (true, group.clone()),
            None => (false, case.id.clone()),
        });
        let own: Vec<&ExplanationRecord> = case.explanations.iter().filter(|e| e.is_about(target)).collect();
        let title = |e: &ExplanationRecord| match e {
            ExplanationRecord::Heatmap { title, .. } | ExplanationRecord::Shift { title, .. } => {
                title.clone()
            }
        };
        let titles: Vec<String> = own.iter().map(|e| title(e)).collect();
        for (name, e) in names(titles.iter().map(String::as_str)).into_iter().zip(own) {
            let (list, seconds) = match e {
                ExplanationRecord::Heatmap { seconds, .. } => (&mut self.heatmaps, *seconds),
                ExplanationRecord::Shift { seconds, .. } => (&mut self.series, *seconds),
            };
            if !list.contains(&name) {
                list.push(name.clone());
            }
            self.seconds.entry(name).or_default().push(seconds);
        }
        let mut measured: BTreeMap<&str, f64> = BTreeMap::new();
        for v in &case.evaluation {
            let key = key_of(&v.metric)
                .map_err(|e| Error::Invalid(format!("{}: {e}", folder.case(&case.id).display())))?;
            *measured.entry(&v.method).or_default() += v.seconds;
            self.keys.insert(key.clone());
            let values = self.values.entry((v.method.clone(), key)).or_default();
            values.extend(v.value.map(|value| (index, value)));
        }
        for (method, seconds) in measured {
            self.measured.entry(method.to_owned()).or_default().push(seconds);
        }
        let decision = case.score >= threshold;
        let features = |name: &str| read_array(&folder.case(&case.id), &format!("features.{name}"));
        if let Some((_, row)) = features("x")? {
            self.sides.real(case.label.unwrap_or(decision), &row);
            for method in self.series.iter().map(String::as_str).chain([RANDOM_DIRECTION]) {
                if let Some((_, row)) = features(method)? {
                    self.sides.flipped(method, !decision, &row);
                }
            }
        }
        Ok(())
    }

    fn has(&self, method: &str) -> bool {
        self.values.keys().any(|(m, _)| m == method)
    }

    /// The table of some methods; `None` where none was measured.
    fn table(&self, methods: &[String], spec: &Settings) -> Result<Option<Comparison>> {
        let n = self.groups.len();
        let columns: Vec<Column> = self
            .keys
            .iter()
            .filter(|k| methods.iter().any(|m| self.values.contains_key(&(m.clone(), (*k).clone()))))
            .map(|k| {
                let row = |m: &String| {
                    let mut all = vec![None; n];
                    let found = self.values.get(&(m.clone(), k.clone()));
                    found.into_iter().flatten().for_each(|(i, v)| all[*i] = Some(*v));
                    all
                };
                let title = match k.1.as_str() {
                    "" => k.0.info().title.to_owned(),
                    variant => format!("{}, {variant}", k.0.info().title),
                };
                let values = methods.iter().map(row).collect();
                Column { key: written(k), title, better: k.0.better(), values }
            })
            .collect();
        if columns.is_empty() {
            return Ok(None);
        }
        let settings = ComparisonSettings {
            bootstrap: BootstrapSettings {
                confidence: spec.confidence,
                seed: spec.seed,
                ..BootstrapSettings::default()
            },
            alpha: spec.alpha,
            ..ComparisonSettings::default()
        };
        Comparison::new(methods, &Clusters::by(&self.groups), &columns, &settings).map(Some)
    }

    /// Takes the mean over the layers of each image's similarities as values of the heatmaps.
    fn randomised(&mut self, record: &RandomisationRecord, spec: &Settings) -> RandomisationSummary {
        type Of = fn(&super::RandomisationRow) -> Option<f64>;
        let figures: [(Metric, Of); 3] = [
            (Metric::RandomisationSpearman, |r| r.spearman),
            (Metric::RandomisationSsim, |r| r.ssim),
            (Metric::RandomisationTop, |r| Some(r.top)),
        ];
        for (metric, of) in figures.into_iter().filter(|(m, _)| spec.wants(*m)) {
            for method in &self.heatmaps {
                let key = (metric, String::new());
                for (index, id) in self.ids.iter().enumerate() {
                    let rows = record.rows.iter().filter(|r| r.case == *id && r.method == *method);
                    if let Some(value) = mean(&rows.filter_map(of).collect::<Vec<_>>()) {
                        let values = self.values.entry((method.clone(), key.clone())).or_default();
                        values.push((index, value));
                        self.keys.insert(key.clone());
                    }
                }
            }
        }
        let layers = record.layers.iter().rev().flat_map(|layer| {
            self.heatmaps.iter().filter_map(move |method| {
                let rows: Vec<_> =
                    record.rows.iter().filter(|r| r.layer == *layer && r.method == *method).collect();
                let over = |of: Of| mean(&rows.iter().filter_map(|r| of(r)).collect::<Vec<_>>());
                (!rows.is_empty()).then(|| RandomisedLayer {
                    layer: layer.clone(),
                    method: method.clone(),
                    spearman: over(figures[0].1),
                    ssim: over(figures[1].1),
                    top: over(figures[2].1),
                })
            })
        });
        let layers = layers.collect();
        RandomisationSummary { mode: record.mode.clone(), images: record.cases.len(), layers }
    }

    /// What the budget left out.
    fn unaffordable(&self, spec: &Settings) -> Vec<String> {
        let asked = (Metric::ScoresPerImage, String::new());
        let dear = self.heatmaps.iter().filter_map(|m| {
            let values = self.values.get(&(m.clone(), asked.clone()))?;
            let cost = mean(&values.iter().map(|v| v.1).collect::<Vec<_>>())?;
            (cost > spec.budget as f64).then(|| {
                format!(
                    "{m} asks f {cost:.0} times for one explanation, more than the budget of {}: what explains again \
                     (max-sensitivity, repeatability, randomised weights) is not measured",
                    spec.budget
                )
            })
        });
        dear.collect()
    }
}

/// Summarises the cases `ids` of a run, in this order; cases that were not measured do not count. Nothing but the run's
/// folder is read, and no model.
///
/// # Errors
/// [`Error::Io`] and [`Error::Invalid`] for a case that is damaged.
pub fn summarise(folder: &RunFolder, terms: &Terms<'_>, ids: &[String]) -> Result<StudyEvaluation> {
    let Terms { target, classes, threshold, settings: spec } = terms;
    let (target, classes, threshold) = (*target, *classes, *threshold);
    let mut all = Gathered::default();
    let (mut looked_at, mut remarked) = (0, 0);
    for id in ids {
        let case = folder.read_case(id)?;
        looked_at += usize::from(!(case.evaluation.is_empty() && case.remarks.is_empty()));
        remarked += usize::from(!case.remarks.is_empty());
        if !case.evaluation.is_empty() {
            all.add(&case, folder, (target, threshold))?;
        }
    }
    let mut remarks = all.unaffordable(spec);
    if remarked > 0 {
        remarks.push(format!(
            "on {remarked} of {looked_at} cases something could not be measured: their records say what"
        ));
    }
    let mut randomisation = None;
    if folder.file(FILE).exists() {
        let record: RandomisationRecord = read_json(&folder.file(FILE))?;
        remarks.extend(record.remarks.iter().cloned());
        randomisation = Some(all.randomised(&record, spec));
    }
    let mut heatmaps: Vec<String> = all.heatmaps.iter().filter(|m| all.has(m)).cloned().collect();
    let mut series: Vec<String> = all.series.iter().filter(|m| all.has(m)).cloned().collect();
    heatmaps.extend(all.has(RANDOM_HEATMAP).then(|| RANDOM_HEATMAP.to_owned()));
    series.extend(all.has(RANDOM_DIRECTION).then(|| RANDOM_DIRECTION.to_owned()));
    let name = |class: bool| match (class, classes) {
        (true, _) => target.name.clone(),
        (false, [first, second]) => [second, first][target.class.min(1)].clone(),
        (false, _) => format!("not {}", target.name),
    };
    let sets = all.sides.distances(&series, spec.seed, name)?;
    if let Some(few) = sets.iter().find(|s| s.flips.min(s.real) <= s.dimensions) {
        remarks.push(format!(
            "FID of {} counterfactuals and {} real images in {} dimensions is biased upwards; KID is not",
            few.flips, few.real, few.dimensions
        ));
    }
    let (heatmaps, counterfactuals) = (all.table(&heatmaps, spec)?, all.table(&series, spec)?);
    let mut described: BTreeSet<Metric> = all.keys.iter().map(|k| k.0).collect();
    described.extend(if sets.is_empty() { vec![] } else { vec![Metric::Fid, Metric::Kid] });
    let mut timings: BTreeMap<String, Timing> = BTreeMap::new();
    for (method, seconds) in &all.seconds {
        timings.entry(method.clone()).or_default().seconds_per_image = mean(seconds);
    }
    for (method, seconds) in &all.measured {
        timings.entry(method.clone()).or_default().evaluation_seconds_per_image = mean(seconds);
    }
    Ok(StudyEvaluation {
        schema: RECORD_SCHEMA,
        cases: all.groups.len(),
        groups: Clusters::by(&all.groups).len(),
        budget: spec.budget,
        metrics: described.into_iter().map(Metric::info).collect(),
        heatmaps,
        counterfactuals,
        sets,
        randomisation,
        remarks,
        timings,
    })
}

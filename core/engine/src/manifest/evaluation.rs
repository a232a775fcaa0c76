//! `[evaluation]`: by what the explanations of a study are measured and compared.

use super::check::{Checker, help_on_field};
use super::problem::{At, Located};
use super::raw::{Own, RawComponent, flat, read_component};
use super::read::{Sink, Table};
use super::study::ComponentSpec;
use super::tree::Node;
use crate::features::FeatureSpec;
use crate::nearest::suggest;
use crate::registry;
use serde::Serialize;
use shiftlens_api::variables::expand_from_environment;
use shiftlens_evaluation::{Family, Metric};

/// Least budget: what ROAD asks for at all its percentages.
pub(super) const LEAST_BUDGET: u64 = 20;
const BUDGET: usize = 1000;
const STEPS: usize = 32;
const RANDOMISED_IMAGES: usize = 5;
/// The names of [`Baseline`].
pub(super) const BASELINES: [&str; 3] = ["blur", "mean", "generator"];
/// The names of [`RandomisationMode`].
pub(super) const MODES: [&str; 2] = ["cascading", "independent"];

/// `[evaluation]` as it stands.
#[derive(Debug)]
pub struct RawEvaluation {
    metrics: Option<Located<Vec<Located<String>>>>,
    images: Option<Located<u64>>,
    steps: Option<Located<u64>>,
    baselines: Option<Located<Vec<Located<String>>>>,
    seed: Option<Located<u64>>,
    budget: Option<Located<u64>>,
    oracle: Option<RawComponent>,
    features: Option<Node>,
    randomisation: Option<RawRandomisation>,
    confidence: Option<Located<f64>>,
    alpha: Option<Located<f64>>,
}

#[derive(Debug)]
struct RawRandomisation {
    mode: Option<Located<String>>,
    images: Option<Located<u64>>,
}

/// How the explanations of a study are measured.
#[derive(Debug, Clone)]
pub struct EvaluationSpec {
    /// The metrics asked for; `None`: all that apply.
    pub metrics: Option<Vec<Metric>>,
    /// At most so many cases are measured, evenly spread over the list; `None`: all.
    pub images: Option<usize>,
    /// Steps of insertion and deletion.
    pub steps: usize,
    /// What insertion and deletion exchange pixels with.
    pub baselines: Vec<Baseline>,
    /// Seed of all that is drawn.
    pub seed: u64,
    /// Images that f is asked to score for one image, method and metric, at most.
    pub budget: usize,
    /// A second classifier, which says whether it sees the flips.
    pub oracle: Option<ComponentSpec>,
    /// The network whose features are compared; `None`: the predictor's penultimate layer.
    pub features: Option<FeatureSection>,
    /// Whether maps follow f's weights.
    pub randomisation: Option<Randomisation>,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Corrected p values up to this show a difference.
    pub alpha: f64,
}

impl EvaluationSpec {
    /// True if the manifest asks for this metric, or for all.
    pub fn wants(&self, metric: Metric) -> bool {
        self.metrics.as_ref().is_none_or(|m| m.contains(&metric))
    }
}

/// What stands where insertion and deletion have taken a pixel away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The image, blurred.
    Blur,
    /// Every channel's mean.
    Mean,
    /// The study's inpainting by its generator: the reconstruction G(E(x)), moved along the direction until f decides
    /// otherwise. Where f's decision does not change there is none.
    Generator,
}

impl Baseline {
    /// Its name in manifests, and behind a metric's key.
    pub fn name(self) -> &'static str {
        BASELINES[self as usize]
    }
}

/// `[evaluation.features]`.
#[derive(Debug, Clone)]
pub struct FeatureSection {
    /// The network.
    pub spec: FeatureSpec,
    /// The section as it stands.
    pub shown: serde_json::Value,
    pub(crate) at: At,
}

/// `randomisation` of `[evaluation]` (Adebayo et al. 2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Randomisation {
    /// Which layers lose their weights together.
    pub mode: RandomisationMode,
    /// Images whose maps are compared.
    pub images: usize,
}

/// Which layers lose their weights together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RandomisationMode {
    /// The last one, the last two, and so on to all.
    Cascading,
    /// Each one alone.
    Independent,
}

pub(super) fn read_evaluation(node: &Node, sink: &Sink<'_>) -> Option<RawEvaluation> {
    let mut t = Table::new("[evaluation]", node, sink)?;
    let (metrics, baselines) = (t.strings("metrics"), t.strings("baselines"));
    let (images, steps) = (t.count("images", 1), t.count("steps", 1));
    let (seed, budget) = (t.count("seed", 0), t.count("budget", LEAST_BUDGET));
    let (confidence, alpha) = (t.number("confidence"), t.number("alpha"));
    let oracle =
        t.node("oracle").map(|n| read_component("[evaluation.oracle]", n, sink, Own::InputAndOutput));
    let features = t.node("features").cloned();
    let randomisation = t.node("randomisation").map(|n| {
        let mut r = Table::new("`randomisation` in [evaluation]", n, sink)?;
        let all = RawRandomisation { mode: r.string("mode"), images: r.count("images", 1) };
        r.finish();
        Some(all)
    });
    t.finish();
    let (oracle, randomisation) = (flat(oracle)?, flat(randomisation)?);
    Some(RawEvaluation {
        metrics,
        images,
        steps,
        baselines,
        seed,
        budget,
        oracle,
        features,
        randomisation,
        confidence,
        alpha,
    })
}

impl Checker<'_> {
    pub(super) fn evaluation(&self, raw: &RawEvaluation) -> Option<EvaluationSpec> {
        let latent = self.raw.generator.is_some() && self.raw.encoder.is_some();
        let metrics = raw.metrics.as_ref().map(|m| self.metrics(m, raw, latent));
        let oracle =
            raw.oracle.as_ref().map(|o| self.component("oracle", o, &registry::rules(registry::PREDICTORS)));
        let features = raw.features.as_ref().map(|f| self.features(f, latent));
        let number = |x: &Option<Located<u64>>| x.as_ref().map(|n| n.value as usize);
        Some(EvaluationSpec {
            metrics,
            images: number(&raw.images),
            steps: number(&raw.steps).unwrap_or(STEPS),
            baselines: self.baselines(raw, latent),
            seed: raw.seed.as_ref().map_or(0, |s| s.value),
            budget: number(&raw.budget).unwrap_or(BUDGET),
            oracle: flat(oracle)?,
            features: flat(features)?,
            randomisation: raw.randomisation.as_ref().map(|r| self.randomisation(r)),
            confidence: self.share(&raw.confidence, 0.95, "confidence"),
            alpha: self.share(&raw.alpha, 0.05, "alpha"),
        })
    }

    fn metrics(
        &self,
        named: &Located<Vec<Located<String>>>,
        raw: &RawEvaluation,
        latent: bool,
    ) -> Vec<Metric> {
        if named.value.is_empty() {
            let help = "leave it out to measure all that apply";
            self.sink.add(named.at, "`metrics` in [evaluation] names none", help);
        }
        let known: Vec<&str> = Metric::all().iter().map(|i| i.key).collect();
        let mut all = Vec::new();
        for key in &named.value {
            let Ok(metric) = Metric::from_key(&key.value) else {
                let message = format!("unknown metric \"{}\"", key.value);
                self.sink.add(key.at, message, suggest(&key.value, &known));
                continue;
            };
            let (missing, help) = match (metric, metric.info().family) {
                (Metric::OracleAgreement | Metric::OracleSees, _) if raw.oracle.is_none() => {
                    ("[evaluation.oracle]", "name a second classifier there")
                }
                (_, Family::Localisation) if self.raw.data.mask_column.is_none() => {
                    ("`mask` in [data]", "name the list's column with masks: mask = { column = \"mask\" }")
                }
                (_, Family::Sanity) if raw.randomisation.is_none() => (
                    "`randomisation` in [evaluation]",
                    "write randomisation = { mode = \"cascading\", images = 5 }",
                ),
                (_, Family::Counterfactual) if !latent => ("[generator] and [encoder]", "add both"),
                _ => {
                    all.push(metric);
                    continue;
                }
            };
            self.sink.add(key.at, format!("metric \"{}\" needs {missing}", key.value), help);
        }
        all
    }

    fn baselines(&self, raw: &RawEvaluation, latent: bool) -> Vec<Baseline> {
        let all = [Baseline::Blur, Baseline::Mean, Baseline::Generator];
        let Some(named) = &raw.baselines else { return all[..if latent { 3 } else { 2 }].to_vec() };
        if named.value.is_empty() {
            let help = suggest("", &BASELINES);
            self.sink.add(named.at, "`baselines` in [evaluation] names none", help);
        }
        let mut found = Vec::new();
        for name in &named.value {
            match all.into_iter().find(|b| b.name() == name.value) {
                None => {
                    let message = format!("unknown baseline \"{}\"", name.value);
                    self.sink.add(name.at, message, suggest(&name.value, &BASELINES));
                }
                Some(Baseline::Generator) if !latent => {
                    let message = "baseline \"generator\" needs [generator] and [encoder]";
                    self.sink.add(name.at, message, "add both, or take another baseline");
                }
                Some(baseline) if !found.contains(&baseline) => found.push(baseline),
                Some(_) => {}
            }
        }
        found
    }

    fn randomisation(&self, raw: &RawRandomisation) -> Randomisation {
        let mode = match raw.mode.as_ref().map(|m| (m.value.as_str(), m.at)) {
            None | Some(("cascading", _)) => RandomisationMode::Cascading,
            Some(("independent", _)) => RandomisationMode::Independent,
            Some((other, at)) => {
                self.sink.add(
                    at,
                    format!("`mode` of `randomisation` is \"{other}\""),
                    suggest(other, &MODES),
                );
                RandomisationMode::Cascading
            }
        };
        if self.predictor.kind.value != "onnx" {
            let at = self.predictor.kind.at;
            let message = "`randomisation` in [evaluation] rewrites the weights of an ONNX predictor";
            self.sink.add(at, message, "leave `randomisation` out for a predictor of another kind");
        }
        Randomisation { mode, images: raw.images.as_ref().map_or(RANDOMISED_IMAGES, |i| i.value as usize) }
    }

    fn features(&self, node: &Node, latent: bool) -> Option<FeatureSection> {
        let complain = |message: &str| {
            let words = || message.split('`').skip(1).step_by(2);
            let at = words().find_map(|w| node.find_key(w)).unwrap_or(node.at);
            self.sink.add(at, format!("[evaluation.features]: {message}"), help_on_field(message));
        };
        if !latent {
            let help = "it compares counterfactuals with images: leave it out";
            self.sink.add(node.at, "[evaluation.features] without [generator] and [encoder]", help);
        }
        let shown = node.json();
        let mut spec: FeatureSpec =
            serde_json::from_value(shown.clone()).map_err(|e| complain(&e.to_string())).ok()?;
        let written = spec.path.to_string_lossy();
        let path = expand_from_environment(&written).map_err(|e| complain(&format!("`path`: {e}"))).ok()?;
        spec.path = self.base.join(path);
        Some(FeatureSection { spec, shown, at: node.at })
    }
}

//! `evaluation.json` and the cases' own measures: methods against metrics, and which differences are real.

mod record;

use crate::charts::{self, Mean};
use crate::number::{count, duration, fixed, significant};
use minijinja::Value;
pub(crate) use record::Evaluation;
use record::{Better, Comparison, Difference, MetricComparison, Randomisation, SetDistance, Verdict};
use serde::Serialize;
use shiftlens_api::Result;
use shiftlens_api::record::CaseRecord;

/// How the names of methods begin that know nothing of f: they are there to be beaten.
const FLOOR: &str = "random ";

impl Evaluation {
    /// A metric's title; its key in words where the file does not know it.
    fn title(&self, key: &str) -> String {
        let compared = self.heatmaps.iter().chain(&self.counterfactuals).flat_map(|c| &c.metrics);
        let mut known = compared.filter(|m| m.key == key).map(|m| &m.title);
        let mut described = self.metrics.iter().filter(|m| m.key == key).map(|m| &m.title);
        known.next().or_else(|| described.next()).cloned().unwrap_or_else(|| words(key))
    }

    /// What the templates see.
    pub(crate) fn view(&self) -> Result<EvaluationView> {
        let tables = [("Heatmaps", &self.heatmaps), ("Counterfactuals", &self.counterfactuals)];
        let tables = tables.into_iter().filter_map(|(title, c)| Some(table(title, c.as_ref()?)));
        let timings = self.timings.iter().map(|(method, t)| {
            (method.clone(), [t.seconds_per_image, t.evaluation_seconds_per_image].map(|s| s.map(duration)))
        });
        let help = self.metrics.iter().map(|m| (m.title.clone(), m.measures.clone(), m.reference.clone()));
        Ok(EvaluationView {
            cases: count(self.cases),
            groups: (self.groups < self.cases).then(|| count(self.groups)),
            tables: tables.collect::<Result<Vec<_>>>()?,
            sets: self.sets.iter().map(set).collect(),
            randomisation: self.randomisation.as_ref().map(randomised),
            remarks: self.remarks.clone(),
            timings: timings.collect(),
            help: help.collect(),
        })
    }
}

/// A key that has no title: `insertion_auc.blur` is `insertion auc, blur`.
fn words(key: &str) -> String {
    key.replace('_', " ").replace('.', ", ")
}

fn interval((low, high): (f64, f64)) -> String {
    format!("{} – {}", significant(low), significant(high))
}

#[derive(Debug, Serialize)]
pub(crate) struct EvaluationView {
    cases: String,
    /// Where cases share groups.
    groups: Option<String>,
    tables: Vec<TableView>,
    sets: Vec<SetView>,
    randomisation: Option<RandomisationView>,
    remarks: Vec<String>,
    /// A method, and what its explanation and its measures take.
    timings: Vec<(String, [Option<String>; 2])>,
    /// Title, what it measures, and the reference of each metric.
    help: Vec<(String, String, String)>,
}

/// FID and KID of a method's counterfactuals.
#[derive(Debug, Serialize)]
struct SetView {
    method: String,
    towards: String,
    images: String,
    fid: Option<String>,
    kid: Option<String>,
}

/// Rank correlation of maps before and after the weights of a layer were drawn anew.
#[derive(Debug, Serialize)]
struct RandomisationView {
    mode: String,
    images: String,
    methods: Vec<String>,
    /// A layer and the value of each method.
    layers: Vec<(String, Vec<Option<String>>)>,
}

fn set(s: &SetDistance) -> SetView {
    let kid = s.kid.map(|kid| {
        let deviation = s.kid_deviation.map_or(String::new(), |d| format!(" ± {}", significant(d)));
        significant(kid) + &deviation
    });
    SetView {
        method: s.method.clone(),
        towards: s.towards.clone(),
        images: format!("{} / {}", count(s.flips), count(s.real)),
        fid: s.fid.map(significant),
        kid,
    }
}

fn randomised(r: &Randomisation) -> RandomisationView {
    let mut methods: Vec<String> = Vec::new();
    let mut names: Vec<&String> = Vec::new();
    for l in &r.layers {
        if !methods.contains(&l.method) {
            methods.push(l.method.clone());
        }
        if !names.contains(&&l.layer) {
            names.push(&l.layer);
        }
    }
    let value = |layer: &String, method: &String| {
        let found = r.layers.iter().find(|l| l.layer == *layer && l.method == *method)?;
        found.spearman.map(|v| fixed(v, 2))
    };
    let layers =
        names.iter().map(|layer| ((*layer).clone(), methods.iter().map(|m| value(layer, m)).collect()));
    let layers = layers.collect();
    RandomisationView { mode: r.mode.clone(), images: count(r.images), methods, layers }
}

#[derive(Debug, Serialize)]
struct TableView {
    title: &'static str,
    /// Name, and whether it is a floor.
    methods: Vec<(String, bool)>,
    rows: Vec<RowView>,
}

#[derive(Debug, Serialize)]
struct RowView {
    title: String,
    /// `higher`, `lower` or nothing.
    better: &'static str,
    cells: Vec<CellView>,
    /// How many differences are real, in words.
    verdict: String,
    pairs: Vec<PairView>,
    ranking: Option<String>,
    svg: Option<Value>,
    alt: String,
}

#[derive(Debug, Serialize)]
struct CellView {
    value: Option<String>,
    interval: Option<String>,
    n: String,
    best: bool,
}

/// A difference that is real.
#[derive(Debug, Serialize)]
struct PairView {
    /// In words: which one is better, or larger where neither end is better.
    said: String,
    difference: String,
    interval: Option<String>,
    p: Option<String>,
}

fn table(title: &'static str, c: &Comparison) -> Result<TableView> {
    let methods = c.explainers.iter().map(|name| (name.clone(), name.starts_with(FLOOR))).collect();
    Ok(TableView {
        title,
        methods,
        rows: c.metrics.iter().map(|m| row(m, &c.explainers)).collect::<Result<_>>()?,
    })
}

fn row(m: &MetricComparison, methods: &[String]) -> Result<RowView> {
    let of = |name: &String| m.means.iter().find(|mean| mean.explainer == *name);
    let value = |name: &String| of(name).and_then(|mean| mean.value);
    let values = || methods.iter().filter_map(value);
    let best = match m.better {
        Better::Higher => values().reduce(f64::max),
        Better::Lower => values().reduce(f64::min),
        Better::Neither => None,
    };
    let cells = methods.iter().map(|name| CellView {
        value: value(name).map(significant),
        interval: of(name).and_then(|mean| mean.interval).map(interval),
        n: of(name).map(|mean| count(mean.n)).unwrap_or_default(),
        best: best.is_some() && value(name) == best && values().count() > 1,
    });
    let drawn: Vec<Mean> = methods
        .iter()
        .filter_map(|name| {
            let mean = of(name)?;
            let floor = name.starts_with(FLOOR);
            Some(Mean { name: name.clone(), value: mean.value?, interval: mean.interval, floor })
        })
        .collect();
    let svg = if drawn.len() > 1 { Some(Value::from_safe_string(charts::intervals(&drawn)?)) } else { None };
    let said = |mean: &Mean| format!("{} {}", mean.name, significant(mean.value));
    let ranking = m.ranking.as_ref().map(|r| {
        let ranks =
            methods.iter().zip(&r.mean_ranks).map(|(name, rank)| format!("{name} {}", significant(*rank)));
        let p = r.p.map_or(String::new(), |p| format!("; Friedman p {}", p_value(p)));
        format!(
            "Mean ranks: {} (critical difference {}{p}).",
            ranks.collect::<Vec<_>>().join(", "),
            significant(r.critical_difference)
        )
    });
    Ok(RowView {
        title: m.title.clone(),
        better: match m.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neither => "",
        },
        cells: cells.collect(),
        verdict: verdict(&m.differences),
        pairs: m
            .differences
            .iter()
            .filter(|d| d.verdict == Verdict::Real)
            .map(|d| pair(d, m.better))
            .collect(),
        ranking,
        svg,
        alt: format!("Means: {}", drawn.iter().map(said).collect::<Vec<_>>().join(", ")),
    })
}

/// What the tests of a metric came to, in words.
fn verdict(differences: &[Difference]) -> String {
    let n = |v| differences.iter().filter(|d| d.verdict == v).count();
    let all = differences.len();
    if all == 0 {
        return String::new();
    }
    let mut said = format!("{} of {all}", n(Verdict::Real));
    if n(Verdict::CannotBeShown) > 0 {
        said.push_str(&format!("; {} cannot be shown with so few groups", n(Verdict::CannotBeShown)));
    }
    if n(Verdict::NoData) > 0 {
        said.push_str(&format!("; {} without data", n(Verdict::NoData)));
    }
    said
}

fn pair(d: &Difference, better: Better) -> PairView {
    let by = d.difference.unwrap_or(0.0);
    let first = match better {
        Better::Higher | Better::Neither => by > 0.0,
        Better::Lower => by < 0.0,
    };
    let (winner, other) = if first { (&d.a, &d.b) } else { (&d.b, &d.a) };
    let word = if better == Better::Neither { "above" } else { "better than" };
    PairView {
        said: format!("{winner} {word} {other}"),
        difference: significant(by.abs()),
        // Of the same sign as the difference that is shown.
        interval: d.interval.map(|(low, high)| interval(if by < 0.0 { (-high, -low) } else { (low, high) })),
        p: d.p_holm.map(p_value),
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".into() } else { significant(p) }
}

/// A case's own measures.
#[derive(Debug, Serialize)]
pub(crate) struct Measures {
    metrics: Vec<String>,
    /// A method and its value of each metric.
    rows: Vec<(String, Vec<Option<String>>)>,
}

impl Measures {
    /// `None` where nothing was evaluated.
    pub(crate) fn of(case: &CaseRecord, evaluation: Option<&Evaluation>) -> Option<Self> {
        let mut keys: Vec<&str> = Vec::new();
        let mut methods: Vec<&str> = Vec::new();
        for e in &case.evaluation {
            if !keys.contains(&e.metric.as_str()) {
                keys.push(&e.metric);
            }
            if !methods.contains(&e.method.as_str()) {
                methods.push(&e.method);
            }
        }
        let value = |method: &str, key: &str| {
            let found = case.evaluation.iter().find(|e| e.method == method && e.metric == key);
            found.and_then(|e| e.value).map(significant)
        };
        let rows = methods.iter().map(|m| ((*m).to_owned(), keys.iter().map(|k| value(m, k)).collect()));
        let rows: Vec<_> = rows.collect();
        let metrics = keys.iter().map(|k| evaluation.map_or_else(|| words(k), |e| e.title(k))).collect();
        (!rows.is_empty()).then_some(Self { metrics, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn difference(a: &str, b: &str, by: f64, verdict: &str) -> serde_json::Value {
        json!({ "a": a, "b": b, "n": 9, "groups": 9, "difference": by, "interval": [by - 0.1, by + 0.1], "p": 0.001,
            "p_holm": 0.0004, "least_holm": 0.0001, "wins": { "a": 9, "ties": 0, "b": 0 }, "verdict": verdict })
    }

    fn file() -> serde_json::Value {
        let mean = |name: &str, value: f64| json!({ "explainer": name, "n": 9, "groups": 9, "value": value, "interval": [value - 0.1, value + 0.1] });
        let metric = |key: &str, better: &str, pairs: Vec<serde_json::Value>| {
            json!({ "key": key, "title": key.to_uppercase(), "better": better, "ranking": null, "differences": pairs,
                "means": [mean("A", 0.75), mean("B", 0.5), mean("random heatmap", 0.25)] })
        };
        json!({
            "schema": 1, "cases": 9, "groups": 9, "budget": 100, "counterfactuals": null,
            "metrics": [{ "metric": "fid", "key": "fid", "title": "FID", "measures": "A distance.", "better": "lower",
                "family": "counterfactual", "reference": "Heusel et al. 2017" }],
            "heatmaps": { "explainers": ["A", "B", "random heatmap"], "settings": {}, "metrics": [
                metric("insertion_auc", "higher", vec![difference("A", "B", 0.25, "real"), difference("A", "random heatmap", 0.5, "not-shown")]),
                metric("deletion_auc", "lower", vec![difference("A", "B", 0.25, "real"), difference("B", "random heatmap", 0.25, "cannot-be-shown")]),
                metric("area", "neither", vec![]),
            ] },
            "sets": [{ "method": "A", "towards": "ill", "flips": 40, "real": 50, "dimensions": 8, "fid": 12.5, "kid": 0.25,
                "kid_deviation": 0.01 }],
            "randomisation": { "mode": "cascading", "images": 3, "layers": [
                { "layer": "fc", "method": "A", "spearman": 0.5, "ssim": null, "top": 0.1 },
                { "layer": "conv", "method": "A", "spearman": null, "ssim": null, "top": 0.1 },
                { "layer": "fc", "method": "B", "spearman": 0.25, "ssim": null, "top": 0.1 },
            ] },
            "remarks": ["few images"],
            "timings": { "A": { "seconds_per_image": 0.25, "evaluation_seconds_per_image": null } },
        })
    }

    #[test]
    fn the_best_and_the_real_differences_follow_the_direction_of_a_metric() {
        let evaluation: Evaluation = serde_json::from_value(file()).unwrap();
        let view = serde_json::to_value(evaluation.view().unwrap()).unwrap();
        let rows = &view["tables"][0]["rows"];
        let best = |i: usize| -> Vec<bool> {
            rows[i]["cells"].as_array().unwrap().iter().map(|c| c["best"].as_bool().unwrap()).collect()
        };
        assert_eq!([best(0), best(1), best(2)], [[true, false, false], [false, false, true], [false; 3]]);
        assert_eq!(rows[0]["verdict"], "1 of 2");
        assert_eq!(rows[1]["verdict"], "1 of 2; 1 cannot be shown with so few groups");
        let said = |i: usize| (rows[i]["pairs"][0]["said"].clone(), rows[i]["pairs"][0]["interval"].clone());
        assert_eq!(said(0), (json!("A better than B"), json!("0.150 – 0.350")));
        assert_eq!(said(1), (json!("B better than A"), json!("0.150 – 0.350")));
        assert_eq!(rows[0]["pairs"][0]["p"], "<0.001");
        assert_eq!(
            view["tables"][0]["methods"],
            json!([["A", false], ["B", false], ["random heatmap", true]])
        );
        assert_eq!(
            (&view["sets"][0]["fid"], &view["sets"][0]["kid"]),
            (&json!("12.5"), &json!("0.250 ± 0.0100"))
        );
        assert_eq!(
            view["randomisation"]["layers"],
            json!([["fc", ["0.50", "0.25"]], ["conv", [null, null]]])
        );
        assert_eq!(view["timings"], json!([["A", ["250 ms", null]]]));
        assert_eq!((evaluation.title("area"), evaluation.title("fid")), ("AREA".into(), "FID".into()));
        let drawn = rows[0]["svg"].as_str().unwrap();
        assert!(drawn.contains("\nrandom heatmap\n"));
        let mut broken = file();
        broken["heatmaps"]["metrics"][0]["better"] = json!("sideways");
        assert!(serde_json::from_value::<Evaluation>(broken).unwrap_err().to_string().contains("sideways"));
    }

    #[test]
    fn negative_differences_are_told_from_the_winner() {
        let d: Difference = serde_json::from_value(difference("A", "B", -0.25, "real")).unwrap();
        let p = pair(&d, Better::Higher);
        assert_eq!((p.said.as_str(), p.difference.as_str()), ("B better than A", "0.250"));
        assert_eq!(p.interval.as_deref(), Some("0.150 – 0.350"));
        assert_eq!(pair(&d, Better::Lower).said, "A better than B");
        assert_eq!(words("insertion_auc.blur"), "insertion auc, blur");
    }
}

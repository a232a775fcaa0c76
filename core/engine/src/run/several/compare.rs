//! Pairs of predictors, from their runs' folders. Of each case a few numbers stay in memory; maps are read one after another.

use super::super::case::read_array;
use super::super::folder::read_json;
use super::figures::{self, Alike, Pair, Side};
use crate::direction;
use crate::metrics::{cosine, spearman};
use shiftlens_api::record::{
    CaseRecord, ComparisonRecord, ExplanationRecord, Metric, PairFigure, PairRecord, RECORD_SCHEMA, RunRecord,
};
use shiftlens_api::resize::{Filter, plane};
use shiftlens_api::{Result, Target};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images whose maps are compared at most, evenly spread: ranks of large maps take their time.
const MAPS: usize = 1000;

/// A predictor's run, and what figures need of its cases.
struct Run {
    name: String,
    root: PathBuf,
    record: RunRecord,
    cases: BTreeMap<String, Side>,
}

impl Run {
    /// `None` if the predictor has no run yet.
    fn read(root: PathBuf, name: &str) -> Result<Option<Self>> {
        let path = root.join("run.json");
        if !path.exists() {
            return Ok(None);
        }
        let record: RunRecord = read_json(&path)?;
        let mut cases = BTreeMap::new();
        for id in &record.cases {
            let case: CaseRecord = read_json(&root.join("cases").join(id).join("case.json"))?;
            cases.insert(id.clone(), side(case, &record.target));
        }
        Ok(Some(Self { name: name.to_owned(), root, record, cases }))
    }

    fn case(&self, id: &str) -> PathBuf {
        self.root.join("cases").join(id)
    }
}

/// What figures need of a case.
fn side(case: CaseRecord, target: &Target) -> Side {
    let flip = case.flip();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut maps = Vec::new();
    for (e, explanation) in case.explanations.iter().enumerate() {
        let ExplanationRecord::Heatmap { explainer, title, .. } = explanation else { continue };
        let class = explanation.class().unwrap_or(target);
        // The manifest's explainers are one list for all predictors, so that the n-th of a kind is the same one.
        let kind = format!("{explainer}.{}", class.name);
        let nth = seen.entry(kind.clone()).or_default();
        let title = match *nth {
            0 => format!("{title}, {}", class.name),
            n => format!("{title}, {} ({})", class.name, n + 1),
        };
        maps.push((format!("{kind}.{nth}"), title, e));
        *nth += 1;
    }
    Side {
        group: case.group,
        label: case.label,
        score: f64::from(case.score),
        flip: flip.map(|f| f.map(f64::from)),
        maps,
    }
}

/// Compares the runs below `root` that are there.
///
/// # Errors
/// If a run's folder is damaged.
pub(super) fn compare(root: &Path, names: &[String]) -> Result<ComparisonRecord> {
    let mut runs = Vec::new();
    for name in names {
        runs.extend(Run::read(root.join(name), name)?);
    }
    let mut pairs = Vec::new();
    for (i, first) in runs.iter().enumerate() {
        for second in &runs[i + 1..] {
            pairs.push(pair(first, second)?);
        }
    }
    let predictors = runs.into_iter().map(|r| r.name).collect();
    Ok(ComparisonRecord { schema: RECORD_SCHEMA, predictors, pairs })
}

fn pair(a: &Run, b: &Run) -> Result<PairRecord> {
    let without = |x: &Run, y: &Run| -> Vec<String> {
        x.record.cases.iter().filter(|id| !y.cases.contains_key(*id)).cloned().collect()
    };
    let shared: Vec<Pair<'_>> = a
        .record
        .cases
        .iter()
        .filter_map(|id| Some(Pair { id, first: a.cases.get(id)?, second: b.cases.get(id)? }))
        .collect();
    let mut remarks = Vec::new();
    let targets = (&a.record.target.name, &b.record.target.name);
    if targets.0 != targets.1 {
        remarks.push(format!(
            "{} explains {} and {} explains {}: scores and decisions are of different classes",
            a.name, targets.0, b.name, targets.1
        ));
    }
    let mut figures = figures::figures(&shared, &maps(a, b, &shared)?)?;
    if let Some(value) = angle(a, b, &mut remarks)? {
        let title = "Cosine of the two directions in latent space".to_owned();
        let figure = Metric { title, value: Some(value), n: 0, interval: None };
        figures.push(PairFigure { key: "direction_cosine".into(), figure });
    }
    Ok(PairRecord {
        first: a.name.clone(),
        second: b.name.clone(),
        images: shared.len(),
        only_first: without(a, b),
        only_second: without(b, a),
        figures,
        remarks,
    })
}

/// Cosine of both α; `None` where a run has none, and with a remark where they lie in different spaces.
fn angle(a: &Run, b: &Run, remarks: &mut Vec<String>) -> Result<Option<f64>> {
    let read = |run: &Run| direction::read(&run.root.join("direction"));
    let (Some(first), Some(second)) = (read(a)?, read(b)?) else { return Ok(None) };
    let generator = |run: &Run| {
        let found = run.record.components.iter().find(|c| c.role == "generator");
        found.map(|c| (c.kind.clone(), c.sha256.clone(), c.path.clone()))
    };
    let shape = |d: &shiftlens_api::Direction| (d.layers(), d.alpha().len());
    let (x, y) = (&first.direction, &second.direction);
    if generator(a) != generator(b) || shape(x) != shape(y) {
        let (a, b) = (&a.name, &b.name);
        remarks
            .push(format!("the directions of {a} and {b} lie in the latent spaces of different generators"));
        return Ok(None);
    }
    Ok(cosine(x.alpha(), y.alpha()))
}

/// How alike both predictors' maps are, by what made them.
fn maps(a: &Run, b: &Run, shared: &[Pair<'_>]) -> Result<Vec<Alike>> {
    let mut found: Vec<Alike> = Vec::new();
    let taken = shared.len().min(MAPS);
    for i in (0..taken).map(|k| k * shared.len() / taken) {
        let pair = &shared[i];
        for (key, title, e) in &pair.first.maps {
            let Some((.., other)) = pair.second.maps.iter().find(|(k, ..)| k == key) else { continue };
            let read = |run: &Run, e: usize| read_array(&run.case(pair.id), &format!("heatmap.{e}"));
            let (Some(x), Some(y)) = (read(a, *e)?, read(b, *other)?) else { continue };
            let place = match found.iter().position(|f| f.key == *key) {
                Some(place) => place,
                None => {
                    let values = vec![None; shared.len()];
                    found.push(Alike { key: key.clone(), title: title.clone(), values });
                    found.len() - 1
                }
            };
            found[place].values[i] = alike(x, y);
        }
    }
    Ok(found)
}

/// Spearman's correlation of two maps; where their sizes differ, at the larger of both.
fn alike(a: (Vec<usize>, Vec<f32>), b: (Vec<usize>, Vec<f32>)) -> Option<f64> {
    let size = |shape: &[usize]| match shape {
        [.., h, w] if *h > 0 && *w > 0 => Some((*h, *w)),
        _ => None,
    };
    let (of_a, of_b) = (size(&a.0)?, size(&b.0)?);
    let common = (of_a.0.max(of_b.0), of_a.1.max(of_b.1));
    let values = |(_, data): (Vec<usize>, Vec<f32>), own: (usize, usize)| -> Vec<f64> {
        let data = if own == common { data } else { plane(&data, own, common, Filter::Bilinear) };
        data.into_iter().map(f64::from).collect()
    };
    spearman(&values(a, of_a), &values(b, of_b))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn maps_of_different_sizes_are_compared_at_the_larger() {
        let coarse = (vec![1, 2], vec![0.0, 1.0]);
        // Bilinear with half-pixel centres: 0, 0.25, 0.75, 1 in both rows.
        let fine = (vec![2, 4], vec![0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(alike(coarse.clone(), fine.clone()), Some(1.0));
        let falling = (vec![2, 4], fine.1.iter().map(|v| -v).collect());
        assert_eq!(alike(falling, coarse.clone()), Some(-1.0));
        assert_eq!(alike((vec![1, 2], vec![1.0, 1.0]), coarse), None);
    }
}

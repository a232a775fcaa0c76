//! Do maps follow f's weights (Adebayo et al. 2018, section 3)? On a few images they are compared with those of f with
//! random weights, layer after layer.

use super::{Judge, names, seen_by, title};
use crate::data::Item;
use crate::manifest::{Kind, Randomisation, RandomisationMode, Study};
use crate::registry::{Components, LATENT_SHIFT, Randomisable, Timed};
use crate::run::case::read_array;
use crate::run::evaluate::heatmap::affordable;
use crate::run::folder::{RunFolder, read_json};
use serde::{Deserialize, Serialize};
use shiftlens_api::{
    Context, Error, Explanation, Heatmap, Images, Level, Monitor, Predictor, Result, Target,
};
use shiftlens_evaluation::heatmap::{at_size, similarity};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The file in the run's folder.
pub const FILE: &str = "randomisation.json";
/// Share of the pixels that count as most relevant.
const TOP: f64 = 0.1;

/// `randomisation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomisationRecord {
    /// `cascading` or `independent`.
    pub mode: String,
    /// Seed of the weights.
    pub seed: u64,
    /// The predictor's layers with weights, from the input to the output.
    pub layers: Vec<String>,
    /// The images whose maps were compared.
    pub cases: Vec<String>,
    /// What was found: layers from the output on, in each the images.
    pub rows: Vec<RandomisationRow>,
    /// What could not be compared, and why; sorted.
    pub remarks: Vec<String>,
}

/// Two maps compared: of f, and of f with random weights. Of both the absolute values count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RandomisationRow {
    /// The image.
    pub case: String,
    /// The method.
    pub method: String,
    /// The layer whose weights were drawn anew: alone, or with all behind it.
    pub layer: String,
    /// Spearman's rank correlation; missing where a map does not vary.
    pub spearman: Option<f64>,
    /// Structural similarity; missing where a map is 0.
    pub ssim: Option<f64>,
    /// Share of the most relevant tenth of the pixels that both maps have in common.
    pub top: f64,
}

/// One image, and the maps of f to be compared with.
struct Known {
    id: String,
    image: Images,
    /// Size that maps are brought to: that of f's input.
    size: (usize, usize),
    /// Names and maps of each explainer of the study; none of those that are left out.
    maps: Vec<Vec<(String, usize, Heatmap)>>,
}

/// Compares and writes [`FILE`], unless it is there for the same images already. The images are those that the judge chose
/// of the whole list, as far as they are among `ids`: a part of the list does its own, and one that failed is not replaced.
///
/// # Errors
/// [`Error::Io`], what a damaged case says, or [`Error::Cancelled`]; a model that cannot be randomised is a remark in the file.
pub fn randomise(
    judge: &Judge<'_>,
    plan: Randomisation,
    parts: &mut Components,
    folder: &RunFolder,
    ids: &[String],
    monitor: &dyn Monitor,
) -> Result<()> {
    let there: BTreeSet<&String> = ids.iter().collect();
    let cases: Vec<String> = judge.randomised.iter().filter(|id| there.contains(id)).cloned().collect();
    if read_json::<RandomisationRecord>(&folder.file(FILE)).is_ok_and(|old| old.cases == cases) {
        return Ok(());
    }
    let mut record = RandomisationRecord {
        mode: match plan.mode {
            RandomisationMode::Cascading => "cascading".into(),
            RandomisationMode::Independent => "independent".into(),
        },
        seed: judge.spec.seed,
        layers: Vec::new(),
        cases,
        rows: Vec::new(),
        remarks: Vec::new(),
    };
    match compare(judge, plan.mode, parts, folder, &mut record, monitor) {
        Ok(()) => {}
        Err(e @ (Error::Cancelled | Error::Io { .. })) => return Err(e),
        Err(e) => {
            monitor.log(Level::Warn, &format!("randomised weights: {e}"));
            record.remarks.push(format!("randomised weights: {e}"));
        }
    }
    record.remarks.sort();
    record.remarks.dedup();
    folder.write_json(FILE, &record)
}

/// The records of a list's parts as that of the whole list, whose cases are `ids` in its order; `None` of no records.
///
/// # Errors
/// [`Error::Invalid`] if they are not of one predictor.
pub fn join(parts: Vec<RandomisationRecord>, ids: &[String]) -> Result<Option<RandomisationRecord>> {
    let mut parts = parts.into_iter();
    let Some(mut all) = parts.next() else { return Ok(None) };
    for part in parts {
        // A part that could not read the predictor's layers has a remark in their place.
        if all.layers.is_empty() {
            all.layers.clone_from(&part.layers);
        }
        let same = (&part.mode, part.seed) == (&all.mode, all.seed);
        if !(same && (part.layers.is_empty() || part.layers == all.layers)) {
            return Err(Error::Invalid(format!(
                "{FILE}: two parts compare maps under unlike random weights"
            )));
        }
        all.cases.extend(part.cases);
        all.rows.extend(part.rows);
        all.remarks.extend(part.remarks);
    }
    let places: BTreeMap<&String, usize> = ids.iter().enumerate().map(|(i, id)| (id, i)).collect();
    let place = |id: &String| places.get(id).copied();
    all.cases.sort_by_key(place);
    let stage = |layer: &String| all.layers.iter().rev().position(|l| l == layer);
    all.rows.sort_by_cached_key(|row| (stage(&row.layer), place(&row.case)));
    all.remarks.sort();
    all.remarks.dedup();
    Ok(Some(all))
}

/// Which layers of `n` are drawn anew together, one range for each stage: from the output on.
fn stages(mode: RandomisationMode, n: usize) -> Vec<Range<usize>> {
    let stage = |first: usize| match mode {
        RandomisationMode::Cascading => first..n,
        RandomisationMode::Independent => first..first + 1,
    };
    (0..n).rev().map(stage).collect()
}

fn compare(
    judge: &Judge<'_>,
    mode: RandomisationMode,
    parts: &mut Components,
    folder: &RunFolder,
    record: &mut RandomisationRecord,
    monitor: &dyn Monitor,
) -> Result<()> {
    let model = Randomisable::open(&judge.study.predictor)?;
    record.layers = model.layers();
    if record.cases.is_empty() {
        return Ok(());
    }
    let mut known = Vec::with_capacity(record.cases.len());
    for id in &record.cases {
        known.push(know(judge, parts, folder, id, &mut record.remarks, monitor)?);
    }
    let stages = stages(mode, record.layers.len());
    for (done, stage) in stages.iter().enumerate() {
        monitor.progress("randomising the predictor's weights", done as u64, stages.len() as u64);
        let layer = record.layers[stage.start].clone();
        let mut f = model.predictor(stage.clone(), judge.spec.seed)?;
        for image in &known {
            for (which, before) in image.maps.iter().enumerate().filter(|(_, maps)| !maps.is_empty()) {
                monitor.check()?;
                let after = match ask(judge, parts, Some(f.as_mut()), which, &image.image, monitor) {
                    Ok((after, _)) => after,
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(e) => {
                        record.remarks.push(format!("{}, {} at {layer}: {e}", image.id, before[0].0));
                        continue;
                    }
                };
                for (method, position, before) in before {
                    let Some(Explanation::Heatmap { map, .. }) = after.get(*position) else { continue };
                    let map = at_size(map, image.size)?;
                    let found = similarity(before, &map, TOP)?;
                    record.rows.push(RandomisationRow {
                        case: image.id.clone(),
                        method: method.clone(),
                        layer: layer.clone(),
                        spearman: found.spearman_absolute,
                        ssim: found.ssim,
                        top: found.top,
                    });
                }
            }
        }
    }
    monitor.progress("randomising the predictor's weights", stages.len() as u64, stages.len() as u64);
    Ok(())
}

/// About how many seconds [`randomise`] takes for `images` images: from one of them, a case of the run in `folder`, and the
/// predictor with half of its layers drawn anew.
///
/// # Errors
/// As [`randomise`]; 0 where a model cannot be randomised, which the run remarks.
pub fn seconds_to_randomise(
    study: &Study,
    parts: &mut Components,
    items: &[Item],
    (folder, id): (&Path, &str),
    images: usize,
    monitor: &dyn Monitor,
) -> Result<f64> {
    let Some(judge) = Judge::new(study, parts, None, items)? else { return Ok(0.0) };
    let Ok(model) = Randomisable::open(&study.predictor) else { return Ok(0.0) };
    let stages = model.layers().len();
    if stages == 0 {
        return Ok(0.0);
    }
    let folder = RunFolder::locked(folder)
        .ok_or_else(|| Error::Invalid(format!("{}: the folder is in use", folder.display())))?;
    let started = Instant::now();
    let image = know(&judge, parts, &folder, id, &mut Vec::new(), monitor)?;
    let knowing = started.elapsed().as_secs_f64();
    let mut explain = |f: &mut dyn Predictor, which: usize| -> Result<f64> {
        monitor.check()?;
        let started = Instant::now();
        match ask(&judge, parts, Some(f), which, &image.image, monitor) {
            Err(e @ Error::Cancelled) => Err(e),
            // A map that cannot be made is a remark of the run.
            _ => Ok(started.elapsed().as_secs_f64()),
        }
    };
    let started = Instant::now();
    let mut f = model.predictor(stages / 2..stages, judge.spec.seed)?;
    let mut making = started.elapsed().as_secs_f64();
    let mut asking = 0.0;
    for which in (0..image.maps.len()).filter(|w| !image.maps[*w].is_empty()) {
        // A predictor prepares itself for what it is asked for the first time, in every stage anew.
        let first = explain(f.as_mut(), which)?;
        let again = explain(f.as_mut(), which)?;
        (making, asking) = (making + (first - again).max(0.0), asking + again);
    }
    Ok(images as f64 * knowing + stages as f64 * (making + images as f64 * asking))
}

/// What explainer `which` answers for one image and the target, of f or of another, and how often it asked.
fn ask(
    judge: &Judge<'_>,
    parts: &mut Components,
    other: Option<&mut (dyn Predictor + '_)>,
    which: usize,
    x: &Images,
    monitor: &dyn Monitor,
) -> Result<(Vec<Explanation>, f64)> {
    let f: &mut dyn Predictor = match other {
        Some(f) => f,
        None => parts.predictor.as_mut(),
    };
    let count = Arc::default();
    let mut f = Timed::new(f, &count);
    let seed = judge.study.direction.as_ref().map_or(0, |d| d.seed);
    // Along the direction, which belongs to f's own weights, there is nothing to be compared.
    let mut cx = Context { predictor: &mut f, latent: None, monitor, seed };
    let mut answers = parts.explainers[which].explain(&mut cx, x, &parts.target)?;
    let asked = count.asked() as f64;
    Ok((if answers.is_empty() { Vec::new() } else { answers.swap_remove(0) }, asked))
}

fn know(
    judge: &Judge<'_>,
    parts: &mut Components,
    folder: &RunFolder,
    id: &str,
    remarks: &mut Vec<String>,
    monitor: &dyn Monitor,
) -> Result<Known> {
    let image = read_array(&folder.case(id), "x")?;
    let (shape, values) = image.ok_or_else(|| Error::Invalid(format!("case {id} has no array \"x\"")))?;
    let [c, h, w] = shape[..] else {
        return Err(Error::Shape {
            what: format!("image of case {id}"),
            expected: "[C, H, W]".into(),
            found: shape,
        });
    };
    let image = Images::new([1, c, h, w], values)?;
    let size = seen_by(parts.predictor.as_ref(), judge.filter, &image)?.size();
    let mut titles: Vec<(usize, usize, String)> = Vec::new();
    let mut found: Vec<Vec<(usize, Heatmap)>> = Vec::new();
    for which in 0..parts.explainers.len() {
        found.push(Vec::new());
        let target: &Target = &parts.target;
        let series = judge.study.explainers[which].kind == Kind::Builtin(LATENT_SHIFT);
        if series {
            // It keeps its place among the names.
            titles.push((which, 0, crate::latent_shift::TITLE.into()));
        }
        if series || !parts.explained[which].contains(target) {
            continue;
        }
        let (answers, asked) = match ask(judge, parts, None, which, &image, monitor) {
            Ok(answered) => answered,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(e) => {
                remarks.push(format!("{id}, explainer {}: {e}", judge.study.explainers[which].kind));
                continue;
            }
        };
        let cheap = affordable(judge.spec.budget, asked, 1) == 1;
        for (position, answer) in answers.iter().enumerate() {
            titles.push((which, position, title(answer).to_owned()));
            if let (Explanation::Heatmap { map, .. }, true) = (answer, cheap) {
                found[which].push((position, at_size(map, size)?));
            }
        }
    }
    let names = names(titles.iter().map(|(.., t)| t.as_str()));
    let name_of = |which: usize, position: usize| {
        let place = titles.iter().position(|(w, p, _)| (*w, *p) == (which, position));
        place.map_or_else(String::new, |i| names[i].clone())
    };
    let maps = found
        .into_iter()
        .enumerate()
        .map(|(which, maps)| {
            maps.into_iter().map(|(position, map)| (name_of(which, position), position, map)).collect()
        })
        .collect();
    Ok(Known { id: id.to_owned(), image, size, maps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_go_from_the_output_to_the_input() {
        assert_eq!(stages(RandomisationMode::Cascading, 3), [2..3, 1..3, 0..3]);
        assert_eq!(stages(RandomisationMode::Independent, 3), [2..3, 1..2, 0..1]);
    }

    #[test]
    fn parts_are_joined_in_the_order_of_the_whole_list() {
        let record = |cases: &[&str], remarks: &[&str]| RandomisationRecord {
            mode: "cascading".into(),
            seed: 3,
            layers: vec!["in".into(), "out".into()],
            cases: cases.iter().map(|c| (*c).to_owned()).collect(),
            rows: ["out", "in"]
                .iter()
                .flat_map(|layer| cases.iter().map(move |case| (layer, case)))
                .flat_map(|(layer, case)| ["B", "A"].map(|method| (layer, case, method)))
                .map(|(layer, case, method)| RandomisationRow {
                    case: (*case).to_owned(),
                    method: method.to_owned(),
                    layer: (*layer).to_owned(),
                    spearman: None,
                    ssim: Some(0.5),
                    top: 0.1,
                })
                .collect(),
            remarks: remarks.iter().map(|r| (*r).to_owned()).collect(),
        };
        let ids = ["a", "b", "c", "d"].map(str::to_owned);
        let parts = vec![record(&["b", "d"], &["z", "m"]), record(&[], &["m"]), record(&["a", "c"], &["k"])];
        let whole = record(&["a", "b", "c", "d"], &["k", "m", "z"]);
        assert_eq!(join(parts, &ids).unwrap(), Some(whole));
        assert_eq!(join(vec![], &ids).unwrap(), None);
        let other = RandomisationRecord { seed: 4, ..record(&["b"], &[]) };
        assert!(join(vec![record(&["a"], &[]), other], &ids).is_err());
    }
}

//! How good the explanations are: every one is measured right after it was made, on the same image, by the same f and
//! within the same budget as all others.
//!
//! ```text
//! a case:    its heatmaps and series --measured--> `evaluation` of case.json, features in arrays.safetensors
//! the study: cases on disk --summarised--> evaluation.json      maps of f with random weights: randomisation.json
//! ```
//!
//! * **The floor.** A random heatmap (smooth, as a CAM is), and a series along a random direction (drawn as the direction's
//!   audit draws its own), are made for every case and measured as the others are. They are no explanations and are not
//!   shown.
//! * **Where f sees.** Metrics that change pixels work on the image as an ONNX classifier is fed it: at its input's size,
//!   resized by its filter, so that f's score is that of the image. For other classifiers the image is taken as it was read.
//!   Localisation is at the image's own size, that of the mask.
//! * **Failures** of a metric are remarks on the case. A value that does not exist is `null`.
//! * **Seeds** come from that of `[evaluation]` and the case's id: the same perturbations for all methods, and the same
//!   values in a run that was interrupted, or cut into shards.

mod heatmap;
mod sanity;
mod series;
mod sets;
mod sheet;
mod summary;
mod table;

pub use sanity::{FILE as RANDOMISATION, RandomisationRecord, RandomisationRow};
pub(super) use sanity::{join, seconds_to_randomise};
pub use sets::SetDistance;
pub use summary::{StudyEvaluation, Terms, Timing, summarise};

use super::case::{Explained, finished, fitted};
use super::folder::RunFolder;
use super::trust::Known;
use crate::data::{self, Item, Source};
use crate::direction::{Found, random_direction};
use crate::latent_shift::{LatentShiftParams, latent_shift};
use crate::manifest::{Baseline, EvaluationSpec, Kind, Study};
use crate::registry::{Components, EvaluationParts, LATENT_SHIFT, Timed, predictor_filter};
use heatmap::Seen;
use series::{Decided, Moved};
use sha2::{Digest, Sha256};
use sheet::Sheet;
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{
    Context, Error, Explanation, Heatmap, Images, LatentCodes, LatentSpace, Monitor, Predictor, Result,
    ShiftSeries,
};
use shiftlens_evaluation::Metric;
use shiftlens_evaluation::heatmap::{Mask, RandomMap, random_map};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// The map that knows nothing.
pub const RANDOM_HEATMAP: &str = "random heatmap";
/// The series that knows nothing.
pub const RANDOM_DIRECTION: &str = "random direction";
/// Codes that random directions are drawn from, at most.
const CODES: usize = 2000;

/// Measures the cases of a study.
pub struct Judge<'a> {
    study: &'a Study,
    spec: &'a EvaluationSpec,
    found: Option<&'a Found>,
    chosen: BTreeSet<String>,
    /// Those of them whose maps are compared with maps of random weights, in the order of the list.
    randomised: Vec<String>,
    filter: Option<Filter>,
    /// Drawn from the generator, where series are measured.
    codes: Option<LatentCodes>,
}

/// The cases that are measured, of the whole list of a study: evenly spread over it, as many as the manifest says.
pub fn chosen(spec: &EvaluationSpec, items: &[Item]) -> BTreeSet<String> {
    chosen_of(items.iter().map(|i| &i.id), spec.images.unwrap_or(usize::MAX)).into_iter().collect()
}

/// Those of them whose maps are compared with maps of random weights, in the order of the list; none where the manifest asks
/// for no such comparison.
pub(super) fn randomised(spec: &EvaluationSpec, items: &[Item]) -> Vec<String> {
    let chosen = chosen(spec, items);
    let ids = items.iter().map(|i| &i.id).filter(|id| chosen.contains(*id));
    spec.randomisation.map(|r| chosen_of(ids, r.images)).unwrap_or_default()
}

/// True if the folder holds this image's case, whole, and measured where it is to be: a case that another list of images
/// left unmeasured is made again.
pub(super) fn settled(folder: &RunFolder, item: &Item, measured: bool) -> bool {
    let has_values = || {
        let case = folder.read_case(&item.id);
        case.is_ok_and(|c| !c.evaluation.is_empty() || !c.remarks.is_empty())
    };
    finished(folder, item) && (!measured || has_values())
}

/// At most `n` ids, evenly spread.
fn chosen_of<'t>(ids: impl Iterator<Item = &'t String>, n: usize) -> Vec<String> {
    let all: Vec<&String> = ids.collect();
    let n = n.min(all.len());
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}

/// A seed for one purpose in one case.
fn seed_of(seed: u64, id: &str, purpose: &str) -> u64 {
    let sum = Sha256::digest(format!("{seed}\n{purpose}\n{id}"));
    sum.iter().take(8).fold(0, |all, b| all << 8 | u64::from(*b))
}

/// The explanations' titles, those that come again with a number: unique, and not those of the floor.
pub fn names<'t>(titles: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for title in titles {
        let free = |name: &String| !all.contains(name) && name != RANDOM_HEATMAP && name != RANDOM_DIRECTION;
        let numbered = (2..).map(|n| format!("{title} ({n})"));
        let name = std::iter::once(title.to_owned()).chain(numbered).find(free);
        all.extend(name);
    }
    all
}

fn title(e: &Explanation) -> &str {
    match e {
        Explanation::Heatmap { title, .. } | Explanation::Shift { title, .. } => title,
    }
}

/// The image as f is fed it, where that is known.
fn seen_by(predictor: &dyn Predictor, filter: Option<Filter>, x: &Images) -> Result<Images> {
    let info = predictor.info();
    match (filter, info.input_size) {
        (Some(filter), Some(size)) => resize::images(&x.with_channels(info.channels)?, size, filter),
        _ => Ok(x.clone()),
    }
}

/// Makes a remark of an error that does not end the run.
fn forgive<T>(sheet: &mut Sheet<'_>, what: &str, e: Error) -> Result<Option<T>> {
    match e {
        Error::Cancelled => Err(Error::Cancelled),
        e => {
            sheet.remarks.push(format!("{what}: {e}"));
            Ok(None)
        }
    }
}

/// One map of an explainer for the target: its `position`th answer for one image.
fn explain_again(
    parts: &mut Components,
    found: Option<&Found>,
    (which, position): (usize, usize),
    x: &Images,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<Heatmap> {
    let latent = match (&mut parts.latent, found) {
        (Some(l), Some(found)) => Some(LatentSpace {
            generator: l.generator.as_mut(),
            encoder: l.encoder.as_mut(),
            direction: &found.direction,
        }),
        _ => None,
    };
    let mut cx = Context { predictor: parts.predictor.as_mut(), latent, monitor, seed };
    let mut answers = parts.explainers[which].explain(&mut cx, x, &parts.target)?;
    let answers = if answers.is_empty() { Vec::new() } else { answers.swap_remove(0) };
    match answers.into_iter().nth(position) {
        Some(Explanation::Heatmap { map, .. }) => Ok(map),
        _ => Err(Error::invalid("the explainer answers no such heatmap when it is asked again")),
    }
}

impl<'a> Judge<'a> {
    /// For a study that measures; `items` is its whole list, of which a shard may explain a part.
    ///
    /// # Errors
    /// If the generator cannot sample codes.
    pub fn new(
        study: &'a Study,
        parts: &mut Components,
        found: Option<&'a Found>,
        items: &[Item],
    ) -> Result<Option<Self>> {
        let Some(spec) = &study.evaluation else { return Ok(None) };
        let codes = match (&mut parts.latent, &study.direction, found) {
            (Some(latent), Some(d), Some(_)) => Some(latent.generator.sample(CODES.min(d.samples), d.seed)?),
            _ => None,
        };
        let (chosen, filter) = (chosen(spec, items), predictor_filter(&study.predictor));
        let randomised = randomised(spec, items);
        Ok(Some(Self { study, spec, found, chosen, randomised, filter, codes }))
    }

    /// True if a case is to be measured.
    pub fn wants(&self, id: &str) -> bool {
        self.chosen.contains(id)
    }

    /// Measures the explanations of one case.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; all else is a remark.
    pub fn case(
        &self,
        parts: &mut Components,
        item: &Item,
        x: &Images,
        explained: &Explained,
        monitor: &dyn Monitor,
    ) -> Result<Sheet<'a>> {
        let mut sheet = Sheet::new(self.spec);
        // Lent out beside the other parts.
        let mut models = parts.evaluation.take().unwrap_or_default();
        let measured = self.measure(&mut sheet, parts, &mut models, item, x, explained, monitor);
        parts.evaluation = Some(models);
        match measured {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(e) => sheet.remarks.push(format!("evaluation: {e}")),
            Ok(()) if sheet.values.is_empty() && sheet.remarks.is_empty() => {
                sheet.remarks.push("evaluation: no metric applies to the explanations of this case".into());
            }
            Ok(()) => {}
        }
        Ok(sheet)
    }

    #[allow(clippy::too_many_arguments)]
    fn measure(
        &self,
        sheet: &mut Sheet<'_>,
        parts: &mut Components,
        models: &mut EvaluationParts,
        item: &Item,
        x: &Images,
        explained: &Explained,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let threshold = self.study.direction.as_ref().map_or(0.5, |d| d.threshold);
        let decided = Decided { image: x, score: explained.scores[parts.target.class], threshold };
        let own: Vec<&super::case::Made> =
            explained.explanations.iter().filter(|m| m.class == parts.target).collect();
        let names = names(own.iter().map(|m| title(&m.explanation)));
        let first = own.iter().find_map(|m| match &m.explanation {
            Explanation::Shift { series, .. } => Some(series),
            Explanation::Heatmap { .. } => None,
        });
        let seed = seed_of(self.spec.seed, &item.id, "perturbations");
        let mut seen = None;
        for (i, made) in own.iter().enumerate() {
            monitor.check()?;
            let name = &names[i];
            match &made.explanation {
                Explanation::Heatmap { map, .. } => {
                    if seen.is_none() {
                        seen = Some(self.see(sheet, parts, item, decided, first, seed, monitor)?);
                    }
                    let Some(seen) = &seen else { continue };
                    let position = own[..i].iter().filter(|m| m.explainer == made.explainer).count();
                    let (f, target) = (parts.predictor.as_mut(), &parts.target);
                    heatmap::measure(sheet, name, map, x.size(), seen, f, target)?;
                    let usual = self.study.direction.as_ref().map_or(0, |d| d.seed);
                    let mut again = |y: &Images, seed: Option<u64>| {
                        let place = (made.explainer, position);
                        explain_again(parts, self.found, place, y, seed.unwrap_or(usual), monitor)
                    };
                    heatmap::measure_again(sheet, name, map, (x, seen), made.asked, &mut again)?;
                }
                Explanation::Shift { series, .. } => {
                    let moved = self.moved(parts, made.explainer, series)?;
                    series::measure(sheet, name, &moved, decided, models)?;
                }
            }
            sheet.put(name, Metric::ScoresPerImage, Some(made.asked))?;
        }
        if let Some(seen) = &seen {
            let (h, w) = seen.image.size();
            let smooth = RandomMap::Smooth { sigma: heatmap::BLUR * h.max(w) as f64 };
            let map = random_map((h, w), smooth, seed_of(self.spec.seed, &item.id, RANDOM_HEATMAP))?;
            let (f, target) = (parts.predictor.as_mut(), &parts.target);
            heatmap::measure(sheet, RANDOM_HEATMAP, &map, x.size(), seen, f, target)?;
        }
        if let Some(series) = first {
            if let Err(e) = self.random_series(sheet, parts, models, item, decided, series, monitor) {
                forgive::<()>(sheet, RANDOM_DIRECTION, e)?;
            }
            if models.features.is_some() {
                let like = fitted(x, &series.images)?;
                series::keep_features(sheet, "x", &like, models)?;
            }
        }
        Ok(())
    }

    /// What is known of a series of the study's explainer `which`.
    fn moved<'s>(&'s self, parts: &Components, which: usize, series: &'s ShiftSeries) -> Result<Moved<'s>> {
        let spec = &self.study.explainers[which];
        let latent_layers = parts.latent.as_ref().map_or(1, |l| l.generator.info().latent_layers);
        let edit = match (self.found, &spec.kind) {
            (Some(found), Kind::Builtin(LATENT_SHIFT)) => {
                let params = LatentShiftParams::from_json(&spec.params, 0.5)?;
                Some((&found.direction, params.layers))
            }
            _ => None,
        };
        Ok(Moved { series, edit, latent_layers })
    }

    /// The image as f sees it, with its baselines and its mask.
    #[allow(clippy::too_many_arguments)]
    fn see(
        &self,
        sheet: &mut Sheet<'_>,
        parts: &mut Components,
        item: &Item,
        decided: Decided<'_>,
        first: Option<&ShiftSeries>,
        seed: u64,
        monitor: &dyn Monitor,
    ) -> Result<Seen> {
        let x = decided.image;
        let image = seen_by(parts.predictor.as_ref(), self.filter, x)?;
        let mut baselines = Vec::new();
        for baseline in &self.spec.baselines {
            let other = match baseline {
                Baseline::Generator => self
                    .inpainted(parts, decided, first, monitor)
                    .and_then(|found| found.map(|picture| fitted(&picture, &image)).transpose()),
                plain => heatmap::plain_baseline(*plain, &image),
            };
            let what = format!("baseline {}", baseline.name());
            baselines.push((*baseline, other.or_else(|e| forgive(sheet, &what, e))?));
        }
        let mask = match &item.mask {
            Some(path) => match self.mask(path, x) {
                Ok(mask) => Some(mask),
                Err(e) => forgive(sheet, "mask", e)?,
            },
            None => None,
        };
        Ok(Seen { image, baselines, mask, seed })
    }

    fn mask(&self, path: &std::path::Path, x: &Images) -> Result<Mask> {
        let mask = data::read_mask(&Source::file(path), self.study.data.crop)?;
        if mask.size() != x.size() {
            return Err(Error::Shape {
                what: path.display().to_string(),
                expected: format!("[{}, {}], as its image", x.size().0, x.size().1),
                found: vec![mask.size().0, mask.size().1],
            });
        }
        Mask::new(mask.size(), mask.as_slice().iter().map(|v| *v > 0.0).collect())
    }

    /// The image inpainted by the generator: its reconstruction, moved along the direction until f decides otherwise. It is
    /// taken from the case's first series, or from one that is made for this purpose.
    fn inpainted(
        &self,
        parts: &mut Components,
        decided: Decided<'_>,
        first: Option<&ShiftSeries>,
        monitor: &dyn Monitor,
    ) -> Result<Option<Images>> {
        if let Some(series) = first {
            return series::counterfactual(series, decided);
        }
        let (Some(latent), Some(found)) = (&mut parts.latent, self.found) else { return Ok(None) };
        let space = LatentSpace {
            generator: latent.generator.as_mut(),
            encoder: latent.encoder.as_mut(),
            direction: &found.direction,
        };
        let predictor = parts.predictor.as_mut();
        let mut cx = Context { predictor, latent: Some(space), monitor, seed: 0 };
        let params = LatentShiftParams { threshold: decided.threshold, ..Default::default() };
        let made = latent_shift(&mut cx, decided.image, &parts.target, &params)?;
        made.first().map_or(Ok(None), |series| series::counterfactual(series, decided))
    }

    /// Makes and measures a series along a random direction, from the code of `like` and under the study's settings.
    #[allow(clippy::too_many_arguments)]
    fn random_series(
        &self,
        sheet: &mut Sheet<'_>,
        parts: &mut Components,
        models: &mut EvaluationParts,
        item: &Item,
        decided: Decided<'_>,
        like: &ShiftSeries,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let (Some(latent), Some(codes)) = (&mut parts.latent, &self.codes) else { return Ok(()) };
        let info = latent.generator.info();
        let direction = random_direction(codes, seed_of(self.spec.seed, &item.id, RANDOM_DIRECTION))?;
        let rows = like.code.len() / info.latent_dim;
        let code = LatentCodes::new([1, rows, info.latent_dim], like.code.clone())?;
        let mut encoder = Known { encoder: latent.encoder.as_mut(), images: decided.image, codes: &code };
        let space = LatentSpace {
            generator: latent.generator.as_mut(),
            encoder: &mut encoder,
            direction: &direction,
        };
        let count = Arc::default();
        let mut f = Timed::new(parts.predictor.as_mut(), &count);
        let params = self.shift_params(decided.threshold)?;
        let mut cx = Context { predictor: &mut f, latent: Some(space), monitor, seed: 0 };
        let started = Instant::now();
        let made = latent_shift(&mut cx, decided.image, &parts.target, &params)?;
        let seconds = started.elapsed().as_secs_f64();
        let asked = count.asked() as f64;
        let Some(series) = made.first() else { return Ok(()) };
        let edit = Some((&direction, params.layers));
        let moved = Moved { series, edit, latent_layers: info.latent_layers };
        series::measure(sheet, RANDOM_DIRECTION, &moved, decided, models)?;
        sheet.put(RANDOM_DIRECTION, Metric::ScoresPerImage, Some(asked))?;
        // The floor is made to be measured: what that took is part of the measurement.
        if let Some(last) = sheet.values.last_mut().filter(|v| v.method == RANDOM_DIRECTION) {
            last.seconds += seconds;
        }
        Ok(())
    }

    /// Those of the study's first latent shift.
    fn shift_params(&self, threshold: f32) -> Result<LatentShiftParams> {
        let spec = self.study.explainers.iter().find(|e| e.kind == Kind::Builtin(LATENT_SHIFT));
        match spec {
            Some(spec) => LatentShiftParams::from_json(&spec.params, threshold),
            None => Ok(LatentShiftParams { threshold, ..Default::default() }),
        }
    }
}

/// Does what the whole study needs, once its cases are there: compares maps of f with random weights where the manifest
/// asks for it, and writes `evaluation.json`. `ids` are the run's cases, in their order.
///
/// # Errors
/// If a case cannot be read, a file cannot be written, or the monitor cancels.
pub fn finish(
    judge: &Judge<'_>,
    parts: &mut Components,
    folder: &RunFolder,
    ids: &[String],
    monitor: &dyn Monitor,
) -> Result<StudyEvaluation> {
    if let Some(randomisation) = judge.spec.randomisation {
        sanity::randomise(judge, randomisation, parts, folder, ids, monitor)?;
    }
    let terms = Terms::of_study(judge.study, judge.spec, &parts.target, &parts.classes);
    let evaluation = summarise(folder, &terms, ids)?;
    folder.write_json("evaluation.json", &evaluation)?;
    Ok(evaluation)
}

#[cfg(test)]
mod tests;

//! The latent shift: G(w + λ σ α) for a range of λ, with f's score under each picture (Schutte et al. 2021, section
//! 2.3).
//!
//! λ is in units of σ, the spread of the training codes along α. For every image f is asked along the whole range
//! `-limit ..= limit` (4 σ by default), and the λ are searched at which it reaches given scores, 0.1 to 0.9 by default,
//! and at which its decision flips: a [`Calibration`] stands beside every series.
//!
//! | `range` | the pictures of the series |
//! | --- | --- |
//! | `"calibrated"` | an odd number of equally spaced steps from `-r` to `r`, with `r = clamp(1.25 |λ*|, 2, 6)`, λ* the flip |
//! | a number r | the same with this r |
//! | `"levels"` | the pictures at which f reaches the levels, and λ = 0: the same predictions for all images |
//!
//! λ = 0, the reconstruction G(E(x)), is part of every series. With `"calibrated"` the flip lies well inside the series,
//! yet an image that flips at once is still shown over ±2 σ. Where f's decision does not flip within the limit, it is
//! asked further out, to 6 σ and no more: there codes no longer look like any that the generator was trained on.
//!
//! `layers` confines the shift to some of the generator's style inputs, as style mixing does: what changes then is of
//! the scale that those inputs draw ([`Layers`]).

mod calibrate;
mod layers;
mod params;

pub use calibrate::TOLERANCE;
pub use layers::Layers;
pub(crate) use params::Keys;
pub use params::{LatentShiftParams, Range};

use crate::direction::BATCH;
use crate::metrics;
use calibrate::Search;
use shiftlens_api::{
    Calibration, Context, Direction, Error, Explainer, Explanation, Generator, Images, LatentCodes, Monitor,
    Predictor, Result, Shift, ShiftSeries, Target,
};
use std::ops::Range as Span;

/// Smallest calibrated range in σ.
pub const MIN_RANGE: f32 = 2.0;
/// Largest calibrated range in σ.
pub const MAX_RANGE: f32 = 6.0;
/// The title of its explanations.
pub const TITLE: &str = "Latent shift";
/// A calibrated range is the flip times this.
const MARGIN: f32 = 1.25;

/// `steps` values from `-r` to `r`; the middle one is exactly 0.
fn grid(steps: usize, r: f32) -> Vec<f32> {
    let o = (steps / 2) as f32;
    (0..steps).map(|i| r * (i as f32 - o) / o).collect()
}

/// 0 and the λ of the levels that were reached, ascending. One that is 0 but for rounding is 0.
fn at_levels(calibration: &Calibration) -> Vec<f32> {
    let mut all: Vec<f32> =
        calibration.levels.iter().filter_map(|l| l.lambda).filter(|l| l.abs() > 1e-3).collect();
    all.push(0.0);
    all.sort_by(f32::total_cmp);
    all.dedup();
    all
}

/// The λ nearest to 0 at which `scores` cross `threshold`, linear between steps; `None` if they do not.
pub fn flip(lambdas: &[f32], scores: &[f32], threshold: f32) -> Option<f32> {
    let side = |s: f32| s >= threshold;
    lambdas
        .windows(2)
        .zip(scores.windows(2))
        .filter(|(_, s)| side(s[0]) != side(s[1]))
        .map(|(l, s)| l[0] + (l[1] - l[0]) * (threshold - s[0]) / (s[1] - s[0]))
        .min_by(|a, b| a.abs().total_cmp(&b.abs()))
}

/// Spearman's rank correlation of λ and f's score in a series; `None` where all scores are equal.
pub fn monotony(series: &ShiftSeries) -> Option<f64> {
    let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    metrics::spearman(&wide(&series.lambdas), &wide(&series.scores))
}

/// An edit along α that a series and its calibration share.
struct Edit<'a> {
    direction: &'a Direction,
    /// The style inputs edited; `None` for all.
    within: Option<Span<usize>>,
    /// L of the generator.
    latent_layers: usize,
}

impl Edit<'_> {
    /// λ in units of σ to steps in units of w.
    fn steps(&self, lambdas: &[f32]) -> Vec<f32> {
        lambdas.iter().map(|lambda| lambda * self.direction.sigma).collect()
    }
    fn shift<'a>(&'a self, steps: &'a [f32]) -> Result<Shift<'a>> {
        Shift::new(self.direction.step(), steps)?.within(self.within.clone())
    }
    /// `w + λ σ α` for one code.
    fn codes(&self, w: &LatentCodes, lambdas: &[f32]) -> Result<LatentCodes> {
        self.shift(&self.steps(lambdas))?.codes(w, self.latent_layers)
    }
}

/// c(w) for each code; a code of W+ is judged by the mean of its rows where the direction is one of W.
fn latent_scores(direction: &Direction, w: &LatentCodes) -> Result<Option<Vec<f32>>> {
    if direction.slope == 0.0 {
        return Ok(None);
    }
    let [n, rows, d] = w.shape();
    if rows == direction.layers() || direction.layers() != 1 {
        return direction.classify(w).map(Some);
    }
    let mean = (0..n).flat_map(|i| {
        let code = w.code(i);
        (0..d).map(move |j| (0..rows).map(|r| code[r * d + j]).sum::<f32>() / rows as f32)
    });
    direction.classify(&LatentCodes::new([n, 1, d], mean.collect())?).map(Some)
}

/// f's score of the target class on G(w) for each of `codes`, in batches.
fn score(
    codes: &LatentCodes,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
    monitor: &dyn Monitor,
) -> Result<Vec<f32>> {
    let mut scores = Vec::with_capacity(codes.len());
    for from in (0..codes.len()).step_by(BATCH) {
        monitor.check()?;
        let images = generator.synthesize(&codes.slice(from, (from + BATCH).min(codes.len())))?;
        scores.extend(predictor.predict(&images)?.class(target.class)?);
    }
    Ok(scores)
}

/// The pictures of one series and f's score of the target class on each, in batches.
fn render(
    w: &LatentCodes,
    lambdas: &[f32],
    edit: &Edit<'_>,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
    monitor: &dyn Monitor,
) -> Result<(Images, Vec<f32>)> {
    let (mut pictures, mut scores) = (Vec::new(), Vec::with_capacity(lambdas.len()));
    for steps in edit.steps(lambdas).chunks(BATCH) {
        monitor.check()?;
        let images = generator.series(w, &edit.shift(steps)?)?;
        scores.extend(predictor.predict(&images)?.class(target.class)?);
        pictures.push(images);
    }
    Ok((Images::concat(&pictures)?, scores))
}

/// One series per image of `x`.
///
/// # Errors
/// [`Error::Unsupported`] if the context has no latent space; or if a component fails.
pub fn latent_shift(
    cx: &mut Context<'_>,
    x: &Images,
    target: &Target,
    params: &LatentShiftParams,
) -> Result<Vec<ShiftSeries>> {
    let Some(latent) = cx.latent.as_mut() else {
        return Err(Error::Unsupported(
            "latent-shift needs a latent space: add [generator], [encoder] and [direction] to the manifest"
                .into(),
        ));
    };
    let w = latent.encoder.encode(x)?;
    if w.len() != x.len() {
        return Err(Error::Shape {
            what: "codes from the encoder".into(),
            expected: format!("[{}, L, D]", x.len()),
            found: w.shape().to_vec(),
        });
    }
    let direction = latent.direction;
    let latent_scores = latent_scores(direction, &w)?;
    let codes: Vec<LatentCodes> = (0..w.len()).map(|i| w.slice(i, i + 1)).collect();
    let latent_layers = latent.generator.info().latent_layers;
    let edit = Edit { direction, within: params.layers.of(latent_layers)?, latent_layers };

    let search = Search { levels: &params.levels, limit: params.limit, threshold: params.threshold };
    let mut ask = |codes: &[LatentCodes]| {
        let joined = LatentCodes::concat(codes)?;
        score(&joined, latent.generator, cx.predictor, target, cx.monitor)
    };
    let found = search.run(&codes, &edit, &mut ask)?;
    let series = match params.range {
        Range::Fixed(r) => vec![grid(params.steps, r); codes.len()],
        Range::Levels => found.iter().map(|f| at_levels(&f.calibration)).collect(),
        Range::Calibrated => {
            let ranges = ranges(&codes, &found, &edit, &search, &mut ask)?;
            ranges.into_iter().map(|r| grid(params.steps, r)).collect()
        }
    };
    let all = codes.iter().zip(series).zip(found).enumerate();
    all.map(|(i, ((code, lambdas), found))| {
        let (images, scores) =
            render(code, &lambdas, &edit, latent.generator, cx.predictor, target, cx.monitor)?;
        let origin = lambdas.iter().position(|l| *l == 0.0).unwrap_or(0);
        Ok(ShiftSeries {
            lambdas,
            images,
            scores,
            code: code.as_slice().to_vec(),
            origin,
            latent_score: latent_scores.as_ref().map(|s| s[i]),
            calibration: Some(found.calibration),
        })
    })
    .collect()
}

/// The range of each series: wide enough to hold the flip (see the module's page). Where the search found none, f is
/// asked outward from its ends, one σ at a time.
fn ranges(
    codes: &[LatentCodes],
    found: &[calibrate::Found],
    edit: &Edit<'_>,
    search: &Search<'_>,
    score: calibrate::Score<'_>,
) -> Result<Vec<f32>> {
    let most = MAX_RANGE.max(search.limit);
    let around = |at: f32| (MARGIN * at.abs()).clamp(MIN_RANGE, most);
    let mut ranges: Vec<f32> = found.iter().map(|f| f.calibration.flip.map_or(most, around)).collect();
    // The open images: index, scores at the inner edge on the low and the high side.
    let mut open: Vec<(usize, f32, f32)> = found
        .iter()
        .enumerate()
        .filter(|(_, f)| f.calibration.flip.is_none())
        .map(|(i, f)| (i, f.scores[0], f.scores[f.scores.len() - 1]))
        .collect();
    let mut inner = search.limit;
    while inner < most && !open.is_empty() {
        let outer = (inner + 1.0).min(most);
        let probes = open
            .iter()
            .map(|(i, ..)| edit.codes(&codes[*i], &[-outer, outer]))
            .collect::<Result<Vec<_>>>()?;
        let scores = score(&probes)?;
        let mut still = Vec::new();
        for ((i, low, high), s) in open.into_iter().zip(scores.chunks_exact(2)) {
            let sides = [
                flip(&[-outer, -inner], &[s[0], low], search.threshold),
                flip(&[inner, outer], &[high, s[1]], search.threshold),
            ];
            match sides.into_iter().flatten().min_by(|a, b| a.abs().total_cmp(&b.abs())) {
                Some(at) => ranges[i] = around(at),
                None => still.push((i, s[0], s[1])),
            }
        }
        (open, inner) = (still, outer);
    }
    Ok(ranges)
}

/// The built-in explainer.
#[derive(Debug, Clone)]
pub struct LatentShift {
    params: LatentShiftParams,
}

impl LatentShift {
    /// An explainer with these parameters.
    pub fn new(params: LatentShiftParams) -> Self {
        Self { params }
    }
}

impl Explainer for LatentShift {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        let threshold = self.params.threshold;
        Ok(latent_shift(cx, x, target, &self.params)?
            .into_iter()
            .map(|series| {
                let within = |r: f32| format!("within ±{r:.2} σ");
                let (range, shown) = match self.params.range {
                    Range::Levels => {
                        let shown = within(self.params.limit);
                        (format!("levels reached {shown}"), shown)
                    }
                    _ => {
                        let r = series.lambdas[series.lambdas.len() - 1];
                        (format!("±{r:.2} σ"), within(r))
                    }
                };
                let mut notes = vec![("range".to_owned(), range)];
                if self.params.layers != Layers::All {
                    notes.push(("layers".into(), self.params.layers.to_string()));
                }
                if flip(&series.lambdas, &series.scores, threshold).is_none() {
                    notes.push(("crossing".into(), format!("f does not cross {threshold} {shown}")));
                }
                vec![Explanation::Shift { title: TITLE.into(), series, notes }]
            })
            .collect())
    }
}

#[cfg(test)]
mod tests;

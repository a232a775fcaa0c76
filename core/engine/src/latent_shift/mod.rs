//! The latent shift: G(w + λ σ α) for a range of λ, with f's score under each picture (Schutte et al. 2021, section
//! 2.3).
//!
//! λ is in units of σ, the spread of the training codes along α. A series has an odd number of equally spaced steps
//! from `-r` to `r`, so that λ = 0, the reconstruction G(E(x)), is its middle.
//!
//! `range = "calibrated"` chooses r for each image: f is asked at λ = ±1, ±2, … ±6 outward until it crosses the
//! threshold on either side; with λ* the crossing (linear between the two neighbours), `r = clamp(1.25 |λ*|, 2, 6)`.
//! So the crossing lies well inside the series, yet an image that flips at once is still shown over ±2 σ. Where f
//! does not cross within ±6 σ, r is 6: further out codes no longer look like any that the generator was trained on.
//!
//! `layers` confines the shift to some of the generator's style inputs, as style mixing does: what changes then is of
//! the scale that those inputs draw ([`Layers`]).

mod layers;

pub use layers::Layers;

use crate::direction::BATCH;
use crate::metrics;
use serde::Deserialize;
use shiftlens_api::{
    Context, Direction, Error, Explainer, Explanation, Generator, Images, LatentCodes, Monitor, Predictor,
    Result, Shift, ShiftSeries, Target,
};
use std::ops::Range as Span;

/// Smallest calibrated range in σ.
pub const MIN_RANGE: f32 = 2.0;
/// Largest calibrated range in σ.
pub const MAX_RANGE: f32 = 6.0;
/// A calibrated range is the crossing times this.
const MARGIN: f32 = 1.25;

/// `params` of `kind = "latent-shift"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentShiftParams {
    /// Pictures in the series; odd, at least 3.
    pub steps: usize,
    /// From where to where.
    pub range: Range,
    /// Score of the target class at which f changes its mind.
    pub threshold: f32,
    /// Which of the generator's style inputs the shift edits.
    pub layers: Layers,
}

/// From where to where λ goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Chosen for each image so that f crosses the threshold if it can.
    Calibrated,
    /// `-r ..= r` in units of σ.
    Fixed(f32),
}

impl Default for LatentShiftParams {
    fn default() -> Self {
        Self { steps: 9, range: Range::Calibrated, threshold: 0.5, layers: Layers::All }
    }
}

impl LatentShiftParams {
    /// Decodes and checks `params`; the threshold is the study's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value, threshold: f32) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            steps: Option<usize>,
            range: Option<serde_json::Value>,
            layers: Option<serde_json::Value>,
        }
        let raw: Raw = crate::registry::decode(params)?;
        let steps = raw.steps.unwrap_or(9);
        if steps < 3 || steps.is_multiple_of(2) {
            return Err(Error::Invalid(format!(
                "`steps` is {steps}, expected an odd number of at least 3, so that the middle picture is λ = 0 (try {})",
                (steps + 1).max(3)
            )));
        }
        let range = match &raw.range {
            None => Range::Calibrated,
            Some(serde_json::Value::String(s)) if s == "calibrated" => Range::Calibrated,
            Some(v) => match v.as_f64() {
                Some(r) if r.is_finite() && r > 0.0 => Range::Fixed(r as f32),
                _ => {
                    return Err(Error::Invalid(format!(
                        "`range` is {v}, expected \"calibrated\" or a positive number in units of sigma"
                    )));
                }
            },
        };
        let layers = raw.layers.as_ref().map_or(Ok(Layers::All), Layers::from_json)?;
        Ok(Self { steps, range, threshold, layers })
    }
}

/// `steps` values from `-r` to `r`; the middle one is exactly 0.
fn grid(steps: usize, r: f32) -> Vec<f32> {
    let o = (steps / 2) as f32;
    (0..steps).map(|i| r * (i as f32 - o) / o).collect()
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

/// Spearman's rank correlation of λ and f's score; `None` where all scores are equal.
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
        Shift::new(self.direction.alpha(), steps)?.within(self.within.clone())
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

    let ranges = match params.range {
        Range::Fixed(r) => vec![r; codes.len()],
        Range::Calibrated => {
            let mut ask = |codes: &[LatentCodes]| {
                let joined = LatentCodes::concat(codes)?;
                score(&joined, latent.generator, cx.predictor, target, cx.monitor)
            };
            calibrate(&codes, &edit, params.threshold, &mut ask)?
        }
    };
    codes
        .iter()
        .zip(ranges)
        .enumerate()
        .map(|(i, (code, r))| {
            let lambdas = grid(params.steps, r);
            let (images, scores) =
                render(code, &lambdas, &edit, latent.generator, cx.predictor, target, cx.monitor)?;
            Ok(ShiftSeries {
                lambdas,
                images,
                scores,
                code: code.as_slice().to_vec(),
                origin: params.steps / 2,
                latent_score: latent_scores.as_ref().map(|s| s[i]),
            })
        })
        .collect()
}

/// The range of each code, searching outward (see the module's page).
fn calibrate(
    codes: &[LatentCodes],
    edit: &Edit<'_>,
    threshold: f32,
    score: &mut dyn FnMut(&[LatentCodes]) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let start = score(codes)?;
    let mut ranges = vec![MAX_RANGE; codes.len()];
    // The open images: index, λ-scores so far on the low and the high side.
    let mut open: Vec<(usize, f32, f32)> = start.iter().enumerate().map(|(i, s)| (i, *s, *s)).collect();
    for ring in 1..=MAX_RANGE as usize {
        let (outer, inner) = (ring as f32, ring as f32 - 1.0);
        let probes = open
            .iter()
            .map(|(i, ..)| edit.codes(&codes[*i], &[-outer, outer]))
            .collect::<Result<Vec<_>>>()?;
        if probes.is_empty() {
            break;
        }
        let scores = score(&probes)?;
        let mut still = Vec::new();
        for ((i, low, high), s) in open.into_iter().zip(scores.chunks_exact(2)) {
            let sides = [
                flip(&[-outer, -inner], &[s[0], low], threshold),
                flip(&[inner, outer], &[high, s[1]], threshold),
            ];
            match sides.into_iter().flatten().min_by(|a, b| a.abs().total_cmp(&b.abs())) {
                Some(at) => ranges[i] = (MARGIN * at.abs()).clamp(MIN_RANGE, MAX_RANGE),
                None => still.push((i, s[0], s[1])),
            }
        }
        open = still;
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
                let r = series.lambdas[series.lambdas.len() - 1];
                let mut notes = vec![("range".to_owned(), format!("±{r:.2} σ"))];
                if self.params.layers != Layers::All {
                    notes.push(("layers".into(), self.params.layers.to_string()));
                }
                if flip(&series.lambdas, &series.scores, threshold).is_none() {
                    notes.push(("crossing".into(), format!("f does not cross {threshold} within ±{r:.2} σ")));
                }
                vec![Explanation::Shift { title: "Latent shift".into(), series, notes }]
            })
            .collect())
    }
}

#[cfg(test)]
mod tests;

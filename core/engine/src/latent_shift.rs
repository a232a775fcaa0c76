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

use crate::direction::BATCH;
use crate::metrics;
use serde::Deserialize;
use shiftlens_api::{
    Context, Direction, Error, Explainer, Explanation, Generator, Images, LatentCodes, Monitor, Predictor,
    Result, ShiftSeries, Target,
};

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
        Self { steps: 9, range: Range::Calibrated, threshold: 0.5 }
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
        Ok(Self { steps, range, threshold })
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

/// `w + λ σ α` for one code. A direction of W moves every row of a code of W+ alike.
fn shift(direction: &Direction, w: &LatentCodes, lambdas: &[f32]) -> Result<LatentCodes> {
    let [_, rows, d] = w.shape();
    if rows == direction.layers() || direction.layers() != 1 || d != direction.alpha().len() {
        return direction.shift(w, lambdas);
    }
    let mut data = Vec::with_capacity(lambdas.len() * rows * d);
    for lambda in lambdas {
        let step = lambda * direction.sigma;
        for row in w.as_slice().chunks_exact(d) {
            data.extend(row.iter().zip(direction.alpha()).map(|(w, a)| w + step * a));
        }
    }
    LatentCodes::new([lambdas.len(), rows, d], data)
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

/// Pictures of `codes` and f's score of the target class on each, in batches.
fn render(
    codes: &LatentCodes,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
    monitor: &dyn Monitor,
) -> Result<(Images, Vec<f32>)> {
    let (mut pictures, mut scores) = (Vec::new(), Vec::with_capacity(codes.len()));
    for from in (0..codes.len()).step_by(BATCH) {
        monitor.check()?;
        let images = generator.synthesize(&codes.slice(from, (from + BATCH).min(codes.len())))?;
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

    let ranges = match params.range {
        Range::Fixed(r) => vec![r; codes.len()],
        Range::Calibrated => {
            let mut score = |codes: &[LatentCodes]| {
                let joined = LatentCodes::concat(codes)?;
                render(&joined, latent.generator, cx.predictor, target, cx.monitor).map(|(_, s)| s)
            };
            calibrate(&codes, direction, params.threshold, &mut score)?
        }
    };
    let lambdas: Vec<Vec<f32>> = ranges.iter().map(|r| grid(params.steps, *r)).collect();
    let shifted =
        codes.iter().zip(&lambdas).map(|(w, l)| shift(direction, w, l)).collect::<Result<Vec<_>>>()?;
    let (pictures, scores) =
        render(&LatentCodes::concat(&shifted)?, latent.generator, cx.predictor, target, cx.monitor)?;
    let steps = params.steps;
    Ok(lambdas
        .into_iter()
        .enumerate()
        .map(|(i, lambdas)| ShiftSeries {
            lambdas,
            images: pictures.slice(i * steps, (i + 1) * steps),
            scores: scores[i * steps..(i + 1) * steps].to_vec(),
            code: w.code(i).to_vec(),
            origin: steps / 2,
            latent_score: latent_scores.as_ref().map(|s| s[i]),
        })
        .collect())
}

/// The range of each code, searching outward (see the module's page).
fn calibrate(
    codes: &[LatentCodes],
    direction: &Direction,
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
            .map(|(i, ..)| shift(direction, &codes[*i], &[-outer, outer]))
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
                if flip(&series.lambdas, &series.scores, threshold).is_none() {
                    notes.push(("crossing".into(), format!("f does not cross {threshold} within ±{r:.2} σ")));
                }
                vec![Explanation::Shift { title: "Latent shift".into(), series, notes }]
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{D, LinearEncoder, LinearGenerator, PixelPredictor};
    use shiftlens_api::{LatentSpace, Silent};

    fn axis(sigma: f32) -> Direction {
        let mut alpha = vec![0.0; D];
        alpha[0] = 1.0;
        Direction::new(alpha, 1, sigma, 0.0).unwrap()
    }

    fn series(w0: &[f32], gain: f32, params: &LatentShiftParams, direction: &Direction) -> Vec<ShiftSeries> {
        let mut data = vec![0.0; w0.len() * D];
        w0.iter().enumerate().for_each(|(i, v)| data[i * D] = *v);
        let x = LinearGenerator.synthesize(&LatentCodes::new([w0.len(), 1, D], data).unwrap()).unwrap();
        let (mut generator, mut encoder) = (LinearGenerator, LinearEncoder);
        let mut predictor = PixelPredictor { gain, bias: 0.0 };
        let mut cx = Context {
            predictor: &mut predictor,
            latent: Some(LatentSpace { generator: &mut generator, encoder: &mut encoder, direction }),
            monitor: &Silent,
            seed: 0,
        };
        latent_shift(&mut cx, &x, &Target { class: 1, name: "present".into() }, params).unwrap()
    }

    #[test]
    fn scores_follow_the_closed_form() {
        let params = LatentShiftParams { steps: 5, range: Range::Fixed(2.0), threshold: 0.5 };
        let s = &series(&[0.5], 1.0, &params, &axis(0.8))[0];
        assert_eq!(s.lambdas, [-2.0, -1.0, 0.0, 1.0, 2.0]);
        assert_eq!(s.origin, 2);
        for (lambda, score) in s.lambdas.iter().zip(&s.scores) {
            let expected = 1.0 / (1.0 + (-(0.5 + 0.8 * lambda)).exp());
            assert!((score - expected).abs() < 1e-5, "{lambda}: {score} {expected}");
        }
        assert!((s.code[0] - 0.5).abs() < 1e-5 && s.latent_score.is_none());
        assert_eq!(monotony(s), Some(1.0));
        // The logit is linear, so between λ = -1 (0.4256) and 0 (0.6225) the crossing is near -0.625.
        assert!((flip(&s.lambdas, &s.scores, 0.5).unwrap() + 0.625).abs() < 0.02);
    }

    #[test]
    fn calibration_puts_the_crossing_inside() {
        let params = LatentShiftParams::default();
        let all = series(&[0.1, -2.0, 3.0], 5.0, &params, &axis(1.0));
        // w = 0.1: crossing at -0.1, range 2. w = -2: at 2, range about 2.5. w = 3: at -3, about 3.75.
        let ends: Vec<f32> = all.iter().map(|s| *s.lambdas.last().unwrap()).collect();
        assert_eq!(ends[0], MIN_RANGE);
        assert!((ends[1] - 2.5).abs() < 0.7 && (ends[2] - 3.75).abs() < 0.7, "{ends:?}");
        for s in &all {
            assert!(s.lambdas.len() == 9 && s.lambdas[4] == 0.0);
            assert!(flip(&s.lambdas, &s.scores, 0.5).is_some());
        }
        let still = &series(&[0.3], 0.0, &params, &axis(1.0))[0];
        assert_eq!(still.lambdas[8], MAX_RANGE);
        assert_eq!(monotony(still), None);
    }

    #[test]
    fn a_series_does_not_depend_on_its_neighbours() {
        let p = LatentShiftParams::default();
        let many = series(&[0.1, -2.0, 3.0], 5.0, &p, &axis(1.0));
        assert_eq!(series(&[3.0], 5.0, &p, &axis(1.0))[0], many[2]);
    }

    #[test]
    fn codes_of_w_plus_move_row_by_row() {
        let w = LatentCodes::new([1, 2, D], (0..2 * D).map(|v| v as f32).collect()).unwrap();
        let s = shift(&axis(2.0), &w, &[1.0]).unwrap();
        assert_eq!((s.code(0)[0], s.code(0)[D], s.code(0)[1]), (2.0, 8.0, 1.0));
        let mut d = axis(1.0);
        (d.slope, d.intercept) = (1.0, -3.0);
        assert!((latent_scores(&d, &w).unwrap().unwrap()[0] - 0.5).abs() < 1e-6, "mean of rows is 3");
    }

    #[test]
    fn flips_are_the_nearest_to_zero() {
        let nearest = flip(&[-2.0, -1.0, 0.0, 1.0], &[0.9, 0.1, 0.2, 0.6], 0.5).unwrap();
        assert!((nearest - 0.75).abs() < 1e-6);
        assert_eq!(flip(&[-1.0, 0.0, 1.0], &[0.1, 0.2, 0.3], 0.5), None);
    }

    #[test]
    fn parameters_are_checked() {
        let from = |s: &str| LatentShiftParams::from_json(&serde_json::from_str(s).unwrap(), 0.5);
        assert_eq!(from("{}").unwrap(), LatentShiftParams::default());
        assert_eq!(from(r#"{"range": 3}"#).unwrap().range, Range::Fixed(3.0));
        assert!(from(r#"{"steps": 8}"#).unwrap_err().to_string().contains("try 9"));
        assert!(from(r#"{"range": "auto"}"#).unwrap_err().to_string().contains("calibrated"));
        assert!(from(r#"{"stepz": 8}"#).unwrap_err().to_string().contains("unknown field `stepz`"));
    }
}

//! The trust gate: what reconstruction alone does to an image, and a second try where that is too much.
//!
//! A series starts at G(E(x)), not at x. Where f thinks otherwise of the two, or they differ to the eye, the series speaks
//! of another image than the user's. So f(G(E(x))) and the pixels' difference stand on every case; where one of them
//! passes a threshold of the manifest's `[trust]`, another method looks for a code, the better of both is taken, and a
//! case that still misses a threshold is flagged.

use super::case::fitted;
use crate::direction::BATCH;
use crate::manifest::TrustSpec;
use crate::registry::{LatentParts, Refine};
use shiftlens_api::record::{Reconstruction, RetryRecord, TrustRecord};
use shiftlens_api::{Encoder, Error, Generator, Images, LatentCodes, Monitor, Predictor, Result, Target};
use std::time::Instant;

/// The thresholds that a reconstruction misses, in words.
fn reasons(r: &Reconstruction, spec: Option<&TrustSpec>) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    let gap = spec.max_gap.filter(|most| r.gap > *most).map(|most| {
        format!("f(G(E(x))) = {:.3} is {:.3} away from f(x), more than max-gap = {most}", r.score, r.gap)
    });
    let error = spec.max_error.filter(|most| r.rmse > *most).map(|most| {
        format!("G(E(x)) differs from x by {:.3} (root mean square), more than max-error = {most}", r.rmse)
    });
    gap.into_iter().chain(error).collect()
}

/// Root mean square difference of the pixels of image `i` of `x` and of `other`.
fn rmse(x: &Images, other: &Images, i: usize) -> f32 {
    let (a, b) = (x.image(i), other.image(i));
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt() as f32
}

/// What the codes `w` make of `x`, on which f's scores are `scores`.
fn reconstruct(
    x: &Images,
    scores: &[f32],
    w: &LatentCodes,
    generator: &mut dyn Generator,
    predictor: &mut dyn Predictor,
    target: &Target,
) -> Result<Vec<Reconstruction>> {
    let mut out = Vec::with_capacity(x.len());
    for from in (0..x.len()).step_by(BATCH) {
        let to = (from + BATCH).min(x.len());
        let images = generator.synthesize(&w.slice(from, to))?;
        let again = predictor.predict(&images)?.class(target.class)?;
        let x = fitted(&x.slice(from, to), &images)?;
        out.extend(again.iter().zip(&scores[from..to]).enumerate().map(|(i, (score, before))| {
            Reconstruction { score: *score, gap: (before - score).abs(), rmse: rmse(&x, &images, i) }
        }));
    }
    Ok(out)
}

/// The codes of `x` that its explanations rest on, one `[1, L, D]` for each image, and what is to be known of them.
/// `scores` are f's on `x`.
///
/// # Errors
/// If a component fails, or answers codes of another number.
#[allow(clippy::too_many_arguments)]
pub(super) fn encode(
    x: &Images,
    scores: &[f32],
    latent: &mut LatentParts,
    predictor: &mut dyn Predictor,
    refiner: Option<&mut (dyn Refine + '_)>,
    spec: Option<&TrustSpec>,
    target: &Target,
    monitor: &dyn Monitor,
) -> Result<Vec<(LatentCodes, TrustRecord)>> {
    let w = latent.encoder.encode(x)?;
    same_number("codes from the encoder", &w, x)?;
    let generator = latent.generator.as_mut();
    let first = reconstruct(x, scores, &w, generator, predictor, target)?;
    let mut out: Vec<(LatentCodes, TrustRecord)> = first
        .into_iter()
        .enumerate()
        .map(|(i, reconstruction)| {
            let reasons = reasons(&reconstruction, spec);
            (w.slice(i, i + 1), TrustRecord { reconstruction, reasons, retry: None })
        })
        .collect();
    let flagged: Vec<usize> = (0..out.len()).filter(|i| out[*i].1.flagged()).collect();
    let (Some(refiner), false) = (refiner, flagged.is_empty()) else { return Ok(out) };
    let method = spec.and_then(|s| s.retry.as_ref()).map(|r| r.kind.to_string()).unwrap_or_default();
    monitor.check()?;
    let started = Instant::now();
    let part = Images::concat(&flagged.iter().map(|i| x.slice(*i, i + 1)).collect::<Vec<_>>())?;
    let start = LatentCodes::concat(&flagged.iter().map(|i| w.slice(*i, i + 1)).collect::<Vec<_>>())?;
    let better = refiner.refine(&part, &start, monitor).map_err(|e| match e {
        Error::Cancelled => Error::Cancelled,
        e => Error::component(format!("retry {method}"), e),
    })?;
    same_number("codes from the retry", &better, &part)?;
    let seconds = started.elapsed().as_secs_f64() / flagged.len() as f64;
    let part_scores: Vec<f32> = flagged.iter().map(|i| scores[*i]).collect();
    let second = reconstruct(&part, &part_scores, &better, generator, predictor, target)?;
    for (j, (i, after)) in flagged.into_iter().zip(second).enumerate() {
        let (code, record) = &mut out[i];
        let before = record.reconstruction;
        let now = reasons(&after, spec);
        let kept = (now.len(), after.gap) < (record.reasons.len(), before.gap);
        if kept {
            (*code, record.reconstruction, record.reasons) = (better.slice(j, j + 1), after, now);
        }
        record.retry = Some(RetryRecord { method: method.clone(), before, after, kept, seconds });
    }
    Ok(out)
}

fn same_number(what: &str, w: &LatentCodes, x: &Images) -> Result<()> {
    if w.len() == x.len() {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("[{}, L, D]", x.len()),
        found: w.shape().to_vec(),
    })
}

/// The encoder as explainers see it: for the images at hand it answers the codes that the gate chose, for others those of
/// the study's encoder.
pub(super) struct Known<'a> {
    pub encoder: &'a mut dyn Encoder,
    pub images: &'a Images,
    pub codes: &'a LatentCodes,
}

impl Encoder for Known<'_> {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let same_shape = x.shape()[1..] == self.images.shape()[1..];
        // In the same order is the usual case.
        let place = |i: usize| {
            let n = self.images.len();
            (0..n).map(|j| (i + j) % n).find(|j| same_shape && self.images.image(*j) == x.image(i))
        };
        match (0..x.len()).map(place).collect::<Option<Vec<_>>>() {
            Some(places) if !places.is_empty() => {
                let codes: Vec<LatentCodes> =
                    places.into_iter().map(|j| self.codes.slice(j, j + 1)).collect();
                LatentCodes::concat(&codes)
            }
            _ => self.encoder.encode(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{ComponentSpec, RawManifest};
    use crate::testing::{D, LinearEncoder, LinearGenerator, PixelPredictor, SIDE};
    use shiftlens_api::Silent;

    /// Codes that are off by `self` in coordinate 0.
    struct Off(f32);
    impl Encoder for Off {
        fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
            let w = LinearEncoder.encode(x)?;
            let shifted = w.as_slice().iter().enumerate();
            LatentCodes::new(
                w.shape(),
                shifted.map(|(p, v)| if p % D == 0 { v + self.0 } else { *v }).collect(),
            )
        }
    }
    impl Refine for Off {
        fn refine(&mut self, x: &Images, start: &LatentCodes, _: &dyn Monitor) -> Result<LatentCodes> {
            assert_eq!(x.len(), start.len());
            self.encode(x)
        }
    }

    const F: PixelPredictor = PixelPredictor { gain: 1.0, bias: 0.0 };

    fn target() -> Target {
        Target { class: 1, name: "present".into() }
    }

    fn spec(max_gap: Option<f32>, max_error: Option<f32>) -> TrustSpec {
        TrustSpec { max_gap, max_error, retry: Some(retry()) }
    }

    /// A component called `logistic`, as no built-in retry is at hand that needs no model.
    fn retry() -> ComponentSpec {
        let text = "schema = 1\nname = \"a\"\n[data]\nimages = \"i\"\n[predictor]\nkind = \"onnx\"\npath = \"f\"\n\
                    [generator]\nkind = \"onnx\"\npath = \"g\"\n[encoder]\nkind = \"onnx\"\npath = \"e\"\n\
                    [[explainer]]\nkind = \"latent-shift\"\n";
        let study =
            RawManifest::parse("a.toml", text, &[]).unwrap().check(std::path::Path::new("a.toml")).unwrap();
        study.direction.unwrap().finder
    }

    fn images(w0: &[f32]) -> Images {
        let data = w0.iter().flat_map(|v| [*v, 0.5, -0.5, 0.0, 1.0, -1.0]).collect();
        LinearGenerator.synthesize(&LatentCodes::new([w0.len(), 1, D], data).unwrap()).unwrap()
    }

    fn run(
        w0: &[f32],
        encoder: f32,
        retry: Option<f32>,
        spec: Option<&TrustSpec>,
    ) -> Vec<(LatentCodes, TrustRecord)> {
        let x = images(w0);
        let scores = F.clone().predict(&x).unwrap().class(1).unwrap();
        let mut latent = LatentParts {
            generator: Box::new(LinearGenerator),
            encoder: Box::new(Off(encoder)),
            finder: Box::new(crate::direction::Logistic::new(Default::default())),
        };
        let mut off = retry.map(Off);
        let refiner = off.as_mut().map(|r| r as &mut dyn Refine);
        encode(&x, &scores, &mut latent, &mut F.clone(), refiner, spec, &target(), &Silent).unwrap()
    }

    fn sigmoid(v: f32) -> f32 {
        1.0 / (1.0 + (-v).exp())
    }

    #[test]
    fn gap_and_error_in_closed_form() {
        let all = run(&[0.0, 2.0], 0.8, None, None);
        for ((code, r), w) in all.iter().zip([0.0f32, 2.0]) {
            let gap = sigmoid(w + 0.8) - sigmoid(w);
            assert!((r.reconstruction.gap - gap).abs() < 1e-5 && !r.flagged());
            assert!((r.reconstruction.score - sigmoid(w + 0.8)).abs() < 1e-5);
            // 11 of 64 pixels show coordinate 0, a tenth of it.
            let rmse = (0.08f32.powi(2) * 11.0 / (SIDE * SIDE) as f32).sqrt();
            assert!((r.reconstruction.rmse - rmse).abs() < 1e-5, "{} {rmse}", r.reconstruction.rmse);
            assert!((code.code(0)[0] - w - 0.8).abs() < 1e-4);
        }
    }

    #[test]
    fn a_flagged_image_is_tried_again_and_the_better_code_stays() {
        // The gap is 0.19 at w = 0 and 0.06 at w = 2: only the first passes 0.1.
        let s = spec(Some(0.1), None);
        let all = run(&[0.0, 2.0], 0.8, Some(0.1), Some(&s));
        let first = &all[0].1;
        let retry = first.retry.as_ref().unwrap();
        assert!(!first.flagged() && retry.kept && retry.method == "logistic");
        assert!(retry.before.gap > 0.18 && (retry.after.gap - (sigmoid(0.1) - 0.5)).abs() < 1e-5);
        assert_eq!(first.reconstruction, retry.after);
        assert!((all[0].0.code(0)[0] - 0.1).abs() < 1e-4 && (all[1].0.code(0)[0] - 2.8).abs() < 1e-4);
        assert!(all[1].1.retry.is_none() && !all[1].1.flagged());
        // It helps, but not enough: the code is taken, the flag stays.
        let still = &run(&[0.0], 0.8, Some(-0.6), Some(&s))[0].1;
        assert!(still.flagged() && still.retry.as_ref().unwrap().kept);
        // It makes things worse: the encoder's code stays.
        let (code, worse) = &run(&[0.0], 0.8, Some(1.5), Some(&s))[0];
        assert!(worse.flagged() && !worse.retry.as_ref().unwrap().kept);
        assert!(
            (code.code(0)[0] - 0.8).abs() < 1e-4
                && worse.reconstruction == worse.retry.as_ref().unwrap().before
        );
        let without = &run(&[0.0], 0.8, None, Some(&s))[0].1;
        assert!(without.retry.is_none() && without.reasons[0].contains("more than max-gap = 0.1"));
        // Pixels count too, each threshold in its own words.
        let both = &run(&[0.0], 0.8, None, Some(&spec(Some(0.1), Some(0.03))))[0].1;
        assert_eq!(both.reasons.len(), 2);
        assert!(
            both.reasons[1].contains("(root mean square), more than max-error = 0.03"),
            "{:?}",
            both.reasons
        );
    }

    #[test]
    fn explainers_are_given_the_chosen_codes() {
        let x = images(&[0.0, 1.0, 2.0]);
        let codes = LatentCodes::new([3, 1, D], vec![7.0; 3 * D]).unwrap();
        let codes =
            LatentCodes::concat(&[codes.slice(0, 2), LatentCodes::new([1, 1, D], vec![9.0; D]).unwrap()])
                .unwrap();
        let mut known = Known { encoder: &mut LinearEncoder, images: &x, codes: &codes };
        assert_eq!(known.encode(&x).unwrap(), codes);
        assert_eq!(known.encode(&x.slice(2, 3)).unwrap().code(0)[0], 9.0);
        let other = images(&[0.0, -1.0]);
        assert_eq!(known.encode(&other).unwrap(), LinearEncoder.encode(&other).unwrap());
    }
}

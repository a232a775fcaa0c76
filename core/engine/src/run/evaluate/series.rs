//! The metrics of series: of the counterfactual at which f's decision changes first.

use super::super::case::fitted;
use super::sheet::{Key, Sheet};
use crate::latent_shift::Layers;
use crate::quality::FeatureSet;
use crate::registry::EvaluationParts;
use shiftlens_api::{Direction, Error, Images, LatentCodes, Result, Shift, ShiftSeries, Tensor};
use shiftlens_evaluation::Metric;
use shiftlens_evaluation::counterfactual::{self, Flip, Outcome, Series, Verdict};

/// A pixel counts as changed if a channel changes by more than this: a twentieth of the way from black to white.
const TOLERANCE: f64 = 0.05;
/// Score of its target from which the second classifier says yes.
const ORACLE_THRESHOLD: f32 = 0.5;

/// A series, and what is known about it.
pub struct Moved<'a> {
    /// The series.
    pub series: &'a ShiftSeries,
    /// What its codes moved along and in which style inputs; `None` for a series of a plugin, which alone knows it.
    pub edit: Option<(&'a Direction, Layers)>,
    /// L of the generator, for such an edit.
    pub latent_layers: usize,
}

/// What f says to the image itself.
#[derive(Clone, Copy)]
pub struct Decided<'a> {
    /// The image, `[1, C, H, W]`.
    pub image: &'a Images,
    /// f's score of the target on it.
    pub score: f32,
    /// f decides for the target from here on.
    pub threshold: f32,
}

/// What the series came to.
///
/// # Errors
/// As [`counterfactual::outcome`].
pub fn outcome(series: &ShiftSeries, decided: Decided<'_>) -> Result<Outcome> {
    counterfactual::outcome(&Series {
        lambdas: &series.lambdas,
        scores: &series.scores,
        origin: series.origin,
        image: decided.score,
        threshold: decided.threshold,
    })
}

/// The picture beyond the flip; `None` where there is no counterfactual.
///
/// # Errors
/// As [`counterfactual::outcome`].
pub fn counterfactual(series: &ShiftSeries, decided: Decided<'_>) -> Result<Option<Images>> {
    let flip = outcome(series, decided)?.flip();
    Ok(flip.map(|f| series.images.slice(f.index, f.index + 1)))
}

/// Euclidean distance of the codes of the counterfactual, at the flip, and of the reconstruction.
fn code_distance(moved: &Moved<'_>, flip: Flip) -> Result<Option<f64>> {
    let Some((direction, layers)) = moved.edit else { return Ok(None) };
    let d = direction.step().len() / direction.layers();
    let code = &moved.series.code;
    let w = LatentCodes::new([1, code.len() / d, d], code.clone())?;
    let steps = [0.0, flip.lambda as f32 * direction.sigma];
    let shift = Shift::new(direction.step(), &steps)?.within(layers.of(moved.latent_layers)?)?;
    let codes = shift.codes(&w, moved.latent_layers)?;
    counterfactual::distance(codes.code(0), codes.code(1)).map(Some)
}

/// The features of some images.
fn features(parts: &mut EvaluationParts, x: &[Images]) -> Result<Option<FeatureSet>> {
    let Some(network) = parts.features.as_deref_mut() else { return Ok(None) };
    FeatureSet::of(network, x.iter().cloned().map(Ok)).map(Some)
}

/// Keeps an image's features for the distances of sets.
///
/// # Errors
/// If the network fails.
pub fn keep_features(
    sheet: &mut Sheet<'_>,
    name: &str,
    x: &Images,
    parts: &mut EvaluationParts,
) -> Result<()> {
    let wanted = [Metric::Fid, Metric::Kid].iter().any(|m| sheet.spec.wants(*m));
    if let (true, Some(found)) = (wanted, features(parts, std::slice::from_ref(x))?) {
        let row = found.row(0).to_vec();
        sheet.arrays.push((format!("features.{name}"), Tensor::new(vec![row.len()], row)?));
    }
    Ok(())
}

/// The second classifier's word on a flip.
fn verdict(
    image: &Images,
    counterfactual: &Images,
    flip: Flip,
    parts: &mut EvaluationParts,
) -> Result<Option<Verdict>> {
    let Some(oracle) = parts.oracle.as_mut() else { return Ok(None) };
    let mut decides = |x: &Images| {
        let scores = oracle.predictor.predict(x)?.class(oracle.target.class)?;
        let score = scores.first().ok_or_else(|| Error::invalid("the oracle answers no score"))?;
        Ok::<bool, Error>(*score >= ORACLE_THRESHOLD)
    };
    Ok(Some(Verdict::new(decides(image)?, decides(counterfactual)?, flip.decision)))
}

/// Measures a series. Distances are those of the image, at the generator's size and with its channels, and the picture
/// beyond the flip; the counterfactuals of an image, for diversity, are all pictures that f decides otherwise.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn measure(
    sheet: &mut Sheet<'_>,
    method: &str,
    moved: &Moved<'_>,
    decided: Decided<'_>,
    parts: &mut EvaluationParts,
) -> Result<()> {
    let series = moved.series;
    let mut flip = None;
    let mut known = true;
    sheet.measure(method, [Key::of(Metric::FlipRate)], || {
        known = false;
        flip = outcome(series, decided)?.flip();
        known = true;
        Ok([Some(f64::from(u8::from(flip.is_some())))])
    })?;
    if !sheet.spec.wants(Metric::FlipRate) {
        match outcome(series, decided) {
            Ok(found) => flip = found.flip(),
            Err(e) => {
                sheet.remarks.push(format!("{method}: {e}"));
                known = false;
            }
        }
    }
    if !known {
        return Ok(());
    }
    sheet.measure(method, [Key::of(Metric::FlipLambda)], || Ok([flip.map(|f| f.lambda.abs())]))?;
    sheet.measure(method, [Key::of(Metric::FlipDistance)], || {
        Ok([match flip {
            Some(flip) => code_distance(moved, flip)?,
            None => None,
        }])
    })?;
    let pair = match flip {
        Some(f) => match fitted(decided.image, &series.images) {
            Ok(before) => Some((f, before, series.images.slice(f.index, f.index + 1))),
            Err(e) => {
                sheet.remarks.push(format!("{method}: {e}"));
                None
            }
        },
        None => None,
    };
    let keys = [
        Metric::ProximityL1,
        Metric::ProximityL2,
        Metric::ProximitySsim,
        Metric::ChangedShare,
        Metric::ChangeGini,
    ];
    sheet.measure(method, keys.map(Key::of), || {
        let Some((_, before, after)) = &pair else { return Ok([None; 5]) };
        let c = counterfactual::change(before, after, TOLERANCE)?;
        Ok([Some(c.l1), Some(c.l2), c.ssim, Some(c.changed), c.gini])
    })?;
    sheet.measure(method, [Key::of(Metric::Diversity)], || {
        let Some((flip, ..)) = &pair else { return Ok([None]) };
        let beyond = (0..series.scores.len())
            .filter(|i| (series.scores[*i] >= decided.threshold) == flip.decision)
            .map(|i| series.images.image(i));
        Ok([counterfactual::diversity(&beyond.collect::<Vec<_>>())?])
    })?;
    if parts.features.is_some() {
        sheet.measure(method, [Key::of(Metric::ProximityFeatures)], || {
            let Some((_, before, after)) = &pair else { return Ok([None]) };
            let Some(found) = features(parts, &[before.clone(), after.clone()])? else { return Ok([None]) };
            Ok([Some(counterfactual::distance(found.row(0), found.row(1))?)])
        })?;
        if let Some((.., after)) = &pair
            && let Err(e) = keep_features(sheet, method, after, parts)
        {
            sheet.remarks.push(format!("features of {method}: {e}"));
        }
    }
    if parts.oracle.is_some() {
        sheet.measure(method, [Metric::OracleAgreement, Metric::OracleSees].map(Key::of), || {
            let Some((flip, _, after)) = &pair else { return Ok([None; 2]) };
            let share = |b: bool| f64::from(u8::from(b));
            let word = verdict(decided.image, after, *flip, parts)?;
            Ok([word.map(|v| share(v.agrees_after)), word.and_then(|v| v.sees()).map(share)])
        })?;
    }
    Ok(())
}

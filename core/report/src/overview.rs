//! What the cases of a run have in common: distributions and curves, gathered while they are read one after another.

use crate::case::{DECISION, label};
use crate::plot::Curve;
use crate::{charts, number};
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::Result;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, RunRecord};

/// Bars of a histogram.
const BINS: usize = 20;
/// Places along λ at which the series are summarised.
const PLACES: usize = 41;
/// Share of the series that must reach a place for it to be drawn.
const REACHED: f64 = 0.5;

/// A plot on the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub title: String,
    pub help: String,
    /// What the plot says, for readers who do not see it.
    pub alt: String,
    pub svg: Value,
    /// Name and index of the colour of each curve.
    pub curves: Vec<(String, usize)>,
}

/// Numbers of all cases.
#[derive(Debug, Default)]
pub(crate) struct Overview {
    /// f(x), and the ground truth where it is known.
    scores: Vec<(f32, Option<bool>)>,
    /// f(G(E(x))) likewise.
    reconstructions: Vec<(f32, Option<bool>)>,
    /// λ and f of the first series of each case, λ never falling.
    series: Vec<Vec<(f64, f64)>>,
    /// λ at the flip; `None` where f does not change its mind.
    flips: Vec<Option<f32>>,
}

impl Overview {
    /// Takes a case in.
    pub(crate) fn push(&mut self, case: &CaseRecord) {
        self.scores.push((case.score, case.label));
        let shift = case.explanations.iter().find_map(|e| match e {
            ExplanationRecord::Shift { lambdas, scores, origin, flip, .. } => {
                Some((lambdas, scores, origin, flip))
            }
            ExplanationRecord::Heatmap { .. } => None,
        });
        if let Some((lambdas, scores, origin, flip)) = shift {
            self.reconstructions.push((scores[*origin], case.label));
            let point = |(l, s): (&f32, &f32)| (f64::from(*l), f64::from(*s));
            if lambdas.is_sorted() {
                self.series.push(lambdas.iter().zip(scores).map(point).collect());
            }
            self.flips.push(*flip);
        }
    }

    /// The plots that these cases allow.
    pub(crate) fn figures(&self, run: &RunRecord) -> Result<Vec<Figure>> {
        let mut out = Vec::new();
        out.extend(self.histogram(run)?);
        out.extend(self.roc()?);
        out.extend(self.response(run)?);
        out.extend(self.flip_histogram()?);
        Ok(out)
    }

    /// f(x) by ground truth.
    fn histogram(&self, run: &RunRecord) -> Result<Option<Figure>> {
        if self.scores.is_empty() {
            return Ok(None);
        }
        let of = |wanted: Option<bool>| -> Vec<f64> {
            self.scores.iter().filter(|s| s.1 == wanted).map(|s| f64::from(s.0)).collect()
        };
        let labelled = self.scores.iter().any(|s| s.1.is_some());
        let unknown = if labelled { "ground truth not known" } else { "all cases" };
        let parts = [
            (label(false, &run.classes, &run.target), 0, of(Some(false))),
            (label(true, &run.classes, &run.target), 1, of(Some(true))),
            (unknown.to_owned(), 2, of(None)),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|p| !p.2.is_empty()).collect();
        let groups: Vec<(usize, &[f64])> = parts.iter().map(|p| (p.1, p.2.as_slice())).collect();
        let inside = self.scores.iter().all(|s| (0.0..=1.0).contains(&s.0));
        let svg = charts::histogram(&groups, inside.then_some((0.0, 1.0)), BINS)?;
        let above = self.scores.iter().filter(|s| s.0 >= DECISION).count();
        Ok(Some(Figure {
            title: "Scores of the images".into(),
            help: format!(
                "How many images have which f(x), the classifier's score for {}{}.",
                run.target.name,
                if labelled { ", by ground truth" } else { "" }
            ),
            alt: format!(
                "Histogram of f(x): {} of {} images at or above 0.5",
                number::count(above),
                number::count(self.scores.len())
            ),
            svg: Value::from_safe_string(svg),
            curves: parts
                .into_iter()
                .map(|(name, colour, v)| (format!("{name} ({})", number::count(v.len())), colour))
                .collect(),
        }))
    }

    /// Receiver operating characteristics of f on images and on their reconstructions.
    fn roc(&self) -> Result<Option<Figure>> {
        let mut curves = Vec::new();
        let mut names = Vec::new();
        for (what, scores, colour) in [("f(x)", &self.scores, 0), ("f(G(E(x)))", &self.reconstructions, 1)] {
            let known: Vec<(f32, bool)> = scores.iter().filter_map(|s| Some((s.0, s.1?))).collect();
            if let Some((points, auc)) = roc(&known) {
                curves.push(Curve { points, colour, dots: false });
                names.push((format!("{what}, AUC {}", number::fixed(auc, 3)), colour));
            }
        }
        if curves.is_empty() {
            return Ok(None);
        }
        Ok(Some(Figure {
            title: "ROC against the ground truth".into(),
            help: "Share of the positive images found, over the share of the others taken for positive."
                .into(),
            alt: format!("ROC curves: {}", names.iter().map(|n| n.0.as_str()).collect::<Vec<_>>().join("; ")),
            svg: Value::from_safe_string(charts::roc(&curves)?),
            curves: names,
        }))
    }

    /// f along the direction: median and quartiles over the cases.
    fn response(&self, run: &RunRecord) -> Result<Option<Figure>> {
        let band = quartiles(&self.series);
        if band.len() < 2 {
            return Ok(None);
        }
        let (first, last) = (band[0], band[band.len() - 1]);
        Ok(Some(Figure {
            title: "f along the direction".into(),
            help: format!(
                "f's score for {} over λ, in σ: the median over the images, and the range of the middle half of them.",
                run.target.name
            ),
            alt: format!(
                "Median score {} at λ = {} σ, {} at λ = {} σ",
                number::fixed(first.1[1], 2),
                number::lambda(first.0 as f32),
                number::fixed(last.1[1], 2),
                number::lambda(last.0 as f32)
            ),
            svg: Value::from_safe_string(charts::band(&band)?),
            curves: vec![("median and quartiles".into(), 0)],
        }))
    }

    /// At which λ f changes its mind.
    fn flip_histogram(&self) -> Result<Option<Figure>> {
        let found: Vec<f64> = self.flips.iter().flatten().map(|l| f64::from(*l)).collect();
        if found.is_empty() {
            return Ok(None);
        }
        let (n, all) = (number::count(found.len()), number::count(self.flips.len()));
        let reach = found.iter().fold(0.0, |m: f64, l| m.max(l.abs()));
        Ok(Some(Figure {
            title: "Distance to the flip".into(),
            help: format!(
                "λ at which f crosses 0.5, in σ: found for {n} of {all} images within their series."
            ),
            alt: format!("Histogram of λ at the flip, {n} of {all} images"),
            svg: Value::from_safe_string(charts::histogram(&[(1, &found)], Some((-reach, reach)), BINS)?),
            curves: Vec::new(),
        }))
    }
}

/// The points of a receiver operating characteristic, false positives first, and the area below it; `None` where one of
/// both classes is missing. Equal scores are one step, so the area is the share of pairs in the right order, ties counting
/// half.
pub(crate) fn roc(scores: &[(f32, bool)]) -> Option<(Vec<(f64, f64)>, f64)> {
    let positives = scores.iter().filter(|s| s.1).count() as f64;
    let negatives = scores.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut points = vec![(0.0, 0.0)];
    let (mut hit, mut missed, mut area) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let before = (missed / negatives, hit / positives);
        hit += tied.iter().filter(|s| s.1).count() as f64;
        missed += tied.iter().filter(|s| !s.1).count() as f64;
        let after = (missed / negatives, hit / positives);
        area += (after.0 - before.0) * (before.1 + after.1) / 2.0;
        points.push(after);
    }
    Some((points, area))
}

/// Lower quartile, median and upper quartile of the series at evenly spread places; a series counts where it reaches, and
/// only places that half of them reach are kept.
fn quartiles(series: &[Vec<(f64, f64)>]) -> Vec<(f64, [f64; 3])> {
    let ends = || series.iter().filter_map(|s| Some((s.first()?.0, s.last()?.0)));
    let low = ends().map(|e| e.0).fold(f64::INFINITY, f64::min);
    let high = ends().map(|e| e.1).fold(f64::NEG_INFINITY, f64::max);
    if high <= low {
        return Vec::new();
    }
    let mut out = Vec::new();
    for i in 0..PLACES {
        let x = low + (high - low) * i as f64 / (PLACES - 1) as f64;
        let mut values: Vec<f64> = series.iter().filter_map(|s| at(s, x)).collect();
        if values.is_empty() || (values.len() as f64) < REACHED * series.len() as f64 {
            continue;
        }
        values.sort_by(f64::total_cmp);
        out.push((x, [0.25, 0.5, 0.75].map(|q| quantile(&values, q))));
    }
    out
}

/// A series' value at `x`, linear between its points; `None` outside.
fn at(series: &[(f64, f64)], x: f64) -> Option<f64> {
    let (first, last) = (series.first()?, series.last()?);
    if x < first.0 || x > last.0 {
        return None;
    }
    let i = series.partition_point(|p| p.0 < x);
    if i == 0 {
        return Some(first.1);
    }
    let (a, b) = (series[i - 1], series[i]);
    Some(a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0))
}

/// A quantile of sorted values, linear between order statistics (type 7 of Hyndman and Fan 1996).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_roc_is_the_share_of_ordered_pairs() {
        let scores: Vec<(f32, bool)> =
            (0..60).map(|i| (((i * 37) % 11) as f32 / 10.0, (i * 7) % 5 < 2)).collect();
        let (points, area) = roc(&scores).unwrap();
        let (mut right, mut pairs) = (0.0, 0.0);
        for (p, _) in scores.iter().filter(|s| s.1) {
            for (n, _) in scores.iter().filter(|s| !s.1) {
                pairs += 1.0;
                right += if p > n {
                    1.0
                } else if p == n {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((area - right / pairs).abs() < 1e-12, "{area} against {}", right / pairs);
        assert_eq!((points[0], points[points.len() - 1], points.len()), ((0.0, 0.0), (1.0, 1.0), 12));
        assert!(roc(&[(0.3, true), (0.4, true)]).is_none() && roc(&[]).is_none());
    }

    #[test]
    fn quartiles_of_straight_lines_are_straight() {
        // f = k λ for k = 1..5 on [-1, 1]; one series is longer, and alone out there.
        let mut series: Vec<Vec<(f64, f64)>> =
            (1..=5).map(|k| vec![(-1.0, -f64::from(k)), (0.0, 0.0), (1.0, f64::from(k))]).collect();
        series[0] = vec![(-3.0, -3.0), (3.0, 3.0)];
        let band = quartiles(&series);
        assert!(band.iter().all(|(x, _)| x.abs() <= 1.0) && band.len() > 10);
        for (x, [low, mid, high]) in band {
            let mut expected = [2.0 * x, 3.0 * x, 4.0 * x];
            expected.sort_by(f64::total_cmp);
            for (a, b) in [low, mid, high].iter().zip(expected) {
                assert!((a - b).abs() < 1e-12, "{x}: {a} against {b}");
            }
        }
        assert!(quartiles(&[]).is_empty() && quartiles(&[vec![(0.0, 1.0)]]).is_empty());
    }

    #[test]
    fn steps_at_one_place_are_no_trouble() {
        let series = vec![(-1.0, 0.1), (0.0, 0.2), (0.0, 0.4), (1.0, 0.5)];
        let band = quartiles(&[series.clone(), series]);
        assert!(band.len() > 10 && band.iter().all(|(_, q)| q.iter().all(|v| v.is_finite())));
    }

    #[test]
    fn quantiles_as_published() {
        // Type 7 of 1, 2, 3, 4: 1.75, 2.5, 3.25.
        assert_eq!([0.25, 0.5, 0.75].map(|q| quantile(&[1.0, 2.0, 3.0, 4.0], q)), [1.75, 2.5, 3.25]);
        assert_eq!(quantile(&[7.0], 0.25), 7.0);
    }
}

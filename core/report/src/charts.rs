//! Plots over the cases of a run, as SVG: histograms, ROC curves, bands, means with their intervals.
//!
//! Colours follow [`crate::plot`]: the page's style gives them other values in the dark.

use crate::plot::{COLOURS, Curve, DRAWN, GRID, SIZE, TEXT, axes, drawn, failed, mesh, short, spanned, tick};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use shiftlens_api::{Error, Result};
use std::ops::Range;

/// Letters of a name beside a plot at most.
const NAME: usize = 26;
/// Height of a row with a mean, in pixels.
const ROW: u32 = 24;
/// Where f changes its mind.
const DECISION: f64 = 0.5;

/// How many values lie in each of `bins` equal parts of `range`; the parts hold their lower end, the last one both.
fn counts(values: &[f64], range: &Range<f64>, bins: usize) -> Vec<usize> {
    let mut out = vec![0; bins];
    let width = (range.end - range.start) / bins as f64;
    for v in values.iter().filter(|v| (range.start..=range.end).contains(v)) {
        out[(((v - range.start) / width) as usize).min(bins - 1)] += 1;
    }
    out
}

/// Draws how often values occur, groups (a colour and values) side by side in each bar; `range` is the axis where it should
/// not follow the values.
///
/// # Errors
/// If there is no value, one is not finite, or the picture cannot be drawn.
pub(crate) fn histogram(
    groups: &[(usize, &[f64])],
    range: Option<(f64, f64)>,
    bins: usize,
) -> Result<String> {
    let all = || groups.iter().flat_map(|g| g.1.iter().copied());
    finite(all())?;
    let x = range.filter(|r| r.1 > r.0).map_or_else(|| spanned(all(), 0.0), |r| r.0..r.1);
    let counted: Vec<Vec<usize>> = groups.iter().map(|g| counts(g.1, &x, bins)).collect();
    let most = counted.iter().flatten().copied().max().unwrap_or(0).max(1);
    let y = 0.0..most as f64 * 1.05;
    drawn(SIZE, |root| {
        let mut chart = axes(root, x.clone(), y)?;
        mesh(&mut chart, |v| short(*v), |v| whole(*v))?;
        let width = (x.end - x.start) / bins as f64;
        let bar = 0.86 * width / groups.len() as f64;
        for (g, (counted, (colour, _))) in counted.iter().zip(groups).enumerate() {
            let style = COLOURS[colour % COLOURS.len()].filled();
            let bars = counted.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| {
                let left = x.start + width * (i as f64 + 0.07) + bar * g as f64;
                Rectangle::new([(left, 0.0), (left + bar, *n as f64)], style)
            });
            chart.draw_series(bars).map_err(failed)?;
        }
        Ok(())
    })
}

/// Draws receiver operating characteristics above the diagonal of chance.
///
/// # Errors
/// If there is no point, one is not finite, or the picture cannot be drawn.
pub(crate) fn roc(curves: &[Curve]) -> Result<String> {
    finite(curves.iter().flat_map(|c| &c.points).flat_map(|p| [p.0, p.1]))?;
    drawn(SIZE, |root| {
        let mut chart = axes(root, 0.0..1.0, 0.0..1.0)?;
        mesh(&mut chart, |v| short(*v), |v| tick(*v))?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], GRID.stroke_width(1))).map_err(failed)?;
        for curve in curves {
            let style = COLOURS[curve.colour % COLOURS.len()].stroke_width(2);
            chart.draw_series(LineSeries::new(thinned(&curve.points), style)).map_err(failed)?;
        }
        Ok(())
    })
}

/// Draws a median between its quartiles, over λ; the threshold 0.5 is a line of its own.
///
/// # Errors
/// If there is no place, a number is not finite, or the picture cannot be drawn.
pub(crate) fn band(places: &[(f64, [f64; 3])]) -> Result<String> {
    finite(places.iter().flat_map(|(x, q)| [*x, q[0], q[1], q[2]]))?;
    let inside = places.iter().all(|(_, q)| q.iter().all(|v| (0.0..=1.0).contains(v)));
    let y = if inside { 0.0..1.0 } else { spanned(places.iter().flat_map(|p| p.1), 0.05) };
    let x = spanned(places.iter().map(|p| p.0), 0.0);
    drawn(SIZE, |root| {
        let mut chart = axes(root, x.clone(), y.clone())?;
        mesh(&mut chart, |v| short(*v), |v| tick(*v))?;
        if y.contains(&DECISION) {
            let ends = [(x.start, DECISION), (x.end, DECISION)];
            chart.draw_series(LineSeries::new(ends, TEXT.stroke_width(1))).map_err(failed)?;
        }
        let lower = places.iter().map(|(x, q)| (*x, q[0]));
        let outline: Vec<(f64, f64)> = lower.chain(places.iter().rev().map(|(x, q)| (*x, q[2]))).collect();
        chart.draw_series([Polygon::new(outline, COLOURS[0].mix(0.25))]).map_err(failed)?;
        let median = places.iter().map(|(x, q)| (*x, q[1]));
        chart.draw_series(LineSeries::new(median, COLOURS[0].stroke_width(2))).map_err(failed)?;
        Ok(())
    })
}

/// A mean of [`intervals`].
#[derive(Debug, Clone)]
pub(crate) struct Mean {
    pub name: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    /// It is there to be beaten.
    pub floor: bool,
}

/// A vertical axis of rows, the first one on top, each with its label.
#[derive(Clone)]
struct Rows(usize);

impl Ranged for Rows {
    type FormatOption = DefaultFormatting;
    type ValueType = usize;

    /// `limit` is the axis' lower and upper end, in pixels from the top.
    fn map(&self, row: &usize, limit: (i32, i32)) -> i32 {
        let height = f64::from(limit.0 - limit.1);
        limit.1 + (height * (*row as f64 + 0.5) / self.0 as f64).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<usize> {
        (0..self.0).collect()
    }

    fn range(&self) -> Range<usize> {
        0..self.0
    }
}

/// Draws means as dots with their intervals as lines, one row each, the first one on top.
///
/// # Errors
/// If there is none, a number is not finite, or the picture cannot be drawn.
pub(crate) fn intervals(means: &[Mean]) -> Result<String> {
    let values =
        || means.iter().flat_map(|m| [Some(m.value), m.interval.map(|i| i.0), m.interval.map(|i| i.1)]);
    finite(values().flatten())?;
    let n = means.len();
    let x = spanned(values().flatten().collect::<Vec<_>>().into_iter(), 0.05);
    drawn((SIZE.0, 32 + ROW * n as u32), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin_top(6)
            .margin_right(14)
            .x_label_area_size(24)
            .y_label_area_size(176)
            .build_cartesian_2d(x, Rows(n))
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(5)
            .y_labels(n)
            .label_style(("sans-serif", 14).into_font().color(&TEXT))
            .x_label_formatter(&|v| tick(*v))
            .y_label_formatter(&|v| means.get(*v).map_or_else(String::new, |m| clipped(&m.name)))
            .draw()
            .map_err(failed)?;
        for (i, m) in means.iter().enumerate() {
            let colour = if m.floor { TEXT } else { COLOURS[0] };
            if let Some((low, high)) = m.interval {
                let ends = [(low, i), (high, i)];
                chart.draw_series(LineSeries::new(ends, colour.stroke_width(2))).map_err(failed)?;
            }
            chart.draw_series([Circle::new((m.value, i), 4, colour.filled())]).map_err(failed)?;
        }
        Ok(())
    })
}

fn finite(mut values: impl Iterator<Item = f64>) -> Result<()> {
    match values.next() {
        Some(first) if first.is_finite() && values.all(f64::is_finite) => Ok(()),
        _ => Err(Error::Invalid("plot: expected finite numbers, at least one".into())),
    }
}

/// A long curve's points, evenly thinned; both ends stay.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(DRAWN).max(1);
    let last = points.len().saturating_sub(1);
    (0..last).step_by(step).chain((!points.is_empty()).then_some(last)).map(|i| points[i]).collect()
}

/// A count; nothing stands at what is none.
fn whole(v: f64) -> String {
    if v.fract() == 0.0 { tick(v) } else { String::new() }
}

fn clipped(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of an attribute in all elements of a kind that have a colour.
    fn numbers(svg: &str, element: &str, colour: &str, attribute: &str) -> Vec<f64> {
        let key = format!(" {attribute}=\"");
        svg.lines()
            .filter(|l| l.starts_with(&format!("<{element}")) && l.contains(colour))
            .map(|l| l.split(&key).nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn every_value_falls_into_one_bar() {
        let range = -1.0..1.0;
        assert_eq!(counts(&[-1.0, -0.5, 0.0, 0.5, 1.0], &range, 4), [1, 1, 1, 2]);
        let values: Vec<f64> = (0..=100).map(|i| f64::from(i) / 100.0).collect();
        assert_eq!(counts(&values, &(0.0..1.0), 7).iter().sum::<usize>(), 101);
    }

    #[test]
    fn bars_are_as_high_as_their_counts() {
        let (a, b) = (vec![0.1; 4], vec![0.1, 0.6, 0.6]);
        let svg = histogram(&[(0, &a), (1, &b)], Some((0.0, 1.0)), 2).unwrap();
        let (first, second) =
            (numbers(&svg, "rect", "#22689C", "height"), numbers(&svg, "rect", "#B8470B", "height"));
        assert_eq!((first.len(), second.len()), (1, 2), "{svg}");
        assert!(
            (first[0] - 4.0 * second[0]).abs() <= 4.0 && (second[1] - 2.0 * second[0]).abs() <= 2.0,
            "{svg}"
        );
        let few = histogram(&[(0, &[0.1, 0.1, 0.9])], Some((0.0, 1.0)), 2).unwrap();
        assert!(few.contains("\n2\n") && !few.contains("\n1.5\n"), "counts are whole: {few}");
        let left = numbers(&svg, "rect", "#B8470B", "x");
        assert!(numbers(&svg, "rect", "#22689C", "x")[0] < left[0] && left[0] < left[1]);
        for odd in [vec![7.0], vec![0.0, 0.0], vec![-1e30, 1e30]] {
            assert!(histogram(&[(0, &odd)], None, 5).unwrap().ends_with("</svg>\n"));
        }
        assert!(histogram(&[(0, &[])], None, 5).is_err() && histogram(&[(0, &[f64::NAN])], None, 5).is_err());
    }

    #[test]
    fn means_stand_in_their_order_between_the_ends_of_their_intervals() {
        let mean = |name: &str, value: f64, interval| Mean {
            name: name.into(),
            value,
            interval,
            floor: value == 0.0,
        };
        let long = "a name that is much too long for the room beside the plot";
        let svg = intervals(&[mean("first", 1.0, Some((0.5, 1.5))), mean(long, 0.0, None)]).unwrap();
        let (x, y) = (numbers(&svg, "circle", "#22689C", "cx"), numbers(&svg, "circle", "#22689C", "cy"));
        let floor = numbers(&svg, "circle", "#5D6872", "cy");
        assert!(x.len() == 1 && floor.len() == 1 && y[0] < floor[0], "{svg}");
        assert!(svg.contains("\nfirst\n") && svg.contains("\na name that is much too l…\n"), "{svg}");
        let line = svg.lines().find(|l| l.starts_with("<polyline") && l.contains("#22689C")).unwrap();
        let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let ends: Vec<f64> =
            points.split_whitespace().map(|p| p.split(',').next().unwrap().parse().unwrap()).collect();
        assert!((ends[0] + ends[1] - 2.0 * x[0]).abs() <= 2.0 && ends[0] < x[0], "{ends:?} around {x:?}");
        assert!(intervals(&[]).is_err());
    }

    #[test]
    fn curves_are_thinned_and_bands_are_closed() {
        let points: Vec<(f64, f64)> =
            (0..5000).map(|i| (f64::from(i) / 4999.0, f64::from(i) / 4999.0)).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= DRAWN + 1 && thin[0] == points[0] && thin[thin.len() - 1] == points[4999]);
        assert!(thinned(&[]).is_empty());
        let svg = roc(&[Curve { points, colour: 0, dots: false }]).unwrap();
        assert!(svg.len() < 12_000 && svg.ends_with("</svg>\n"));
        let svg = band(&[(-1.0, [0.1, 0.2, 0.3]), (1.0, [0.6, 0.7, 0.9])]).unwrap();
        assert!(svg.contains("<polygon") && svg.contains("\n0.2\n"), "{svg}");
        assert!(band(&[(0.0, [0.1, f64::NAN, 0.3])]).is_err());
    }
}

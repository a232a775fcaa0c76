//! Curves over the course of a training, as SVG, and what all plots share.
//!
//! Colours are written as attributes in the light page's values, and the page's style gives them others in the dark: see
//! `templates/report.css`, which names the same values.

use crate::number;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use shiftlens_api::{Error, Result};
use std::ops::Range;

/// Colours of the curves, in their order.
pub(crate) const COLOURS: [RGBColor; 4] = [
    RGBColor(0x22, 0x68, 0x9C),
    RGBColor(0xB8, 0x47, 0x0B),
    RGBColor(0x6B, 0x4C, 0x9A),
    RGBColor(0x2E, 0x7D, 0x4F),
];
pub(crate) const GRID: RGBColor = RGBColor(0xDF, 0xE3, 0xE6);
pub(crate) const TEXT: RGBColor = RGBColor(0x5D, 0x68, 0x72);
/// Width and height in pixels, at which text has its size.
pub(crate) const SIZE: (u32, u32) = (520, 260);
/// From so many points on a curve is drawn faintly, with its moving mean over it.
const SMOOTHED: usize = 60;
/// Points of a drawn curve at most.
pub(crate) const DRAWN: usize = 400;
/// Values that lie further apart than this factor get a logarithmic axis.
const DECADES: f64 = 100.0;

/// One curve: its points, x rising.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub points: Vec<(f64, f64)>,
    /// Index into [`COLOURS`].
    pub colour: usize,
    /// Every point gets a dot: there are few.
    pub dots: bool,
}

/// True if the curves are best seen on a logarithmic axis: positive and far apart.
pub(crate) fn logarithmic(curves: &[Curve]) -> bool {
    let values = || curves.iter().flat_map(|c| &c.points).map(|p| p.1);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    low > 0.0 && high > DECADES * low
}

/// Draws curves into one picture. Their points must be finite, and there must be one at least; `fixed` is the range of
/// the vertical axis where it should not follow the values.
///
/// # Errors
/// If the picture cannot be drawn.
pub(crate) fn svg(curves: &[Curve], fixed: Option<Range<f64>>) -> Result<String> {
    let points = || curves.iter().flat_map(|c| &c.points);
    if points().next().is_none() || points().any(|p| !p.0.is_finite() || !p.1.is_finite()) {
        return Err(Error::Invalid("plot: expected finite points, at least one".into()));
    }
    let x = spanned(points().map(|p| p.0), 0.0);
    drawn(SIZE, |root| {
        if let Some(range) = fixed {
            draw(root, curves, x, range)
        } else if logarithmic(curves) {
            let (low, high) =
                points().fold((f64::INFINITY, 0.0), |(a, b), p| (f64::min(a, p.1), f64::max(b, p.1)));
            draw(root, curves, x, (low / 1.2..high * 1.2).log_scale())
        } else {
            draw(root, curves, x, spanned(points().map(|p| p.1), 0.05))
        }
    })
}

/// A picture of `size` that `draw` fills.
pub(crate) fn drawn(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>,
) -> Result<String> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        draw(&root)?;
        root.present().map_err(failed)?;
    }
    Ok(out)
}

/// Room for both axes' labels around what they span.
pub(crate) fn axes<'a, X, Y>(
    root: &DrawingArea<SVGBackend<'a>, Shift>,
    x: impl AsRangedCoord<CoordDescType = X, Value = X::ValueType>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = Y::ValueType>,
) -> Result<ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>>
where
    X: Ranged,
    Y: Ranged,
{
    ChartBuilder::on(root)
        .margin_top(8)
        .margin_right(14)
        .x_label_area_size(24)
        .y_label_area_size(52)
        .build_cartesian_2d(x, y)
        .map_err(failed)
}

/// Grid and labels; the functions say how values of each axis are written.
pub(crate) fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    across: impl Fn(&f64) -> String,
    upwards: impl Fn(&f64) -> String,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(6)
        .y_labels(6)
        .label_style(("sans-serif", 14).into_font().color(&TEXT))
        .x_label_formatter(&across)
        .y_label_formatter(&upwards)
        .draw()
        .map_err(failed)
}

pub(crate) fn failed(e: impl std::fmt::Display) -> Error {
    Error::component("plot", e)
}

/// The range of values with a margin at either end, never empty.
pub(crate) fn spanned(values: impl Iterator<Item = f64> + Clone, margin: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let width = high - low;
    let more = if width > 0.0 { width * margin } else { low.abs().max(1.0) * 0.5 };
    low - more..high + more
}

fn draw<Y>(
    root: &DrawingArea<SVGBackend, Shift>,
    curves: &[Curve],
    x: Range<f64>,
    y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let far = x.end;
    let mut chart = axes(root, x, y)?;
    mesh(&mut chart, |v| thousands(*v, far), |v| tick(*v))?;
    for curve in curves {
        let colour = COLOURS[curve.colour % COLOURS.len()];
        let n = curve.points.len();
        let smooth = n >= SMOOTHED;
        let style = if smooth { colour.mix(0.3).stroke_width(1) } else { colour.stroke_width(2) };
        chart.draw_series(LineSeries::new(extremes(&curve.points), style)).map_err(failed)?;
        if smooth {
            let mean = means(&curve.points, n / 40);
            chart.draw_series(LineSeries::new(mean, colour.stroke_width(2))).map_err(failed)?;
        }
        if curve.dots || n == 1 {
            let dots = curve.points.iter().map(|p| Circle::new(*p, 3, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
    }
    Ok(())
}

/// A count of images on an axis that reaches to `far`.
fn thousands(v: f64, far: f64) -> String {
    match far {
        f if f >= 1e7 => format!("{}M", short(v / 1e6)),
        f if f >= 1e4 => format!("{}k", short(v / 1e3)),
        _ => short(v),
    }
}

/// A number without the zeros at its end.
pub(crate) fn short(v: f64) -> String {
    let text = number::fixed(v, 3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) fn tick(v: f64) -> String {
    if v == 0.0 || (1e-3..1e4).contains(&v.abs()) { short(v) } else { number::significant(v) }
}

/// The lowest and the highest point of each part of a curve, so that no spike is lost; all points of a short one.
fn extremes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= DRAWN {
        return points.to_vec();
    }
    let part = points.len().div_ceil(DRAWN / 2);
    let ends = |part: &[(f64, f64)]| {
        let index = |better: fn(f64, f64) -> bool| {
            (1..part.len()).fold(0, |best, i| if better(part[i].1, part[best].1) { i } else { best })
        };
        let (low, high) = (index(|a, b| a < b), index(|a, b| a > b));
        let mut both = vec![part[low.min(high)]];
        both.extend((low != high).then(|| part[low.max(high)]));
        both
    };
    points.chunks(part).flat_map(ends).collect()
}

/// Means over `width` points before and after each, as far as there are any, at most [`DRAWN`] of them. They stand at the
/// mean of their places, so that a straight line stays one up to its ends.
fn means(points: &[(f64, f64)], width: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0)];
    for (x, y) in points {
        let (a, b) = sums[sums.len() - 1];
        sums.push((a + x, b + y));
    }
    let last = points.len() - 1;
    let mean = |i: usize| {
        let (from, to) = (i.saturating_sub(width), (i + width).min(last) + 1);
        let n = (to - from) as f64;
        ((sums[to].0 - sums[from].0) / n, (sums[to].1 - sums[from].1) / n)
    };
    let step = points.len().div_ceil(DRAWN);
    (0..last).step_by(step).chain([last]).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: Vec<(f64, f64)>) -> Curve {
        Curve { points, colour: 1, dots: false }
    }

    /// The coordinates of all polylines of one colour.
    fn lines(svg: &str, colour: &str) -> Vec<Vec<(f64, f64)>> {
        let pair =
            |p: &str| p.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap();
        let ours = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains(colour));
        ours.map(|l| {
            let points = l.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            points.split_whitespace().map(pair).collect()
        })
        .collect()
    }

    #[test]
    fn points_stand_where_their_values_say() {
        let drawn = svg(&[curve(vec![(0.0, 1.0), (50.0, 2.0), (100.0, 5.0)])], Some(0.0..5.0)).unwrap();
        let line = &lines(&drawn, "#B8470B")[0];
        let (x, y): (Vec<f64>, Vec<f64>) = line.iter().copied().unzip();
        assert!((x[1] - (x[0] + x[2]) / 2.0).abs() <= 1.0, "{x:?}");
        assert!(((y[0] - y[1]) * 3.0 - (y[1] - y[2])).abs() <= 4.0 && y[0] > y[1], "{y:?}");
        assert!(drawn.contains("\n100\n") && drawn.contains("\n5\n"), "{drawn}");
        // On a logarithmic axis equal factors are equal steps.
        let decades = [curve(vec![(0.0, 0.01), (1.0, 0.1), (2.0, 1.0), (3.0, 10.0)])];
        assert!(logarithmic(&decades) && !logarithmic(&[curve(vec![(0.0, 0.2), (1.0, 3.0)])]));
        let y: Vec<f64> = lines(&svg(&decades, None).unwrap(), "#B8470B")[0].iter().map(|p| p.1).collect();
        assert!(y.windows(2).all(|w| (w[0] - w[1] - (y[0] - y[3]) / 3.0).abs() <= 2.0), "{y:?}");
    }

    #[test]
    fn odd_curves_are_drawn_or_refused() {
        for points in [vec![(7.0, 7.0)], vec![(0.0, 0.0), (1.0, 0.0)], vec![(0.0, -1e30), (1.0, 1e30)]] {
            let drawn = svg(&[curve(points)], None).unwrap();
            assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN"), "{drawn}");
        }
        for points in [vec![], vec![(0.0, f64::NAN)], vec![(f64::INFINITY, 0.0)]] {
            assert!(svg(&[curve(points)], None).is_err());
        }
    }

    #[test]
    fn long_curves_keep_their_spikes_and_means_their_lines() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        let mean = means(&points, 500);
        assert!(mean.len() <= DRAWN + 1 && mean.iter().all(|(x, y)| (2.0 * x - y).abs() < 1e-6));
        // At the ends there are half as many.
        assert_eq!((mean[0].0, mean[mean.len() - 1].0), (250.0, 9999.0 - 250.0));
        points[1234].1 = 1e6;
        points[7777].1 = -1e6;
        let drawn = extremes(&points);
        assert!(drawn.len() <= DRAWN && drawn.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(drawn.contains(&points[1234]) && drawn.contains(&points[7777]));
    }

    #[test]
    fn ticks_are_short() {
        let text = [(0.0, 5e4), (2e4, 5e4), (1.5e6, 2e7), (300.0, 900.0)].map(|(v, far)| thousands(v, far));
        assert_eq!(text, ["0k", "20k", "1.5M", "300"]);
        assert_eq!([0.0, 0.25, -2.0, 1e-5].map(tick), ["0", "0.25", "−2", "1.00e−5"]);
    }
}

//! Dots in a plane, as SVG: one predictor against another.

use crate::plot::{COLOURS, GRID, TEXT, axes, drawn, failed, mesh, short, spanned, tick};
use plotters::prelude::*;
use shiftlens_api::{Error, Result};
use std::collections::BTreeSet;
use std::ops::Range;

/// Width and height in pixels: nearly as high as it is wide, both axes being of one kind.
const SIZE: (u32, u32) = (520, 440);
/// Places along an axis; dots that would stand on one another are drawn once.
const PLACES: f64 = 400.0;
/// Where f changes its mind.
const DECISION: f64 = 0.5;

/// A dot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub at: (f64, f64),
    /// Index into the colours of plots.
    pub colour: usize,
}

/// A plot of dots around the diagonal of equality.
#[derive(Debug)]
pub(crate) struct Scatter<'a> {
    pub marks: &'a [Mark],
    /// Both axes are scores: the quarters in which the decisions differ are shaded. Else a line marks 0 on both.
    pub quadrants: bool,
}

impl Scatter<'_> {
    /// Draws it; both axes have one range.
    ///
    /// # Errors
    /// If there is no dot, one is not finite, or the picture cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        let values = || self.marks.iter().flat_map(|m| [m.at.0, m.at.1]);
        if self.marks.is_empty() || values().any(|v| !v.is_finite()) {
            return Err(Error::Invalid("plot: expected finite points, at least one".into()));
        }
        let range = self.range(values());
        drawn(SIZE, |root| {
            let mut chart = axes(root, range.clone(), range.clone())?;
            let (low, high) = (range.start, range.end);
            if self.quadrants && range.contains(&DECISION) {
                let corners = [[(low, DECISION), (DECISION, high)], [(DECISION, low), (high, DECISION)]];
                chart
                    .draw_series(corners.map(|c| Rectangle::new(c, GRID.mix(0.5).filled())))
                    .map_err(failed)?;
            }
            mesh(&mut chart, |v| short(*v), |v| tick(*v))?;
            let line = |from, to| LineSeries::new([from, to], TEXT.stroke_width(1));
            chart
                .draw_series(LineSeries::new([(low, low), (high, high)], GRID.stroke_width(1)))
                .map_err(failed)?;
            let at = if self.quadrants { DECISION } else { 0.0 };
            if range.contains(&at) {
                chart.draw_series(line((at, low), (at, high))).map_err(failed)?;
                chart.draw_series(line((low, at), (high, at))).map_err(failed)?;
            }
            let dots = self.distinct(&range);
            let dot = |m: &&Mark| Circle::new(m.at, 3, COLOURS[m.colour % COLOURS.len()].mix(0.65).filled());
            chart.draw_series(dots.iter().map(dot)).map_err(failed)?;
            Ok(())
        })
    }

    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
        if self.quadrants && values.clone().all(|v| (0.0..=1.0).contains(&v)) {
            return 0.0..1.0;
        }
        if self.quadrants {
            return spanned(values, 0.03);
        }
        let reach = values.fold(0.0, |m: f64, v| m.max(v.abs()));
        let reach = if reach > 0.0 { 1.05 * reach } else { 1.0 };
        -reach..reach
    }

    /// The dots that can be told apart.
    fn distinct(&self, range: &Range<f64>) -> Vec<&Mark> {
        let place = |v: f64| ((v - range.start) / (range.end - range.start) * PLACES).round() as i64;
        let mut seen = BTreeSet::new();
        self.marks.iter().filter(|m| seen.insert((place(m.at.0), place(m.at.1), m.colour))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(x: f64, y: f64, colour: usize) -> Mark {
        Mark { at: (x, y), colour }
    }

    /// Centres of the dots of a colour.
    fn dots(svg: &str, colour: &str) -> Vec<(f64, f64)> {
        let of = |line: &str, name: &str| -> f64 {
            line.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let ours = svg.lines().filter(|l| l.starts_with("<circle") && l.contains(colour));
        ours.map(|l| (of(l, "cx"), of(l, "cy"))).collect()
    }

    #[test]
    fn dots_stand_where_their_values_say_and_differ_in_the_shade() {
        let marks = [mark(0.1, 0.1, 0), mark(0.9, 0.9, 0), mark(0.9, 0.1, 1), mark(0.9, 0.100_01, 1)];
        let svg = Scatter { marks: &marks, quadrants: true }.svg().unwrap();
        let (blue, orange) = (dots(&svg, "#22689C"), dots(&svg, "#B8470B"));
        assert_eq!((blue.len(), orange.len()), (2, 1), "dots on one another are one: {svg}");
        assert!(blue[0].0 < blue[1].0 && blue[0].1 > blue[1].1, "{blue:?}");
        assert_eq!((orange[0].0, orange[0].1), (blue[1].0, blue[0].1));
        let shades: Vec<&str> =
            svg.lines().filter(|l| l.starts_with("<rect") && l.contains("#DFE3E6")).collect();
        assert_eq!(shades.len(), 2, "{svg}");
    }

    #[test]
    fn both_axes_of_flips_reach_equally_far_to_either_side() {
        let marks = [mark(-2.0, 1.0, 0), mark(2.0, -1.0, 0)];
        let scatter = Scatter { marks: &marks, quadrants: false };
        assert_eq!(scatter.range([-2.0, 1.0].into_iter()), -2.1..2.1);
        let svg = scatter.svg().unwrap();
        let found = dots(&svg, "#22689C");
        assert!(
            (found[0].0 + found[1].0 - 2.0 * (52.0 + (520.0 - 14.0 - 52.0) / 2.0)).abs() <= 2.0,
            "{found:?}"
        );
        assert!(!svg.lines().any(|l| l.starts_with("<rect") && l.contains("#DFE3E6")));
    }

    #[test]
    fn odd_dots_are_drawn_or_refused() {
        for marks in [vec![mark(7.0, 7.0, 0)], vec![mark(0.0, 0.0, 3)], vec![mark(-1e30, 1e30, 9)]] {
            for quadrants in [true, false] {
                let svg = Scatter { marks: &marks, quadrants }.svg().unwrap();
                assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
            }
        }
        for marks in [vec![], vec![mark(f64::NAN, 0.0, 0)]] {
            assert!(Scatter { marks: &marks, quadrants: true }.svg().is_err());
        }
    }
}

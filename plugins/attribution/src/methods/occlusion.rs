//! Occlusion (Zeiler and Fergus 2014, section 4.2): how far the score falls when a window is covered.

use super::{Attributed, Method};
use crate::baseline::Baseline;
use crate::host::{Host, Shape, Variants};
use shiftlens_sdk::api::{Images, Result};

/// A window of the baseline slides over the image in steps of `stride`; the last one of a row or column is cut at the
/// border. A pixel's value is the mean, over the windows that cover it, of score(x) - score(x with the window).
pub struct Occlusion {
    /// Pixels along the window's side.
    pub window: usize,
    /// Pixels from one window to the next, at most `window`.
    pub stride: usize,
    /// What covers.
    pub baseline: Baseline,
}

/// Starts of the windows along a side of `side` pixels: as many as are needed to reach its end.
fn starts(side: usize, window: usize, stride: usize) -> Vec<usize> {
    (0..=side.saturating_sub(window).div_ceil(stride)).map(|i| i * stride).collect()
}

struct Windows<'a> {
    image: &'a [f32],
    cover: Vec<f32>,
    shape: Shape,
    window: usize,
    rows: Vec<usize>,
    columns: Vec<usize>,
    score: f64,
    sum: Vec<f64>,
    count: Vec<u32>,
}

impl Windows<'_> {
    /// The pixels of window `i`, as ranges of each row.
    fn rows_of(&self, i: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (top, left) = (self.rows[i / self.columns.len()], self.columns[i % self.columns.len()]);
        let Shape { height, width, .. } = self.shape;
        let (bottom, right) = ((top + self.window).min(height), (left + self.window).min(width));
        (top..bottom).map(move |y| y * width + left..y * width + right)
    }
}

impl Variants for Windows<'_> {
    fn draw(&mut self, i: usize, image: &mut [f32]) {
        image.copy_from_slice(self.image);
        let plane = self.shape.plane();
        for range in self.rows_of(i) {
            for c in 0..self.shape.channels {
                let r = c * plane + range.start..c * plane + range.end;
                image[r.clone()].copy_from_slice(&self.cover[r]);
            }
        }
    }
    fn take(&mut self, i: usize, score: f64, _: &[f32]) {
        for range in self.rows_of(i) {
            for p in range {
                self.sum[p] += self.score - score;
                self.count[p] += 1;
            }
        }
    }
}

impl Method for Occlusion {
    fn title(&self) -> &'static str {
        "Occlusion"
    }
    fn needs_gradients(&self) -> bool {
        false
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, score: f64, _: u64) -> Result<Attributed> {
        let shape = Shape::of(x);
        let rows = starts(shape.height, self.window, self.stride);
        let columns = starts(shape.width, self.window, self.stride);
        let count = rows.len() * columns.len();
        let mut windows = Windows {
            image: x.image(0),
            cover: self.baseline.image(x, 0),
            shape,
            window: self.window,
            rows,
            columns,
            score,
            sum: vec![0.0; shape.plane()],
            count: vec![0; shape.plane()],
        };
        host.ask("occlusion", shape, count, false, &mut windows)?;
        // Every pixel is covered: a stride is at most a window, and the last window reaches the border.
        let map = windows.sum.iter().zip(&windows.count).map(|(s, n)| s / f64::from(*n)).collect();
        let notes = vec![
            ("window", format!("{0}×{0} pixels, stride {1}", self.window, self.stride)),
            ("baseline", self.baseline.to_string()),
        ];
        Ok(Attributed { map, notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_reach_the_border() {
        assert_eq!(starts(8, 4, 2), [0, 2, 4]);
        assert_eq!(starts(9, 4, 2), [0, 2, 4, 6]);
        assert_eq!(starts(9, 4, 4), [0, 4, 8]);
        assert_eq!(starts(3, 8, 4), [0]);
    }
}

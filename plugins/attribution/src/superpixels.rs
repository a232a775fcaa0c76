//! Cutting an image into segments.

use crate::host::Shape;

/// How an image is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Partition {
    /// SLIC (Achanta et al. 2012): k-means in colour and place, so that segments follow edges.
    Slic {
        /// m of the paper's eq. 3: how much distance counts against colour.
        compactness: f64,
    },
    /// Rectangles of nearly the same size.
    Grid,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slic { compactness } => write!(f, "SLIC, compactness {compactness}"),
            Self::Grid => f.write_str("grid"),
        }
    }
}

impl Partition {
    /// Labels `[H, W]`, from 0 without gaps, of about `wanted` connected segments of the image `[C, H, W]`.
    pub fn segment(self, image: &[f32], shape: Shape, wanted: usize) -> Vec<usize> {
        match self {
            Self::Grid => grid(shape, wanted),
            Self::Slic { compactness } => slic(image, shape, wanted, compactness),
        }
    }
}

/// Rows and columns of about `wanted` cells as square as can be.
fn cells(Shape { height, width, .. }: Shape, wanted: usize) -> (usize, usize) {
    let side = ((height * width) as f64 / wanted as f64).sqrt();
    let along = |n: usize| ((n as f64 / side).round() as usize).clamp(1, n);
    (along(height), along(width))
}

fn grid(shape: Shape, wanted: usize) -> Vec<usize> {
    let (rows, columns) = cells(shape, wanted);
    let Shape { height, width, .. } = shape;
    (0..height * width).map(|p| p / width * rows / height * columns + p % width * columns / width).collect()
}

/// CIELAB of each pixel (D65), the space in which SLIC measures colour; a grey value is one on all channels.
fn lab(image: &[f32], plane: usize) -> Vec<[f64; 3]> {
    let linear = |v: f32| {
        let v = f64::from(v);
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    let f = |t: f64| {
        if t > (6.0f64 / 29.0).powi(3) { t.cbrt() } else { t / (3.0 * (6.0f64 / 29.0).powi(2)) + 4.0 / 29.0 }
    };
    (0..plane)
        .map(|p| {
            let [r, g, b] = [0, 1, 2].map(|c| linear(image[(c * plane + p) % image.len()]));
            let x = f((0.412_456_4 * r + 0.357_576_1 * g + 0.180_437_5 * b) / 0.950_47);
            let y = f(0.212_672_9 * r + 0.715_152_2 * g + 0.072_175_0 * b);
            let z = f((0.019_333_9 * r + 0.119_192_0 * g + 0.950_304_1 * b) / 1.088_83);
            [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
        })
        .collect()
}

/// A cluster's centre: colour and place.
#[derive(Clone, Copy)]
struct Centre {
    lab: [f64; 3],
    y: f64,
    x: f64,
}

/// Assignment and update steps; the paper finds 10 enough for most images (section 3.1).
const ITERATIONS: usize = 10;

/// SLIC (Achanta et al. 2012, algorithm 1), deterministic: centres start on a grid of step S (not moved to the lowest
/// gradient), a pixel joins the nearest centre within 2 S by `D² = d_lab² + (d_xy / S)² m²`; at last every segment is
/// made connected.
fn slic(image: &[f32], shape: Shape, wanted: usize, compactness: f64) -> Vec<usize> {
    let Shape { height, width, .. } = shape;
    let colours = lab(image, shape.plane());
    let (rows, columns) = cells(shape, wanted);
    let (dy, dx) = (height as f64 / rows as f64, width as f64 / columns as f64);
    let step = (dy * dx).sqrt();
    let mut labels = grid(shape, wanted);
    let mut centres = Vec::new();
    for _ in 0..ITERATIONS {
        centres = means(&labels, &colours, width, rows * columns, &centres);
        let mut nearest = vec![f64::INFINITY; labels.len()];
        for (k, c) in centres.iter().enumerate() {
            let range = |at: f64, reach: f64, n: usize| {
                (
                    (at - 2.0 * reach).floor().max(0.0) as usize,
                    ((at + 2.0 * reach).ceil() as usize + 1).min(n),
                )
            };
            let ((top, bottom), (left, right)) = (range(c.y, dy, height), range(c.x, dx, width));
            for y in top..bottom {
                for x in left..right {
                    let p = y * width + x;
                    let colour: f64 = colours[p].iter().zip(c.lab).map(|(a, b)| (a - b).powi(2)).sum();
                    let place = (y as f64 - c.y).powi(2) + (x as f64 - c.x).powi(2);
                    let d = colour + place * (compactness / step).powi(2);
                    if d < nearest[p] {
                        (nearest[p], labels[p]) = (d, k);
                    }
                }
            }
        }
    }
    connected(&labels, height, width)
}

/// The mean of each cluster; an empty one stays where it was.
fn means(
    labels: &[usize],
    colours: &[[f64; 3]],
    width: usize,
    clusters: usize,
    before: &[Centre],
) -> Vec<Centre> {
    let mut sums = vec![(Centre { lab: [0.0; 3], y: 0.0, x: 0.0 }, 0.0); clusters];
    for (p, &l) in labels.iter().enumerate() {
        let (c, n) = &mut sums[l];
        c.lab.iter_mut().zip(colours[p]).for_each(|(s, v)| *s += v);
        c.y += (p / width) as f64;
        c.x += (p % width) as f64;
        *n += 1.0;
    }
    let mean = |(k, (c, n)): (usize, (Centre, f64))| match before.get(k) {
        Some(old) if n == 0.0 => *old,
        _ => Centre { lab: c.lab.map(|v| v / n), y: c.y / n, x: c.x / n },
    };
    sums.into_iter().enumerate().map(mean).collect()
}

/// The pixels above, left, right and below.
fn around(p: usize, height: usize, width: usize) -> impl Iterator<Item = usize> {
    let (y, x) = (p / width, p % width);
    [
        (y > 0).then(|| p - width),
        (x > 0).then(|| p - 1),
        (x + 1 < width).then(|| p + 1),
        (y + 1 < height).then(|| p + width),
    ]
    .into_iter()
    .flatten()
}

/// The largest connected piece of each cluster becomes a segment; segments then grow over what is left, all at the same
/// pace. So there are never more segments than clusters, and grain cannot dissolve them, as it can where small pieces
/// are merged by their size (as section 3 does).
fn connected(labels: &[usize], height: usize, width: usize) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let mut seen = vec![false; labels.len()];
    let mut largest: Vec<Vec<usize>> = vec![Vec::new(); labels.iter().max().map_or(0, |l| l + 1)];
    for start in 0..labels.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut piece = vec![start];
        let mut next = 0;
        while let Some(&p) = piece.get(next) {
            next += 1;
            for q in around(p, height, width) {
                if labels[q] == labels[start] && !std::mem::replace(&mut seen[q], true) {
                    piece.push(q);
                }
            }
        }
        if piece.len() > largest[labels[start]].len() {
            largest[labels[start]] = piece;
        }
    }
    let mut out = vec![NONE; labels.len()];
    let mut front = std::collections::VecDeque::new();
    for (segment, piece) in largest.into_iter().filter(|p| !p.is_empty()).enumerate() {
        piece.iter().for_each(|p| out[*p] = segment);
        front.extend(piece);
    }
    while let Some(p) = front.pop_front() {
        for q in around(p, height, width) {
            if out[q] == NONE {
                out[q] = out[p];
                front.push_back(q);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(channels: usize, height: usize, width: usize) -> Shape {
        Shape { channels, height, width }
    }

    fn count(labels: &[usize]) -> usize {
        let n = labels.iter().max().unwrap() + 1;
        assert!((0..n).all(|l| labels.contains(&l)), "labels have gaps");
        n
    }

    const SLIC: Partition = Partition::Slic { compactness: 10.0 };

    #[test]
    fn a_grid_has_the_cells_asked_for() {
        let labels = Partition::Grid.segment(&[0.0; 24], shape(1, 4, 6), 6);
        assert_eq!(labels, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 3, 3, 4, 4, 5, 5]);
        assert_eq!(count(&Partition::Grid.segment(&[0.0; 64 * 64], shape(1, 64, 64), 16)), 16);
        assert_eq!(count(&Partition::Grid.segment(&[0.0; 9], shape(1, 3, 3), 100)), 9);
    }

    #[test]
    fn without_colour_slic_is_the_grid() {
        let s = shape(1, 32, 32);
        assert_eq!(SLIC.segment(&[0.4; 1024], s, 16), Partition::Grid.segment(&[0.4; 1024], s, 16));
    }

    #[test]
    fn segments_follow_edges_and_are_connected() {
        // A slanted edge that no grid of squares follows.
        let (h, w) = (40, 48);
        let bright = |p: usize| 2 * (p % w) + p / w > 61;
        for channels in [1, 3] {
            let image: Vec<f32> =
                (0..channels * h * w).map(|i| if bright(i % (h * w)) { 0.8 } else { 0.2 }).collect();
            let labels = SLIC.segment(&image, shape(channels, h, w), 24);
            let n = count(&labels);
            assert!((16..=36).contains(&n), "{n} segments");
            let mut sides = vec![[0usize; 2]; n];
            labels.iter().enumerate().for_each(|(p, l)| sides[*l][usize::from(bright(p))] += 1);
            let wrong: usize = sides.iter().map(|s| s[0].min(s[1])).sum();
            assert!(wrong < h * w / 100, "{wrong} of {} pixels lie in a segment of the other side", h * w);
            assert_eq!(connected(&labels, h, w), labels, "a segment is in pieces");
        }
    }

    #[test]
    fn grain_does_not_dissolve_segments() {
        let image: Vec<f32> =
            (0..32 * 32).map(|p| ((p * 7919 + p / 32 * 104_729) % 101) as f32 / 100.0).collect();
        let labels = SLIC.segment(&image, shape(1, 32, 32), 16);
        let n = count(&labels);
        assert!((12..=16).contains(&n), "{n} segments");
        // Connected: each segment is found in one piece again.
        assert_eq!(connected(&labels, 32, 32), labels);
    }

    #[test]
    fn lab_of_known_colours() {
        // Lindbloom: sRGB red is L 53.24, a 80.09, b 67.20; white is L 100, a 0, b 0.
        for (image, expected) in [([1.0, 0.0, 0.0], [53.24, 80.09, 67.20]), ([1.0; 3], [100.0, 0.0, 0.0])] {
            let found = lab(&image, 1)[0];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.02), "{found:?}");
        }
        let grey = lab(&[0.5], 1)[0];
        assert!((grey[0] - 53.39).abs() < 0.02 && grey[1].abs() < 0.01 && grey[2].abs() < 0.02, "{grey:?}");
    }
}

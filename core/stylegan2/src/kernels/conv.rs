//! Convolutions of StyleGAN2 on arrays that change at every step of training.
//!
//! Two geometries, each with its forward map F, its adjoint T and its weight gradient W, which together are closed
//! under differentiation (every one is linear in each argument). Weights are `[K, C, k, k]`, cross-correlation:
//!
//! * [`Geometry::Same`]: `y[k,i,j] = sum w[k,c,a,b] x[c, i+a-h, j+b-h]`, k odd, h = (k-1)/2, zero border.
//! * [`Geometry::Down`]: `y[k,i,j] = sum w[k,c,a,b] x[c, 2i+a, 2j+b]`, k = 3, x of size 2h+1. Its adjoint is the
//!   transposed convolution of stride 2, which StyleGAN2 enlarges with.
//!
//! Inside [`fast`], the fast convolutions of `kernels::train` compute them where sizes allow, with fewer multiplications;
//! elsewhere they are products over gathered rows (see [`super::gemm`]), which follow.
//!
//! Pictures of a batch are laid out one after the other in a plane whose rows are one zero wider and which has one
//! zero row below each picture: right border of one row and left border of the next are the same zero, so small
//! pictures waste little. The work is cut into groups of pictures whose number depends on the shapes alone, and
//! partial sums are added in the groups' order: results do not depend on the number of threads.

use super::gemm::{Isa, OVERRUN, Packed, Rows, rows_times_rows, rows_times_weights};
use super::train;
use rayon::prelude::*;
use std::cell::Cell;

/// Which kernels serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    /// Gathered rows, where nobody asks for more.
    Default,
    /// The fast ones where sizes allow.
    Fast,
    /// Gathered rows, whoever asks for more.
    Gathered,
}

thread_local! {
    static KERNELS: Cell<Kernels> = const { Cell::new(Kernels::Default) };
}

fn with<R>(kernels: Kernels, f: impl FnOnce() -> R) -> R {
    struct Restore(Kernels);
    impl Drop for Restore {
        fn drop(&mut self) {
            KERNELS.with(|v| v.set(self.0));
        }
    }
    let _restore = Restore(KERNELS.with(|v| v.replace(kernels)));
    f()
}

/// Runs `f` with the fast convolutions wherever sizes allow (not inside [`gathered`]), as training does. They round some
/// ten times as much as gathered rows, about 1e-6 to 1e-5 of the result's root mean square at the worst place. That is
/// nothing to a value; but a leaky ReLU whose input is as near to 0 as that may pass gradients with its other slope.
pub fn fast<R>(f: impl FnOnce() -> R) -> R {
    if KERNELS.with(Cell::get) == Kernels::Gathered { f() } else { with(Kernels::Fast, f) }
}

/// Runs `f` with gathered rows for all sizes, even where it asks for the fast convolutions: to compare with.
pub fn gathered<R>(f: impl FnOnce() -> R) -> R {
    with(Kernels::Gathered, f)
}

fn is_fast() -> bool {
    KERNELS.with(Cell::get) == Kernels::Fast
}

/// Which convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// Stride 1, same size.
    Same,
    /// Stride 2 on an odd size, no border.
    Down,
}

/// Sizes of one convolution: x is `[n, c, xh, xw]`, y is `[n, k, h, w]`, weights are `[k, c, size, size]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Which convolution.
    pub geometry: Geometry,
    /// Batch.
    pub n: usize,
    /// Channels of x.
    pub c: usize,
    /// Channels of y.
    pub k: usize,
    /// Height of y.
    pub h: usize,
    /// Width of y.
    pub w: usize,
    /// Kernel side.
    pub size: usize,
}

/// Pictures `[N, C, H, W]`, each channel times its factor `[N, C]` where there are any.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// Row-major values.
    pub data: &'a [f32],
    /// One factor per picture and channel.
    pub factors: Option<&'a [f32]>,
}

impl<'a> Operand<'a> {
    /// Without factors.
    pub fn plain(data: &'a [f32]) -> Self {
        Self { data, factors: None }
    }
    /// With factors.
    pub fn scaled(data: &'a [f32], factors: &'a [f32]) -> Self {
        Self { data, factors: Some(factors) }
    }
    fn factor(&self, i: usize) -> f32 {
        self.factors.map_or(1.0, |f| f[i])
    }
    fn check(&self, planes: usize, area: usize) {
        assert_eq!(self.data.len(), planes * area);
        assert!(self.factors.is_none_or(|f| f.len() == planes));
    }
}

impl Shape {
    /// `(height, width)` of x.
    pub fn x_size(&self) -> (usize, usize) {
        match self.geometry {
            Geometry::Same => (self.h, self.w),
            Geometry::Down => (2 * self.h + 1, 2 * self.w + 1),
        }
    }
    fn row(&self) -> usize {
        self.w + 1
    }
    fn picture(&self) -> usize {
        (self.h + 1) * (self.w + 1)
    }
    /// Zeros before the first picture: the taps reach at most this far back.
    fn lead(&self) -> usize {
        (self.size / 2).max(1) * (self.row() + 1)
    }
    fn plane(&self, pictures: usize) -> usize {
        self.lead() * 2 + pictures * self.picture() + OVERRUN
    }
    /// Pictures worked on together: enough positions for long vectors, few enough for the caches and for sharing.
    fn group(&self) -> usize {
        (4500 / self.picture()).clamp(1, self.n.div_ceil(4).max(1))
    }
    /// Phases of x: 1, or 4 for the even and odd rows and columns.
    fn phases(&self) -> usize {
        if self.geometry == Geometry::Down { 4 } else { 1 }
    }
    /// Row starts of the taps of x in its packed planes, in weight order `[C, k, k]`.
    fn x_rows(&self, plane: usize) -> Vec<usize> {
        let (lead, row, half) = (self.lead(), self.row(), self.size / 2);
        let mut rows = Vec::with_capacity(self.c * self.size * self.size);
        for c in 0..self.c {
            for a in 0..self.size {
                for b in 0..self.size {
                    rows.push(match self.geometry {
                        Geometry::Same => c * plane + lead + a * row + b - half * (row + 1),
                        Geometry::Down => {
                            let phase = (a % 2) * 2 + b % 2;
                            (c * 4 + phase) * plane + lead + (a / 2) * row + b / 2
                        }
                    });
                }
            }
        }
        rows
    }
}

/// Copies a row, times a factor.
fn scaled(out: &mut [f32], row: &[f32], factor: f32) {
    out.iter_mut().zip(row).for_each(|(o, v)| *o = v * factor);
}

/// Lays pictures `from..to` of `x` out in zero-bordered planes, one per channel and phase, times their factors.
fn pack_x(s: &Shape, x: Operand<'_>, from: usize, to: usize) -> Vec<f32> {
    let (xh, xw) = s.x_size();
    let plane = s.plane(to - from);
    let mut out = vec![0.0; s.c * s.phases() * plane];
    for c in 0..s.c {
        for n in from..to {
            let source = &x.data[(n * s.c + c) * xh * xw..][..xh * xw];
            let factor = x.factor(n * s.c + c);
            let base = s.lead() + (n - from) * s.picture();
            for (i, row) in source.chunks_exact(xw).enumerate() {
                match s.geometry {
                    Geometry::Same => {
                        scaled(&mut out[c * plane + base + i * s.row()..][..xw], row, factor);
                    }
                    Geometry::Down => {
                        let (even, odd) = ((c * 4 + (i % 2) * 2) * plane, (c * 4 + (i % 2) * 2 + 1) * plane);
                        let at = base + (i / 2) * s.row();
                        for (j, pair) in row.chunks(2).enumerate() {
                            out[even + at + j] = pair[0] * factor;
                            if let Some(v) = pair.get(1) {
                                out[odd + at + j] = v * factor;
                            }
                        }
                    }
                }
            }
        }
    }
    out
}

/// Lays pictures of `y` out likewise.
fn pack_y(s: &Shape, y: Operand<'_>, from: usize, to: usize) -> Vec<f32> {
    let plane = s.plane(to - from);
    let mut out = vec![0.0; s.k * plane];
    for k in 0..s.k {
        for n in from..to {
            let source = &y.data[(n * s.k + k) * s.h * s.w..][..s.h * s.w];
            let factor = y.factor(n * s.k + k);
            let base = k * plane + s.lead() + (n - from) * s.picture();
            for (i, row) in source.chunks_exact(s.w).enumerate() {
                scaled(&mut out[base + i * s.row()..][..s.w], row, factor);
            }
        }
    }
    out
}

fn groups(s: &Shape) -> Vec<(usize, usize)> {
    let g = s.group();
    (0..s.n).step_by(g).map(|from| (from, (from + g).min(s.n))).collect()
}

/// F: y = conv(x, w). `finish(row, n * K + k)` may change each row of y while it is in the cache: factors, bias,
/// activation.
///
/// # Panics
/// If a slice does not have the size that `s` says.
pub fn forward(
    isa: Isa,
    s: &Shape,
    x: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    let (xh, xw) = s.x_size();
    let taps = s.c * s.size * s.size;
    x.check(s.n * s.c, xh * xw);
    assert_eq!(w.len(), s.k * taps);
    if is_fast() && train::serves(s) {
        return train::forward(isa, s, x, w, finish);
    }
    let packed = Packed::new(isa, s.k, taps, |k, r| w[k * taps + r]);
    let mut y = vec![0.0; s.n * s.k * s.h * s.w];
    let size = s.group() * s.k * s.h * s.w;
    y.par_chunks_mut(size).zip(groups(s)).for_each(|(y, (from, to))| {
        let xs = pack_x(s, x, from, to);
        let rows = s.x_rows(s.plane(to - from));
        let positions = (to - from) * s.picture();
        let stride = positions + OVERRUN;
        let mut out = vec![0.0; packed.padded_outputs() * stride];
        rows_times_weights(&packed, Rows { data: &xs, starts: &rows }, positions, &mut out, stride);
        for (i, row) in y.chunks_exact_mut(s.w).enumerate() {
            let (n, k, i) = (i / (s.k * s.h), (i / s.h) % s.k, i % s.h);
            row.copy_from_slice(&out[k * stride + n * s.picture() + i * s.row()..][..s.w]);
            finish(row, (from + n) * s.k + k);
        }
    });
    y
}

/// T: the adjoint in x, `x = conv^T(y, w)`. `finish(row, n * C + c)` as in [`forward`].
///
/// # Panics
/// If a slice does not have the size that `s` says.
pub fn transposed(
    isa: Isa,
    s: &Shape,
    y: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    let (xh, xw) = s.x_size();
    let area = s.size * s.size;
    y.check(s.n * s.k, s.h * s.w);
    assert_eq!(w.len(), s.k * s.c * area);
    if is_fast() && train::serves_transposed(isa, s) {
        return train::transposed(isa, s, y, w, finish);
    }
    // One product for each phase of x: which taps (a, b) reach it, and how far back their y lies.
    let phases: Vec<Vec<(usize, usize)>> = match s.geometry {
        Geometry::Same => vec![(0..area).map(|t| (t / s.size, t % s.size)).collect()],
        Geometry::Down => (0..4)
            .map(|p| (0..area).map(|t| (t / 3, t % 3)).filter(|(a, b)| (a % 2) * 2 + b % 2 == p).collect())
            .collect(),
    };
    let packed: Vec<Packed> = phases
        .iter()
        .map(|taps| {
            Packed::new(isa, s.c, s.k * taps.len(), |c, r| {
                let (k, (a, b)) = (r / taps.len(), taps[r % taps.len()]);
                w[((k * s.c + c) * s.size + a) * s.size + b]
            })
        })
        .collect();
    let mut x = vec![0.0; s.n * s.c * xh * xw];
    x.par_chunks_mut(s.group() * s.c * xh * xw).zip(groups(s)).for_each(|(x, (from, to))| {
        let ys = pack_y(s, y, from, to);
        let plane = s.plane(to - from);
        let positions = (to - from) * s.picture();
        let stride = positions + OVERRUN;
        let mut out = vec![0.0; packed[0].padded_outputs() * stride];
        for (phase, (taps, w)) in phases.iter().zip(&packed).enumerate() {
            let rows: Vec<usize> = (0..s.k)
                .flat_map(|k| {
                    taps.iter().map(move |(a, b)| {
                        let at = k * plane + s.lead();
                        match s.geometry {
                            Geometry::Same => at + (s.size / 2) * (s.row() + 1) - a * s.row() - b,
                            Geometry::Down => at - (a / 2) * s.row() - b / 2,
                        }
                    })
                })
                .collect();
            rows_times_weights(w, Rows { data: &ys, starts: &rows }, positions, &mut out, stride);
            let (py, px) = (phase / 2, phase % 2);
            let step = if s.geometry == Geometry::Down { 2 } else { 1 };
            for (i, row) in x.chunks_exact_mut(xw).enumerate() {
                let (n, c, i) = (i / (s.c * xh), (i / xh) % s.c, i % xh);
                if i % step != py {
                    continue;
                }
                let source = &out[c * stride + n * s.picture() + (i / step) * s.row()..];
                if step == 1 {
                    row.copy_from_slice(&source[..xw]);
                } else {
                    row[px..].iter_mut().step_by(2).zip(source).for_each(|(d, v)| *d = *v);
                }
            }
        }
        for (i, row) in x.chunks_exact_mut(xw).enumerate() {
            finish(row, from * s.c + i / xh);
        }
    });
    x
}

/// W: the gradient of `sum(y * conv(x, w))` with respect to w, `[K, C, k, k]`.
///
/// # Panics
/// If a slice does not have the size that `s` says.
pub fn weight_gradient(isa: Isa, s: &Shape, x: Operand<'_>, y: Operand<'_>) -> Vec<f32> {
    let (xh, xw) = s.x_size();
    let taps = s.c * s.size * s.size;
    x.check(s.n * s.c, xh * xw);
    y.check(s.n * s.k, s.h * s.w);
    if is_fast() && train::serves(s) {
        return train::weight_gradient(isa, s, x, y);
    }
    let parts: Vec<Vec<f32>> = groups(s)
        .into_par_iter()
        .map(|(from, to)| {
            let xs = pack_x(s, x, from, to);
            let ys = pack_y(s, y, from, to);
            let plane = s.plane(to - from);
            let mut g = vec![0.0; taps * s.k];
            let positions = (to - from) * s.picture();
            let rows = Rows { data: &xs, starts: &s.x_rows(plane) };
            rows_times_rows(isa, &ys[s.lead()..], plane, s.k, rows, positions, &mut g);
            g
        })
        .collect();
    let mut out = vec![0.0; s.k * taps];
    for g in parts {
        for (r, row) in g.chunks_exact(s.k).enumerate() {
            for (k, v) in row.iter().enumerate() {
                out[k * taps + r] += v;
            }
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::kernels) fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (s >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// The definition, in f64.
    fn naive(s: &Shape, x: &[f32], w: &[f32]) -> Vec<f64> {
        let (xh, xw) = s.x_size();
        let mut y = vec![0.0; s.n * s.k * s.h * s.w];
        for (o, out) in y.iter_mut().enumerate() {
            let (n, k, i, j) = (o / (s.k * s.h * s.w), o / (s.h * s.w) % s.k, o / s.w % s.h, o % s.w);
            for c in 0..s.c {
                for a in 0..s.size {
                    for b in 0..s.size {
                        let (u, v) = match s.geometry {
                            Geometry::Same => (i + a, j + b),
                            Geometry::Down => (2 * i + a + s.size / 2, 2 * j + b + s.size / 2),
                        };
                        let half = s.size / 2;
                        if u < half || v < half || u - half >= xh || v - half >= xw {
                            continue;
                        }
                        *out += f64::from(x[((n * s.c + c) * xh + u - half) * xw + v - half])
                            * f64::from(w[((k * s.c + c) * s.size + a) * s.size + b]);
                    }
                }
            }
        }
        y
    }

    #[test]
    fn forward_is_the_definition_and_the_others_are_its_adjoints() {
        let same = Geometry::Same;
        let shapes = [
            Shape { geometry: same, n: 3, c: 5, k: 9, h: 6, w: 7, size: 3 },
            Shape { geometry: same, n: 1, c: 2, k: 1, h: 1, w: 1, size: 3 },
            Shape { geometry: same, n: 9, c: 17, k: 3, h: 4, w: 4, size: 1 },
            Shape { geometry: Geometry::Down, n: 5, c: 3, k: 10, h: 5, w: 4, size: 3 },
            Shape { geometry: Geometry::Down, n: 2, c: 8, k: 8, h: 16, w: 16, size: 3 },
        ];
        for isa in Isa::available() {
            for s in &shapes {
                let (xh, xw) = s.x_size();
                let x = values(s.n * s.c * xh * xw, 1);
                let w = values(s.k * s.c * s.size * s.size, 2);
                let g = values(s.n * s.k * s.h * s.w, 3);
                let y = forward(isa, s, Operand::plain(&x), &w, |_, _| ());
                let e = naive(s, &x, &w);
                for (a, b) in y.iter().zip(&e) {
                    assert!((f64::from(*a) - b).abs() < 1e-4, "{isa:?} {s:?}");
                }
                // <g, F x> is linear in x and in w: its exact derivatives are T and W. Check every entry by
                // putting unit vectors through the definition.
                let dot = |y: &[f64]| y.iter().zip(&g).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
                let gx = transposed(isa, s, Operand::plain(&g), &w, |_, _| ());
                for i in (0..x.len()).step_by(x.len() / 40 + 1) {
                    let mut unit = vec![0.0; x.len()];
                    unit[i] = 1.0;
                    assert!(
                        (dot(&naive(s, &unit, &w)) - f64::from(gx[i])).abs() < 1e-4,
                        "{isa:?} {s:?} x {i}"
                    );
                }
                let gw = weight_gradient(isa, s, Operand::plain(&x), Operand::plain(&g));
                for i in (0..w.len()).step_by(w.len() / 40 + 1) {
                    let mut unit = vec![0.0; w.len()];
                    unit[i] = 1.0;
                    let e = dot(&naive(s, &x, &unit));
                    assert!((e - f64::from(gw[i])).abs() < 1e-3, "{isa:?} {s:?} w {i}: {e} {}", gw[i]);
                }
            }
        }
    }
}

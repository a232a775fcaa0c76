//! Fast convolutions along one axis; two of them, one in each direction, make a fast convolution in the plane.
//!
//! Each turns `I` inputs into `P` values (the polynomial of the inputs at `P` points), multiplies them by transformed
//! weights in `Q` products, and combines those to `O` outputs. In the plane there are `P^2` values, `Q^2` products
//! and `W^2` transformed weights per pair of channels, W being the number of [`Axis::WEIGHTS`].
//!
//! * Winograd's minimal filtering F(m, 3) (Lavin and Gray 2016, arXiv 1509.09308): m outputs of a 3-tap correlation
//!   from m + 2 products. The points are 0, infinity and, for m = 2, plus and minus 1; for m = 4, plus and minus
//!   the square root of 1/2 and of 2: with the usual 1 and 2 the errors are two to three times as large.
//! * Toom and Cook's product of polynomials for the transposed convolution of stride 2, `t[2i + k] += x[i] w[k]`: odd
//!   outputs are products by w[1] alone; even ones are the coefficients of `x(z) (w[0] + w[2] z)`, of degree m, found
//!   from m + 1 points (0, infinity; for m = 2 also 1; for m = 4 plus and minus the square root of 1/2, and that of 2).
//!   All odd products of an axis share one transformed weight.

use super::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// See the module.
pub(super) trait Axis<const I: usize, const P: usize, const Q: usize, const O: usize> {
    /// Distinct transformed weights.
    const WEIGHTS: usize;
    /// Which point each product multiplies.
    const POINT: [usize; Q];
    /// Which transformed weight each product multiplies by.
    const WEIGHT: [usize; Q];
    /// Inputs from one tile to the next.
    const STEP: usize;
    /// Zeros before the first input.
    const PAD: usize;
    /// True for the transposed convolutions, whose tiles' outputs overlap by one.
    const UP: bool;
    /// The matrix `[WEIGHTS][taps]` from weights to transformed weights, to be used in f64.
    fn weights() -> Vec<Vec<f64>>;
    /// Inputs to points.
    ///
    /// # Safety
    /// The instruction set of `V` is present.
    unsafe fn input<V: Simd>(x: [V; I]) -> [V; P];
    /// Products to outputs.
    ///
    /// # Safety
    /// The instruction set of `V` is present.
    unsafe fn output<V: Simd>(m: [V; Q]) -> [V; O];
}

/// F(4, 3).
pub(super) struct Winograd4;
/// F(2, 3).
pub(super) struct Winograd2;
/// Stride 2 transposed, four inputs a tile.
pub(super) struct ToomCook4;
/// Stride 2 transposed, two inputs a tile.
pub(super) struct ToomCook2;
/// One tap.
pub(super) struct Pointwise;

/// 1 over the product of `p - q` over all other points q.
fn weight_at(p: f64, points: &[f64]) -> f64 {
    1.0 / points.iter().filter(|q| **q != p).map(|q| p - q).product::<f64>()
}

impl Axis<6, 6, 6, 4> for Winograd4 {
    const WEIGHTS: usize = 6;
    const POINT: [usize; 6] = [0, 1, 2, 3, 4, 5];
    const WEIGHT: [usize; 6] = [0, 1, 2, 3, 4, 5];
    const STEP: usize = 4;
    const PAD: usize = 1;
    const UP: bool = false;
    fn weights() -> Vec<Vec<f64>> {
        let (a, b) = (0.5f64.sqrt(), 2f64.sqrt());
        let points = [0.0, a, -a, b, -b];
        let row = |p: f64| [1.0, p, p * p].map(|v| v * weight_at(p, &points)).to_vec();
        points.iter().map(|p| row(*p)).chain([vec![0.0, 0.0, 1.0]]).collect()
    }
    #[inline(always)]
    unsafe fn input<V: Simd>(x: [V; 6]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let (two, half, middle) = (V::all(-2.0), V::all(-0.5), V::all(-2.5));
            let (a, b) = (V::all(FRAC_1_SQRT_2), V::all(SQRT_2));
            // At p = ±a: x4 - 2 x2 ± a (x3 - 2 x1), the other pair likewise.
            let (e, o) = (x[4].fma(two, x[2]), x[3].fma(two, x[1]).mul(a));
            let (f, u) = (x[4].fma(half, x[2]), x[3].fma(half, x[1]).mul(b));
            let first = x[0].add(x[4]).fma(middle, x[2]);
            let last = x[1].add(x[5]).fma(middle, x[3]);
            [first, e.add(o), e.sub(o), f.add(u), f.sub(u), last]
        }
    }
    #[inline(always)]
    unsafe fn output<V: Simd>(m: [V; 6]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let (s, d, t, e) = (m[1].add(m[2]), m[1].sub(m[2]), m[3].add(m[4]), m[3].sub(m[4]));
            let (a, b) = (V::all(FRAC_1_SQRT_2), V::all(SQRT_2));
            let (a3, b3) = (V::all(0.5 * FRAC_1_SQRT_2), V::all(2.0 * SQRT_2));
            [
                m[0].add(s).add(t),
                d.mul(a).fma(b, e),
                s.mul(V::all(0.5)).fma(V::all(2.0), t),
                m[5].fma(a3, d).fma(b3, e),
            ]
        }
    }
}

impl Axis<4, 4, 4, 2> for Winograd2 {
    const WEIGHTS: usize = 4;
    const POINT: [usize; 4] = [0, 1, 2, 3];
    const WEIGHT: [usize; 4] = [0, 1, 2, 3];
    const STEP: usize = 2;
    const PAD: usize = 1;
    const UP: bool = false;
    fn weights() -> Vec<Vec<f64>> {
        vec![vec![1.0, 0.0, 0.0], vec![0.5, 0.5, 0.5], vec![0.5, -0.5, 0.5], vec![0.0, 0.0, 1.0]]
    }
    #[inline(always)]
    unsafe fn input<V: Simd>(x: [V; 4]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [x[0].sub(x[2]), x[1].add(x[2]), x[2].sub(x[1]), x[3].sub(x[1])] }
    }
    #[inline(always)]
    unsafe fn output<V: Simd>(m: [V; 4]) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).add(m[3])] }
    }
}

impl Axis<4, 7, 9, 9> for ToomCook4 {
    const WEIGHTS: usize = 6;
    const POINT: [usize; 9] = [0, 1, 2, 3, 0, 4, 5, 6, 3];
    const WEIGHT: [usize; 9] = [0, 0, 0, 0, 1, 2, 3, 4, 5];
    const STEP: usize = 4;
    const PAD: usize = 0;
    const UP: bool = true;
    fn weights() -> Vec<Vec<f64>> {
        let (a, b) = (0.5f64.sqrt(), 2f64.sqrt());
        let points = [0.0, a, -a, b];
        let row = |p: f64| [1.0, 0.0, p].map(|v| v * weight_at(p, &points)).to_vec();
        let even = points.iter().map(|p| row(*p));
        [vec![0.0, 1.0, 0.0]].into_iter().chain(even).chain([vec![0.0, 0.0, 1.0]]).collect()
    }
    #[inline(always)]
    unsafe fn input<V: Simd>(x: [V; 4]) -> [V; 7] {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b, half, two) = (V::all(FRAC_1_SQRT_2), V::all(SQRT_2), V::all(0.5), V::all(2.0));
            let (e, o) = (x[0].fma(half, x[2]), x[1].fma(half, x[3]).mul(a));
            let at_b = x[0].fma(two, x[2]).fma(b, x[1].fma(two, x[3]));
            [x[0], x[1], x[2], x[3], e.add(o), e.sub(o), at_b]
        }
    }
    // With q0, q+, q-, qb and q8 = q(infinity): e(z) = q0 (z²-a²)(z-b) + q+ z(z+a)(z-b) + q- z(z-a)(z-b)
    // + qb z(z²-a²) + q8 z(z²-a²)(z-b), where a² = 1/2, a b = 1, a² b = a.
    #[inline(always)]
    unsafe fn output<V: Simd>(m: [V; 9]) -> [V; 9] {
        // SAFETY: the caller's promise.
        unsafe {
            let [o0, o1, o2, o3, q0, plus, minus, at_b, last] = m;
            let (a, b) = (V::all(FRAC_1_SQRT_2), V::all(-SQRT_2));
            let half = V::all(-0.5);
            let (s, d, t) = (plus.add(minus), plus.sub(minus), q0.add(at_b));
            let e0 = q0.mul(a);
            let e1 = last.mul(a).sub(d).fma(half, t);
            let e2 = d.mul(a).fma(b, q0.add(s)).fma(half, last);
            let e3 = t.add(s).fma(b, last);
            [e0, o0, e1, o1, e2, o2, e3, o3, last]
        }
    }
}

impl Axis<2, 3, 5, 5> for ToomCook2 {
    const WEIGHTS: usize = 4;
    const POINT: [usize; 5] = [0, 1, 0, 2, 1];
    const WEIGHT: [usize; 5] = [0, 0, 1, 2, 3];
    const STEP: usize = 2;
    const PAD: usize = 0;
    const UP: bool = true;
    fn weights() -> Vec<Vec<f64>> {
        vec![vec![0.0, 1.0, 0.0], vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0]]
    }
    #[inline(always)]
    unsafe fn input<V: Simd>(x: [V; 2]) -> [V; 3] {
        // SAFETY: the caller's promise.
        unsafe { [x[0], x[1], x[0].add(x[1])] }
    }
    #[inline(always)]
    unsafe fn output<V: Simd>(m: [V; 5]) -> [V; 5] {
        // SAFETY: the caller's promise.
        unsafe { [m[2], m[0], m[3].sub(m[2]).sub(m[4]), m[1], m[4]] }
    }
}

impl Axis<1, 1, 1, 1> for Pointwise {
    const WEIGHTS: usize = 1;
    const POINT: [usize; 1] = [0];
    const WEIGHT: [usize; 1] = [0];
    const STEP: usize = 1;
    const PAD: usize = 0;
    const UP: bool = false;
    fn weights() -> Vec<Vec<f64>> {
        vec![vec![1.0]]
    }
    #[inline(always)]
    unsafe fn input<V: Simd>(x: [V; 1]) -> [V; 1] {
        x
    }
    #[inline(always)]
    unsafe fn output<V: Simd>(m: [V; 1]) -> [V; 1] {
        m
    }
}

//! Linear maps of one axis of a window: the transforms of [`super::super::axis`] and their adjoints.
//!
//! A fast convolution is a bilinear algorithm, `y = O ((G w) * (I x))` with matrices O, G, I and products * entry by entry
//! (Winograd 1980, Arithmetic Complexity of Computations). So its adjoint in x is `I' ((G w) * (O' y))` with the
//! transposed matrices and as many products, and the gradient of w is `G' ((I x) * (O' y))`, summed over the tiles.

use crate::kernels::axis::{Axis, ToomCook4, Winograd4};
use crate::kernels::simd::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::marker::PhantomData;

/// See the module.
pub(super) trait Line<const A: usize, const B: usize> {
    /// # Safety
    /// The instruction set of `V` is present.
    unsafe fn map<V: Simd>(x: [V; A]) -> [V; B];
}

/// I: inputs to points.
pub(super) struct Input<X>(PhantomData<X>);
/// O: products to outputs.
pub(super) struct Output<X>(PhantomData<X>);
/// I': points to inputs.
pub(super) struct InputAdjoint<X>(PhantomData<X>);
/// O': outputs to products.
pub(super) struct OutputAdjoint<X>(PhantomData<X>);

impl Line<6, 6> for Input<Winograd4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(x: [V; 6]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe { Winograd4::input(x) }
    }
}

impl Line<6, 4> for Output<Winograd4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(m: [V; 6]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { Winograd4::output(m) }
    }
}

impl Line<4, 6> for OutputAdjoint<Winograd4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(y: [V; 4]) -> [V; 6] {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (V::all(FRAC_1_SQRT_2), V::all(SQRT_2));
            let (a3, b3) = (V::all(0.5 * FRAC_1_SQRT_2), V::all(2.0 * SQRT_2));
            // What reaches the sums and the differences of the products at ±a and at ±b.
            let (s, t) = (y[0].fma(V::all(0.5), y[2]), y[0].fma(V::all(2.0), y[2]));
            let (d, e) = (y[1].mul(a).fma(a3, y[3]), y[1].mul(b).fma(b3, y[3]));
            [y[0], s.add(d), s.sub(d), t.add(e), t.sub(e), y[3]]
        }
    }
}

impl Line<4, 7> for Input<ToomCook4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(x: [V; 4]) -> [V; 7] {
        // SAFETY: the caller's promise.
        unsafe { ToomCook4::input(x) }
    }
}

impl Line<9, 9> for Output<ToomCook4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(m: [V; 9]) -> [V; 9] {
        // SAFETY: the caller's promise.
        unsafe { ToomCook4::output(m) }
    }
}

impl Line<7, 4> for InputAdjoint<ToomCook4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(p: [V; 7]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let (e, o) = (p[4].add(p[5]), p[4].sub(p[5]));
            let (a, b) = (V::all(FRAC_1_SQRT_2), V::all(SQRT_2));
            let (a3, b3) = (V::all(0.5 * FRAC_1_SQRT_2), V::all(2.0 * SQRT_2));
            [
                p[0].add(e).add(p[6]),
                p[1].fma(a, o).fma(b, p[6]),
                p[2].fma(V::all(0.5), e).fma(V::all(2.0), p[6]),
                p[3].fma(a3, o).fma(b3, p[6]),
            ]
        }
    }
}

impl Line<9, 9> for OutputAdjoint<ToomCook4> {
    #[inline(always)]
    unsafe fn map<V: Simd>(y: [V; 9]) -> [V; 9] {
        // SAFETY: the caller's promise.
        unsafe {
            let [e0, o0, e1, o1, e2, o2, e3, o3, last] = y;
            let (a, b, half) = (V::all(FRAC_1_SQRT_2), V::all(-SQRT_2), V::all(-0.5));
            // What reaches the sum and the difference of the products at ±a, and q0 + qb.
            let (s, d) = (e3.fma(b, e2), e2.mul(a).sub(e1));
            let t = e3.fma(half, e1);
            let q0 = t.fma(a, e0).fma(b, e2);
            let infinity = last.fma(a, e1).fma(half, e2).fma(b, e3);
            [o0, o1, o2, o3, q0, s.add(d), s.sub(d), t, infinity]
        }
    }
}

/// The products of an algorithm in the plane: point, transformed weight, product, for each.
pub(super) fn products<X, const I: usize, const P: usize, const Q: usize, const O: usize>() -> Vec<[usize; 3]>
where
    X: Axis<I, P, Q, O>,
{
    (0..Q * Q)
        .map(|q| {
            let (y, x) = (q / Q, q % Q);
            [X::POINT[y] * P + X::POINT[x], X::WEIGHT[y] * X::WEIGHTS + X::WEIGHT[x], q]
        })
        .collect()
}

/// G, `[W][3]`.
pub(super) fn weights<X, const I: usize, const P: usize, const Q: usize, const O: usize>() -> Vec<[f32; 3]>
where
    X: Axis<I, P, Q, O>,
{
    X::weights().iter().map(|r| std::array::from_fn(|i| r.get(i).map_or(0.0, |v| *v as f32))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv::tests::values;

    /// `<L x, y> = <x, L' y>` for random x and y.
    fn adjoint<L: Line<A, B>, T: Line<B, A>, const A: usize, const B: usize>() {
        let (xs, ys) = (values(A, 1), values(B, 2));
        // SAFETY: portable vectors need no instruction set.
        let (to, back) = unsafe {
            (
                L::map::<[f32; 8]>(std::array::from_fn(|i| [xs[i]; 8])),
                T::map::<[f32; 8]>(std::array::from_fn(|i| [ys[i]; 8])),
            )
        };
        let dot = |a: &[f32], b: &[[f32; 8]]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(b[0])).sum()
        };
        let (left, right) = (dot(&ys, &to), dot(&xs, &back));
        assert!((left - right).abs() < 1e-5 && left.abs() > 1e-2, "{left} {right}");
    }

    #[test]
    fn adjoints_are_the_transposed_matrices() {
        adjoint::<Output<Winograd4>, OutputAdjoint<Winograd4>, 6, 4>();
        adjoint::<Output<ToomCook4>, OutputAdjoint<ToomCook4>, 9, 9>();
        adjoint::<Input<ToomCook4>, InputAdjoint<ToomCook4>, 4, 7>();
    }
}

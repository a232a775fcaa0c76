//! Weights into the transforms' domain: a panel at once when a network is loaded, a few inputs at a time where a picture
//! has so few tiles that the transformed weights' way from memory would take longer than making them anew.

use crate::kernels::panels::{Product, product};
use crate::kernels::simd::{Kernel, Simd};
use std::ops::Range;

/// Inputs whose weights are transformed together: both forms fit the first-level cache.
pub(super) const INPUTS: usize = 16;

/// Transforms `inputs` inputs of a panel, `raw` `[C][9][width]`, for the row of matrices `row`; that of column ux goes to
/// `out + ux * step`, `[C][width]`.
#[inline(always)]
unsafe fn transform<V: Simd>(
    (raw, inputs, width): (*const f32, usize, usize),
    row: [f32; 3],
    axis: &[[f32; 3]],
    (out, step): (*mut f32, usize),
) {
    let [a, b, c] = row;
    // SAFETY: the caller promises the weights, and room for as many as there are rows of the transform.
    unsafe {
        let (a, b, c) = (V::all(a), V::all(b), V::all(c));
        for input in 0..inputs {
            for at in (0..width).step_by(V::LANES) {
                let w = raw.add(input * 9 * width + at);
                let mut column = [V::zero(); 3];
                for (i, column) in column.iter_mut().enumerate() {
                    let first = V::load(w.add(i * width)).mul(a);
                    let second = first.fma(V::load(w.add((3 + i) * width)), b);
                    *column = second.fma(V::load(w.add((6 + i) * width)), c);
                }
                for (ux, f) in axis.iter().enumerate() {
                    let first = column[0].mul(V::all(f[0]));
                    let u = first.fma(column[1], V::all(f[1])).fma(column[2], V::all(f[2]));
                    u.store(out.add(ux * step + input * width + at));
                }
            }
        }
    }
}

/// Kernel of `FastConv::transform`, for a whole panel.
pub(super) struct Transform<'a> {
    pub raw: *const f32,
    pub inputs: usize,
    pub width: usize,
    pub row: [f32; 3],
    pub axis: &'a [[f32; 3]],
    pub out: *mut f32,
    pub step: usize,
}

impl Kernel for Transform<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            transform::<V>((self.raw, self.inputs, self.width), self.row, self.axis, (self.out, self.step))
        }
    }
}

/// One panel's products with weights that are transformed on the spot, a few inputs at a time.
pub(super) struct Few<'a> {
    /// `[C][9][width]`
    pub raw: *const f32,
    pub inputs: usize,
    pub width: usize,
    pub axis: &'a [[f32; 3]],
    /// For each row of matrices: column, where the values begin, where the products go.
    pub table: &'a [Vec<[usize; 3]>],
    /// The rows of matrices to be made.
    pub rows: Range<usize>,
    pub v: *const f32,
    pub v_tile: usize,
    pub tiles: usize,
    pub m: *mut f32,
    /// Room for `INPUTS` inputs of a row of matrices.
    pub scratch: *mut f32,
}

impl Kernel for Few<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let size = INPUTS * self.width;
        // SAFETY: the caller promises the panel, the values of `tiles` tiles, and room for products and scratch.
        unsafe {
            for from in (0..self.inputs).step_by(INPUTS) {
                let raw = self.raw.add(from * 9 * self.width);
                // While these are at work, the next inputs' weights are asked for, a ninth with each product.
                let mut ahead = 0..if from + INPUTS < self.inputs { 9 } else { 0 };
                for row in self.rows.clone() {
                    transform::<V>(
                        (raw, INPUTS, self.width),
                        self.axis[row],
                        self.axis,
                        (self.scratch, size),
                    );
                    for [ux, v, m] in &self.table[row] {
                        let next =
                            ahead.next().map_or(std::ptr::null(), |i| raw.wrapping_add((9 + i) * size));
                        let p = Product {
                            v: self.v.wrapping_add(*v + from),
                            v_row: self.v_tile,
                            rows: self.tiles,
                            u: self.scratch.add(ux * size),
                            inputs: INPUTS,
                            m: self.m.wrapping_add(*m),
                            more: from > 0,
                            next,
                        };
                        product::<V>(&p);
                    }
                }
            }
        }
    }
}

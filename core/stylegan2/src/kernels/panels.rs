//! The matrix product in the middle of every fast convolution: rows of values times panels of weights.
//!
//! A panel holds the weights of `2 * LANES` outputs for all inputs, `[C][2 * LANES]`, and is read from front to back.
//! A block of rows times a panel stays in registers from the first input to the last, so each sum runs over the
//! inputs in order whatever the number of rows: results depend neither on the batch nor on threads.

use super::aligned::Aligned;
use super::gemm::Isa;
use super::simd::{Kernel, Simd, dispatch};

/// Outputs in a panel.
pub(super) const fn width(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 32,
        Isa::Avx2 | Isa::Portable => 16,
    }
}

/// Asks for a cache line ahead of time, into the second-level cache.
#[inline(always)]
unsafe fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that may name any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Sizes of a product: `m[r][k] = sum over c of v[r][c] u[c][k]` for one panel of u.
#[derive(Clone, Copy)]
pub(super) struct Product {
    /// Values, row r at `r * v_row`.
    pub v: *const f32,
    /// Values from one row to the next.
    pub v_row: usize,
    /// Rows.
    pub rows: usize,
    /// The panel.
    pub u: *const f32,
    /// Inputs, a multiple of 4.
    pub inputs: usize,
    /// Results, `[rows][panel]`.
    pub m: *mut f32,
    /// Whether to go on from the sums that stand there.
    pub more: bool,
    /// The panel that will be needed next, or null.
    pub next: *const f32,
}

/// `R` rows from `first` on. `lines` cache lines of the next panel, from line `ahead` on, are asked for every four
/// inputs.
#[inline(always)]
unsafe fn block<V: Simd, const R: usize>(p: &Product, first: usize, lines: usize, ahead: usize) {
    // SAFETY: the caller promises that rows `first .. first + R`, the panel and the results are there.
    unsafe {
        let mut acc = [[V::zero(); 2]; R];
        if p.more {
            for (r, acc) in acc.iter_mut().enumerate() {
                let m = p.m.add((first + r) * 2 * V::LANES);
                *acc = [V::load(m), V::load(m.add(V::LANES))];
            }
        }
        // One pointer for four rows keeps the addresses in registers.
        let mut v: [*const f32; 4] = std::array::from_fn(|g| p.v.wrapping_add((first + 4 * g) * p.v_row));
        let mut u = p.u;
        let mut next = p.next.wrapping_add(ahead * 16);
        for _ in 0..p.inputs / 4 {
            if !p.next.is_null() {
                for _ in 0..lines {
                    prefetch(next);
                    next = next.wrapping_add(16);
                }
            }
            for j in 0..4 {
                let (u0, u1) = (V::load(u), V::load(u.add(V::LANES)));
                u = u.add(2 * V::LANES);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let value = V::splat(v[r / 4].add((r % 4) * p.v_row + j));
                    acc[0] = acc[0].fma(value, u0);
                    acc[1] = acc[1].fma(value, u1);
                }
            }
            for v in v.iter_mut().take(R.div_ceil(4)) {
                *v = v.add(4);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let m = p.m.add((first + r) * 2 * V::LANES);
            acc[0].store(m);
            acc[1].store(m.add(V::LANES));
        }
    }
}

/// # Safety
/// The instruction set of `V` is present; the pointers lead to as much as the sizes say.
#[inline(always)]
pub(super) unsafe fn product<V: Simd>(p: &Product) {
    let blocks = p.rows.div_ceil(V::ROWS);
    // Each block asks for its share of the next panel: LANES * inputs / 8 lines in all.
    let lines = (V::LANES / 2).div_ceil(blocks.max(1));
    for b in 0..blocks {
        let (from, to) = (b * p.rows / blocks, (b + 1) * p.rows / blocks);
        let ahead = b * lines * (p.inputs / 4);
        // SAFETY: the caller's promise.
        unsafe {
            match to - from {
                1 => block::<V, 1>(p, from, lines, ahead),
                2 => block::<V, 2>(p, from, lines, ahead),
                3 => block::<V, 3>(p, from, lines, ahead),
                4 => block::<V, 4>(p, from, lines, ahead),
                5 => block::<V, 5>(p, from, lines, ahead),
                6 => block::<V, 6>(p, from, lines, ahead),
                7 => block::<V, 7>(p, from, lines, ahead),
                8 => block::<V, 8>(p, from, lines, ahead),
                9 => block::<V, 9>(p, from, lines, ahead),
                10 => block::<V, 10>(p, from, lines, ahead),
                11 => block::<V, 11>(p, from, lines, ahead),
                12 => block::<V, 12>(p, from, lines, ahead),
                13 => block::<V, 13>(p, from, lines, ahead),
                _ => block::<V, 14>(p, from, lines, ahead),
            }
        }
    }
}

/// Weights of a plain product `y[r][k] = sum over c of x[r][c] w[k][c]`, for the small matrices of styles.
pub(crate) struct Matrix {
    isa: Isa,
    inputs: usize,
    outputs: usize,
    data: Aligned,
}

/// [`product`] as a kernel.
pub(super) struct Multiply(pub Product);

impl Kernel for Multiply {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe { product::<V>(&self.0) }
    }
}

impl Matrix {
    /// From `w(k, c)`.
    pub(crate) fn new(isa: Isa, outputs: usize, inputs: usize, w: impl Fn(usize, usize) -> f32) -> Self {
        let (width, c4) = (width(isa), inputs.next_multiple_of(4));
        let panels = outputs.div_ceil(width);
        let mut data = Aligned::zeros(panels * c4 * width);
        for k in 0..outputs {
            let base = (k / width) * c4 * width + k % width;
            for c in 0..inputs {
                data[base + c * width] = w(k, c);
            }
        }
        Self { isa, inputs, outputs, data }
    }

    /// Panels.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(width(self.isa))
    }

    /// Outputs of one panel for `rows` rows of `x`, `row` values apart and readable up to a multiple of 4 inputs:
    /// calls `out(r, k, value)` for each.
    ///
    /// # Panics
    /// If `x` is too short.
    pub(crate) fn panel(
        &self,
        panel: usize,
        x: &[f32],
        row: usize,
        rows: usize,
        mut out: impl FnMut(usize, usize, f32),
    ) {
        let (width, c4) = (width(self.isa), self.inputs.next_multiple_of(4));
        assert!(panel < self.panels() && row >= c4 && rows * row <= x.len());
        let mut m = Aligned::zeros(rows * width);
        let u = self.data[panel * c4 * width..].as_ptr();
        let p = Product {
            v: x.as_ptr(),
            v_row: row,
            rows,
            u,
            inputs: c4,
            m: m.as_mut_ptr(),
            more: false,
            next: std::ptr::null(),
        };
        // SAFETY: `Isa`s other than portable exist only where they were detected; sizes were asserted above.
        unsafe { dispatch(self.isa, &Multiply(p)) };
        for (r, values) in m.chunks_exact(width).enumerate() {
            for (k, v) in (panel * width..self.outputs).zip(values) {
                out(r, k, *v);
            }
        }
    }
}

#[cfg(test)]
mod tests;

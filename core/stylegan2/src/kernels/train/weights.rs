//! Weights into the transforms' domain and their gradients back, a panel of outputs and sixteen inputs at a time.

use crate::kernels::simd::{Kernel, Simd};

/// Inputs transformed together: both forms stay in the cache.
pub(super) const INPUTS: usize = 16;
/// Outputs in the widest panel.
pub(super) const WIDEST: usize = 32;

/// How weights `[outputs][inputs][3][3]` stand in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub outputs: usize,
    pub inputs: usize,
    /// They stand as `[inputs][outputs][3][3]`.
    pub swapped: bool,
    /// The kernel is turned by 180 degrees.
    pub turned: bool,
}

impl Order {
    /// The place of the weights of one pair of channels.
    fn pair(&self, output: usize, input: usize) -> usize {
        9 * if self.swapped { input * self.outputs + output } else { output * self.inputs + input }
    }
    /// Calls `f(output, input, place)` for outputs from `k` and inputs from `c` on, at most `width` and [`INPUTS`]
    /// of them, in the order of memory.
    fn each(&self, (k, width): (usize, usize), c: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (ks, cs) = (k..(k + width).min(self.outputs), c..(c + INPUTS).min(self.inputs));
        if self.swapped {
            cs.for_each(|i| ks.clone().for_each(|o| f(o - k, i - c, self.pair(o, i))));
        } else {
            ks.for_each(|o| cs.clone().for_each(|i| f(o - k, i - c, self.pair(o, i))));
        }
    }
    /// The weights of a panel's [`INPUTS`] inputs, `[INPUTS][9][width]`; absent channels are 0.
    pub(super) fn gather(&self, w: &[f32], (k, width): (usize, usize), c: usize, out: &mut [f32]) {
        out.fill(0.0);
        self.each((k, width), c, |o, i, place| {
            for (t, v) in w[place..place + 9].iter().enumerate() {
                let t = if self.turned { 8 - t } else { t };
                out[(i * 9 + t) * width + o] = *v;
            }
        });
    }
    /// The reverse: calls `set(place, values of the nine taps)`.
    pub(super) fn scatter(
        &self,
        from: &[f32],
        (k, width): (usize, usize),
        c: usize,
        mut set: impl FnMut(usize, [f32; 9]),
    ) {
        self.each((k, width), c, |o, i, place| {
            set(
                place,
                std::array::from_fn(|t| from[(i * 9 + if self.turned { 8 - t } else { t }) * width + o]),
            );
        });
    }
}

/// `U = G w G'` for [`INPUTS`] inputs of a panel.
pub(super) struct Prepare<'a> {
    /// `[INPUTS][9][width]`
    pub raw: *const f32,
    pub width: usize,
    pub axis: &'a [[f32; 3]],
    /// The first input's place in the first matrix; `slot` values lead to the next matrix.
    pub out: *mut f32,
    pub slot: usize,
}

impl Kernel for Prepare<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller promises the weights and room in all matrices.
        unsafe {
            for (uy, f) in self.axis.iter().enumerate() {
                for input in 0..INPUTS {
                    for at in (0..self.width).step_by(V::LANES) {
                        let w = self.raw.add(input * 9 * self.width + at);
                        let mut column = [V::zero(); 3];
                        for (i, column) in column.iter_mut().enumerate() {
                            for (j, f) in f.iter().enumerate() {
                                *column = column.fma(V::load(w.add((3 * j + i) * self.width)), V::all(*f));
                            }
                        }
                        for (ux, f) in self.axis.iter().enumerate() {
                            let first = column[0].mul(V::all(f[0]));
                            let u = first.fma(column[1], V::all(f[1])).fma(column[2], V::all(f[2]));
                            u.store(
                                self.out
                                    .add((uy * self.axis.len() + ux) * self.slot + input * self.width + at),
                            );
                        }
                    }
                }
            }
        }
    }
}

/// `dw = G' dU G` for [`INPUTS`] inputs of a panel, summed over the parts of dU.
pub(super) struct Fold<'a> {
    /// The first input's place in the first matrix of the first part.
    pub from: *const f32,
    pub slot: usize,
    /// Parts, and the distance from one to the next.
    pub parts: usize,
    pub part: usize,
    pub width: usize,
    pub axis: &'a [[f32; 3]],
    /// `[INPUTS][9][width]`
    pub out: *mut f32,
}

impl Kernel for Fold<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let w = self.axis.len();
        // SAFETY: the caller promises all matrices and room for the weights.
        unsafe {
            for input in 0..INPUTS {
                for at in (0..self.width).step_by(V::LANES) {
                    let mut out = [[V::zero(); 3]; 3];
                    for (uy, row) in self.axis.iter().enumerate() {
                        let mut sums = [V::zero(); 3];
                        for (ux, column) in self.axis.iter().enumerate() {
                            let from = self.from.add((uy * w + ux) * self.slot + input * self.width + at);
                            let mut u = V::load(from);
                            for part in 1..self.parts {
                                u = u.add(V::load(from.add(part * self.part)));
                            }
                            for (sum, f) in sums.iter_mut().zip(column) {
                                *sum = sum.fma(u, V::all(*f));
                            }
                        }
                        for (out, f) in out.iter_mut().zip(row) {
                            for (out, sum) in out.iter_mut().zip(sums) {
                                *out = out.fma(sum, V::all(*f));
                            }
                        }
                    }
                    for (t, v) in out.iter().flatten().enumerate() {
                        v.store(self.out.add((input * 9 + t) * self.width + at));
                    }
                }
            }
        }
    }
}

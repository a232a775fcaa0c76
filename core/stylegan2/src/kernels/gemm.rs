//! Two matrix products over gathered rows; every convolution of this crate is made of them.
//!
//! A *row* is a run of `positions` values inside a buffer, given by the index where it starts. Rows may overlap: the
//! nine taps of a 3x3 kernel are nine rows of the same zero-bordered picture, shifted. So no im2col copy is needed.
//!
//! * [`rows_times_weights`]: `y[k][p] = sum over r of w[k][r] * row_r[p]`
//! * [`rows_times_rows`]: `g[k][r] += sum over p of y[k][p] * row_r[p]`

use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::sync::OnceLock;

/// Values past a row's end that the vector kernels may read (and ignore) or overwrite.
pub const OVERRUN: usize = 64;

/// Which instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Whatever the compiler makes of arrays of eight.
    Portable,
}

impl Isa {
    /// The best that this machine has.
    pub fn detect() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| *Self::available().first().unwrap_or(&Self::Portable))
    }

    /// All that this machine has, best first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// Output rows computed together.
    const fn block(self) -> usize {
        match self {
            Self::Avx512 => 8,
            Self::Avx2 | Self::Portable => 4,
        }
    }

    /// Name for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
        }
    }
}

/// Rows inside a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The buffer.
    pub data: &'a [f32],
    /// Where each row starts.
    pub starts: &'a [usize],
}

/// Weights of [`rows_times_weights`], repacked for the kernel: blocks of output rows, `[K/block][R][block]`.
pub struct Packed {
    isa: Isa,
    outputs: usize,
    rows: usize,
    data: Vec<f32>,
}

impl Packed {
    /// Packs `outputs` x `rows` weights given by `w(k, r)`.
    pub fn new(isa: Isa, outputs: usize, rows: usize, w: impl Fn(usize, usize) -> f32) -> Self {
        let block = isa.block();
        let mut data = vec![0.0; outputs.div_ceil(block) * block * rows];
        for k in 0..outputs {
            let base = (k / block) * block * rows + k % block;
            for r in 0..rows {
                data[base + r * block] = w(k, r);
            }
        }
        Self { isa, outputs, rows, data }
    }

    /// Output rows that [`rows_times_weights`] writes: the number of outputs rounded up to whole blocks.
    pub fn padded_outputs(&self) -> usize {
        self.outputs.next_multiple_of(self.isa.block())
    }
}

/// `y[k * stride + p] = sum over r of w[k][r] * x.data[x.starts[r] + p]` for all k below [`Packed::padded_outputs`] and p below
/// `positions`. Values of y from `positions` to the next multiple of the vector block are overwritten too.
///
/// # Panics
/// If a row (with [`OVERRUN`]) leaves `x`, or an output row (with [`OVERRUN`]) leaves `y` or meets the next one.
pub fn rows_times_weights(w: &Packed, x: Rows<'_>, positions: usize, y: &mut [f32], stride: usize) {
    let Rows { data: x, starts: rows } = x;
    assert_eq!(rows.len(), w.rows);
    assert!(rows.iter().all(|r| r + positions + OVERRUN <= x.len()));
    assert!(positions + OVERRUN <= stride && w.padded_outputs() * stride <= y.len());
    let (x, y) = (x.as_ptr(), y.as_mut_ptr());
    match w.isa {
        // SAFETY: bounds asserted above; an Isa other than Portable exists only where it was detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { product_avx512(w, x, rows, positions, y, stride) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { product_avx2(w, x, rows, positions, y, stride) },
        // SAFETY: bounds asserted above; portable code needs no instruction set.
        _ => unsafe { product::<[f32; 8], 4, 2>(w, x, rows, positions, y, stride) },
    }
}

/// `g[r * outputs + k] += sum over p of y[k * stride + p] * x.data[x.starts[r] + p]` for k below `outputs` and p below
/// `positions`. Sums run in blocks of positions, the same on every thread count.
///
/// # Panics
/// If a row leaves its buffer. `y` must hold zeros from `positions` to the next multiple of 16 in each row (asserted
/// in debug builds).
pub fn rows_times_rows(
    isa: Isa,
    y: &[f32],
    stride: usize,
    outputs: usize,
    x: Rows<'_>,
    positions: usize,
    g: &mut [f32],
) {
    let Rows { data: x, starts: rows } = x;
    assert!(rows.iter().all(|r| r + positions + OVERRUN <= x.len()));
    assert!(positions + 16 <= stride && (outputs - 1) * stride + positions + OVERRUN <= y.len());
    assert_eq!(g.len(), rows.len() * outputs);
    debug_assert!((0..outputs).all(|k| y[k * stride + positions..][..16].iter().all(|v| *v == 0.0)));
    match isa {
        // SAFETY: bounds asserted above; an Isa other than Portable exists only where it was detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { outer_avx512(y, stride, outputs, x, rows, positions, g) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { outer_avx2(y, stride, outputs, x, rows, positions, g) },
        // SAFETY: bounds asserted above; portable code needs no instruction set.
        _ => unsafe { outer::<[f32; 8], 4, 2>(y, stride, outputs, x, rows, positions, g) },
    }
}

/// # Safety
/// AVX-512F is present; bounds as asserted by [`rows_times_weights`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn product_avx512(w: &Packed, x: *const f32, rows: &[usize], n: usize, y: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { product::<__m512, 8, 3>(w, x, rows, n, y, stride) }
}

/// # Safety
/// AVX2 and FMA are present; bounds as asserted by [`rows_times_weights`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn product_avx2(w: &Packed, x: *const f32, rows: &[usize], n: usize, y: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe { product::<__m256, 4, 3>(w, x, rows, n, y, stride) }
}

/// # Safety
/// The instruction set of `V` is present; `w` is packed in blocks of `KB`; bounds as asserted by
/// [`rows_times_weights`].
#[inline(always)]
unsafe fn product<V: Simd, const KB: usize, const NV: usize>(
    w: &Packed,
    x: *const f32,
    rows: &[usize],
    positions: usize,
    y: *mut f32,
    stride: usize,
) {
    let step = NV * V::LANES;
    let blocks = w.outputs.div_ceil(KB);
    let mut p = 0;
    while p < positions {
        for b in 0..blocks {
            // SAFETY: reads at most OVERRUN (>= step) past a row's end, writes likewise; both asserted by the caller.
            unsafe {
                let mut weights = w.data.as_ptr().add(b * KB * w.rows);
                let mut acc = [[V::zero(); NV]; KB];
                for &r in rows {
                    let row = x.add(r + p);
                    let mut v = [V::zero(); NV];
                    for (i, v) in v.iter_mut().enumerate() {
                        *v = V::load(row.add(i * V::LANES));
                    }
                    for (k, acc) in acc.iter_mut().enumerate() {
                        let s = V::splat(weights.add(k));
                        for i in 0..NV {
                            acc[i] = acc[i].fma(v[i], s);
                        }
                    }
                    weights = weights.add(KB);
                }
                for (k, acc) in acc.iter().enumerate() {
                    for (i, a) in acc.iter().enumerate() {
                        a.store(y.add((b * KB + k) * stride + p + i * V::LANES));
                    }
                }
            }
        }
        p += step;
    }
}

/// # Safety
/// AVX-512F is present; bounds as asserted by [`rows_times_rows`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn outer_avx512(
    y: &[f32],
    stride: usize,
    outputs: usize,
    x: &[f32],
    rows: &[usize],
    n: usize,
    g: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe { outer::<__m512, 8, 3>(y, stride, outputs, x, rows, n, g) }
}

/// # Safety
/// AVX2 and FMA are present; bounds as asserted by [`rows_times_rows`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn outer_avx2(
    y: &[f32],
    stride: usize,
    outputs: usize,
    x: &[f32],
    rows: &[usize],
    n: usize,
    g: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe { outer::<__m256, 4, 3>(y, stride, outputs, x, rows, n, g) }
}

/// # Safety
/// The instruction set of `V` is present; bounds as asserted by [`rows_times_rows`].
#[inline(always)]
unsafe fn outer<V: Simd, const KB: usize, const RB: usize>(
    y: &[f32],
    stride: usize,
    outputs: usize,
    x: &[f32],
    rows: &[usize],
    positions: usize,
    g: &mut [f32],
) {
    // A chunk of positions of all rows should stay in a 1 MB second-level cache.
    let distinct = rows.len().div_ceil(9) + outputs;
    let chunk = (128 * 1024 / distinct).clamp(512, 4096).next_multiple_of(16);
    let mut from = 0;
    while from < positions {
        let to = (from + chunk).min(positions);
        for k0 in (0..outputs).step_by(KB) {
            // The last block repeats the last output; what is computed twice is stored once.
            let ys: [*const f32; KB] =
                std::array::from_fn(|k| y[(k0 + k).min(outputs - 1) * stride..].as_ptr());
            for r0 in (0..rows.len()).step_by(RB) {
                let xs: [*const f32; RB] =
                    std::array::from_fn(|r| x[rows[(r0 + r).min(rows.len() - 1)]..].as_ptr());
                // SAFETY: positions below `to`, rounded up to a vector (< OVERRUN), lie inside both buffers.
                unsafe {
                    let mut acc = [[V::zero(); RB]; KB];
                    let mut p = from;
                    while p < to {
                        let mut xv = [V::zero(); RB];
                        for (v, x) in xv.iter_mut().zip(xs) {
                            *v = V::load(x.add(p));
                        }
                        for (acc, y) in acc.iter_mut().zip(ys) {
                            let yv = V::load(y.add(p));
                            for r in 0..RB {
                                acc[r] = acc[r].fma(yv, xv[r]);
                            }
                        }
                        p += V::LANES;
                    }
                    for k in k0..(k0 + KB).min(outputs) {
                        for r in r0..(r0 + RB).min(rows.len()) {
                            g[r * outputs + k] += acc[k - k0][r - r0].sum();
                        }
                    }
                }
            }
        }
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (s >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn both_products_match_f64_sums_on_every_instruction_set() {
        for isa in Isa::available() {
            for (outputs, nrows, positions) in [(1, 1, 1), (5, 7, 50), (8, 9, 16), (19, 27, 301)] {
                let stride = positions + OVERRUN;
                let x = values(3 * stride, 1);
                let rows: Vec<usize> = (0..nrows).map(|r| (r * 13) % (2 * stride - 1)).collect();
                let wv = values(outputs * nrows, 2);
                let w = Packed::new(isa, outputs, nrows, |k, r| wv[k * nrows + r]);
                let mut y = vec![0.0; w.padded_outputs() * stride];
                rows_times_weights(&w, Rows { data: &x, starts: &rows }, positions, &mut y, stride);
                for k in 0..outputs {
                    for p in 0..positions {
                        let e: f64 = (0..nrows)
                            .map(|r| f64::from(wv[k * nrows + r]) * f64::from(x[rows[r] + p]))
                            .sum();
                        assert!((f64::from(y[k * stride + p]) - e).abs() < 1e-5, "{isa:?} {k} {p}");
                    }
                }
                let mut yz = y.clone();
                for k in 0..outputs {
                    yz[k * stride + positions..(k + 1) * stride].fill(0.0);
                }
                let mut g = vec![1.0; nrows * outputs];
                let rows_of_x = Rows { data: &x, starts: &rows };
                rows_times_rows(isa, &yz, stride, outputs, rows_of_x, positions, &mut g);
                for k in 0..outputs {
                    for r in 0..nrows {
                        let e: f64 = 1.0
                            + (0..positions)
                                .map(|p| f64::from(yz[k * stride + p]) * f64::from(x[rows[r] + p]))
                                .sum::<f64>();
                        assert!((f64::from(g[r * outputs + k]) - e).abs() < 1e-3, "{isa:?} {k} {r}");
                    }
                }
            }
        }
    }
}

//! The few vector operations the kernels need, for AVX-512, AVX2 with FMA, and portable code.

use super::gemm::Isa;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A vector of `LANES` f32. Implementations for x86 may be used only where their instruction set is present.
pub(super) trait Simd: Copy {
    const LANES: usize;
    /// Rows of two vectors each that the registers hold in a product.
    const ROWS: usize;
    /// All lanes zero.
    ///
    /// # Safety
    /// The instruction set of `Self` is present.
    unsafe fn zero() -> Self;
    /// # Safety
    /// The instruction set is present; `LANES` values are readable at `p`.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// The instruction set is present; `LANES` values are writable at `p`.
    unsafe fn store(self, p: *mut f32);
    /// # Safety
    /// The instruction set is present; one value is readable at `p`.
    unsafe fn splat(p: *const f32) -> Self;
    /// `a * b + self`
    ///
    /// # Safety
    /// The instruction set is present.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Sum of the lanes.
    ///
    /// # Safety
    /// The instruction set is present.
    unsafe fn sum(self) -> f32;
    /// All lanes `v`.
    ///
    /// # Safety
    /// The instruction set is present.
    unsafe fn all(v: f32) -> Self;
    /// # Safety
    /// The instruction set is present.
    unsafe fn add(self, b: Self) -> Self;
    /// # Safety
    /// The instruction set is present.
    unsafe fn sub(self, b: Self) -> Self;
    /// # Safety
    /// The instruction set is present.
    unsafe fn mul(self, b: Self) -> Self;
    /// # Safety
    /// The instruction set is present.
    unsafe fn max(self, b: Self) -> Self;
    /// # Safety
    /// The instruction set is present.
    unsafe fn min(self, b: Self) -> Self;
    /// The `n` (at most `LANES`) values at `p`, then zeros.
    ///
    /// # Safety
    /// The instruction set is present; `n` values are readable at `p`.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Writes the first `n` (at most `LANES`) lanes.
    ///
    /// # Safety
    /// The instruction set is present; `n` values are writable at `p`.
    unsafe fn store_first(self, p: *mut f32, n: usize);
    /// Transposes the square of the first `LANES` vectors: lane j of vector i becomes lane i of vector j.
    ///
    /// # Safety
    /// The instruction set is present.
    unsafe fn transpose(rows: &mut [Self; 16]);
}

/// A computation that is compiled once for each instruction set. `run` and all that it calls must be inlined: only
/// then is it compiled with the instructions of `V`.
pub(super) trait Kernel {
    /// # Safety
    /// The instruction set of `V` is present, and what the kernel itself asks for holds.
    unsafe fn run<V: Simd>(&self);
}

/// Runs a kernel with the instructions of `isa`.
///
/// # Safety
/// `isa` is one of [`Isa::available`], and what the kernel itself asks for holds.
pub(super) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: &K) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<K: Kernel>(kernel: &K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<__m512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<K: Kernel>(kernel: &K) {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<__m256>() }
    }
    match isa {
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(kernel) },
        // SAFETY: the caller's promise; portable code needs no instruction set.
        _ => unsafe { kernel.run::<[f32; 8]>() },
    }
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m512 {
    const LANES: usize = 16;
    const ROWS: usize = 14;
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX-512F and 16 readable values.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises AVX-512F and 16 writable values.
        unsafe { _mm512_storeu_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX-512F and a readable value.
        unsafe { _mm512_set1_ps(*p) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_reduce_add_ps(self) }
    }
    #[inline(always)]
    unsafe fn all(v: f32) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_add_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_sub_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_mul_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_max_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX-512F.
        unsafe { _mm512_min_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the caller promises AVX-512F and n readable values; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the caller promises AVX-512F and n writable values; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(p, first(n), self) }
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self; 16]) {
        // SAFETY: the caller promises AVX-512F.
        unsafe {
            let mut pairs = *rows;
            for i in 0..8 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                (pairs[2 * i], pairs[2 * i + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            }
            // Vector 4 i + k then holds columns k, 4 + k, 8 + k, 12 + k of rows 4 i to 4 i + 3.
            let mut fours = pairs;
            for i in 0..4 {
                for k in 0..2 {
                    let a = _mm512_castps_pd(pairs[4 * i + k]);
                    let b = _mm512_castps_pd(pairs[4 * i + k + 2]);
                    fours[4 * i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[4 * i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for k in 0..4 {
                let (a, b, c, d) = (fours[k], fours[4 + k], fours[8 + k], fours[12 + k]);
                let (ab, cd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                rows[k] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                rows[8 + k] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
                let (ab, cd) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                rows[4 + k] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                rows[12 + k] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m256 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX and 8 readable values.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises AVX and 8 writable values.
        unsafe { _mm256_storeu_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX and a readable value.
        unsafe { _mm256_broadcast_ss(&*p) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller promises FMA.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = [0f32; 8];
        // SAFETY: the caller promises AVX; the array holds 8 values.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), self) };
        lanes.iter().sum()
    }
    #[inline(always)]
    unsafe fn all(v: f32) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_set1_ps(v) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_add_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_sub_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_mul_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_max_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        // SAFETY: the caller promises AVX.
        unsafe { _mm256_min_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0f32; 8];
        // SAFETY: the caller promises AVX and n readable values; the array holds 8.
        unsafe {
            if n == 8 {
                return _mm256_loadu_ps(p);
            }
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            _mm256_loadu_ps(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        let mut lanes = [0f32; 8];
        // SAFETY: the caller promises AVX and n writable values; the array holds 8.
        unsafe {
            if n == 8 {
                return _mm256_storeu_ps(p, self);
            }
            _mm256_storeu_ps(lanes.as_mut_ptr(), self);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self; 16]) {
        // SAFETY: the caller promises AVX.
        unsafe {
            let mut pairs = *rows;
            for i in 0..4 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                (pairs[2 * i], pairs[2 * i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            let mut fours = pairs;
            for i in 0..2 {
                for k in 0..2 {
                    let (a, b) = (pairs[4 * i + k], pairs[4 * i + k + 2]);
                    fours[4 * i + 2 * k] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[4 * i + 2 * k + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for k in 0..4 {
                rows[k] = _mm256_permute2f128_ps::<0x20>(fours[k], fours[4 + k]);
                rows[4 + k] = _mm256_permute2f128_ps::<0x31>(fours[k], fours[4 + k]);
            }
        }
    }
}

impl Simd for [f32; 8] {
    const LANES: usize = 8;
    const ROWS: usize = 2;
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises 8 readable values; no alignment beyond f32's is needed.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises 8 writable values.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: the caller promises a readable value.
        [unsafe { *p }; 8]
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        let mut out = self;
        for i in 0..8 {
            out[i] += a[i] * b[i];
        }
        out
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.iter().sum()
    }
    #[inline(always)]
    unsafe fn all(v: f32) -> Self {
        [v; 8]
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        each(self, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        each(self, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        each(self, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        each(self, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        each(self, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0f32; 8];
        // SAFETY: the caller promises n readable values, at most 8.
        unsafe { std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n) };
        lanes
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the caller promises n writable values, at most 8.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr(), p, n) };
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self; 16]) {
        let before = *rows;
        for (i, row) in rows.iter_mut().enumerate().take(8) {
            for (j, v) in row.iter_mut().enumerate() {
                *v = before[j][i];
            }
        }
    }
}

/// A mask of the first `n` lanes of 16.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

#[inline(always)]
fn each(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut out = a;
    for i in 0..8 {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squares of 1 to 256, read with the last lanes cut off, transposed, and written with the last lanes cut off.
    struct Cut<'a> {
        n: usize,
        from: &'a [f32],
        to: *mut f32,
    }

    impl Kernel for Cut<'_> {
        #[inline(always)]
        unsafe fn run<V: Simd>(&self) {
            // SAFETY: 256 values on both sides.
            unsafe {
                let n = self.n.min(V::LANES);
                let mut square = [V::zero(); 16];
                for (i, v) in square.iter_mut().enumerate().take(V::LANES) {
                    *v = V::load_first(self.from.as_ptr().add(i * 16), n);
                }
                V::transpose(&mut square);
                for (i, v) in square.iter().enumerate().take(V::LANES) {
                    v.store_first(self.to.add(i * 16), n);
                }
            }
        }
    }

    #[test]
    fn squares_are_transposed_and_ends_cut_off() {
        let from: Vec<f32> = (1..=256u16).map(f32::from).collect();
        for isa in Isa::available() {
            let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
            for n in 0..=lanes {
                let mut to = vec![-1.0; 256];
                // SAFETY: the instruction set was detected; both sides hold 256 values.
                unsafe { dispatch(isa, &Cut { n, from: &from, to: to.as_mut_ptr() }) };
                for (p, v) in to.iter().enumerate() {
                    let (i, j) = (p / 16, p % 16);
                    let expected = match (i < lanes && j < n, i < n) {
                        (true, true) => from[j * 16 + i],
                        (true, false) => 0.0,
                        _ => -1.0,
                    };
                    assert_eq!(*v, expected, "{isa:?} {n} {i} {j}");
                }
            }
        }
    }
}

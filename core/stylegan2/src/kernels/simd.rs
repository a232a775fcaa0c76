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
}

#[inline(always)]
fn each(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut out = a;
    for i in 0..8 {
        out[i] = f(a[i], b[i]);
    }
    out
}

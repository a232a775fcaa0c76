//! The few vector operations the kernels need, for AVX-512, AVX2 with FMA, and portable code.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A vector of `LANES` f32. Implementations for x86 may be used only where their instruction set is present.
pub(super) trait Simd: Copy {
    const LANES: usize;
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
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m512 {
    const LANES: usize = 16;
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
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m256 {
    const LANES: usize = 8;
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
}

impl Simd for [f32; 8] {
    const LANES: usize = 8;
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
}

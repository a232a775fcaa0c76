//! How many multiply-adds this machine can do at all: the yardstick of the products' speed.

use super::Isa;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Multiply-adds of one call of [`chains`].
const CALL: u64 = (STEPS * CHAINS * 16) as u64;
const STEPS: usize = 4096;
/// Independent sums: latency times throughput of the units is 8 to 10, and they must fit the registers.
const CHAINS: usize = 12;

/// [`CHAINS`] sums of 16 (or twice 8) values, all in registers.
fn chains(isa: Isa, x: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: the only caller asked whether the machine has it.
        Isa::Avx512 => return unsafe { avx512(x) },
        // SAFETY: as above.
        Isa::Avx2 => return unsafe { avx2(x) },
        Isa::Portable => {}
    }
    let _ = isa;
    let mut sums = [[1f32; 16]; CHAINS];
    for _ in 0..STEPS {
        for s in &mut sums {
            s.iter_mut().for_each(|v| *v = *v * x + x);
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(x: f32) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let x = _mm512_set1_ps(x);
    let mut sums = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..STEPS {
        for s in &mut sums {
            *s = _mm512_fmadd_ps(*s, x, x);
        }
    }
    _mm512_reduce_add_ps(sums.into_iter().fold(_mm512_set1_ps(0.0), |a, b| _mm512_add_ps(a, b)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(x: f32) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let x = _mm256_set1_ps(x);
    let mut total = _mm256_set1_ps(0.0);
    // Two halves, so that the sums fit the 16 registers.
    for _ in 0..2 {
        let mut sums = [_mm256_set1_ps(1.0); CHAINS];
        for _ in 0..STEPS {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, x, x);
            }
        }
        total = sums.into_iter().fold(total, |a, b| _mm256_add_ps(a, b));
    }
    _mm256_cvtss_f32(total)
}

/// Multiply-adds per second of `threads` threads that do nothing else for `time`, in f32 with the instructions of
/// `isa`.
///
/// # Panics
/// If this machine lacks the instructions.
pub fn multiply_adds_per_second(isa: Isa, threads: usize, time: Duration) -> f64 {
    assert!(Isa::available().contains(&isa), "this machine has no {}", isa.name());
    let start = Barrier::new(threads);
    let work = || {
        start.wait();
        let began = Instant::now();
        let mut calls = 0;
        while began.elapsed() < time {
            // A factor that the compiler cannot know, below 1, so that the sums stay finite.
            black_box(chains(isa, black_box(0.5)));
            calls += 1;
        }
        (calls * CALL) as f64 / began.elapsed().as_secs_f64()
    };
    std::thread::scope(|s| {
        let all: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        all.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_runs_to_its_fixed_point() {
        // s = s / 2 + 1 / 2 stays 1, in each of the lanes that are summed.
        for isa in Isa::available() {
            let lanes = if isa == Isa::Avx2 { 2 * CHAINS } else { 16 * CHAINS };
            assert_eq!(chains(isa, 0.5), lanes as f32, "{isa:?}");
            assert!(multiply_adds_per_second(isa, 1, Duration::from_millis(2)) > 1e6, "{isa:?}");
        }
    }
}

//! Sums of outer products over tiles, the weight gradient's product of matrices.

use crate::kernels::simd::{Kernel, Simd};

/// Tiles whose values stay in the first-level cache while all inputs meet them.
const TILES: usize = 96;

/// `out[c][k] (+)= sum over t of a[t][c] b[t][k]` for one panel of k.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    pub a: *const f32,
    /// Values from one tile to the next.
    pub a_tile: usize,
    pub b: *const f32,
    pub b_tile: usize,
    pub tiles: usize,
    pub inputs: usize,
    /// `[inputs][panel]`
    pub out: *mut f32,
    /// Whether to go on from the sums that stand there.
    pub more: bool,
}

#[inline(always)]
unsafe fn block<V: Simd, const R: usize>(p: &Outer, first: usize, from: usize, to: usize) {
    // SAFETY: the caller promises tiles `from .. to`, inputs `first .. first + R` and room for their sums.
    unsafe {
        let out = p.out.add(first * 2 * V::LANES);
        let mut acc = [[V::zero(); 2]; R];
        if p.more || from > 0 {
            for (r, acc) in acc.iter_mut().enumerate() {
                let out = out.add(r * 2 * V::LANES);
                *acc = [V::load(out), V::load(out.add(V::LANES))];
            }
        }
        let (mut a, mut b) = (p.a.add(from * p.a_tile + first), p.b.add(from * p.b_tile));
        for _ in from..to {
            let (b0, b1) = (V::load(b), V::load(b.add(V::LANES)));
            for (r, acc) in acc.iter_mut().enumerate() {
                let value = V::splat(a.add(r));
                acc[0] = acc[0].fma(value, b0);
                acc[1] = acc[1].fma(value, b1);
            }
            a = a.wrapping_add(p.a_tile);
            b = b.wrapping_add(p.b_tile);
        }
        for (r, acc) in acc.iter().enumerate() {
            let out = out.add(r * 2 * V::LANES);
            acc[0].store(out);
            acc[1].store(out.add(V::LANES));
        }
    }
}

impl Kernel for Outer {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let blocks = self.inputs.div_ceil(V::ROWS);
        for from in (0..self.tiles).step_by(TILES) {
            let to = (from + TILES).min(self.tiles);
            for b in 0..blocks {
                let (first, last) = (b * self.inputs / blocks, (b + 1) * self.inputs / blocks);
                // SAFETY: the caller's promise.
                unsafe {
                    match last - first {
                        1 => block::<V, 1>(self, first, from, to),
                        2 => block::<V, 2>(self, first, from, to),
                        3 => block::<V, 3>(self, first, from, to),
                        4 => block::<V, 4>(self, first, from, to),
                        5 => block::<V, 5>(self, first, from, to),
                        6 => block::<V, 6>(self, first, from, to),
                        7 => block::<V, 7>(self, first, from, to),
                        8 => block::<V, 8>(self, first, from, to),
                        9 => block::<V, 9>(self, first, from, to),
                        10 => block::<V, 10>(self, first, from, to),
                        11 => block::<V, 11>(self, first, from, to),
                        12 => block::<V, 12>(self, first, from, to),
                        13 => block::<V, 13>(self, first, from, to),
                        _ => block::<V, 14>(self, first, from, to),
                    }
                }
            }
        }
    }
}

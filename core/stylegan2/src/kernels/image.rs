//! From feature maps to images (toRGB), and the combination of two maps along an edit.

use super::gemm::Isa;
use super::simd::{Kernel, Simd, dispatch};
use super::team::{Shared, Team};
use super::tiles::{BLOCK, Epilogue, Finish};

/// Pixels summed together.
const PIXELS: usize = 8;

/// `sum over c of x[c][pixel] w[channel][c]` for one row of pixels and one channel.
struct Sum {
    /// The row in the first block of channels; blocks are `plane` values apart.
    x: *const f32,
    plane: usize,
    blocks: usize,
    width: usize,
    w: *const f32,
    out: *mut f32,
}

impl Kernel for Sum {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller promises `blocks` planes with `width` pixels from x on, as many weights, and room.
        unsafe {
            for first in (0..self.width).step_by(PIXELS) {
                let count = PIXELS.min(self.width - first);
                let mut sums = [V::zero(); PIXELS];
                for block in 0..self.blocks {
                    for at in (0..BLOCK).step_by(V::LANES) {
                        let w = V::load(self.w.add(block * BLOCK + at));
                        let x = self.x.add(block * self.plane + first * BLOCK + at);
                        for (i, sum) in sums.iter_mut().enumerate().take(count) {
                            *sum = sum.fma(V::load(x.add(i * BLOCK)), w);
                        }
                    }
                }
                for (i, sum) in sums.iter().enumerate().take(count) {
                    *self.out.add(first + i) = sum.sum();
                }
            }
        }
    }
}

/// What makes an image of feature maps.
pub(crate) struct ToImage<'a> {
    pub isa: Isa,
    /// Maps `[M][C/16][R][R][16]`; M is the number of images, or 1 for all.
    pub x: &'a [f32],
    pub images: usize,
    pub side: usize,
    /// Channels C of the maps, rounded up to whole blocks.
    pub inputs: usize,
    pub channels: usize,
    /// Weights times styles, `[N][channels][C]`; N as M.
    pub weights: &'a [f32],
    /// `[channels]`
    pub bias: &'a [f32],
    /// Largest magnitude.
    pub limit: f32,
    /// The image so far, `[L][channels][R/2][R/2]`; L as M. It is doubled and added.
    pub before: Option<&'a [f32]>,
}

/// Writes `out` `[N][channels][R][R]`.
///
/// # Panics
/// If a slice does not have the size that the others say.
pub(crate) fn to_image(team: &Team<'_>, t: &ToImage<'_>, out: &mut [f32]) {
    let (area, half) = (t.side * t.side, t.side / 2);
    assert!(t.inputs.is_multiple_of(BLOCK), "{} channels in blocks of {BLOCK}", t.inputs);
    let (x_size, w_size, before_size) = (t.inputs * area, t.channels * t.inputs, t.channels * half * half);
    assert_eq!(out.len(), t.images * t.channels * area);
    assert_eq!(t.bias.len(), t.channels);
    for (len, size) in [(t.x.len(), x_size), (t.weights.len(), w_size)] {
        assert!(len == size || len == t.images * size, "{len} values for {} times {size}", t.images);
    }
    let before = t.before.unwrap_or(&[]);
    assert!([0, before_size, t.images * before_size].contains(&before.len()));
    assert!(before.is_empty() || t.side.is_multiple_of(2), "side {} of a doubled image", t.side);
    let part = |all: &[f32], size: usize, n: usize| if all.len() == size { 0 } else { n * size };
    let shared = Shared::new(out);
    team.for_each(t.images * t.side, |_, i| {
        let (n, row) = (i / t.side, i % t.side);
        for channel in 0..t.channels {
            // SAFETY: this item alone writes this row; its place lies in `out`, whose size was asserted.
            let out = unsafe {
                std::slice::from_raw_parts_mut(
                    shared.at(((n * t.channels + channel) * t.side + row) * t.side),
                    t.side,
                )
            };
            let s = Sum {
                x: t.x[part(t.x, x_size, n) + row * t.side * BLOCK..].as_ptr(),
                plane: area * BLOCK,
                blocks: t.inputs / BLOCK,
                width: t.side,
                w: t.weights[part(t.weights, w_size, n) + channel * t.inputs..].as_ptr(),
                out: out.as_mut_ptr(),
            };
            // SAFETY: the instruction set was detected; sizes were asserted above.
            unsafe { dispatch(t.isa, &s) };
            out.iter_mut().for_each(|v| *v = (*v + t.bias[channel]).clamp(-t.limit, t.limit));
            if !before.is_empty() {
                let before = &before[part(before, before_size, n) + channel * half * half..][..half * half];
                add_doubled(before, half, row, out);
            }
        }
    });
}

/// Adds row `row` of a picture of `side` x `side` pixels, doubled with the filter [1, 3, 3, 1] / 4 per axis.
fn add_doubled(picture: &[f32], side: usize, row: usize, out: &mut [f32]) {
    let near = &picture[row / 2 * side..][..side];
    // Odd rows lean on the row below, even ones on the row above; beyond the border all is 0.
    let far = if row % 2 == 1 { row / 2 + 1 } else { (row / 2).wrapping_sub(1) };
    let far = (far < side).then(|| &picture[far * side..][..side]);
    let at = |i: usize| 0.75 * near[i] + far.map_or(0.0, |f| 0.25 * f[i]);
    let (mut left, mut here) = (0.0, at(0));
    for i in 0..side {
        let right = if i + 1 < side { at(i + 1) } else { 0.0 };
        out[2 * i] += 0.75 * here + 0.25 * left;
        out[2 * i + 1] += 0.75 * here + 0.25 * right;
        (left, here) = (here, right);
    }
}

/// One block of channels of one image, doubled with the filter [1, 3, 3, 1] / 4 per axis.
struct DoubleMaps {
    x: *const f32,
    side: usize,
    y: *mut f32,
}

impl Kernel for DoubleMaps {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let (side, line) = (self.side, self.side * BLOCK);
        // SAFETY: the caller promises planes of `side`^2 and four times as many pixels; what lies beyond is not read.
        unsafe {
            let (near, far) = (V::all(0.75), V::all(0.25));
            for at in (0..BLOCK).step_by(V::LANES) {
                for row in 0..2 * side {
                    let here = self.x.add(row / 2 * line + at);
                    let other = if row % 2 == 1 { row / 2 + 1 } else { (row / 2).wrapping_sub(1) };
                    let mut columns = [V::zero(); 3];
                    for x in 0..=side {
                        // Three columns of the row, filtered downwards: before, at and behind pixel x - 1.
                        let mut next = V::zero();
                        if x < side {
                            next = V::load(here.add(x * BLOCK)).mul(near);
                            if other < side {
                                next = next.fma(V::load(self.x.add(other * line + x * BLOCK + at)), far);
                            }
                        }
                        columns = [columns[1], columns[2], next];
                        if x > 0 {
                            let y = self.y.add((row * 2 * side + 2 * (x - 1)) * BLOCK + at);
                            let middle = columns[1].mul(near);
                            middle.fma(columns[0], far).store(y);
                            middle.fma(columns[2], far).store(y.add(BLOCK));
                        }
                    }
                }
            }
        }
    }
}

/// Doubles maps `[N][C/16][R][R][16]` into `y`, `[N][C/16][2R][2R][16]`.
///
/// # Panics
/// If a slice does not hold whole planes, or y is not four times as large.
pub(crate) fn double_maps(team: &Team<'_>, isa: Isa, x: &[f32], side: usize, y: &mut [f32]) {
    let plane = side * side * BLOCK;
    assert!(x.len().is_multiple_of(plane) && y.len() == 4 * x.len());
    let shared = Shared::new(y);
    team.for_each(x.len() / plane, |_, i| {
        let d = DoubleMaps { x: x[i * plane..].as_ptr(), side, y: shared.at(i * 4 * plane) };
        // SAFETY: the instruction set was detected, sizes were asserted above, and each item has its own plane.
        unsafe { dispatch(isa, &d) };
    });
}

/// `finish(base + step * change)` for one block of channels of one image.
struct Combine<'a> {
    base: *const f32,
    change: *const f32,
    step: f32,
    area: usize,
    image: usize,
    block: usize,
    blocks: usize,
    epilogue: &'a Epilogue<'a>,
    out: *mut f32,
}

impl Kernel for Combine<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller promises planes of `area` pixels.
        unsafe {
            let step = V::all(self.step);
            for at in (0..BLOCK).step_by(V::LANES) {
                let finish =
                    Finish::<V>::new(self.epilogue, self.image, self.block, self.blocks, at, self.area);
                for pixel in 0..self.area {
                    let i = pixel * BLOCK + at;
                    let sum = V::load(self.base.add(i)).fma(step, V::load(self.change.add(i)));
                    finish.at(sum, pixel).store(self.out.add(i));
                }
            }
        }
    }
}

/// Finishes `base + steps[n] * change` for each step: base and change are maps `[channels/16][area][16]` before their
/// epilogue, `out` is `[N][channels/16][area][16]`.
///
/// # Panics
/// If a slice does not have the size that the others say.
pub(crate) fn combine(
    team: &Team<'_>,
    isa: Isa,
    (base, change): (&[f32], &[f32]),
    channels: usize,
    steps: &[f32],
    e: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (blocks, area) = (channels / BLOCK, base.len() / channels);
    assert!(channels.is_multiple_of(BLOCK), "{channels} channels in blocks of {BLOCK}");
    assert!(
        base.len() == channels * area && change.len() == base.len() && out.len() == steps.len() * base.len()
    );
    assert!(e.factors.is_none_or(|f| f.len() == steps.len() * channels));
    assert!(e.bias.is_none_or(|b| b.len() == channels) && e.noise.is_none_or(|n| n.len() == area));
    assert!(e.add.is_none_or(|a| a.len() == out.len()));
    let shared = Shared::new(out);
    team.for_each(steps.len() * blocks, |_, i| {
        let (image, block) = (i / blocks, i % blocks);
        let plane = block * area * BLOCK;
        let c = Combine {
            base: base[plane..].as_ptr(),
            change: change[plane..].as_ptr(),
            step: steps[image],
            area,
            image,
            block,
            blocks,
            epilogue: e,
            out: shared.at(image * base.len() + plane),
        };
        // SAFETY: the instruction set was detected, sizes were asserted above, and each item has its own plane.
        unsafe { dispatch(isa, &c) };
    });
}

#[cfg(test)]
mod tests;

//! Row-major planes to values of windows, and products back to planes.
//!
//! Sixteen channels at a time are laid pixel by pixel, `[rows][columns][16]`, into a scratch with the zeros of the
//! border around them; there every transform is plain arithmetic on vectors of channels. The scratch stays in the
//! second-level cache, so that pictures are read once and written once.

use super::lines::Line;
use crate::kernels::Isa;
use crate::kernels::simd::{Kernel, Simd, dispatch};
use crate::kernels::tiles::BLOCK;
use std::marker::PhantomData;

/// Some rows of tiles of one block of channels of one image.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Channels of the block that exist.
    pub channels: usize,
    /// Sides of the planes.
    pub height: usize,
    pub width: usize,
    /// First row of tiles.
    pub first: usize,
    /// Rows of tiles.
    pub rows: usize,
    /// Tiles in a row.
    pub across: usize,
}

/// Planes to values.
pub(super) struct Take {
    pub part: Part,
    /// The block's first plane; the others follow.
    pub planes: *const f32,
    /// Factors of the channels.
    pub factors: [f32; BLOCK],
    /// Room for [`Reader::scratch`] values.
    pub scratch: *mut f32,
    /// The part's first tile at the block's first channel.
    pub values: *mut f32,
    /// Values from one slot to the next, and from one tile to the next.
    pub slot: usize,
    pub tile: usize,
}

/// Products to planes.
pub(super) struct Put {
    pub part: Part,
    pub products: *const f32,
    pub slot: usize,
    pub tile: usize,
    /// Room for [`Writer::scratch`] values.
    pub scratch: *mut f32,
    /// The block's first plane; the others follow.
    pub planes: *mut f32,
}

/// How windows of a plane become values: side of a window, values per axis, pixels from one window to the next, zeros
/// before the first pixel.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    pub window: usize,
    pub slots: usize,
    step: usize,
    pad: usize,
    run: unsafe fn(Isa, &Reader, &Take),
}

/// How products become windows of a plane, which overlap where the window is longer than the step.
#[derive(Clone, Copy)]
pub(super) struct Writer {
    pub window: usize,
    pub slots: usize,
    pub step: usize,
    run: unsafe fn(Isa, &Writer, &Put),
}

struct Taking<'a, L, const A: usize, const B: usize>(&'a Reader, &'a Take, PhantomData<L>);
struct Putting<'a, L, const A: usize, const B: usize>(&'a Writer, &'a Put, PhantomData<L>);

/// Values that a part of windows needs, `step` apart.
fn scratch(rows: usize, across: usize, window: usize, step: usize) -> usize {
    ((rows - 1) * step + window) * ((across - 1) * step + window) * BLOCK
}

impl Reader {
    pub(super) fn new<L: Line<A, B>, const A: usize, const B: usize>(step: usize, pad: usize) -> Self {
        unsafe fn run<L: Line<A, B>, const A: usize, const B: usize>(isa: Isa, r: &Reader, t: &Take) {
            // SAFETY: the caller's promise.
            unsafe { dispatch(isa, &Taking::<L, A, B>(r, t, PhantomData)) }
        }
        Self { window: A, slots: B * B, step, pad, run: run::<L, A, B> }
    }
    pub(super) fn scratch(&self, rows: usize, across: usize) -> usize {
        scratch(rows, across, self.window, self.step)
    }
    /// # Safety
    /// The instruction set is present; the pointers of `t` lead to as much as its sizes say.
    pub(super) unsafe fn take(&self, isa: Isa, t: &Take) {
        // SAFETY: the caller's promise.
        unsafe { (self.run)(isa, self, t) }
    }
}

impl Writer {
    pub(super) fn new<L: Line<A, B>, const A: usize, const B: usize>(step: usize) -> Self {
        unsafe fn run<L: Line<A, B>, const A: usize, const B: usize>(isa: Isa, w: &Writer, p: &Put) {
            // SAFETY: the caller's promise.
            unsafe { dispatch(isa, &Putting::<L, A, B>(w, p, PhantomData)) }
        }
        Self { window: B, slots: A * A, step, run: run::<L, A, B> }
    }
    pub(super) fn overlaps(&self) -> bool {
        self.window > self.step
    }
    pub(super) fn scratch(&self, rows: usize, across: usize) -> usize {
        scratch(rows, across, self.window, self.step)
    }
    /// # Safety
    /// The instruction set is present; the pointers of `p` lead to as much as its sizes say; where windows overlap, the
    /// part is the whole image.
    pub(super) unsafe fn put(&self, isa: Isa, p: &Put) {
        // SAFETY: the caller's promise.
        unsafe { (self.run)(isa, self, p) }
    }
}

/// Both axes of one window, `at(row, column)` of the inputs from `from`, rows being `line` values apart.
#[inline(always)]
unsafe fn both<V: Simd, L: Line<A, B>, const A: usize, const B: usize>(
    from: *const f32,
    down: usize,
    right: usize,
) -> [[V; B]; B] {
    // SAFETY: the caller promises `A` x `A` vectors.
    unsafe {
        let mut columns = [[V::zero(); B]; A];
        for (j, column) in columns.iter_mut().enumerate() {
            let mut x = [V::zero(); A];
            for (i, x) in x.iter_mut().enumerate() {
                *x = V::load(from.add(i * down + j * right));
            }
            *column = L::map(x);
        }
        let mut out = [[V::zero(); B]; B];
        for (i, out) in out.iter_mut().enumerate() {
            let mut row = [V::zero(); A];
            for j in 0..A {
                row[j] = columns[j][i];
            }
            *out = L::map(row);
        }
        out
    }
}

impl<L: Line<A, B>, const A: usize, const B: usize> Kernel for Taking<'_, L, A, B> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let (r, t) = (self.0, self.1);
        let p = t.part;
        let (rows, columns) = ((p.rows - 1) * r.step + A, (p.across - 1) * r.step + A);
        let line = columns * BLOCK;
        // SAFETY: the caller promises planes, scratch and room for the values; rows and columns that lie outside the
        // planes are not read.
        unsafe {
            for row in 0..rows {
                let to = t.scratch.add(row * line);
                let source = (p.first * r.step + row).wrapping_sub(r.pad);
                if source >= p.height {
                    std::ptr::write_bytes(to, 0, line);
                    continue;
                }
                std::ptr::write_bytes(to, 0, r.pad * BLOCK);
                let inside = p.width.min(columns - r.pad);
                std::ptr::write_bytes(
                    to.add((r.pad + inside) * BLOCK),
                    0,
                    (columns - r.pad - inside) * BLOCK,
                );
                for at in (0..BLOCK).step_by(V::LANES) {
                    let factors = V::load(t.factors.as_ptr().add(at));
                    for x in (0..inside).step_by(V::LANES) {
                        let count = (inside - x).min(V::LANES);
                        let mut square = [V::zero(); 16];
                        for (i, v) in square.iter_mut().enumerate().take(V::LANES) {
                            if at + i < p.channels {
                                let plane = t.planes.add((at + i) * p.height * p.width);
                                *v = V::load_first(plane.add(source * p.width + x), count);
                            }
                        }
                        V::transpose(&mut square);
                        for (i, v) in square.iter().enumerate().take(count) {
                            v.mul(factors).store(to.add((r.pad + x + i) * BLOCK + at));
                        }
                    }
                }
            }
            for at in (0..BLOCK).step_by(V::LANES) {
                for row in 0..p.rows {
                    for tile in 0..p.across {
                        let from = t.scratch.add(row * r.step * line + tile * r.step * BLOCK + at);
                        let values = both::<V, L, A, B>(from, line, BLOCK);
                        let to = t.values.add((row * p.across + tile) * t.tile + at);
                        for (i, values) in values.iter().enumerate() {
                            for (j, v) in values.iter().enumerate() {
                                v.store(to.add((i * B + j) * t.slot));
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<L: Line<A, B>, const A: usize, const B: usize> Kernel for Putting<'_, L, A, B> {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        let (w, t) = (self.0, self.1);
        let p = t.part;
        let (rows, columns) = ((p.rows - 1) * w.step + B, (p.across - 1) * w.step + B);
        let line = columns * BLOCK;
        // SAFETY: the caller promises products, scratch and planes.
        unsafe {
            if w.overlaps() {
                // Windows add to the row above and the column before; the first ones to zeros.
                std::ptr::write_bytes(t.scratch, 0, line);
                for row in 1..rows {
                    std::ptr::write_bytes(t.scratch.add(row * line), 0, BLOCK);
                }
            }
            for at in (0..BLOCK).step_by(V::LANES) {
                for row in 0..p.rows {
                    for tile in 0..p.across {
                        let from = t.products.add((row * p.across + tile) * t.tile + at);
                        let window = both::<V, L, A, B>(from, A * t.slot, t.slot);
                        let to = t.scratch.add(row * w.step * line + tile * w.step * BLOCK + at);
                        for (i, values) in window.iter().enumerate() {
                            for (j, v) in values.iter().enumerate() {
                                let to = to.add(i * line + j * BLOCK);
                                let v =
                                    if w.overlaps() && (i == 0 || j == 0) { V::load(to).add(*v) } else { *v };
                                v.store(to);
                            }
                        }
                    }
                }
                for row in 0..rows {
                    let from = t.scratch.add(row * line + at);
                    let pixel = (p.first * w.step + row) * p.width;
                    for x in (0..columns).step_by(V::LANES) {
                        let count = (columns - x).min(V::LANES);
                        let mut square = [V::zero(); 16];
                        for (i, v) in square.iter_mut().enumerate().take(count) {
                            *v = V::load(from.add((x + i) * BLOCK));
                        }
                        V::transpose(&mut square);
                        let valid = p.channels.saturating_sub(at).min(V::LANES);
                        for (i, v) in square.iter().enumerate().take(valid) {
                            let plane = t.planes.add((at + i) * p.height * p.width);
                            v.store_first(plane.add(pixel + x), count);
                        }
                    }
                }
            }
        }
    }
}

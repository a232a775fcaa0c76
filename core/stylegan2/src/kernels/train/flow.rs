//! The schedules: which tiles are at work together, and what runs beside what.
//!
//! *Fused*: an item takes some rows of tiles through all steps in its core's second-level cache, and items run beside
//! each other; good where weights are small. *Wide*: all tiles that a share of the third-level cache holds take one
//! step after the other, and the parts of each step run beside each other; good where weights are large. Which, and
//! how the work is cut, follows from sizes alone, and every sum has a fixed order: results do not depend on threads.

use super::lines::{self, Input, InputAdjoint, Output, OutputAdjoint};
use super::outer::Outer;
use super::space::{self, Shared, staggered};
use super::weights::{Fold, INPUTS, Order, Prepare, WIDEST};
use super::windows::{Part, Put, Reader, Take, Writer};
use crate::kernels::Isa;
use crate::kernels::aligned::{Aligned, LINE};
use crate::kernels::axis::{ToomCook4, Winograd4};
use crate::kernels::conv::{Geometry, Operand};
use crate::kernels::panels::{Product, product, width};
use crate::kernels::simd::{Kernel, Simd, dispatch};
use crate::kernels::tiles::BLOCK;
use rayon::prelude::*;

/// What may be at work together, in values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Of a fused item.
    pub fused: usize,
    /// Of a wide step.
    pub wide: usize,
}

/// Half of a second-level cache; about what a share of a third-level cache holds.
const BUDGET: Budget = Budget { fused: 300 << 10, wide: 6 << 20 };
/// Items that fused work is cut into at least.
const ITEMS: usize = 8;
/// How much dearer a value is that goes through memory in thirty-six to eighty-one streams than one of weights that are
/// read from front to back: measured.
const SPILL: usize = 4;
/// Partial sums of a fused weight gradient at most.
const SUMS: usize = 8;
/// Rows of tiles whose planes are laid out together.
const ROWS: usize = 4;

/// `f` for each below n, beside each other or one after the other.
fn each(parallel: bool, n: usize, f: impl Fn(usize) + Sync + Send) {
    if parallel {
        (0..n).into_par_iter().for_each(f);
    } else {
        (0..n).for_each(f);
    }
}

/// Pairs of slots under the slot that they share.
type Groups = Vec<(usize, Vec<[usize; 2]>)>;

/// Groups triples by their last entry.
fn grouped(mut all: Vec<[usize; 3]>) -> Groups {
    all.sort_by_key(|t| t[2]);
    let mut out: Groups = Vec::new();
    for [a, b, key] in all {
        match out.last_mut() {
            Some((k, pairs)) if *k == key => pairs.push([a, b]),
            _ => out.push((key, vec![[a, b]])),
        }
    }
    out
}

/// Tiles of a batch: images, rows of tiles in each, tiles in a row.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub n: usize,
    pub rows: usize,
    pub across: usize,
}

impl Tiles {
    fn all_rows(&self) -> usize {
        self.n * self.rows
    }
    /// Cuts rows `from .. to` of the batch at the images' borders and every `most` rows: (image, first row, rows,
    /// tiles before it).
    fn cut(&self, from: usize, to: usize, most: usize) -> Vec<(usize, usize, usize, usize)> {
        let mut out = Vec::new();
        let mut at = from;
        while at < to {
            let (image, row) = (at / self.rows, at % self.rows);
            let count = most.min(self.rows - row).min(to - at);
            out.push((image, row, count, (at - from) * self.across));
            at += count;
        }
        out
    }
}

/// The planes of one operand.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub operand: Operand<'a>,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Planes<'_> {
    /// Values of one block and one cut.
    fn take(
        &self,
        isa: Isa,
        reader: &Reader,
        across: usize,
        (image, first, rows, tiles): (usize, usize, usize, usize),
        block: usize,
        (values, slot, tile): (*mut f32, usize, usize),
    ) {
        // Blocks that only fill up a panel have no channels: zeros.
        let first_channel = image * self.channels + (block * BLOCK).min(self.channels);
        let channels = self.channels.saturating_sub(block * BLOCK).min(BLOCK);
        let mut factors = [1.0; BLOCK];
        if let Some(f) = self.operand.factors {
            factors[..channels].copy_from_slice(&f[first_channel..first_channel + channels]);
        }
        let area = self.height * self.width;
        let planes = &self.operand.data[first_channel * area..][..channels * area];
        space::with(|space| {
            space.plane.reserve(reader.scratch(rows, across));
            let part = Part { channels, height: self.height, width: self.width, first, rows, across };
            let t = Take {
                part,
                planes: planes.as_ptr(),
                factors,
                scratch: space.plane.as_mut_ptr(),
                values: values.wrapping_add(tiles * tile + block * BLOCK),
                slot,
                tile,
            };
            // SAFETY: the instruction set was detected; the planes were cut above; callers make room for the values.
            unsafe { reader.take(isa, &t) };
        });
    }
}

struct Multiply(Product);

impl Kernel for Multiply {
    #[inline(always)]
    unsafe fn run<V: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe { product::<V>(&self.0) }
    }
}

/// A convolution: values of windows, products with transformed weights, windows of results.
pub(super) struct Convolution {
    reader: Reader,
    writer: Writer,
    axis: Vec<[f32; 3]>,
    pub(super) budget: Budget,
    /// For each product: values and weights.
    groups: Groups,
}

impl Convolution {
    /// 3x3, same size, F(4x4, 3x3).
    pub(super) fn same() -> Self {
        let products = lines::products::<Winograd4, 6, 6, 6, 4>();
        Self {
            reader: Reader::new::<Input<Winograd4>, 6, 6>(4, 1),
            writer: Writer::new::<Output<Winograd4>, 6, 4>(4),
            axis: lines::weights::<Winograd4, 6, 6, 6, 4>(),
            budget: BUDGET,
            groups: grouped(products),
        }
    }
    /// 3x3, stride 2 transposed.
    pub(super) fn doubling() -> Self {
        let products = lines::products::<ToomCook4, 4, 7, 9, 9>();
        Self {
            reader: Reader::new::<Input<ToomCook4>, 4, 7>(4, 0),
            writer: Writer::new::<Output<ToomCook4>, 9, 9>(8),
            axis: lines::weights::<ToomCook4, 4, 7, 9, 9>(),
            budget: BUDGET,
            groups: grouped(products),
        }
    }
    /// 3x3, stride 2: the adjoint of [`Self::doubling`]. What belongs to one point is summed in its product.
    pub(super) fn halving() -> Self {
        let products = lines::products::<ToomCook4, 4, 7, 9, 9>();
        Self {
            reader: Reader::new::<OutputAdjoint<ToomCook4>, 9, 9>(8, 0),
            writer: Writer::new::<InputAdjoint<ToomCook4>, 7, 4>(4),
            axis: lines::weights::<ToomCook4, 4, 7, 9, 9>(),
            budget: BUDGET,
            groups: grouped(products.into_iter().map(|[point, weight, q]| [q, weight, point]).collect()),
        }
    }

    /// Convolves `x` to planes `[n, order.outputs, height, width]`; `finish(row, plane)` may change each row while it
    /// is in the cache.
    pub(super) fn run(
        &self,
        isa: Isa,
        tiles: Tiles,
        x: Planes<'_>,
        (w, order): (&[f32], Order),
        (height, width_of): (usize, usize),
        finish: &(impl Fn(&mut [f32], usize) + Sync),
    ) -> Vec<f32> {
        let (nr, outputs) = (width(isa), order.outputs);
        let c16 = order.inputs.next_multiple_of(BLOCK);
        let panels = outputs.div_ceil(nr);
        let (blocks_in, blocks_out) = (c16 / BLOCK, outputs.div_ceil(BLOCK));
        let area = height * width_of;
        let len = tiles.n * outputs * area;
        let mut result = Vec::with_capacity(len);
        let y = Shared(result.as_mut_ptr());

        // Sizes of the work.
        let (p2, q2) = (self.reader.slots, self.writer.slots);
        let unit = if self.writer.overlaps() { tiles.rows } else { 1 };
        let v_tile = c16 + LINE;
        let (all_rows, across) = (tiles.all_rows(), tiles.across);
        let whole = |rows: usize| (rows / unit).max(1) * unit;
        let fused_rows = whole((self.budget.fused / (p2 * v_tile * across)).min(all_rows.div_ceil(ITEMS)));
        let weights = self.axis.len().pow(2) * c16 * panels * nr;
        let spilled = SPILL * 2 * (p2 * c16 + q2 * panels * nr);
        let fused = weights / (fused_rows * across) < spilled
            && p2 * v_tile * across * fused_rows <= 2 * self.budget.fused;
        let wide_rows = whole((self.budget.wide / ((p2 * v_tile + q2 * panels * nr) * across)).min(all_rows));
        let chunk = if fused {
            fused_rows
        } else {
            all_rows.div_ceil(all_rows.div_ceil(wide_rows)).next_multiple_of(unit)
        };
        let most = chunk * across;
        let (v_slot, m_panels) = (staggered(most * v_tile), if fused { 1 } else { panels });
        let m_slot = staggered(most * nr * m_panels);

        space::with(|own| {
            let panel = c16 * nr;
            let u_slot = staggered(panels * panel);
            own.weights.reserve(self.axis.len().pow(2) * u_slot);
            let u = Shared(own.weights.as_mut_ptr());
            self.prepare(isa, w, order, u, u_slot);

            let multiply = |v: *const f32, m: *mut f32, group: usize, at: usize, count: usize| {
                let (slot, pairs) = &self.groups[group];
                for (i, [value, weight]) in pairs.iter().enumerate() {
                    let p = Product {
                        v: v.wrapping_add(value * v_slot),
                        v_row: v_tile,
                        rows: count,
                        u: u.at(weight * u_slot + at * panel),
                        inputs: c16,
                        m: m.wrapping_add(slot * m_slot),
                        more: i > 0,
                        next: std::ptr::null(),
                    };
                    // SAFETY: the instruction set was detected; values, weights and products lie in their rooms.
                    unsafe { dispatch(isa, &Multiply(p)) };
                }
            };
            let put =
                |m: *const f32, (image, first, rows, before): (usize, usize, usize, usize), block: usize| {
                    let plane = image * outputs + block * BLOCK;
                    let channels = (outputs - block * BLOCK).min(BLOCK);
                    space::with(|space| {
                        space.plane.reserve(self.writer.scratch(rows, across));
                        let part = Part { channels, height, width: width_of, first, rows, across };
                        let p = Put {
                            part,
                            products: m.wrapping_add(before * nr + block * BLOCK % nr),
                            slot: m_slot,
                            tile: nr,
                            scratch: space.plane.as_mut_ptr(),
                            planes: y.at(plane * area),
                        };
                        // SAFETY: as above; each row of a block is written by one item.
                        unsafe { self.writer.put(isa, &p) };
                    });
                    let (from, to) = if self.writer.overlaps() {
                        (0, height)
                    } else {
                        (first * self.writer.step, (first + rows) * self.writer.step)
                    };
                    for (c, row) in (0..channels).flat_map(|c| (from..to).map(move |r| (c, r))) {
                        let at = (plane + c) * area + row * width_of;
                        // SAFETY: the row lies in the result and belongs to this item.
                        let row = unsafe { std::slice::from_raw_parts_mut(y.at(at), width_of) };
                        finish(row, plane + c);
                    }
                };

            let chunks: Vec<_> =
                (0..all_rows).step_by(chunk).map(|a| (a, (a + chunk).min(all_rows))).collect();
            let rows_out = if self.writer.overlaps() { usize::MAX } else { ROWS };
            if fused {
                chunks.into_par_iter().for_each(|(from, to)| {
                    space::with(|space| {
                        space.values.reserve(p2 * v_slot);
                        space.products.reserve(q2 * m_slot);
                        let (v, m) = (space.values.as_mut_ptr(), space.products.as_mut_ptr());
                        for cut in tiles.cut(from, to, ROWS) {
                            for block in 0..blocks_in {
                                x.take(isa, &self.reader, across, cut, block, (v, v_slot, v_tile));
                            }
                        }
                        let cuts = tiles.cut(from, to, rows_out);
                        for at in 0..panels {
                            for group in 0..self.groups.len() {
                                multiply(v, m, group, at, (to - from) * across);
                            }
                            for block in at * nr / BLOCK..((at + 1) * nr / BLOCK).min(blocks_out) {
                                cuts.iter().for_each(|cut| put(m, *cut, block));
                            }
                        }
                    });
                });
                return;
            }
            own.values.reserve(p2 * v_slot);
            own.products.reserve(q2 * m_slot);
            let (v, m) = (Shared(own.values.as_mut_ptr()), Shared(own.products.as_mut_ptr()));
            for (from, to) in chunks {
                let cuts = tiles.cut(from, to, ROWS);
                each(true, cuts.len() * blocks_in, |i| {
                    let to = (v.at(0), v_slot, v_tile);
                    x.take(isa, &self.reader, across, cuts[i / blocks_in], i % blocks_in, to);
                });
                let to_panel = |at: usize| m.at(at * most * nr);
                each(true, self.groups.len() * panels, |i| {
                    multiply(v.at(0), to_panel(i % panels), i / panels, i % panels, (to - from) * across);
                });
                let cuts = tiles.cut(from, to, rows_out);
                each(true, cuts.len() * blocks_out, |i| {
                    let block = i % blocks_out;
                    put(to_panel(block * BLOCK / nr), cuts[i / blocks_out], block);
                });
            }
        });
        // SAFETY: tiles cover the planes of all images, and each was written.
        unsafe { result.set_len(len) };
        result
    }

    /// Transforms the weights to `[slot][panel][inputs][width]`.
    fn prepare(&self, isa: Isa, w: &[f32], order: Order, u: Shared, u_slot: usize) {
        let (nr, runs) = (width(isa), order.inputs.next_multiple_of(BLOCK) / INPUTS);
        each(true, order.outputs.div_ceil(nr) * runs, |i| {
            let (at, c) = (i / runs, i % runs * INPUTS);
            let mut raw = [0.0; INPUTS * 9 * WIDEST];
            order.gather(w, (at * nr, nr), c, &mut raw[..INPUTS * 9 * nr]);
            let out = u.at((at * runs * INPUTS + c) * nr);
            let p = Prepare { raw: raw.as_ptr(), width: nr, axis: &self.axis, out, slot: u_slot };
            // SAFETY: the instruction set was detected; the caller made room; each item has its own part.
            unsafe { dispatch(isa, &p) };
        });
    }
}

/// A weight gradient: values of windows of both operands, and their products summed over the tiles.
pub(super) struct Gradient {
    inputs: Reader,
    outputs: Reader,
    axis: Vec<[f32; 3]>,
    pub(super) budget: Budget,
    /// For each transformed weight: values of the inputs and of the outputs.
    groups: Groups,
}

impl Gradient {
    /// Of [`Convolution::same`], or of [`Convolution::doubling`] (and so, with the same operands, of its adjoint).
    pub(super) fn new(geometry: Geometry) -> Self {
        let by_weight = |products: Vec<[usize; 3]>| {
            grouped(products.into_iter().map(|[point, weight, q]| [point, q, weight]).collect())
        };
        match geometry {
            Geometry::Same => Self {
                inputs: Reader::new::<Input<Winograd4>, 6, 6>(4, 1),
                outputs: Reader::new::<OutputAdjoint<Winograd4>, 4, 6>(4, 0),
                axis: lines::weights::<Winograd4, 6, 6, 6, 4>(),
                budget: BUDGET,
                groups: by_weight(lines::products::<Winograd4, 6, 6, 6, 4>()),
            },
            Geometry::Down => Self {
                inputs: Reader::new::<Input<ToomCook4>, 4, 7>(4, 0),
                outputs: Reader::new::<OutputAdjoint<ToomCook4>, 9, 9>(8, 0),
                axis: lines::weights::<ToomCook4, 4, 7, 9, 9>(),
                budget: BUDGET,
                groups: by_weight(lines::products::<ToomCook4, 4, 7, 9, 9>()),
            },
        }
    }

    /// The gradient in the order of `order`: `a` are the inputs' planes, `b` the outputs'.
    pub(super) fn run(&self, isa: Isa, tiles: Tiles, a: Planes<'_>, b: Planes<'_>, order: Order) -> Vec<f32> {
        let nr = width(isa);
        let c16 = order.inputs.next_multiple_of(BLOCK);
        let panels = order.outputs.div_ceil(nr);
        let (blocks_a, blocks_b) = (c16 / BLOCK, panels * nr / BLOCK);
        let (a_tile, b_tile) = (c16 + LINE, panels * nr + LINE);
        let (p2, q2) = (self.inputs.slots, self.outputs.slots);
        let (all_rows, across) = (tiles.all_rows(), tiles.across);
        let row = (p2 * a_tile + q2 * b_tile) * across;
        let panel = c16 * nr;
        let u_slot = staggered(panels * panel);
        let sums = self.axis.len().pow(2) * u_slot;

        let fused_rows = (self.budget.fused / row).min(all_rows.div_ceil(SUMS)).max(1);
        let parts = SUMS.min(all_rows.div_ceil(fused_rows));
        let fused = sums / (fused_rows * across) < SPILL * row / across
            && sums * parts <= self.budget.wide
            && row <= 2 * self.budget.fused;
        let parts = if fused { parts } else { 1 };
        let wide_rows = (self.budget.wide / row).clamp(1, all_rows);
        let chunk = if fused { fused_rows } else { all_rows.div_ceil(all_rows.div_ceil(wide_rows)) };
        let most = chunk * across;
        let (a_slot, b_slot) = (staggered(most * a_tile), staggered(most * b_tile));
        let chunks: Vec<_> = (0..all_rows).step_by(chunk).map(|a| (a, (a + chunk).min(all_rows))).collect();

        let mut result = vec![0.0; order.outputs * order.inputs * 9];
        space::with(|own| {
            own.weights.reserve(parts * sums);
            let u = Shared(own.weights.as_mut_ptr());
            // The chunks `of` into one partial sum, the items of a step beside each other or not.
            let accumulate = |room: [&mut Aligned; 2], of: &[(usize, usize)], u: Shared, parallel: bool| {
                let [values, products] = room;
                values.reserve(p2 * a_slot);
                products.reserve(q2 * b_slot);
                let (va, vb) = (Shared(values.as_mut_ptr()), Shared(products.as_mut_ptr()));
                for (turn, (from, to)) in of.iter().enumerate() {
                    let cuts = tiles.cut(*from, *to, ROWS);
                    let blocks = blocks_a + blocks_b;
                    each(parallel, cuts.len() * blocks, |i| {
                        let (cut, block) = (cuts[i / blocks], i % blocks);
                        if block < blocks_a {
                            a.take(isa, &self.inputs, across, cut, block, (va.at(0), a_slot, a_tile));
                        } else {
                            let to = (vb.at(0), b_slot, b_tile);
                            b.take(isa, &self.outputs, across, cut, block - blocks_a, to);
                        }
                    });
                    each(parallel, self.groups.len() * panels, |i| {
                        let ((weight, pairs), at) = (&self.groups[i / panels], i % panels);
                        for (j, [point, q]) in pairs.iter().enumerate() {
                            let o = Outer {
                                a: va.at(point * a_slot),
                                a_tile,
                                b: vb.at(q * b_slot + at * nr),
                                b_tile,
                                tiles: (to - from) * across,
                                inputs: c16,
                                out: u.at(weight * u_slot + at * panel),
                                more: turn + j > 0,
                            };
                            // SAFETY: the instruction set was detected; room was made above; each item has its own
                            // sums.
                            unsafe { dispatch(isa, &o) };
                        }
                    });
                }
            };
            if fused {
                each(true, parts, |part| {
                    let of = &chunks[part * chunks.len() / parts..(part + 1) * chunks.len() / parts];
                    space::with(|space| {
                        let room = [&mut space.values, &mut space.products];
                        accumulate(room, of, Shared(u.at(part * sums)), false);
                    });
                });
            } else {
                accumulate([&mut own.values, &mut own.products], &chunks, u, true);
            }
            self.fold(isa, order, u, (u_slot, parts, sums), Shared(result.as_mut_ptr()));
        });
        result
    }

    /// The sums `[part][slot][panel][inputs][width]` to weights.
    fn fold(
        &self,
        isa: Isa,
        order: Order,
        u: Shared,
        (u_slot, parts, part): (usize, usize, usize),
        to: Shared,
    ) {
        let (nr, runs) = (width(isa), order.inputs.next_multiple_of(BLOCK) / INPUTS);
        each(true, order.outputs.div_ceil(nr) * runs, |i| {
            let (at, c) = (i / runs, i % runs * INPUTS);
            let mut folded = [0.0; INPUTS * 9 * WIDEST];
            let f = Fold {
                from: u.at((at * runs * INPUTS + c) * nr),
                slot: u_slot,
                parts,
                part,
                width: nr,
                axis: &self.axis,
                out: folded.as_mut_ptr(),
            };
            // SAFETY: the instruction set was detected; all sums are there.
            unsafe { dispatch(isa, &f) };
            order.scatter(&folded[..INPUTS * 9 * nr], (at * nr, nr), c, |place, taps| {
                // SAFETY: the nine taps of one pair of channels, which belongs to one item.
                unsafe { std::ptr::copy_nonoverlapping(taps.as_ptr(), to.at(place), 9) };
            });
        });
    }
}

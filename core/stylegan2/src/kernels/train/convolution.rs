//! Convolutions: values of windows, products with transformed weights, windows of results.

use super::flow::{BUDGET, Budget, Chunks, Cut, Groups, ITEMS, Planes, ROWS, SPILL, Tiles, each, grouped};
use super::lines::{self, Input, InputAdjoint, Output, OutputAdjoint};
use super::space::{self, Shared, staggered};
use super::weights::{INPUTS, Order, Prepare, WIDEST};
use super::windows::{Part, Put, Reader, Writer};
use crate::kernels::Isa;
use crate::kernels::aligned::LINE;
use crate::kernels::axis::{ToomCook4, Winograd4};
use crate::kernels::panels::{Product, product, width};
use crate::kernels::simd::{Kernel, Simd, dispatch};
use crate::kernels::tiles::BLOCK;
use rayon::prelude::*;

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

    /// Values and products of one tile.
    fn tile(&self, isa: Isa, order: Order) -> (usize, usize) {
        let products = self.writer.slots * order.outputs.next_multiple_of(width(isa));
        (self.reader.slots * (order.inputs.next_multiple_of(BLOCK) + LINE), products)
    }

    /// Values and products that must be at work together at least.
    pub(super) fn least(&self, isa: Isa, tiles: Tiles, order: Order) -> usize {
        let (values, products) = self.tile(isa, order);
        (values + products) * tiles.across * self.unit(tiles)
    }

    /// Rows of tiles that must be at work together: all of an image where windows overlap.
    fn unit(&self, tiles: Tiles) -> usize {
        if self.writer.overlaps() { tiles.rows } else { 1 }
    }

    pub(super) fn plan(&self, isa: Isa, tiles: Tiles, order: Order) -> Chunks {
        let (values, products) = self.tile(isa, order);
        let (all, across, unit) = (tiles.all_rows(), tiles.across, self.unit(tiles));
        let whole = |rows: usize| (rows / unit).max(1) * unit;
        let rows = whole((self.budget.fused / (values * across)).min(all.div_ceil(ITEMS)));
        let weights = self.axis.len().pow(2)
            * order.inputs.next_multiple_of(BLOCK)
            * order.outputs.next_multiple_of(width(isa));
        // Fused, the weights are read once for each item; wide, values and products are written and read once.
        if weights / (rows * across) < 2 * SPILL * (values + products)
            && values * across * rows <= 2 * self.budget.fused
        {
            return Chunks { fused: true, rows, sums: 1 };
        }
        let most = whole((self.budget.wide / ((values + products) * across)).min(all));
        Chunks { fused: false, rows: all.div_ceil(all.div_ceil(most)).next_multiple_of(unit), sums: 1 }
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

        let (p2, q2) = (self.reader.slots, self.writer.slots);
        let v_tile = c16 + LINE;
        let (all_rows, across) = (tiles.all_rows(), tiles.across);
        let plan = self.plan(isa, tiles, order);
        let fused = plan.fused;
        let most = plan.rows * across;
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
            let put = |m: *const f32, cut: Cut, block: usize| {
                let Cut { image, first, rows, before } = cut;
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

            let chunks = plan.of(all_rows);
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

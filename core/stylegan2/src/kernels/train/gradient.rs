//! Weight gradients: values of windows of both operands, and their products summed over the tiles.

use super::flow::{BUDGET, Budget, Chunks, Groups, Planes, ROWS, SPILL, SUMS, Tiles, each, grouped};
use super::lines::{self, Input, OutputAdjoint};
use super::outer::Outer;
use super::space::{self, Shared, staggered};
use super::weights::{Fold, INPUTS, Order, WIDEST};
use super::windows::Reader;
use crate::kernels::Isa;
use crate::kernels::aligned::{Aligned, LINE};
use crate::kernels::axis::{ToomCook4, Winograd4};
use crate::kernels::conv::Geometry;
use crate::kernels::panels::width;
use crate::kernels::simd::dispatch;
use crate::kernels::tiles::BLOCK;

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

    pub(super) fn plan(&self, isa: Isa, tiles: Tiles, order: Order) -> Chunks {
        let (c16, k) = (order.inputs.next_multiple_of(BLOCK), order.outputs.next_multiple_of(width(isa)));
        let tile = self.inputs.slots * (c16 + LINE) + self.outputs.slots * (k + LINE);
        let (all, row) = (tiles.all_rows(), tile * tiles.across);
        let sums = self.axis.len().pow(2) * c16 * k;
        let rows = (self.budget.fused / row).min(all.div_ceil(SUMS)).max(1);
        let parts = SUMS.min(all.div_ceil(rows));
        // Fused, the sums are read and written once for each item, and there are several; wide, the values are.
        if sums / (rows * tiles.across) < SPILL * tile
            && sums * parts <= self.budget.wide
            && row <= 2 * self.budget.fused
        {
            return Chunks { fused: true, rows, sums: parts };
        }
        let most = (self.budget.wide / row).clamp(1, all);
        Chunks { fused: false, rows: all.div_ceil(all.div_ceil(most)), sums: 1 }
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
        let panel = c16 * nr;
        let u_slot = staggered(panels * panel);
        let sums = self.axis.len().pow(2) * u_slot;

        let plan = self.plan(isa, tiles, order);
        let (fused, parts) = (plan.fused, plan.sums);
        let most = plan.rows * across;
        let (a_slot, b_slot) = (staggered(most * a_tile), staggered(most * b_tile));
        let chunks = plan.of(all_rows);

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

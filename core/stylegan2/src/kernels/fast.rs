//! Fast convolutions of the synthesis network: transformed weights once, then scatter, multiply, gather.
//!
//! Two schedules, with the same arithmetic. *Wide*: all tiles of a chunk of images are scattered, each transformed
//! weight matrix then meets all tiles while it is in the cache, and products are gathered at the end; good where the
//! weights are large. *Fused*: a thread takes a few rows of tiles through all three steps, panel by panel, so that
//! values and products never leave its second-level cache; good where the weights are small and the maps large.
//! Which one, and how the work is cut, follows from the layer's sizes alone.

mod weights;

use super::aligned::{Aligned, LINE};
use super::axis::{Axis, Pointwise, ToomCook2, ToomCook4, Winograd2, Winograd4};
use super::gemm::Isa;
use super::panels::{Multiply, Product, width};
use super::simd::{Kernel, dispatch};
use super::team::{Shared, Team};
use super::tiles::{BLOCK, Double, Epilogue, Gather, Scatter, double_scratch};
use std::marker::PhantomData;
use std::ops::Range;
use weights::{Few, INPUTS, Transform};

/// Which fast convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// 3x3, same size, F(4x4, 3x3).
    Winograd4,
    /// 3x3, same size, F(2x2, 3x3): less than half the weights, more arithmetic.
    Winograd2,
    /// 3x3, stride 2 transposed, then the filter [1, 3, 3, 1]; tiles of 4x4 inputs.
    ToomCook4,
    /// The same with tiles of 2x2.
    ToomCook2,
    /// 1x1.
    Pointwise,
}

impl Method {
    /// For a layer whose input has `side` x `side` pixels. Small pictures have few tiles to share the weights, and
    /// reading those from memory takes longer than the arithmetic.
    pub(crate) fn same(side: usize) -> Self {
        if side >= 16 { Self::Winograd4 } else { Self::Winograd2 }
    }
    /// As [`Self::same`] for the doubling convolution.
    pub(crate) fn double(side: usize) -> Self {
        if side >= 32 { Self::ToomCook4 } else { Self::ToomCook2 }
    }
}

/// Room for values and products, kept from layer to layer.
pub(crate) struct Workspace {
    values: Aligned,
    products: Aligned,
    scratch: Aligned,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { values: Aligned::zeros(0), products: Aligned::zeros(0), scratch: Aligned::zeros(0) }
    }
}

/// Maps `[N][C/16][H][W][16]` that go into a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub data: &'a [f32],
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Factors per image and channel, `[N][C]` with C rounded up to whole blocks, or none.
    pub style: Option<&'a [f32]>,
}

/// A convolution with its transformed weights.
pub(crate) struct FastConv {
    method: Method,
    isa: Isa,
    inputs: usize,
    outputs: usize,
    /// Transformed, `[W^2][panel][C][width]`; empty where the budget did not allow it.
    ready: Aligned,
    /// As they were, `[panel][C][taps][width]`; empty where only `ready` is of use.
    raw: Aligned,
    /// The transform of one axis, `[W][k]`.
    axis: Vec<[f32; 3]>,
}

/// Values and products of a wide chunk (24 MiB): about what a share of a third-level cache holds.
const WIDE: usize = 6 << 20;
/// Values of a fused chunk (0.8 MiB): what a second-level cache of 1 MiB holds beside a panel at work.
const FUSED: usize = 200 << 10;
/// Tiles up to which weights are transformed on the spot.
const FEW_TILES: usize = 32;
/// Tiles scattered together.
const SHARE: usize = 4;
/// Runs of panels that each thread takes, at least.
const RUNS: usize = 6;

/// The stride of at least `n` values that lies five cache lines off a multiple of 4 KiB: parallel streams must not
/// meet in the same sets of the first-level cache.
fn staggered(n: usize) -> usize {
    n.next_multiple_of(1024) + 5 * LINE
}

/// How a convolution's work is cut.
struct Plan {
    /// Rows of tiles of an image, and tiles of a row.
    rows: usize,
    across: usize,
    /// Rows of tiles, of all images one after the other, that are worked on together.
    chunk: usize,
    fused: bool,
    /// Whether weights are transformed on the spot.
    few_tiles: bool,
    /// Values from one tile to the next, and from one point to the next; products from one to the next.
    v_tile: usize,
    v_point: usize,
    m_product: usize,
    /// Scratch of a thread: for weights, and in all.
    lent: usize,
    own: usize,
}

impl FastConv {
    /// From weights `[K, C, k, k]` (k = 3, or 1 for [`Method::Pointwise`]). `ready` says whether to keep them
    /// transformed, four (F(4x4)) or not quite two (F(2x2)) times the size; `raw`, whether also as they are, for
    /// pictures of few tiles. Both ways give the same results to the last bit.
    ///
    /// # Panics
    /// If the number of weights is not `outputs * inputs * taps`.
    pub(crate) fn new(
        isa: Isa,
        method: Method,
        w: &[f32],
        (outputs, inputs): (usize, usize),
        ready: bool,
        raw: bool,
    ) -> Self {
        let axis = match method {
            Method::Winograd4 => Winograd4::weights(),
            Method::Winograd2 => Winograd2::weights(),
            Method::ToomCook4 => ToomCook4::weights(),
            Method::ToomCook2 => ToomCook2::weights(),
            Method::Pointwise => Pointwise::weights(),
        };
        let taps = axis[0].len() * axis[0].len();
        let (c16, nr) = (inputs.next_multiple_of(BLOCK), width(isa));
        assert_eq!(w.len(), outputs * inputs * taps);
        let panels = outputs.div_ceil(nr);
        let mut out = Self {
            method,
            isa,
            inputs,
            outputs,
            ready: Aligned::zeros(0),
            raw: Aligned::zeros(panels * c16 * taps * nr),
            axis: axis.iter().map(|r| std::array::from_fn(|i| r.get(i).map_or(0.0, |v| *v as f32))).collect(),
        };
        for (k, w) in w.chunks_exact(inputs * taps).enumerate() {
            let panel = &mut out.raw[k / nr * c16 * taps * nr..][..c16 * taps * nr];
            for (i, v) in w.iter().enumerate() {
                panel[i * nr + k % nr] = *v;
            }
        }
        if taps == 1 {
            // Nothing to transform.
            std::mem::swap(&mut out.ready, &mut out.raw);
        } else if ready {
            let (size, w) = (c16 * nr, out.axis.len());
            let mut all = Aligned::zeros(w * w * panels * size);
            for panel in 0..panels {
                for uy in 0..w {
                    let (from, step) = ((uy * w * panels + panel) * size, panels * size);
                    out.transform(panel, uy, &mut all[from..], step);
                }
            }
            out.ready = all;
            if !raw {
                out.raw = Aligned::zeros(0);
            }
        }
        out
    }

    /// Transforms one panel for row `uy` of the matrices: that of column ux begins at `ux * step` of `out`.
    fn transform(&self, panel: usize, uy: usize, out: &mut [f32], step: usize) {
        let size = self.inputs.next_multiple_of(BLOCK) * width(self.isa);
        assert!(out.len() >= (self.axis.len() - 1) * step + size);
        let t = Transform {
            raw: self.raw[panel * 9 * size..][..9 * size].as_ptr(),
            inputs: self.inputs.next_multiple_of(BLOCK),
            width: width(self.isa),
            row: self.axis[uy],
            axis: &self.axis,
            out: out.as_mut_ptr(),
            step,
        };
        // SAFETY: the instruction set was detected; sizes were asserted above.
        unsafe { dispatch(self.isa, &t) };
    }

    /// Bytes of transformed weights that [`FastConv::new`] would keep ready.
    pub(crate) fn ready_bytes(isa: Isa, method: Method, outputs: usize, inputs: usize) -> usize {
        let matrices = match method {
            Method::Winograd4 | Method::ToomCook4 => 36,
            Method::Winograd2 | Method::ToomCook2 => 16,
            Method::Pointwise => 1,
        };
        matrices * outputs.next_multiple_of(width(isa)) * inputs.next_multiple_of(BLOCK) * size_of::<f32>()
    }

    /// Multiply-adds of the products for one image of `height` x `width` inputs, padding of channels not counted.
    pub(crate) fn multiply_adds(&self, height: usize, width: usize) -> usize {
        let (products, step) = match self.method {
            Method::Winograd4 => (36, 4),
            Method::Winograd2 => (16, 2),
            Method::ToomCook4 => (81, 4),
            Method::ToomCook2 => (25, 2),
            Method::Pointwise => (1, 1),
        };
        products * (height / step) * (width / step) * self.inputs * self.outputs
    }

    /// Convolves `x` into `y`, `[N][K/16][H'][W'][16]` with sides as those of x, or twice as large.
    ///
    /// # Panics
    /// If a slice does not have the size that `x` says, or the sides are no multiples of the method's tiles.
    pub(crate) fn forward(
        &self,
        team: &Team<'_>,
        space: &mut Workspace,
        x: Input<'_>,
        e: &Epilogue<'_>,
        y: &mut [f32],
    ) {
        match self.method {
            Method::Winograd4 => self.run::<Winograd4, 6, 6, 6, 4>(team, space, x, e, y),
            Method::Winograd2 => self.run::<Winograd2, 4, 4, 4, 2>(team, space, x, e, y),
            Method::ToomCook4 => self.run::<ToomCook4, 4, 7, 9, 9>(team, space, x, e, y),
            Method::ToomCook2 => self.run::<ToomCook2, 2, 3, 5, 5>(team, space, x, e, y),
            Method::Pointwise => self.run::<Pointwise, 1, 1, 1, 1>(team, space, x, e, y),
        }
    }

    /// How to cut the work, by the layer's sizes and the number of images alone.
    fn plan<A, const I: usize, const P: usize, const Q: usize, const O: usize>(&self, x: Input<'_>) -> Plan
    where
        A: Axis<I, P, Q, O>,
    {
        let (nr, c16, k16) =
            (width(self.isa), self.inputs.next_multiple_of(BLOCK), self.outputs.next_multiple_of(BLOCK));
        let panels = k16.div_ceil(nr);
        let (rows, across) = (x.height / A::STEP, x.width / A::STEP);
        let all_rows = x.n * rows;
        let v_tile = c16 + LINE;
        let fused_rows = (FUSED / (P * P * v_tile * across)).max(1);
        // Values once to memory and back, products likewise, against the weights once for each fused chunk.
        let spilled = 2 * (P * P * c16 + Q * Q * k16);
        let weights = A::WEIGHTS * A::WEIGHTS * c16 * k16;
        let fused =
            !A::UP && weights / (fused_rows * across) < spilled && P * P * v_tile * across <= 3 * FUSED;
        let chunk = if fused {
            fused_rows
        } else {
            // Whole images, where their tiles overlap.
            let unit = if A::UP { rows } else { 1 };
            let row = (P * P * v_tile + Q * Q * panels * nr) * across;
            (WIDE / row / unit).max(1) * unit
        };
        // Chunks of one size, the last one aside.
        let chunk = chunk.min(all_rows);
        let chunk = if A::UP { chunk } else { all_rows.div_ceil(all_rows.div_ceil(chunk)) };
        let tiles = chunk * across;
        // With few tiles the weights' way from memory is the longest: then they come as they are and are transformed
        // on the spot.
        let few_tiles = !self.raw.is_empty() && (self.ready.is_empty() || tiles <= FEW_TILES);
        let lent = if few_tiles { A::WEIGHTS * INPUTS * nr } else { 0 };
        Plan {
            rows,
            across,
            chunk,
            fused,
            few_tiles,
            v_tile,
            v_point: staggered(tiles * v_tile),
            m_product: staggered(tiles * nr * if fused { 1 } else { panels }),
            lent,
            own: lent + if A::UP { double_scratch(x.width, O) } else { 0 },
        }
    }

    fn run<A, const I: usize, const P: usize, const Q: usize, const O: usize>(
        &self,
        team: &Team<'_>,
        space: &mut Workspace,
        x: Input<'_>,
        e: &Epilogue<'_>,
        y: &mut [f32],
    ) where
        A: Axis<I, P, Q, O>,
        Scatter<A>: Kernel,
        for<'b> Gather<'b, A>: Kernel,
        for<'b> Double<'b, A>: Kernel,
    {
        let (nr, c16, k16) =
            (width(self.isa), self.inputs.next_multiple_of(BLOCK), self.outputs.next_multiple_of(BLOCK));
        let (panels, ratio) = (k16.div_ceil(nr), if A::UP { 4 } else { 1 });
        let area = x.height * x.width;
        let whole = x.height.is_multiple_of(A::STEP) && x.width.is_multiple_of(A::STEP);
        assert!(whole, "{}x{} pixels in tiles of {}", x.height, x.width, A::STEP);
        assert_eq!(x.data.len(), x.n * c16 * area);
        assert_eq!(y.len(), x.n * k16 * area * ratio);
        assert!(x.style.is_none_or(|s| s.len() == x.n * c16));
        assert!(e.factors.is_none_or(|f| f.len() == x.n * k16) && e.bias.is_none_or(|b| b.len() == k16));
        assert!(e.noise.is_none_or(|n| n.len() == area * ratio) && e.add.is_none_or(|a| a.len() == y.len()));
        let plan = self.plan::<A, I, P, Q, O>(x);
        let Plan { rows, across, chunk, fused, few_tiles, v_tile, v_point, m_product, lent, own } = plan;
        let (all_rows, tiles, panel) = (x.n * rows, chunk * across, c16 * nr);
        let matrices = A::WEIGHTS * A::WEIGHTS;
        let copies = if fused { team.threads() } else { 1 };
        space.values.reserve(copies * P * P * v_point);
        space.products.reserve(copies * Q * Q * m_product);
        space.scratch.reserve(team.threads() * own);
        let v = Shared::new(&mut space.values);
        let m = Shared::new(&mut space.products);
        let scratch = Shared::new(&mut space.scratch);
        let y = Shared::new(y);

        let scatter = |v: *mut f32, first: usize, row: usize, tiles: Range<usize>| {
            let (image, row_of) = ((first + row) / rows, (first + row) % rows);
            let s = Scatter {
                axis: PhantomData::<A>,
                x: x.data[image * c16 * area..].as_ptr(),
                blocks: c16 / BLOCK,
                style: x.style.map_or(std::ptr::null(), |s| s[image * c16..].as_ptr()),
                height: x.height,
                width: x.width,
                row: row_of,
                tiles,
                v: v.wrapping_add(row * across * v_tile),
                v_point,
                v_tile,
            };
            // SAFETY: the instruction set was detected, sizes were asserted, room was made above.
            unsafe { dispatch(self.isa, &s) };
        };
        let gather = |m: *const f32, first: usize, row: usize, block: usize| {
            let (image, row_of) = ((first + row) / rows, (first + row) % rows);
            let g = Gather {
                axis: PhantomData::<A>,
                m: m.wrapping_add(row * across * nr + block * BLOCK % nr),
                m_product,
                m_tile: nr,
                height: x.height,
                width: x.width,
                row: row_of,
                image,
                block,
                blocks: k16 / BLOCK,
                epilogue: e,
                y: y.at((image * k16 + block * BLOCK) * area),
            };
            // SAFETY: as above; each row of a block is written by one item.
            unsafe { dispatch(self.isa, &g) };
        };
        // Products of one panel of matrix `u` with `tiles` tiles.
        let multiply =
            |v: *const f32, m: *mut f32, u: usize, panel: *const f32, tiles: usize, next: *const f32| {
                let (uy, ux) = (u / A::WEIGHTS, u % A::WEIGHTS);
                let mut next = next;
                for qy in (0..Q).filter(|q| A::WEIGHT[*q] == uy) {
                    for qx in (0..Q).filter(|q| A::WEIGHT[*q] == ux) {
                        let p = Product {
                            v: v.wrapping_add((A::POINT[qy] * P + A::POINT[qx]) * v_point),
                            v_row: v_tile,
                            rows: tiles,
                            u: panel,
                            inputs: c16,
                            m: m.wrapping_add((qy * Q + qx) * m_product),
                            more: false,
                            next,
                        };
                        next = std::ptr::null();
                        // SAFETY: as above.
                        unsafe { dispatch(self.isa, &Multiply(p)) };
                    }
                }
            };
        // The same for all matrices of some rows, transformed on the spot. For each row: column, value, product.
        let mut table = vec![Vec::new(); A::WEIGHTS];
        for qy in 0..Q {
            for qx in 0..Q {
                let v = (A::POINT[qy] * P + A::POINT[qx]) * v_point;
                table[A::WEIGHT[qy]].push([A::WEIGHT[qx], v, (qy * Q + qx) * m_product]);
            }
        }
        table.iter_mut().for_each(|t| t.sort_unstable());
        let few = |v: *const f32, m: *mut f32, rows: Range<usize>, at: usize, tiles: usize, thread: usize| {
            let f = Few {
                raw: self.raw[at * 9 * panel..][..9 * panel].as_ptr(),
                inputs: c16,
                width: nr,
                axis: &self.axis,
                table: &table,
                rows,
                v,
                v_tile,
                tiles,
                m,
                scratch: scratch.at(thread * own),
            };
            // SAFETY: as above; this thread alone uses its scratch.
            unsafe { dispatch(self.isa, &f) };
        };

        let chunks = all_rows.div_ceil(chunk);
        if fused {
            team.for_each(chunks, |thread, c| {
                let (first, last) = (c * chunk, ((c + 1) * chunk).min(all_rows));
                let (v, m) = (v.at(thread * P * P * v_point), m.at(thread * Q * Q * m_product));
                for row in 0..last - first {
                    scatter(v, first, row, 0..across);
                }
                for at in 0..panels {
                    let tiles = (last - first) * across;
                    if few_tiles {
                        few(v, m, 0..A::WEIGHTS, at, tiles, thread);
                    } else {
                        for u in 0..matrices {
                            multiply(
                                v,
                                m,
                                u,
                                self.ready[(u * panels + at) * panel..].as_ptr(),
                                tiles,
                                std::ptr::null(),
                            );
                        }
                    }
                    for block in at * nr / BLOCK..((at + 1) * nr / BLOCK).min(k16 / BLOCK) {
                        for row in 0..last - first {
                            gather(m, first, row, block);
                        }
                    }
                }
            });
            return;
        }
        for c in 0..chunks {
            let (first, last) = (c * chunk, ((c + 1) * chunk).min(all_rows));
            let (count, parts) = (last - first, across.div_ceil(SHARE));
            team.for_each(count * parts, |_, i| {
                let from = i % parts * SHARE;
                scatter(v.at(0), first, i / parts, from..(from + SHARE).min(across));
            });
            let tiles_now = count * across;
            let to = |at: usize| m.at(at * tiles * nr);
            if few_tiles {
                // A panel is read once if one thread makes all its matrices; where threads would wait, they share it.
                let parts = if panels < 3 * team.threads() { A::WEIGHTS } else { 1 };
                team.for_each(panels * parts, |thread, i| {
                    let (at, uy) = (i / parts, i % parts);
                    let rows = if parts == 1 { 0..A::WEIGHTS } else { uy..uy + 1 };
                    few(v.at(0), to(at), rows, at, tiles_now, thread);
                });
            } else {
                // Long runs let each panel be asked for while the one before is at work; short ones let threads end
                // together.
                let all = matrices * panels;
                let run = (all / (team.threads() * RUNS)).clamp(1, 64);
                team.for_each(all.div_ceil(run), |_, i| {
                    for j in i * run..((i + 1) * run).min(all) {
                        let ready = self.ready[j * panel..].as_ptr();
                        let next = if j + 1 < ((i + 1) * run).min(all) {
                            ready.wrapping_add(panel)
                        } else {
                            std::ptr::null()
                        };
                        multiply(v.at(0), to(j % panels), j / panels, ready, tiles_now, next);
                    }
                });
            }
            let blocks = k16 / BLOCK;
            if A::UP {
                let images = count / rows;
                team.for_each(images * blocks, |thread, i| {
                    let (image, block) = (i / blocks, i % blocks);
                    let offset =
                        block * BLOCK / nr * tiles * nr + image * rows * across * nr + block * BLOCK % nr;
                    let image = first / rows + image;
                    let d = Double {
                        axis: PhantomData::<A>,
                        m: m.at(offset),
                        m_product,
                        m_tile: nr,
                        height: x.height,
                        width: x.width,
                        image,
                        block,
                        blocks,
                        epilogue: e,
                        y: y.at((image * k16 + block * BLOCK) * area * 4),
                        scratch: scratch.at(thread * own + lent),
                    };
                    // SAFETY: as above; each block of an image is written by one item.
                    unsafe { dispatch(self.isa, &d) };
                });
            } else {
                team.for_each(count * blocks, |_, i| {
                    let (row, block) = (i / blocks, i % blocks);
                    gather(m.at(block * BLOCK / nr * tiles * nr), first, row, block);
                });
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

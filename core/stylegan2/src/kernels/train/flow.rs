//! The schedules: which tiles are at work together, and what runs beside what.
//!
//! *Fused*: an item takes some rows of tiles through all steps in its core's second-level cache, and items run beside
//! each other; good where weights are small. *Wide*: all tiles that a share of the third-level cache holds take one
//! step after the other, and the parts of each step run beside each other; good where weights are large. Which, and
//! how the work is cut, follows from sizes alone, and every sum has a fixed order: results do not depend on threads.

use super::space;
use super::windows::{Part, Reader, Take};
use crate::kernels::Isa;
use crate::kernels::conv::Operand;
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
pub(super) const BUDGET: Budget = Budget { fused: 300 << 10, wide: 6 << 20 };
/// Items that fused work is cut into at least.
pub(super) const ITEMS: usize = 8;
/// How much dearer a value is that goes through memory in thirty-six to eighty-one streams than one of weights that are
/// read from front to back: measured.
pub(super) const SPILL: usize = 4;
/// Partial sums of a fused weight gradient at most.
pub(super) const SUMS: usize = 8;
/// Rows of tiles whose planes are laid out together.
pub(super) const ROWS: usize = 4;

/// `f` for each below n, beside each other or one after the other.
pub(super) fn each(parallel: bool, n: usize, f: impl Fn(usize) + Sync + Send) {
    if parallel {
        (0..n).into_par_iter().for_each(f);
    } else {
        (0..n).for_each(f);
    }
}

/// Pairs of slots under the slot that they share.
pub(super) type Groups = Vec<(usize, Vec<[usize; 2]>)>;

/// Groups triples by their last entry.
pub(super) fn grouped(mut all: Vec<[usize; 3]>) -> Groups {
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
    pub(super) fn all_rows(&self) -> usize {
        self.n * self.rows
    }
    /// Cuts rows `from .. to` of the batch at the images' borders and every `most` rows.
    pub(super) fn cut(&self, from: usize, to: usize, most: usize) -> Vec<Cut> {
        let mut out = Vec::new();
        let mut at = from;
        while at < to {
            let (image, row) = (at / self.rows, at % self.rows);
            let count = most.min(self.rows - row).min(to - at);
            out.push(Cut { image, first: row, rows: count, before: (at - from) * self.across });
            at += count;
        }
        out
    }
}

/// Some rows of tiles of one image.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub image: usize,
    /// First row of tiles, and their number.
    pub first: usize,
    pub rows: usize,
    /// Tiles of the chunk that stand before these.
    pub before: usize,
}

/// How a batch's rows of tiles are put to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    pub fused: bool,
    /// Rows at work together.
    pub rows: usize,
    /// Partial sums of a weight gradient.
    pub sums: usize,
}

impl Chunks {
    /// The chunks of `all` rows, from and to.
    pub(super) fn of(&self, all: usize) -> Vec<(usize, usize)> {
        (0..all).step_by(self.rows).map(|from| (from, (from + self.rows).min(all))).collect()
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
    pub(super) fn take(
        &self,
        isa: Isa,
        reader: &Reader,
        across: usize,
        cut: Cut,
        block: usize,
        (values, slot, tile): (*mut f32, usize, usize),
    ) {
        // Blocks that only fill up a panel have no channels: zeros.
        let Cut { image, first, rows, before } = cut;
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
                values: values.wrapping_add(before * tile + block * BLOCK),
                slot,
                tile,
            };
            // SAFETY: the instruction set was detected; the planes were cut above; callers make room for the values.
            unsafe { reader.take(isa, &t) };
        });
    }
}

//! Fast convolutions for training: Winograd's F(4x4, 3x3) and Toom and Cook's product for stride 2, forward, adjoint
//! and weight gradient, on row-major planes and weights that change at every step.
//!
//! Per output pixel and pair of channels F(4x4) multiplies 2.25 times instead of 9. A tile of 4x4 pixels on the small
//! side of a convolution of stride 2 takes 81 products instead of 144; its adjoint takes as many.

mod convolution;
mod flow;
mod gradient;
mod lines;
mod outer;
mod space;
mod weights;
mod windows;

use super::conv::{Geometry, Operand, Shape};
use super::gemm::Isa;
use convolution::Convolution;
use flow::{Planes, Tiles};
use gradient::Gradient;
use weights::Order;

/// Side of a tile on the side of y.
const TILE: usize = 4;
/// Channels below which blocks of sixteen would stay mostly empty.
const CHANNELS: usize = 8;
/// Values and products of one image at most, 128 MiB.
const LARGEST: usize = 32 << 20;

/// Whether these kernels can compute a convolution and are faster than the gathered rows of [`super::conv`]. It
/// follows from sizes alone.
pub(super) fn serves(s: &Shape) -> bool {
    s.size == 3
        && s.n > 0
        && s.h > 0
        && s.w > 0
        && s.h.is_multiple_of(TILE)
        && s.w.is_multiple_of(TILE)
        && s.c >= CHANNELS
        && s.k >= CHANNELS
}

/// As [`serves`], for [`transposed`]. Its windows overlap at stride 2, so that a whole image is at work together; very
/// large ones would take too much memory.
pub(super) fn serves_transposed(isa: Isa, s: &Shape) -> bool {
    serves(s) && transposed_scheme(s).least(isa, tiles(s), transposed_order(s)) <= LARGEST
}

fn tiles(s: &Shape) -> Tiles {
    Tiles { n: s.n, rows: s.h / TILE, across: s.w / TILE }
}

fn x_planes<'a>(s: &Shape, operand: Operand<'a>) -> Planes<'a> {
    let (height, width) = s.x_size();
    Planes { operand, channels: s.c, height, width }
}

fn y_planes<'a>(s: &Shape, operand: Operand<'a>) -> Planes<'a> {
    Planes { operand, channels: s.k, height: s.h, width: s.w }
}

fn forward_scheme(s: &Shape) -> Convolution {
    match s.geometry {
        Geometry::Same => Convolution::same(),
        Geometry::Down => Convolution::halving(),
    }
}

fn transposed_scheme(s: &Shape) -> Convolution {
    match s.geometry {
        Geometry::Same => Convolution::same(),
        Geometry::Down => Convolution::doubling(),
    }
}

fn forward_order(s: &Shape) -> Order {
    Order { outputs: s.k, inputs: s.c, swapped: false, turned: false }
}

fn transposed_order(s: &Shape) -> Order {
    Order { outputs: s.c, inputs: s.k, swapped: true, turned: s.geometry == Geometry::Same }
}

fn gradient_order(s: &Shape) -> Order {
    match s.geometry {
        Geometry::Same => forward_order(s),
        Geometry::Down => transposed_order(s),
    }
}

/// As [`super::conv::forward`], whose checks it relies on.
pub(super) fn forward(
    isa: Isa,
    s: &Shape,
    x: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    forward_by(&forward_scheme(s), isa, s, x, w, finish)
}

fn forward_by(
    scheme: &Convolution,
    isa: Isa,
    s: &Shape,
    x: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    scheme.run(isa, tiles(s), x_planes(s, x), (w, forward_order(s)), (s.h, s.w), &finish)
}

/// As [`super::conv::transposed`]: at stride 1 the convolution with the kernel turned round.
pub(super) fn transposed(
    isa: Isa,
    s: &Shape,
    y: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    transposed_by(&transposed_scheme(s), isa, s, y, w, finish)
}

fn transposed_by(
    scheme: &Convolution,
    isa: Isa,
    s: &Shape,
    y: Operand<'_>,
    w: &[f32],
    finish: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<f32> {
    scheme.run(isa, tiles(s), y_planes(s, y), (w, transposed_order(s)), s.x_size(), &finish)
}

/// As [`super::conv::weight_gradient`].
pub(super) fn weight_gradient(isa: Isa, s: &Shape, x: Operand<'_>, y: Operand<'_>) -> Vec<f32> {
    gradient_by(&Gradient::new(s.geometry), isa, s, x, y)
}

fn gradient_by(scheme: &Gradient, isa: Isa, s: &Shape, x: Operand<'_>, y: Operand<'_>) -> Vec<f32> {
    let order = gradient_order(s);
    match s.geometry {
        Geometry::Same => scheme.run(isa, tiles(s), x_planes(s, x), y_planes(s, y), order),
        // The product is that of the transposed convolution, which takes y to x.
        Geometry::Down => scheme.run(isa, tiles(s), y_planes(s, y), x_planes(s, x), order),
    }
}

#[cfg(test)]
mod tests;

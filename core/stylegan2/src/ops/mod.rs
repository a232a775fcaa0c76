//! Differentiable building blocks of StyleGAN2.
//!
//! On the CPU in f32 each is a candle custom operation on our own kernels, whose backward pass is written in the same
//! operations, so that any order of derivatives is exact (R1 needs the second). On other devices and in other types
//! the value is composed of candle's own operations (`portable`), with the same backward pass (`graft`). Those run on
//! the CPU too, inside [`composed`], so that what a GPU executes is tested without one.
//!
//! candle follows a gradient through a backward pass only if the environment variable `CANDLE_GRAD_DO_NOT_DETACH` is
//! set before the thread's first backward pass, see [`crate::enable_second_order`]. Passes that need no second order
//! run inside [`first_order`], which cuts the graph of the gradients and so frees their memory early.

mod act;
mod constant;
mod conv;
mod fir;
mod graft;
mod halving;
mod portable;
mod precision;
mod scale;

pub use act::{Activation, bias_act};
pub use conv::{conv2d, conv2d_bias_act, conv2d_down, conv2d_up, modulated_conv2d};
pub use fir::{blur, downsample, upsample};
pub use halving::{
    conv2d_halve, conv2d_halve_bias_act, doubling_kernel, modulated_by_phases, modulated_conv2d_double,
};
pub use portable::{Gather, with_gather};
pub use precision::{Precision, with_precision};
pub use scale::scale_channels;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};
use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    static FIRST_ORDER: Cell<bool> = const { Cell::new(false) };
    static COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with a switch of this thread set.
fn within<R>(switch: &'static LocalKey<Cell<bool>>, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.with(|v| v.set(self.1));
        }
    }
    let _restore = Restore(switch, switch.with(|v| v.replace(true)));
    f()
}

/// Runs `f` with backward passes that are not themselves differentiable.
pub fn first_order<R>(f: impl FnOnce() -> R) -> R {
    within(&FIRST_ORDER, f)
}

/// Runs `f` with the operations that a GPU gets, on whatever device: slower on the CPU, and the way to test them there.
pub fn composed<R>(f: impl FnOnce() -> R) -> R {
    within(&COMPOSED, f)
}

/// True inside [`first_order`].
fn is_first_order() -> bool {
    FIRST_ORDER.with(Cell::get)
}

/// The tensor as a backward pass should see it.
pub(crate) fn seen(t: &Tensor) -> Tensor {
    if is_first_order() { t.detach() } else { t.clone() }
}

/// True where our own kernels serve: f32 on the CPU.
fn native(t: &Tensor) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32 && !COMPOSED.with(Cell::get)
}

fn values<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(v) = s else { bail!("expected f32, found {:?}", s.dtype()) };
    match l.contiguous_offsets() {
        Some((from, to)) => Ok(&v[from..to]),
        None => bail!("expected a contiguous tensor, found {l:?}"),
    }
}

//! Differentiable building blocks of StyleGAN2.
//!
//! On the CPU in f32 each is a candle custom operation on our own kernels, whose backward pass is written in the same
//! operations, so that any order of derivatives is exact (R1 needs the second). On other devices and in other types
//! each is composed of candle's own operations, which also serve as the oracle in the tests.
//!
//! candle follows a gradient through a backward pass only if the environment variable `CANDLE_GRAD_DO_NOT_DETACH` is
//! set before the thread's first backward pass, see [`crate::enable_second_order`]. Passes that need no second order
//! run inside [`first_order`], which cuts the graph of the gradients and so frees their memory early.

mod act;
mod conv;
mod fir;
mod scale;

pub use act::{Activation, bias_act};
pub use conv::{conv2d, conv2d_bias_act, conv2d_down, conv2d_up, modulated_conv2d};
pub use fir::{blur, downsample, upsample};
pub use scale::scale_channels;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Layout, Result, Tensor, bail};
use std::cell::Cell;

thread_local! {
    static FIRST_ORDER: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with backward passes that are not themselves differentiable.
pub fn first_order<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            FIRST_ORDER.with(|v| v.set(self.0));
        }
    }
    let _restore = Restore(FIRST_ORDER.with(|v| v.replace(true)));
    f()
}

/// True inside [`first_order`].
fn is_first_order() -> bool {
    FIRST_ORDER.with(Cell::get)
}

/// The tensor as a backward pass should see it.
fn seen(t: &Tensor) -> Tensor {
    if is_first_order() { t.detach() } else { t.clone() }
}

/// True where our own kernels serve: f32 on the CPU.
fn native(t: &Tensor) -> bool {
    t.device().is_cpu() && t.dtype() == DType::F32
}

fn values<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(v) = s else { bail!("expected f32, found {:?}", s.dtype()) };
    match l.contiguous_offsets() {
        Some((from, to)) => Ok(&v[from..to]),
        None => bail!("expected a contiguous tensor, found {l:?}"),
    }
}

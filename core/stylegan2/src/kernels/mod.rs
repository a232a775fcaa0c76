//! CPU kernels: plain slices in, plain slices out. The only `unsafe` of this crate lives here.
//!
//! Two families. [`gemm`] and [`conv`] serve training: plain row-major arrays, weights that change at every step, and
//! gradients; where asked to, `conv` hands over to `train`, whose convolutions are as fast as those of synthesis. The
//! others serve synthesis with fixed weights (see [`crate::synth`]): `axis` has the fast convolutions of one axis,
//! `tiles` makes planes of them, `panels` multiplies (both serve `train` too), `fast` puts the three together, `image`
//! makes pictures of maps, `team` runs loops on threads.

pub(crate) mod aligned;
mod axis;
pub mod conv;
pub(crate) mod fast;
pub mod gemm;
pub(crate) mod image;
pub(crate) mod memory;
pub(crate) mod panels;
pub mod peak;
mod simd;
pub(crate) mod team;
pub(crate) mod tiles;
mod train;

pub use gemm::Isa;

/// Sets an environment variable of this process.
pub(crate) fn set_environment(name: &str, value: &str) {
    // SAFETY: documented to run before other threads start, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

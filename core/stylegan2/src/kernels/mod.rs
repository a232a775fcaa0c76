//! CPU kernels: plain slices in, plain slices out. The only `unsafe` of this crate lives here.

pub mod conv;
pub mod gemm;
pub mod peak;
mod simd;

pub use gemm::Isa;

/// Sets an environment variable of this process.
pub(crate) fn set_environment(name: &str, value: &str) {
    // SAFETY: documented to run before other threads start, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

//! The traits of `shiftlens-api` across the C ABI, in both directions.
//!
//! Host and plugin serve one another: a plugin answers a host that calls its components, and the host answers an
//! explainer that calls f, G and E. Both directions use the same interfaces, so both sides use the same two halves:
//!
//! * [`serve`]: tables of C functions over Rust components; panics are caught, errors copied out.
//! * [`proxy`]: Rust components over tables of C functions; everything that comes back is checked.
//!
//! [`answer`] and [`call`] are the primitives below them.

pub mod answer;
pub mod call;
pub mod proxy;
pub mod serve;

//! StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) generator, discriminator and encoder: networks, training, files.

pub mod file;
pub mod import;
pub mod kernels;
mod model;
pub mod net;
pub mod ops;
pub mod perceptual;
pub mod prior;
mod projection;
pub mod rng;
pub mod sefa;
pub mod synth;
pub mod train;
pub mod weights;

pub use kernels::memory::keep_memory;
pub use model::{GeneratorOptions, NoiseMode, StyleGan2Encoder, StyleGan2Generator, open_device};
pub use ops::Precision;
pub use projection::{
    NoiseInputs, Projection, ProjectionEncoder, ProjectionParams, ProjectionReport, autocorrelation,
};

/// Makes candle follow gradients through backward passes (see [`ops`]). Call it first thing in `main`, before other
/// threads start: candle reads the setting once per thread.
pub fn enable_second_order() {
    kernels::set_environment("CANDLE_GRAD_DO_NOT_DETACH", "1");
}

//! The networks. Tensor names are those of the reference implementation's state dicts.

mod config;
mod discriminator;
mod encoder;
mod generator;
mod layers;
mod mapping;

pub use config::{Architecture, DiscriminatorConfig, EncoderConfig, GeneratorConfig, Space, SynthesisInput};
pub use discriminator::{Discriminator, minibatch_std};
pub use encoder::EncoderNet;
pub use generator::{GeneratorNet, Layer, Noise, Stage};
pub use mapping::{normalize_second_moment, one_hot};

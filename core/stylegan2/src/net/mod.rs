//! The networks. Tensor names are those of the reference implementation's state dicts.

mod config;
mod discriminator;
mod encoder;
mod generator;
mod layers;

pub use config::{Architecture, DiscriminatorConfig, EncoderConfig, GeneratorConfig};
pub use discriminator::Discriminator;
pub use encoder::EncoderNet;
pub use generator::{GeneratorNet, Noise};

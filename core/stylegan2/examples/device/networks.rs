//! Networks with random weights, equal on every device.

use candle_core::{Device, Result, Tensor};
use shiftlens_stylegan2::net::{
    Architecture, Discriminator, DiscriminatorConfig, EncoderConfig, EncoderNet, GeneratorConfig,
    GeneratorNet, Space, SynthesisInput,
};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::weights::Weights;
use std::collections::HashMap;

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// Sizes of a generator; those of its discriminator follow.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub resolution: usize,
    pub channels: usize,
    pub base: usize,
    pub max: usize,
    pub dim: usize,
    pub mapping: usize,
}

impl Sizes {
    pub fn generator(&self) -> GeneratorConfig {
        GeneratorConfig {
            resolution: self.resolution,
            channels: self.channels,
            z_dim: self.dim,
            w_dim: self.dim,
            mapping_layers: self.mapping,
            channel_base: self.base,
            channel_max: self.max,
            conv_clamp: None,
            architecture: Architecture::Skip,
            input: SynthesisInput::Constant,
            label_dim: 0,
        }
    }
    pub fn discriminator(&self) -> DiscriminatorConfig {
        DiscriminatorConfig {
            resolution: self.resolution,
            channels: self.channels,
            channel_base: self.base,
            channel_max: self.max,
            mbstd_group: 4,
            mbstd_channels: 1,
            conv_clamp: None,
            architecture: Architecture::Resnet,
            label_dim: 0,
            cmap_dim: None,
            mapping_layers: 8,
        }
    }
    pub fn encoder(&self) -> EncoderConfig {
        EncoderConfig {
            resolution: self.resolution,
            channels: self.channels,
            w_dim: self.dim,
            channel_base: self.base,
            channel_max: self.max,
            space: Space::WPlus,
            blocks: 1,
            context: true,
            head: None,
        }
    }
}

/// Standard normal numbers of `shape` on the CPU.
pub fn normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    Rng::new(seed, 0).tensor(shape, &Device::Cpu)
}

fn stored(weights: &Weights, seed: u64) -> Result<Tensors> {
    let mut all = Tensors::new();
    for (name, t) in weights.tensors() {
        // What starts at 0 would hide an error: noise and biases matter here.
        let t = if name.ends_with("noise_strength") || name.ends_with(".bias") {
            let seed = name.bytes().fold(seed, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
            (t.detach() + (normal(t.dims(), seed)? * 0.1)?)?
        } else {
            t.detach()
        };
        all.insert(name, t);
    }
    Ok(all)
}

pub fn generator(sizes: &Sizes, seed: u64) -> Result<Tensors> {
    let weights = Weights::random(seed, &Device::Cpu);
    GeneratorNet::new(&sizes.generator(), &weights)?;
    stored(&weights, seed)
}

pub fn discriminator(sizes: &Sizes, seed: u64) -> Result<Tensors> {
    let weights = Weights::random(seed, &Device::Cpu);
    Discriminator::new(&sizes.discriminator(), &weights)?;
    stored(&weights, seed)
}

pub fn encoder(sizes: &Sizes, seed: u64) -> Result<Tensors> {
    let weights = Weights::random(seed, &Device::Cpu);
    EncoderNet::new(&sizes.encoder(), &weights)?;
    stored(&weights, seed)
}

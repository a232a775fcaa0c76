//! The discriminator (Karras et al. 2020, section 4.1 and appendix B) with minibatch standard deviation, and for
//! classes the projection of Miyato and Koyama 2018 (arXiv 1802.05637).

use super::layers::{Conv, Linear, Resize};
use super::mapping::Mapping;
use super::{Architecture, DiscriminatorConfig};
use crate::ops::{Activation, downsample};
use crate::weights::Weights;
use candle_core::{Result, Tensor};
use std::f32::consts::FRAC_1_SQRT_2;

/// A block: features and, where it reads one, the image, to features of half the resolution.
pub(super) struct Block {
    resolution: usize,
    from_image: Option<Conv>,
    conv0: Conv,
    conv1: Conv,
    /// Leads past both convolutions, in residual networks.
    past: Option<Conv>,
}

fn from_image(
    config: &DiscriminatorConfig,
    w: &Weights,
    resolution: usize,
    clamp: Option<f32>,
) -> Result<Conv> {
    let act = Activation::leaky(1.0).clamped(clamp);
    let sizes = (config.channels, config.width(resolution), 1);
    Conv::new(&w.at("fromrgb"), sizes, true, Resize::Keep, act)
}

impl Block {
    pub(super) fn new(config: &DiscriminatorConfig, w: &Weights, r: usize) -> Result<Self> {
        let (inputs, outputs, clamp) = (config.width(r), config.width(r / 2), config.conv_clamp);
        let residual = config.architecture == Architecture::Resnet;
        let first = Activation::leaky(1.0).clamped(clamp);
        // Both summands of a residual block have half the variance, so that the sum has that of its input; the second
        // layer's clamp shrinks with its gain.
        let second = if residual {
            Activation::leaky(FRAC_1_SQRT_2).clamped(clamp.map(|c| c * FRAC_1_SQRT_2))
        } else {
            first
        };
        let reads = r == config.resolution || config.architecture == Architecture::Skip;
        let linear = Activation { gain: FRAC_1_SQRT_2, ..Activation::linear() };
        Ok(Self {
            resolution: r,
            from_image: reads.then(|| from_image(config, w, r, clamp)).transpose()?,
            conv0: Conv::new(&w.at("conv0"), (inputs, inputs, 3), true, Resize::Keep, first)?,
            conv1: Conv::new(&w.at("conv1"), (inputs, outputs, 3), true, Resize::Halve, second)?,
            past: residual
                .then(|| Conv::new(&w.at("skip"), (inputs, outputs, 1), false, Resize::Halve, linear))
                .transpose()?,
        })
    }

    pub(super) fn forward(&self, x: Option<Tensor>, image: &Tensor) -> Result<Tensor> {
        let read = self.from_image.as_ref().map(|c| c.forward(image)).transpose()?;
        let x = match (x, read) {
            (Some(x), Some(read)) => (x + read)?,
            (Some(x), None) | (None, Some(x)) => x,
            (None, None) => candle_core::bail!("a discriminator whose first block reads no image"),
        };
        let y = self.conv1.forward(&self.conv0.forward(&x)?)?;
        match &self.past {
            Some(past) => past.forward(&x)? + y,
            None => Ok(y),
        }
    }
}

/// All before the comparison with a class: image to `[N, outputs]`.
struct Trunk {
    config: DiscriminatorConfig,
    blocks: Vec<Block>,
    /// At 4x4, with input skips.
    from_image: Option<Conv>,
    conv: Conv,
    fc: Linear,
    out: Linear,
}

impl Trunk {
    fn new(config: &DiscriminatorConfig, outputs: usize, weights: &Weights) -> Result<Self> {
        config.check()?;
        let clamp = config.conv_clamp;
        let leaky = Activation::leaky(1.0).clamped(clamp);
        let last = config.width(4);
        let blocks = config
            .resolutions()
            .into_iter()
            .map(|r| Block::new(config, &weights.at(format!("b{r}")), r))
            .collect::<Result<_>>()?;
        let b4 = weights.at("b4");
        let inputs = last + config.mbstd_channels;
        let reads = config.architecture == Architecture::Skip;
        Ok(Self {
            config: config.clone(),
            blocks,
            // The reference clamps this one nowhere: the last block runs in full precision.
            from_image: reads.then(|| from_image(config, &b4, 4, None)).transpose()?,
            conv: Conv::new(&b4.at("conv"), (inputs, last, 3), true, Resize::Keep, leaky)?,
            fc: Linear::new(&b4.at("fc"), (last * 16, last), 1.0, 0.0, Activation::leaky(1.0))?,
            out: Linear::new(&b4.at("out"), (last, outputs), 1.0, 0.0, Activation::linear())?,
        })
    }

    fn forward(&self, images: &Tensor, mut see: impl FnMut(&str, &Tensor)) -> Result<Tensor> {
        let (mut x, image) = self.blocks(images, &mut see)?;
        if let Some(read) = &self.from_image {
            x = (x + read.forward(&image)?)?;
        }
        if self.config.mbstd_channels > 0 {
            x = minibatch_std(&x, self.config.mbstd_group, self.config.mbstd_channels)?;
            see("b4.mbstd", &x);
        }
        let x = self.conv.forward(&x)?.flatten_from(1)?;
        self.out.forward(&self.fc.forward(&x)?)
    }
}

impl Trunk {
    /// The last block's features, and the image as the layer at 4x4 reads it.
    fn blocks(&self, images: &Tensor, see: &mut dyn FnMut(&str, &Tensor)) -> Result<(Tensor, Tensor)> {
        let (c, r) = (self.config.channels, self.config.resolution);
        if images.dims().get(1..) != Some(&[c, r, r]) {
            candle_core::bail!("images {:?}: expected [N, {c}, {r}, {r}]", images.dims());
        }
        let mut image = images.clone();
        let mut x = None;
        for block in &self.blocks {
            let y = block.forward(x.take(), &image)?;
            see(&format!("b{}.x", block.resolution), &y);
            x = Some(y);
            if self.from_image.is_some() {
                image = downsample(&image)?;
            }
        }
        match x {
            Some(x) => Ok((x, image)),
            None => candle_core::bail!("a discriminator without blocks"),
        }
    }
}

/// Appends `channels` maps to x `[N, C, H, W]` that hold, per group of images, the mean standard deviation of the
/// features within the group (Karras et al. 2018, section 3). A batch of N is read as `[G, N/G]`: groups are strided.
/// A `group` beyond the batch is the batch.
///
/// # Errors
/// If N does not divide into groups, or C into `channels`.
pub fn minibatch_std(x: &Tensor, group: usize, channels: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let group = group.min(n);
    if group == 0 || n % group != 0 {
        candle_core::bail!("minibatch standard deviation: {n} images do not divide into groups of {group}");
    }
    if channels == 0 || c % channels != 0 {
        candle_core::bail!("minibatch standard deviation: {c} feature maps do not divide into {channels}");
    }
    let y = x.reshape((group, n / group * c * h * w))?;
    let y = y.broadcast_sub(&y.mean_keepdim(0)?)?;
    let y = (y.sqr()?.mean(0)? + 1e-8)?.sqrt()?;
    let y = y.reshape((n / group, channels, c / channels * h * w))?.mean(2)?;
    let y = y.reshape((1, n / group, channels, 1, 1))?.broadcast_as((group, n / group, channels, h, w))?;
    Tensor::cat(&[x, &y.contiguous()?.reshape((n, channels, h, w))?], 1)
}

/// D: images `[N, C, R, R]` in network range to logits `[N, 1]`.
pub struct Discriminator {
    trunk: Trunk,
    /// Maps classes to the space of the trunk's answer.
    mapping: Option<Mapping>,
}

impl Discriminator {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &DiscriminatorConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let dim = config.comparison_dim();
        let trunk = Trunk::new(config, dim.max(1), weights)?;
        let mapping = match config.label_dim {
            0 => None,
            n => Some(Mapping::new(&weights.at("mapping"), (0, n, dim), config.mapping_layers)?),
        };
        Ok(Self { trunk, mapping })
    }
    /// Logits of an unconditional network: positive for real.
    ///
    /// # Errors
    /// If the shape does not fit, or the network is class-conditional.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.run(images, None, |_, _| ())
    }
    /// Logits of images for labels `[N, label_dim]` (see [`super::one_hot`]): `<x, m> / sqrt(M)`, where x is the
    /// trunk's answer and m the mapped label, both of size M; `None` for an unconditional network.
    ///
    /// # Errors
    /// If a shape does not fit, labels are missing, or labels are given to an unconditional network.
    pub fn forward_labelled(&self, images: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        self.run(images, labels, |_, _| ())
    }
    /// As [`Self::forward`], showing features by name.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn trace(&self, images: &Tensor, see: impl FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.run(images, None, see)
    }

    /// Features `[N, K, r, r]` after every block, from the largest resolution down: of each image by itself, before
    /// minibatch statistics.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn blocks(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut features = Vec::new();
        self.trunk.blocks(images, &mut |_, t| features.push(t.clone()))?;
        Ok(features)
    }

    fn run(
        &self,
        images: &Tensor,
        labels: Option<&Tensor>,
        see: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let map = match (&self.mapping, labels) {
            (Some(mapping), labels) => Some(mapping.forward(None, labels)?),
            (None, Some(_)) => {
                candle_core::bail!("labels were given to a discriminator that knows no classes")
            }
            (None, None) => None,
        };
        let x = self.trunk.forward(images, see)?;
        match map {
            None => Ok(x),
            Some(m) if m.dims() == x.dims() => (&x * &m)?.sum_keepdim(1)? / (m.dim(1)? as f64).sqrt(),
            Some(m) => candle_core::bail!("{} images and {} labels", x.dim(0)?, m.dim(0)?),
        }
    }
}

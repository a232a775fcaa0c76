//! The residual discriminator (Karras et al. 2020, appendix B) with minibatch standard deviation.

use super::layers::{Conv, Linear, ResidualBlock, Resize};
use super::{Architecture, DiscriminatorConfig};
use crate::ops::Activation;
use crate::weights::Weights;
use candle_core::{Result, Tensor};

/// The trunk that the discriminator and the encoder share: image to `[N, outputs]`.
pub struct Trunk {
    config: DiscriminatorConfig,
    from_image: Conv,
    blocks: Vec<(usize, ResidualBlock)>,
    conv: Conv,
    fc: Linear,
    out: Linear,
}

impl Trunk {
    pub fn new(config: &DiscriminatorConfig, outputs: usize, weights: &Weights) -> Result<Self> {
        config.check()?;
        if config.architecture != Architecture::Resnet || config.label_dim > 0 {
            candle_core::bail!("only unconditional networks of architecture resnet are implemented");
        }
        let clamp = config.conv_clamp;
        let leaky = Activation::leaky(1.0).clamped(clamp);
        let (top, last) = (config.resolution, config.width(4));
        let from_image = Conv::new(
            &weights.at(format!("b{top}")).at("fromrgb"),
            (config.channels, config.width(top), 1),
            true,
            Resize::Keep,
            leaky,
        )?;
        let blocks = config
            .resolutions()
            .into_iter()
            .map(|r| {
                let w = weights.at(format!("b{r}"));
                Ok((r, ResidualBlock::new(&w, config.width(r), config.width(r / 2), clamp)?))
            })
            .collect::<Result<_>>()?;
        let b4 = weights.at("b4");
        let inputs = last + config.mbstd_channels;
        Ok(Self {
            config: config.clone(),
            from_image,
            blocks,
            conv: Conv::new(&b4.at("conv"), (inputs, last, 3), true, Resize::Keep, leaky)?,
            fc: Linear::new(&b4.at("fc"), (last * 16, last), 1.0, 0.0, Activation::leaky(1.0))?,
            out: Linear::new(&b4.at("out"), (last, outputs), 1.0, 0.0, Activation::linear())?,
        })
    }

    pub fn forward(&self, images: &Tensor, mut see: impl FnMut(&str, &Tensor)) -> Result<Tensor> {
        let mut x = self.from_image.forward(images)?;
        for (r, block) in &self.blocks {
            x = block.forward(&x)?;
            see(&format!("b{r}.x"), &x);
        }
        if self.config.mbstd_channels > 0 {
            x = minibatch_std(&x, self.config.mbstd_group, self.config.mbstd_channels)?;
            see("b4.mbstd", &x);
        }
        let x = self.conv.forward(&x)?.flatten_from(1)?;
        self.out.forward(&self.fc.forward(&x)?)
    }
}

/// Appends `channels` maps that hold, per group of images, the mean standard deviation of the features within the
/// group (Karras et al. 2018, section 3). A batch of N is read as `[G, N/G]`: groups are strided.
fn minibatch_std(x: &Tensor, group: usize, channels: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let group = group.min(n);
    if group == 0 || n % group != 0 || c % channels != 0 {
        candle_core::bail!("minibatch standard deviation: {n} images do not divide into groups of {group}");
    }
    let y = x.reshape((group, n / group * c * h * w))?;
    let y = y.broadcast_sub(&y.mean_keepdim(0)?)?;
    let y = (y.sqr()?.mean(0)? + 1e-8)?.sqrt()?;
    let y = y.reshape((n / group, channels, c / channels * h * w))?.mean(2)?;
    let y = y.reshape((1, n / group, channels, 1, 1))?.broadcast_as((group, n / group, channels, h, w))?;
    Tensor::cat(&[x, &y.contiguous()?.reshape((n, channels, h, w))?], 1)
}

/// D: images `[N, C, R, R]` in network range to logits `[N, 1]`.
pub struct Discriminator(Trunk);

impl Discriminator {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &DiscriminatorConfig, weights: &Weights) -> Result<Self> {
        Trunk::new(config, 1, weights).map(Self)
    }
    /// Logits: positive for real.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.0.forward(images, |_, _| ())
    }
    /// As [`Self::forward`], showing features by name.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn trace(&self, images: &Tensor, see: impl FnMut(&str, &Tensor)) -> Result<Tensor> {
        self.0.forward(images, see)
    }
}

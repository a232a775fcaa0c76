//! The generator: mapping network and synthesis network (Karras et al. 2020, sections 2 and 4.1).

use super::layers::{Conv, LayerNoise, Linear, Resize, StyledConv, ToImage};
use super::mapping::Mapping;
use super::{GeneratorConfig, SynthesisInput};
use crate::ops::{Activation, upsample};
use crate::rng::Rng;
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};
use std::f32::consts::FRAC_1_SQRT_2;

/// Noise inputs of the synthesis network.
pub enum Noise<'a> {
    /// None.
    Zero,
    /// The pictures stored with the network: deterministic images.
    Constant,
    /// Fresh for every image, for training.
    Random(&'a mut Rng),
    /// A part of the noise of a batch of so many images: drawn for all, then picked from `[N, 1, H, W]`.
    Picked(&'a mut Rng, usize, &'a dyn Fn(&Tensor) -> Result<Tensor>),
    /// A map `[N, 1, r, r]` for each styled layer, from the lowest resolution on.
    Given(&'a [Tensor]),
}

/// A styled layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The doubling convolution; the block of 4x4 has none.
    Conv0,
    /// The other convolution.
    Conv1,
    /// The 1x1 convolution to image channels.
    ToImage,
}

impl Layer {
    /// As in the names of tensors: `conv0`, `conv1`, `torgb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv0 => "conv0",
            Self::Conv1 => "conv1",
            Self::ToImage => "torgb",
        }
    }
}

/// What [`GeneratorNet::trace_layers`] shows of a block, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A layer's style `[N, C]`, `affine(w)`.
    Style(Layer),
    /// A layer's output `[N, K, H, W]`, activated.
    Output(Layer),
    /// The block's features `[N, K, H, W]`.
    Features,
    /// The image so far `[N, C, H, W]`, of blocks that make one.
    Image,
}

struct Block {
    resolution: usize,
    conv0: Option<StyledConv>,
    conv1: StyledConv,
    /// Leads past both convolutions, in residual networks.
    past: Option<Conv>,
    to_image: Option<ToImage>,
}

impl Block {
    fn new(config: &GeneratorConfig, w: &Weights, r: usize) -> Result<Self> {
        let (before, after, clamp) = (config.width(r / 2), config.width(r), config.conv_clamp);
        let act = Activation::leaky(1.0).clamped(clamp);
        let residual = config.has_residual(r);
        // Both summands of a residual block have half the variance, so that the sum has that of its input; the second
        // layer's clamp shrinks with its gain.
        let second = if residual {
            Activation::leaky(FRAC_1_SQRT_2).clamped(clamp.map(|c| c * FRAC_1_SQRT_2))
        } else {
            act
        };
        let conv0 = match r {
            4 => None,
            _ => Some(StyledConv::new(&w.at("conv0"), (before, after), config.w_dim, r, true, act)?),
        };
        let conv1 = StyledConv::new(&w.at("conv1"), (after, after), config.w_dim, r, false, second)?;
        let to_image = if config.has_to_image(r) {
            Some(ToImage::new(&w.at("torgb"), (after, config.channels), config.w_dim, clamp)?)
        } else {
            None
        };
        let past = if residual {
            let linear = Activation { gain: FRAC_1_SQRT_2, ..Activation::linear() };
            Some(Conv::new(&w.at("skip"), (before, after, 1), false, Resize::Double, linear)?)
        } else {
            None
        };
        Ok(Self { resolution: r, conv0, conv1, past, to_image })
    }
}

/// G.
pub struct GeneratorNet {
    config: GeneratorConfig,
    mapping: Mapping,
    w_avg: Tensor,
    constant: Tensor,
    /// What the code adds to the constant.
    input: Option<Linear>,
    blocks: Vec<Block>,
}

impl GeneratorNet {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &GeneratorConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let sizes = (config.z_dim, config.label_dim, config.w_dim);
        let mapping_weights = weights.at("mapping");
        let mapping = Mapping::new(&mapping_weights, sizes, config.mapping_layers)?;
        let w_avg = mapping_weights.get("w_avg", &[config.w_dim], Init::Constant(0.0), Role::Buffer)?;
        let synthesis = weights.at("synthesis");
        let width = config.width(4);
        let constant = synthesis.at("b4").get("const", &[width, 4, 4], Init::Normal(1.0), Role::Parameter)?;
        let input = match config.input {
            SynthesisInput::Constant => None,
            SynthesisInput::Latent => {
                Some(Linear::zero(&synthesis.at("b4").at("input"), (config.w_dim, width * 16))?)
            }
        };
        let blocks = config
            .resolutions()
            .into_iter()
            .map(|r| Block::new(config, &synthesis.at(format!("b{r}")), r))
            .collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), mapping, w_avg, constant, input, blocks })
    }

    /// Computes once what follows from the weights alone. For a network on a GPU whose weights nobody changes any more:
    /// a change would not be seen. On the CPU our kernels want the weights as they are.
    ///
    /// # Errors
    /// If candle fails.
    pub fn prepare(&mut self) -> Result<()> {
        let layers = self.blocks.iter_mut().flat_map(|b| b.conv0.iter_mut().chain([&mut b.conv1]));
        layers.into_iter().try_for_each(StyledConv::prepare)
    }

    /// Sizes.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// The running mean of w, `[D]`, one for all classes.
    pub fn w_avg(&self) -> &Tensor {
        &self.w_avg
    }

    /// z `[N, Z]` to w `[N, D]`, untruncated, of an unconditional network.
    ///
    /// # Errors
    /// If the shape does not fit, or the network is class-conditional.
    pub fn map(&self, z: &Tensor) -> Result<Tensor> {
        self.mapping.forward(Some(z), None)
    }

    /// z `[N, Z]` and labels `[N, C]` (see [`super::one_hot`]) to w `[N, D]`, untruncated; `None` for an
    /// unconditional network.
    ///
    /// # Errors
    /// If a shape does not fit, labels are missing, or labels are given to an unconditional network.
    pub fn map_labelled(&self, z: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        self.mapping.forward(Some(z), labels)
    }

    /// The truncation trick: `w_avg + psi (w - w_avg)`, w `[N, D]` or `[N, L, D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn truncate(&self, w: &Tensor, psi: f64) -> Result<Tensor> {
        if psi == 1.0 {
            return Ok(w.clone());
        }
        (w.broadcast_sub(&self.w_avg)? * psi)?.broadcast_add(&self.w_avg)
    }

    /// The truncation trick for the first `cutoff` rows of ws `[N, L, D]`, those of the lowest resolutions; the others
    /// stay as they are.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn truncate_first(&self, ws: &Tensor, psi: f64, cutoff: usize) -> Result<Tensor> {
        let (_, layers, _) = ws.dims3()?;
        let cutoff = cutoff.min(layers);
        if cutoff == 0 {
            return Ok(ws.clone());
        }
        let first = self.truncate(&ws.narrow(1, 0, cutoff)?, psi)?;
        Tensor::cat(&[first, ws.narrow(1, cutoff, layers - cutoff)?], 1)
    }

    /// `[N, D]` to `[N, L, D]` by repetition.
    ///
    /// # Errors
    /// If candle fails.
    pub fn broadcast(&self, w: &Tensor) -> Result<Tensor> {
        let (n, d) = w.dims2()?;
        w.reshape((n, 1, d))?.broadcast_as((n, self.config.num_ws(), d))
    }

    /// ws `[N, L, D]` to images `[N, C, R, R]` in network range, about [-1, 1].
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn synthesize(&self, ws: &Tensor, noise: Noise<'_>) -> Result<Tensor> {
        Ok(self.run(ws, noise, &mut |_, _, _| ())?.1)
    }

    /// As [`Self::synthesize`], showing `(resolution, features, image)` after each block that makes an image; returns
    /// the last ones.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn trace(
        &self,
        ws: &Tensor,
        noise: Noise<'_>,
        mut see: impl FnMut(usize, &Tensor, &Tensor),
    ) -> Result<(Tensor, Tensor)> {
        let mut features = self.constant.clone();
        self.run(ws, noise, &mut |r, stage, t| match stage {
            Stage::Features => features = t.clone(),
            Stage::Image => see(r, &features, t),
            Stage::Style(_) | Stage::Output(_) => {}
        })
    }

    /// As [`Self::synthesize`], showing `(resolution, what, values)` of every layer.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn trace_layers(
        &self,
        ws: &Tensor,
        noise: Noise<'_>,
        mut see: impl FnMut(usize, Stage, &Tensor),
    ) -> Result<Tensor> {
        Ok(self.run(ws, noise, &mut see)?.1)
    }

    fn run(
        &self,
        ws: &Tensor,
        mut noise: Noise<'_>,
        see: &mut dyn FnMut(usize, Stage, &Tensor),
    ) -> Result<(Tensor, Tensor)> {
        let (n, layers, d) = ws.dims3()?;
        if (layers, d) != (self.config.num_ws(), self.config.w_dim) {
            let (l, d) = (self.config.num_ws(), self.config.w_dim);
            candle_core::bail!("codes {:?}: expected [N, {l}, {d}]", ws.dims());
        }
        let row = |i: usize| ws.narrow(1, i, 1)?.squeeze(1)?.contiguous();
        let (c, h, w) = self.constant.dims3()?;
        let mut x = self.constant.broadcast_as((n, c, h, w))?.contiguous()?;
        if let Some(input) = &self.input {
            x = (x + input.forward(&row(0)?)?.reshape((n, c, h, w))?)?;
        }
        let mut image: Option<Tensor> = None;
        let mut given = 0;
        let mut styled = |layer: &StyledConv, x: &Tensor, style: &Tensor, r: usize| match &mut noise {
            Noise::Zero => layer.forward(x, style, &LayerNoise::Zero),
            Noise::Constant => layer.forward(x, style, &LayerNoise::Constant),
            Noise::Random(rng) => {
                let e = rng.tensor(&[n, 1, r, r], x.device())?;
                layer.forward(x, style, &LayerNoise::Given(&e))
            }
            Noise::Picked(rng, all, pick) => {
                let e = pick(&rng.tensor(&[*all, 1, r, r], x.device())?)?;
                layer.forward(x, style, &LayerNoise::Given(&e))
            }
            Noise::Given(maps) => {
                let Some(e) = maps.get(given) else {
                    candle_core::bail!("{} noise maps: expected one for each styled layer", maps.len())
                };
                given += 1;
                layer.forward(x, style, &LayerNoise::Given(e))
            }
        };
        let mut at = 0;
        for block in &self.blocks {
            let r = block.resolution;
            let before = block.past.as_ref().map(|past| past.forward(&x)).transpose()?;
            if let Some(conv0) = &block.conv0 {
                let style = conv0.style(&row(at)?)?;
                see(r, Stage::Style(Layer::Conv0), &style);
                x = styled(conv0, &x, &style, r)?;
                see(r, Stage::Output(Layer::Conv0), &x);
                at += 1;
            }
            let style = block.conv1.style(&row(at)?)?;
            see(r, Stage::Style(Layer::Conv1), &style);
            x = styled(&block.conv1, &x, &style, r)?;
            see(r, Stage::Output(Layer::Conv1), &x);
            at += 1;
            if let Some(before) = before {
                x = (before + x)?;
            }
            see(r, Stage::Features, &x);
            if let Some(to_image) = &block.to_image {
                // The row is the next block's first too: an image counts for no row of its own but the last.
                let style = to_image.style(&row(at)?)?;
                see(r, Stage::Style(Layer::ToImage), &style);
                let rgb = to_image.forward(&x, &style)?;
                see(r, Stage::Output(Layer::ToImage), &rgb);
                let whole = match image {
                    Some(before) => (upsample(&before)? + rgb)?,
                    None => rgb,
                };
                see(r, Stage::Image, &whole);
                image = Some(whole);
            }
        }
        let Some(image) = image else {
            candle_core::bail!("a generator without a layer that makes an image")
        };
        Ok((x, image))
    }
}

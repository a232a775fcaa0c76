//! The generator: mapping network and synthesis network with skip connections (Karras et al. 2020).

use super::GeneratorConfig;
use super::layers::{LayerNoise, Linear, StyledConv, ToImage};
use crate::ops::{Activation, upsample};
use crate::rng::Rng;
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};

/// Noise inputs of the synthesis network.
pub enum Noise<'a> {
    /// None.
    Zero,
    /// The pictures stored with the network: deterministic images.
    Constant,
    /// Fresh for every image, for training.
    Random(&'a mut Rng),
}

struct Block {
    resolution: usize,
    conv0: Option<StyledConv>,
    conv1: StyledConv,
    to_image: ToImage,
}

/// G.
pub struct GeneratorNet {
    config: GeneratorConfig,
    mapping: Vec<Linear>,
    w_avg: Tensor,
    constant: Tensor,
    blocks: Vec<Block>,
}

impl GeneratorNet {
    /// Builds the network on `weights`.
    ///
    /// # Errors
    /// If the sizes make no network, or a tensor is missing or of another shape.
    pub fn new(config: &GeneratorConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let mapping_weights = weights.at("mapping");
        let mapping = (0..config.mapping_layers)
            .map(|i| {
                let inputs = if i == 0 { config.z_dim } else { config.w_dim };
                let w = mapping_weights.at(format!("fc{i}"));
                Linear::new(&w, (inputs, config.w_dim), 0.01, 0.0, Activation::leaky(1.0))
            })
            .collect::<Result<_>>()?;
        let w_avg = mapping_weights.get("w_avg", &[config.w_dim], Init::Constant(0.0), Role::Buffer)?;
        let synthesis = weights.at("synthesis");
        let width = config.width(4);
        let constant = synthesis.at("b4").get("const", &[width, 4, 4], Init::Normal(1.0), Role::Parameter)?;
        let blocks = config
            .resolutions()
            .into_iter()
            .map(|r| {
                let w = synthesis.at(format!("b{r}"));
                let (before, after, clamp) = (config.width(r / 2), config.width(r), config.conv_clamp);
                Ok(Block {
                    resolution: r,
                    conv0: match r {
                        4 => None,
                        _ => Some(StyledConv::new(
                            &w.at("conv0"),
                            (before, after),
                            config.w_dim,
                            r,
                            true,
                            clamp,
                        )?),
                    },
                    conv1: StyledConv::new(&w.at("conv1"), (after, after), config.w_dim, r, false, clamp)?,
                    to_image: ToImage::new(&w.at("torgb"), (after, config.channels), config.w_dim, clamp)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), mapping, w_avg, constant, blocks })
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

    /// The running mean of w, `[D]`.
    pub fn w_avg(&self) -> &Tensor {
        &self.w_avg
    }

    /// z `[N, Z]` to w `[N, D]`, untruncated.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn map(&self, z: &Tensor) -> Result<Tensor> {
        // z / sqrt(mean(z^2) + 1e-8)
        let scale = (z.sqr()?.mean_keepdim(1)? + 1e-8)?.sqrt()?.recip()?;
        self.mapping.iter().try_fold(z.broadcast_mul(&scale)?, |x, layer| layer.forward(&x))
    }

    /// The truncation trick: `w_avg + psi (w - w_avg)`, w `[N, D]`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn truncate(&self, w: &Tensor, psi: f64) -> Result<Tensor> {
        if psi == 1.0 {
            return Ok(w.clone());
        }
        (w.broadcast_sub(&self.w_avg)? * psi)?.broadcast_add(&self.w_avg)
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
        Ok(self.trace(ws, noise, |_, _, _| ())?.1)
    }

    /// As [`Self::synthesize`], showing `(resolution, features, image)` after each block; returns the last ones.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn trace(
        &self,
        ws: &Tensor,
        mut noise: Noise<'_>,
        mut see: impl FnMut(usize, &Tensor, &Tensor),
    ) -> Result<(Tensor, Tensor)> {
        let (n, layers, _) = ws.dims3()?;
        if layers != self.config.num_ws() {
            candle_core::bail!("codes {:?}: expected [N, {}, D]", ws.dims(), self.config.num_ws());
        }
        let mut style = (0..layers).map(|i| ws.narrow(1, i, 1)?.squeeze(1)?.contiguous());
        let mut next = || style.next().expect("two styles per resolution");
        let (c, h, w) = self.constant.dims3()?;
        let mut x = self.constant.broadcast_as((n, c, h, w))?.contiguous()?;
        let mut image: Option<Tensor> = None;
        let mut styled = |layer: &StyledConv, x: &Tensor, w: &Tensor, r: usize| match &mut noise {
            Noise::Zero => layer.forward(x, w, &LayerNoise::Zero),
            Noise::Constant => layer.forward(x, w, &LayerNoise::Constant),
            Noise::Random(rng) => {
                let e = rng.tensor(&[n, 1, r, r], x.device())?;
                layer.forward(x, w, &LayerNoise::Given(&e))
            }
        };
        // toRGB shares its style with the next block's first convolution.
        let mut shared = None;
        for block in &self.blocks {
            if let Some(conv0) = &block.conv0 {
                let w = shared.take().map_or_else(&mut next, Ok)?;
                x = styled(conv0, &x, &w, block.resolution)?;
            }
            x = styled(&block.conv1, &x, &next()?, block.resolution)?;
            let w = next()?;
            let rgb = block.to_image.forward(&x, &w)?;
            shared = Some(w);
            image = Some(match image {
                Some(before) => (upsample(&before)? + rgb)?,
                None => rgb,
            });
            see(block.resolution, &x, image.as_ref().expect("just set"));
        }
        Ok((x, image.expect("at least one block")))
    }
}

//! Layers with equalised learning rate (Karras et al. 2018, section 4.1): weights are stored with unit variance and
//! scaled by `1 / sqrt(fan in)` when used.

use crate::ops::{self, Activation};
use crate::weights::{Init, Role, Weights};
use candle_core::{Result, Tensor};

/// `act(x W^T / sqrt(in) * lr + b * lr)`, `[N, in]` to `[N, out]`.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    multiplier: f64,
    act: Activation,
}

impl Linear {
    /// `multiplier` is the learning-rate multiplier of the mapping network (0.01), else 1.
    pub fn new(
        w: &Weights,
        (inputs, outputs): (usize, usize),
        multiplier: f64,
        bias: f32,
        act: Activation,
    ) -> Result<Self> {
        let std = Init::Normal((1.0 / multiplier) as f32);
        let start = Init::Constant((f64::from(bias) / multiplier) as f32);
        Ok(Self {
            weight: w.get("weight", &[outputs, inputs], std, Role::Parameter)?,
            bias: w.get("bias", &[outputs], start, Role::Parameter)?,
            multiplier,
            act,
        })
    }
    /// A linear layer that answers 0 until it is trained.
    pub fn zero(w: &Weights, (inputs, outputs): (usize, usize)) -> Result<Self> {
        let zero = Init::Constant(0.0);
        Ok(Self {
            weight: w.get("weight", &[outputs, inputs], zero, Role::Parameter)?,
            bias: w.get("bias", &[outputs], zero, Role::Parameter)?,
            multiplier: 1.0,
            act: Activation::linear(),
        })
    }
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gain = self.multiplier / (self.weight.dim(1)? as f64).sqrt();
        let y = x.matmul(&(self.weight.t()? * gain)?)?;
        let bias = if self.multiplier == 1.0 { self.bias.clone() } else { (&self.bias * self.multiplier)? };
        ops::bias_act(&y, &bias, None, self.act)
    }
}

/// Whether a convolution changes the resolution, filtering by [1, 3, 3, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    Keep,
    Halve,
    /// After a convolution of 1x1, which may stand on either side of the filter: here it works on fewer pixels.
    Double,
}

/// Plain convolution, of discriminator and encoder and past the blocks of residual generators.
pub struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    resize: Resize,
    act: Activation,
}

impl Conv {
    pub fn new(
        w: &Weights,
        (inputs, outputs, size): (usize, usize, usize),
        bias: bool,
        resize: Resize,
        act: Activation,
    ) -> Result<Self> {
        if resize == Resize::Double && (size != 1 || bias) {
            candle_core::bail!("a doubling convolution: expected 1x1, without bias");
        }
        // Without a bias the gain goes into the weight, and nothing runs after the convolution.
        if !bias && (act.leaky || act.clamp.is_some()) {
            candle_core::bail!(
                "a convolution without bias: expected no activation and no clamp, found {act:?}"
            );
        }
        let shape = [outputs, inputs, size, size];
        Ok(Self {
            weight: w.get("weight", &shape, Init::Normal(1.0), Role::Parameter)?,
            bias: if bias {
                Some(w.get("bias", &[outputs], Init::Constant(0.0), Role::Parameter)?)
            } else {
                None
            },
            resize,
            act,
        })
    }
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, inputs, size, _) = self.weight.dims4()?;
        let mut gain = 1.0 / ((inputs * size * size) as f64).sqrt();
        if self.bias.is_none() {
            // Nothing stands between weight and gain: one multiplication for both.
            gain *= f64::from(self.act.gain);
        }
        let weight = (&self.weight * gain)?;
        let (x, halve) = match (self.resize, size) {
            (Resize::Keep, _) => (x.clone(), false),
            (Resize::Double, _) => return ops::upsample(&ops::conv2d(x, &weight)?),
            (Resize::Halve, 1) => (ops::downsample(x)?, false),
            (Resize::Halve, _) => (x.clone(), true),
        };
        match &self.bias {
            Some(b) if halve => ops::conv2d_halve_bias_act(&x, &weight, b, self.act),
            Some(b) => ops::conv2d_bias_act(&x, &weight, b, self.act, false),
            None if halve => ops::conv2d_halve(&x, &weight),
            None => ops::conv2d(&x, &weight),
        }
    }
}

/// Modulated convolution with noise (Karras et al. 2020, section 2): scale the input channels by the style, convolve
/// with shared weights, demodulate the output, add noise and bias, activate.
pub struct StyledConv {
    affine: Linear,
    weight: Tensor,
    bias: Tensor,
    noise_strength: Tensor,
    noise_const: Tensor,
    up: bool,
    act: Activation,
    ready: Option<Ready>,
}

/// What follows from a weight alone, kept where the weight never changes.
struct Ready {
    /// `[K, C]`: the weight's energy over its places.
    energy: Tensor,
    /// Where the layer doubles: see [`ops::doubling_kernel`].
    kernel: Option<Tensor>,
}

/// Noise of one layer.
pub enum LayerNoise<'a> {
    /// None.
    Zero,
    /// The stored picture, the same for every image.
    Constant,
    /// `[N, 1, H, W]`.
    Given(&'a Tensor),
}

impl StyledConv {
    pub fn new(
        w: &Weights,
        (inputs, outputs): (usize, usize),
        w_dim: usize,
        resolution: usize,
        up: bool,
        act: Activation,
    ) -> Result<Self> {
        let shape = [outputs, inputs, 3, 3];
        Ok(Self {
            affine: Linear::new(&w.at("affine"), (w_dim, inputs), 1.0, 1.0, Activation::linear())?,
            weight: w.get("weight", &shape, Init::Normal(1.0), Role::Parameter)?,
            bias: w.get("bias", &[outputs], Init::Constant(0.0), Role::Parameter)?,
            noise_strength: w.get("noise_strength", &[], Init::Constant(0.0), Role::Parameter)?,
            noise_const: w.get("noise_const", &[resolution; 2], Init::Normal(1.0), Role::Buffer)?,
            up,
            act,
            ready: None,
        })
    }
    /// Keeps what follows from the weight, for a layer on a GPU whose weight will not change.
    pub fn prepare(&mut self) -> Result<()> {
        let kernel = if self.up { Some(ops::doubling_kernel(&self.weight)?) } else { None };
        self.ready = Some(Ready { energy: self.weight.sqr()?.sum((2, 3))?, kernel });
        Ok(())
    }
    /// The style `[N, C]` of w `[N, D]`.
    pub fn style(&self, w: &Tensor) -> Result<Tensor> {
        self.affine.forward(w)
    }
    /// x `[N, C, H, W]`, style `[N, C]`.
    pub fn forward(&self, x: &Tensor, style: &Tensor, noise: &LayerNoise<'_>) -> Result<Tensor> {
        // demodulation d[n,k] = 1 / sqrt(sum over c, a, b of (style[n,c] weight[k,c,a,b])^2 + 1e-8)
        let energy = match &self.ready {
            Some(r) => r.energy.clone(),
            None => self.weight.sqr()?.sum((2, 3))?,
        };
        let demod = (style.sqr()?.matmul(&energy.t()?)? + 1e-8)?.sqrt()?.recip()?;
        let y = match &self.ready {
            Some(Ready { kernel: Some(kernel), .. }) => ops::modulated_by_phases(x, style, kernel, &demod)?,
            _ if self.up => ops::modulated_conv2d_double(x, style, &self.weight, &demod)?,
            _ => ops::modulated_conv2d(x, style, &self.weight, &demod, false)?,
        };
        let (n, _, h, width) = y.dims4()?;
        let noise = match noise {
            LayerNoise::Zero => None,
            LayerNoise::Constant => Some(self.noise_const.broadcast_as((n, 1, h, width))?),
            LayerNoise::Given(e) => Some((*e).clone()),
        };
        let noise = noise.map(|e| e.broadcast_mul(&self.noise_strength)).transpose()?;
        ops::bias_act(&y, &self.bias, noise.as_ref(), self.act)
    }
}

/// Styled 1x1 convolution to image channels, without demodulation.
pub struct ToImage {
    affine: Linear,
    weight: Tensor,
    bias: Tensor,
    clamp: Option<f32>,
}

impl ToImage {
    pub fn new(
        w: &Weights,
        (inputs, outputs): (usize, usize),
        w_dim: usize,
        clamp: Option<f32>,
    ) -> Result<Self> {
        let shape = [outputs, inputs, 1, 1];
        Ok(Self {
            affine: Linear::new(&w.at("affine"), (w_dim, inputs), 1.0, 1.0, Activation::linear())?,
            weight: w.get("weight", &shape, Init::Normal(1.0), Role::Parameter)?,
            bias: w.get("bias", &[outputs], Init::Constant(0.0), Role::Parameter)?,
            clamp,
        })
    }
    /// The style `[N, C]` of w `[N, D]`.
    pub fn style(&self, w: &Tensor) -> Result<Tensor> {
        self.affine.forward(w)
    }
    /// x `[N, C, H, W]`, style `[N, C]`.
    pub fn forward(&self, x: &Tensor, style: &Tensor) -> Result<Tensor> {
        let gain = 1.0 / (self.weight.dim(1)? as f64).sqrt();
        let style = (style * gain)?;
        let y = ops::conv2d(&ops::scale_channels(x, &style)?, &self.weight)?;
        ops::bias_act(&y, &self.bias, None, Activation::linear().clamped(self.clamp))
    }
}

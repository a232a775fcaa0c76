//! The generator in candle's own operations alone, as one would write it: what candle's CPU path can do.

use candle_core::{Result, Tensor};
use shiftlens_stylegan2::net::GeneratorConfig;
use std::collections::HashMap;

const GAIN: f64 = std::f64::consts::SQRT_2;

struct Style {
    weight: Tensor,
    bias: Tensor,
}

impl Style {
    fn new(t: &HashMap<String, Tensor>, name: &str, gain: f64) -> Result<Self> {
        let weight = &t[&format!("{name}.affine.weight")];
        let scale = gain / (weight.dim(1)? as f64).sqrt();
        Ok(Self {
            weight: (weight.t()? * scale)?.contiguous()?,
            bias: (&t[&format!("{name}.affine.bias")] * gain)?,
        })
    }
    fn forward(&self, w: &Tensor) -> Result<Tensor> {
        w.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// `x [N, C, H, W] * f [N, C]`
fn scale(x: &Tensor, f: &Tensor) -> Result<Tensor> {
    let (n, c) = f.dims2()?;
    x.broadcast_mul(&f.reshape((n, c, 1, 1))?)
}

/// The filter [1, 3, 3, 1] / 4 along `axis`, by shifted sums: candle has no fast depthwise convolution.
fn filter(x: &Tensor, axis: usize, pad: usize) -> Result<Tensor> {
    let x = x.pad_with_zeros(axis, pad, pad)?;
    let n = x.dim(axis)? - 3;
    let at = |i| x.narrow(axis, i, n);
    ((at(0)? + at(3)?)? * 0.25)? + ((at(1)? + at(2)?)? * 0.75)?
}

struct Layer {
    style: Style,
    squares: Tensor,
    weight: Tensor,
    added: Tensor,
    up: bool,
}

impl Layer {
    fn new(t: &HashMap<String, Tensor>, name: &str, up: bool) -> Result<Self> {
        let part = |p: &str| &t[&format!("{name}.{p}")];
        let weight = part("weight");
        let noise = part("noise_const").broadcast_mul(part("noise_strength"))?.unsqueeze(0)?;
        let bias = part("bias").reshape(((), 1, 1))?;
        Ok(Self {
            style: Style::new(t, name, 1.0)?,
            squares: weight.sqr()?.sum((2, 3))?.t()?.contiguous()?,
            weight: if up { weight.transpose(0, 1)?.contiguous()? } else { weight.clone() },
            added: (noise.broadcast_add(&bias)? * GAIN)?.unsqueeze(0)?,
            up,
        })
    }
    fn forward(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let style = self.style.forward(w)?;
        let factors = ((style.sqr()?.matmul(&self.squares)? + 1e-8)?.sqrt()?.recip()? * GAIN)?;
        let x = scale(x, &style)?;
        let y = if self.up {
            let y = x.conv_transpose2d(&self.weight, 0, 0, 2, 1)?;
            filter(&filter(&y, 3, 1)?, 2, 1)?
        } else {
            x.conv2d(&self.weight, 1, 1, 1, 1)?
        };
        let y = scale(&y, &factors)?.broadcast_add(&self.added)?;
        y.maximum(&(&y * 0.2)?)
    }
}

struct ToImage {
    style: Style,
    weight: Tensor,
    bias: Tensor,
}

/// The synthesis network.
pub struct Synthesis {
    constant: Tensor,
    layers: Vec<Layer>,
    images: Vec<ToImage>,
}

impl Synthesis {
    /// The network of a generator's file.
    pub fn new(config: &GeneratorConfig, t: &HashMap<String, Tensor>) -> Result<Self> {
        let (mut layers, mut images) = (Vec::new(), Vec::new());
        for r in config.resolutions() {
            if r > 4 {
                layers.push(Layer::new(t, &format!("synthesis.b{r}.conv0"), true)?);
            }
            layers.push(Layer::new(t, &format!("synthesis.b{r}.conv1"), false)?);
            let name = format!("synthesis.b{r}.torgb");
            let weight = t[&format!("{name}.weight")].clone();
            images.push(ToImage {
                style: Style::new(t, &name, 1.0 / (weight.dim(1)? as f64).sqrt())?,
                bias: t[&format!("{name}.bias")].reshape((1, (), 1, 1))?,
                weight,
            });
        }
        Ok(Self { constant: t["synthesis.b4.const"].unsqueeze(0)?, layers, images })
    }

    /// Codes `[N, L, D]` to images `[N, C, R, R]` in network range.
    pub fn forward(&self, ws: &Tensor) -> Result<Tensor> {
        let n = ws.dim(0)?;
        let row = |i: usize| ws.narrow(1, i, 1)?.squeeze(1)?.contiguous();
        let to_image = |i: usize, x: &Tensor, w: &Tensor| {
            let t = &self.images[i];
            scale(x, &t.style.forward(w)?)?.conv2d(&t.weight, 0, 1, 1, 1)?.broadcast_add(&t.bias)
        };
        let (_, c, h, w) = self.constant.dims4()?;
        let start = self.constant.broadcast_as((n, c, h, w))?.contiguous()?;
        let mut x = self.layers[0].forward(&start, &row(0)?)?;
        let mut image = to_image(0, &x, &row(1)?)?;
        for i in 1..self.images.len() {
            x = self.layers[2 * i - 1].forward(&x, &row(2 * i - 1)?)?;
            x = self.layers[2 * i].forward(&x, &row(2 * i)?)?;
            let (n, c, h, w) = image.dims4()?;
            // A zero after each value, then the filter: [2, 1] more zeros around.
            let wide = image.reshape((n, c, h, 1, w, 1))?.pad_with_zeros(3, 0, 1)?.pad_with_zeros(5, 0, 1)?;
            let wide =
                wide.reshape((n, c, 2 * h, 2 * w))?.pad_with_zeros(2, 1, 0)?.pad_with_zeros(3, 1, 0)?;
            let before = filter(&filter(&wide, 3, 1)?, 2, 1)?;
            image = (before + to_image(i, &x, &row(2 * i + 1)?)?)?;
        }
        Ok(image)
    }
}

//! Layers of the synthesis network with their weights prepared.

use crate::kernels::aligned::Aligned;
use crate::kernels::fast::{FastConv, Method};
use crate::kernels::gemm::Isa;
use crate::kernels::panels::Matrix;
use crate::kernels::tiles::BLOCK;
use crate::net::GeneratorConfig;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Slope of the leaky ReLU for negative values.
const SLOPE: f32 = 0.2;

/// Planes `[C][area]` to `[C/16][area][16]`.
pub(super) fn blocked(values: &[f32], channels: usize, area: usize) -> Aligned {
    let mut out = Aligned::zeros(channels.next_multiple_of(BLOCK) * area);
    for (c, plane) in values.chunks_exact(area).enumerate() {
        for (p, v) in plane.iter().enumerate() {
            out[(c / BLOCK * area + p) * BLOCK + c % BLOCK] = *v;
        }
    }
    out
}

/// The style of a layer: `s = A w / sqrt(D) + b`, `[C]`.
pub(super) struct Affine {
    pub matrix: Matrix,
    pub bias: Vec<f32>,
    /// Which row of the code it reads.
    pub input: usize,
}

/// A modulated convolution with its bias, noise and activation.
pub(super) struct Styled {
    pub affine: Affine,
    /// `[K][C]`: squares of the weights, summed over the taps.
    pub energy: Matrix,
    pub conv: FastConv,
    /// `[K]`, whole blocks.
    pub bias: Aligned,
    /// `[R][R]`, times the layer's strength.
    pub noise: Vec<f32>,
    pub inputs: usize,
    pub outputs: usize,
    /// Side of the input.
    pub side: usize,
    pub high: f32,
    pub low: f32,
    pub limit: f32,
}

/// toRGB.
pub(super) struct Picture {
    pub affine: Affine,
    /// `[channels][C]`, times the gain of 1 / sqrt(C).
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub inputs: usize,
    pub limit: f32,
}

/// All of one resolution.
pub(super) struct Block {
    pub resolution: usize,
    pub conv0: Option<Styled>,
    pub conv1: Styled,
    /// 1x1 past both convolutions, in residual networks.
    pub past: Option<FastConv>,
    pub picture: Option<Picture>,
}

type Get<'a, E> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, E> + 'a;

/// A tensor, whose size is checked.
fn take<E>(get: &mut Get<'_, E>, name: &str, shape: &[usize]) -> Result<Vec<f32>, E> {
    let values = get(name, shape)?;
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name} {shape:?}");
    Ok(values)
}

impl Affine {
    fn new<E>(
        get: &mut Get<'_, E>,
        name: &str,
        (w_dim, channels, input): (usize, usize, usize),
        isa: Isa,
    ) -> Result<Self, E> {
        let a = take(get, &format!("{name}.affine.weight"), &[channels, w_dim])?;
        let bias = take(get, &format!("{name}.affine.bias"), &[channels])?;
        let gain = 1.0 / (w_dim as f32).sqrt();
        Ok(Self { matrix: Matrix::new(isa, channels, w_dim, |k, c| a[k * w_dim + c] * gain), bias, input })
    }
}

impl Styled {
    fn new<E>(
        get: &mut Get<'_, E>,
        name: &str,
        config: &GeneratorConfig,
        (inputs, outputs): (usize, usize),
        (side, up, input): (usize, bool, usize),
        (isa, gain, budget): (Isa, f32, &mut usize),
    ) -> Result<Self, E> {
        let w = take(get, &format!("{name}.weight"), &[outputs, inputs, 3, 3])?;
        let resolution = if up { 2 * side } else { side };
        let strength = take(get, &format!("{name}.noise_strength"), &[])?[0];
        let mut noise = take(get, &format!("{name}.noise_const"), &[resolution, resolution])?;
        noise.iter_mut().for_each(|v| *v *= strength);
        let energy: Vec<f32> = w
            .chunks_exact(9)
            .map(|taps| taps.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() as f32)
            .collect();
        let method = if up { Method::double(side) } else { Method::same(side) };
        Ok(Self {
            affine: Affine::new(get, name, (config.w_dim, inputs, input), isa)?,
            energy: Matrix::new(isa, outputs, inputs, |k, c| energy[k * inputs + c]),
            // Single images of up to 16x16 pixels have few tiles; of those that are doubled in tiles of 2x2, up to 8x8.
            conv: prepare(isa, method, &w, (outputs, inputs), side <= if up { 8 } else { 16 }, budget),
            bias: blocked(&take(get, &format!("{name}.bias"), &[outputs])?, outputs, 1),
            noise,
            inputs,
            outputs,
            side,
            high: SQRT_2 * gain,
            low: SQRT_2 * gain * SLOPE,
            limit: config.conv_clamp.map_or(f32::INFINITY, |c| c * gain),
        })
    }
}

/// Keeps the transformed weights where the budget allows.
fn prepare(
    isa: Isa,
    method: Method,
    w: &[f32],
    (outputs, inputs): (usize, usize),
    few_tiles: bool,
    budget: &mut usize,
) -> FastConv {
    let bytes = FastConv::ready_bytes(isa, method, outputs, inputs);
    let ready = bytes <= *budget;
    if ready {
        *budget -= bytes;
    }
    FastConv::new(isa, method, w, (outputs, inputs), ready, few_tiles)
}

impl Block {
    pub(super) fn new<E>(
        config: &GeneratorConfig,
        r: usize,
        isa: Isa,
        budget: &mut usize,
        get: &mut impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let get: &mut Get<'_, E> = get;
        let (before, after) = (config.width(r / 2), config.width(r));
        let name = |layer: &str| format!("synthesis.b{r}.{layer}");
        // The block of resolution 2^i reads rows 2i - 5, 2i - 4 and 2i - 3 of the code; the first one 0 and 1.
        let input = 2 * r.ilog2() as usize - 4;
        let residual = config.has_residual(r);
        let gain = if residual { FRAC_1_SQRT_2 } else { 1.0 };
        let conv0 = match r {
            4 => None,
            _ => Some(Styled::new(
                get,
                &name("conv0"),
                config,
                (before, after),
                (r / 2, true, input - 1),
                (isa, 1.0, budget),
            )?),
        };
        let past = if residual {
            let w = take(get, &name("skip.weight"), &[after, before, 1, 1])?;
            let gain = FRAC_1_SQRT_2 / (before as f32).sqrt();
            let w: Vec<f32> = w.iter().map(|v| v * gain).collect();
            Some(prepare(isa, Method::Pointwise, &w, (after, before), false, budget))
        } else {
            None
        };
        let conv1 =
            Styled::new(get, &name("conv1"), config, (after, after), (r, false, input), (isa, gain, budget))?;
        let picture = if config.has_to_image(r) {
            let w = take(get, &name("torgb.weight"), &[config.channels, after, 1, 1])?;
            let gain = 1.0 / (after as f32).sqrt();
            Some(Picture {
                affine: Affine::new(get, &name("torgb"), (config.w_dim, after, input + 1), isa)?,
                weight: w.iter().map(|v| v * gain).collect(),
                bias: take(get, &name("torgb.bias"), &[config.channels])?,
                inputs: after,
                limit: config.conv_clamp.unwrap_or(f32::INFINITY),
            })
        } else {
            None
        };
        Ok(Self { resolution: r, conv0, conv1, past, picture })
    }

    pub(super) fn multiply_adds(&self) -> usize {
        let r = self.resolution;
        let conv0 = self.conv0.as_ref().map_or(0, |c| c.conv.multiply_adds(r / 2, r / 2));
        let past = self.past.as_ref().map_or(0, |c| c.multiply_adds(r / 2, r / 2));
        conv0 + past + self.conv1.conv.multiply_adds(r, r)
    }
}

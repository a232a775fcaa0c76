//! A convolution of stride 2 together with the filter that goes before it, and its adjoint together with the filter
//! that follows: one kernel of 6x6 = 3x3 with [1, 3, 3, 1]. Where our kernels serve, filter and convolution stay two
//! steps, which is less arithmetic; on a GPU one product over a small picture costs less than three passes over a large
//! one.

use super::act::{Activation, bias_act};
use super::conv::{Map, conv2d_bias_act, conv2d_down, modulated_conv2d};
use super::fir::{TAPS, blur};
use super::graft::{Compose, composed2};
use super::scale::scale_channels;
use super::{constant, native, portable, seen};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// One of the three bilinear maps of [`portable::halve`].
#[derive(Debug, Clone, Copy)]
struct Halving(Map);

impl Halving {
    fn apply(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        composed2(a, b, self)
    }
}

impl Compose for Halving {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (a, b) = (&args[0], &args[1]);
        match self.0 {
            Map::Forward => portable::halve(a, b),
            Map::Transposed => portable::halve_transposed(a, b),
            Map::Weight => portable::halve_weight(a, b),
        }
    }
}

impl CustomOp2 for Halving {
    fn name(&self) -> &'static str {
        "stylegan2-halving-convolution"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{}: there is no kernel of its own, it is composed", self.name())
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (sa, sb, g) = (seen(a), seen(b), seen(g));
        let part = |wanted: &Tensor, (map, x, y): (Map, &Tensor, &Tensor)| {
            if wanted.track_op() { Self(map).apply(x, y).map(Some) } else { Ok(None) }
        };
        let (for_a, for_b) = self.0.adjoints(&sa, &sb, &g);
        Ok((part(a, for_a)?, part(b, for_b)?))
    }
}

/// w `[K, C, 3, 3]` filtered by [1, 3, 3, 1] along both axes, times `gain^2`: `[K, C, 6, 6]`.
fn filtered(w: &Tensor, gain: f32) -> Result<Tensor> {
    let (k, c, _, _) = w.dims4()?;
    let key = ("filtered kernel", [gain.to_bits() as usize, 0, 0, 0, 0, 0]);
    let spread = constant::matrix(key, w, 9, || {
        let mut m = vec![0.0; 9 * 36];
        let taps = TAPS.map(|t| f64::from(t * gain));
        for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
                m[(a * 3 + b) * 36 + (a + i) * 6 + b + j] = taps[i] * taps[j];
            }
        }
        m
    })?;
    w.contiguous()?.reshape((k * c, 9))?.matmul(&spread)?.reshape((k, c, 6, 6))
}

/// Halves each (even) side: filters, then convolves at stride 2. x `[N, C, 2H, 2W]`, w `[K, C, 3, 3]` to
/// `[N, K, H, W]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_halve(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if native(x) {
        return conv2d_down(&blur(x, 2, 1.0)?, w);
    }
    Halving(Map::Forward).apply(x, &filtered(w, 1.0)?)
}

/// [`conv2d_halve`] with its bias and activation, b `[K]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_halve_bias_act(x: &Tensor, w: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
    if native(x) {
        return conv2d_bias_act(&blur(x, 2, 1.0)?, w, b, act, true);
    }
    bias_act(&conv2d_halve(x, w)?, b, None, act)
}

/// Doubles each side by a modulated convolution `conv(x * style, w) * demod` and filters: x `[N, C, H, W]`, style
/// `[N, C]`, w `[K, C, 3, 3]`, demod `[N, K]` to `[N, K, 2H, 2W]`, gain 4 in all.
///
/// # Errors
/// If the shapes do not fit.
pub fn modulated_conv2d_double(x: &Tensor, style: &Tensor, w: &Tensor, demod: &Tensor) -> Result<Tensor> {
    if native(x) {
        return blur(&modulated_conv2d(x, style, w, demod, true)?, 1, 2.0);
    }
    let w = filtered(&w.transpose(0, 1)?, 2.0)?;
    let y = Halving(Map::Transposed).apply(&scale_channels(x, style)?, &w)?;
    scale_channels(&y, demod)
}

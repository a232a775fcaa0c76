//! A convolution of stride 2 together with the filter that goes before it, and the transposed one together with the
//! filter that follows: one kernel of 6x6 = 3x3 with [1, 3, 3, 1]. Where our kernels serve, filter and convolution stay
//! two steps, which is less arithmetic. On a GPU the kernel is 3x3 on the four parities of rows and columns
//! (`portable`): one product over a small picture costs less there than passes over a large one.

use super::act::{Activation, bias_act};
use super::conv::{conv2d, conv2d_bias_act, conv2d_down, modulated_conv2d};
use super::fir::{TAPS, blur};
use super::graft::{Compose, composed1};
use super::scale::scale_channels;
use super::{constant, native, portable, seen};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// Which way a kernel of stride 2 goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// `y[p] = sum over j of w6[j] x[2p + j - 2]`: parity r takes place u of 3 as j = 2u + r.
    Halve,
    /// `x[2p + r] = sum over u of w6[j] y[p + u - 1]` with j = 4 - 2u + r.
    Double,
}

/// [`portable::parities`] or the inverse of it, which is its adjoint.
#[derive(Debug, Clone, Copy)]
enum Parities {
    Apart,
    Together,
}

impl Compose for Parities {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        match self {
            Self::Apart => portable::parities(&args[0]),
            Self::Together => portable::interleaved(&args[0]),
        }
    }
}

impl CustomOp1 for Parities {
    fn name(&self) -> &'static str {
        "stylegan2-parities"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{}: there is no kernel of its own, it is composed", self.name())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let inverse = match self {
            Self::Apart => Self::Together,
            Self::Together => Self::Apart,
        };
        composed1(&seen(g), inverse).map(Some)
    }
}

/// w `[K, C, 3, 3]` filtered by [1, 3, 3, 1] along both axes, times `gain^2`, for each parity: `[4, K, 9 C]`.
fn phases(w: &Tensor, way: Way, gain: f32) -> Result<Tensor> {
    let (k, c, _, _) = w.dims4()?;
    let key = ("phases", [gain.to_bits() as usize, usize::from(way == Way::Double), 0, 0, 0, 0]);
    let spread = constant::matrix(key, w, 36, || {
        let tap = |a: usize, r: usize, u: usize| {
            let j = if way == Way::Double { 4 - 2 * u + r } else { 2 * u + r };
            // w6 = w convolved with the filter: w6[j] = sum over a of w[a] f[j - a].
            let t = j.checked_sub(a).and_then(|t| TAPS.get(t));
            t.map_or(0.0, |t| f64::from(t * gain))
        };
        // The matrix of a parity has w's places for rows and the kernel's for columns.
        let bits = |i: usize| (i / 3, i % 3);
        let mut m = Vec::with_capacity(4 * 81);
        for (parity, from) in (0..4).flat_map(|p| (0..9).map(move |f| (p, f))) {
            let (a, b) = bits(from);
            m.extend((0..9).map(bits).map(|(u, v)| tap(a, parity / 2, u) * tap(b, parity % 2, v)));
        }
        m
    })?;
    let w = w.contiguous()?.reshape((1, k * c, 9))?.broadcast_as((4, k * c, 9))?;
    w.matmul(&spread.reshape((4, 9, 9))?)?.reshape((4, k, 9 * c))
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
    let (k, c, _, _) = w.dims4()?;
    let w = phases(w, Way::Halve, 1.0)?.transpose(0, 1)?.contiguous()?.reshape((k, 4 * c, 3, 3))?;
    conv2d(&composed1(x, Parities::Apart)?, &w)
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
    modulated_by_phases(x, style, &doubling_kernel(w)?, demod)
}

/// The kernel `[4K, C, 3, 3]` that [`modulated_by_phases`] takes, of w `[K, C, 3, 3]`: made once where w never changes.
///
/// # Errors
/// If the shape does not fit.
pub fn doubling_kernel(w: &Tensor) -> Result<Tensor> {
    let (k, c, _, _) = w.dims4()?;
    phases(w, Way::Double, 2.0)?.reshape((4 * k, c, 3, 3))
}

/// [`modulated_conv2d_double`] as a GPU does it, with the [`doubling_kernel`] of its weight.
///
/// # Errors
/// If the shapes do not fit.
pub fn modulated_by_phases(x: &Tensor, style: &Tensor, kernel: &Tensor, demod: &Tensor) -> Result<Tensor> {
    let y = conv2d(&scale_channels(x, style)?, kernel)?;
    scale_channels(&composed1(&y, Parities::Together)?, demod)
}

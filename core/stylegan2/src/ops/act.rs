//! Noise, bias, activation, gain and clamp in one pass.

use super::graft::{Compose, run1, run2, run3};
use super::{seen, values};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Slope of the leaky ReLU for negative values.
const SLOPE: f32 = 0.2;

/// What follows the bias: `clamp(gain * act(.))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Leaky ReLU of slope 0.2, or none.
    pub leaky: bool,
    /// Factor after the activation.
    pub gain: f32,
    /// Largest magnitude after the gain.
    pub clamp: Option<f32>,
}

impl Activation {
    /// Leaky ReLU with its variance-preserving gain, the square root of 2, times `gain`.
    pub fn leaky(gain: f32) -> Self {
        Self { leaky: true, gain: gain * std::f32::consts::SQRT_2, clamp: None }
    }
    /// No activation.
    pub fn linear() -> Self {
        Self { leaky: false, gain: 1.0, clamp: None }
    }
    /// The same, clamped.
    pub fn clamped(self, clamp: Option<f32>) -> Self {
        Self { clamp, ..self }
    }
    fn limit(&self) -> f32 {
        self.clamp.unwrap_or(f32::INFINITY)
    }
}

/// (x, b, e): `act(x + b[c] + e[n, 0, h, w])`.
struct NoiseBiasAct(Activation);
/// (x, b): `act(x + b[c])`.
struct BiasAct(Activation);
/// (g, y): gradient of the activation whose result was y, applied to g. The sign of y is that of its argument.
struct ActGrad(Activation);
/// Sum over all axes but the channels: `[N, C, ..]` to `[C]`.
struct ChannelSum;
/// Sum over the channels: `[N, C, H, W]` to `[N, 1, H, W]`.
struct PixelSum;

/// `(N, C, everything else)`
fn split(dims: &[usize]) -> Result<(usize, usize, usize)> {
    match dims {
        [n, c, rest @ ..] => Ok((*n, *c, rest.iter().product())),
        _ => bail!("expected [N, C, ..], found {dims:?}"),
    }
}

/// The activation with its constants ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    high: f32,
    low: f32,
    limit: f32,
}

impl Curve {
    pub(super) fn new(a: Activation) -> Self {
        Self { high: a.gain, low: if a.leaky { a.gain * SLOPE } else { a.gain }, limit: a.limit() }
    }
    #[inline(always)]
    pub(super) fn at(&self, v: f32) -> f32 {
        (v * if v >= 0.0 { self.high } else { self.low }).clamp(-self.limit, self.limit)
    }
}

/// The gradient g of the activation's result y, taken back to its argument.
pub(super) fn gradient(g: &Tensor, y: &Tensor, act: Activation) -> Result<Tensor> {
    run2(g, &y.detach(), ActGrad(act))
}

/// Sum over all axes but the channels.
pub(super) fn channel_sum(x: &Tensor) -> Result<Tensor> {
    run1(x, ChannelSum)
}

fn forward(
    a: Activation,
    x: &[f32],
    b: &[f32],
    noise: Option<&[f32]>,
    (c, inner): (usize, usize),
) -> Vec<f32> {
    let curve = Curve::new(a);
    let act = |v: f32| curve.at(v);
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(inner).with_min_len(4096 / inner.min(4096) + 1).enumerate().for_each(|(i, o)| {
        let (x, b) = (&x[i * inner..(i + 1) * inner], b[i % c]);
        match noise {
            Some(e) => {
                let e = &e[i / c * inner..][..inner];
                o.iter_mut().zip(x).zip(e).for_each(|((o, x), e)| *o = act(x + b + e));
            }
            None => o.iter_mut().zip(x).for_each(|(o, x)| *o = act(x + b)),
        }
    });
    out
}

impl CustomOp2 for BiasAct {
    fn name(&self) -> &'static str {
        "stylegan2-bias-act"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, c, inner) = split(l1.dims())?;
        if l2.dims() != [c] {
            bail!("bias_act: expected bias [{c}], found {:?}", l2.dims());
        }
        let out = forward(self.0, values(s1, l1)?, values(s2, l2)?, None, (c, inner));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        b: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gx = gradient(&seen(g), y, self.0)?;
        let gb = if b.track_op() { Some(run1(&gx, ChannelSum)?) } else { None };
        Ok((Some(gx), gb))
    }
}

impl CustomOp3 for NoiseBiasAct {
    fn name(&self) -> &'static str {
        "stylegan2-noise-bias-act"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = l1.shape().dims4()?;
        if l2.dims() != [c] || l3.dims() != [n, 1, h, w] {
            bail!(
                "bias_act: expected bias [{c}] and noise [{n}, 1, {h}, {w}], found {:?}, {:?}",
                l2.dims(),
                l3.dims()
            );
        }
        let out = forward(self.0, values(s1, l1)?, values(s2, l2)?, Some(values(s3, l3)?), (c, h * w));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        b: &Tensor,
        e: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gx = gradient(&seen(g), y, self.0)?;
        let gb = if b.track_op() { Some(run1(&gx, ChannelSum)?) } else { None };
        let ge = if e.track_op() { Some(run1(&gx, PixelSum)?) } else { None };
        Ok((Some(gx), gb, ge))
    }
}

impl CustomOp2 for ActGrad {
    fn name(&self) -> &'static str {
        "stylegan2-act-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if l1.dims() != l2.dims() {
            bail!("act gradient: shapes {:?} and {:?} differ", l1.dims(), l2.dims());
        }
        let (g, y) = (values(s1, l1)?, values(s2, l2)?);
        let a = self.0;
        let (limit, low) = (a.limit(), if a.leaky { a.gain * SLOPE } else { a.gain });
        let mut out = vec![0.0; g.len()];
        out.par_chunks_mut(16384).zip(g.par_chunks(16384)).zip(y.par_chunks(16384)).for_each(
            |((o, g), y)| {
                for ((o, g), y) in o.iter_mut().zip(g).zip(y) {
                    let slope = if *y >= 0.0 { a.gain } else { low };
                    *o = if y.abs() < limit { g * slope } else { 0.0 };
                }
            },
        );
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    // Piecewise linear: the derivative with respect to y is 0 almost everywhere.
    fn bwd(
        &self,
        g: &Tensor,
        y: &Tensor,
        _: &Tensor,
        gg: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !g.track_op() {
            return Ok((None, None));
        }
        Ok((Some(gradient(&seen(gg), y, self.0)?), None))
    }
}

impl CustomOp1 for ChannelSum {
    fn name(&self) -> &'static str {
        "stylegan2-channel-sum"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, inner) = split(l.dims())?;
        let x = values(s, l)?;
        let out: Vec<f32> = (0..c)
            .into_par_iter()
            .with_min_len(4)
            .map(|k| (0..n).map(|i| f64::from(sum(&x[(i * c + k) * inner..][..inner]))).sum::<f64>() as f32)
            .collect();
        Ok((CpuStorage::F32(out), Shape::from(c)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let mut dims = vec![1; x.rank()];
        dims[1] = x.dim(1)?;
        seen(g).reshape(dims)?.broadcast_as(x.shape())?.contiguous().map(Some)
    }
}

impl CustomOp1 for PixelSum {
    fn name(&self) -> &'static str {
        "stylegan2-pixel-sum"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        let x = values(s, l)?;
        let mut out = vec![0.0; n * h * w];
        out.par_chunks_mut(h * w).zip(x.par_chunks(c * h * w)).for_each(|(o, x)| {
            for plane in x.chunks_exact(h * w) {
                o.iter_mut().zip(plane).for_each(|(o, v)| *o += v);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((n, 1, h, w))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        seen(g).broadcast_as(x.shape())?.contiguous().map(Some)
    }
}

/// Sum with sixteen partial sums.
fn sum(x: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let tail: f32 = chunks.remainder().iter().sum();
    for c in chunks {
        for i in 0..16 {
            sums[i] += c[i];
        }
    }
    sums.iter().sum::<f32>() + tail
}

impl Activation {
    /// Slopes for positive and for negative values.
    fn slopes(&self) -> (f64, f64) {
        let high = f64::from(self.gain);
        (high, if self.leaky { high * f64::from(SLOPE) } else { high })
    }
    /// `clamp(gain * act(v))` in candle's operations, laid out flat: a number beside a tensor costs least there.
    fn compose(&self, v: &Tensor) -> Result<Tensor> {
        let (high, low) = self.slopes();
        let v = v.flatten_all()?;
        let y = if self.leaky {
            // The gain is positive and the slope below 1, so the larger of both lines is the activation.
            (&v * high)?.maximum(&(&v * low)?)?
        } else if self.gain == 1.0 {
            v
        } else {
            (v * high)?
        };
        match self.clamp {
            Some(c) => y.clamp(-c, c),
            None => Ok(y),
        }
    }
}

/// x `[N, C, ..]` plus b `[C]`: `[N, C, rest]`.
fn add_bias(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, c, inner) = split(x.dims())?;
    // As few axes as can be, see [`super::portable`].
    let b = b.reshape((1, c))?.broadcast_as((n, c))?.contiguous()?.reshape((n * c, 1))?;
    x.contiguous()?.reshape((n * c, inner))?.broadcast_add(&b)?.reshape((n, c, inner))
}

impl Compose for BiasAct {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (x, b) = (&args[0], &args[1]);
        self.0.compose(&add_bias(x, b)?)?.reshape(x.shape())
    }
}

impl Compose for NoiseBiasAct {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (x, b, e) = (&args[0], &args[1], &args[2]);
        let (n, _, h, w) = x.dims4()?;
        let y = add_bias(x, b)?.broadcast_add(&e.contiguous()?.reshape((n, 1, h * w))?)?;
        self.0.compose(&y)?.reshape(x.shape())
    }
}

impl Compose for ActGrad {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let shape = args[0].shape();
        let (g, y) = (args[0].flatten_all()?, args[1].flatten_all()?);
        let (high, low) = self.0.slopes();
        let mut slope = None;
        if self.0.leaky {
            slope = Some(y.ge(0f64)?.to_dtype(g.dtype())?.affine(high - low, low)?);
        }
        if let Some(c) = self.0.clamp {
            let inside = y.abs()?.lt(f64::from(c))?.to_dtype(g.dtype())?;
            slope = Some(match slope {
                Some(s) => (s * inside)?,
                None => (inside * high)?,
            });
        }
        match slope {
            Some(s) => g * s,
            None => g * high,
        }?
        .reshape(shape)
    }
}

impl Compose for ChannelSum {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        // The inner sum first: its numbers lie side by side.
        let (n, c, inner) = split(args[0].dims())?;
        args[0].reshape((n, c, inner))?.sum(2)?.sum(0)
    }
}

impl Compose for PixelSum {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        args[0].sum_keepdim(1)
    }
}

/// `clamp(gain * act(x + bias + noise))` with x `[N, C, ..]`, bias `[C]`, noise `[N, 1, H, W]` already scaled.
///
/// # Errors
/// If the shapes do not fit.
pub fn bias_act(x: &Tensor, bias: &Tensor, noise: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    match noise {
        Some(e) => run3(x, bias, e, NoiseBiasAct(act)),
        None => run2(x, bias, BiasAct(act)),
    }
}

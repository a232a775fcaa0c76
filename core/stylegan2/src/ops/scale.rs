//! Scaling whole channels: modulation and demodulation (Karras et al. 2020, section 2.2, eqs. 1 and 3).

use super::graft::{Compose, run2};
use super::{seen, values};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `y[n,c,h,w] = x[n,c,h,w] s[n,c]`
struct Scale;
/// `d[n,c] = sum over h, w of a[n,c,h,w] b[n,c,h,w]`
struct Dot;

impl CustomOp2 for Scale {
    fn name(&self) -> &'static str {
        "stylegan2-scale-channels"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = l1.shape().dims4()?;
        if l2.dims() != [n, c] {
            bail!("scale_channels: expected scales [{n}, {c}], found {:?}", l2.dims());
        }
        let (x, s) = (values(s1, l1)?, values(s2, l2)?);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(h * w).with_min_len(16).zip(x.par_chunks(h * w)).zip(s).for_each(|((o, x), s)| {
            o.iter_mut().zip(x).for_each(|(o, x)| *o = x * s);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        s: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = seen(g).contiguous()?;
        let gx = if x.track_op() { Some(run2(&g, &seen(s), Scale)?) } else { None };
        let gs = if s.track_op() { Some(run2(&g, &seen(x), Dot)?) } else { None };
        Ok((gx, gs))
    }
}

impl CustomOp2 for Dot {
    fn name(&self) -> &'static str {
        "stylegan2-channel-dot"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = l1.shape().dims4()?;
        if l2.dims() != l1.dims() {
            bail!("channel_dot: shapes {:?} and {:?} differ", l1.dims(), l2.dims());
        }
        let (a, b) = (values(s1, l1)?, values(s2, l2)?);
        let out: Vec<f32> = a
            .par_chunks(h * w)
            .with_min_len(16)
            .zip(b.par_chunks(h * w))
            .map(|(a, b)| {
                // Sixteen partial sums: a vector's worth, and less rounding than one.
                let mut sums = [0f32; 16];
                let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
                let tail: f32 = ca.remainder().iter().zip(cb.remainder()).map(|(a, b)| a * b).sum();
                for (a, b) in ca.zip(cb) {
                    for i in 0..16 {
                        sums[i] += a[i] * b[i];
                    }
                }
                sums.iter().sum::<f32>() + tail
            })
            .collect();
        Ok((CpuStorage::F32(out), Shape::from((n, c))))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = seen(g).contiguous()?;
        let ga = if a.track_op() { Some(run2(&seen(b), &g, Scale)?) } else { None };
        let gb = if b.track_op() { Some(run2(&seen(a), &g, Scale)?) } else { None };
        Ok((ga, gb))
    }
}

impl Compose for Scale {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (n, c, h, w) = args[0].dims4()?;
        // As few axes as can be, see [`super::portable`].
        let x = args[0].contiguous()?.reshape((n * c, h * w))?;
        x.broadcast_mul(&args[1].reshape((n * c, 1))?)?.reshape((n, c, h, w))
    }
}

impl Compose for Dot {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (n, c, h, w) = args[0].dims4()?;
        (&args[0] * &args[1])?.reshape((n, c, h * w))?.sum(2)
    }
}

/// Sum over h and w of `a b`, both `[N, C, H, W]`, to `[N, C]`.
pub(super) fn channel_dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    run2(a, b, Dot)
}

/// Multiplies each channel by its factor: x `[N, C, H, W]`, s `[N, C]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn scale_channels(x: &Tensor, s: &Tensor) -> Result<Tensor> {
    run2(x, s, Scale)
}

//! Resampling with the filter [1, 3, 3, 1] of StyleGAN2 (Karras et al. 2020, appendix B), one axis after the other.

use super::graft::{Compose, run1};
use super::precision::reduced;
use super::{constant, seen, values};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// [1, 3, 3, 1], normalised to sum 1. Symmetric, so convolution and correlation agree.
pub(super) const TAPS: [f32; 4] = [0.125, 0.375, 0.375, 0.125];

/// Per axis: put `up - 1` zeros after each value, pad with `pad` zeros before and after, filter by [`TAPS`] times
/// `gain`, keep every `down`th value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fir {
    up: usize,
    down: usize,
    /// Zeros before, zeros after.
    pad: (usize, usize),
    /// Per axis.
    gain: f32,
}

impl Fir {
    fn output(&self, input: usize) -> Result<usize> {
        let padded = input * self.up + self.pad.0 + self.pad.1;
        if padded < 4 || input == 0 {
            bail!("resampling: {input} values are too few for {self:?}");
        }
        Ok((padded - 4) / self.down + 1)
    }

    /// The adjoint for an input of `input` values per axis.
    fn adjoint(&self, input: usize) -> Result<Self> {
        let output = self.output(input)?;
        let after = (input * self.up + self.pad.0 + 1) as isize - (output * self.down + self.up) as isize;
        if self.pad.0 > 3 || after < 0 {
            bail!("resampling: {self:?} has no adjoint for {input} values");
        }
        Ok(Self { up: self.down, down: self.up, pad: (3 - self.pad.0, after as usize), gain: self.gain })
    }

    fn run(&self, x: &[f32], (h, w): (usize, usize)) -> Result<Vec<f32>> {
        let (oh, ow) = (self.output(h)?, self.output(w)?);
        let taps = TAPS.map(|t| t * self.gain);
        let mut out = vec![0.0; x.len() / (h * w) * oh * ow];
        out.par_chunks_mut(oh * ow).with_min_len(8).zip(x.par_chunks(h * w)).for_each_init(
            || (vec![0f32; w], vec![0f32; w * self.up + self.pad.0 + self.pad.1 + 4], Vec::new()),
            |(column, padded, halves): &mut (Vec<f32>, Vec<f32>, Vec<f32>), (out, x)| {
                for (o, out) in out.chunks_exact_mut(ow).enumerate() {
                    column.fill(0.0);
                    for (t, tap) in taps.iter().enumerate() {
                        let at = (o * self.down + t) as isize - self.pad.0 as isize;
                        if at < 0 || at % self.up as isize != 0 || at as usize / self.up >= h {
                            continue;
                        }
                        let row = &x[at as usize / self.up * w..][..w];
                        column.iter_mut().zip(row).for_each(|(c, v)| *c += tap * v);
                    }
                    if self.up == 1 {
                        padded[self.pad.0..self.pad.0 + w].copy_from_slice(column);
                    } else {
                        let inner = padded[self.pad.0..].iter_mut().step_by(self.up);
                        inner.zip(column.iter()).for_each(|(p, v)| *p = *v);
                    }
                    filter_row(padded, self.down, taps, halves, out);
                }
            },
        );
        Ok(out)
    }

    fn apply(self, x: &Tensor) -> Result<Tensor> {
        run1(x, self)
    }

    /// The map of one axis of `input` values as a matrix `[input, output]`.
    fn matrix(&self, input: usize, like: &Tensor) -> Result<Tensor> {
        let output = self.output(input)?;
        let numbers = [self.up, self.down, self.pad.0, self.pad.1, self.gain.to_bits() as usize, input];
        constant::matrix(("resampling", numbers), like, input, || {
            let mut m = vec![0.0; input * output];
            for (o, t) in (0..output).flat_map(|o| (0..4).map(move |t| (o, t))) {
                let at = (o * self.down + t).checked_sub(self.pad.0).filter(|at| at.is_multiple_of(self.up));
                if let Some(from) = at.map(|at| at / self.up).filter(|from| *from < input) {
                    m[from * output + o] += f64::from(TAPS[t] * self.gain);
                }
            }
            m
        })
    }
}

impl Compose for Fir {
    // Each axis is a product with a band matrix: on a GPU one launch at the speed of products, where shifting and adding
    // would be a pass over memory for every tap. candle has no convolution of each channel by itself.
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (n, c, h, w) = args[0].dims4()?;
        let (rows, columns) = (self.matrix(h, &args[0])?, self.matrix(w, &args[0])?);
        let (oh, ow) = (rows.dim(1)?, columns.dim(1)?);
        let x = args[0].contiguous()?.reshape((n * c * h, w))?;
        reduced(|| {
            let y = x.matmul(&columns)?.reshape((n * c, h, ow))?;
            rows.t()?.broadcast_as((n * c, oh, h))?.matmul(&y)
        })?
        .reshape((n, c, oh, ow))
    }
}

/// `out[o] = sum over t of taps[t] * s[o * down + t]`, in a form that compilers vectorise.
fn filter_row(s: &[f32], down: usize, taps: [f32; 4], halves: &mut Vec<f32>, out: &mut [f32]) {
    let n = out.len();
    let four = |a: &[f32], b: &[f32], c: &[f32], d: &[f32], out: &mut [f32]| {
        for i in 0..n {
            out[i] = taps[0] * a[i] + taps[1] * b[i] + taps[2] * c[i] + taps[3] * d[i];
        }
    };
    if down == 1 {
        four(&s[..n], &s[1..n + 1], &s[2..n + 2], &s[3..n + 3], out);
    } else {
        halves.resize(2 * (n + 1), 0.0);
        let (even, odd) = halves.split_at_mut(n + 1);
        for ((pair, e), o) in s.chunks_exact(2).zip(even.iter_mut()).zip(odd.iter_mut()) {
            (*e, *o) = (pair[0], pair[1]);
        }
        four(&even[..n], &odd[..n], &even[1..], &odd[1..], out);
    }
}

impl CustomOp1 for Fir {
    fn name(&self) -> &'static str {
        "stylegan2-resample"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        let out = self.run(values(s, l)?, (h, w))?;
        Ok((CpuStorage::F32(out), Shape::from((n, c, self.output(h)?, self.output(w)?))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let adjoint = self.adjoint(h)?;
        if adjoint != self.adjoint(w)? {
            bail!("resampling: the gradient needs square pictures, or sides of the same parity: {h}x{w}");
        }
        adjoint.apply(&seen(g)).map(Some)
    }
}

/// Doubles each side: x `[N, C, H, W]` to `[N, C, 2H, 2W]`, gain 4 in all, as for the skip connections of images.
///
/// # Errors
/// If candle fails.
pub fn upsample(x: &Tensor) -> Result<Tensor> {
    Fir { up: 2, down: 1, pad: (2, 1), gain: 2.0 }.apply(x)
}

/// Halves each (even) side, gain 1.
///
/// # Errors
/// If candle fails.
pub fn downsample(x: &Tensor) -> Result<Tensor> {
    Fir { up: 1, down: 2, pad: (1, 1), gain: 1.0 }.apply(x)
}

/// Filters at the same resolution with `pad` zeros around (each side grows by `2 pad - 3`) and a total gain of
/// `gain^2`: before a halving convolution pad 2, gain 1; after a doubling one pad 1, gain 2.
///
/// # Errors
/// If candle fails.
pub fn blur(x: &Tensor, pad: usize, gain: f32) -> Result<Tensor> {
    Fir { up: 1, down: 1, pad: (pad, pad), gain }.apply(x)
}

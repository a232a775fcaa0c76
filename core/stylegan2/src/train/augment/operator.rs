//! The operator `A x + b` of a batch, and its adjoint.

use super::affine::Affine;
use super::axis::{Axis, reflected};
use super::colour::{self, Matrix};
use super::params::{Noise, Sample};
use super::pipeline::Strength;
use super::wavelet::{BAND_TAPS, SYM6, bands, centre};
use crate::ops::seen;
use crate::rng::Rng;
use candle_core::backend::{BackendDevice as _, BackendStorage as _};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail,
};
use rayon::prelude::*;
use std::sync::Arc;

/// How pixels move. Maps lead from the result's pixels to the source's, counted from the top left pixel.
#[derive(Debug, Clone, PartialEq)]
enum Warp {
    /// Onto pixels.
    Blit(Affine),
    /// Anywhere.
    Resample(Affine),
}

/// What is done to one image. What is not there is the identity.
#[derive(Debug, Clone, PartialEq)]
struct Steps {
    warp: Option<Warp>,
    colour: Option<Matrix>,
    filter: Option<[f64; BAND_TAPS]>,
    noise: Option<Noise>,
    /// Columns and rows that are set to 0, from and to.
    cutout: Option<[[usize; 2]; 2]>,
}

impl Steps {
    fn new(sample: &Sample, (strength, channels, side): (&Strength, usize, usize)) -> Self {
        let (blit, all) = Affine::of(sample);
        // Pixel coordinates: the centre of an image is at half of (side - 1).
        let half = (side - 1) as f64 / 2.0;
        let inverse = |m: &Affine| {
            let (to, back) = (Affine::translation([half; 2]), Affine::translation([-half; 2]));
            back.then(&m.inverse()).then(&to)
        };
        let warp = match (all == blit, blit == Affine::IDENTITY) {
            (true, true) => None,
            (true, false) => Some(Warp::Blit(inverse(&blit))),
            (false, _) => Some(Warp::Resample(inverse(&all))),
        };
        let filter = (sample.gains != [1.0; 4]).then(|| {
            let bands = bands();
            std::array::from_fn(|t| bands.iter().zip(sample.gains).map(|(b, g)| b[t] * g).sum())
        });
        let cutout = sample.cutout.map(|centre| {
            let edge = |v: f64| (v * side as f64).round().clamp(0.0, side as f64) as usize;
            centre.map(|c| [edge(c - strength.cutout / 2.0), edge(c + strength.cutout / 2.0)])
        });
        let cutout = cutout.filter(|c| c.iter().all(|[from, to]| from < to));
        let colour = match channels {
            // Without colours to turn or to wash out.
            1 => colour::matrix(&Sample { hue: 0.0, saturation: 1.0, ..sample.clone() }),
            _ => colour::matrix(sample),
        };
        Self { warp, colour, filter, noise: sample.noise.filter(|n| n.sigma > 0.0), cutout }
    }

    fn is_identity(&self) -> bool {
        let Self { warp, colour, filter, noise, cutout } = self;
        warp.is_none() && colour.is_none() && filter.is_none() && noise.is_none() && cutout.is_none()
    }
}

/// The operator of a batch.
#[derive(Debug)]
pub(super) struct Operator {
    channels: usize,
    side: usize,
    images: Vec<Steps>,
}

/// Which part of `A x + b` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `A x + b`
    Value,
    /// `A x`
    Linear,
    /// `Aᵀ y`
    Adjoint,
}

/// The picture of a resampling between doubling and halving, and where its places lie in the doubled source.
struct Grid<T> {
    /// Doubling of columns and rows of the source.
    double: [Axis<T>; 2],
    halve: Axis<T>,
    /// From places of the picture to be halved to places of the doubled source.
    map: Affine,
    /// Columns and rows of the doubled source that are there: from which on, and after how many they repeat.
    from: [i64; 2],
    size: [usize; 2],
    /// The source is so small, or seen so small, that it is there as one whole period.
    periodic: [bool; 2],
}

impl<T: WithDType> Grid<T> {
    fn new(map: &Affine, side: usize) -> Self {
        // Place n of a doubled row lies at pixel (n - c) / 2, c being the filter's centre.
        let c = centre(&SYM6);
        let to_pixels = Affine([[0.5, 0.0, -c / 2.0], [0.0, 0.5, -c / 2.0]]);
        let map = to_pixels.then(map).then(&to_pixels.inverse());
        let halve = Axis::halving(side);
        let far = (halve.inputs() - 1) as f64;
        let corners = [[0.0, 0.0], [far, 0.0], [0.0, far], [far, far]].map(|p| map.at(p));
        let period = 4 * (side - 1);
        let range = [0, 1].map(|axis| {
            let values = corners.map(|p| p[axis]);
            // One place more on either side for rounding.
            let from = values.iter().fold(f64::INFINITY, |a, b| a.min(*b)).floor() as i64 - 1;
            let to = values.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)).floor() as i64 + 3;
            let size = (to - from) as usize;
            if size >= period { (0, period, true) } else { (from, size, false) }
        });
        let double = range.map(|(from, size, _)| Axis::doubling(side, from, size));
        let (from, size) = (range.map(|r| r.0), range.map(|r| r.1));
        Self { double, halve, map, from, size, periodic: range.map(|r| r.2) }
    }

    /// Index of a place along an axis.
    fn index(&self, axis: usize, place: i64) -> usize {
        let place = place - self.from[axis];
        if self.periodic[axis] { place.rem_euclid(self.size[axis] as i64) as usize } else { place as usize }
    }

    /// Calls `f` for every place of the picture to be halved: its index, and four places of the doubled source with
    /// their bilinear weights.
    fn each(&self, mut f: impl FnMut(usize, [usize; 4], [T; 4])) {
        let side = self.halve.inputs();
        for i in 0..side * side {
            let [x, y] = self.map.at([(i % side) as f64, (i / side) as f64]);
            let (left, top) = (floor(x), floor(y));
            let (fx, fy) = (x - left as f64, y - top as f64);
            let columns = [left, left + 1].map(|p| self.index(0, p));
            let rows = [top, top + 1].map(|p| self.index(1, p) * self.size[0]);
            let places =
                [rows[0] + columns[0], rows[0] + columns[1], rows[1] + columns[0], rows[1] + columns[1]];
            let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
            f(i, places, weights.map(T::from_f64));
        }
    }

    fn forward(&self, image: &mut [T], channels: usize) {
        let wide = self.halve.inputs();
        let one = image.len() / channels;
        let doubled: Vec<Vec<T>> = image
            .chunks_exact(one)
            .map(|x| self.double[1].columns(&self.double[0].rows(x), self.size[0]))
            .collect();
        let mut seen = vec![vec![T::zero(); wide * wide]; channels];
        self.each(|i, places, weights| {
            for (seen, doubled) in seen.iter_mut().zip(&doubled) {
                let terms = places.iter().zip(weights);
                seen[i] = terms.fold(T::zero(), |sum, (p, w)| sum + w * doubled[*p]);
            }
        });
        for (out, seen) in image.chunks_exact_mut(one).zip(&seen) {
            out.copy_from_slice(&self.halve.rows(&self.halve.columns(seen, wide)));
        }
    }

    fn adjoint(&self, image: &mut [T], channels: usize) {
        let wide = self.halve.inputs();
        let one = image.len() / channels;
        let seen: Vec<Vec<T>> = image
            .chunks_exact(one)
            .map(|y| self.halve.columns_adjoint(&self.halve.rows_adjoint(y), wide))
            .collect();
        let mut doubled = vec![vec![T::zero(); self.size[0] * self.size[1]]; channels];
        self.each(|i, places, weights| {
            for (seen, doubled) in seen.iter().zip(&mut doubled) {
                places.iter().zip(weights).for_each(|(p, w)| doubled[*p] += w * seen[i]);
            }
        });
        for (out, doubled) in image.chunks_exact_mut(one).zip(&doubled) {
            let rows = self.double[1].columns_adjoint(doubled, self.size[0]);
            out.copy_from_slice(&self.double[0].rows_adjoint(&rows));
        }
    }
}

/// The largest whole number that is not above v. `f64::floor` is a call where the oldest x86-64 is built for.
fn floor(v: f64) -> i64 {
    let towards_zero = v as i64;
    towards_zero - i64::from(towards_zero as f64 > v)
}

/// Index of the source's pixel for every pixel of the result.
fn sources(map: &Affine, side: usize) -> impl Iterator<Item = usize> {
    (0..side * side).map(move |i| {
        let [x, y] =
            map.at([(i % side) as f64, (i / side) as f64]).map(|v| reflected(v.round() as i64, side));
        y * side + x
    })
}

fn warp<T: WithDType>(warp: &Warp, image: &mut [T], (channels, side): (usize, usize), way: Way) {
    match (warp, way == Way::Adjoint) {
        (Warp::Resample(map), false) => Grid::new(map, side).forward(image, channels),
        (Warp::Resample(map), true) => Grid::new(map, side).adjoint(image, channels),
        (Warp::Blit(map), adjoint) => {
            for picture in image.chunks_exact_mut(side * side) {
                let old = picture.to_vec();
                if adjoint {
                    picture.fill(T::zero());
                    sources(map, side).zip(&old).for_each(|(from, v)| picture[from] += *v);
                } else {
                    sources(map, side).zip(picture).for_each(|(from, v)| *v = old[from]);
                }
            }
        }
    }
}

fn filter<T: WithDType>(taps: &[f64; BAND_TAPS], image: &mut [T], side: usize, way: Way) {
    let axis = Axis::filter(side, taps);
    for picture in image.chunks_exact_mut(side * side) {
        let out = match way {
            Way::Adjoint => axis.rows_adjoint(&axis.columns_adjoint(picture, side)),
            _ => axis.columns(&axis.rows(picture), side),
        };
        picture.copy_from_slice(&out);
    }
}

fn cut<T: WithDType>([columns, rows]: [[usize; 2]; 2], image: &mut [T], side: usize) {
    for row in image
        .chunks_exact_mut(side * side)
        .flat_map(|picture| picture[rows[0] * side..rows[1] * side].chunks_exact_mut(side))
    {
        row[columns[0]..columns[1]].fill(T::zero());
    }
}

impl Operator {
    pub fn new(samples: &[Sample], size: (&Strength, usize, usize)) -> Self {
        let (_, channels, side) = size;
        Self { channels, side, images: samples.iter().map(|s| Steps::new(s, size)).collect() }
    }

    pub fn is_identity(&self) -> bool {
        self.images.iter().all(Steps::is_identity)
    }

    fn one<T: WithDType>(&self, steps: &Steps, image: &mut [T], way: Way) {
        let size = (self.channels, self.side);
        if way == Way::Adjoint {
            if let Some(c) = steps.cutout {
                cut(c, image, self.side);
            }
            if let Some(taps) = &steps.filter {
                filter(taps, image, self.side, way);
            }
            if let Some(m) = &steps.colour {
                colour::apply(&colour::adjoint(m), image, self.channels, false);
            }
            if let Some(w) = &steps.warp {
                warp(w, image, size, way);
            }
            return;
        }
        if let Some(w) = &steps.warp {
            warp(w, image, size, way);
        }
        if let Some(m) = &steps.colour {
            colour::apply(m, image, self.channels, way == Way::Value);
        }
        if let Some(taps) = &steps.filter {
            filter(taps, image, self.side, way);
        }
        if let (Some(noise), Way::Value) = (steps.noise, way) {
            let mut rng = Rng::new(noise.seed, 0);
            image.iter_mut().for_each(|v| *v += T::from_f64(noise.sigma * f64::from(rng.normal())));
        }
        if let Some(c) = steps.cutout {
            cut(c, image, self.side);
        }
    }

    /// Each image in its own thread's time, so the numbers do not depend on how many threads there are.
    fn run<T: WithDType>(&self, x: &[T], way: Way) -> Vec<T> {
        let mut out = x.to_vec();
        let work = out.par_chunks_mut(self.channels * self.side * self.side).zip(&self.images);
        work.filter(|(_, steps)| !steps.is_identity()).for_each(|(image, steps)| self.one(steps, image, way));
        out
    }
}

/// The operator as part of a graph.
pub(super) struct Run {
    pub operator: Arc<Operator>,
    pub way: Way,
}

impl Run {
    fn on<T: WithDType>(&self, s: &CpuStorage, l: &Layout) -> Result<CpuStorage> {
        let Some((from, to)) = l.contiguous_offsets() else {
            bail!("augmentation: expected a contiguous tensor, found {l:?}")
        };
        let x = &T::cpu_storage_as_slice(s)?[from..to];
        Ok(T::to_cpu_storage_owned(self.operator.run(x, self.way)))
    }
}

impl CustomOp1 for Run {
    fn name(&self) -> &'static str {
        "stylegan2-augmentation"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = match s.dtype() {
            DType::F32 => self.on::<f32>(s, l)?,
            DType::F64 => self.on::<f64>(s, l)?,
            other => bail!("augmentation: expected f32 or f64, found {other:?}"),
        };
        Ok((out, l.shape().clone()))
    }

    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        let (out, shape) = self.cpu_fwd(&s.to_cpu_storage()?, l)?;
        Ok((s.device().storage_from_cpu_storage_owned(out)?, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let way = match self.way {
            Way::Value | Way::Linear => Way::Adjoint,
            Way::Adjoint => Way::Linear,
        };
        seen(g).contiguous()?.apply_op1(Self { operator: Arc::clone(&self.operator), way }).map(Some)
    }
}

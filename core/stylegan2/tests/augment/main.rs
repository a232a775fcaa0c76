//! Augmentation against index arithmetic, closed forms, direct sums in f64 and the distributions of the paper (Karras et
//! al. 2020, arXiv 2006.06676, appendix B).

mod derivatives;
mod drawn;
mod geometry;
mod pipeline;
mod pixels;

use candle_core::{DType, Device, Tensor};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Augment, Params, Pipeline, Preset, Sample};

/// Everything, for images of `channels` and `side`.
fn augment(channels: usize, side: usize) -> Augment {
    Augment::new(&Pipeline::from(Preset::Bgcfnc), channels, side).unwrap()
}

/// Normal numbers in f64.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let values = Rng::new(seed, 0).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// One image, transformed.
fn one(x: &Tensor, sample: &Sample) -> Tensor {
    let (_, c, side, _) = x.dims4().unwrap();
    augment(c, side).apply(x, &Params { samples: vec![sample.clone()] }).unwrap()
}

/// An image from a function of channel, row and column.
fn image(c: usize, side: usize, f: impl Fn(usize, i64, i64) -> f64) -> Tensor {
    let place = |i: usize| (i / (side * side), (i / side % side) as i64, (i % side) as i64);
    let values: Vec<f64> = (0..c * side * side).map(place).map(|(c, y, x)| f(c, y, x)).collect();
    Tensor::from_vec(values, (1, c, side, side), &Device::Cpu).unwrap()
}

/// Largest difference.
#[track_caller]
fn worst(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    flat(a).iter().zip(flat(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

//! What a feature network should answer, in float64: preprocessing by its definition, the network by the
//! [interpreter](crate::reference), gradients by central differences.

use crate::reference::{Interpreter, tensor::Tensor as Exact};
use shiftlens_api::resize::Filter;
use shiftlens_onnx::proto::ModelProto;

/// Error of order STEP^2 from the third derivative, 1e-16 / STEP from rounding.
const STEP: f64 = 1e-4;

/// A network with its preprocessing.
pub struct Oracle<'a> {
    pub model: &'a ModelProto,
    /// Channels and size of the network's input; its axis order.
    pub channels: usize,
    pub size: (usize, usize),
    pub nhwc: bool,
    pub scale: f64,
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
    pub filter: Filter,
    pub layers: Vec<String>,
    /// Answer the mean over the places of each channel.
    pub averaged: bool,
}

/// A pixel at `(y, x)` of the resampled plane, by the filter's definition, both axes at once.
fn resampled(
    plane: &[f64],
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    at: (usize, usize),
    filter: Filter,
) -> f64 {
    let weights = |o: usize, from: usize, to: usize| -> Vec<f64> {
        let ratio = from as f64 / to as f64;
        let centre = (o as f64 + 0.5) * ratio;
        let width = if filter == Filter::Bilinear { ratio.max(1.0) } else { 1.0 };
        let raw: Vec<f64> =
            (0..from).map(|i| (1.0 - (i as f64 + 0.5 - centre).abs() / width).max(0.0)).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|v| v / sum).collect()
    };
    let (wy, wx) = (weights(at.0, h, oh), weights(at.1, w, ow));
    let row = |y: usize| -> f64 { (0..w).map(|x| wx[x] * plane[y * w + x]).sum() };
    (0..h).filter(|y| wy[*y] > 0.0).map(|y| wy[y] * row(y)).sum()
}

impl Oracle<'_> {
    /// The network's input for images `[n, c, h, w]`.
    fn prepare(&self, x: &[f64], shape: &[usize]) -> Exact {
        let (n, c, h, w) = (shape[0], shape[1], shape[2], shape[3]);
        let (oh, ow) = self.size;
        let pixel = |i: usize, k: usize, y: usize, z: usize| {
            let plane = |k: usize| {
                let plane = &x[(i * c + k) * h * w..(i * c + k + 1) * h * w];
                resampled(plane, (h, w), (oh, ow), (y, z), self.filter)
            };
            let v = match (c, self.channels) {
                (1, 3) => plane(0),
                (3, 1) => 0.299 * plane(0) + 0.587 * plane(1) + 0.114 * plane(2),
                _ => plane(k),
            };
            (v * self.scale - self.mean[k % self.mean.len()]) / self.std[k % self.std.len()]
        };
        let kind = crate::reference::tensor::Kind::Float;
        if self.nhwc {
            Exact::fill(kind, &[n, oh, ow, self.channels], |i| pixel(i[0], i[3], i[1], i[2]))
        } else {
            Exact::fill(kind, &[n, self.channels, oh, ow], |i| pixel(i[0], i[1], i[2], i[3]))
        }
    }

    /// The layers of images `[n, c, h, w]`.
    pub fn features(&self, x: &[f64], shape: &[usize]) -> Vec<Exact> {
        let exact = Interpreter::new(self.model).unwrap();
        let input = self.prepare(x, shape);
        let answers = self.layers.iter().map(|l| exact.run(&[("x", &input)], l).unwrap());
        answers.map(|a| if self.averaged { average(&a) } else { a }).collect()
    }

    /// The gradient of `sum_k <features_k(x), cotangents_k>`, image by image: they do not mix.
    pub fn pullback(&self, x: &[f64], shape: &[usize], cotangents: &[&[f32]]) -> Vec<f64> {
        let len: usize = shape[1..].iter().product();
        let one = [1, shape[1], shape[2], shape[3]];
        let mut gradient = Vec::with_capacity(x.len());
        for i in 0..shape[0] {
            let mut image = x[i * len..(i + 1) * len].to_vec();
            let score = |image: &[f64]| -> f64 {
                let parts = self.features(image, &one);
                let product = |(f, c): (&Exact, &&[f32])| -> f64 {
                    let own = &c[i * f.data.len()..(i + 1) * f.data.len()];
                    f.data.iter().zip(own).map(|(a, b)| a * f64::from(*b)).sum()
                };
                parts.iter().zip(cotangents).map(product).sum()
            };
            for p in 0..len {
                let v = image[p];
                image[p] = v + STEP;
                let above = score(&image);
                image[p] = v - STEP;
                let below = score(&image);
                image[p] = v;
                gradient.push((above - below) / (2.0 * STEP));
            }
        }
        gradient
    }
}

fn average(map: &Exact) -> Exact {
    let places = map.shape[2] * map.shape[3];
    let means = map.data.chunks_exact(places).map(|p| p.iter().sum::<f64>() / places as f64).collect();
    Exact::floats(&map.shape[..2], means)
}

//! Pooling.

use super::conv::Windows;
use super::tensor::{Kind, R, Tensor, each};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    let p = op.int("p", 2) as i32;
    match op.node.op() {
        "MaxPool" => one(pool(op, |taps, _| taps.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v)))),
        "AveragePool" => {
            let padding = op.int("count_include_pad", 0) == 1;
            one(pool(op, |taps, padded| {
                taps.iter().sum::<f64>() / if padding { padded } else { taps.len() } as f64
            }))
        }
        "LpPool" => one(pool(op, |taps, _| norm(taps.iter().copied(), p))),
        "GlobalAveragePool" => one(global(op, |v| v.iter().sum::<f64>() / v.len() as f64)),
        "GlobalMaxPool" => one(global(op, |v| v.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v)))),
        "GlobalLpPool" => one(global(op, |v| norm(v.iter().copied(), p))),
        _ => None,
    }
}

fn norm(values: impl Iterator<Item = f64>, p: i32) -> f64 {
    values.map(|v| v.abs().powi(p)).sum::<f64>().powf(1.0 / f64::from(p))
}

/// `f` answers a window's value from its pixels and the number of its taps that lie on the image or its declared padding.
fn pool(op: &Op<'_>, f: impl Fn(&[f64], usize) -> f64) -> R<Tensor> {
    let x = op.x(0)?;
    let kernel: Vec<usize> =
        op.ints("kernel_shape").ok_or("no kernel_shape")?.iter().map(|v| *v as usize).collect();
    let image = &x.shape[2..];
    let w = Windows::read(op, &kernel, image)?;
    let shape = [&x.shape[..2], &w.count[..]].concat();
    let mut taps = Vec::new();
    Ok(Tensor::fill(Kind::Float, &shape, |i| {
        taps.clear();
        let mut padded = 0;
        each(&kernel, |k| {
            if let Some(p) = w.pixel(&i[2..], k, image) {
                taps.push(x.at(&[&i[..2], &p[..]].concat()));
            }
            let inside =
                |a: usize| i[a + 2] * w.strides[a] + k[a] * w.dilations[a] < w.begin[a] + image[a] + w.end[a];
            padded += usize::from((0..kernel.len()).all(inside));
        });
        f(&taps, padded)
    }))
}

fn global(op: &Op<'_>, f: impl Fn(&[f64]) -> f64) -> R<Tensor> {
    let x = op.x(0)?;
    let mut shape = x.shape.clone();
    shape[2..].fill(1);
    let size: usize = x.shape[2..].iter().product();
    Ok(Tensor::floats(&shape, x.data.chunks_exact(size).map(f).collect()))
}

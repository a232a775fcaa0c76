//! Normalisations.

use super::tensor::{Kind, R, Tensor, axis};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "BatchNormalization" => one(batch(op)),
        "InstanceNormalization" => one(instance(op)),
        "LayerNormalization" => one(layer(op)),
        "RMSNormalization" => one(root_mean_square(op)),
        "GroupNormalization" => one(group(op)),
        "LRN" => one(local_response(op)),
        "LpNormalization" => one(lp(op)),
        "MeanVarianceNormalization" => one(mean_variance(op)),
        _ => None,
    }
}

/// Mean and (biased) variance of each block of `size` neighbouring values.
fn moments(x: &Tensor, size: usize) -> Vec<(f64, f64)> {
    let of = |block: &[f64]| {
        let mean = block.iter().sum::<f64>() / size as f64;
        (mean, block.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / size as f64)
    };
    x.data.chunks_exact(size).map(of).collect()
}

fn batch(op: &Op<'_>) -> R<Tensor> {
    if op.int("training_mode", 0) == 1 {
        return Err("training mode".into());
    }
    let (x, [scale, bias, mean, variance]) = (op.x(0)?, [op.x(1)?, op.x(2)?, op.x(3)?, op.x(4)?]);
    let epsilon = op.float("epsilon", 1e-5);
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let c = i[1];
        (x.at(i) - mean.data[c]) / (variance.data[c] + epsilon).sqrt() * scale.data[c] + bias.data[c]
    }))
}

fn instance(op: &Op<'_>) -> R<Tensor> {
    let (x, scale, bias) = (op.x(0)?, op.x(1)?, op.x(2)?);
    let epsilon = op.float("epsilon", 1e-5);
    let m = moments(x, x.shape[2..].iter().product());
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let (mean, variance) = m[i[0] * x.shape[1] + i[1]];
        (x.at(i) - mean) / (variance + epsilon).sqrt() * scale.data[i[1]] + bias.data[i[1]]
    }))
}

/// Over all axes from `axis` on; scale and bias are broadcast. The further outputs are the mean and `1/sqrt(var + eps)`,
/// which no classifier uses.
fn layer(op: &Op<'_>) -> R<Tensor> {
    let (x, scale) = (op.x(0)?, op.x(1)?);
    let a = axis(op.int("axis", -1), x.rank())?;
    let epsilon = op.float("epsilon", 1e-5);
    let size: usize = x.shape[a..].iter().product();
    let m = moments(x, size);
    let mut at = 0;
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let (mean, variance) = m[at / size];
        at += 1;
        let bias = op.opt(2).map_or(0.0, |b| b.broadcast_at(i));
        (x.at(i) - mean) / (variance + epsilon).sqrt() * scale.broadcast_at(i) + bias
    }))
}

fn root_mean_square(op: &Op<'_>) -> R<Tensor> {
    let (x, scale) = (op.x(0)?, op.x(1)?);
    let a = axis(op.int("axis", -1), x.rank())?;
    let epsilon = op.float("epsilon", 1e-5);
    let size: usize = x.shape[a..].iter().product();
    let squares = |b: &[f64]| b.iter().map(|v| v * v).sum::<f64>() / size as f64;
    let m: Vec<f64> = x.data.chunks_exact(size).map(squares).collect();
    let mut at = 0;
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        at += 1;
        x.at(i) / (m[(at - 1) / size] + epsilon).sqrt() * scale.broadcast_at(i)
    }))
}

/// Scale and bias have one entry per group in operator sets 18 to 20, one per channel from 21 on.
fn group(op: &Op<'_>) -> R<Tensor> {
    let (x, scale, bias) = (op.x(0)?, op.x(1)?, op.x(2)?);
    let groups = op.node.attr("num_groups").and_then(|a| a.i).ok_or("no num_groups")? as usize;
    let epsilon = op.float("epsilon", 1e-5);
    let per_group = x.shape[1] / groups;
    let entries = if op.opset < 21 { groups } else { x.shape[1] };
    if scale.data.len() != entries || bias.data.len() != entries {
        return Err(format!("{} scales, expected {entries}", scale.data.len()));
    }
    let m = moments(x, per_group * x.shape[2..].iter().product::<usize>());
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let (mean, variance) = m[i[0] * groups + i[1] / per_group];
        let entry = if op.opset < 21 { i[1] / per_group } else { i[1] };
        (x.at(i) - mean) / (variance + epsilon).sqrt() * scale.data[entry] + bias.data[entry]
    }))
}

/// `x / (bias + alpha / size * sum of squares over neighbouring channels)^beta`.
fn local_response(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let size = op.node.attr("size").and_then(|a| a.i).ok_or("no size")? as usize;
    let (alpha, beta, bias) = (op.float("alpha", 1e-4), op.float("beta", 0.75), op.float("bias", 1.0));
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let low = i[1].saturating_sub((size - 1) / 2);
        let high = (i[1] + size / 2).min(x.shape[1] - 1);
        let square = |c: usize| {
            let mut at = i.to_vec();
            at[1] = c;
            x.at(&at).powi(2)
        };
        let sum: f64 = (low..=high).map(square).sum();
        x.at(i) / (bias + alpha / size as f64 * sum).powf(beta)
    }))
}

fn lp(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let a = axis(op.int("axis", -1), x.rank())?;
    let p = op.int("p", 2) as i32;
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let along = |k: usize| {
            let mut at = i.to_vec();
            at[a] = k;
            x.at(&at).abs().powi(p)
        };
        x.at(i) / (0..x.shape[a]).map(along).sum::<f64>().powf(1.0 / f64::from(p))
    }))
}

fn mean_variance(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let axes = op.axes(1, x.rank())?.unwrap_or(vec![0, 2, 3]);
    let mean = |t: &Tensor| super::reduce::over(t, &axes, true, |v| v.iter().sum::<f64>() / v.len() as f64);
    let (m, s) = (mean(x), mean(&x.map(|v| v * v)));
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let m = m.broadcast_at(i);
        // The specification divides by the deviation plus 1e-9.
        (x.at(i) - m) / ((s.broadcast_at(i) - m * m).sqrt() + 1e-9)
    }))
}

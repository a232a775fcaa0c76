//! Quantisation.

use super::tensor::{Kind, R, Tensor, axis};
use super::{Answer, Op, one};
use shiftlens_onnx::proto::data_type;

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "QuantizeLinear" => one(quantize(op)),
        "DequantizeLinear" => one(dequantize(op)),
        _ => None,
    }
}

/// The entry of a per-tensor (scalar) or per-axis (vector) parameter.
fn entry(t: &Tensor, a: usize, i: &[usize]) -> f64 {
    if t.data.len() == 1 { t.data[0] } else { t.data[i[a]] }
}

fn parameters(op: &Op<'_>) -> R<usize> {
    let (x, scale) = (op.x(0)?, op.x(1)?);
    match scale.rank() {
        0 => Ok(0),
        1 => axis(op.int("axis", 1), x.rank()).or(Ok(0)),
        _ => Err("blocked quantisation".into()),
    }
}

/// `saturate(round(x / scale) + zero point)`, halves to even. The output has the zero point's type, else that of
/// `output_dtype`, else it is an unsigned byte.
fn quantize(op: &Op<'_>) -> R<Tensor> {
    let (x, scale, zero) = (op.x(0)?, op.x(1)?, op.opt(2));
    let a = parameters(op)?;
    let kind = match (zero.map(|z| z.kind), op.int("output_dtype", 0) as i32) {
        (Some(kind), _) => kind,
        (None, data_type::INT8) => Kind::Int8,
        (None, 0 | data_type::UINT8) => Kind::Uint8,
        (None, other) => return Err(format!("output_dtype {other}")),
    };
    let (low, high) = match kind {
        Kind::Int8 => (-128.0, 127.0),
        Kind::Uint8 => (0.0, 255.0),
        other => return Err(format!("zero point of kind {other:?}")),
    };
    Ok(Tensor::fill(kind, &x.shape, |i| {
        let (v, zero) = (x.at(i) / entry(scale, a, i), zero.map_or(0.0, |z| entry(z, a, i)));
        if op.straight_through {
            // What rounds to the last integer has not saturated yet.
            (v + zero).clamp(low - 0.5, high + 0.5)
        } else {
            (v.round_ties_even() + zero).clamp(low, high)
        }
    }))
}

fn dequantize(op: &Op<'_>) -> R<Tensor> {
    let (x, scale, zero) = (op.x(0)?, op.x(1)?, op.opt(2));
    let a = parameters(op)?;
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        (x.at(i) - zero.map_or(0.0, |z| entry(z, a, i))) * entry(scale, a, i)
    }))
}

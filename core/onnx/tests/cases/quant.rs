//! Quantisation: a gradient passes it straight through where it does not saturate.

use super::Family;
use super::net::{Net, attr_int};
use shiftlens_onnx::proto::data_type;

pub const FAMILIES: &[Family] = &[
    Family { operator: "QuantizeLinear", opsets: &[10, 13, 19, 21], count: 6, make: round_trip },
    Family { operator: "DequantizeLinear", opsets: &[10, 13, 19, 21], count: 6, make: dequantized_weights },
];

fn bytes(n: &mut Net, signed: bool, count: usize) -> Vec<u8> {
    (0..count).map(|_| if signed { n.int(-40, 40) as i8 as u8 } else { n.int(90, 160) as u8 }).collect()
}

/// Scale and zero point of the whole tensor, or of each entry of axis 1.
fn parameters(n: &mut Net, dims: &[usize]) -> (String, String, bool) {
    let signed = n.coin();
    let per_axis = n.opset >= 13 && n.coin();
    let shape = if per_axis { vec![dims[0]] } else { vec![] };
    let scale = n.random(&shape, 0.01, 0.02);
    let count = shape.iter().product();
    let raw = bytes(n, signed, count);
    let kind = if signed { data_type::INT8 } else { data_type::UINT8 };
    let zero = n.tensor("zero", kind, &shape, raw);
    n.note(format!("signed {signed} per axis {per_axis}"));
    (scale, zero, per_axis)
}

/// Quantised and back; the input reaches beyond both ends of the bytes' range, so that some values saturate.
fn round_trip(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(3, 5)];
    let a = n.input(&dims, -3.0, 3.0);
    let (scale, zero, per_axis) = parameters(n, &dims);
    let given = |n: &mut Net| if per_axis && n.coin() { vec![attr_int("axis", 1)] } else { vec![] };
    let first = given(n);
    let q = n.op("QuantizeLinear", &format!("{a} {scale} {zero}"), first);
    let second = given(n);
    // The integers may be read with another scale than they were written with.
    let scale = if n.int(0, 2) == 0 {
        n.note("two scales");
        let shape = if per_axis { vec![dims[0]] } else { vec![] };
        n.random(&shape, 0.02, 0.05)
    } else {
        scale
    };
    n.node("DequantizeLinear", &format!("{q} {scale} {zero}"), "y", second);
}

/// Weights stored as bytes, as a quantised network holds them: a convolution of one tap. (With MatMul, ONNX Runtime would
/// quantise the other factor too, and answer three digits.)
fn dequantized_weights(n: &mut Net) {
    let (c, k, w) = (n.size(2, 4), n.size(1, 4), n.size(1, 3));
    let a = n.input(&[c, w], -2.0, 2.0);
    let raw = bytes(n, true, c * k);
    let stored = n.tensor("stored", data_type::INT8, &[k, c, 1], raw);
    let per_axis = n.opset >= 13 && n.coin();
    let shape = if per_axis { vec![k] } else { vec![] };
    let scale = n.random(&shape, 0.01, 0.02);
    let zeros = vec![0; shape.iter().product()];
    let zero = if n.coin() { n.tensor("zero", data_type::INT8, &shape, zeros) } else { String::new() };
    n.note(format!("per axis {per_axis}"));
    let given = if per_axis { vec![attr_int("axis", 0)] } else { vec![] };
    let weights = n.op("DequantizeLinear", &format!("{stored} {scale} {zero}"), given);
    n.node("Conv", &format!("{a} {weights}"), "y", vec![]);
}

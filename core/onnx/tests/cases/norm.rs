//! Normalisations.

use super::Family;
use super::net::{Net, attr_float, attr_int, attr_ints};

pub const FAMILIES: &[Family] = &[
    Family { operator: "BatchNormalization", opsets: &[9, 14, 15], count: 5, make: batch },
    Family { operator: "InstanceNormalization", opsets: &[9, 22], count: 6, make: instance },
    Family { operator: "LayerNormalization", opsets: &[17], count: 12, make: layer },
    Family { operator: "RMSNormalization", opsets: &[23], count: 8, make: root_mean_square },
    Family { operator: "GroupNormalization", opsets: &[18, 21], count: 8, make: group },
    Family { operator: "LRN", opsets: &[9, 13], count: 6, make: local_response },
    Family { operator: "LpNormalization", opsets: &[9, 22], count: 8, make: lp },
    Family { operator: "MeanVarianceNormalization", opsets: &[13], count: 6, make: mean_variance },
];

/// Often left out: then the default, 1e-5, is tried.
fn epsilon(n: &mut Net) -> Vec<shiftlens_onnx::proto::AttributeProto> {
    if n.coin() { vec![] } else { vec![attr_float("epsilon", 0.05)] }
}

/// Channels and 0 to 3 further axes with at least three values in all.
fn maps(n: &mut Net, spatial: usize) -> Vec<usize> {
    let channels = n.size(1, 3);
    let size: Vec<usize> = (0..spatial).map(|_| n.size(if spatial == 1 { 3 } else { 2 }, 3)).collect();
    [&[channels], &size[..]].concat()
}

fn batch(n: &mut Net) {
    let spatial = n.size(0, 3);
    let dims = maps(n, spatial);
    let a = n.input(&dims, -2.0, 2.0);
    let c = [dims[0]];
    let (scale, bias, mean, variance) = (n.weights(&c), n.weights(&c), n.weights(&c), n.random(&c, 0.2, 2.0));
    let given = epsilon(n);
    n.node("BatchNormalization", &format!("{a} {scale} {bias} {mean} {variance}"), "y", given);
}

fn instance(n: &mut Net) {
    let spatial = n.size(1, 3);
    let dims = maps(n, spatial);
    let a = n.input(&dims, -2.0, 2.0);
    let c = [dims[0]];
    let (scale, bias) = (n.weights(&c), n.weights(&c));
    let given = epsilon(n);
    n.node("InstanceNormalization", &format!("{a} {scale} {bias}"), "y", given);
}

/// Over the last axes; scale and bias constant or computed from the input.
fn layer(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(1, 3), n.size(3, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.int(1, 3);
    let tail = &dims[axis as usize - 1..];
    let scale = n.random(tail, 0.5, 1.5);
    let bias = if n.coin() { n.weights(tail) } else { String::new() };
    let mut given = epsilon(n);
    if axis != 3 || n.coin() {
        given.push(attr_int("axis", if n.coin() { axis } else { axis - 4 }));
    }
    n.note(format!("axis {axis}, bias {}", !bias.is_empty()));
    n.node("LayerNormalization", &format!("{a} {scale} {bias}"), "y", given);
}

fn root_mean_square(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(1, 3), n.size(3, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.int(1, 3);
    let scale = n.random(&dims[axis as usize - 1..], 0.5, 1.5);
    let mut given = epsilon(n);
    given.push(attr_int("axis", axis));
    n.note(format!("axis {axis}"));
    n.node("RMSNormalization", &format!("{a} {scale}"), "y", given);
}

fn group(n: &mut Net) {
    let groups = n.size(1, 3);
    let per_group = n.size(1, 2);
    let dims = [groups * per_group, n.size(2, 3), n.size(1, 2)];
    let a = n.input(&dims, -2.0, 2.0);
    let entries = [if n.opset < 21 { groups } else { dims[0] }];
    let (scale, bias) = (n.weights(&entries), n.weights(&entries));
    let mut given = epsilon(n);
    given.push(attr_int("num_groups", groups as i64));
    n.note(format!("{groups} groups"));
    n.node("GroupNormalization", &format!("{a} {scale} {bias}"), "y", given);
}

fn local_response(n: &mut Net) {
    let dims = [n.size(2, 5), n.size(1, 2), n.size(1, 3)];
    let a = n.input(&dims, -2.0, 2.0);
    // ONNX Runtime takes odd sizes only.
    let size = n.pick(&[1, 3, 5]);
    let mut given = vec![attr_int("size", size)];
    if n.coin() {
        // The defaults hardly move anything; these do.
        given.extend([attr_float("alpha", 0.9), attr_float("beta", 0.6), attr_float("bias", 1.5)]);
    }
    n.note(format!("size {size}"));
    n.node("LRN", a, "y", given);
}

fn lp(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, 0.3, 2.0);
    let shift = if n.coin() { 0.0 } else { -2.5 };
    let shift = n.scalar(shift);
    let b = n.op("Add", &format!("{a} {shift}"), vec![]);
    let (p, axis) = (n.int(1, 2), n.int(1, rank as i64));
    let mut given = vec![attr_int("axis", if n.coin() { axis } else { axis - rank as i64 - 1 })];
    if p == 1 || n.coin() {
        given.push(attr_int("p", p));
    }
    n.note(format!("p {p} axis {axis}"));
    n.node("LpNormalization", &b, "y", given);
}

fn mean_variance(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(2, 3), n.size(2, 3)];
    let a = n.input(&dims, -2.0, 2.0);
    n.node("MeanVarianceNormalization", a, "y", vec![attr_ints("axes", &[2, 3])]);
}

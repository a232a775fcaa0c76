//! Convolutions and matrix products.

use super::Family;
use super::net::{Net, attr_float, attr_int, attr_ints, attr_word};

pub const FAMILIES: &[Family] = &[
    Family { operator: "Conv", opsets: &[11, 22], count: 16, make: conv },
    Family { operator: "ConvTranspose", opsets: &[11, 22], count: 14, make: conv_transpose },
    Family { operator: "Gemm", opsets: &[9, 11, 13], count: 8, make: gemm },
    Family { operator: "MatMul", opsets: &[9, 13], count: 14, make: matmul },
    Family { operator: "Einsum", opsets: &[12], count: 14, make: einsum },
    Family { operator: "Softmax", opsets: &[9, 11, 13], count: 8, make: |n| softmax(n, "Softmax") },
    Family { operator: "LogSoftmax", opsets: &[9, 11, 13], count: 8, make: |n| softmax(n, "LogSoftmax") },
];

/// Sizes of `spatial` axes, the more axes the smaller.
fn image(n: &mut Net, spatial: usize) -> Vec<usize> {
    let largest = [9, 5, 3][spatial - 1];
    (0..spatial).map(|_| n.size(if spatial == 3 { 2 } else { 3 }, largest)).collect()
}

fn conv(n: &mut Net) {
    let spatial = n.pick(&[1, 2, 2, 2, 3]);
    let groups = n.pick(&[1, 1, 2, 3]);
    let (per_group, per_group_out) = (n.size(1, 2), n.size(1, 2));
    let channels = groups * per_group;
    let size = image(n, spatial);
    let a = n.input(&[&[channels], &size[..]].concat(), -2.0, 2.0);
    let kernel: Vec<usize> = (0..spatial).map(|_| n.size(1, 3)).collect();
    let strides: Vec<i64> = (0..spatial).map(|_| n.int(1, 3)).collect();
    let mut dilations: Vec<i64> = (0..spatial).map(|_| n.int(1, 2)).collect();
    let mut given = vec![attr_ints("strides", &strides)];
    let auto = n.pick(&["", "", "SAME_UPPER", "SAME_LOWER", "VALID"]);
    let mut pads = vec![0; 2 * spatial];
    if auto.is_empty() {
        pads.iter_mut().for_each(|p| *p = n.int(0, 2));
    } else {
        // With the SAME modes, ONNX Runtime takes dilation 1 only.
        dilations.fill(1);
        given.push(attr_word("auto_pad", auto));
    }
    for s in 0..spatial {
        let extent = (kernel[s] as i64 - 1) * dilations[s] + 1;
        if auto.is_empty() && extent > size[s] as i64 + pads[s] + pads[s + spatial] {
            pads[s] += extent;
        }
    }
    if auto.is_empty() && n.coin() {
        given.push(attr_ints("pads", &pads));
    } else {
        for s in 0..spatial {
            if (kernel[s] as i64 - 1) * dilations[s] + 1 > size[s] as i64 {
                dilations[s] = 1;
            }
        }
    }
    if dilations.iter().any(|d| *d != 1) {
        given.push(attr_ints("dilations", &dilations));
    }
    if groups != 1 {
        given.push(attr_int("group", groups as i64));
    }
    if n.coin() {
        given.push(attr_ints("kernel_shape", &kernel.iter().map(|k| *k as i64).collect::<Vec<_>>()));
    }
    n.note(format!(
        "kernel {kernel:?} strides {strides:?} dilations {dilations:?} pads {pads:?} {auto} groups {groups}"
    ));
    let filters = [&[groups * per_group_out, per_group], &kernel[..]].concat();
    let w = n.weights(&filters);
    let bias = if n.coin() { n.weights(&[filters[0]]) } else { String::new() };
    n.node("Conv", &format!("{a} {w} {bias}"), "y", given);
}

fn conv_transpose(n: &mut Net) {
    let spatial = n.pick(&[1, 2, 2, 2, 3]);
    let groups = n.pick(&[1, 1, 2]);
    let (per_group, per_group_out) = (n.size(1, 2), n.size(1, 2));
    let size: Vec<usize> = (0..spatial).map(|_| n.size(2, if spatial == 3 { 2 } else { 3 })).collect();
    let a = n.input(&[&[groups * per_group], &size[..]].concat(), -2.0, 2.0);
    let kernel: Vec<usize> = (0..spatial).map(|_| n.size(1, 4)).collect();
    let strides: Vec<i64> = (0..spatial).map(|_| n.int(1, 3)).collect();
    let dilations: Vec<i64> = (0..spatial).map(|_| n.pick(&[1, 1, 2])).collect();
    let reach = |s: usize| (kernel[s] as i64 - 1) * dilations[s];
    let mut given = vec![attr_ints("strides", &strides), attr_ints("dilations", &dilations)];
    if groups != 1 {
        given.push(attr_int("group", groups as i64));
    }
    let mut pads = vec![0; 2 * spatial];
    for s in 0..spatial {
        pads[s] = n.int(0, reach(s).min(1));
        pads[s + spatial] = n.int(0, reach(s).min(2) - pads[s].min(reach(s).min(2)));
    }
    given.push(attr_ints("pads", &pads));
    let extra: Vec<i64> = (0..spatial).map(|s| n.int(0, strides[s] - 1)).collect();
    if n.coin() {
        given.push(attr_ints("output_padding", &extra));
    }
    n.note(format!("kernel {kernel:?} strides {strides:?} dilations {dilations:?} pads {pads:?} extra {extra:?} groups {groups}"));
    let w = n.weights(&[&[groups * per_group, per_group_out], &kernel[..]].concat());
    let bias = if n.coin() { n.weights(&[groups * per_group_out]) } else { String::new() };
    n.node("ConvTranspose", &format!("{a} {w} {bias}"), "y", given);
}

/// The input as the first factor, or as the second (transposed twice so that the batch stays in front), or as C.
fn gemm(n: &mut Net) {
    let (k, m) = (n.size(2, 8), n.size(1, 5));
    let a = n.input(&[k], -2.0, 2.0);
    let mut given = Vec::new();
    if n.coin() {
        let (alpha, beta) = (n.uniform(-2.0, 2.0), n.uniform(-2.0, 2.0));
        given.extend([attr_float("alpha", alpha), attr_float("beta", beta)]);
    }
    let place = n.int(0, 3);
    n.note(format!("input as operand {place}"));
    match place {
        0 | 1 => {
            let turn = n.coin();
            let w = if turn { n.weights(&[m, k]) } else { n.weights(&[k, m]) };
            let shape = n.pick(&[vec![], vec![m], vec![1, m], vec![1]]);
            let c = if n.coin() || n.opset < 11 { n.weights(&shape) } else { String::new() };
            let a = if place == 1 {
                given.push(attr_int("transA", 1));
                n.op("Transpose", a, vec![])
            } else {
                a.to_owned()
            };
            if turn || n.coin() {
                given.push(attr_int("transB", i64::from(turn)));
            }
            n.node("Gemm", &format!("{a} {w} {c}"), "y", given);
        }
        2 => {
            // W a^T, of shape [m, N].
            let w = n.weights(&[m, k]);
            let zero = n.scalar(0.0);
            given.push(attr_int("transB", 1));
            let y = n.op("Gemm", &format!("{w} {a} {zero}"), given);
            n.node("Transpose", &y, "y", vec![]);
        }
        _ => {
            // Computed in both the product and C.
            let (v, w) = (n.weights(&[k, m]), n.weights(&[k, m]));
            let c = n.op("MatMul", &format!("{a} {v}"), vec![]);
            let c = n.op("Sin", &c, vec![]);
            n.node("Gemm", &format!("{a} {w} {c}"), "y", given);
        }
    }
}

fn matmul(n: &mut Net) {
    let kind = n.int(0, 6);
    n.note(format!("kind {kind}"));
    let (c, h, w, k) = (n.size(1, 3), n.size(1, 3), n.size(2, 4), n.size(1, 3));
    match kind {
        0 => {
            let a = n.input(&[w], -2.0, 2.0);
            let m = n.weights(&[w, k]);
            n.node("MatMul", &format!("{a} {m}"), "y", vec![]);
        }
        1 => {
            let a = n.input(&[c, h, w], -2.0, 2.0);
            let shape = n.pick(&[vec![w, k], vec![c, w, k], vec![1, 1, w, k], vec![1, c, w, k]]);
            let m = n.weights(&shape);
            n.node("MatMul", &format!("{a} {m}"), "y", vec![]);
        }
        2 => {
            // A constant on the left.
            let a = n.input(&[c, h, w], -2.0, 2.0);
            let shape = n.pick(&[vec![k, h], vec![c, k, h], vec![1, c, k, h]]);
            let m = n.weights(&shape);
            n.node("MatMul", &format!("{m} {a}"), "y", vec![]);
        }
        3 => {
            // A vector on the right.
            let a = n.input(&[h, w], -2.0, 2.0);
            let v = n.weights(&[w]);
            n.node("MatMul", &format!("{a} {v}"), "y", vec![]);
        }
        4 => {
            // A vector on the left.
            let a = n.input(&[h, w], -2.0, 2.0);
            let v = n.weights(&[h]);
            n.node("MatMul", &format!("{v} {a}"), "y", vec![]);
        }
        5 => {
            // Both factors from the input, as in attention.
            let a = n.input(&[c, h, w], -2.0, 2.0);
            let s = n.smooth(a);
            let t = n.op("Transpose", &s, vec![attr_ints("perm", &[0, 1, 3, 2])]);
            n.node("MatMul", &format!("{a} {t}"), "y", vec![]);
        }
        _ => {
            // Both from the input, one broadcast along the channels.
            let a = n.input(&[c, h, w], -2.0, 2.0);
            let m = n.mean(a, &[1]);
            let s = n.smooth(&m);
            let t = n.op("Transpose", &s, vec![attr_ints("perm", &[0, 1, 3, 2])]);
            let operands = if n.coin() { format!("{a} {t}") } else { format!("{t} {a}") };
            n.node("MatMul", &operands, "y", vec![]);
        }
    }
}

/// Products as attention layers write them, an outer product, sums over an axis, a repeated operand, an ellipsis.
fn einsum(n: &mut Net) {
    let (c, h, w, k) = (n.size(1, 3), n.size(2, 3), n.size(2, 4), n.size(1, 3));
    let a = n.input(&[c, h, w], -2.0, 2.0);
    let (equation, operands) = match n.int(0, 8) {
        0 => ("nchw,wk->nchk", format!("{a} {}", n.weights(&[w, k]))),
        1 => ("kc,nchw->nkhw", format!("{} {a}", n.weights(&[k, c]))),
        2 => ("nchw,ncjw->nchj", format!("{a} {}", n.smooth(a))),
        3 => ("nchw->nhc", a.to_owned()),
        4 => ("nchw,c,h->nw", format!("{a} {} {}", n.weights(&[c]), n.weights(&[h]))),
        5 => ("...w,wk->...k", format!("{a} {}", n.weights(&[w, k]))),
        6 => ("nchw,nchw->nc", format!("{a} {a}")),
        7 => ("nchw , hj -> njwc", format!("{a} {}", n.weights(&[h, k]))),
        _ => ("nchw,nkjw->nchkj", format!("{a} {}", n.smooth(a))),
    };
    n.note(equation);
    n.node("Einsum", &operands, "y", vec![attr_word("equation", equation)]);
}

/// Every axis but the batch, counted from both ends; below 13 all from the axis on are one distribution.
fn softmax(n: &mut Net, op: &str) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -3.0, 3.0);
    let axis = n.int(1, rank as i64);
    let axis = if n.coin() && n.opset >= 11 { axis - rank as i64 - 1 } else { axis };
    n.note(format!("axis {axis}"));
    let given = if n.int(0, 3) == 0 { vec![] } else { vec![attr_int("axis", axis)] };
    n.node(op, a, "y", given);
}

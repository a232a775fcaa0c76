//! Operators that move values.

use super::Family;
use super::net::{Net, attr_float, attr_int, attr_ints, attr_tensor, attr_word};
use shiftlens_onnx::proto::{TensorProto, data_type};

pub const FAMILIES: &[Family] = &[
    Family { operator: "Concat", opsets: &[9, 11, 13], count: 6, make: concat },
    Family { operator: "Split", opsets: &[9, 11, 13, 18], count: 6, make: split },
    Family { operator: "Slice", opsets: &[9, 10, 13], count: 10, make: slice },
    Family { operator: "Reshape", opsets: &[9, 14, 21], count: 8, make: reshape },
    Family { operator: "Flatten", opsets: &[9, 13], count: 6, make: flatten },
    Family { operator: "Transpose", opsets: &[9, 13], count: 6, make: transpose },
    Family { operator: "Squeeze", opsets: &[9, 11, 13], count: 6, make: squeeze },
    Family { operator: "Unsqueeze", opsets: &[9, 11, 13], count: 6, make: unsqueeze },
    Family { operator: "Expand", opsets: &[9, 13], count: 8, make: expand },
    Family { operator: "Tile", opsets: &[9, 13], count: 6, make: tile },
    Family { operator: "Pad", opsets: &[9, 11, 13, 18, 19], count: 12, make: pad },
    Family { operator: "Trilu", opsets: &[14], count: 8, make: triangle },
    Family { operator: "DepthToSpace", opsets: &[9, 11, 13], count: 5, make: depth_to_space },
    Family { operator: "SpaceToDepth", opsets: &[9, 13], count: 4, make: space_to_depth },
];

fn image(n: &mut Net) -> (Vec<usize>, &'static str) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    (dims, a)
}

/// An axis that is not the batch, counted from the end half of the time.
fn axis(n: &mut Net, rank: usize) -> (usize, i64) {
    let a = n.int(1, rank as i64);
    (a as usize, if n.coin() && n.opset >= 11 { a - rank as i64 - 1 } else { a })
}

/// The input, something computed, and the same tensor twice.
fn concat(n: &mut Net) {
    let (dims, a) = image(n);
    let (_, axis) = axis(n, dims.len());
    let b = n.smooth(a);
    let parts = n.pick(&[[a, &b, a], [&b, a, &b], [a, a, &b]]).join(" ");
    n.note(format!("axis {axis}"));
    n.node("Concat", &parts, "y", vec![attr_int("axis", axis)]);
}

/// Parts by sizes, equal parts, and unequal ones by number; one of them is not used.
fn split(n: &mut Net) {
    let parts = n.size(2, 3);
    let by_size = n.coin();
    let by_number = n.opset >= 18 && !by_size;
    let uneven = by_number && n.coin();
    let sizes: Vec<usize> = if by_size { (0..parts).map(|_| n.size(1, 3)).collect() } else { vec![2; parts] };
    let total: usize = sizes.iter().sum::<usize>() - usize::from(uneven);
    let dims = [n.size(1, 3), total];
    let a = n.input(&dims, -2.0, 2.0);
    let mut given = vec![attr_int("axis", if n.opset >= 11 && n.coin() { -1 } else { 2 })];
    let mut inputs = a.to_owned();
    if by_size {
        let sizes: Vec<i64> = sizes.iter().map(|s| *s as i64).collect();
        if n.opset < 13 {
            given.push(attr_ints("split", &sizes));
        } else {
            let sizes = n.list(&sizes);
            inputs = format!("{a} {sizes}");
        }
    } else if by_number {
        given.push(attr_int("num_outputs", parts as i64));
    }
    n.note(format!("{sizes:?} by size {by_size} uneven {uneven}"));
    let outputs: Vec<String> = (0..parts).map(|_| n.name("part")).collect();
    n.node("Split", &inputs, &outputs.join(" "), given);
    let last = n.smooth(&outputs[parts - 1]);
    let kept =
        if parts == 3 && n.coin() { vec![&last, &outputs[0]] } else { vec![&outputs[1], &last, &outputs[0]] };
    n.node(
        "Concat",
        &kept.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "),
        "y",
        vec![attr_int("axis", 2)],
    );
}

fn slice(n: &mut Net) {
    let (dims, a) = image(n);
    let rank = dims.len();
    let count = n.size(1, rank);
    let chosen: Vec<usize> = n.order(rank)[..count].to_vec();
    let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for c in chosen {
        let d = dims[c] as i64;
        let low = n.int(0, d - 1);
        let high = n.int(low + 1, d);
        let negative = n.coin();
        let shown = |v: i64| if negative { v - d } else { v };
        axes.push(if n.opset >= 10 && n.coin() { c as i64 - rank as i64 } else { c as i64 + 1 });
        match if n.opset >= 10 { n.int(0, 3) } else { 0 } {
            0 => {
                starts.push(shown(low));
                ends.push(if high == d { i64::MAX } else { shown(high) });
                steps.push(1);
            }
            1 | 2 => {
                starts.push(shown(low));
                ends.push(if high == d { i64::from(i32::MAX) } else { shown(high) });
                steps.push(n.int(1, 3));
            }
            _ => {
                // Backwards, down to the first entry or to the one after `low`.
                starts.push(high - 1);
                ends.push(if low == 0 { -d - 1 } else { low - 1 });
                steps.push(-n.int(1, 2));
            }
        }
    }
    n.note(format!("{starts:?} {ends:?} axes {axes:?} steps {steps:?}"));
    if n.opset < 10 {
        let given = vec![attr_ints("starts", &starts), attr_ints("ends", &ends), attr_ints("axes", &axes)];
        n.node("Slice", a, "y", given);
    } else {
        let lists: Vec<String> = [&starts, &ends, &axes, &steps].iter().map(|l| n.list(l)).collect();
        n.node("Slice", &format!("{a} {}", lists.join(" ")), "y", vec![]);
    }
}

/// With 0, with -1 in the batch's place and elsewhere, and by a shape that is computed from the input's.
fn reshape(n: &mut Net) {
    let (c, h, w) = (n.size(1, 3), n.size(2, 3), n.size(1, 3));
    let a = n.input(&[c, h, w], -2.0, 2.0);
    let [ci, hi, wi] = [c, h, w].map(|d| d as i64);
    let kind = n.int(0, 4);
    n.note(format!("kind {kind}"));
    if kind == 4 {
        let shape = n.op("Shape", a, vec![]);
        let (zero, one) = (n.list(&[0]), n.list(&[1]));
        let batch = if n.opset >= 10 {
            n.op("Slice", &format!("{shape} {zero} {one}"), vec![])
        } else {
            n.op("Slice", &shape, vec![attr_ints("starts", &[0]), attr_ints("ends", &[1])])
        };
        let rest = n.list(&[-1, wi]);
        let to = n.op("Concat", &format!("{batch} {rest}"), vec![attr_int("axis", 0)]);
        n.node("Reshape", &format!("{a} {to}"), "y", vec![]);
        return;
    }
    let to =
        [vec![0, ci * hi, wi], vec![-1, hi, ci * wi], vec![0, -1], vec![0, 0, 1, -1]][kind as usize].clone();
    let to = n.list(&to);
    n.node("Reshape", &format!("{a} {to}"), "y", vec![]);
}

fn flatten(n: &mut Net) {
    let (c, h) = (n.size(1, 3), n.size(2, 4));
    let a = n.input(&[c, h], -2.0, 2.0);
    let axis = n.pick(&[1, 2, 3]);
    n.note(format!("axis {axis}"));
    let flat = n.op("Flatten", a, vec![attr_int("axis", axis)]);
    let to = n.list(&[-1, (c * h) as i64]);
    let back = n.op("Reshape", &format!("{flat} {to}"), vec![]);
    n.node("Sin", &back, "y", vec![]);
}

/// The batch moves too, and comes back before the end.
fn transpose(n: &mut Net) {
    let (dims, a) = image(n);
    let rank = dims.len() + 1;
    let given = n.coin();
    let perm: Vec<usize> = if given { n.order(rank) } else { (0..rank).rev().collect() };
    n.note(format!("{perm:?}"));
    let as_ints = |p: &[usize]| attr_ints("perm", &p.iter().map(|v| *v as i64).collect::<Vec<_>>());
    let moved = n.op("Transpose", a, if given { vec![as_ints(&perm)] } else { vec![] });
    let first = perm.iter().position(|p| *p == 0).unwrap();
    let mut back: Vec<usize> = (0..rank).filter(|a| *a != first).collect();
    back.insert(0, first);
    let sine = n.op("Sin", &moved, vec![]);
    n.node("Transpose", &sine, "y", vec![as_ints(&back)]);
}

fn with_axes(n: &mut Net, op: &str, of: &str, axes: &[i64], output: &str) {
    if n.opset < 13 {
        n.node(op, of, output, vec![attr_ints("axes", axes)]);
    } else {
        let axes = n.list(axes);
        n.node(op, &format!("{of} {axes}"), output, vec![]);
    }
}

fn squeeze(n: &mut Net) {
    let (c, w) = (n.size(2, 4), n.size(2, 4));
    let a = n.input(&[1, c, 1, w], -2.0, 2.0);
    let mut choices = vec![vec![1], vec![3], vec![1, 3]];
    if n.opset >= 11 {
        choices.extend([vec![-2], vec![-4, 3]]);
    }
    let axes = n.pick(&choices);
    n.note(format!("{axes:?}"));
    with_axes(n, "Squeeze", a, &axes, "y");
}

fn unsqueeze(n: &mut Net) {
    let (c, w) = (n.size(2, 4), n.size(2, 4));
    let a = n.input(&[c, w], -2.0, 2.0);
    let mut choices = vec![vec![1], vec![3], vec![1, 3]];
    if n.opset >= 11 {
        choices.extend([vec![-1], vec![-2, 1]]);
    }
    let axes = n.pick(&choices);
    n.note(format!("{axes:?}"));
    with_axes(n, "Unsqueeze", a, &axes, "y");
}

/// Axes of 1 stretched, new leading axes behind the batch, and a shape with ones.
fn expand(n: &mut Net) {
    let c = n.size(2, 4);
    let kind = n.int(0, 2);
    n.note(format!("kind {kind}"));
    let (a, to) = match kind {
        0 => (n.input(&[c, 1, 1], -2.0, 2.0), vec![1, c as i64, 2, 3]),
        1 => (n.input(&[1, c], -2.0, 2.0), vec![2, 1]),
        _ => (n.input(&[c, 1], -2.0, 2.0), vec![1, 1, 3]),
    };
    let to = n.list(&to);
    n.node("Expand", &format!("{a} {to}"), "y", vec![]);
}

fn tile(n: &mut Net) {
    let (dims, a) = image(n);
    let repeats: Vec<i64> = std::iter::once(1).chain(dims.iter().map(|_| n.int(1, 3))).collect();
    n.note(format!("{repeats:?}"));
    let repeats = n.list(&repeats);
    n.node("Tile", &format!("{a} {repeats}"), "y", vec![]);
}

fn pad(n: &mut Net) {
    let dims = [n.size(1, 2), n.size(3, 4), n.size(3, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let mut modes = vec!["constant", "constant", "reflect", "edge"];
    if n.opset >= 19 {
        modes.push("wrap");
    }
    let mode = n.pick(&modes);
    let cut = mode == "constant" && n.coin();
    let draw = |n: &mut Net| if cut { n.int(-1, 2) } else { n.int(0, 2) };
    let spatial: Vec<i64> = (0..4).map(|_| draw(n)).collect();
    let full = vec![0, 0, spatial[0], spatial[1], 0, 0, spatial[2], spatial[3]];
    n.note(format!("{mode} {spatial:?}{}", if spatial.contains(&-1) { " cutting" } else { "" }));
    let mut given = vec![];
    if mode != "constant" || n.coin() {
        given.push(attr_word("mode", mode));
    }
    if n.opset < 11 {
        given.push(attr_ints("pads", &full));
        if mode == "constant" && n.coin() {
            given.push(attr_float("value", 0.7));
        }
        n.node("Pad", a, "y", given);
        return;
    }
    let value = if mode == "constant" && n.coin() { n.scalar(0.7) } else { "_".into() };
    if n.opset >= 18 && n.coin() {
        let (pads, axes) = (n.list(&spatial), n.list(&[2, -1]));
        n.node("Pad", &format!("{a} {pads} {value} {axes}"), "y", given);
    } else {
        let pads = n.list(&full);
        let value = if value == "_" { String::new() } else { value };
        n.node("Pad", &format!("{a} {pads} {value}"), "y", given);
    }
}

fn triangle(n: &mut Net) {
    let dims = [n.size(1, 2), n.size(2, 4), n.size(2, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let (upper, k) = (n.int(0, 2), n.int(-2, 2));
    n.note(format!("upper {upper} k {k}"));
    let given = if upper < 2 { vec![attr_int("upper", upper)] } else { vec![] };
    let k = if n.coin() { n.ints("k", &[], &[k]) } else { String::new() };
    n.node("Trilu", &format!("{a} {k}"), "y", given);
}

fn depth_to_space(n: &mut Net) {
    let dims = [4 * n.size(1, 2), n.size(1, 2), n.size(1, 2)];
    let a = n.input(&dims, -2.0, 2.0);
    let mut given = vec![attr_int("blocksize", 2)];
    if n.opset >= 11 {
        let mode = n.pick(&["DCR", "CRD"]);
        n.note(mode);
        given.push(attr_word("mode", mode));
    }
    n.node("DepthToSpace", a, "y", given);
}

/// The order of the channels matters: a constant weighs them afterwards. The constant comes from a Constant node.
fn space_to_depth(n: &mut Net) {
    let dims = [n.size(1, 2), 2 * n.size(1, 2), 2 * n.size(1, 2)];
    let a = n.input(&dims, -2.0, 2.0);
    let d = n.op("SpaceToDepth", a, vec![attr_int("blocksize", 2)]);
    let channels = 4 * dims[0];
    let weights: Vec<f32> = (0..channels).map(|c| 0.5 + c as f32 / 7.0).collect();
    let tensor = TensorProto {
        dims: vec![channels as i64, 1, 1],
        data_type: Some(data_type::FLOAT),
        float_data: weights,
        ..Default::default()
    };
    let w = n.op("Constant", "", vec![attr_tensor("value", tensor)]);
    n.node("Mul", &format!("{d} {w}"), "y", vec![]);
}

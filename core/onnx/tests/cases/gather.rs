//! Reading and writing at given places.

use super::Family;
use super::net::{Net, attr_int, attr_word};

pub const FAMILIES: &[Family] = &[
    Family { operator: "Gather", opsets: &[9, 11, 13], count: 8, make: gather },
    Family { operator: "GatherElements", opsets: &[11, 13, 18], count: 6, make: gather_elements },
    Family { operator: "GatherND", opsets: &[12, 13, 18], count: 14, make: gather_nd },
    Family { operator: "ScatterElements", opsets: &[11, 16, 18], count: 6, make: scatter_elements },
    Family { operator: "ScatterND", opsets: &[11, 16, 18], count: 8, make: scatter_nd },
    Family { operator: "OneHot", opsets: &[11], count: 4, make: one_hot },
];

fn places(n: &mut Net, count: usize, of: usize) -> Vec<i64> {
    let low = if n.opset >= 11 { -(of as i64) } else { 0 };
    let places: Vec<i64> = (0..count).map(|_| n.int(low, of as i64 - 1)).collect();
    if places.iter().any(|p| *p < 0) {
        n.note("counted from the end");
    }
    places
}

/// Indices of rank 0, 1 and 2, repeated ones among them.
fn gather(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.size(1, rank);
    let shape = n.pick(&[vec![], vec![1], vec![4], vec![2, 3]]);
    let at = places(n, shape.iter().product(), dims[axis - 1]);
    n.note(format!("axis {axis} at {at:?} of shape {shape:?}"));
    let at = n.ints("at", &shape, &at);
    let shown = if n.coin() && n.opset >= 11 { axis as i64 - rank as i64 - 1 } else { axis as i64 };
    n.node("Gather", &format!("{a} {at}"), "y", vec![attr_int("axis", shown)]);
}

/// The batch stands in the indices, which are stretched over it with Expand and Shape.
fn per_image(n: &mut Net, a: &str, shape: &[usize], of: usize) -> String {
    let at = places(n, shape.iter().product(), of);
    n.note(format!("at {at:?}"));
    let full: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
    let at = n.ints("at", &full, &at);
    let batch = n.op("Shape", a, vec![]);
    let zero = n.list(&[0]);
    let batch = n.op("Gather", &format!("{batch} {zero}"), vec![attr_int("axis", 0)]);
    let ones = n.list(&vec![1; shape.len()]);
    let to = n.op("Concat", &format!("{batch} {ones}"), vec![attr_int("axis", 0)]);
    n.op("Expand", &format!("{at} {to}"), vec![])
}

fn gather_elements(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(2, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.size(1, 2);
    let mut shape = dims.to_vec();
    shape[axis - 1] = n.size(1, 4);
    let at = per_image(n, a, &shape, dims[axis - 1]);
    n.note(format!("axis {axis}"));
    n.node("GatherElements", &format!("{a} {at}"), "y", vec![attr_int("axis", axis as i64)]);
}

/// Behind the batch axis, which is either a batch axis of the operator or moved to the end before.
fn gather_nd(n: &mut Net) {
    let dims = [n.size(2, 3), n.size(2, 3)];
    let a = n.input(&dims, -2.0, 2.0);
    let depth = n.size(1, 2);
    let count = n.size(1, 4);
    if n.coin() {
        n.note(format!("batch_dims 1 depth {depth}"));
        let at = per_image(n, a, &[count, depth], dims[0].min(dims[1]));
        n.node("GatherND", &format!("{a} {at}"), "y", vec![attr_int("batch_dims", 1)]);
        return;
    }
    n.note(format!("depth {depth}"));
    let at = places(n, count * depth, dims[0].min(dims[1]));
    let at = n.ints("at", &[count, depth], &at);
    let perm = |p: &[i64]| vec![super::net::attr_ints("perm", p)];
    let last = n.op("Transpose", a, perm(&[1, 2, 0]));
    let g = n.op("GatherND", &format!("{last} {at}"), vec![]);
    let back = if depth == 2 { vec![1, 0] } else { vec![2, 0, 1] };
    n.node("Transpose", &g, "y", perm(&back));
}

fn reduction(n: &mut Net) -> &'static str {
    match n.opset {
        ..16 => "none",
        16..18 => n.pick(&["none", "add", "mul"]),
        _ => n.pick(&["none", "add", "mul", "max", "min"]),
    }
}

/// Places without repetition where the result would hang on the order of writing.
fn scatter_elements(n: &mut Net) {
    let dims = [n.size(1, 2), n.size(3, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let how = reduction(n);
    let count = n.size(1, 3);
    let at: Vec<i64> = if how == "none" {
        n.order(dims[1])[..count].iter().map(|p| *p as i64).collect()
    } else {
        places(n, count, dims[1])
    };
    n.note(format!("{how} at {at:?}"));
    // The updates: a smooth function of the first entries.
    let s = n.smooth(a);
    let first: Vec<i64> = (0..count as i64).collect();
    let first = n.list(&first);
    let updates = n.op("Gather", &format!("{s} {first}"), vec![attr_int("axis", 2)]);
    let shape = n.op("Shape", &updates, vec![]);
    let at = n.ints("at", &[1, 1, count], &at);
    let at = n.op("Expand", &format!("{at} {shape}"), vec![]);
    let mut given = vec![attr_int("axis", n.pick(&[2, -1]))];
    if how != "none" {
        given.push(attr_word("reduction", how));
    }
    n.node("ScatterElements", &format!("{a} {at} {updates}"), "y", given);
}

fn scatter_nd(n: &mut Net) {
    let dims = [n.size(3, 4), n.size(1, 2)];
    let a = n.input(&dims, -2.0, 2.0);
    let how = reduction(n);
    let count = n.size(1, 3);
    let at: Vec<i64> = if how == "none" {
        n.order(dims[0])[..count].iter().map(|p| *p as i64).collect()
    } else {
        places(n, count, dims[0])
    };
    n.note(format!("{how} at {at:?}"));
    let perm = |p: &[i64]| vec![super::net::attr_ints("perm", p)];
    let data = n.op("Transpose", a, perm(&[1, 2, 0]));
    let s = n.smooth(&data);
    let first: Vec<i64> = (0..count as i64).collect();
    let first = n.list(&first);
    let updates = n.op("Gather", &format!("{s} {first}"), vec![attr_int("axis", 0)]);
    let at = n.ints("at", &[count, 1], &at);
    let given = if how == "none" { vec![] } else { vec![attr_word("reduction", how)] };
    let y = n.op("ScatterND", &format!("{data} {at} {updates}"), given);
    n.node("Transpose", &y, "y", perm(&[2, 0, 1]));
}

/// A mask of the largest entry, made of integers, times the input.
fn one_hot(n: &mut Net) {
    let c = n.size(2, 5);
    let a = n.input(&[c], -2.0, 2.0);
    let place = n.op("ArgMax", a, vec![attr_int("axis", 1), attr_int("keepdims", 0)]);
    let depth = n.ints("depth", &[], &[c as i64]);
    let values = n.floats("values", &[2], &[0.25, 2.0]);
    let mask = n.op("OneHot", &format!("{place} {depth} {values}"), vec![attr_int("axis", 1)]);
    n.node("Mul", &format!("{mask} {a}"), "y", vec![]);
}

//! Reductions, cumulative sums, orderings.

use super::Family;
use super::net::{Net, attr_int, attr_ints};

macro_rules! reduction {
    ($op:literal, $low:literal, $high:literal, $opsets:expr) => {
        Family { operator: $op, opsets: &$opsets, count: 8, make: |n| reduce(n, $op, $low, $high) }
    };
}

pub const FAMILIES: &[Family] = &[
    reduction!("ReduceSum", -2.0, 2.0, [9, 11, 13]),
    reduction!("ReduceMean", -2.0, 2.0, [9, 13, 18]),
    reduction!("ReduceMax", -2.0, 2.0, [9, 13, 18, 20]),
    reduction!("ReduceMin", -2.0, 2.0, [9, 13, 18, 20]),
    reduction!("ReduceProd", -1.5, 1.5, [9, 13, 18]),
    reduction!("ReduceL1", -2.0, 2.0, [9, 13, 18]),
    reduction!("ReduceL2", -2.0, 2.0, [9, 13, 18]),
    reduction!("ReduceSumSquare", -2.0, 2.0, [9, 13, 18]),
    reduction!("ReduceLogSum", 0.3, 2.0, [9, 13, 18]),
    reduction!("ReduceLogSumExp", -2.0, 2.0, [9, 13, 18]),
    Family { operator: "CumSum", opsets: &[11, 14], count: 8, make: cumulative },
    Family { operator: "TopK", opsets: &[9, 10, 11], count: 8, make: top },
    Family { operator: "ArgMax", opsets: &[16, 18], count: 4, make: argmax },
];

/// Some axes but never the batch, counted from either end, in the operator set's form, the result's axes kept or not;
/// or no axes at all where that means that nothing is reduced.
fn reduce(n: &mut Net, op: &str, low: f32, high: f32) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, low, high);
    let as_input = n.opset >= 18 || n.opset >= 13 && op == "ReduceSum";
    if as_input && n.int(0, 5) == 0 {
        n.note("no axes");
        let none = if n.coin() { n.list(&[]) } else { String::new() };
        n.node(op, &format!("{a} {none}"), "y", vec![attr_int("noop_with_empty_axes", 1)]);
        return;
    }
    let count = n.size(1, rank);
    let axes: Vec<i64> = n.order(rank)[..count].iter().map(|a| *a as i64 + 1).collect();
    let negative = n.coin() && n.opset >= 11;
    let axes: Vec<i64> = axes.iter().map(|a| if negative { a - rank as i64 - 1 } else { *a }).collect();
    let keep = n.int(0, 2);
    n.note(format!("axes {axes:?} keepdims {}", ["0", "1", "default"][keep as usize]));
    let mut given = if keep < 2 { vec![attr_int("keepdims", keep)] } else { vec![] };
    let b = if as_input {
        let axes = n.list(&axes);
        format!("{a} {axes}")
    } else {
        given.push(attr_ints("axes", &axes));
        a.to_owned()
    };
    n.node(op, &b, "y", given);
}

fn cumulative(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.int(1, rank as i64);
    let axis = if n.coin() { axis } else { axis - rank as i64 - 1 };
    let (exclusive, reverse) = (n.int(0, 1), n.int(0, 1));
    n.note(format!("axis {axis} exclusive {exclusive} reverse {reverse}"));
    let at = n.ints("axis", &[], &[axis]);
    let given = vec![attr_int("exclusive", exclusive), attr_int("reverse", reverse)];
    n.node("CumSum", &format!("{a} {at}"), "y", given);
}

/// The values; their places are asked for too and carry no gradient.
fn top(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let axis = n.size(1, rank);
    let k = n.int(1, dims[axis - 1] as i64);
    let mut given = vec![attr_int("axis", axis as i64)];
    let b = if n.opset < 10 {
        given.push(attr_int("k", k));
        a.to_owned()
    } else {
        let count = n.list(&[k]);
        format!("{a} {count}")
    };
    let largest = if n.opset >= 11 { n.int(0, 1) } else { 1 };
    if largest == 0 {
        given.push(attr_int("largest", 0));
    }
    n.note(format!("axis {axis} k {k} largest {largest}"));
    n.node("TopK", &b, "y places", given);
}

/// A gather at the largest entry: the place is an integer, the value that it leads to is not.
fn argmax(n: &mut Net) {
    let dims = [n.size(1, 3), n.size(2, 4)];
    let a = n.input(&dims, -2.0, 2.0);
    let op = n.pick(&["ArgMax", "ArgMin"]);
    n.note(op);
    let places = n.op(op, a, vec![attr_int("axis", 2), attr_int("keepdims", 1)]);
    let best = n.op("GatherElements", &format!("{a} {places}"), vec![attr_int("axis", 2)]);
    n.node("Mul", &format!("{best} {a}"), "y", vec![]);
}

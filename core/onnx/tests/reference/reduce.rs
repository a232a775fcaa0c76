//! Reductions, sums along an axis and orderings.

use super::tensor::{Kind, R, Tensor, axis, each};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    let sum = |v: &[f64]| v.iter().sum::<f64>();
    match op.node.op() {
        "ReduceSum" => reduce(op, sum),
        "ReduceMean" => reduce(op, move |v| sum(v) / v.len() as f64),
        "ReduceMax" => reduce(op, |v| v.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v))),
        "ReduceMin" => reduce(op, |v| v.iter().fold(f64::INFINITY, |a, v| a.min(*v))),
        "ReduceProd" => reduce(op, |v| v.iter().product()),
        "ReduceL1" => reduce(op, |v| v.iter().map(|v| v.abs()).sum()),
        "ReduceL2" => reduce(op, |v| v.iter().map(|v| v * v).sum::<f64>().sqrt()),
        "ReduceSumSquare" => reduce(op, |v| v.iter().map(|v| v * v).sum()),
        "ReduceLogSum" => reduce(op, move |v| sum(v).ln()),
        "ReduceLogSumExp" => reduce(op, |v| {
            let top = v.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v));
            top + v.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
        }),
        "CumSum" => one(cumulative(op)),
        "ArgMax" => one(extreme(op, |a, b| a > b)),
        "ArgMin" => one(extreme(op, |a, b| a < b)),
        "TopK" => Some(top(op)),
        _ => None,
    }
}

/// One value for all that lies along `axes`; an empty list of axes leaves every value alone.
pub fn over(x: &Tensor, axes: &[usize], keep: bool, f: impl Fn(&[f64]) -> f64) -> Tensor {
    let kept: Vec<usize> =
        x.shape.iter().enumerate().map(|(a, d)| if axes.contains(&a) { 1 } else { *d }).collect();
    let window: Vec<usize> =
        x.shape.iter().enumerate().map(|(a, d)| if axes.contains(&a) { *d } else { 1 }).collect();
    let mut values = Vec::new();
    let mut y = Tensor::fill(x.kind, &kept, |i| {
        values.clear();
        each(&window, |w| values.push(x.at(&i.iter().zip(w).map(|(a, b)| a + b).collect::<Vec<_>>())));
        f(&values)
    });
    if !keep {
        y.shape = (0..x.rank()).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect();
    }
    y
}

/// Axes are an attribute at first, an input since operator set 13 (ReduceSum) or 18 (the others). None means all, unless
/// `noop_with_empty_axes` says that it means nothing at all.
fn reduce(op: &Op<'_>, f: impl Fn(&[f64]) -> f64) -> Answer {
    let answer = || {
        let x = op.x(0)?;
        let given = op.axes(1, x.rank())?.filter(|a| !a.is_empty());
        if given.is_none() && op.int("noop_with_empty_axes", 0) == 1 {
            return Ok(over(x, &[], true, f));
        }
        let axes = given.unwrap_or_else(|| (0..x.rank()).collect());
        Ok(over(x, &axes, op.int("keepdims", 1) == 1, f))
    };
    one(answer())
}

fn cumulative(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let a = axis(op.x(1)?.to_ints()[0], x.rank())?;
    let (exclusive, reverse) = (op.int("exclusive", 0) == 1, op.int("reverse", 0) == 1);
    Ok(Tensor::fill(x.kind, &x.shape, |i| {
        let counts = |k: usize| match (reverse, exclusive) {
            (false, false) => k <= i[a],
            (false, true) => k < i[a],
            (true, false) => k >= i[a],
            (true, true) => k > i[a],
        };
        (0..x.shape[a]).filter(|k| counts(*k)).map(|k| along(x, i, a, k)).sum()
    }))
}

/// The value at index `i` with entry `k` on axis `a`.
fn along(x: &Tensor, i: &[usize], a: usize, k: usize) -> f64 {
    let mut at = i.to_vec();
    at[a] = k;
    x.at(&at)
}

fn extreme(op: &Op<'_>, better: impl Fn(f64, f64) -> bool) -> R<Tensor> {
    let x = op.x(0)?;
    let a = axis(op.int("axis", 0), x.rank())?;
    let last = op.int("select_last_index", 0) == 1;
    let mut shape = x.shape.clone();
    shape[a] = 1;
    let mut y = Tensor::fill(Kind::Int, &shape, |i| {
        let best = (1..x.shape[a]).fold(0, |best, k| {
            let (v, b) = (along(x, i, a, k), along(x, i, a, best));
            if better(v, b) || last && v == b { k } else { best }
        });
        best as f64
    });
    if op.int("keepdims", 1) == 0 {
        y.shape.remove(a);
    }
    Ok(y)
}

/// Values and their places; equal values by rising place.
fn top(op: &Op<'_>) -> R<Vec<Tensor>> {
    let x = op.x(0)?;
    let k = if op.opset < 10 { op.int("k", 0) } else { op.x(1)?.to_ints()[0] } as usize;
    let a = axis(op.int("axis", -1), x.rank())?;
    let largest = op.int("largest", 1) == 1;
    let mut shape = x.shape.clone();
    shape[a] = k;
    let order = |i: &[usize]| {
        let mut places: Vec<usize> = (0..x.shape[a]).collect();
        places.sort_by(|p, q| {
            let (p, q) = (along(x, i, a, *p), along(x, i, a, *q));
            if largest { q.total_cmp(&p) } else { p.total_cmp(&q) }
        });
        places
    };
    let places = Tensor::fill(Kind::Int, &shape, |i| order(i)[i[a]] as f64);
    let values = Tensor::fill(x.kind, &shape, |i| along(x, i, a, places.at(i) as usize));
    Ok(vec![values, places])
}

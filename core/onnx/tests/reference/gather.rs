//! Reading and writing at given places.

use super::tensor::{Kind, R, Tensor, axis, each, offset, wrap};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "Gather" => one(gather(op)),
        "GatherElements" => one(gather_elements(op)),
        "GatherND" => one(gather_nd(op)),
        "Scatter" | "ScatterElements" => one(scatter_elements(op)),
        "ScatterND" => one(scatter_nd(op)),
        "OneHot" => one(one_hot(op)),
        "NonZero" => one(op.x(0).map(|x| {
            let mut found = Vec::new();
            each(&x.shape, |i| {
                if x.at(i) != 0.0 {
                    found.push(i.to_vec());
                }
            });
            Tensor::fill(Kind::Int, &[x.rank(), found.len()], |i| found[i[1]][i[0]] as f64)
        })),
        _ => None,
    }
}

/// `y[a.., j.., b..] = x[a.., indices[j..], b..]`.
fn gather(op: &Op<'_>) -> R<Tensor> {
    let (x, indices) = (op.x(0)?, op.x(1)?);
    let a = axis(op.int("axis", 0), x.rank())?;
    let places = indices.to_ints().iter().map(|i| wrap(*i, x.shape[a])).collect::<R<Vec<_>>>()?;
    let shape = [&x.shape[..a], &indices.shape, &x.shape[a + 1..]].concat();
    Ok(Tensor::fill(x.kind, &shape, |i| {
        let (middle, after) = (&i[a..a + indices.rank()], &i[a + indices.rank()..]);
        x.at(&[&i[..a], &[places[offset(&indices.shape, middle)]], after].concat())
    }))
}

fn gather_elements(op: &Op<'_>) -> R<Tensor> {
    let (x, indices) = (op.x(0)?, op.x(1)?);
    let a = axis(op.int("axis", 0), x.rank())?;
    let places = indices.to_ints().iter().map(|i| wrap(*i, x.shape[a])).collect::<R<Vec<_>>>()?;
    Ok(Tensor::fill(x.kind, &indices.shape, |i| {
        let mut at = i.to_vec();
        at[a] = places[offset(&indices.shape, i)];
        x.at(&at)
    }))
}

/// The place that row `row` of `indices` (its last axis) names, counted on the axes of `shape` from `skip` on.
fn place(indices: &Tensor, row: &[usize], shape: &[usize], skip: usize) -> R<Vec<usize>> {
    let depth = indices.shape[indices.rank() - 1];
    (0..depth).map(|k| wrap(indices.at(&[row, &[k]].concat()) as i64, shape[skip + k])).collect()
}

fn gather_nd(op: &Op<'_>) -> R<Tensor> {
    let (x, indices) = (op.x(0)?, op.x(1)?);
    let batch = op.int("batch_dims", 0) as usize;
    let (q, depth) = (indices.rank(), indices.shape[indices.rank() - 1]);
    let shape = [&indices.shape[..q - 1], &x.shape[batch + depth..]].concat();
    let mut failed = None;
    let y = Tensor::fill(x.kind, &shape, |i| match place(indices, &i[..q - 1], &x.shape, batch) {
        Ok(p) => x.at(&[&i[..batch], &p, &i[q - 1..]].concat()),
        Err(e) => {
            failed = Some(e);
            0.0
        }
    });
    failed.map_or(Ok(y), Err)
}

fn combine(op: &Op<'_>) -> R<fn(f64, f64) -> f64> {
    Ok(match op.word("reduction", "none") {
        "none" => |_, new| new,
        "add" => |old, new| old + new,
        "mul" => |old, new| old * new,
        "max" => f64::max,
        "min" => f64::min,
        other => return Err(format!("reduction {other}")),
    })
}

fn scatter_elements(op: &Op<'_>) -> R<Tensor> {
    let (x, indices, updates) = (op.x(0)?, op.x(1)?, op.x(2)?);
    let a = axis(op.int("axis", 0), x.rank())?;
    let f = combine(op)?;
    let places = indices.to_ints().iter().map(|i| wrap(*i, x.shape[a])).collect::<R<Vec<_>>>()?;
    let mut y = x.clone();
    each(&indices.shape, |i| {
        let mut at = i.to_vec();
        at[a] = places[offset(&indices.shape, i)];
        let at = offset(&x.shape, &at);
        y.data[at] = f(y.data[at], updates.at(i));
    });
    Ok(y)
}

fn scatter_nd(op: &Op<'_>) -> R<Tensor> {
    let (x, indices, updates) = (op.x(0)?, op.x(1)?, op.x(2)?);
    let f = combine(op)?;
    let q = indices.rank();
    let mut y = x.clone();
    let mut failed = None;
    each(&updates.shape, |i| match place(indices, &i[..q - 1], &x.shape, 0) {
        Ok(p) => {
            let at = offset(&x.shape, &[&p, &i[q - 1..]].concat());
            y.data[at] = f(y.data[at], updates.at(i));
        }
        Err(e) => failed = Some(e),
    });
    failed.map_or(Ok(y), Err)
}

fn one_hot(op: &Op<'_>) -> R<Tensor> {
    let (indices, depth, values) = (op.x(0)?, op.x(1)?.to_ints()[0], op.x(2)?);
    let a = axis(op.int("axis", -1), indices.rank() + 1)?;
    let mut shape = indices.shape.clone();
    shape.insert(a, depth as usize);
    Ok(Tensor::fill(values.kind, &shape, |i| {
        let mut at = i.to_vec();
        let k = at.remove(a) as i64;
        let index = indices.at(&at) as i64;
        // Out of [-depth, depth) nothing is hot.
        values.data[usize::from(index == k || index + depth == k)]
    }))
}

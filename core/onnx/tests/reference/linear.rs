//! Matrix products, Einsum, Softmax.

use super::tensor::{Kind, R, Tensor, axis, broadcast, each};
use super::{Answer, Op, one};
use std::collections::BTreeMap;

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "Gemm" => one(gemm(op)),
        "MatMul" => one(op.x(0).and_then(|a| matmul(a, op.x(1)?))),
        "Einsum" => one(einsum(op)),
        "Softmax" => one(softmax(op, |v, top, sum| (v - top).exp() / sum)),
        "LogSoftmax" => one(softmax(op, |v, top, sum| v - top - sum.ln())),
        "Hardmax" => None,
        _ => None,
    }
}

fn gemm(op: &Op<'_>) -> R<Tensor> {
    let turned = |i, name: &str| -> R<Tensor> {
        let t = op.x(i)?;
        Ok(if op.int(name, 0) == 0 { t.clone() } else { t.transposed(&[1, 0]) })
    };
    let (a, b) = (turned(0, "transA")?, turned(1, "transB")?);
    if a.shape[1] != b.shape[0] {
        return Err(format!("{:?} times {:?}", a.shape, b.shape));
    }
    let (alpha, beta) = (op.float("alpha", 1.0), op.float("beta", 1.0));
    Ok(Tensor::fill(Kind::Float, &[a.shape[0], b.shape[1]], |i| {
        let sum: f64 = (0..a.shape[1]).map(|k| a.at(&[i[0], k]) * b.at(&[k, i[1]])).sum();
        alpha * sum + op.opt(2).map_or(0.0, |c| beta * c.broadcast_at(i))
    }))
}

/// NumPy's matmul: a vector on the left is a row, on the right a column, and that axis is dropped again.
fn matmul(a: &Tensor, b: &Tensor) -> R<Tensor> {
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let a = if row { a.reshaped(&[1, a.shape[0]])? } else { a.clone() };
    let b = if column { b.reshaped(&[b.shape[0], 1])? } else { b.clone() };
    let (ra, rb) = (a.rank(), b.rank());
    let inner = a.shape[ra - 1];
    if inner != b.shape[rb - 2] {
        return Err(format!("{:?} times {:?}", a.shape, b.shape));
    }
    let stack = broadcast(&a.shape[..ra - 2], &b.shape[..rb - 2])?;
    let shape = [&stack[..], &[a.shape[ra - 2], b.shape[rb - 1]]].concat();
    let place = |t: &Tensor, i: &[usize], last: [usize; 2]| {
        let lead = t.rank() - 2;
        let from = &i[stack.len() - lead..stack.len()];
        let mut index: Vec<usize> =
            t.shape[..lead].iter().zip(from).map(|(d, i)| if *d == 1 { 0 } else { *i }).collect();
        index.extend(last);
        t.at(&index)
    };
    let n = stack.len();
    let y = Tensor::fill(a.kind, &shape, |i| {
        (0..inner).map(|k| place(&a, i, [i[n], k]) * place(&b, i, [k, i[n + 1]])).sum()
    });
    let mut kept = stack.clone();
    kept.extend((!row).then_some(shape[n]));
    kept.extend((!column).then_some(shape[n + 1]));
    y.reshaped(&kept)
}

/// The subscripts of one operand; an ellipsis of `width` axes becomes the letters '0', '1', ... counted from the right.
fn letters(term: &str, width: usize) -> Vec<char> {
    let dots: String = (0..width).rev().map(|d| char::from(b'0' + d as u8)).collect();
    term.replace("...", &dots).chars().filter(|c| !c.is_whitespace()).collect()
}

/// The sum over all letters that are not in the output; without "->" the output has the letters that occur once, sorted.
fn einsum(op: &Op<'_>) -> R<Tensor> {
    let equation = op.word("equation", "");
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (equation, None),
    };
    let mut dims: BTreeMap<char, usize> = BTreeMap::new();
    let mut terms = Vec::new();
    let mut widest = 0;
    for (i, term) in left.split(',').enumerate() {
        let named = term.chars().filter(|c| c.is_alphabetic()).count();
        let width = op.x(i)?.rank().checked_sub(named).ok_or("more subscripts than axes")?;
        widest = widest.max(width);
        let term = letters(term, width);
        for (c, d) in term.iter().zip(&op.x(i)?.shape) {
            let known = dims.entry(*c).or_insert(1);
            if *known != 1 && *d != 1 && known != d {
                return Err(format!("axis {c} has {known} and {d} entries"));
            }
            *known = (*known).max(*d);
        }
        terms.push(term);
    }
    let output: Vec<char> = match right {
        Some(r) => letters(r, widest),
        None => {
            let count = |c: char| terms.iter().flatten().filter(|t| **t == c).count();
            dims.keys().copied().filter(|c| c.is_ascii_digit() || count(*c) == 1).collect()
        }
    };
    let summed: Vec<char> = dims.keys().copied().filter(|c| !output.contains(c)).collect();
    let sizes = |l: &[char]| l.iter().map(|c| dims[c]).collect::<Vec<_>>();
    let (shape, over) = (sizes(&output), sizes(&summed));
    Ok(Tensor::fill(Kind::Float, &shape, |o| {
        let mut total = 0.0;
        each(&over, |s| {
            let value = |c: char| match output.iter().position(|d| *d == c) {
                Some(p) => o[p],
                None => s[summed.iter().position(|d| *d == c).unwrap_or(0)],
            };
            let factor = |(i, term): (usize, &Vec<char>)| {
                let t = op.inputs[i].unwrap();
                let index: Vec<usize> =
                    term.iter().zip(&t.shape).map(|(c, d)| if *d == 1 { 0 } else { value(*c) }).collect();
                t.at(&index)
            };
            total += terms.iter().enumerate().map(factor).product::<f64>();
        });
        total
    }))
}

/// Below operator set 13 all axes from `axis` (default 1) on are one; from 13 on it is `axis` (default -1) alone.
fn softmax(op: &Op<'_>, f: impl Fn(f64, f64, f64) -> f64) -> R<Tensor> {
    let x = op.x(0)?;
    let shape: Vec<usize> = if op.opset < 13 {
        let a = axis(op.int("axis", 1), x.rank())?;
        vec![x.shape[..a].iter().product(), x.shape[a..].iter().product(), 1]
    } else {
        let a = axis(op.int("axis", -1), x.rank())?;
        vec![x.shape[..a].iter().product(), x.shape[a], x.shape[a + 1..].iter().product()]
    };
    let t = x.reshaped(&shape)?;
    let line = |i: &[usize]| (0..shape[1]).map(|k| t.at(&[i[0], k, i[2]])).collect::<Vec<_>>();
    let y = Tensor::fill(Kind::Float, &shape, |i| {
        let line = line(i);
        let top = line.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v));
        f(t.at(i), top, line.iter().map(|v| (v - top).exp()).sum())
    });
    y.reshaped(&x.shape)
}

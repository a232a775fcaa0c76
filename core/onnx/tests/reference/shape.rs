//! Operators that move values without changing them, and those that speak of shapes.

use super::tensor::{Kind, R, Tensor, axis, broadcast};
use super::{Answer, Op, decode, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "Concat" => one(concat(op)),
        "Split" => Some(split(op)),
        "Slice" => one(slice(op)),
        "Reshape" => one(reshape(op)),
        "Flatten" => one(op.x(0).and_then(|x| {
            // `axis` may be the rank itself.
            let a = op.int("axis", 1);
            let a = if a < 0 { a + x.rank() as i64 } else { a } as usize;
            x.reshaped(&[x.shape[..a].iter().product(), x.shape[a..].iter().product()])
        })),
        "Transpose" => one(op.x(0).map(|x| {
            let perm = op.ints("perm").map(|p| p.iter().map(|v| *v as usize).collect());
            x.transposed(&perm.unwrap_or_else(|| (0..x.rank()).rev().collect::<Vec<_>>()))
        })),
        "Squeeze" => one(squeeze(op)),
        "Unsqueeze" => one(unsqueeze(op)),
        "Expand" => one(expand(op)),
        "Tile" => one(tile(op)),
        "Pad" => one(pad(op)),
        "Trilu" => one(triangle(op)),
        "DepthToSpace" => one(depth_to_space(op)),
        "SpaceToDepth" => one(space_to_depth(op)),
        "Shape" => one(op.x(0).map(|x| {
            let n = x.rank() as i64;
            let clamp = |v: i64| (if v < 0 { v + n } else { v }).clamp(0, n) as usize;
            let (from, to) = (clamp(op.int("start", 0)), clamp(op.int("end", n)));
            Tensor::ints(x.shape[from..to.max(from)].iter().map(|d| *d as i64))
        })),
        "Size" => one(op.x(0).map(|x| Tensor::new(Kind::Int, &[], vec![x.data.len() as f64]))),
        "Constant" => one(constant(op)),
        "ConstantOfShape" => one(op.x(0).and_then(|x| {
            let value = match op.node.attr("value").and_then(|a| a.t.as_deref()) {
                Some(t) => decode(t)?,
                None => Tensor::floats(&[1], vec![0.0]),
            };
            let shape: Vec<usize> = x.data.iter().map(|v| *v as usize).collect();
            Ok(Tensor::fill(value.kind, &shape, |_| value.data[0]))
        })),
        "Range" => one((|| {
            let (start, limit, delta) = (op.x(0)?, op.x(1)?.data[0], op.x(2)?.data[0]);
            let n = ((limit - start.data[0]) / delta).ceil().max(0.0) as usize;
            Ok(Tensor::fill(start.kind, &[n], |i| start.data[0] + i[0] as f64 * delta))
        })()),
        _ => None,
    }
}

fn concat(op: &Op<'_>) -> R<Tensor> {
    let first = op.x(0)?;
    let a = axis(op.node.attr("axis").and_then(|a| a.i).ok_or("no axis")?, first.rank())?;
    let mut shape = first.shape.clone();
    shape[a] = op.inputs.iter().flatten().map(|t| t.shape[a]).sum();
    Ok(Tensor::fill(first.kind, &shape, |i| {
        let mut at = i.to_vec();
        let mut parts = op.inputs.iter().flatten();
        let part = parts.find(|t| {
            let here = at[a] < t.shape[a];
            if !here {
                at[a] -= t.shape[a];
            }
            here
        });
        part.unwrap().at(&at)
    }))
}

/// Sizes are an attribute up to operator set 12, an input from 13 on; without them the parts are equal, the last being
/// smaller where that does not work out (18).
fn split(op: &Op<'_>) -> R<Vec<Tensor>> {
    let x = op.x(0)?;
    let a = axis(op.int("axis", 0), x.rank())?;
    let given = op.opt(1).map(Tensor::to_ints).or_else(|| op.ints("split").map(<[i64]>::to_vec));
    let sizes: Vec<usize> = match given {
        Some(v) => v.iter().map(|v| *v as usize).collect(),
        None => {
            let n = op.int("num_outputs", op.node.output.len() as i64) as usize;
            let part = x.shape[a].div_ceil(n);
            (0..n).map(|i| part.min(x.shape[a] - i * part)).collect()
        }
    };
    let mut from = 0;
    let parts = sizes.iter().map(|size| {
        let mut shape = x.shape.clone();
        shape[a] = *size;
        let start = from;
        from += size;
        Tensor::fill(x.kind, &shape, |i| {
            let mut at = i.to_vec();
            at[a] += start;
            x.at(&at)
        })
    });
    Ok(parts.collect())
}

fn slice(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let (starts, ends, axes, steps) = if op.opset < 10 {
        let list = |name: &str| op.ints(name).map(<[i64]>::to_vec);
        (list("starts").ok_or("no starts")?, list("ends").ok_or("no ends")?, list("axes"), None)
    } else {
        let list = |i: usize| op.opt(i).map(Tensor::to_ints);
        (list(1).ok_or("no starts")?, list(2).ok_or("no ends")?, list(3), list(4))
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    // For each axis of x its first entry and the step.
    let mut walk: Vec<(i64, i64)> = vec![(0, 1); x.rank()];
    let mut shape = x.shape.clone();
    for k in 0..starts.len() {
        let a = axis(axes[k], x.rank())?;
        let n = x.shape[a] as i64;
        let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        // A negative step may end before the first entry, at -1.
        let (start, end) = if steps[k] > 0 {
            (wrap(starts[k]).clamp(0, n), wrap(ends[k]).clamp(0, n))
        } else {
            (wrap(starts[k]).clamp(0, n - 1), wrap(ends[k]).clamp(-1, n - 1))
        };
        let span = if steps[k] > 0 { end - start } else { start - end };
        shape[a] = (span.max(0) as usize).div_ceil(steps[k].unsigned_abs() as usize);
        walk[a] = (start, steps[k]);
    }
    Ok(Tensor::fill(x.kind, &shape, |i| {
        let at: Vec<usize> = i.iter().zip(&walk).map(|(i, (s, d))| (s + *i as i64 * d) as usize).collect();
        x.at(&at)
    }))
}

fn reshape(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let keep_zero = op.int("allowzero", 0) == 1;
    let mut shape: Vec<usize> = Vec::new();
    let mut open = None;
    for (i, d) in op.x(1)?.to_ints().into_iter().enumerate() {
        shape.push(match d {
            -1 => {
                open = Some(i);
                1
            }
            0 if !keep_zero => *x.shape.get(i).ok_or("0 beyond the input's axes")?,
            d => d as usize,
        });
    }
    if let Some(i) = open {
        shape[i] = x.data.len() / shape.iter().product::<usize>();
    }
    x.reshaped(&shape)
}

fn squeeze(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let axes = op.axes(1, x.rank())?;
    let drop = |a: usize| axes.as_ref().map_or(x.shape[a] == 1, |axes| axes.contains(&a));
    x.reshaped(&(0..x.rank()).filter(|a| !drop(*a)).map(|a| x.shape[a]).collect::<Vec<_>>())
}

fn unsqueeze(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let given =
        op.opt(1).map(Tensor::to_ints).or_else(|| op.ints("axes").map(<[i64]>::to_vec)).ok_or("no axes")?;
    let rank = x.rank() + given.len();
    let axes = given.iter().map(|a| axis(*a, rank)).collect::<R<Vec<_>>>()?;
    let mut rest = x.shape.iter();
    let shape = (0..rank).map(|a| if axes.contains(&a) { 1 } else { *rest.next().unwrap() });
    x.reshaped(&shape.collect::<Vec<_>>())
}

/// Both shapes are broadcast to each other.
fn expand(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let to: Vec<usize> = op.x(1)?.to_ints().iter().map(|d| *d as usize).collect();
    Ok(x.expanded(&broadcast(&x.shape, &to)?))
}

fn tile(op: &Op<'_>) -> R<Tensor> {
    let (x, repeats) = (op.x(0)?, op.x(1)?.to_ints());
    let shape: Vec<usize> = x.shape.iter().zip(&repeats).map(|(d, r)| d * *r as usize).collect();
    Ok(Tensor::fill(x.kind, &shape, |i| {
        x.at(&i.iter().zip(&x.shape).map(|(i, d)| i % d).collect::<Vec<_>>())
    }))
}

/// Attributes up to operator set 10, inputs from 11 on, those with `axes` from 18 on. Negative pads cut.
fn pad(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let rank = x.rank();
    let (pads, value, axes) = if op.opset < 11 {
        (op.ints("pads").ok_or("no pads")?.to_vec(), op.float("value", 0.0), None)
    } else {
        (op.x(1)?.to_ints(), op.opt(2).map_or(0.0, |t| t.data[0]), op.opt(3).map(Tensor::to_ints))
    };
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (k, a) in axes.iter().enumerate() {
        let a = axis(*a, rank)?;
        (begin[a], end[a]) = (pads[k], pads[k + axes.len()]);
    }
    let size = |a: usize| (x.shape[a] as i64 + begin[a] + end[a]) as usize;
    let shape: Vec<usize> = (0..rank).map(size).collect();
    let mode = op.word("mode", "constant");
    // Cutting comes first: what is reflected or repeated is what is left of an axis.
    let first: Vec<i64> = begin.iter().map(|b| (-b).max(0)).collect();
    let left: Vec<i64> = (0..rank).map(|a| x.shape[a] as i64 - first[a] - (-end[a]).max(0)).collect();
    Ok(Tensor::fill(x.kind, &shape, |i| {
        let place = |a: usize| {
            let (p, n) = (i[a] as i64 - begin[a].max(0), left[a]);
            let q = match mode {
                _ if (0..n).contains(&p) => p,
                "edge" => p.clamp(0, n - 1),
                "wrap" => p.rem_euclid(n),
                "reflect" if n > 1 => {
                    let q = p.rem_euclid(2 * (n - 1));
                    if q < n { q } else { 2 * (n - 1) - q }
                }
                "reflect" => 0,
                _ => return None,
            };
            Some((first[a] + q) as usize)
        };
        (0..rank).map(place).collect::<Option<Vec<_>>>().map_or(value, |at| x.at(&at))
    }))
}

fn triangle(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let k = op.opt(1).map_or(0, |t| t.to_ints()[0]);
    let upper = op.int("upper", 1) == 1;
    Ok(Tensor::fill(x.kind, &x.shape, |i| {
        let [row, column] = [i[i.len() - 2] as i64, i[i.len() - 1] as i64];
        let keep = if upper { column >= row + k } else { column <= row + k };
        if keep { x.at(i) } else { 0.0 }
    }))
}

fn depth_to_space(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let b = op.int("blocksize", 0) as usize;
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| x.shape[a]);
    let depth = c / (b * b);
    let crd = op.word("mode", "DCR") == "CRD";
    Ok(Tensor::fill(x.kind, &[n, depth, h * b, w * b], |i| {
        let block = (i[2] % b) * b + i[3] % b;
        let channel = if crd { i[1] * b * b + block } else { block * depth + i[1] };
        x.at(&[i[0], channel, i[2] / b, i[3] / b])
    }))
}

fn space_to_depth(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let b = op.int("blocksize", 0) as usize;
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| x.shape[a]);
    Ok(Tensor::fill(x.kind, &[n, c * b * b, h / b, w / b], |i| {
        let (block, channel) = (i[1] / c, i[1] % c);
        x.at(&[i[0], channel, i[2] * b + block / b, i[3] * b + block % b])
    }))
}

fn constant(op: &Op<'_>) -> R<Tensor> {
    let a = op.node.attribute.first().ok_or("no value")?;
    match a.name.as_deref().unwrap_or("") {
        "value" => decode(a.t.as_deref().ok_or("no value")?),
        "value_int" => Ok(Tensor::new(Kind::Int, &[], vec![a.i.unwrap_or(0) as f64])),
        "value_ints" => Ok(Tensor::ints(a.ints.iter().copied())),
        "value_float" => Ok(Tensor::floats(&[], vec![f64::from(a.f.unwrap_or(0.0))])),
        "value_floats" => {
            Ok(Tensor::floats(&[a.floats.len()], a.floats.iter().map(|v| f64::from(*v)).collect()))
        }
        other => Err(format!("constant by {other}")),
    }
}

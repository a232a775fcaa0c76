//! Operators that move values without changing them.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, string};
use shiftlens_api::Result;

/// Reshape, Flatten, Squeeze, Unsqueeze: the same values in another shape.
pub fn same_values(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let dy = c.dy(e)?;
    let shape = e.shape(c.x(0))?;
    Ok(vec![(0, e.reshape(&dy, shape))])
}

/// The inverse permutation.
pub fn transpose(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let rank = e.shape(c.x(0))?.len();
    let perm: Vec<usize> = match c.node.ints("perm") {
        Some(p) => p.iter().map(|v| *v as usize).collect(),
        None => (0..rank).rev().collect(),
    };
    let mut inverse = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, p)| inverse[*p] = i);
    Ok(vec![(0, e.transpose(&dy, &inverse))])
}

/// Summed back over what was repeated.
pub fn expand(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (from, to) = (e.shape(c.y())?, e.shape(c.x(0))?);
    Ok(vec![(0, e.unbroadcast(&dy, from, to))])
}

/// Each input gets its own part.
pub fn concat(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let axis = e.axis(c.node, c.node.int("axis", 0), e.shape(c.y())?.len())?;
    let mut out = vec![];
    let mut from = 0;
    for (i, x) in c.node.input.iter().enumerate() {
        let to = from + e.shape(x)?[axis] as i64;
        if c.wants(i) {
            out.push((i, e.slice(&dy, &[axis], &[from], &[to], &[1])?));
        }
        from = to;
    }
    Ok(out)
}

/// The parts side by side, zeros for those on which the score does not depend.
pub fn split(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let axis = e.axis(c.node, c.node.int("axis", 0), e.shape(c.x(0))?.len())?;
    let mut parts = Vec::new();
    for (name, g) in c.node.output.iter().zip(&c.outputs) {
        parts.push(match g {
            Some(g) => g.clone(),
            None => {
                let shape = e.shape(name)?;
                e.floats(shape, &vec![0.0; shape.iter().product()])
            }
        });
    }
    Ok(vec![(0, e.concat(&parts, axis))])
}

/// The selection matrix of `indices` out of `n`, `[indices, n]`.
fn selection(indices: &[usize], n: usize) -> Vec<f32> {
    let mut m = vec![0.0; indices.len() * n];
    indices.iter().enumerate().for_each(|(row, i)| m[row * n + i] = 1.0);
    m
}

/// `y = x[.., start..end by step, ..]`: zeros around a plain slice, a selection matrix for steps.
pub fn slice(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let mut g = c.dy(e)?;
    let x = e.shape(c.x(0))?.to_vec();
    let rank = x.len();
    let n = c.node;
    let given = |e: &Emitter<'_>, name: &str, i: usize| -> Result<Option<Vec<i64>>> {
        match n.ints(name) {
            Some(v) => Ok(Some(v.to_vec())),
            None => e.input_ints(n, i),
        }
    };
    let (Some(starts), Some(ends)) = (given(e, "starts", 1)?, given(e, "ends", 2)?) else {
        return Err(e.unsupported(n, "it has no starts or ends"));
    };
    let axes = match given(e, "axes", 3)? {
        Some(a) => a.iter().map(|a| e.axis(n, *a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..starts.len()).collect(),
    };
    let steps = given(e, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut now = e.shape(c.y())?.to_vec();
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        let (size, step) = (x[axis] as i64, steps[i]);
        let wrap = |v: i64| if v < 0 { v + size } else { v };
        let start =
            if step > 0 { wrap(starts[i]).clamp(0, size) } else { wrap(starts[i]).clamp(0, size - 1) };
        if step == 1 {
            begin[axis] = start as usize;
            end[axis] = x[axis] - start as usize - now[axis];
        } else {
            let indices: Vec<usize> = (0..now[axis] as i64).map(|k| (start + k * step) as usize).collect();
            debug_assert!(wrap(ends[i]) <= size || step > 0);
            g = e.transposed_map(&g, &now, axis, &selection(&indices, x[axis]), x[axis]);
            now[axis] = x[axis];
        }
    }
    Ok(vec![(0, e.pad(&g, &begin, &end, 0.0))])
}

/// Constant indices along one axis; an index may be taken several times.
pub fn gather(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let x = e.shape(c.x(0))?.to_vec();
    let axis = e.axis(c.node, c.node.int("axis", 0), x.len())?;
    let indices = e.input_ints(c.node, 1)?.unwrap_or_default();
    let indices: Vec<usize> =
        indices.iter().map(|i| if *i < 0 { i + x[axis] as i64 } else { *i } as usize).collect();
    let mut flat = x.clone();
    flat[axis] = indices.len();
    let g = e.reshape(&dy, &flat);
    if let [only] = indices[..] {
        let (mut begin, mut end) = (vec![0; x.len()], vec![0; x.len()]);
        begin[axis] = only;
        end[axis] = x[axis] - only - 1;
        return Ok(vec![(0, e.pad(&g, &begin, &end, 0.0))]);
    }
    Ok(vec![(0, e.transposed_map(&g, &flat, axis, &selection(&indices, x[axis]), x[axis]))])
}

/// Crops constant padding; for `edge`, `reflect` and `wrap` each border pixel also gets the gradients of its copies.
pub fn pad(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let mut g = c.dy(e)?;
    let (x, y) = (e.shape(c.x(0))?.to_vec(), e.shape(c.y())?.to_vec());
    let rank = x.len();
    let pads = match c.node.ints("pads") {
        Some(p) => Some(p.to_vec()),
        None => e.input_ints(c.node, 1)?,
    };
    let pads = pads.ok_or_else(|| e.unsupported(c.node, "it has no pads"))?;
    let axes = match e.input_ints(c.node, 3)? {
        Some(a) => a.iter().map(|a| e.axis(c.node, *a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let mode = c.node.string("mode");
    let mut now = y;
    for (i, &axis) in axes.iter().enumerate() {
        let (begin, end) = (pads[i], pads[i + axes.len()]);
        if begin == 0 && end == 0 {
            continue;
        }
        let size = x[axis] as i64;
        let source = |o: i64| -> Option<usize> {
            let p = o - begin;
            let inside = (0..size).contains(&p);
            let q = match mode {
                _ if inside => p,
                "edge" => p.clamp(0, size - 1),
                "wrap" => p.rem_euclid(size),
                "reflect" if size == 1 => 0,
                "reflect" => {
                    let period = 2 * (size - 1);
                    let r = p.rem_euclid(period);
                    r.min(period - r)
                }
                _ => return None,
            };
            Some(q as usize)
        };
        let sources: Vec<Option<usize>> = (0..now[axis] as i64).map(source).collect();
        let mut m = vec![0.0; now[axis] * x[axis]];
        for (o, s) in sources.iter().enumerate() {
            if let Some(s) = s {
                m[o * x[axis] + s] = 1.0;
            }
        }
        if matches!(mode, "" | "constant") && begin >= 0 && end >= 0 {
            g = e.slice(&g, &[axis], &[begin], &[begin + size], &[1])?;
        } else {
            g = e.transposed_map(&g, &now, axis, &m, x[axis]);
        }
        now[axis] = x[axis];
    }
    Ok(vec![(0, g)])
}

/// The inverse move.
pub fn depth_to_space(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let block = c.node.int("blocksize", 1);
    if c.node.string("mode") != "CRD" {
        return Ok(vec![(0, e.op("SpaceToDepth", &[&dy], vec![int("blocksize", block)]))]);
    }
    // CRD: x [N, C b b, h, w] -> [N, C, b, b, h, w] -> [N, C, h, b, w, b] -> y [N, C, h b, w b], undone from behind.
    let x = e.shape(c.x(0))?.to_vec();
    let b = block as usize;
    let split = e.reshape(&dy, &[x[0], x[1] / (b * b), x[2], b, x[3], b]);
    let moved = e.transpose(&split, &[0, 1, 3, 5, 2, 4]);
    Ok(vec![(0, e.reshape(&moved, &x))])
}

/// The inverse move.
pub fn space_to_depth(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let block = c.node.int("blocksize", 1);
    let mut attributes = vec![int("blocksize", block)];
    if e.opset() >= 11 {
        attributes.push(string("mode", "DCR"));
    }
    Ok(vec![(0, e.op("DepthToSpace", &[&dy], attributes))])
}

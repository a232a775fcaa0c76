//! Operators that move values without changing them.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, string};
use crate::gradient::size::{Size, fixed, product};
use shiftlens_api::Result;

/// Reshape, Flatten, Squeeze, Unsqueeze: the same values in another shape.
pub fn same_values(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let dy = c.dy(e)?;
    Ok(vec![(0, e.reshape_like(&dy, c.x(0))?)])
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
    Ok(vec![(0, e.unbroadcast(&dy, from, to)?)])
}

/// Each input gets its own part.
pub fn concat(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let axis = e.axis(c.node, c.node.int("axis", 0), e.shape(c.y())?.len())?;
    let mut out = vec![];
    let mut from = 0;
    for (i, x) in c.node.input.iter().enumerate() {
        let to = from + e.sizes(c.node, &e.shape(x)?[axis..=axis])?[0] as i64;
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
            None => e.zeros_like(name),
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
    let x = e.shape(c.x(0))?;
    let rank = x.len();
    let n = c.node;
    let given = |e: &Emitter<'_>, name: &str, i: usize| -> Result<Option<Vec<i64>>> {
        match n.ints(name) {
            Some(v) => Ok(Some(v.to_vec())),
            None => e.input_ints(n, i),
        }
    };
    let (Some(starts), Some(_)) = (given(e, "starts", 1)?, given(e, "ends", 2)?) else {
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
        if steps[i] == 1 && now[axis] == x[axis] {
            continue;
        }
        let sizes = e.sizes(n, &[x[axis], now[axis]])?;
        let (full, kept) = (sizes[0], sizes[1]);
        let (size, step) = (full as i64, steps[i]);
        // Counted from the end where it is negative; far ends stand for "to the border" in either direction.
        let wrapped = if starts[i] < 0 { starts[i].saturating_add(size) } else { starts[i] };
        let start = wrapped.clamp(0, if step > 0 { size } else { size - 1 });
        if step == 1 {
            begin[axis] = start as usize;
            end[axis] = full - start as usize - kept;
        } else {
            let indices: Vec<usize> = (0..kept as i64).map(|k| (start + k * step) as usize).collect();
            g = e.transposed_map(&g, &now, axis, &selection(&indices, full), full)?;
            now[axis] = x[axis];
        }
    }
    Ok(vec![(0, e.pad(&g, &begin, &end, 0.0))])
}

/// The largest selection matrix that is stored, in entries.
const LARGEST_SELECTION: usize = 1 << 20;

/// Indices along one axis; an index may be taken several times.
///
/// Few constant indices make a constant selection matrix S, `y = S x`, `dx = S^T dy`. All others are a scattered sum,
/// or, before operator set 16 has one, a matrix S that OneHot makes when the model runs.
pub fn gather(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let x = e.shape(c.x(0))?;
    let axis = e.axis(c.node, c.node.int("axis", 0), x.len())?;
    let count = product(e.shape(c.x(1))?);
    if let (Some(n), Some(indices)) = (x[axis].fixed(), e.constant(c.x(1)))
        && (e.opset() < 16 || indices.ints().len() * n <= LARGEST_SELECTION)
    {
        let wrap = |i: &i64| if *i < 0 { i + n as i64 } else { *i } as usize;
        let indices: Vec<usize> = indices.ints().iter().map(wrap).collect();
        let mut flat = x.to_vec();
        flat[axis] = count;
        let g = e.reshape(&dy, &flat)?;
        if let [only] = indices[..] {
            let (mut begin, mut end) = (vec![0; x.len()], vec![0; x.len()]);
            begin[axis] = only;
            end[axis] = n - only - 1;
            return Ok(vec![(0, e.pad(&g, &begin, &end, 0.0))]);
        }
        return Ok(vec![(0, e.transposed_map(&g, &flat, axis, &selection(&indices, n), n)?)]);
    }
    if e.opset() < 16 {
        let n = e.sizes(c.node, &x[axis..=axis])?[0];
        let mut flat = x.to_vec();
        flat[axis] = count;
        let g = e.reshape(&dy, &flat)?;
        let index = e.reshape(c.x(1), &[count])?;
        let (depth, values) = (e.int_array(&[], &[n as i64]), e.floats(&[2], &[0.0, 1.0]));
        // [n, m]: OneHot puts the new axis first.
        let st = e.op("OneHot", &[&index, &depth, &values], vec![int("axis", 0)]);
        let st = e.reshape(&st, &[Size::Fixed(1), Size::Fixed(n), count])?;
        return Ok(vec![(0, e.map_along(&g, &flat, axis, &st, n)?)]);
    }
    // The axis in front, for x as for dy, where the axes of the indices stand in its place.
    let (rank, wide) = (x.len(), e.shape(c.x(1))?.len());
    let front: Vec<usize> = [axis].into_iter().chain((0..rank).filter(|a| *a != axis)).collect();
    let last = e.int_list(&[wide as i64]);
    let index = e.op("Unsqueeze", &[c.x(1), &last], vec![]);
    let add = vec![string("reduction", "add")];
    if axis == 0 {
        let zeros = e.zeros_like(c.x(0));
        return Ok(vec![(0, e.op("ScatterND", &[&zeros, &index, &dy], add))]);
    }
    let moved: Vec<usize> = (axis..axis + wide).chain(0..axis).chain(axis + wide..rank - 1 + wide).collect();
    let dy = e.transpose(&dy, &moved);
    let zeros = e.zeros_like(c.x(0));
    let zeros = e.transpose(&zeros, &front);
    let g = e.op("ScatterND", &[&zeros, &index, &dy], add);
    let mut back = vec![0; rank];
    front.iter().enumerate().for_each(|(i, a)| back[*a] = i);
    Ok(vec![(0, e.transpose(&g, &back))])
}

/// Summed over the copies: `[r, d, ..]` per axis.
pub fn tile(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let mut g = c.dy(e)?;
    let x = e.shape(c.x(0))?;
    let Some(repeats) = e.input_ints(c.node, 1)?.filter(|r| r.len() == x.len()) else {
        return Err(e.unsupported(c.node, "it has no repeats"));
    };
    let mut now = e.shape(c.y())?.to_vec();
    for (axis, r) in repeats.iter().enumerate().filter(|(_, r)| **r != 1) {
        let mut apart = now[..axis].to_vec();
        apart.extend([Size::Fixed((*r).max(0) as usize), x[axis]]);
        apart.extend(&now[axis + 1..]);
        g = e.reshape(&g, &apart)?;
        g = e.sum(&g, &[axis]);
        now[axis] = x[axis];
        g = e.reshape(&g, &now)?;
    }
    Ok(vec![(0, g)])
}

/// The same triangle of the gradient.
pub fn trilu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let upper = vec![int("upper", c.node.int("upper", 1))];
    let g = match c.node.input_name(1) {
        Some(k) => e.op("Trilu", &[&dy, k], upper),
        None => e.op("Trilu", &[&dy], upper),
    };
    Ok(vec![(0, g)])
}

/// Sums from the other end.
pub fn cum_sum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let attributes =
        vec![int("exclusive", c.node.int("exclusive", 0)), int("reverse", 1 - c.node.int("reverse", 0))];
    Ok(vec![(0, e.op("CumSum", &[&dy, c.x(1)], attributes))])
}

/// Crops constant padding; for `edge`, `reflect` and `wrap` each border pixel also gets the gradients of its copies.
pub fn pad(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let mut g = c.dy(e)?;
    let x = e.shape(c.x(0))?;
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
    let mut now = e.shape(c.y())?.to_vec();
    for (i, &axis) in axes.iter().enumerate() {
        let (begin, end) = (pads[i], pads[i + axes.len()]);
        if begin == 0 && end == 0 {
            continue;
        }
        let sizes = e.sizes(c.node, &[x[axis], now[axis]])?;
        let (inner, outer) = (sizes[0], sizes[1]);
        let size = inner as i64;
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
        if matches!(mode, "" | "constant") && begin >= 0 && end >= 0 {
            g = e.slice(&g, &[axis], &[begin], &[begin + size], &[1])?;
        } else {
            let mut m = vec![0.0; outer * inner];
            for (o, s) in (0..outer as i64).map(source).enumerate() {
                if let Some(s) = s {
                    m[o * inner + s] = 1.0;
                }
            }
            g = e.transposed_map(&g, &now, axis, &m, inner)?;
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
    let x = e.shape(c.x(0))?;
    let b = block as usize;
    let n = e.sizes(c.node, &x[1..])?;
    let mut apart = vec![x[0]];
    apart.extend(fixed(&[n[0] / (b * b), n[1], b, n[2], b]));
    let apart = e.reshape(&dy, &apart)?;
    let moved = e.transpose(&apart, &[0, 1, 3, 5, 2, 4]);
    Ok(vec![(0, e.reshape_like(&moved, c.x(0))?)])
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

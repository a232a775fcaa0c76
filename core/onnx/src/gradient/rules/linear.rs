//! Matrix products and softmax.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use crate::gradient::size::Size;
use shiftlens_api::Result;

/// `a` with its last two axes exchanged.
fn swap(e: &mut Emitter<'_>, a: &str, rank: usize) -> String {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    e.transpose(a, &perm)
}

/// `y = alpha A' B' + beta C`, with `A'` and `B'` possibly transposed.
pub fn gemm(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let n = c.node;
    let (ta, tb) = (n.int("transA", 0) != 0, n.int("transB", 0) != 0);
    let scaled = e.scale(&dy, n.float("alpha", 1.0));
    let mut out = vec![];
    if c.wants(0) {
        // dA' = dY B'^T
        let bt = if tb { c.x(1).to_owned() } else { swap(e, c.x(1), 2) };
        let g = e.matmul(&scaled, &bt);
        out.push((0, if ta { swap(e, &g, 2) } else { g }));
    }
    if c.wants(1) {
        // dB' = A'^T dY
        let at = if ta { c.x(0).to_owned() } else { swap(e, c.x(0), 2) };
        let g = e.matmul(&at, &scaled);
        out.push((1, if tb { swap(e, &g, 2) } else { g }));
    }
    if c.wants(2) {
        let (from, to) = (e.shape(c.y())?, e.shape(c.x(2))?);
        let g = e.scale(&dy, n.float("beta", 1.0));
        out.push((2, e.unbroadcast(&g, from, to)?));
    }
    Ok(out)
}

/// A vector is a matrix with one row (left) or one column (right).
fn as_matrix(shape: &[Size], left: bool) -> Vec<Size> {
    match (shape, left) {
        ([n], true) => vec![Size::Fixed(1), *n],
        ([n], false) => vec![*n, Size::Fixed(1)],
        _ => shape.to_vec(),
    }
}

/// `y = A B`, batched and broadcast: `dA = dY B^T`, `dB = A^T dY`.
pub fn matmul(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let (a, b, y) = (e.shape(c.x(0))?, e.shape(c.x(1))?, e.shape(c.y())?);
    let (fa, fb) = (as_matrix(a, true), as_matrix(b, false));
    let mut fy = y.to_vec();
    if a.len() == 1 {
        fy.insert(fy.len() - usize::from(b.len() > 1), Size::Fixed(1));
    }
    if b.len() == 1 {
        fy.push(Size::Fixed(1));
    }
    let mut dy = c.dy(e)?;
    if fy.len() != y.len() {
        dy = e.reshape(&dy, &fy)?;
    }
    let batched =
        |m: &[Size]| -> Vec<Size> { fy[..fy.len() - 2].iter().chain(&m[m.len() - 2..]).copied().collect() };
    let mut out = vec![];
    if c.wants(0) {
        let b2 = if b.len() == 1 { e.reshape(c.x(1), &fb)? } else { c.x(1).to_owned() };
        let bt = swap(e, &b2, fb.len());
        let g = e.matmul(&dy, &bt);
        let g = e.unbroadcast(&g, &batched(&fa), &fa)?;
        out.push((0, if a.len() == 1 { e.reshape(&g, a)? } else { g }));
    }
    if c.wants(1) {
        let a2 = if a.len() == 1 { e.reshape(c.x(0), &fa)? } else { c.x(0).to_owned() };
        let at = swap(e, &a2, fa.len());
        let g = e.matmul(&at, &dy);
        let g = e.unbroadcast(&g, &batched(&fb), &fb)?;
        out.push((1, if b.len() == 1 { e.reshape(&g, b)? } else { g }));
    }
    Ok(out)
}

/// The axes over which a softmax normalises: one since operator set 13; before, all from `axis` on.
fn softmax_axes(e: &Emitter<'_>, c: &Call<'_>) -> Result<Vec<usize>> {
    let rank = e.shape(c.x(0))?.len();
    if e.opset() >= 13 {
        Ok(vec![e.axis(c.node, c.node.int("axis", -1), rank)?])
    } else {
        Ok((e.axis(c.node, c.node.int("axis", 1), rank)?..rank).collect())
    }
}

/// `dx = y (dy - sum(dy y))`.
pub fn softmax(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let axes = softmax_axes(e, c)?;
    let p = e.mul(&dy, c.y());
    let s = e.sum(&p, &axes);
    let d = e.sub(&dy, &s);
    Ok(vec![(0, e.mul(c.y(), &d))])
}

/// `dx = dy - e^y sum(dy)`.
pub fn log_softmax(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let axes = softmax_axes(e, c)?;
    let s = e.sum(&dy, &axes);
    let p = e.op("Exp", &[c.y()], vec![]);
    let p = e.mul(&p, &s);
    Ok(vec![(0, e.sub(&dy, &p))])
}

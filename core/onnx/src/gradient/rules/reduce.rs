//! Reductions.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use shiftlens_api::Result;

/// What a reduction's rule works with.
struct Reduction {
    /// Shape of x.
    full: Vec<usize>,
    /// The same with the reduced axes of size 1.
    kept: Vec<usize>,
    /// How many values each result stands for.
    count: usize,
    axes: Vec<usize>,
}

fn read(e: &Emitter<'_>, c: &Call<'_>) -> Result<Reduction> {
    let full = e.shape(c.x(0))?.to_vec();
    let axes = match e.axes(c.node, 1, full.len())? {
        Some(a) if !a.is_empty() => a,
        _ if c.node.int("noop_with_empty_axes", 0) != 0 => vec![],
        _ => (0..full.len()).collect(),
    };
    let kept = full.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d }).collect();
    let count = axes.iter().map(|a| full[*a]).product();
    Ok(Reduction { full, kept, count, axes })
}

/// `y = sum(x)`.
pub fn reduce_sum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let r = read(e, c)?;
    let g = e.reshape(&dy, &r.kept);
    Ok(vec![(0, e.expand(&g, &r.kept, &r.full))])
}

/// `y = mean(x)`.
pub fn reduce_mean(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let r = read(e, c)?;
    let g = e.reshape(&dy, &r.kept);
    let g = e.scale(&g, 1.0 / r.count as f32);
    Ok(vec![(0, e.expand(&g, &r.kept, &r.full))])
}

/// The gradient goes to the values that attain the extremum, in equal parts.
fn extremum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let r = read(e, c)?;
    let y = e.reshape(c.y(), &r.kept);
    let hit = e.op("Equal", &[c.x(0), &y], vec![]);
    let mask = e.to_float(&hit);
    let total = e.sum(&mask, &r.axes);
    let g = e.reshape(&dy, &r.kept);
    let g = e.div(&g, &total);
    Ok(vec![(0, e.mul(&mask, &g))])
}

/// `y = max(x)`.
pub fn reduce_max(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    extremum(e, c)
}

/// `y = min(x)`.
pub fn reduce_min(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    extremum(e, c)
}

/// `y = sum(x^2)`: `dx = 2 x dy`.
pub fn reduce_sum_square(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let r = read(e, c)?;
    let g = e.reshape(&dy, &r.kept);
    let g = e.scale(&g, 2.0);
    Ok(vec![(0, e.mul(c.x(0), &g))])
}

/// `y = sqrt(sum(x^2))`: `dx = x dy / y`.
pub fn reduce_l2(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let r = read(e, c)?;
    let g = e.div(&dy, c.y());
    let g = e.reshape(&g, &r.kept);
    Ok(vec![(0, e.mul(c.x(0), &g))])
}

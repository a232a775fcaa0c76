//! Reductions.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use crate::gradient::size::{Shape, Size, product};
use shiftlens_api::Result;

/// What a reduction's rule works with.
struct Reduction {
    /// Shape of x with the reduced axes of size 1.
    kept: Shape,
    axes: Vec<usize>,
    /// How many values each result stands for; not known where it follows the batch.
    count: Size,
    /// The gradient of y, with the reduced axes of size 1.
    dy: String,
    /// The same for y.
    y: String,
}

fn read(e: &mut Emitter<'_>, c: &Call<'_>) -> Result<Reduction> {
    let dy = c.dy(e)?;
    let full = e.shape(c.x(0))?;
    let axes = match e.axes(c.node, 1, full.len())? {
        Some(a) if !a.is_empty() => a,
        _ if c.node.int("noop_with_empty_axes", 0) != 0 => vec![],
        _ => (0..full.len()).collect(),
    };
    let kept: Shape =
        full.iter().enumerate().map(|(i, d)| if axes.contains(&i) { Size::Fixed(1) } else { *d }).collect();
    let reduced: Shape = axes.iter().map(|a| full[*a]).collect();
    let keep = |e: &mut Emitter<'_>, t: &str| -> Result<String> {
        if c.node.int("keepdims", 1) != 0 { Ok(t.to_owned()) } else { e.reshape(t, &kept) }
    };
    let (dy, y) = (keep(e, &dy)?, keep(e, c.y())?);
    Ok(Reduction { kept, axes, count: product(&reduced), dy, y })
}

/// `y = sum(x)`.
pub fn reduce_sum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    Ok(vec![(0, e.expand_like(&r.dy, &r.kept, c.x(0))?)])
}

/// `y = mean(x)`.
pub fn reduce_mean(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let count = r.count.fixed().ok_or_else(|| e.unsupported(c.node, "it takes the mean over the images"))?;
    let g = e.scale(&r.dy, 1.0 / count as f32);
    Ok(vec![(0, e.expand_like(&g, &r.kept, c.x(0))?)])
}

/// The gradient goes to the values that attain the extremum, in equal parts.
fn extremum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let mask = e.equal(c.x(0), &r.y);
    let total = e.sum(&mask, &r.axes);
    let g = e.div(&r.dy, &total);
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
    let r = read(e, c)?;
    let g = e.scale(&r.dy, 2.0);
    Ok(vec![(0, e.mul(c.x(0), &g))])
}

/// `y = sqrt(sum(x^2))`: `dx = x dy / y`, and 0 where all of x are 0, as in PyTorch.
pub fn reduce_l2(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let y = e.not_zero(&r.y);
    let g = e.div(&r.dy, &y);
    Ok(vec![(0, e.mul(c.x(0), &g))])
}

/// `y = sum(|x|)`: `dx = sign(x) dy`.
pub fn reduce_l1(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let sign = e.op("Sign", &[c.x(0)], vec![]);
    Ok(vec![(0, e.mul(&sign, &r.dy))])
}

/// `y = ln(sum(x))`: `dx = dy / e^y`.
pub fn reduce_log_sum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let sum = e.op("Exp", &[&r.y], vec![]);
    let g = e.div(&r.dy, &sum);
    Ok(vec![(0, e.expand_like(&g, &r.kept, c.x(0))?)])
}

/// `y = ln(sum(e^x))`: `dx = e^(x - y) dy`.
pub fn reduce_log_sum_exp(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let d = e.sub(c.x(0), &r.y);
    let share = e.op("Exp", &[&d], vec![]);
    Ok(vec![(0, e.mul(&share, &r.dy))])
}

/// `y = prod(x)`: each value's derivative is the product of the others, which may hold zeros.
///
/// With p the product of all values that are not 0, and z the number of zeros: `p / x` where x is not 0 and z = 0, `p`
/// where x is the only 0, else 0.
pub fn reduce_prod(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let r = read(e, c)?;
    let zero = e.scalar(0.0);
    let mask = e.equal(c.x(0), &zero);
    let filled = e.add(c.x(0), &mask);
    let p = e.product(&filled, &r.axes);
    let zeros = e.sum(&mask, &r.axes);
    // Zeros among the other values: z less one where x itself is 0.
    let others = e.sub(&zeros, &mask);
    let alone = e.equal(&others, &zero);
    let rest = e.div(&p, &filled);
    let rest = e.mul(&rest, &alone);
    Ok(vec![(0, e.mul(&rest, &r.dy))])
}

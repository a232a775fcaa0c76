//! Gathering and scattering by index arrays: what one of them reads, the other adds to.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, string};
use shiftlens_api::Result;

/// Refuses what operator sets before 16 cannot say: scattering that adds up.
fn can_add(e: &Emitter<'_>, c: &Call<'_>) -> Result<()> {
    if e.opset() >= 16 {
        return Ok(());
    }
    let why = format!(
        "it needs a scattered sum (operator set 16), the model is written in operator set {}; export it anew",
        e.opset()
    );
    Err(e.unsupported(c.node, &why))
}

/// `y = x[indices]`, index vectors along the last axis of `indices`: a scattered sum.
pub fn gather_nd(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    can_add(e, c)?;
    if c.node.int("batch_dims", 0) != 0 {
        return Err(e.unsupported(c.node, "batch_dims is set"));
    }
    let dy = c.dy(e)?;
    let zeros = e.zeros_like(c.x(0));
    Ok(vec![(0, e.op("ScatterND", &[&zeros, c.x(1), &dy], vec![string("reduction", "add")]))])
}

/// `y[.., i, ..] = x[.., indices[.., i, ..], ..]` along one axis: a scattered sum.
pub fn gather_elements(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    can_add(e, c)?;
    let dy = c.dy(e)?;
    let zeros = e.zeros_like(c.x(0));
    let attributes = vec![int("axis", c.node.int("axis", 0)), string("reduction", "add")];
    Ok(vec![(0, e.op("ScatterElements", &[&zeros, c.x(1), &dy], attributes))])
}

/// How a scattering treats what it meets: it must replace it or add to it.
fn adds(e: &Emitter<'_>, c: &Call<'_>) -> Result<bool> {
    match c.node.string("reduction") {
        "" | "none" => Ok(false),
        "add" => Ok(true),
        other => Err(e.unsupported(c.node, &format!("reduction \"{other}\""))),
    }
}

/// `y = x` with `updates` at `indices`, or added there: x gets dy (where nothing was replaced), the updates what lies at
/// their place.
pub fn scatter_nd(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let adds = adds(e, c)?;
    let mut out = vec![];
    if c.wants(0) {
        out.push((
            0,
            if adds {
                dy.clone()
            } else {
                let zeros = e.zeros_like(c.x(2));
                e.op("ScatterND", &[&dy, c.x(1), &zeros], vec![])
            },
        ));
    }
    if c.wants(2) {
        out.push((2, e.op("GatherND", &[&dy, c.x(1)], vec![])));
    }
    Ok(out)
}

/// As [`scatter_nd`], along one axis.
pub fn scatter_elements(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let adds = adds(e, c)?;
    let axis = || vec![int("axis", c.node.int("axis", 0))];
    let mut out = vec![];
    if c.wants(0) {
        out.push((
            0,
            if adds {
                dy.clone()
            } else {
                let zeros = e.zeros_like(c.x(2));
                e.op("ScatterElements", &[&dy, c.x(1), &zeros], axis())
            },
        ));
    }
    if c.wants(2) {
        out.push((2, e.op("GatherElements", &[&dy, c.x(1)], axis())));
    }
    Ok(out)
}

/// The k largest (or smallest) values: each gradient goes back to its value's place.
pub fn top_k(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let Some(indices) = c.node.output.get(1).filter(|o| !o.is_empty()) else {
        return Err(e.unsupported(c.node, "its indices are left out; name its second output"));
    };
    let zeros = e.zeros_like(c.x(0));
    let axis = e.axis(c.node, c.node.int("axis", -1), e.shape(c.x(0))?.len())? as i64;
    // The operator's name up to operator set 10.
    let scatter = if e.opset() < 11 { "Scatter" } else { "ScatterElements" };
    Ok(vec![(0, e.op(scatter, &[&zeros, indices, &dy], vec![int("axis", axis)]))])
}

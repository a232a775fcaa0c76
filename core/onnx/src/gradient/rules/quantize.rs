//! Quantised models: the straight-through estimator.
//!
//! Rounding has the derivative 0 almost everywhere, which says nothing about the image. As in quantisation-aware
//! training (Bengio et al. 2013; Jacob et al. 2018), a pair of QuantizeLinear and DequantizeLinear is taken for what it
//! approximates: the identity within the range of its integers, a constant outside.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use crate::gradient::size::Size;
use crate::proto::data_type;
use shiftlens_api::Result;

/// A per-axis or per-tensor parameter of a node, shaped to broadcast against its first input.
fn parameter(e: &mut Emitter<'_>, c: &Call<'_>, values: &[f32]) -> Result<String> {
    if c.node.int("block_size", 0) != 0 {
        return Err(e.unsupported(c.node, "its scale is per block"));
    }
    let mut shape = vec![1; e.shape(c.x(0))?.len()];
    if values.len() > 1 {
        let axis = e.axis(c.node, c.node.int("axis", 1), shape.len())?;
        if e.shape(c.x(0))?[axis] != Size::Fixed(values.len()) {
            return Err(e.unsupported(c.node, "its scale is neither per tensor nor per axis"));
        }
        shape[axis] = values.len();
    }
    Ok(e.floats(&shape, values))
}

/// `y = x / scale + zero`: `dx = dy / scale` where x rounds to an integer of the type's range, else 0.
pub fn quantize(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) {
        return Err(e.unsupported(c.node, "its scale depends on the image"));
    }
    let scale = e.input_floats(c.node, 1)?.unwrap_or_default();
    let zero: Vec<f32> = e.input_floats(c.node, 2)?.unwrap_or_else(|| vec![0.0; scale.len()]);
    let kind = match c.node.input_name(2) {
        Some(name) => e.element_type(name),
        None => c.node.int("output_dtype", i64::from(data_type::UINT8)) as i32,
    };
    let (low, high) = match kind {
        data_type::UINT8 => (0.0, 255.0),
        data_type::INT8 => (-128.0, 127.0),
        data_type::UINT16 => (0.0, 65535.0),
        data_type::INT16 => (-32768.0, 32767.0),
        other => return Err(e.unsupported(c.node, &format!("its integers are of ONNX data type {other}"))),
    };
    if zero.len() != scale.len() {
        return Err(e.unsupported(c.node, "scale and zero point differ in size"));
    }
    let bound = |limit: f32| -> Vec<f32> { scale.iter().zip(&zero).map(|(s, z)| (limit - z) * s).collect() };
    let (low, high) = (parameter(e, c, &bound(low - 0.5))?, parameter(e, c, &bound(high + 0.5))?);
    let (above, below) = (e.greater(c.x(0), &low), e.greater(&high, c.x(0)));
    let steps = parameter(e, c, &scale)?;
    let g = e.div(&dy, &steps);
    let g = e.mul(&g, &above);
    Ok(vec![(0, e.mul(&g, &below))])
}

/// `y = (x - zero) scale`: `dx = scale dy`. The integers may have been written with another scale.
pub fn dequantize(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if c.wants(1) {
        return Err(e.unsupported(c.node, "its scale depends on the image"));
    }
    let dy = c.dy(e)?;
    let scale = e.input_floats(c.node, 1)?.unwrap_or_default();
    let scale = parameter(e, c, &scale)?;
    Ok(vec![(0, e.mul(&dy, &scale))])
}

//! Normalisations.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;

/// Inference mode: `y = scale (x - mean) / sqrt(var + epsilon) + bias`, all per channel.
pub fn batch_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if c.node.int("training_mode", 0) != 0 {
        return Err(e.unsupported(c.node, "it is in training mode; export the model in evaluation mode"));
    }
    let dy = c.dy(e)?;
    if (1..5).any(|i| c.wants(i)) {
        return Err(e.unsupported(c.node, "its statistics depend on the image"));
    }
    let (Some(scale), Some(var)) = (e.input_floats(c.node, 1)?, e.input_floats(c.node, 4)?) else {
        return Err(e.unsupported(c.node, "scale or variance is missing"));
    };
    let epsilon = f64::from(c.node.float("epsilon", 1e-5));
    let factor: Vec<f32> = scale
        .iter()
        .zip(&var)
        .map(|(s, v)| (f64::from(*s) / (f64::from(*v) + epsilon).sqrt()) as f32)
        .collect();
    let mut shape = vec![1; e.shape(c.x(0))?.len()];
    if shape.len() > 1 {
        shape[1] = factor.len();
    }
    let factor = e.floats(&shape, &factor);
    Ok(vec![(0, e.mul(&dy, &factor))])
}

/// `xhat = (x - mean) / sqrt(var + epsilon)` over `axes`, and the gradient of x for a gradient `g` of xhat:
/// `dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + epsilon)`.
fn standardised(e: &mut Emitter<'_>, x: &str, g: &str, axes: &[usize], epsilon: f32) -> String {
    let mean = e.mean(x, axes);
    let centred = e.sub(x, &mean);
    let square = e.mul(&centred, &centred);
    let var = e.mean(&square, axes);
    let var = e.shift(&var, epsilon);
    let std = e.op("Sqrt", &[&var], vec![]);
    let xhat = e.div(&centred, &std);
    let first = e.mean(g, axes);
    let second = e.mul(g, &xhat);
    let second = e.mean(&second, axes);
    let second = e.mul(&xhat, &second);
    let d = e.sub(g, &first);
    let d = e.sub(&d, &second);
    e.div(&d, &std)
}

/// Each channel of each image by its own mean and variance.
pub fn instance_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its scale or bias depends on the image"));
    }
    let shape = e.shape(c.x(0))?;
    let mut per_channel = vec![1; shape.len()];
    per_channel[1] = shape[1];
    let scale = e.reshape(c.x(1), &per_channel);
    let g = e.mul(&dy, &scale);
    let axes: Vec<usize> = (2..shape.len()).collect();
    Ok(vec![(0, standardised(e, c.x(0), &g, &axes, c.node.float("epsilon", 1e-5)))])
}

/// The axes from `axis` on by their own mean and variance.
pub fn layer_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its scale or bias depends on the image"));
    }
    let rank = e.shape(c.x(0))?.len();
    let axis = e.axis(c.node, c.node.int("axis", -1), rank)?;
    let g = e.mul(&dy, c.x(1));
    let axes: Vec<usize> = (axis..rank).collect();
    Ok(vec![(0, standardised(e, c.x(0), &g, &axes, c.node.float("epsilon", 1e-5)))])
}

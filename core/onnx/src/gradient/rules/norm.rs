//! Normalisations.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use crate::gradient::size::{Size, fixed};
use shiftlens_api::Result;

/// Inference mode: `y = scale (x - mean) / sqrt(var + epsilon) + bias`, all per channel.
pub fn batch_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if c.node.int("training_mode", 0) != 0 {
        return Err(e.unsupported(c.node, "it is in training mode; export the model in evaluation mode"));
    }
    if c.node.int("spatial", 1) == 0 {
        return Err(e.unsupported(c.node, "its statistics are per pixel (spatial = 0)"));
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
    Ok(vec![(0, e.scale_channels(&dy, &factor, &shape))])
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

/// `y = (x - mean) / (std + 1e-9)` over `axes`, as a rule `[0, 2, 3]`: each channel over all pixels of all images.
pub fn mean_variance_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let rank = e.shape(c.x(0))?.len();
    let axes = c.node.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes = axes.iter().map(|a| e.axis(c.node, *a, rank)).collect::<Result<Vec<_>>>()?;
    // The square of what the specification adds to the deviation: all that is left of either where that is 0.
    Ok(vec![(0, standardised(e, c.x(0), &dy, &axes, 1e-18))])
}

/// Each channel of each image by its own mean and variance.
pub fn instance_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its scale or bias depends on the image"));
    }
    let shape = e.shape(c.x(0))?;
    let mut per_channel = vec![Size::Fixed(1); shape.len()];
    per_channel[1] = shape[1];
    let scale = e.reshape(c.x(1), &per_channel)?;
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
    let axes = trailing_axes(e, c)?;
    let g = e.mul(&dy, c.x(1));
    Ok(vec![(0, standardised(e, c.x(0), &g, &axes, c.node.float("epsilon", 1e-5)))])
}

fn trailing_axes(e: &Emitter<'_>, c: &Call<'_>) -> Result<Vec<usize>> {
    let rank = e.shape(c.x(0))?.len();
    Ok((e.axis(c.node, c.node.int("axis", -1), rank)?..rank).collect())
}

/// `y = scale x / r` with `r = sqrt(mean(x^2) + epsilon)` over the axes from `axis` on (Zhang & Sennrich 2019): with
/// `g = scale dy`, `dx = (g - x mean(g x) / r^2) / r`.
pub fn rms_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) {
        return Err(e.unsupported(c.node, "its scale depends on the image"));
    }
    let axes = trailing_axes(e, c)?;
    let x = c.x(0);
    let g = e.mul(&dy, c.x(1));
    let square = e.mul(x, x);
    let r2 = e.mean(&square, &axes);
    let r2 = e.shift(&r2, c.node.float("epsilon", 1e-5));
    let r = e.op("Sqrt", &[&r2], vec![]);
    let p = e.mul(&g, x);
    let p = e.mean(&p, &axes);
    let p = e.div(&p, &r2);
    let p = e.mul(x, &p);
    let d = e.sub(&g, &p);
    Ok(vec![(0, e.div(&d, &r))])
}

/// Groups of channels of each image by their own mean and variance (Wu & He 2018). Scale and bias are per group in
/// operator set 18, per channel from 21 on.
pub fn group_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its scale or bias depends on the image"));
    }
    let x = e.shape(c.x(0))?;
    let channels = e.sizes(c.node, &x[1..2])?[0];
    let groups = c.node.int("num_groups", 1).max(1) as usize;
    let scale = e.sizes(c.node, e.shape(c.x(1))?)?;
    let pixels: usize = e.sizes(c.node, &x[2..])?.iter().product();
    // [N, G, C/G, pixels], and the scale [1, G, C/G or 1, 1].
    let mut grouped = vec![x[0]];
    grouped.extend(fixed(&[groups, channels / groups, pixels]));
    let per_group = if scale == [channels] { channels / groups } else { 1 };
    let (xg, g) = (e.reshape(c.x(0), &grouped)?, e.reshape(&dy, &grouped)?);
    let scale = e.reshape(c.x(1), &fixed(&[1, groups, per_group, 1]))?;
    let g = e.mul(&g, &scale);
    let dx = standardised(e, &xg, &g, &[2, 3], c.node.float("epsilon", 1e-5));
    Ok(vec![(0, e.reshape_like(&dx, c.x(0))?)])
}

/// `y = x / s^beta`, `s_c = bias + alpha / size sum_{c' near c} x_c'^2` (Krizhevsky et al. 2012, section 3.3):
/// `dx_c = dy_c / s_c^beta - 2 alpha beta / size x_c sum_{c' near c, turned round} dy_c' y_c' / s_c'`.
pub fn lrn(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (x, y) = (c.x(0), c.y());
    let shape = e.shape(x)?;
    let channels = e.sizes(c.node, &shape[1..2])?[0];
    let size = c.node.int("size", 1).max(1) as usize;
    let (alpha, beta, bias) =
        (c.node.float("alpha", 1e-4), c.node.float("beta", 0.75), c.node.float("bias", 1.0));
    // ONNX: from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).
    let (before, after) = ((size - 1) / 2, (size - 1).div_ceil(2));
    let near = |c: usize, other: usize| other + before >= c && other <= c + after;
    let window: Vec<f32> =
        (0..channels).flat_map(|c| (0..channels).map(move |o| if near(c, o) { 1.0 } else { 0.0 })).collect();
    let turned: Vec<f32> =
        (0..channels).flat_map(|c| (0..channels).map(move |o| if near(o, c) { 1.0 } else { 0.0 })).collect();
    let square = e.mul(x, x);
    let m = e.floats(&[1, channels, channels], &window);
    let s = e.map_along(&square, shape, 1, &m, channels)?;
    let s = e.scale(&s, alpha / size as f32);
    let s = e.shift(&s, bias);
    let exponent = e.scalar(beta);
    let power = e.op("Pow", &[&s, &exponent], vec![]);
    let direct = e.div(&dy, &power);
    let p = e.mul(&dy, y);
    let p = e.div(&p, &s);
    let m = e.floats(&[1, channels, channels], &turned);
    let p = e.map_along(&p, shape, 1, &m, channels)?;
    let p = e.mul(&p, x);
    let p = e.scale(&p, 2.0 * alpha * beta / size as f32);
    Ok(vec![(0, e.sub(&direct, &p))])
}

/// `y = x / |x|_p` along one axis, p 1 or 2: `dx = (dy - d sum(dy y)) / |x|_p` with d the derivative of the norm, y for
/// p = 2 and sign(x) for p = 1; 0 where all of x are 0.
pub fn lp_normalization(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let axis = e.axis(c.node, c.node.int("axis", -1), e.shape(c.x(0))?.len())?;
    let (norm, slope) = if c.node.int("p", 2) == 1 {
        let size = e.op("Abs", &[c.x(0)], vec![]);
        (e.sum(&size, &[axis]), e.op("Sign", &[c.x(0)], vec![]))
    } else {
        let square = e.mul(c.x(0), c.x(0));
        let square = e.sum(&square, &[axis]);
        (e.op("Sqrt", &[&square], vec![]), c.y().to_owned())
    };
    let p = e.mul(&dy, c.y());
    let p = e.sum(&p, &[axis]);
    let p = e.mul(&p, &slope);
    let d = e.sub(&dy, &p);
    let some = e.above(&norm, 0.0);
    let d = e.mul(&d, &some);
    let norm = e.not_zero(&norm);
    Ok(vec![(0, e.div(&d, &norm))])
}

//! Pooling.

use super::conv::{Window, scatter};
use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int};

/// Stands for minus infinity in padding; never larger than a pixel.
const LOWEST: f32 = f32::MIN;

fn kernel(e: &Emitter<'_>, c: &Call<'_>) -> shiftlens_api::Result<Vec<usize>> {
    let k = c.node.ints("kernel_shape").ok_or_else(|| e.unsupported(c.node, "it has no kernel_shape"))?;
    Ok(k.iter().map(|v| *v as usize).collect())
}

/// `dy / (number of pixels)`, repeated over the spatial axes.
pub fn global_average_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (from, to) = (e.shape(c.y())?, e.shape(c.x(0))?);
    let g = e.scale(&dy, 1.0 / to[2..].iter().product::<usize>() as f32);
    Ok(vec![(0, e.expand(&g, from, to))])
}

/// All of `dy` goes to the first largest pixel, as in PyTorch.
pub fn global_max_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let x = e.shape(c.x(0))?.to_vec();
    let n: usize = x[2..].iter().product();
    let flat = e.reshape(c.x(0), &[x[0], x[1], n]);
    let mask = first_largest(e, &flat, 3, 2, n);
    let dy = e.reshape(&dy, &[x[0], x[1], 1]);
    let g = e.mul(&mask, &dy);
    Ok(vec![(0, e.reshape(&g, &x))])
}

/// 1 at the first largest entry along `axis` (of size `n`), 0 elsewhere.
fn first_largest(e: &mut Emitter<'_>, x: &str, rank: usize, axis: usize, n: usize) -> String {
    let best = e.op("ArgMax", &[x], vec![int("axis", axis as i64), int("keepdims", 1)]);
    let mut shape = vec![1; rank];
    shape[axis] = n;
    let index = e.int_array(&shape, &(0..n as i64).collect::<Vec<_>>());
    let hit = e.op("Equal", &[&best, &index], vec![]);
    e.to_float(&hit)
}

/// `dy` goes to the first largest pixel of each window (row by row, as PyTorch and ONNX Runtime choose); windows may
/// overlap.
pub fn max_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let kernel = kernel(e, c)?;
    let (x, y) = (e.shape(c.x(0))?.to_vec(), e.shape(c.y())?.to_vec());
    let window = Window::read(e, c.node, &kernel, &x, &y)?;
    let spatial = kernel.len();
    let plain = window.begin.iter().chain(&window.end).chain(&window.unreached).all(|p| *p == 0)
        && window.strides == kernel
        && window.dilations.iter().all(|d| *d == 1);
    if plain {
        return tiles(e, c, &dy, &kernel, &x, &y);
    }

    // The k pixels of each window side by side: [N, C, k, oh, ow].
    let mut begin = vec![0, 0];
    begin.extend(&window.begin);
    let mut end = vec![0, 0];
    end.extend(&window.end);
    let padded = e.pad(c.x(0), &begin, &end, LOWEST);
    let axes: Vec<usize> = (2..2 + spatial).collect();
    let k: usize = kernel.iter().product();
    let mut one = vec![x[0], x[1], 1];
    one.extend(&y[2..]);
    let mut taps = Vec::with_capacity(k);
    for tap in 0..k {
        let offset = unravel(tap, &kernel);
        let start: Vec<i64> = (0..spatial).map(|i| (offset[i] * window.dilations[i]) as i64).collect();
        let stop: Vec<i64> =
            (0..spatial).map(|i| start[i] + ((y[i + 2] - 1) * window.strides[i]) as i64 + 1).collect();
        let step: Vec<i64> = window.strides.iter().map(|s| *s as i64).collect();
        let t = e.slice(&padded, &axes, &start, &stop, &step)?;
        taps.push(e.reshape(&t, &one));
    }
    let stacked = e.concat(&taps, 2);
    let mask = first_largest(e, &stacked, one.len(), 2, k);
    let dy = e.reshape(&dy, &one);
    let routed = e.mul(&mask, &dy);
    let mut channels = vec![x[0], x[1] * k];
    channels.extend(&y[2..]);
    let routed = e.reshape(&routed, &channels);

    // Back to the pixels: a depthwise transposed convolution whose k kernels have a single 1 each.
    let mut weight = vec![0.0; x[1] * k * k];
    for channel in 0..x[1] {
        for tap in 0..k {
            weight[(channel * k + tap) * k + tap] = 1.0;
        }
    }
    let mut shape = vec![x[1] * k, 1];
    shape.extend(&kernel);
    let weight = e.floats(&shape, &weight);
    Ok(vec![(0, scatter(e, &routed, &weight, &window, x[1]))])
}

/// Windows that tile the input: `[N, C, oh, kh, ow, kw]`.
fn tiles(e: &mut Emitter<'_>, c: &Call<'_>, dy: &str, kernel: &[usize], x: &[usize], y: &[usize]) -> Answer {
    let spatial = kernel.len();
    let k: usize = kernel.iter().product();
    let mut split = vec![x[0], x[1]];
    (0..spatial).for_each(|i| split.extend([y[i + 2], kernel[i]]));
    let mut perm = vec![0, 1];
    perm.extend((0..spatial).map(|i| 2 + 2 * i));
    perm.extend((0..spatial).map(|i| 3 + 2 * i));
    let windows = e.reshape(c.x(0), &split);
    let windows = e.transpose(&windows, &perm);
    let mut flat = y.to_vec();
    flat.push(k);
    let windows = e.reshape(&windows, &flat);
    let mask = first_largest(e, &windows, flat.len(), flat.len() - 1, k);
    let mut one = y.to_vec();
    one.push(1);
    let dy = e.reshape(dy, &one);
    let g = e.mul(&mask, &dy);
    let mut apart = y.to_vec();
    apart.extend(kernel);
    let g = e.reshape(&g, &apart);
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, p)| inverse[*p] = i);
    let g = e.transpose(&g, &inverse);
    Ok(vec![(0, e.reshape(&g, x))])
}

/// `dy / count` to every pixel of the window.
pub fn average_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let kernel = kernel(e, c)?;
    let (x, y) = (e.shape(c.x(0))?.to_vec(), e.shape(c.y())?.to_vec());
    let window = Window::read(e, c.node, &kernel, &x, &y)?;
    let counts = pixel_counts(c, &window, &x, &y);
    let mut shape = vec![1, 1];
    shape.extend(&y[2..]);
    let share: Vec<f32> = counts.iter().map(|n| 1.0 / *n as f32).collect();
    let share = e.floats(&shape, &share);
    let g = e.mul(&dy, &share);
    let mut shape = vec![x[1], 1];
    shape.extend(&kernel);
    let ones = e.floats(&shape, &vec![1.0; shape.iter().product()]);
    Ok(vec![(0, scatter(e, &g, &ones, &window, x[1]))])
}

/// By how many pixels each window's sum is divided.
///
/// With `count_include_pad` declared padding counts, but what `ceil_mode` adds beyond it does not.
fn pixel_counts(c: &Call<'_>, window: &Window, x: &[usize], y: &[usize]) -> Vec<usize> {
    let spatial = window.kernel.len();
    let include = c.node.int("count_include_pad", 0) != 0;
    let auto = !matches!(c.node.string("auto_pad"), "" | "NOTSET");
    let declared_end = |i: usize| match c.node.ints("pads") {
        Some(p) if !auto => p[spatial + i] as usize,
        _ if auto => window.end[i],
        _ => 0,
    };
    (0..y[2..].iter().product::<usize>())
        .map(|p| {
            let at = unravel(p, &y[2..]);
            (0..spatial)
                .map(|i| {
                    let (low, high) = if include {
                        (0, x[i + 2] + window.begin[i] + declared_end(i))
                    } else {
                        (window.begin[i], x[i + 2] + window.begin[i])
                    };
                    (0..window.kernel[i])
                        .map(|t| at[i] * window.strides[i] + t * window.dilations[i])
                        .filter(|q| (low..high).contains(q))
                        .count()
                })
                .product()
        })
        .collect()
}

/// A flat index as one index per axis, the last running fastest.
fn unravel(mut index: usize, sizes: &[usize]) -> Vec<usize> {
    let mut out = vec![0; sizes.len()];
    for i in (0..sizes.len()).rev() {
        out[i] = index % sizes[i];
        index /= sizes[i];
    }
    out
}

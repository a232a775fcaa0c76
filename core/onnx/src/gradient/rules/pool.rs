//! Pooling.

use super::conv::{Window, scatter, spatial};
use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, string};
use crate::gradient::size::{Size, fixed};

/// Stands for minus infinity in padding; never larger than a pixel.
const LOWEST: f32 = f32::MIN;

fn kernel(e: &Emitter<'_>, c: &Call<'_>) -> shiftlens_api::Result<Vec<usize>> {
    let k = c.node.ints("kernel_shape").ok_or_else(|| e.unsupported(c.node, "it has no kernel_shape"))?;
    Ok(k.iter().map(|v| *v as usize).collect())
}

/// `dy / (number of pixels)`, repeated over the spatial axes.
pub fn global_average_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let pixels: usize = spatial(e, c.node, e.shape(c.x(0))?)?.iter().product();
    let g = e.scale(&dy, 1.0 / pixels as f32);
    Ok(vec![(0, e.expand_like(&g, e.shape(c.y())?, c.x(0))?)])
}

/// All of `dy` goes to the first largest pixel, as in PyTorch.
pub fn global_max_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let x = e.shape(c.x(0))?;
    let n: usize = spatial(e, c.node, x)?.iter().product();
    let flat = e.reshape(c.x(0), &[x[0], x[1], Size::Fixed(n)])?;
    let mask = first_largest(e, &flat, 3, 2, n);
    let dy = e.reshape(&dy, &[x[0], x[1], Size::Fixed(1)])?;
    let g = e.mul(&mask, &dy);
    Ok(vec![(0, e.reshape_like(&g, c.x(0))?)])
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

/// With `y = (sum |x|^p)^(1/p)`: `dy / y^(p-1)`, which times `sign(x) |x|^(p-1)` is the gradient of each x; and that
/// second factor. Where y is 0 so is the second factor (but for p = 1, where it is sign(x)).
fn lp_parts(e: &mut Emitter<'_>, c: &Call<'_>, dy: &str) -> shiftlens_api::Result<(String, String)> {
    let p = c.node.int("p", 2);
    let power = |e: &mut Emitter<'_>, t: &str| match p {
        2 => t.to_owned(),
        _ => {
            let exponent = e.scalar((p - 1) as f32);
            e.op("Pow", &[t, &exponent], vec![])
        }
    };
    Ok(match p {
        ..=0 => return Err(e.unsupported(c.node, &format!("p = {p}"))),
        1 => (dy.to_owned(), e.op("Sign", &[c.x(0)], vec![])),
        _ => {
            let y = e.not_zero(c.y());
            let y = power(e, &y);
            let size = e.op("Abs", &[c.x(0)], vec![]);
            let size = power(e, &size);
            let sign = e.op("Sign", &[c.x(0)], vec![]);
            (e.div(dy, &y), e.mul(&sign, &size))
        }
    })
}

/// The p-norm of all pixels of a channel.
pub fn global_lp_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (of_window, of_pixel) = lp_parts(e, c, &dy)?;
    Ok(vec![(0, e.mul(&of_window, &of_pixel))])
}

/// The p-norm of each window; what hangs over the image counts as 0.
pub fn lp_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let kernel = kernel(e, c)?;
    let (x, y) = (e.shape(c.x(0))?, e.shape(c.y())?);
    let (xs, ys) = (spatial(e, c.node, x)?, spatial(e, c.node, y)?);
    let window = Window::read(e, c.node, &kernel, &xs, &ys)?;
    let channels = e.sizes(c.node, &x[1..2])?[0];
    let (of_window, of_pixel) = lp_parts(e, c, &dy)?;
    let mut shape = vec![channels, 1];
    shape.extend(&kernel);
    let ones = e.floats(&shape, &vec![1.0; shape.iter().product()]);
    let g = scatter(e, &of_window, &ones, &window, channels);
    Ok(vec![(0, e.mul(&g, &of_pixel))])
}

/// `dy` goes to the first largest pixel of each window (row by row, as PyTorch and ONNX Runtime choose); windows may
/// overlap.
///
/// From operator set 16 on, MaxPool's own indices say where, and a scattered sum brings `dy` there. Before, the pixels
/// of each window are laid side by side and compared.
pub fn max_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let kernel = kernel(e, c)?;
    let (x, y) = (e.shape(c.x(0))?, e.shape(c.y())?);
    let (xs, ys) = (spatial(e, c.node, x)?, spatial(e, c.node, y)?);
    let window = Window::read(e, c.node, &kernel, &xs, &ys)?;
    let plain = window.begin.iter().chain(&window.end).chain(&window.unreached).all(|p| *p == 0)
        && window.strides == kernel
        && window.dilations.iter().all(|d| *d == 1);
    if plain {
        tiles(e, c, &dy, &kernel, x, &ys)
    } else if e.opset() >= 16 && c.node.int("storage_order", 0) == 0 {
        scattered(e, c, &dy, x, &xs, &ys)
    } else {
        compared(e, c, &dy, &window, x, &ys)
    }
}

/// Adds `dy` at the indices that the forward pooling answers.
///
/// ONNX counts them over the whole batch, some runtimes over each plane; modulo the plane's size they agree.
fn scattered(e: &mut Emitter<'_>, c: &Call<'_>, dy: &str, x: &[Size], xs: &[usize], ys: &[usize]) -> Answer {
    let (pixels, windows) = (xs.iter().product::<usize>(), ys.iter().product::<usize>());
    let channels = e.sizes(c.node, &x[1..2])?[0];
    let indices = match c.node.output.get(1).filter(|o| !o.is_empty()) {
        Some(given) => given.clone(),
        None => e.ask_indices(c.node),
    };
    let plane = e.int_array(&[], &[pixels as i64]);
    let indices = e.op("Mod", &[&indices, &plane], vec![]);
    let small = [x[0], Size::Fixed(channels), Size::Fixed(windows)];
    let (indices, dy) = (e.reshape(&indices, &small)?, e.reshape(dy, &small)?);
    let zeros = e.zeros_like(c.x(0));
    let zeros = e.reshape(&zeros, &[x[0], Size::Fixed(channels), Size::Fixed(pixels)])?;
    let attributes = vec![int("axis", 2), string("reduction", "add")];
    let g = e.op("ScatterElements", &[&zeros, &indices, &dy], attributes);
    Ok(vec![(0, e.reshape_like(&g, c.x(0))?)])
}

/// Compares the k pixels of each window, laid side by side as `[N, C, k, oh, ow]`.
fn compared(
    e: &mut Emitter<'_>,
    c: &Call<'_>,
    dy: &str,
    window: &Window,
    x: &[Size],
    ys: &[usize],
) -> Answer {
    let spatial = ys.len();
    let channels = e.sizes(c.node, &x[1..2])?[0];
    let mut begin = vec![0, 0];
    begin.extend(&window.begin);
    let mut end = vec![0, 0];
    end.extend(&window.end);
    let padded = e.pad(c.x(0), &begin, &end, LOWEST);
    let axes: Vec<usize> = (2..2 + spatial).collect();
    let k: usize = window.kernel.iter().product();
    let mut one = vec![x[0], x[1], Size::Fixed(1)];
    one.extend(fixed(ys));
    let mut taps = Vec::with_capacity(k);
    for tap in 0..k {
        let offset = unravel(tap, &window.kernel);
        let start: Vec<i64> = (0..spatial).map(|i| (offset[i] * window.dilations[i]) as i64).collect();
        let stop: Vec<i64> =
            (0..spatial).map(|i| start[i] + ((ys[i] - 1) * window.strides[i]) as i64 + 1).collect();
        let step: Vec<i64> = window.strides.iter().map(|s| *s as i64).collect();
        let t = e.slice(&padded, &axes, &start, &stop, &step)?;
        taps.push(e.reshape(&t, &one)?);
    }
    let stacked = e.concat(&taps, 2);
    let mask = first_largest(e, &stacked, one.len(), 2, k);
    let dy = e.reshape(dy, &one)?;
    let routed = e.mul(&mask, &dy);
    let mut apart = vec![x[0], Size::Fixed(channels * k)];
    apart.extend(fixed(ys));
    let routed = e.reshape(&routed, &apart)?;

    // Back to the pixels: a depthwise transposed convolution whose k kernels have a single 1 each.
    let mut weight = vec![0.0; channels * k * k];
    for channel in 0..channels {
        for tap in 0..k {
            weight[(channel * k + tap) * k + tap] = 1.0;
        }
    }
    let mut shape = vec![channels * k, 1];
    shape.extend(&window.kernel);
    let weight = e.floats(&shape, &weight);
    Ok(vec![(0, scatter(e, &routed, &weight, window, channels))])
}

/// Windows that tile the input: `[N, C, oh, kh, ow, kw]`.
fn tiles(e: &mut Emitter<'_>, c: &Call<'_>, dy: &str, kernel: &[usize], x: &[Size], ys: &[usize]) -> Answer {
    let spatial = kernel.len();
    let k: usize = kernel.iter().product();
    let mut split = vec![x[0], x[1]];
    (0..spatial).for_each(|i| split.extend(fixed(&[ys[i], kernel[i]])));
    let mut perm = vec![0, 1];
    perm.extend((0..spatial).map(|i| 2 + 2 * i));
    perm.extend((0..spatial).map(|i| 3 + 2 * i));
    let windows = e.reshape(c.x(0), &split)?;
    let windows = e.transpose(&windows, &perm);
    let small: Vec<Size> = x[..2].iter().copied().chain(fixed(ys)).collect();
    let with = |more: &[usize]| -> Vec<Size> { small.iter().copied().chain(fixed(more)).collect() };
    let windows = e.reshape(&windows, &with(&[k]))?;
    let mask = first_largest(e, &windows, small.len() + 1, small.len(), k);
    let dy = e.reshape(dy, &with(&[1]))?;
    let g = e.mul(&mask, &dy);
    let g = e.reshape(&g, &with(kernel))?;
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, p)| inverse[*p] = i);
    let g = e.transpose(&g, &inverse);
    Ok(vec![(0, e.reshape_like(&g, c.x(0))?)])
}

/// `dy / count` to every pixel of the window.
pub fn average_pool(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let kernel = kernel(e, c)?;
    let (x, y) = (e.shape(c.x(0))?, e.shape(c.y())?);
    let (xs, ys) = (spatial(e, c.node, x)?, spatial(e, c.node, y)?);
    let channels = e.sizes(c.node, &x[1..2])?[0];
    let window = Window::read(e, c.node, &kernel, &xs, &ys)?;
    let counts = pixel_counts(c, &window, &xs, &ys);
    let mut shape = vec![1, 1];
    shape.extend(&ys);
    let share: Vec<f32> = counts.iter().map(|n| 1.0 / *n as f32).collect();
    let share = e.floats(&shape, &share);
    let g = e.mul(&dy, &share);
    let tiled = window.strides == kernel
        && window.begin.iter().chain(&window.end).chain(&window.unreached).all(|p| *p == 0)
        && window.dilations.iter().all(|d| *d == 1);
    if tiled {
        // Each pixel lies in one window.
        if e.opset() >= 11 && kernel.len() == 2 {
            let mut scales = vec![1.0, 1.0];
            scales.extend(kernel.iter().map(|k| *k as f32));
            let scales = e.floats(&[4], &scales);
            let attributes = vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ];
            let roi = if e.opset() < 13 { e.floats(&[0], &[]) } else { String::new() };
            return Ok(vec![(0, e.op("Resize", &[&g, &roi, &scales], attributes))]);
        }
        // [N, C, oh, 1, ow, 1] repeated.
        let mut apart = x[..2].to_vec();
        ys.iter().for_each(|n| apart.extend(fixed(&[*n, 1])));
        let mut repeats = vec![1, 1];
        kernel.iter().for_each(|k| repeats.extend([1, *k as i64]));
        let g = e.reshape(&g, &apart)?;
        let repeats = e.int_list(&repeats);
        let g = e.op("Expand", &[&g, &repeats], vec![]);
        return Ok(vec![(0, e.reshape_like(&g, c.x(0))?)]);
    }
    let mut shape = vec![channels, 1];
    shape.extend(&kernel);
    let ones = e.floats(&shape, &vec![1.0; shape.iter().product()]);
    Ok(vec![(0, scatter(e, &g, &ones, &window, channels))])
}

/// By how many pixels each window's sum is divided.
///
/// With `count_include_pad` declared padding counts, but what `ceil_mode` adds beyond it does not.
fn pixel_counts(c: &Call<'_>, window: &Window, xs: &[usize], ys: &[usize]) -> Vec<usize> {
    let spatial = window.kernel.len();
    let include = c.node.int("count_include_pad", 0) != 0;
    let auto = !matches!(c.node.string("auto_pad"), "" | "NOTSET");
    let declared_end = |i: usize| match c.node.ints("pads") {
        Some(p) if !auto => p[spatial + i] as usize,
        _ if auto => window.end[i],
        _ => 0,
    };
    (0..ys.iter().product::<usize>())
        .map(|p| {
            let at = unravel(p, ys);
            (0..spatial)
                .map(|i| {
                    let (low, high) = if include {
                        (0, xs[i] + window.begin[i] + declared_end(i))
                    } else {
                        (window.begin[i], xs[i] + window.begin[i])
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

//! Resize and Upsample.
//!
//! All modes are separable: along each axis an output entry is a weighted sum of input entries (its taps), or the
//! extrapolation value where `tf_crop_and_resize` looks outside the image.

use super::tensor::{Kind, R, Tensor, axis, each};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "Resize" => one(resize(op)),
        "Upsample" => one(upsample(op)),
        _ => None,
    }
}

/// How coordinates and weights are computed.
struct Mode<'a> {
    interpolation: &'a str,
    coordinates: &'a str,
    nearest: &'a str,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
}

/// One axis: sizes before and after, the scale, and the part of the image that is asked for (`tf_crop_and_resize`).
struct Axis {
    input: usize,
    output: usize,
    scale: f64,
    roi: (f64, f64),
}

/// Taps of one output entry; `None` outside the image.
type Taps = Option<Vec<(usize, f64)>>;

fn upsample(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let scales: Vec<f64> = match op.opt(1) {
        Some(t) => t.data.clone(),
        None => op.node.attr("scales").ok_or("no scales")?.floats.iter().map(|v| f64::from(*v)).collect(),
    };
    let mode = Mode {
        interpolation: op.word("mode", "nearest"),
        coordinates: "asymmetric",
        nearest: "floor",
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
    };
    let axes = x.shape.iter().zip(&scales).map(|(d, s)| scaled(*d, *s)).collect();
    apply(x, axes, &mode, 0.0)
}

fn scaled(input: usize, scale: f64) -> Axis {
    Axis { input, output: (input as f64 * scale).floor() as usize, scale, roi: (0.0, 1.0) }
}

fn resize(op: &Op<'_>) -> R<Tensor> {
    let x = op.x(0)?;
    let rank = x.rank();
    if op.opset == 10 {
        let mode = Mode {
            interpolation: op.word("mode", "nearest"),
            coordinates: "asymmetric",
            nearest: "floor",
            cubic: -0.75,
            exclude_outside: false,
            antialias: false,
        };
        let axes = x.shape.iter().zip(&op.x(1)?.data).map(|(d, s)| scaled(*d, *s)).collect();
        return apply(x, axes, &mode, 0.0);
    }
    let chosen: Vec<usize> = match op.ints("axes") {
        Some(v) => v.iter().map(|a| axis(*a, rank)).collect::<R<_>>()?,
        None => (0..rank).collect(),
    };
    let filled = |i: usize| op.opt(i).filter(|t| !t.data.is_empty());
    let mut axes: Vec<Axis> =
        x.shape.iter().map(|d| Axis { input: *d, output: *d, scale: 1.0, roi: (0.0, 1.0) }).collect();
    if let Some(scales) = filled(2) {
        chosen.iter().zip(&scales.data).for_each(|(a, s)| axes[*a] = scaled(x.shape[*a], *s));
    } else {
        let sizes = &filled(3).ok_or("neither scales nor sizes")?.data;
        let ratios: Vec<f64> = chosen.iter().zip(sizes).map(|(a, s)| s / x.shape[*a] as f64).collect();
        let common = match op.word("keep_aspect_ratio_policy", "stretch") {
            "not_larger" => Some(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some(ratios.iter().copied().fold(0.0, f64::max)),
            _ => None,
        };
        for (k, a) in chosen.iter().enumerate() {
            let input = x.shape[*a];
            let scale = common.unwrap_or(ratios[k]);
            let output = if common.is_some() { (scale * input as f64 + 0.5).floor() } else { sizes[k] };
            axes[*a] = Axis { input, output: output as usize, scale, roi: (0.0, 1.0) };
        }
    }
    let coordinates = op.word("coordinate_transformation_mode", "half_pixel");
    if coordinates == "tf_crop_and_resize" {
        let roi = op.x(1)?;
        for (k, a) in chosen.iter().enumerate() {
            axes[*a].roi = (roi.data[k], roi.data[k + chosen.len()]);
        }
    }
    let mode = Mode {
        interpolation: op.word("mode", "nearest"),
        coordinates,
        nearest: op.word("nearest_mode", "round_prefer_floor"),
        cubic: op.float("cubic_coeff_a", -0.75),
        exclude_outside: op.int("exclude_outside", 0) == 1,
        antialias: op.int("antialias", 0) == 1,
    };
    apply(x, axes, &mode, op.float("extrapolation_value", 0.0))
}

/// The place on the input axis that output entry `i` looks at.
fn coordinate(mode: &str, i: usize, a: &Axis) -> R<f64> {
    let (x, n, m) = (i as f64, a.input as f64, a.output as f64);
    Ok(match mode {
        "half_pixel" => (x + 0.5) / a.scale - 0.5,
        "half_pixel_symmetric" => {
            let adjustment = m / (a.scale * n);
            n / 2.0 * (1.0 - adjustment) + (x + 0.5) / a.scale - 0.5
        }
        "pytorch_half_pixel" if m > 1.0 => (x + 0.5) / a.scale - 0.5,
        "pytorch_half_pixel" => 0.0,
        "align_corners" if m > 1.0 => x * (n - 1.0) / (m - 1.0),
        "align_corners" => 0.0,
        "asymmetric" => x / a.scale,
        "tf_half_pixel_for_nn" => (x + 0.5) / a.scale,
        "tf_crop_and_resize" if m > 1.0 => {
            a.roi.0 * (n - 1.0) + x * (a.roi.1 - a.roi.0) * (n - 1.0) / (m - 1.0)
        }
        "tf_crop_and_resize" => 0.5 * (a.roi.0 + a.roi.1) * (n - 1.0),
        other => return Err(format!("coordinates {other}")),
    })
}

fn cubic(a: f64, t: f64) -> f64 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    } else {
        0.0
    }
}

fn taps(mode: &Mode<'_>, i: usize, a: &Axis) -> R<Taps> {
    let n = a.input as i64;
    let x = coordinate(mode.coordinates, i, a)?;
    if mode.coordinates == "tf_crop_and_resize" && !(0.0..=(n - 1) as f64).contains(&x) {
        return Ok(None);
    }
    let clamp = |p: i64| p.clamp(0, n - 1) as usize;
    // A filter of half width 1 or 2, widened when it has to average (antialias).
    let widen = if mode.antialias && a.scale < 1.0 { a.scale } else { 1.0 };
    let filter = |f: &dyn Fn(f64) -> f64, half: f64| -> Vec<(usize, f64)> {
        let reach = (half / widen).ceil() as i64;
        let middle = x.floor() as i64;
        let places = middle - reach + 1..=middle + reach;
        let outside = |p: i64| mode.exclude_outside && !(0..n).contains(&p);
        let weighted: Vec<(i64, f64)> =
            places.map(|p| (p, if outside(p) { 0.0 } else { f((x - p as f64) * widen) })).collect();
        let total: f64 = weighted.iter().map(|(_, w)| w).sum();
        // Without exclusion and widening the weights sum to 1 already.
        weighted.into_iter().map(|(p, w)| (clamp(p), w / total)).collect()
    };
    Ok(Some(match mode.interpolation {
        "nearest" => {
            let p = match mode.nearest {
                "floor" => x.floor(),
                "ceil" => x.ceil(),
                "round_prefer_floor" => (x - 0.5).ceil(),
                "round_prefer_ceil" => (x + 0.5).floor(),
                other => return Err(format!("nearest_mode {other}")),
            };
            vec![(clamp(p as i64), 1.0)]
        }
        "linear" => filter(&|t| (1.0 - t.abs()).max(0.0), 1.0),
        "cubic" => filter(&|t| cubic(mode.cubic, t), 2.0),
        other => return Err(format!("mode {other}")),
    }))
}

fn apply(x: &Tensor, axes: Vec<Axis>, mode: &Mode<'_>, outside: f64) -> R<Tensor> {
    let shape: Vec<usize> = axes.iter().map(|a| a.output).collect();
    let table: Vec<Vec<Taps>> = axes
        .iter()
        .map(|a| {
            // Axes that stay as they are are not interpolated, whatever their coordinates.
            let same = a.input == a.output && a.scale == 1.0 && a.roi == (0.0, 1.0);
            let alone = |i| Ok(Some(vec![(i, 1.0)]));
            (0..a.output).map(|i| if same { alone(i) } else { taps(mode, i, a) }).collect::<R<_>>()
        })
        .collect::<R<_>>()?;
    Ok(Tensor::fill(Kind::Float, &shape, |i| {
        let lists: Option<Vec<&Vec<(usize, f64)>>> =
            i.iter().zip(&table).map(|(i, t)| t[*i].as_ref()).collect();
        let Some(lists) = lists else { return outside };
        let counts: Vec<usize> = lists.iter().map(|l| l.len()).collect();
        let mut sum = 0.0;
        each(&counts, |k| {
            let at: Vec<usize> = k.iter().zip(&lists).map(|(k, l)| l[*k].0).collect();
            sum += k.iter().zip(&lists).map(|(k, l)| l[*k].1).product::<f64>() * x.at(&at);
        });
        sum
    }))
}

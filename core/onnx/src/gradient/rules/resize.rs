//! Resampling. It is linear and separable: `y = M x` along each axis, so that the gradient is `M^T dy`.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use crate::proto::NodeProto;
use shiftlens_api::Result;

/// How one axis is resampled.
struct Axis<'a> {
    input: usize,
    output: usize,
    scale: f64,
    mode: &'a str,
    coordinates: &'a str,
    nearest: &'a str,
    cubic_a: f64,
    exclude_outside: bool,
}

impl Axis<'_> {
    /// Where output pixel `o` lies in the input (ONNX Resize, `coordinate_transformation_mode`).
    fn source(&self, o: usize) -> Option<f64> {
        let (o, s, i, n) = (o as f64, self.scale, self.input as f64, self.output as f64);
        Some(match self.coordinates {
            "" | "half_pixel" => (o + 0.5) / s - 0.5,
            "pytorch_half_pixel" => {
                if self.output > 1 {
                    (o + 0.5) / s - 0.5
                } else {
                    0.0
                }
            }
            "half_pixel_symmetric" => i / 2.0 * (1.0 - n / (s * i)) + (o + 0.5) / s - 0.5,
            "asymmetric" => o / s,
            "align_corners" => {
                if self.output > 1 {
                    o * (i - 1.0) / (n - 1.0)
                } else {
                    0.0
                }
            }
            "tf_half_pixel_for_nn" => (o + 0.5) / s,
            _ => return None,
        })
    }

    /// The matrix `[output, input]`.
    fn matrix(&self) -> Option<Vec<f32>> {
        let last = self.input as f64 - 1.0;
        let mut m = vec![0f32; self.output * self.input];
        for o in 0..self.output {
            let x = self.source(o)?;
            let mut put = |index: f64, weight: f64| {
                m[o * self.input + index.clamp(0.0, last) as usize] += weight as f32;
            };
            match self.mode {
                "" | "nearest" => put(
                    match self.nearest {
                        "" | "round_prefer_floor" => (x - 0.5).ceil(),
                        "round_prefer_ceil" => (x + 0.5).floor(),
                        "floor" => x.floor(),
                        "ceil" => x.ceil(),
                        _ => return None,
                    },
                    1.0,
                ),
                "linear" => {
                    let x = x.clamp(0.0, last);
                    let low = x.floor();
                    put(low, 1.0 - (x - low));
                    put(low + 1.0, x - low);
                }
                "cubic" => {
                    let low = x.floor();
                    let taps: Vec<(f64, f64)> =
                        (-1..3).map(|k| low + f64::from(k)).map(|i| (i, self.cubic(x - i))).collect();
                    let kept = |i: f64| !self.exclude_outside || (0.0..=last).contains(&i);
                    let sum: f64 = taps.iter().filter(|t| kept(t.0)).map(|t| t.1).sum();
                    taps.iter().filter(|t| kept(t.0)).for_each(|(i, w)| put(*i, w / sum));
                }
                _ => return None,
            }
        }
        Some(m)
    }

    /// Keys' cubic kernel.
    fn cubic(&self, distance: f64) -> f64 {
        let (a, d) = (self.cubic_a, distance.abs());
        if d <= 1.0 {
            ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
        } else if d < 2.0 {
            (((d - 5.0) * d + 8.0) * d - 4.0) * a
        } else {
            0.0
        }
    }
}

/// The factor of each axis, where the node gives factors and not sizes.
fn scales(e: &Emitter<'_>, n: &NodeProto, upsample: bool, rank: usize) -> Result<Option<Vec<f64>>> {
    let list: Option<Vec<f32>> = match n.attr("scales") {
        Some(a) => Some(a.floats.clone()),
        None => e.input_floats(n, if upsample || n.input.len() == 2 { 1 } else { 2 })?,
    };
    let Some(list) = list.filter(|l| !l.is_empty()) else { return Ok(None) };
    let mut all = vec![1.0; rank];
    match n.ints("axes") {
        Some(axes) => {
            for (a, s) in axes.iter().zip(&list) {
                all[e.axis(n, *a, rank)?] = f64::from(*s);
            }
        }
        None => all.iter_mut().zip(&list).for_each(|(a, s)| *a = f64::from(*s)),
    }
    Ok(Some(all))
}

fn resampled(e: &mut Emitter<'_>, c: &Call<'_>, upsample: bool) -> Answer {
    let mut g = c.dy(e)?;
    let n = c.node;
    let (x, mut now) = (e.shape(c.x(0))?, e.shape(c.y())?.to_vec());
    if n.int("antialias", 0) != 0 {
        return Err(e.unsupported(n, "antialias is set"));
    }
    if !matches!(n.string("keep_aspect_ratio_policy"), "" | "stretch") {
        return Err(e.unsupported(n, "keep_aspect_ratio_policy is set"));
    }
    let scales = scales(e, n, upsample, x.len())?;
    // Before operator set 11 there was one way only.
    let old = upsample || e.opset() < 11;
    for axis in 0..x.len() {
        let given = scales.as_ref().map(|s| s[axis]);
        if now[axis] == x[axis] && given.is_none_or(|s| s == 1.0) {
            continue;
        }
        let size = e.sizes(n, &[x[axis], now[axis]])?;
        let (input, output) = (size[0], size[1]);
        let resampling = Axis {
            input,
            output,
            scale: given.unwrap_or(output as f64 / input as f64),
            mode: n.string("mode"),
            coordinates: if old { "asymmetric" } else { n.string("coordinate_transformation_mode") },
            nearest: if old { "floor" } else { n.string("nearest_mode") },
            cubic_a: f64::from(n.float("cubic_coeff_a", -0.75)),
            exclude_outside: n.int("exclude_outside", 0) != 0,
        };
        let m = resampling.matrix().ok_or_else(|| {
            let how = format!("mode {}, coordinates {}", resampling.mode, resampling.coordinates);
            e.unsupported(n, &how)
        })?;
        g = e.transposed_map(&g, &now, axis, &m, input)?;
        now[axis] = x[axis];
    }
    Ok(vec![(0, g)])
}

/// Resize.
pub fn resize(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    resampled(e, c, false)
}

/// Upsample, the operator before Resize.
pub fn upsample(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    resampled(e, c, true)
}

//! Convolutions, in any number of spatial dimensions.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, ints};
use crate::gradient::size::Size;
use crate::proto::NodeProto;
use shiftlens_api::Result;

/// The geometry of a convolution or pooling window, one entry per spatial axis.
pub struct Window {
    /// Window size.
    pub kernel: Vec<usize>,
    /// Steps.
    pub strides: Vec<usize>,
    /// Distance of taps.
    pub dilations: Vec<usize>,
    /// Padding before the first pixel.
    pub begin: Vec<usize>,
    /// Padding after the last pixel that the windows reach; less than declared where the last windows do not reach
    /// it, more where they reach beyond (`ceil_mode`).
    pub end: Vec<usize>,
    /// Pixels at the end that no window reaches.
    pub unreached: Vec<usize>,
}

impl Window {
    /// Reads a node's attributes. `large` is the spatial extent that the windows slide over, `small` has one pixel per
    /// window.
    pub fn read(
        e: &Emitter<'_>,
        node: &NodeProto,
        kernel: &[usize],
        large: &[usize],
        small: &[usize],
    ) -> Result<Self> {
        let n = kernel.len();
        let list = |name: &str| -> Vec<usize> {
            node.ints(name).map_or(vec![1; n], |v| v.iter().map(|v| (*v).max(0) as usize).collect())
        };
        let (strides, dilations) = (list("strides"), list("dilations"));
        let pads = node.ints("pads").map_or(vec![0; 2 * n], <[i64]>::to_vec);
        if strides.len() != n
            || dilations.len() != n
            || pads.len() != 2 * n
            || large.len() != n
            || small.len() != n
        {
            return Err(e.unsupported(node, "its kernel, strides, dilations and pads do not fit its input"));
        }
        if pads.iter().any(|p| *p < 0) {
            return Err(e.unsupported(node, "negative pads"));
        }
        let mut window = Self {
            kernel: kernel.to_vec(),
            strides,
            dilations,
            begin: vec![0; n],
            end: vec![0; n],
            unreached: vec![0; n],
        };
        for i in 0..n {
            let (size, windows) = (large[i], small[i]);
            // From the first pixel of the first window to the last pixel of the last one.
            let reach = (windows - 1) * window.strides[i] + (kernel[i] - 1) * window.dilations[i] + 1;
            let total = reach.saturating_sub(size);
            window.begin[i] = match node.string("auto_pad") {
                "SAME_UPPER" => total / 2,
                "SAME_LOWER" => total.div_ceil(2),
                "VALID" => 0,
                _ => pads[i] as usize,
            };
            window.end[i] = reach.saturating_sub(size + window.begin[i]);
            window.unreached[i] = (size + window.begin[i]).saturating_sub(reach);
        }
        Ok(window)
    }

    /// Reads the attributes of a transposed convolution, whose output has the extent `large`.
    ///
    /// With `output_shape` or an `auto_pad` the padding follows from the sizes (ONNX, ConvTranspose): in all, `total =
    /// stride (in - 1) + output_padding + reach - out`, of which SAME_UPPER puts the smaller half first, everything
    /// else the larger.
    pub fn transposed(
        e: &Emitter<'_>,
        node: &NodeProto,
        kernel: &[usize],
        large: &[usize],
        small: &[usize],
    ) -> Result<Self> {
        let mut window = Self::read(e, node, kernel, large, small)?;
        let auto = node.string("auto_pad");
        if node.ints("output_shape").is_some() || auto.starts_with("SAME") {
            let extra = node.ints("output_padding").map(<[i64]>::to_vec).unwrap_or_default();
            for i in 0..kernel.len() {
                let reach = (small[i] - 1) * window.strides[i] + (kernel[i] - 1) * window.dilations[i] + 1;
                let added = extra.get(i).map_or(0, |v| (*v).max(0) as usize);
                let total = (reach + added).saturating_sub(large[i]);
                window.begin[i] = if auto == "SAME_UPPER" { total / 2 } else { total.div_ceil(2) };
                window.end[i] = reach.saturating_sub(large[i] + window.begin[i]);
                window.unreached[i] = (large[i] + window.begin[i]).saturating_sub(reach);
            }
        }
        Ok(window)
    }

    /// `[begin.., end..]`, as ONNX has it.
    pub fn pads(&self) -> Vec<i64> {
        self.begin.iter().chain(&self.end).map(|v| *v as i64).collect()
    }
}

/// A list of sizes as attribute values.
pub fn list(v: &[usize]) -> Vec<i64> {
    v.iter().map(|v| *v as i64).collect()
}

/// The spatial sizes of a tensor `[N, C, ..]`.
pub fn spatial(e: &Emitter<'_>, node: &NodeProto, shape: &[Size]) -> Result<Vec<usize>> {
    e.sizes(node, shape.get(2..).unwrap_or(&[]))
}

/// The transposed convolution from one pixel per window (`dy`) back to what the windows slid over.
///
/// `unreached` pixels come last on each axis and get 0, by zero padding: `output_padding` would say the same, but it
/// is bounded differently by different runtimes.
pub fn scatter(e: &mut Emitter<'_>, dy: &str, weight: &str, window: &Window, group: usize) -> String {
    let g = e.op(
        "ConvTranspose",
        &[dy, weight],
        vec![
            ints("kernel_shape", &list(&window.kernel)),
            ints("strides", &list(&window.strides)),
            ints("dilations", &list(&window.dilations)),
            ints("pads", &window.pads()),
            int("group", group as i64),
        ],
    );
    let mut end = vec![0, 0];
    end.extend(&window.unreached);
    e.pad(&g, &vec![0; end.len()], &end, 0.0)
}

/// Of a weight `[M, C/g, ..]`, the one whose plain convolution is the transposed convolution at stride 1: `[C, M/g, ..]`
/// with all taps in reverse.
fn reversed(weight: &[f32], shape: &[usize], group: usize) -> Vec<f32> {
    let (m, per_group, taps) = (shape[0] / group, shape[1], shape[2..].iter().product::<usize>());
    let mut out = Vec::with_capacity(weight.len());
    for g in 0..group {
        for c in 0..per_group {
            for o in 0..m {
                let from = ((g * m + o) * per_group + c) * taps;
                out.extend(weight[from..from + taps].iter().rev());
            }
        }
    }
    out
}

/// The gradient of x for `y = W * x` at stride 1 as a convolution: runtimes have faster kernels for it than for the
/// transposed one. `None` where the window is another or the weight is not constant.
fn by_convolution(
    e: &mut Emitter<'_>,
    dy: &str,
    weight: &str,
    shape: &[usize],
    window: &Window,
    group: usize,
) -> Option<String> {
    let reach: Vec<usize> = window.kernel.iter().zip(&window.dilations).map(|(k, d)| d * (k - 1)).collect();
    let fits = |pads: &[usize]| pads.iter().zip(&reach).all(|(p, r)| p <= r);
    if window.strides.iter().any(|s| *s != 1) || !fits(&window.begin) || !fits(&window.end) {
        return None;
    }
    let values = e.constant(weight)?.floats();
    let mut turned = vec![shape[1] * group, shape[0] / group];
    turned.extend(&shape[2..]);
    let w = e.floats(&turned, &reversed(&values, shape, group));
    let pads: Vec<i64> = window
        .begin
        .iter()
        .zip(&reach)
        .chain(window.end.iter().zip(&reach))
        .map(|(p, r)| (r - p) as i64)
        .collect();
    let attributes = vec![
        ints("kernel_shape", &list(&window.kernel)),
        ints("strides", &list(&window.strides)),
        ints("dilations", &list(&window.dilations)),
        ints("pads", &pads),
        int("group", group as i64),
    ];
    let g = e.op("Conv", &[dy, &w], attributes);
    e.remember_convolution(&g, &w);
    Some(g)
}

/// `y = W * x + b`: `dx` is the transposed convolution of `dy` with the same W (its layout `[M, C/g, ..]` is what
/// ConvTranspose takes).
pub fn conv(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    if c.wants(0) {
        let w = e.sizes(c.node, e.shape(c.x(1))?)?;
        let (x, y) = (spatial(e, c.node, e.shape(c.x(0))?)?, spatial(e, c.node, e.shape(c.y())?)?);
        let window = Window::read(e, c.node, &w[2..], &x, &y)?;
        let group = c.node.int("group", 1).max(1) as usize;
        let g = match by_convolution(e, &dy, c.x(1), &w, &window, group) {
            Some(g) => g,
            None => scatter(e, &dy, c.x(1), &window, group),
        };
        out.push((0, g));
    }
    if c.wants(1) {
        return Err(e.unsupported(c.node, "its weight depends on the image"));
    }
    if c.wants(2) {
        let axes: Vec<usize> = (0..e.shape(c.y())?.len()).filter(|a| *a != 1).collect();
        let s = e.sum(&dy, &axes);
        out.push((2, e.reshape_like(&s, c.x(2))?));
    }
    Ok(out)
}

/// `y = W *^T x + b`: `dx` is the convolution of `dy` with the same W (its layout `[C, M/g, ..]` is what Conv takes).
pub fn conv_transpose(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its weight or bias depends on the image"));
    }
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let w = e.sizes(c.node, e.shape(c.x(1))?)?;
    let (x, y) = (spatial(e, c.node, e.shape(c.x(0))?)?, spatial(e, c.node, e.shape(c.y())?)?);
    let window = Window::transposed(e, c.node, &w[2..], &y, &x)?;
    let g = e.op(
        "Conv",
        &[&dy, c.x(1)],
        vec![
            ints("kernel_shape", &list(&window.kernel)),
            ints("strides", &list(&window.strides)),
            ints("dilations", &list(&window.dilations)),
            ints("pads", &window.pads()),
            int("group", c.node.int("group", 1)),
        ],
    );
    Ok(vec![(0, g)])
}

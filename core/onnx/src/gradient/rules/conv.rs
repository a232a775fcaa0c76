//! Convolutions, in any number of spatial dimensions.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, int, ints};
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
    /// Reads a node's attributes. `large` is the shape that the windows slide over, `small` has one pixel per window.
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
        if strides.len() != n || dilations.len() != n || pads.len() != 2 * n || large.len() != n + 2 {
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
            let (size, windows) = (large[i + 2], small[i + 2]);
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

    /// `[begin.., end..]`, as ONNX has it.
    pub fn pads(&self) -> Vec<i64> {
        self.begin.iter().chain(&self.end).map(|v| *v as i64).collect()
    }
}

/// A list of sizes as attribute values.
pub fn list(v: &[usize]) -> Vec<i64> {
    v.iter().map(|v| *v as i64).collect()
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

/// `y = W * x + b`: `dx` is the transposed convolution of `dy` with the same W (its layout `[M, C/g, ..]` is what
/// ConvTranspose takes).
pub fn conv(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (x, w, y) = (e.shape(c.x(0))?, e.shape(c.x(1))?, e.shape(c.y())?);
    let mut out = vec![];
    if c.wants(0) {
        let window = Window::read(e, c.node, &w[2..], x, y)?;
        out.push((0, scatter(e, &dy, c.x(1), &window, c.node.int("group", 1) as usize)));
    }
    if c.wants(1) {
        return Err(e.unsupported(c.node, "its weight depends on the image"));
    }
    if c.wants(2) {
        let axes: Vec<usize> = (0..y.len()).filter(|a| *a != 1).collect();
        let s = e.sum(&dy, &axes);
        out.push((2, e.reshape(&s, &[y[1]])));
    }
    Ok(out)
}

/// `y = W *^T x + b`: `dx` is the convolution of `dy` with the same W (its layout `[C, M/g, ..]` is what Conv takes).
pub fn conv_transpose(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let (x, w, y) = (e.shape(c.x(0))?, e.shape(c.x(1))?, e.shape(c.y())?);
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its weight or bias depends on the image"));
    }
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let window = Window::read(e, c.node, &w[2..], y, x)?;
    let padding: Vec<i64> = window.pads();
    let g = e.op(
        "Conv",
        &[&dy, c.x(1)],
        vec![
            ints("kernel_shape", &list(&window.kernel)),
            ints("strides", &list(&window.strides)),
            ints("dilations", &list(&window.dilations)),
            ints("pads", &padding),
            int("group", c.node.int("group", 1)),
        ],
    );
    Ok(vec![(0, g)])
}

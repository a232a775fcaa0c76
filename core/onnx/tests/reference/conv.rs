//! Convolution and transposed convolution in any number of spatial dimensions.

use super::tensor::{Kind, R, Tensor, each};
use super::{Answer, Op, one};

pub fn evaluate(op: &Op<'_>) -> Answer {
    match op.node.op() {
        "Conv" => one(conv(op)),
        "ConvTranspose" => one(conv_transpose(op)),
        _ => None,
    }
}

/// Windows that slide over an image, one entry per spatial axis.
pub struct Windows {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub begin: Vec<usize>,
    pub end: Vec<usize>,
    /// How many windows there are.
    pub count: Vec<usize>,
}

impl Windows {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` (all have the same meaning in Conv and the pools).
    pub fn read(op: &Op<'_>, kernel: &[usize], image: &[usize]) -> R<Self> {
        let n = kernel.len();
        let list = |name: &str| op.ints(name).map_or(vec![1; n], |v| v.iter().map(|v| *v as usize).collect());
        let (strides, dilations) = (list("strides"), list("dilations"));
        let mut w = Self {
            kernel: kernel.to_vec(),
            strides,
            dilations,
            begin: vec![0; n],
            end: vec![0; n],
            count: vec![0; n],
        };
        for a in 0..n {
            let extent = (kernel[a] - 1) * w.dilations[a] + 1;
            match op.word("auto_pad", "NOTSET") {
                "NOTSET" => {
                    if let Some(p) = op.ints("pads") {
                        (w.begin[a], w.end[a]) = (p[a] as usize, p[a + n] as usize);
                    }
                }
                "VALID" => {}
                mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                    let count = image[a].div_ceil(w.strides[a]);
                    let total = ((count - 1) * w.strides[a] + extent).saturating_sub(image[a]);
                    let (small, large) = (total / 2, total - total / 2);
                    (w.begin[a], w.end[a]) =
                        if mode == "SAME_UPPER" { (small, large) } else { (large, small) };
                }
                other => return Err(format!("auto_pad {other}")),
            }
            let room = (image[a] + w.begin[a] + w.end[a])
                .checked_sub(extent)
                .ok_or_else(|| format!("kernel {kernel:?} larger than {image:?}"))?;
            w.count[a] = if op.int("ceil_mode", 0) == 1 {
                // A window that would start beyond the image and its leading padding is left out.
                let count = room.div_ceil(w.strides[a]) + 1;
                if (count - 1) * w.strides[a] >= image[a] + w.begin[a] { count - 1 } else { count }
            } else {
                room / w.strides[a] + 1
            };
        }
        Ok(w)
    }

    /// The pixel under tap `tap` of window `window`; `None` in the padding. Both are lists, one entry per axis.
    pub fn pixel(&self, window: &[usize], tap: &[usize], image: &[usize]) -> Option<Vec<usize>> {
        (0..image.len())
            .map(|a| {
                let p =
                    (window[a] * self.strides[a] + tap[a] * self.dilations[a]).checked_sub(self.begin[a])?;
                (p < image[a]).then_some(p)
            })
            .collect()
    }
}

fn bias(op: &Op<'_>, channel: usize) -> f64 {
    op.opt(2).map_or(0.0, |b| b.data[channel])
}

/// `y[n, m, o] = b[m] + sum_{c, k} x[n, g C/G + c, o stride + k dilation - pad] w[m, c, k]`, g being m's group.
fn conv(op: &Op<'_>) -> R<Tensor> {
    let (x, w) = (op.x(0)?, op.x(1)?);
    let groups = op.int("group", 1) as usize;
    let (image, kernel) = (&x.shape[2..], &w.shape[2..]);
    if x.shape[1] != w.shape[1] * groups || w.shape[0] % groups != 0 {
        return Err(format!("weights {:?} with {groups} groups for {:?}", w.shape, x.shape));
    }
    let windows = Windows::read(op, kernel, image)?;
    let shape = [&[x.shape[0], w.shape[0]], &windows.count[..]].concat();
    Ok(Tensor::fill(Kind::Float, &shape, |i| {
        let group = i[1] / (w.shape[0] / groups);
        let mut sum = bias(op, i[1]);
        each(&w.shape[1..], |k| {
            if let Some(p) = windows.pixel(&i[2..], &k[1..], image) {
                let from = [&[i[0], group * w.shape[1] + k[0]], &p[..]].concat();
                sum += x.at(&from) * w.at(&[&[i[1]], k].concat());
            }
        });
        sum
    }))
}

/// Each pixel writes a scaled kernel: `y[n, g M/G + m, i stride + k dilation - pad] += x[n, c, i] w[c, m, k]`.
fn conv_transpose(op: &Op<'_>) -> R<Tensor> {
    let (x, w) = (op.x(0)?, op.x(1)?);
    let groups = op.int("group", 1) as usize;
    let (image, kernel) = (&x.shape[2..], &w.shape[2..]);
    let n = kernel.len();
    let list = |name: &str, default: usize| {
        op.ints(name).map_or(vec![default; n], |v| v.iter().map(|v| *v as usize).collect())
    };
    let (strides, dilations, extra) = (list("strides", 1), list("dilations", 1), list("output_padding", 0));
    let full = |a: usize| strides[a] * (image[a] - 1) + extra[a] + (kernel[a] - 1) * dilations[a] + 1;
    let same = op.word("auto_pad", "NOTSET");
    let (mut begin, mut size) = (vec![0; n], vec![0; n]);
    for a in 0..n {
        let given = op.ints("output_shape").map(|s| s[s.len() - n + a] as usize);
        let target = given.or_else(|| same.starts_with("SAME").then(|| image[a] * strides[a]));
        if let Some(target) = target {
            // The specification's formula; the larger half goes to the end for SAME_UPPER, else to the beginning.
            let total = full(a).saturating_sub(target);
            begin[a] = if same == "SAME_UPPER" { total / 2 } else { total - total / 2 };
            size[a] = target;
        } else {
            let pads = op.ints("pads").map_or((0, 0), |p| (p[a] as usize, p[a + n] as usize));
            begin[a] = pads.0;
            size[a] = full(a) - pads.0 - pads.1;
        }
    }
    let shape = [&[x.shape[0], w.shape[1] * groups], &size[..]].concat();
    let mut y = Tensor::fill(Kind::Float, &shape, |i| bias(op, i[1]));
    each(&x.shape, |i| {
        let group = i[1] / (x.shape[1] / groups);
        each(&w.shape[1..], |k| {
            let place: Option<Vec<usize>> = (0..n)
                .map(|a| {
                    let p = (i[a + 2] * strides[a] + k[a + 1] * dilations[a]).checked_sub(begin[a])?;
                    (p < size[a]).then_some(p)
                })
                .collect();
            if let Some(p) = place {
                let to = [&[i[0], group * w.shape[1] + k[0]], &p[..]].concat();
                let at = super::tensor::offset(&y.shape, &to);
                y.data[at] += x.at(i) * w.at(&[&[i[1]], k].concat());
            }
        });
    });
    Ok(y)
}

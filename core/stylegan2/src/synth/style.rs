//! Styles and demodulation factors of all layers, before the first convolution.

use super::layers::{Affine, Picture, Styled};
use super::{Codes, Synthesis};
use crate::kernels::team::Team;
use crate::kernels::tiles::BLOCK;
use std::sync::{Mutex, PoisonError};

/// What codes make of one convolution.
#[derive(Default)]
pub(super) struct LayerStyle {
    /// `[N][C]`, whole blocks; N is 1 where all images share it.
    pub style: Vec<f32>,
    /// Edits: the style where the edit begins and its change along it, `[2][C]`; empty for batches.
    pub line: Vec<f32>,
    /// `[N][K]`, whole blocks.
    pub demod: Vec<f32>,
}

/// What codes make of one block.
pub(super) struct BlockStyle {
    pub conv0: LayerStyle,
    pub conv1: LayerStyle,
    /// Weights of toRGB times styles, `[N][channels][C]`.
    pub picture: Vec<f32>,
}

pub(super) struct Styles {
    pub images: usize,
    /// Edits: how far each image goes.
    pub steps: Vec<f32>,
    /// The first rows of the codes, `[N][dim]`; N is 1 where all images share it.
    pub first: Vec<f32>,
    pub dim: usize,
    pub blocks: Vec<BlockStyle>,
}

/// Rows that layers read, `[rows][D]` with D a multiple of four.
struct Rows {
    /// For each row of a code: as many rows as it takes.
    values: Vec<Vec<f32>>,
    /// Edits: for each row of the code, where it begins and its change.
    lines: Vec<[Vec<f32>; 2]>,
    dim: usize,
}

impl Rows {
    fn new(codes: Codes<'_>, layers: usize, w_dim: usize) -> Self {
        let dim = w_dim.next_multiple_of(4);
        let row = |all: &[f32], n: usize, l: usize| -> Vec<f32> {
            let mut row = all[(n * layers + l) * w_dim..][..w_dim].to_vec();
            row.resize(dim, 0.0);
            row
        };
        let (values, lines) = match codes {
            Codes::Batch { ws, n } => {
                ((0..layers).map(|l| (0..n).flat_map(|i| row(ws, i, l)).collect()).collect(), Vec::new())
            }
            Codes::Edit { w, change, steps } => {
                let lines: Vec<_> = (0..layers).map(|l| [row(w, 0, l), row(change, 0, l)]).collect();
                let first = lines.iter().position(|[_, c]| c.iter().any(|v| *v != 0.0)).unwrap_or(layers);
                let shifted = |l: usize| -> Vec<f32> {
                    let [w, c] = &lines[l];
                    let at = |t: &f32| w.iter().zip(c).map(|(w, c)| w + t * c).collect::<Vec<f32>>();
                    if l < first { w.clone() } else { steps.iter().flat_map(at).collect() }
                };
                ((0..layers).map(shifted).collect(), lines)
            }
        };
        Self { values, lines, dim }
    }
}

/// `out[r][k] = sum over c of rows[r][c] matrix[k][c]`, k in rows of `width`.
fn product(a: &crate::kernels::panels::Matrix, rows: &[f32], dim: usize, width: usize) -> Vec<f32> {
    let n = rows.len() / dim;
    let mut out = vec![0.0; n * width];
    for panel in 0..a.panels() {
        a.panel(panel, rows, dim, n, |r, k, v| out[r * width + k] = v);
    }
    out
}

impl Affine {
    /// Styles `[N][C]`, C in whole blocks; with `bias`, or for a change without.
    fn apply(&self, rows: &[f32], dim: usize, channels: usize, bias: bool) -> Vec<f32> {
        let width = channels.next_multiple_of(BLOCK);
        let mut out = product(&self.matrix, rows, dim, width);
        if bias {
            for row in out.chunks_exact_mut(width) {
                row.iter_mut().zip(&self.bias).for_each(|(v, b)| *v += b);
            }
        }
        out
    }
}

impl Styled {
    fn style(&self, rows: &Rows) -> LayerStyle {
        let style = self.affine.apply(&rows.values[self.affine.input], rows.dim, self.inputs, true);
        let line = rows.lines.get(self.affine.input).map_or_else(Vec::new, |[w, c]| {
            let mut line = self.affine.apply(w, rows.dim, self.inputs, true);
            line.extend(self.affine.apply(c, rows.dim, self.inputs, false));
            line
        });
        // demodulation d[k] = 1 / sqrt(sum over c, a, b of (s[c] w[k,c,a,b])^2 + 1e-8)
        let squares: Vec<f32> = style.iter().map(|v| v * v).collect();
        let (width, out) = (self.inputs.next_multiple_of(BLOCK), self.outputs.next_multiple_of(BLOCK));
        let mut demod = product(&self.energy, &squares, width, out);
        demod.iter_mut().for_each(|v| *v = 1.0 / (*v + 1e-8).sqrt());
        LayerStyle { style, line, demod }
    }
}

impl Picture {
    fn style(&self, rows: &Rows) -> Vec<f32> {
        let styles = self.affine.apply(&rows.values[self.affine.input], rows.dim, self.inputs, true);
        let width = self.inputs.next_multiple_of(BLOCK);
        let mut out = Vec::with_capacity(styles.len() * self.bias.len());
        for style in styles.chunks_exact(width) {
            for w in self.weight.chunks_exact(self.inputs) {
                out.extend(w.iter().zip(style).map(|(w, s)| w * s));
                out.resize(out.len() + width - self.inputs, 0.0);
            }
        }
        out
    }
}

impl Styles {
    pub(super) fn new(team: &Team<'_>, net: &Synthesis, codes: Codes<'_>) -> Self {
        let blocks = &net.blocks;
        let mut rows = Rows::new(codes, net.config.num_ws(), net.config.w_dim);
        let made: Vec<[Mutex<LayerStyle>; 3]> = blocks.iter().map(|_| Default::default()).collect();
        // One item for each layer: its matrices are read once for all images.
        team.for_each(blocks.len() * 3, |_, i| {
            let block = &blocks[i / 3];
            let style = match i % 3 {
                0 => block.conv0.as_ref().map(|l| l.style(&rows)),
                1 => Some(block.conv1.style(&rows)),
                _ => block
                    .picture
                    .as_ref()
                    .map(|p| LayerStyle { style: p.style(&rows), ..LayerStyle::default() }),
            };
            if let Some(style) = style {
                *made[i / 3][i % 3].lock().unwrap_or_else(PoisonError::into_inner) = style;
            }
        });
        let open = |m: Mutex<LayerStyle>| m.into_inner().unwrap_or_else(PoisonError::into_inner);
        let blocks = made
            .into_iter()
            .map(|[a, b, c]| BlockStyle { conv0: open(a), conv1: open(b), picture: open(c).style })
            .collect();
        let steps = match codes {
            Codes::Batch { .. } => Vec::new(),
            Codes::Edit { steps, .. } => steps.to_vec(),
        };
        let first = std::mem::take(&mut rows.values[0]);
        Self { images: codes.images(), steps, first, dim: rows.dim, blocks }
    }
}

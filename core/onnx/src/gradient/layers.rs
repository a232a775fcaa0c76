//! Which tensors of a network class activation maps can be made of.

use super::emit::Facts;
use crate::config::Layout;
use crate::graph::Model;
use shiftlens_api::LayerInfo;
use std::collections::{HashMap, HashSet};

/// Tensors that `output` is computed from, `output` included.
pub fn ancestors(model: &Model, output: &str) -> HashSet<String> {
    let mut set = HashSet::from([output.to_owned()]);
    for node in model.graph().node.iter().rev() {
        if node.output.iter().any(|o| set.contains(o)) {
            set.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
        }
    }
    set
}

/// Spatial feature maps `[N, K, h, w]` between `input` and `output`, in the graph's order.
///
/// Feature maps are told from other arrays of rank 4 (attention weights, channels-last intermediates) by following
/// the axis order from the input: convolutions, pooling and resizing make `[N, K, h, w]`, a transposition moves
/// between the orders, a matrix product or a reshaping to a new shape loses it. The default is the last map with more
/// than one pixel.
pub fn candidates(model: &Model, facts: &Facts, input: &str, layout: Layout, output: &str) -> Vec<LayerInfo> {
    let useful = ancestors(model, output);
    let mut order: HashMap<&str, Layout> = HashMap::from([(input, layout)]);
    let mut seen: HashSet<Vec<usize>> = HashSet::new();
    let mut layers = Vec::new();
    for node in &model.graph().node {
        let (Some(x), Some(y)) = (node.input.first(), node.output.first()) else { continue };
        let Some(shape) = facts.shapes.get(y).filter(|s| s.len() == 4 && facts.floats.contains(y)) else {
            continue;
        };
        let inherited = node.input.iter().find_map(|i| order.get(i.as_str()).copied());
        let now = match node.op() {
            "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => {
                Some(Layout::Nchw)
            }
            "Transpose" => match (order.get(x.as_str()), node.ints("perm")) {
                (Some(Layout::Nchw), Some([0, 2, 3, 1])) => Some(Layout::Nhwc),
                (Some(Layout::Nhwc), Some([0, 3, 1, 2])) => Some(Layout::Nchw),
                _ => None,
            },
            "MatMul" | "Einsum" => None,
            "Reshape" => seen.contains(shape).then_some(Layout::Nchw),
            _ => inherited,
        };
        let Some(now) = now else { continue };
        order.insert(y, now);
        if now == Layout::Nchw && useful.contains(y) && inherited.is_some() {
            seen.insert(shape.clone());
            layers.push(LayerInfo {
                name: y.clone(),
                operator: node.op().to_owned(),
                shape: shape[1..].iter().map(|d| Some(*d)).collect(),
                default: false,
            });
        }
    }
    let pixels = |l: &LayerInfo| l.shape[1..].iter().flatten().product::<usize>();
    if let Some(last) = layers.iter_mut().rev().find(|l| pixels(l) > 1) {
        last.default = true;
    }
    layers
}

//! Which tensors of a network class activation maps can be made of.

use super::backward::has_rules;
use super::build::{GradientGraph, Request, SEED_WEIGHTS, Scalar, Seed};
use super::emit::Facts;
use super::probe::dependent;
use super::prune::{ancestors, inputs};
use super::size::{Shape, Size};
use crate::backend::Session;
use crate::config::Layout;
use crate::graph::Model;
use crate::proto::NodeProto;
use crate::scores::find_ending;
use shiftlens_api::{LayerInfo, Result};
use std::collections::{HashMap, HashSet};

/// Tokens that may come before the patches: none, a class token, that and a distillation token (Touvron et al. 2021,
/// section 4), a class token and four registers (Darcet et al. 2023).
const LEADING_TOKENS: [usize; 4] = [0, 1, 2, 5];
/// Token layers that are looked at, from the last one back, for the one that a map can be made of.
const TRIED: usize = 24;

/// Spatial feature maps `[N, K, h, w]` and patch tokens `[N, T, K]` between `input` and `output`, in the graph's order.
///
/// Feature maps are told from other arrays of rank 4 (attention weights, channels-last intermediates) by following
/// the axis order from the input: convolutions, pooling and resizing make `[N, K, h, w]`, a transposition moves
/// between the orders, a matrix product or a reshaping to a new shape loses it. Tokens are told by their number, a
/// square with or without leading tokens, and by what makes them: a normalisation or a residual sum. The default is
/// the last map with more than one pixel that all ways from the image to the output pass, not that of a single branch;
/// where no map is like that, the last one.
pub fn candidates(model: &Model, facts: &Facts, input: &str, layout: Layout, output: &str) -> Vec<LayerInfo> {
    let useful = ancestors(model, [output]);
    let mut order: HashMap<&str, Layout> = HashMap::from([(input, layout)]);
    let mut seen: HashMap<&Shape, Layout> = HashMap::new();
    let mut layers = Vec::new();
    let batch = facts.shapes.get(input).and_then(|s| s.first().copied());
    for node in &model.graph().node {
        let (Some(x), Some(y)) = (node.input.first(), node.output.first()) else { continue };
        let Some(shape) = facts.shapes.get(y).filter(|s| s.first().copied() == batch) else { continue };
        if !facts.floats.contains(y) {
            continue;
        }
        let mut list = || {
            layers.push(LayerInfo {
                name: y.clone(),
                operator: node.op().to_owned(),
                shape: shape[1..].iter().map(|d| d.fixed()).collect(),
                default: false,
            });
        };
        if shape.len() == 3 && useful.contains(y) && is_tokens(model, facts, node, shape) {
            list();
            continue;
        }
        if shape.len() != 4 {
            continue;
        }
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
            // A linear layer on channels-last maps keeps their order.
            "MatMul" => inherited.filter(|l| *l == Layout::Nhwc && node.input.len() == 2),
            "Einsum" => None,
            "Reshape" => seen.get(shape).copied(),
            _ => inherited,
        };
        let Some(now) = now else { continue };
        order.insert(y, now);
        seen.entry(shape).or_insert(now);
        if now == Layout::Nchw && useful.contains(y) && inherited.is_some() {
            list();
        }
    }
    let pixels = |l: &LayerInfo| l.shape[1..].iter().flatten().product::<usize>();
    let maps: Vec<usize> =
        (0..layers.len()).filter(|i| layers[*i].shape.len() == 3 && pixels(&layers[*i]) > 1).collect();
    let dependent = dependent(model, input);
    let whole = maps.iter().rev().find(|i| separates(model, &dependent, &layers[**i].name, output));
    if let Some(default) = whole.or(maps.last()) {
        layers[*default].default = true;
    }
    layers
}

/// True if the image reaches `output` through `layer` only. `dependent`: tensors whose values depend on the image.
fn separates(model: &Model, dependent: &HashSet<String>, layer: &str, output: &str) -> bool {
    let Some((place, _)) = model.producer(layer) else { return false };
    let mut open = HashSet::from([output.to_owned()]);
    for node in model.graph().node[place + 1..].iter().rev() {
        let used = node.output.iter().filter(|o| open.remove(*o)).count() > 0;
        let sized = node.is_standard() && matches!(node.op(), "Shape" | "Size");
        if used && !sized {
            open.extend(inputs(node).filter(|i| dependent.contains(i)));
        }
    }
    open.len() == 1 && open.contains(layer)
}

/// True for the residual stream of a vision transformer, or a normalisation of it.
fn is_tokens(model: &Model, facts: &Facts, node: &NodeProto, shape: &[Size]) -> bool {
    let (Some(tokens), Some(_)) = (shape[1].fixed(), shape[2].fixed()) else { return false };
    let square = |n: usize| n > 3 && n.isqrt().pow(2) == n;
    if !LEADING_TOKENS.iter().any(|l| square(tokens.saturating_sub(*l))) {
        return false;
    }
    match node.op() {
        "LayerNormalization" | "RMSNormalization" => true,
        // A residual sum, or the last step of a normalisation written out; not the bias of a linear layer, nor a
        // step of an activation.
        "Add" => node.input.iter().all(|i| {
            facts.constants.contains_key(i)
                || node.input.iter().all(|o| !facts.constants.contains_key(o))
                || model.producer(i).is_some_and(|(_, p)| p.op() == "Mul")
        }),
        _ => false,
    }
}

/// How many tokens come before the patches.
fn leading(tokens: usize) -> usize {
    let square = |n: usize| n.isqrt().pow(2) == n;
    LEADING_TOKENS.into_iter().find(|l| square(tokens.saturating_sub(*l))).unwrap_or(0)
}

/// Moves the default to a token layer where tokens come after the last map.
///
/// A transformer that classifies by its class token has no gradient at the patches of its last layers: the default is
/// the last token layer whose patches the score depends on, found by differentiating once.
///
/// # Errors
/// If the backend cannot run the gradient. A network without gradients keeps its last map.
pub fn choose(
    layers: &mut [LayerInfo],
    model: &Model,
    facts: &Facts,
    output: &str,
    threads: Option<usize>,
) -> Result<()> {
    let last_map = layers.iter().rposition(|l| l.default);
    let scores = find_ending(model, output).map_or(output.to_owned(), |e| e.logits);
    let tokens: Vec<usize> = (last_map.map_or(0, |m| m + 1)..layers.len())
        .filter(|i| layers[*i].shape.len() == 2 && has_rules(model, facts, &layers[*i].name, &scores))
        .rev()
        .take(TRIED)
        .collect();
    if tokens.is_empty() {
        return Ok(());
    }
    let request = Request {
        wrt: tokens.iter().map(|i| layers[*i].name.clone()).collect(),
        output: Some(output.to_owned()),
        scalar: Scalar::Logit,
        seed: Seed::Weights,
        ..Request::default()
    };
    let inputs = model.inputs();
    let input = &inputs[0].name;
    let n = facts.shapes[input].first().and_then(|d| d.fixed()).unwrap_or(1);
    let shape = facts.shapes[input].iter().map(|d| d.at(n)).collect::<Option<Vec<usize>>>();
    let Some(shape) = shape else { return Ok(()) };
    let mut fixed = model.clone();
    fixed.fix_input(input, &shape);
    // What cannot be differentiated is said when gradients are asked for.
    let Ok(graph) = GradientGraph::from_facts(fixed, &facts.at(n), &request) else { return Ok(()) };
    let written = graph.model;
    let mut session = Session::new(&written.to_bytes()?, &graph.outputs, threads, model.name())?;
    // Any image with structure will do.
    let image: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
    let ones: Vec<f32> = (0..n * graph.columns).map(|i| 1.0 + (i % graph.columns) as f32).collect();
    let answer =
        session.run_floats(&[(input, &shape, &image), (SEED_WEIGHTS, &[n, graph.columns], &ones)])?;
    let gradients = &answer[answer.len() - tokens.len()..];
    let depends = |i: usize, g: &[f32]| {
        let (count, k) = (layers[i].shape[0].unwrap_or(1), layers[i].shape[1].unwrap_or(1));
        g[leading(count) * k..count * k].iter().any(|v| *v != 0.0)
    };
    let found = tokens.iter().zip(gradients).find(|(i, g)| depends(**i, g.as_slice())).map(|(i, _)| *i);
    if let Some(found) = found {
        layers.iter_mut().for_each(|l| l.default = false);
        layers[found].default = true;
    }
    Ok(())
}

//! Reverse-mode differentiation from graph to graph.
//!
//! Walks the nodes from the score back to the asked tensors, applies each node's rule (see [`super::rules`]) and adds
//! up the gradients that reach a tensor on several ways. Only nodes between the score and the asked tensors are
//! visited.

use super::emit::{Emitter, Facts};
use super::probe::dependent;
use super::prune::{ancestors, inputs};
use super::rules::{self, Call};
use crate::graph::Model;
use crate::proto::NodeProto;
use shiftlens_api::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Operators that only move values: integers of a quantised network carry their gradient through them.
const MOVES: &[&str] = &[
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators whose outputs are as large as the values of some inputs say, and which inputs these are.
const SIZED_BY_VALUES: &[(&str, &[usize])] = &[
    ("Compress", &[1]),
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    ("NonMaxSuppression", &[0, 1, 2, 3, 4]),
    ("NonZero", &[0]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Reshape", &[1]),
    ("Resize", &[2, 3]),
    ("Slice", &[1, 2, 4]),
    ("Split", &[1]),
    ("Tile", &[1]),
    ("TopK", &[1]),
    ("Unique", &[0]),
    ("Upsample", &[1]),
];

/// Tensors whose values depend smoothly on one of `sources`, the sources included.
///
/// Integers do where they are quantised values: what QuantizeLinear makes, and what is made of that.
fn reached(model: &Model, facts: &Facts, sources: &[String]) -> HashSet<String> {
    let mut set: HashSet<String> = sources.iter().cloned().collect();
    for node in &model.graph().node {
        if rules::is_constant(node) || !inputs(node).any(|i| set.contains(&i)) {
            continue;
        }
        let quantised = node.op() == "QuantizeLinear"
            || node.input.iter().any(|i| set.contains(i) && facts.integers.contains(i));
        let smooth = |o: &&String| !o.is_empty() && (quantised || !facts.integers.contains(*o));
        set.extend(node.output.iter().filter(smooth).cloned());
    }
    set
}

/// Nodes between `sources` and `score` that have no rule, by their place in the graph.
fn without_rule(model: &Model, facts: &Facts, sources: &[String], score: &str) -> Vec<usize> {
    let reached = reached(model, facts, sources);
    let useful = ancestors(model, [score]);
    let nodes = model.graph().node.iter().enumerate();
    nodes
        .filter(|(_, n)| {
            inputs(n).any(|i| reached.contains(&i))
                && n.output.iter().any(|o| useful.contains(o) && reached.contains(o))
                && rules::rule(n).is_none()
        })
        .map(|(i, _)| i)
        .collect()
}

/// True if every operator between `source` and `score` has a rule.
pub fn has_rules(model: &Model, facts: &Facts, source: &str, score: &str) -> bool {
    without_rule(model, facts, &[source.to_owned()], score).is_empty()
}

/// Refuses networks whose inner sizes depend on what is on an image: those found once hold for no other.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_sizes(model: &Model, input: &str, score: &str) -> Result<()> {
    let (dependent, useful) = (dependent(model, input), ancestors(model, [score]));
    let by_image = |n: &NodeProto| {
        let sizes =
            SIZED_BY_VALUES.iter().find(|(op, _)| *op == n.op()).map_or(&[][..], |(_, inputs)| inputs);
        sizes.iter().any(|i| n.input_name(*i).is_some_and(|name| dependent.contains(name)))
    };
    let sized =
        |n: &&NodeProto| n.is_standard() && by_image(n) && n.output.iter().any(|o| useful.contains(o));
    match model.graph().node.iter().find(sized) {
        None => Ok(()),
        Some(n) => Err(Error::Unsupported(format!(
            "{}: the sizes of what node \"{}\" ({}) answers depend on what is on the image, and the score on them; \
             gradient-free methods still work",
            model.name(),
            n.label(),
            n.op()
        ))),
    }
}

/// Refuses operators without a rule, naming the node and the `layers` from which on gradients can be had.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_rules(
    model: &Model,
    facts: &Facts,
    sources: &[String],
    score: &str,
    layers: &[String],
) -> Result<()> {
    let Some(&first) = without_rule(model, facts, sources, score).last() else { return Ok(()) };
    let node = &model.graph().node[first];
    let domain = match node.domain.as_deref().unwrap_or("") {
        "" | "ai.onnx" => String::new(),
        d => format!(" of domain {d}"),
    };
    let works: Vec<String> = layers
        .iter()
        .filter(|l| has_rules(model, facts, l, score))
        .take(3)
        .map(|l| format!("\"{l}\""))
        .collect();
    let next = if works.is_empty() {
        "no layer with spatial extent lies behind it; gradient-free methods still work".into()
    } else {
        format!("gradients work from {} on", works.join(", "))
    };
    Err(Error::Unsupported(format!(
        "{}: no gradient rule for operator {}{domain} (node \"{}\"); {next}",
        model.name(),
        node.op(),
        node.label()
    )))
}

/// Refuses tensors that carry no gradient: all but floats, and integers between QuantizeLinear and DequantizeLinear that
/// are moved only.
fn check_type(e: &Emitter<'_>, node: &NodeProto, tensor: &str) -> Result<()> {
    if e.facts.floats.contains(tensor) {
        return Ok(());
    }
    match e.model.producer(tensor).map(|(_, n)| n) {
        Some(n) if n.is_standard() && MOVES.contains(&n.op()) && e.facts.integers.contains(tensor) => Ok(()),
        Some(n) if e.facts.integers.contains(tensor) => Err(e.unsupported(
            n,
            &format!("its output \"{tensor}\" holds integers, and only moves of integers are differentiated"),
        )),
        _ => Err(e.unsupported(
            node,
            &format!("tensor \"{tensor}\" is not of type float32; export the model in single precision"),
        )),
    }
}

/// Writes the gradients of `score` with respect to `sources`; `seed` is the gradient of the score itself and has its
/// shape. Answers the name of each source's gradient.
///
/// # Errors
/// [`Error::Unsupported`] for an operator without a rule and for tensors on the way that are not `float32`,
/// [`Error::Invalid`] if the score does not depend on a source, or through steps only.
pub fn differentiate(
    e: &mut Emitter<'_>,
    sources: &[String],
    score: &str,
    seed: String,
) -> Result<Vec<String>> {
    let (model, facts) = (e.model, e.facts);
    let reached = reached(model, facts, sources);
    let mut gradients: HashMap<&str, String> = HashMap::from([(score, seed)]);
    for node in model.graph().node.iter().rev() {
        let outputs: Vec<Option<String>> =
            node.output.iter().map(|o| gradients.get(o.as_str()).cloned()).collect();
        let needed = |i: String| reached.contains(&i);
        if outputs.iter().all(Option::is_none) || !inputs(node).any(needed) || rules::is_constant(node) {
            continue;
        }
        let mut wanted = Vec::with_capacity(node.input.len());
        for i in &node.input {
            let want = reached.contains(i);
            if want {
                check_type(e, node, i)?;
            }
            wanted.push(want);
        }
        let rule = rules::rule(node).ok_or_else(|| e.unsupported(node, "the operator has no rule"))?;
        let mut call = Call { node, outputs, wanted };
        for (i, gradient) in rule(e, &call)? {
            // Rules for one input answer it always.
            if !std::mem::take(&mut call.wanted[i]) {
                continue;
            }
            let name = node.input[i].as_str();
            let total = match gradients.get(name) {
                Some(before) => e.add(before, &gradient),
                None => gradient,
            };
            e.hold(&total);
            if sources.iter().any(|s| s == name) {
                // Once for the way on, once for the answer.
                e.hold(&total);
            }
            gradients.insert(name, total);
        }
    }
    let useful = ancestors(model, [score]);
    let missing = |s: &String| {
        let how = if useful.contains(s) {
            " but through rounding, comparisons or integers, which have no gradient"
        } else {
            ""
        };
        Error::Invalid(format!("{}: the score does not depend on tensor \"{s}\"{how}", model.name()))
    };
    sources.iter().map(|s| gradients.get(s.as_str()).cloned().ok_or_else(|| missing(s))).collect()
}

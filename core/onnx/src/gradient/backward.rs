//! Reverse-mode differentiation from graph to graph.
//!
//! Walks the nodes from the score back to the asked tensors, applies each node's rule (see [`super::rules`]) and adds
//! up the gradients that reach a tensor on several ways. Only nodes between the score and the asked tensors are
//! visited.

use super::emit::{Emitter, Facts};
use super::prune::ancestors;
use super::rules::{self, Call};
use crate::graph::Model;
use shiftlens_api::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Tensors whose values depend smoothly on one of `sources`, the sources included.
fn reached(model: &Model, facts: &Facts, sources: &[String]) -> HashSet<String> {
    let mut set: HashSet<String> = sources.iter().cloned().collect();
    for node in &model.graph().node {
        if !rules::is_constant(node) && node.input.iter().any(|i| set.contains(i)) {
            let smooth = |o: &&String| {
                !o.is_empty() && (!facts.integers.contains(*o) || node.op() == "QuantizeLinear")
            };
            set.extend(node.output.iter().filter(smooth).cloned());
        }
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
            n.input.iter().any(|i| reached.contains(i))
                && n.output.iter().any(|o| useful.contains(o) && reached.contains(o) && !sources.contains(o))
                && rules::rule(n).is_none()
        })
        .map(|(i, _)| i)
        .collect()
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
        .filter(|l| without_rule(model, facts, std::slice::from_ref(*l), score).is_empty())
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

/// True for tensors that carry a gradient: floats, and the integers between QuantizeLinear and DequantizeLinear.
fn carries(model: &Model, facts: &Facts, tensor: &str) -> bool {
    facts.floats.contains(tensor)
        || model.producer(tensor).is_some_and(|(_, n)| n.is_standard() && n.op() == "QuantizeLinear")
}

/// Writes the gradients of `score` with respect to `sources`; `seed` is the gradient of the score itself and has its
/// shape. Answers the name of each source's gradient.
///
/// # Errors
/// [`Error::Unsupported`] for an operator without a rule and for tensors on the way that are not `float32`,
/// [`Error::Invalid`] if the score does not depend on a source.
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
        let needed = |i: &String| reached.contains(i);
        if outputs.iter().all(Option::is_none) || !node.input.iter().any(needed) || rules::is_constant(node) {
            continue;
        }
        let mut wanted = Vec::with_capacity(node.input.len());
        for i in &node.input {
            let want = reached.contains(i);
            if want && !carries(model, facts, i) {
                return Err(e.unsupported(
                    node,
                    &format!("tensor \"{i}\" is not of type float32; export the model in single precision"),
                ));
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
    sources
        .iter()
        .map(|s| {
            gradients.get(s.as_str()).cloned().ok_or_else(|| {
                Error::Invalid(format!("{}: the score does not depend on tensor \"{s}\"", model.name()))
            })
        })
        .collect()
}

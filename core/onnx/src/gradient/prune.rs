//! Edits that leave a graph's values as they are: dropping what nothing asks for, and sharing of concatenations.

use crate::graph::Model;
use crate::proto::{GraphProto, NodeProto};
use std::collections::{HashMap, HashSet};

/// Tensors that `outputs` are computed from, `outputs` included.
pub fn ancestors<'a>(model: &Model, outputs: impl IntoIterator<Item = &'a str>) -> HashSet<String> {
    let mut set: HashSet<String> = outputs.into_iter().map(str::to_owned).collect();
    for node in model.graph().node.iter().rev() {
        if node.output.iter().any(|o| set.contains(o)) {
            set.extend(inputs(node));
        }
    }
    set
}

/// The tensors that a node reads, those that its subgraphs take from the graph around them included.
pub fn inputs(node: &NodeProto) -> impl Iterator<Item = String> {
    node.input.iter().filter(|i| !i.is_empty()).cloned().chain(subgraph_inputs(node))
}

/// What a node's subgraphs (of If, Loop, Scan) take from the graph around them.
fn subgraph_inputs(node: &NodeProto) -> Vec<String> {
    let graphs = node.attribute.iter().flat_map(|a| a.g.iter().map(|g| &**g).chain(&a.graphs));
    let captured = |g: &GraphProto| -> Vec<String> {
        let made = g.node.iter().flat_map(|n| &n.output).map(String::as_str);
        let stored = g.initializer.iter().filter_map(|t| t.name.as_deref());
        let own: HashSet<&str> = made.chain(stored).chain(g.input.iter().map(|i| i.name())).collect();
        let read = g.node.iter().flat_map(inputs).chain(g.output.iter().map(|o| o.name().to_owned()));
        read.filter(|name| !own.contains(name.as_str())).collect()
    };
    graphs.flat_map(captured).collect()
}

/// Drops nodes and constants that the graph's outputs do not need.
pub fn prune(model: &mut Model) {
    let outputs: Vec<String> = model.graph().output.iter().map(|o| o.name().to_owned()).collect();
    let needed = ancestors(model, outputs.iter().map(String::as_str));
    let graph = model.graph_mut();
    graph.node.retain(|n| n.output.iter().any(|o| needed.contains(o)));
    graph.initializer.retain(|t| t.name.as_ref().is_some_and(|n| needed.contains(n)));
    let kept: HashSet<String> = graph.node.iter().flat_map(|n| n.output.iter().cloned()).collect();
    graph.value_info.retain(|v| kept.contains(v.name()));
}

/// Lets a concatenation take another one that holds its first parts: `[a, b, c, d]` becomes `[[a, b, c], d]` where
/// `[a, b, c]` exists.
///
/// DenseNets concatenate all earlier layers anew for each layer. The forward pass copies as much either way, but the
/// gradient of a block of L layers then takes L slices and sums and not L^2 / 2. The gradients of the parts stay as they
/// are; that of a concatenation that is shared gets those of the ones that took it in addition. `asked` concatenations,
/// whose own gradient is wanted, are therefore not shared.
pub fn share_concatenations(model: &mut Model, asked: &[String]) {
    let mut known: HashMap<(i64, Vec<String>), String> = HashMap::new();
    for node in &mut model.graph_mut().node {
        if !node.is_standard() || node.op() != "Concat" || node.input.len() < 2 {
            continue;
        }
        // An axis counted from the end is a key of its own: the rank is not known here.
        let axis = node.int("axis", 0);
        let whole = (axis, node.input.clone());
        let longest = (2..node.input.len())
            .rev()
            .find_map(|n| known.get(&(axis, node.input[..n].to_vec())).map(|output| (n, output.clone())));
        if let Some((n, output)) = longest {
            node.input.splice(..n, [output]);
        }
        if let Some(output) = node.output.first().filter(|o| !asked.contains(o)) {
            known.insert(whole, output.clone());
        }
    }
}

//! What the embedded backend must not be given: graphs that it would run to other values than the ONNX specification's, or
//! that would end the process.
//!
//! Operators that it does not know are no matter of this table: it says so itself.

use crate::constant::{Constant, Values};
use crate::proto::{GraphProto, ModelProto, NodeProto};
use prost::Message;
use shiftlens_api::{Error, Result};

/// Operators that move or repeat values of their first input.
const MOVES: &[&str] = &[
    "Cast",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Refuses a model (the bytes of an `.onnx` file) with a node that the embedded backend runs wrongly. `name` is used in
/// messages.
///
/// # Errors
/// [`Error::Unsupported`] that names the node and its operator; [`Error::Invalid`] for bytes that are no model.
pub fn check(model: &[u8], name: &str) -> Result<()> {
    let model =
        ModelProto::decode(model).map_err(|e| Error::Invalid(format!("{name}: not an ONNX model ({e})")))?;
    let standard = |d: Option<&str>| matches!(d.unwrap_or(""), "" | "ai.onnx");
    let versions = model.opset_import.iter().filter(|o| standard(o.domain.as_deref()));
    let opset = versions.map(|o| o.version.unwrap_or(1)).max().unwrap_or(1);
    let Some(graph) = &model.graph else { return Ok(()) };
    for node in graph.node.iter().filter(|n| n.is_standard()) {
        if let Some(what) = misread(graph, node, opset) {
            return Err(Error::Unsupported(format!(
                "{name}: node \"{}\" ({}) has {what}, which the embedded backend does not run as ONNX has it; ONNX Runtime \
                 does (cargo xtask setup installs it)",
                node.label(),
                node.op()
            )));
        }
    }
    Ok(())
}

/// What the backend does not run as specified about a node.
fn misread(graph: &GraphProto, node: &NodeProto, opset: i64) -> Option<String> {
    let alpha = node.float("alpha", 1.0);
    match node.op() {
        "Celu" | "Swish" if alpha != 1.0 => Some(format!("alpha = {alpha}")),
        "GlobalLpPool" => Some(format!("p = {}", node.int("p", 2))),
        "Pad" => {
            let attribute = node.ints("pads").is_some_and(|p| p.iter().any(|v| *v < 0));
            (attribute || negative(graph, node.input_name(1)?, 0)).then(|| "negative pads".into())
        }
        "GatherND" | "ScatterND" => {
            negative(graph, node.input_name(1)?, 0).then(|| "indices that are counted from the end".into())
        }
        "Resize" => resize(graph, node, opset),
        _ => None,
    }
}

fn resize(graph: &GraphProto, node: &NodeProto, opset: i64) -> Option<String> {
    let mode = node.string("mode");
    if opset < 11 && matches!(mode, "" | "nearest") {
        // ONNX takes floor(o / s) of output pixel o, tract the nearest integer, halves down.
        let same = |s: f32| s == 1.0 || s == 2.0 || (1.0 / s).fract() == 0.0;
        let scales = node.input_name(1).and_then(|name| stored(graph, name)).map(|c| c.floats());
        return match scales {
            Some(s) if s.iter().all(|s| same(*s)) => None,
            Some(s) => Some(format!("mode \"nearest\" of operator set {opset} with the factors {s:?}")),
            None => Some(format!("mode \"nearest\" of operator set {opset} with computed factors")),
        };
    }
    let outside = mode == "cubic" && node.int("exclude_outside", 0) != 0;
    outside.then(|| "mode \"cubic\" with exclude_outside".into())
}

/// A stored array: an initialiser, or what a Constant node holds.
fn stored(graph: &GraphProto, name: &str) -> Option<Constant> {
    let of_graph = graph.initializer.iter().find(|t| t.name.as_deref() == Some(name));
    let of_node = || {
        let node = graph.node.iter().find(|n| n.op() == "Constant" && n.output.iter().any(|o| o == name))?;
        node.attr("value")?.t.as_deref()
    };
    Constant::decode(of_graph.or_else(of_node)?).ok()
}

/// True if one of the stored values that tensor `name` is put together from is negative. What is computed otherwise is
/// not known before the graph runs.
fn negative(graph: &GraphProto, name: &str, depth: usize) -> bool {
    // Deeper than any exporter writes; also the end of a graph that is no graph.
    if depth > 32 {
        return false;
    }
    if let Some(constant) = stored(graph, name) {
        return matches!(constant.values, Values::Int(v) if v.iter().any(|v| *v < 0));
    }
    let Some(node) = graph.node.iter().find(|n| n.output.iter().any(|o| o == name)) else { return false };
    match node.op() {
        "Constant" => {
            node.attr("value_int").and_then(|a| a.i).is_some_and(|v| v < 0)
                || node.ints("value_ints").is_some_and(|v| v.iter().any(|v| *v < 0))
        }
        "Concat" => node.input.iter().any(|i| negative(graph, i, depth + 1)),
        op if MOVES.contains(&op) => node.input.first().is_some_and(|i| negative(graph, i, depth + 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constant::{float_tensor, int_tensor};
    use crate::gradient::emit::{float, int, ints, string};
    use crate::proto::{AttributeProto, OperatorSetIdProto, TensorProto, attribute_type};

    fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.into()],
            attribute,
            ..Default::default()
        }
    }

    fn verdict(opset: i64, node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Option<String> {
        let graph = GraphProto { node, initializer, ..Default::default() };
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(opset) }];
        let model = ModelProto { graph: Some(graph), opset_import, ..Default::default() };
        check(&model.encode_to_vec(), "m.onnx").err().map(|e| e.to_string())
    }

    #[track_caller]
    fn refused(answer: Option<String>, words: &[&str]) {
        let e = answer.expect("a refusal");
        let always = ["m.onnx", "\"y\"", "ONNX Runtime", "cargo xtask setup"];
        let missing: Vec<_> = words.iter().chain(&always).filter(|w| !e.contains(**w)).collect();
        assert!(missing.is_empty(), "{missing:?} not in: {e}");
    }

    #[test]
    fn attributes_tell() {
        for op in ["Celu", "Swish"] {
            refused(
                verdict(24, vec![node(op, &["x"], "y", vec![float("alpha", 0.5)])], vec![]),
                &[op, "0.5"],
            );
            assert_eq!(verdict(24, vec![node(op, &["x"], "y", vec![])], vec![]), None);
        }
        refused(
            verdict(17, vec![node("GlobalLpPool", &["x"], "y", vec![])], vec![]),
            &["GlobalLpPool", "p = 2"],
        );
        let pads = |v: &[i64]| verdict(10, vec![node("Pad", &["x"], "y", vec![ints("pads", v)])], vec![]);
        refused(pads(&[0, 0, 1, -1]), &["(Pad)", "negative pads"]);
        assert_eq!(pads(&[0, 0, 1, 1]), None);
        let cubic = |outside| {
            let given = vec![string("mode", "cubic"), int("exclude_outside", outside)];
            verdict(13, vec![node("Resize", &["x", "", "s"], "y", given)], vec![])
        };
        refused(cubic(1), &["(Resize)", "exclude_outside"]);
        assert_eq!(cubic(0), None);
        // An operator of the same name from elsewhere is no matter of the table.
        let mut other = node("GlobalLpPool", &["x"], "y", vec![]);
        other.domain = Some("example.org".into());
        assert_eq!(verdict(17, vec![other], vec![]), None);
    }

    #[test]
    fn stored_values_tell() {
        let pad = |pads: &[i64]| {
            verdict(
                13,
                vec![node("Pad", &["x", "p"], "y", vec![])],
                vec![int_tensor("p", &[pads.len()], pads)],
            )
        };
        refused(pad(&[0, -1, 0, 0]), &["(Pad)", "negative pads"]);
        assert_eq!(pad(&[0, 1, 0, 0]), None);
        // Indices that a few nodes put together from stored ones; the sizes of a Reshape may be negative.
        let gather = |index: i64| {
            let constant = AttributeProto {
                name: Some("value".into()),
                r#type: Some(attribute_type::TENSOR),
                t: Some(Box::new(int_tensor("", &[1, 1], &[index]))),
                ..Default::default()
            };
            let nodes = vec![
                node("Constant", &[], "i", vec![constant]),
                node("Concat", &["first", "i"], "c", vec![int("axis", 1)]),
                node("Reshape", &["c", "sizes"], "r", vec![]),
                node("GatherND", &["x", "r"], "y", vec![]),
            ];
            verdict(13, nodes, vec![int_tensor("first", &[1, 1], &[0]), int_tensor("sizes", &[1], &[-1])])
        };
        refused(gather(-2), &["(GatherND)", "counted from the end"]);
        assert_eq!(gather(2), None);
        let nearest = |factors: &[f32]| {
            let given = vec![string("mode", "nearest")];
            let scales = float_tensor("s", &[factors.len()], factors);
            verdict(10, vec![node("Resize", &["x", "s"], "y", given)], vec![scales])
        };
        refused(nearest(&[1.0, 1.0, 3.0, 2.0]), &["(Resize)", "3.0"]);
        assert_eq!(nearest(&[1.0, 1.0, 2.0, 0.5]), None);
    }
}

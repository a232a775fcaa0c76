//! Shapes and constants of all tensors of a model, by running it once on a grey image with every tensor as an output.

use super::emit::{Facts, PREFIX, int};
use crate::backend::{Session, Value};
use crate::constant::{Constant, Values};
use crate::graph::Model;
use crate::proto::{NodeProto, ValueInfoProto, data_type};
use shiftlens_api::Result;
use std::collections::HashSet;

/// Tensors that depend on the values of `input`. A shape does not.
pub fn dependent(model: &Model, input: &str) -> HashSet<String> {
    let mut set = HashSet::from([input.to_owned()]);
    for node in &model.graph().node {
        let has_subgraph = node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
        let touched = node.input.iter().any(|i| set.contains(i)) || has_subgraph;
        if touched && !(node.is_standard() && matches!(node.op(), "Shape" | "Size")) {
            set.extend(node.output.iter().filter(|o| !o.is_empty()).cloned());
        }
    }
    set
}

/// Integers made from shapes, as far as one operator after the other shows it. The embedded backend keeps them in a
/// type of its own that cannot be read from outside, so that they are asked for as plain integers.
fn shape_arithmetic(model: &Model) -> HashSet<String> {
    const KEEPS_TYPE: &[&str] = &[
        "Abs",
        "Add",
        "Concat",
        "Div",
        "Identity",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Sub",
        "Transpose",
    ];
    let mut set = HashSet::new();
    for node in &model.graph().node {
        let integer = match node.op() {
            "Shape" | "Size" => true,
            "Cast" => matches!(node.int("to", 0) as i32, data_type::INT64 | data_type::INT32),
            // The first input of these is an index or a condition.
            "Where" => node.input.iter().skip(1).any(|i| set.contains(i)),
            "Gather" | "Slice" | "Split" | "Expand" | "Tile" | "Squeeze" | "Unsqueeze" | "Reshape" => {
                node.input.first().is_some_and(|i| set.contains(i))
            }
            op => KEEPS_TYPE.contains(&op) && node.input.iter().any(|i| set.contains(i)),
        };
        if integer && node.is_standard() {
            set.extend(node.output.iter().cloned());
        }
    }
    set
}

/// Runs `model`, whose input has a fixed shape, on `data`.
///
/// # Errors
/// If the backend cannot run it, or a constant is of a type that cannot be read.
pub fn probe(
    model: &Model,
    input: &str,
    shape: &[usize],
    data: &[f32],
    threads: Option<usize>,
) -> Result<Facts> {
    let graph = model.graph();
    let outputs: Vec<String> =
        graph.node.iter().flat_map(|n| &n.output).filter(|o| !o.is_empty()).cloned().collect();
    let integers = shape_arithmetic(model);
    let mut all = model.clone();
    let mut asked = Vec::with_capacity(outputs.len());
    for (i, output) in outputs.iter().enumerate() {
        if integers.contains(output) {
            let name = format!("{PREFIX}probe_{i}");
            all.graph_mut().node.push(NodeProto {
                op_type: Some("Cast".into()),
                input: vec![output.clone()],
                output: vec![name.clone()],
                attribute: vec![int("to", i64::from(data_type::INT32))],
                ..Default::default()
            });
            asked.push(name);
        } else {
            asked.push(output.clone());
        }
    }
    all.graph_mut().output =
        asked.iter().map(|o| ValueInfoProto { name: Some(o.clone()), ..Default::default() }).collect();
    let mut session = Session::new(&all.to_bytes()?, &asked, threads, model.name())?;
    let values = session.run(&[(input, shape, data)])?;

    let dependent = dependent(model, input);
    let mut facts = Facts::default();
    facts.shapes.insert(input.to_owned(), shape.to_vec());
    facts.floats.insert(input.to_owned());
    for (name, value) in outputs.into_iter().zip(values) {
        facts.shapes.insert(name.clone(), value.shape().to_vec());
        if matches!(value, Value::Float(_)) {
            facts.floats.insert(name.clone());
        }
        if !dependent.contains(&name) {
            let shape = value.shape().to_vec();
            let values = match value {
                Value::Float(t) => Some(Values::Float(t.into_vec())),
                Value::Int(_, v) => Some(Values::Int(v)),
                Value::Other(_) => None,
            };
            facts.constants.extend(values.map(|values| (name, Constant { shape, values })));
        }
    }
    for t in &graph.initializer {
        let name = t.name.clone().unwrap_or_default();
        facts.shapes.insert(name.clone(), t.dims.iter().map(|d| *d as usize).collect());
        // A type that is not read may well not be needed; the rule that needs it says so.
        if let Ok(constant) = Constant::decode(t) {
            if matches!(constant.values, Values::Float(_)) {
                facts.floats.insert(name.clone());
            }
            facts.constants.insert(name, constant);
        }
    }
    Ok(facts)
}

//! Shapes and constants of all tensors of a model, by running it on grey images with every tensor as an output.

use super::emit::{Facts, PREFIX, int};
use super::prune::inputs;
use super::size::{Shape, Size};
use crate::backend::{Session, Value, is_native};
use crate::constant::{Constant, Values};
use crate::graph::Model;
use crate::proto::{NodeProto, ValueInfoProto, data_type};
use shiftlens_api::Result;
use std::collections::HashSet;
use std::sync::Arc;

/// Tensors that depend on the values of `input`. A shape does not.
pub fn dependent(model: &Model, input: &str) -> HashSet<String> {
    let mut set = HashSet::from([input.to_owned()]);
    for node in &model.graph().node {
        let touched = inputs(node).any(|i| set.contains(&i));
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

/// Operators that pick among values without looking at them. What they pick from a shape may well be fixed where another
/// of its sizes follows the batch.
const PICKS: &[&str] = &[
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
];

/// Outputs of nodes, in order, that are the same for every batch: those of which `same` (by place) found so, and whose
/// inputs are.
///
/// Without the second, `N / 4` would be a constant, for two images as for three. A pick from what varies is taken at its
/// word, unless that was the same by accident itself.
fn steady<'m>(
    model: &'m Model,
    dependent: &HashSet<String>,
    same: impl Fn(usize) -> bool,
    compared: bool,
) -> HashSet<&'m str> {
    let graph = model.graph();
    let stored = graph.initializer.iter().filter_map(|t| t.name.as_deref());
    let sparse = graph.sparse_initializer.iter().filter_map(|t| t.values.as_ref()?.name.as_deref());
    let stored: HashSet<&str> = stored.chain(sparse).collect();
    let (mut steady, mut accidents): (HashSet<&str>, HashSet<&str>) = Default::default();
    let mut place = 0;
    for node in &graph.node {
        let fixed = |i: &str| i.is_empty() || stored.contains(i) || steady.contains(i);
        let from_fixed = !compared || inputs(node).all(|i| fixed(&i));
        let picked = node.is_standard()
            && PICKS.contains(&node.op())
            && !node.input.iter().any(|i| accidents.contains(i.as_str()));
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            let found = !dependent.contains(output) && same(place);
            place += 1;
            if found && (from_fixed || picked) {
                steady.insert(output);
            } else if found {
                accidents.insert(output);
            }
        }
    }
    steady
}

/// Batches that a model is run with, where its batch is free. Sizes that are the same for both do not follow it.
pub const BATCHES: [usize; 2] = [2, 3];

/// Runs `model` on a grey image of `shape` (the first entry is the batch) for each of `batches`, one or two, and
/// compares.
///
/// # Errors
/// If the backend cannot run it.
pub fn probe(
    model: &Model,
    input: &str,
    shape: &[usize],
    batches: &[usize],
    threads: Option<usize>,
) -> Result<Facts> {
    let graph = model.graph();
    let asked = Asked::new(model);
    let mut session = None;
    let mut runs: Vec<Vec<Value>> = Vec::new();
    for n in batches {
        let mut shape = shape.to_vec();
        shape[0] = *n;
        // The embedded backend settles all sizes when it loads a model.
        if session.is_none() || !is_native()? {
            let mut fixed = asked.model.clone();
            if !is_native()? || batches.len() == 1 {
                fixed.fix_input(input, &shape);
            }
            session = Some(Session::new(&fixed.to_bytes()?, &asked.names, threads, model.name())?);
        }
        let data = vec![0.5; shape.iter().product()];
        let answer = session.as_mut().map(|s| s.run(&[(input, &shape, &data)]));
        runs.extend(answer.transpose()?);
    }

    let dependent = dependent(model, input);
    let mut facts = Facts::default();
    let sizes = |a: &[usize], b: &[usize]| -> Shape {
        let (n, m) = (batches[0], *batches.last().unwrap_or(&batches[0]));
        if a.len() != b.len() {
            return vec![Size::Unknown; a.len()];
        }
        a.iter().zip(b).map(|(a, b)| Size::of(*a, n, *b, m)).collect()
    };
    let mut first = shape.to_vec();
    let mut last = shape.to_vec();
    (first[0], last[0]) = (batches[0], *batches.last().unwrap_or(&batches[0]));
    facts.shapes.insert(input.to_owned(), sizes(&first, &last));
    facts.floats.insert(input.to_owned());
    let (mut of_last, of_first): (Vec<Value>, _) = (runs.pop().unwrap_or_default(), runs.pop());
    for t in &graph.initializer {
        let name = t.name.clone().unwrap_or_default();
        facts.shapes.insert(name.clone(), t.dims.iter().map(|d| Size::Fixed(*d as usize)).collect());
        if t.data_type == Some(data_type::FLOAT) {
            facts.floats.insert(name.clone());
        }
        // A type that is not read may well not be needed; the rule that needs it says so.
        if let Ok(constant) = Constant::decode(t) {
            facts.constants.insert(name, Arc::new(constant));
        }
    }
    let same = |i: usize, value: &Value| of_first.as_ref().is_none_or(|f| f[i] == *value);
    let steady = steady(model, &dependent, |i| same(i, &of_last[i]), batches.len() > 1);
    for (i, name) in asked.outputs.iter().enumerate() {
        let value = std::mem::replace(&mut of_last[i], Value::Other(vec![]));
        let other = of_first.as_ref().map_or(&value, |f| &f[i]);
        facts.shapes.insert(name.clone(), sizes(other.shape(), value.shape()));
        match &value {
            Value::Float(_) => facts.floats.insert(name.clone()),
            Value::Int(..) => facts.integers.insert(name.clone()),
            _ => false,
        };
        if steady.contains(name.as_str()) {
            let shape = value.shape().to_vec();
            let values = match value {
                Value::Float(t) | Value::Double(t) => Some(Values::Float(t.into_vec())),
                Value::Int(_, v) => Some(Values::Int(v)),
                Value::Other(_) => None,
            };
            let constant = values.map(|values| (name.clone(), Arc::new(Constant { shape, values })));
            facts.constants.extend(constant);
        }
    }
    Ok(facts)
}

/// A model that answers all its tensors.
struct Asked {
    model: Model,
    /// The tensors.
    outputs: Vec<String>,
    /// The names under which the model answers them.
    names: Vec<String>,
}

impl Asked {
    fn new(model: &Model) -> Self {
        let graph = model.graph();
        let outputs: Vec<String> =
            graph.node.iter().flat_map(|n| &n.output).filter(|o| !o.is_empty()).cloned().collect();
        let integers = shape_arithmetic(model);
        let mut all = model.clone();
        let mut names = Vec::with_capacity(outputs.len());
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
                names.push(name);
            } else {
                names.push(output.clone());
            }
        }
        all.graph_mut().value_info.clear();
        all.graph_mut().output =
            names.iter().map(|o| ValueInfoProto { name: Some(o.clone()), ..Default::default() }).collect();
        Self { model: all, outputs, names }
    }
}

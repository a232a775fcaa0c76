//! A slow and plain interpreter of ONNX graphs in float64, the oracle of the gradient rules.
//!
//! Written from the operator specification (<https://onnx.ai/onnx/operators/>), one function per operator or family, each
//! output element by its formula. Nothing here is shared with the code under test besides the protobuf messages. It is
//! itself compared with ONNX Runtime on every case that it serves as an oracle for.

#![allow(dead_code, reason = "not every test program uses every helper")]

mod conv;
mod elementwise;
mod gather;
mod linear;
mod norm;
mod pool;
mod quant;
mod reduce;
mod resize;
mod shape;
pub mod tensor;

use shiftlens_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use std::collections::HashMap;
use tensor::{Kind, R, Tensor};

/// A node with its inputs, as operators see it.
pub struct Op<'a> {
    pub node: &'a NodeProto,
    pub opset: i64,
    /// Take quantisation as clipping without rounding: what a straight-through gradient is the gradient of.
    pub straight_through: bool,
    pub inputs: Vec<Option<&'a Tensor>>,
}

impl<'a> Op<'a> {
    pub fn x(&self, i: usize) -> R<&'a Tensor> {
        self.opt(i).ok_or_else(|| format!("{} lacks input {i}", self.node.op()))
    }
    pub fn opt(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten()
    }
    pub fn has(&self, name: &str) -> bool {
        self.node.attr(name).is_some()
    }
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name, default)
    }
    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.node.attr(name).and_then(|a| a.f).map_or(default, f64::from)
    }
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.node.ints(name)
    }
    /// A string attribute.
    pub fn word(&self, name: &str, default: &'a str) -> &'a str {
        match self.node.string(name) {
            "" => default,
            s => s,
        }
    }
    /// Axes from input `i` or the attribute `axes`.
    pub fn axes(&self, i: usize, rank: usize) -> R<Option<Vec<usize>>> {
        let given = self.opt(i).map(Tensor::to_ints).or_else(|| self.ints("axes").map(<[i64]>::to_vec));
        given.map(|v| v.iter().map(|a| tensor::axis(*a, rank)).collect()).transpose()
    }
}

/// A stored constant.
pub fn decode(t: &TensorProto) -> R<Tensor> {
    let shape: Vec<usize> = t.dims.iter().map(|d| *d as usize).collect();
    let raw = t.raw_data.as_deref().filter(|r| !r.is_empty());
    let chunks = |n: usize| raw.into_iter().flat_map(move |r| r.chunks_exact(n));
    let typed32 = || t.int32_data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let bytes = raw.is_some();
    let (kind, data): (Kind, Vec<f64>) = match t.data_type.unwrap_or(0) {
        data_type::FLOAT if bytes => {
            (Kind::Float, chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()).into()).collect())
        }
        data_type::FLOAT => (Kind::Float, t.float_data.iter().map(|v| f64::from(*v)).collect()),
        data_type::DOUBLE if bytes => {
            (Kind::Float, chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect())
        }
        data_type::DOUBLE => (Kind::Float, t.double_data.clone()),
        data_type::INT64 if bytes => {
            (Kind::Int, chunks(8).map(|c| i64::from_le_bytes(c.try_into().unwrap()) as f64).collect())
        }
        data_type::INT64 => (Kind::Int, t.int64_data.iter().map(|v| *v as f64).collect()),
        data_type::INT32 if bytes => {
            (Kind::Int, chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap()).into()).collect())
        }
        data_type::INT32 => (Kind::Int, typed32()),
        data_type::INT8 if bytes => (Kind::Int8, chunks(1).map(|c| f64::from(c[0] as i8)).collect()),
        data_type::INT8 => (Kind::Int8, typed32()),
        data_type::UINT8 if bytes => (Kind::Uint8, chunks(1).map(|c| f64::from(c[0])).collect()),
        data_type::UINT8 => (Kind::Uint8, typed32()),
        data_type::BOOL if bytes => (Kind::Bool, chunks(1).map(|c| f64::from(c[0])).collect()),
        data_type::BOOL => (Kind::Bool, typed32()),
        other => return Err(format!("data type {other} of constant {:?}", t.name)),
    };
    if data.len() != shape.iter().product::<usize>() {
        return Err(format!("constant {:?}: {} values for {shape:?}", t.name, data.len()));
    }
    Ok(Tensor { kind, shape, data })
}

/// A model ready to be interpreted; its constants are decoded once.
pub struct Interpreter<'a> {
    graph: &'a GraphProto,
    opset: i64,
    constants: HashMap<String, Tensor>,
    /// See [`Op::straight_through`].
    pub straight_through: bool,
}

impl<'a> Interpreter<'a> {
    pub fn new(model: &'a ModelProto) -> R<Self> {
        let graph = model.graph.as_ref().ok_or("no graph")?;
        let opset = model.opset_import.iter().filter_map(|o| o.version).max().unwrap_or(1);
        let named = graph.initializer.iter().map(|t| Ok((t.name.clone().unwrap_or_default(), decode(t)?)));
        Ok(Self { graph, opset, constants: named.collect::<R<_>>()?, straight_through: false })
    }

    /// The tensor `wanted` for the given inputs. Inner tensors may be given too, in place of what their nodes answer.
    pub fn run(&self, feed: &[(&str, &Tensor)], wanted: &str) -> R<Tensor> {
        let mut values: HashMap<&str, Tensor> = HashMap::new();
        fn find<'v>(
            name: &str,
            feed: &[(&str, &'v Tensor)],
            values: &'v HashMap<&str, Tensor>,
            constants: &'v HashMap<String, Tensor>,
        ) -> Option<&'v Tensor> {
            let fed = feed.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
            fed.or_else(|| values.get(name)).or_else(|| constants.get(name))
        }
        for node in &self.graph.node {
            if node.output.iter().all(|o| feed.iter().any(|(n, _)| o == n)) {
                continue;
            }
            let inputs: Vec<Option<&Tensor>> = node
                .input
                .iter()
                .map(|i| match i.as_str() {
                    "" => Ok(None),
                    name => find(name, feed, &values, &self.constants)
                        .map(Some)
                        .ok_or(format!("no tensor {name}")),
                })
                .collect::<R<_>>()?;
            let op = Op { node, opset: self.opset, straight_through: self.straight_through, inputs };
            let outputs = evaluate(&op).map_err(|e| format!("{} ({}): {e}", node.op(), node.label()))?;
            for (name, value) in node.output.iter().zip(outputs) {
                if !name.is_empty() {
                    values.insert(name, value);
                }
            }
        }
        find(wanted, feed, &values, &self.constants).cloned().ok_or(format!("no tensor {wanted}"))
    }
}

/// The outputs of a node; `None` from a family that does not know the operator.
pub type Answer = Option<R<Vec<Tensor>>>;

/// The outputs of one node.
fn evaluate(op: &Op<'_>) -> R<Vec<Tensor>> {
    if !op.node.is_standard() {
        return Err(format!("domain {:?}", op.node.domain));
    }
    let families: [fn(&Op<'_>) -> Answer; 10] = [
        elementwise::evaluate,
        conv::evaluate,
        linear::evaluate,
        norm::evaluate,
        pool::evaluate,
        reduce::evaluate,
        shape::evaluate,
        gather::evaluate,
        resize::evaluate,
        quant::evaluate,
    ];
    families.iter().find_map(|f| f(op)).unwrap_or_else(|| Err("not interpreted".into()))
}

/// An answer of one tensor.
fn one(t: R<Tensor>) -> Answer {
    Some(t.map(|t| vec![t]))
}

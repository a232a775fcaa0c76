//! Writes the nodes of a backward graph.
//!
//! Shapes are known when the graph is written (the batch is fixed), so that only plain operators with constant
//! arguments are needed; both backends run those. Operators whose arguments moved between operator-set versions are
//! written in the model's own version.

use crate::constant::{Constant, Values, float_tensor, int_tensor};
use crate::graph::Model;
use crate::proto::{AttributeProto, NodeProto, TensorProto, attribute_type, data_type};
use shiftlens_api::{Error, Result};
use std::collections::HashMap;

/// Prefix of every tensor that is added to a model.
pub const PREFIX: &str = "shiftlens.backward/";

/// What is known of a model's tensors at a fixed batch.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Shapes of all tensors that nodes make, and of the input.
    pub shapes: HashMap<String, Vec<usize>>,
    /// Values of tensors that do not depend on the images.
    pub constants: HashMap<String, Constant>,
    /// Tensors that hold `float32` values.
    pub floats: std::collections::HashSet<String>,
}

/// Writes nodes and constants behind a model's own.
pub struct Emitter<'a> {
    /// The model that is differentiated.
    pub model: &'a Model,
    /// What is known of its tensors.
    pub facts: &'a Facts,
    /// Nodes written so far, in order.
    pub nodes: Vec<NodeProto>,
    /// Constants written so far.
    pub constants: Vec<TensorProto>,
    opset: i64,
    count: usize,
}

/// An integer attribute.
pub fn int(name: &str, v: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INT),
        i: Some(v),
        ..Default::default()
    }
}

/// An attribute of integers.
pub fn ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::INTS),
        ints: v.to_vec(),
        ..Default::default()
    }
}

/// A float attribute.
pub fn float(name: &str, v: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::FLOAT),
        f: Some(v),
        ..Default::default()
    }
}

/// A string attribute.
pub fn string(name: &str, v: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(attribute_type::STRING),
        s: Some(v.as_bytes().to_vec()),
        ..Default::default()
    }
}

impl<'a> Emitter<'a> {
    /// Nothing written yet.
    pub fn new(model: &'a Model, facts: &'a Facts) -> Self {
        Self { model, facts, nodes: Vec::new(), constants: Vec::new(), opset: model.opset(), count: 0 }
    }

    /// The standard operator set's version.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    fn fresh(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{PREFIX}{what}_{}", self.count)
    }

    /// Writes one node with one output and answers its name.
    pub fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(op);
        self.op_as(op, inputs, attributes, &output);
        output
    }

    /// As [`Self::op`], with a name for the output.
    pub fn op_as(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, output: &str) {
        self.nodes.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(format!("{output}/node")),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes,
            ..Default::default()
        });
    }

    /// A constant float array.
    pub fn floats(&mut self, shape: &[usize], data: &[f32]) -> String {
        let name = self.fresh("const");
        self.constants.push(float_tensor(&name, shape, data));
        name
    }

    /// A constant float scalar.
    pub fn scalar(&mut self, v: f32) -> String {
        self.floats(&[], &[v])
    }

    /// A constant list of integers.
    pub fn int_list(&mut self, data: &[i64]) -> String {
        let name = self.fresh("const");
        self.constants.push(int_tensor(&name, &[data.len()], data));
        name
    }

    /// A constant integer array.
    pub fn int_array(&mut self, shape: &[usize], data: &[i64]) -> String {
        let name = self.fresh("const");
        self.constants.push(int_tensor(&name, shape, data));
        name
    }

    /// `a + b`.
    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b], vec![])
    }
    /// `a - b`.
    pub fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b], vec![])
    }
    /// `a * b`.
    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b], vec![])
    }
    /// `a / b`.
    pub fn div(&mut self, a: &str, b: &str) -> String {
        self.op("Div", &[a, b], vec![])
    }
    /// `a * v`.
    pub fn scale(&mut self, a: &str, v: f32) -> String {
        if v == 1.0 {
            return a.to_owned();
        }
        let s = self.scalar(v);
        self.mul(a, &s)
    }
    /// `a + v`.
    pub fn shift(&mut self, a: &str, v: f32) -> String {
        let s = self.scalar(v);
        self.add(a, &s)
    }
    /// 1 where `a > b`, else 0.
    pub fn greater(&mut self, a: &str, b: &str) -> String {
        let m = self.op("Greater", &[a, b], vec![]);
        self.to_float(&m)
    }
    /// 1 where `a > v`, else 0.
    pub fn above(&mut self, a: &str, v: f32) -> String {
        let s = self.scalar(v);
        self.greater(a, &s)
    }
    /// 1 where `a < v`, else 0.
    pub fn below(&mut self, a: &str, v: f32) -> String {
        let s = self.scalar(v);
        self.greater(&s, a)
    }
    /// Booleans or integers as floats.
    pub fn to_float(&mut self, a: &str) -> String {
        self.op("Cast", &[a], vec![int("to", i64::from(data_type::FLOAT))])
    }

    /// Another shape, the same values.
    pub fn reshape(&mut self, a: &str, shape: &[usize]) -> String {
        let s: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
        let s = self.int_list(&s);
        self.op("Reshape", &[a, &s], vec![])
    }

    /// Axis `i` of the result is axis `perm[i]` of `a`.
    pub fn transpose(&mut self, a: &str, perm: &[usize]) -> String {
        let p: Vec<i64> = perm.iter().map(|d| *d as i64).collect();
        self.op("Transpose", &[a], vec![ints("perm", &p)])
    }

    /// The sum over `axes`, kept with size 1.
    pub fn sum(&mut self, a: &str, axes: &[usize]) -> String {
        self.reduce("ReduceSum", 13, a, axes)
    }

    /// The mean over `axes`, kept with size 1.
    pub fn mean(&mut self, a: &str, axes: &[usize]) -> String {
        self.reduce("ReduceMean", 18, a, axes)
    }

    /// `since`: operator-set version from which on the axes are an input.
    fn reduce(&mut self, op: &str, since: i64, a: &str, axes: &[usize]) -> String {
        let list: Vec<i64> = axes.iter().map(|d| *d as i64).collect();
        if self.opset >= since {
            let axes = self.int_list(&list);
            self.op(op, &[a, &axes], vec![int("keepdims", 1)])
        } else {
            self.op(op, &[a], vec![ints("axes", &list), int("keepdims", 1)])
        }
    }

    /// `a[.., start..end by step, ..]` on each of `axes`.
    pub fn slice(
        &mut self,
        a: &str,
        axes: &[usize],
        start: &[i64],
        end: &[i64],
        step: &[i64],
    ) -> Result<String> {
        let axes: Vec<i64> = axes.iter().map(|d| *d as i64).collect();
        if self.opset < 10 {
            if step.iter().any(|s| *s != 1) {
                return Err(Error::Unsupported(format!(
                    "{}: the gradient needs strided slices (operator set 10), the model is written in operator set {}; \
                     export it anew",
                    self.model.name(),
                    self.opset
                )));
            }
            return Ok(self.op(
                "Slice",
                &[a],
                vec![ints("axes", &axes), ints("starts", start), ints("ends", end)],
            ));
        }
        let [s, e, x, t] = [start, end, &axes, step].map(|v| self.int_list(v));
        Ok(self.op("Slice", &[a, &s, &e, &x, &t], vec![]))
    }

    /// `a` with `begin[i]` and `end[i]` copies of `value` around axis `i`.
    pub fn pad(&mut self, a: &str, begin: &[usize], end: &[usize], value: f32) -> String {
        if begin.iter().chain(end).all(|n| *n == 0) {
            return a.to_owned();
        }
        let pads: Vec<i64> = begin.iter().chain(end).map(|n| *n as i64).collect();
        if self.opset < 11 {
            return self.op(
                "Pad",
                &[a],
                vec![ints("pads", &pads), float("value", value), string("mode", "constant")],
            );
        }
        let pads = self.int_list(&pads);
        let value = self.scalar(value);
        self.op("Pad", &[a, &pads, &value], vec![string("mode", "constant")])
    }

    /// The arrays side by side along `axis`.
    pub fn concat(&mut self, parts: &[String], axis: usize) -> String {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.op("Concat", &parts, vec![int("axis", axis as i64)])
    }

    /// The matrix product over the last two axes.
    pub fn matmul(&mut self, a: &str, b: &str) -> String {
        self.op("MatMul", &[a, b], vec![])
    }

    /// `a` (whose axes are those of `to`, or 1) repeated to shape `to`.
    pub fn expand(&mut self, a: &str, from: &[usize], to: &[usize]) -> String {
        if from == to {
            return a.to_owned();
        }
        let ones: Vec<usize> = from.iter().zip(to).map(|(f, t)| if f == t { 1 } else { *t }).collect();
        let ones = self.floats(&ones, &vec![1.0; ones.iter().product()]);
        self.mul(a, &ones)
    }

    /// A gradient of shape `from` summed back to the shape `to` that was broadcast to it.
    pub fn unbroadcast(&mut self, g: &str, from: &[usize], to: &[usize]) -> String {
        if from == to {
            return g.to_owned();
        }
        let lead = from.len() - to.len();
        let axes: Vec<usize> =
            (0..from.len()).filter(|i| *i < lead || (to[*i - lead] == 1 && from[*i] != 1)).collect();
        let summed = if axes.is_empty() { g.to_owned() } else { self.sum(g, &axes) };
        if lead == 0 { summed } else { self.reshape(&summed, to) }
    }

    /// `M^T` applied along `axis`: the gradient of `y = M x` along that axis, `M` being `[out, in]` row-major.
    pub fn transposed_map(
        &mut self,
        g: &str,
        shape: &[usize],
        axis: usize,
        m: &[f32],
        inner: usize,
    ) -> String {
        let outer = shape[axis];
        let rank = shape.len();
        if axis + 1 == rank && rank > 1 {
            let m = self.floats(&[outer, inner], m);
            return self.matmul(g, &m);
        }
        let before: usize = shape[..axis].iter().product();
        let after: usize = shape[axis + 1..].iter().product();
        let flat = self.reshape(g, &[before, outer, after]);
        let transposed: Vec<f32> =
            (0..inner).flat_map(|i| (0..outer).map(move |o| m[o * inner + i])).collect();
        let mt = self.floats(&[1, inner, outer], &transposed);
        let product = self.matmul(&mt, &flat);
        let mut back = shape.to_vec();
        back[axis] = inner;
        self.reshape(&product, &back)
    }

    /// The shape of a tensor of the model.
    pub fn shape(&self, tensor: &str) -> Result<&'a [usize]> {
        self.facts
            .shapes
            .get(tensor)
            .map(Vec::as_slice)
            .or_else(|| self.facts.constants.get(tensor).map(|c| c.shape.as_slice()))
            .ok_or_else(|| {
                Error::Unsupported(format!(
                    "{}: the shape of tensor \"{tensor}\" is not known",
                    self.model.name()
                ))
            })
    }

    /// The value of a tensor that does not depend on the images.
    pub fn constant(&self, tensor: &str) -> Option<&'a Constant> {
        self.facts.constants.get(tensor)
    }

    /// The integers of input `i`, `None` where the node leaves it out.
    pub fn input_ints(&self, node: &NodeProto, i: usize) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input_name(i) else { return Ok(None) };
        match self.constant(name).map(|c| &c.values) {
            Some(Values::Int(v)) => Ok(Some(v.clone())),
            Some(Values::Float(_)) | None => {
                Err(self.unsupported(node, &format!("its input \"{name}\" is not constant")))
            }
        }
    }

    /// The floats of input `i`, `None` where the node leaves it out.
    pub fn input_floats(&self, node: &NodeProto, i: usize) -> Result<Option<Vec<f32>>> {
        let Some(name) = node.input_name(i) else { return Ok(None) };
        match self.constant(name) {
            Some(c) => Ok(Some(c.floats())),
            None => Err(self.unsupported(node, &format!("its input \"{name}\" is not constant"))),
        }
    }

    /// The axes of a node: attribute `axes`, or input `i`; `None` where neither is there.
    pub fn axes(&self, node: &NodeProto, i: usize, rank: usize) -> Result<Option<Vec<usize>>> {
        let list = match node.ints("axes") {
            Some(a) => Some(a.to_vec()),
            None => self.input_ints(node, i)?,
        };
        list.map(|l| l.iter().map(|a| self.axis(node, *a, rank)).collect()).transpose()
    }

    /// A possibly negative axis as an index.
    pub fn axis(&self, node: &NodeProto, axis: i64, rank: usize) -> Result<usize> {
        let a = if axis < 0 { axis + rank as i64 } else { axis };
        if (0..rank as i64).contains(&a) {
            Ok(a as usize)
        } else {
            Err(self.unsupported(node, &format!("axis {axis} of an array of rank {rank}")))
        }
    }

    /// An error that names a node.
    pub fn unsupported(&self, node: &NodeProto, why: &str) -> Error {
        Error::Unsupported(format!(
            "{}: no gradient for node \"{}\" ({}): {why}",
            self.model.name(),
            node.label(),
            node.op()
        ))
    }
}

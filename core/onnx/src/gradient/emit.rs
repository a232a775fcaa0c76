//! Writes the nodes of a backward graph.
//!
//! All sizes but the batch are known when the graph is written, so that plain operators with constant arguments do;
//! both backends run those. Operators whose arguments moved between operator-set versions are written in the model's
//! own version.

pub use super::attributes::{float, int, ints, string};
use super::fold::Folds;
use super::size::{Shape, Size, product, show};
use crate::constant::{Constant, Values, float_tensor, int_tensor};
use crate::graph::Model;
use crate::proto::{AttributeProto, NodeProto, TensorProto, attribute_type, data_type};
use shiftlens_api::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Prefix of every tensor that is added to a model.
pub const PREFIX: &str = "shiftlens.backward/";

/// What is known of a model's tensors.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Shapes of all tensors that nodes make, and of the input.
    pub shapes: HashMap<String, Shape>,
    /// Values of tensors that depend neither on the images nor on their number.
    pub constants: HashMap<String, Arc<Constant>>,
    /// Tensors that hold `float32` values.
    pub floats: HashSet<String>,
    /// Tensors that hold integers or booleans.
    pub integers: HashSet<String>,
}

impl Facts {
    /// The same for a fixed batch of `n`. Values that follow the batch stay unknown.
    pub fn at(&self, n: usize) -> Self {
        let settle = |d: &Size| d.at(n).map_or(Size::Unknown, Size::Fixed);
        let shapes = self.shapes.iter().map(|(t, s)| (t.clone(), s.iter().map(settle).collect())).collect();
        Self { shapes, ..self.clone() }
    }
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
    /// Which written convolutions can take a factor.
    pub(super) folds: Folds,
    /// Indices that MaxPool nodes of the model must answer: the node's first output, the name of the second.
    pub indices: Vec<(String, String)>,
    opset: i64,
    count: usize,
}

impl<'a> Emitter<'a> {
    /// Nothing written yet.
    pub fn new(model: &'a Model, facts: &'a Facts) -> Self {
        Self {
            model,
            facts,
            nodes: Vec::new(),
            constants: Vec::new(),
            folds: Folds::default(),
            indices: Vec::new(),
            opset: model.opset(),
            count: 0,
        }
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
    /// 1 where `a = b`, else 0, for floats. Before operator set 11 Equal compares integers only.
    pub fn equal(&mut self, a: &str, b: &str) -> String {
        let same = if self.opset >= 11 {
            self.op("Equal", &[a, b], vec![])
        } else {
            let (more, less) = (self.op("Greater", &[a, b], vec![]), self.op("Less", &[a, b], vec![]));
            let either = self.op("Or", &[&more, &less], vec![]);
            self.op("Not", &[&either], vec![])
        };
        self.to_float(&same)
    }
    /// `a`, and 1 where it is 0: a divisor for what is 0 there itself.
    pub fn not_zero(&mut self, a: &str) -> String {
        let zero = self.scalar(0.0);
        let none = self.equal(a, &zero);
        self.add(a, &none)
    }
    /// Booleans or integers as floats.
    pub fn to_float(&mut self, a: &str) -> String {
        self.op("Cast", &[a], vec![int("to", i64::from(data_type::FLOAT))])
    }

    /// Another shape, the same values. At most one axis may follow the batch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a shape with several axes that are not fixed.
    pub fn reshape(&mut self, a: &str, shape: &[Size]) -> Result<String> {
        if shape.iter().filter(|d| d.fixed().is_none()).count() > 1 {
            return Err(Error::Unsupported(format!(
                "{}: the gradient has to be brought into shape {}, where more than one axis varies",
                self.model.name(),
                show(shape)
            )));
        }
        let s: Vec<i64> = shape.iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
        let s = self.int_list(&s);
        Ok(self.op("Reshape", &[a, &s], vec![]))
    }

    /// The values of `a` in the shape of tensor `like` of the model.
    ///
    /// # Errors
    /// If that shape is not known.
    pub fn reshape_like(&mut self, a: &str, like: &str) -> Result<String> {
        let shape = self.shape(like)?;
        if shape.iter().filter(|d| d.fixed().is_none()).count() > 1 {
            let s = self.op("Shape", &[like], vec![]);
            return Ok(self.op("Reshape", &[a, &s], vec![]));
        }
        self.reshape(a, shape)
    }

    /// The name under which a MaxPool node of the model, which answers no indices yet, will answer them.
    pub fn ask_indices(&mut self, node: &NodeProto) -> String {
        let y = node.output.first().cloned().unwrap_or_default();
        let name = self.fresh("Indices");
        self.indices.push((y, name.clone()));
        name
    }

    /// Zeros in the shape of tensor `like` of the model.
    pub fn zeros_like(&mut self, like: &str) -> String {
        let known: Option<Vec<i64>> =
            self.facts.shapes.get(like).and_then(|s| s.iter().map(|d| d.fixed().map(|n| n as i64)).collect());
        let s = match known {
            Some(sizes) => self.int_list(&sizes),
            None => self.op("Shape", &[like], vec![]),
        };
        // The default is the same zero, but not every runtime knows its type.
        let zero = AttributeProto {
            name: Some("value".into()),
            r#type: Some(attribute_type::TENSOR),
            t: Some(Box::new(float_tensor("zero", &[1], &[0.0]))),
            ..Default::default()
        };
        self.op("ConstantOfShape", &[&s], vec![zero])
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

    /// The product over `axes`, kept with size 1.
    pub fn product(&mut self, a: &str, axes: &[usize]) -> String {
        self.reduce("ReduceProd", 18, a, axes)
    }

    /// `since`: operator-set version from which on the axes are an input.
    fn reduce(&mut self, op: &str, since: i64, a: &str, axes: &[usize]) -> String {
        // Left out, the axes would mean all of them.
        if axes.is_empty() {
            return a.to_owned();
        }
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

    /// `a` (whose axes are those of tensor `like` of the model, or 1) repeated to the shape of `like`.
    ///
    /// # Errors
    /// If that shape is not known.
    pub fn expand_like(&mut self, a: &str, from: &[Size], like: &str) -> Result<String> {
        let to = self.shape(like)?;
        if from == to {
            return Ok(a.to_owned());
        }
        // Expand repeats in both directions: an axis that needs nothing can be asked for as 1.
        let needed: Vec<Size> =
            from.iter().zip(to).map(|(f, t)| if f == t { Size::Fixed(1) } else { *t }).collect();
        let sizes: Option<Vec<i64>> = needed.iter().map(|d| d.fixed().map(|n| n as i64)).collect();
        let sizes = match sizes {
            Some(s) => self.int_list(&s),
            None => self.op("Shape", &[like], vec![]),
        };
        Ok(self.op("Expand", &[a, &sizes], vec![]))
    }

    /// A gradient of shape `from` summed back to the shape `to` that was broadcast to it.
    ///
    /// # Errors
    /// As [`Self::reshape`].
    pub fn unbroadcast(&mut self, g: &str, from: &[Size], to: &[Size]) -> Result<String> {
        if from == to {
            return Ok(g.to_owned());
        }
        let one = Size::Fixed(1);
        let lead = from.len() - to.len();
        if from[lead..].iter().zip(to).any(|(f, t)| f != t && *t != one) {
            return Err(Error::Unsupported(format!(
                "{}: a gradient of shape {} has to be summed to shape {}, whose sizes are not known well enough",
                self.model.name(),
                show(from),
                show(to)
            )));
        }
        let axes: Vec<usize> =
            (0..from.len()).filter(|i| *i < lead || (to[*i - lead] == one && from[*i] != one)).collect();
        let summed = if axes.is_empty() { g.to_owned() } else { self.sum(g, &axes) };
        if lead == 0 { Ok(summed) } else { self.reshape(&summed, to) }
    }

    /// `M^T` applied along `axis`: the gradient of `y = M x` along that axis, `M` being `[out, in]` row-major, `out`
    /// the size of `axis` in `shape`.
    ///
    /// # Errors
    /// As [`Self::reshape`].
    pub fn transposed_map(
        &mut self,
        g: &str,
        shape: &[Size],
        axis: usize,
        m: &[f32],
        inner: usize,
    ) -> Result<String> {
        let outer = m.len() / inner.max(1);
        if axis + 1 == shape.len() && shape.len() > 1 {
            let m = self.floats(&[outer, inner], m);
            return Ok(self.matmul(g, &m));
        }
        let transposed: Vec<f32> =
            (0..inner).flat_map(|i| (0..outer).map(move |o| m[o * inner + i])).collect();
        let mt = self.floats(&[1, inner, outer], &transposed);
        self.map_along(g, shape, axis, &mt, inner)
    }

    /// The matrix `mt`, `[1, inner, outer]`, applied along `axis` of `g`.
    ///
    /// # Errors
    /// As [`Self::reshape`].
    pub fn map_along(
        &mut self,
        g: &str,
        shape: &[Size],
        axis: usize,
        mt: &str,
        inner: usize,
    ) -> Result<String> {
        let flat = [product(&shape[..axis]), shape[axis], product(&shape[axis + 1..])];
        let flat = self.reshape(g, &flat)?;
        let mapped = self.matmul(mt, &flat);
        let mut back = shape.to_vec();
        back[axis] = Size::Fixed(inner);
        self.reshape(&mapped, &back)
    }

    /// The shape of a tensor of the model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is not known.
    pub fn shape(&self, tensor: &str) -> Result<&'a [Size]> {
        self.facts.shapes.get(tensor).map(Vec::as_slice).ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: the shape of tensor \"{tensor}\" is not known",
                self.model.name()
            ))
        })
    }

    /// Sizes that must not follow the batch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names the node.
    pub fn sizes(&self, node: &NodeProto, shape: &[Size]) -> Result<Vec<usize>> {
        shape.iter().map(|d| d.fixed()).collect::<Option<_>>().ok_or_else(|| {
            self.unsupported(node, &format!("sizes {} vary with the number of images", show(shape)))
        })
    }

    /// The value of a tensor that depends neither on the images nor on their number.
    pub fn constant(&self, tensor: &str) -> Option<&'a Constant> {
        self.facts.constants.get(tensor).map(|c| &**c)
    }

    /// The ONNX data type of a stored constant, 0 for anything else.
    pub fn element_type(&self, tensor: &str) -> i32 {
        let graph = self.model.graph();
        let named = |t: &&TensorProto| t.name.as_deref() == Some(tensor);
        let stored = graph.initializer.iter().find(named);
        let made = || {
            let (_, node) = self.model.producer(tensor)?;
            (node.op() == "Constant").then(|| node.attr("value")?.t.as_deref())?
        };
        stored.or_else(made).and_then(|t| t.data_type).unwrap_or(0)
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

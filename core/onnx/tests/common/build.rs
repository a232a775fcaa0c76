//! Small models made in memory, and a folder to put them in.

use shiftlens_onnx::constant::{float_tensor, int_tensor};
use shiftlens_onnx::gradient::emit::{float, int, ints, string};
use shiftlens_onnx::graph::value_info;
use shiftlens_onnx::proto::{self, AttributeProto, ModelProto, NodeProto, ValueInfoProto, data_type};
use std::path::PathBuf;

/// A value of an attribute.
pub enum A {
    I(i64),
    Is(Vec<i64>),
    F(f32),
    S(&'static str),
}

fn attribute(name: &str, value: &A) -> AttributeProto {
    match value {
        A::I(v) => int(name, *v),
        A::Is(v) => ints(name, v),
        A::F(v) => float(name, *v),
        A::S(v) => string(name, v),
    }
}

/// A model under construction; its image input is `x`.
pub struct Build {
    pub proto: ModelProto,
    seed: u64,
}

impl Build {
    /// `shape`: of the input `x`; 0 stands for a free axis.
    pub fn new(opset: i64, shape: &[usize]) -> Self {
        let mut input = value_info("x", data_type::FLOAT, Some(shape));
        free_axes(&mut input);
        let graph = proto::GraphProto { name: Some("g".into()), input: vec![input], ..Default::default() };
        let proto = ModelProto {
            ir_version: Some(8),
            opset_import: vec![proto::OperatorSetIdProto { domain: None, version: Some(opset) }],
            graph: Some(graph),
            ..Default::default()
        };
        Self { proto, seed: 1 }
    }

    fn graph(&mut self) -> &mut proto::GraphProto {
        self.proto.graph.as_mut().unwrap()
    }

    /// Adds a node `op(inputs) -> outputs`, names separated by blanks (`_` is an input left out).
    pub fn node(&mut self, op: &str, inputs: &str, outputs: &str, attributes: &[(&str, A)]) -> &mut Self {
        let split = |s: &str| {
            s.split_whitespace().map(|n| if n == "_" { String::new() } else { n.to_owned() }).collect()
        };
        let node = NodeProto {
            op_type: Some(op.into()),
            input: split(inputs),
            output: split(outputs),
            attribute: attributes.iter().map(|(n, v)| attribute(n, v)).collect(),
            ..Default::default()
        };
        self.graph().node.push(node);
        self
    }

    /// A constant.
    pub fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) -> &mut Self {
        self.graph().initializer.push(float_tensor(name, shape, data));
        self
    }

    /// A constant of pseudo-random numbers in [-1, 1].
    pub fn random(&mut self, name: &str, shape: &[usize]) -> &mut Self {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.next()).collect();
        self.floats(name, shape, &data)
    }

    fn next(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    /// A constant list of integers.
    pub fn ints(&mut self, name: &str, data: &[i64]) -> &mut Self {
        self.graph().initializer.push(int_tensor(name, &[data.len()], data));
        self
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str, shape: Option<&[usize]>) -> &mut Self {
        let mut v = value_info(name, data_type::FLOAT, shape);
        free_axes(&mut v);
        self.graph().output.push(v);
        self
    }

    /// The file's content.
    pub fn bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.proto)
    }
}

fn free_axes(v: &mut ValueInfoProto) {
    let Some(proto::TypeValue::TensorType(t)) = v.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        return;
    };
    for d in t.shape.iter_mut().flat_map(|s| &mut s.dim) {
        if d.value == Some(proto::DimensionValue::DimValue(0)) {
            d.value = Some(proto::DimensionValue::DimParam("batch".into()));
        }
    }
}

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shiftlens-onnx-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    /// Writes a file and answers its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A random network around one operator, under construction.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use shiftlens_onnx::proto::{
    self, AttributeProto, DimensionProto, DimensionValue, ModelProto, NodeProto, TensorProto, TypeValue,
    ValueInfoProto, attribute_type, data_type,
};

/// Images of a case; the gradient model must take any number of them.
pub const SAMPLES: usize = 3;

/// The model so far, the images, and the source of all random choices.
pub struct Net {
    pub opset: i64,
    /// Shape of one image, and [`SAMPLES`] of them.
    pub shape: Vec<usize>,
    pub x: Vec<f32>,
    /// What was chosen, for messages.
    pub notes: Vec<String>,
    graph: proto::GraphProto,
    random: ChaCha8Rng,
    names: usize,
}

impl Net {
    pub fn new(opset: i64, seed: u64) -> Self {
        Self {
            opset,
            shape: Vec::new(),
            x: Vec::new(),
            notes: Vec::new(),
            graph: proto::GraphProto { name: Some("case".into()), ..Default::default() },
            random: ChaCha8Rng::seed_from_u64(seed),
            names: 0,
        }
    }

    /// A number in [low, high).
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.random.next_u32() >> 8) as f32 / (1u32 << 24) as f32)
    }

    /// A whole number from `low` to `high`, both included.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.random.next_u32() as i64) % (high - low + 1)
    }

    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.int(low as i64, high as i64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.random.next_u32() & 1 == 1
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.size(0, from.len() - 1)].clone()
    }

    /// A random order of `0..n`.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.size(0, i);
            all.swap(i, j);
        }
        all
    }

    /// Sizes of an image's `rank` axes, small enough for differences along every coordinate.
    pub fn dims(&mut self, rank: usize) -> Vec<usize> {
        loop {
            let dims: Vec<usize> = (0..rank).map(|_| self.size(1, 5)).collect();
            if (4..=30).contains(&dims.iter().product::<usize>()) {
                return dims;
            }
        }
    }

    /// The images: uniform values, no two of them close to each other. Answers the tensor `a`, which is they or a
    /// multiple of them, such that `a` lies in [low, high); the rest of the network must depend on `a` alone.
    pub fn input(&mut self, shape: &[usize], low: f32, high: f32) -> &'static str {
        let n = SAMPLES * shape.iter().product::<usize>();
        let gap = 0.2 * (high - low) / n as f32;
        let mut values: Vec<f32> = Vec::new();
        while values.len() < n {
            let v = self.uniform(low, high);
            if values.iter().all(|w| (v - w).abs() > gap) {
                values.push(v);
            }
        }
        let factor = self.pick(&[1.0, 0.5, 2.0]);
        self.x = values.iter().map(|v| v / factor).collect();
        self.shape = shape.to_vec();
        let dims = std::iter::once(DimensionValue::DimParam("N".into()))
            .chain(shape.iter().map(|d| DimensionValue::DimValue(*d as i64)));
        self.graph.input.push(tensor_of("x", dims.collect()));
        if factor == 1.0 {
            self.node("Identity", "x", "a", vec![])
        } else {
            let c = self.floats("factor", &[], &[factor]);
            self.node("Mul", &format!("x {c}"), "a", vec![])
        };
        "a"
    }

    /// A name that is not used yet.
    pub fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}_{}", self.names)
    }

    /// Adds `op(inputs) -> outputs`, names separated by blanks (`_` is an input left out); answers the first output.
    pub fn node(&mut self, op: &str, inputs: &str, outputs: &str, attributes: Vec<AttributeProto>) -> String {
        let split = |s: &str| -> Vec<String> {
            s.split_whitespace().map(|n| if n == "_" { String::new() } else { n.to_owned() }).collect()
        };
        let outputs = split(outputs);
        self.graph.node.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(format!("node {}", self.graph.node.len())),
            input: split(inputs),
            output: outputs.clone(),
            attribute: attributes,
            ..Default::default()
        });
        outputs[0].clone()
    }

    /// As [`Net::node`], with a new name for its only output.
    pub fn op(&mut self, op: &str, inputs: &str, attributes: Vec<AttributeProto>) -> String {
        let name = self.name(&op.to_lowercase());
        self.node(op, inputs, &name, attributes)
    }

    pub fn tensor(&mut self, name: &str, kind: i32, shape: &[usize], raw: Vec<u8>) -> String {
        let name = self.name(name);
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: shape.iter().map(|d| *d as i64).collect(),
            data_type: Some(kind),
            raw_data: Some(raw),
            ..Default::default()
        });
        name
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) -> String {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        self.tensor(name, data_type::FLOAT, shape, data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn scalar(&mut self, v: f32) -> String {
        self.floats("c", &[], &[v])
    }

    pub fn ints(&mut self, name: &str, shape: &[usize], data: &[i64]) -> String {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        self.tensor(name, data_type::INT64, shape, data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn list(&mut self, data: &[i64]) -> String {
        self.ints("list", &[data.len()], data)
    }

    /// A constant of random numbers in [low, high).
    pub fn random(&mut self, shape: &[usize], low: f32, high: f32) -> String {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| self.uniform(low, high)).collect();
        self.floats("w", shape, &data)
    }

    /// A constant in [-1, 1).
    pub fn weights(&mut self, shape: &[usize]) -> String {
        self.random(shape, -1.0, 1.0)
    }

    pub fn note(&mut self, text: impl std::fmt::Display) {
        self.notes.push(text.to_string());
    }

    /// The mean over axes, in the operator set's form; `keepdims` is 1.
    pub fn mean(&mut self, of: &str, axes: &[i64]) -> String {
        if self.opset < 18 {
            self.op("ReduceMean", of, vec![attr_ints("axes", axes)])
        } else {
            let axes = self.list(axes);
            self.op("ReduceMean", &format!("{of} {axes}"), vec![])
        }
    }

    /// A smooth function of `of`, value by value, in (-1, 1).
    pub fn smooth(&mut self, of: &str) -> String {
        let op = self.pick(&["Sin", "Tanh"]);
        self.op(op, of, vec![])
    }

    /// A smooth positive function of `of`, value by value, in (0.5, 1.5).
    pub fn positive(&mut self, of: &str) -> String {
        let half = self.scalar(0.5);
        let s = self.op("Sigmoid", of, vec![]);
        self.op("Add", &format!("{s} {half}"), vec![])
    }

    /// Ends the network: `y`, `[N, ...]`, becomes `logits` `[N, K]`.
    pub fn finish(mut self) -> (ModelProto, Vec<usize>, Vec<f32>, Vec<String>) {
        self.node("Flatten", "y", "logits", vec![attr_int("axis", 1)]);
        let open = ["N", "K"].map(|n| DimensionValue::DimParam(n.into()));
        self.graph.output.push(tensor_of("logits", open.to_vec()));
        let model = ModelProto {
            // The IR version that came with the operator set.
            ir_version: Some(match self.opset {
                ..=19 => 8,
                20 => 9,
                21..=22 => 10,
                23 => 11,
                _ => 12,
            }),
            opset_import: vec![proto::OperatorSetIdProto { domain: None, version: Some(self.opset) }],
            graph: Some(self.graph),
            ..Default::default()
        };
        (model, self.shape, self.x, self.notes)
    }
}

fn tensor_of(name: &str, dims: Vec<DimensionValue>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|d| DimensionProto { value: Some(d), denotation: None }).collect();
    let tensor = proto::TensorTypeProto {
        elem_type: Some(data_type::FLOAT),
        shape: Some(proto::TensorShapeProto { dim }),
    };
    let value = Some(TypeValue::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(proto::TypeProto { value, denotation: None }),
        ..Default::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind), ..Default::default() }
}

pub fn attr_int(name: &str, v: i64) -> AttributeProto {
    AttributeProto { i: Some(v), ..attribute(name, attribute_type::INT) }
}

pub fn attr_ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), ..attribute(name, attribute_type::INTS) }
}

pub fn attr_float(name: &str, v: f32) -> AttributeProto {
    AttributeProto { f: Some(v), ..attribute(name, attribute_type::FLOAT) }
}

pub fn attr_floats(name: &str, v: &[f32]) -> AttributeProto {
    AttributeProto { floats: v.to_vec(), ..attribute(name, attribute_type::FLOATS) }
}

pub fn attr_word(name: &str, v: &str) -> AttributeProto {
    AttributeProto { s: Some(v.as_bytes().to_vec()), ..attribute(name, attribute_type::STRING) }
}

pub fn attr_tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(Box::new(t)), ..attribute(name, attribute_type::TENSOR) }
}

//! ONNX graphs in a few lines.

use prost::Message;
use shiftlens_onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute_type,
    data_type,
};
use std::path::Path;

/// A graph in the making: one `float32` input, one `float32` output, batch axis dynamic.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Graph {
    /// Adds a node with one output.
    #[must_use]
    pub fn node(self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(operator, inputs, output, &[])
    }

    /// Adds a node with one output and attributes that are lists of integers.
    #[must_use]
    pub fn node_with(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        lists: &[(&str, &[i64])],
    ) -> Self {
        let attribute = lists.iter().map(|(name, ints)| AttributeProto {
            name: Some((*name).into()),
            ints: ints.to_vec(),
            r#type: Some(attribute_type::INTS),
            ..Default::default()
        });
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: vec![output.into()],
            name: Some(format!("make_{output}")),
            op_type: Some(operator.into()),
            attribute: attribute.collect(),
            ..Default::default()
        });
        self
    }

    /// Adds a constant array of `float32`.
    #[must_use]
    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<i64>(), values.len() as i64, "{name}");
        self.constants.push(TensorProto {
            dims: dims.to_vec(),
            data_type: Some(data_type::FLOAT),
            float_data: values.to_vec(),
            name: Some(name.into()),
            ..Default::default()
        });
        self
    }

    /// Adds a constant list of `int64`.
    #[must_use]
    pub fn ints(mut self, name: &str, values: &[i64]) -> Self {
        self.constants.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: Some(data_type::INT64),
            int64_data: values.to_vec(),
            name: Some(name.into()),
            ..Default::default()
        });
        self
    }

    /// Writes the model; `input` and `output` are names with the shape after the batch, in which -1 is left open.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write(self, path: &Path, input: (&str, &[i64]), output: (&str, &[i64])) {
        let graph = GraphProto {
            node: self.nodes,
            name: Some("toy".into()),
            initializer: self.constants,
            input: vec![port(input)],
            output: vec![port(output)],
            ..Default::default()
        };
        let model = ModelProto {
            ir_version: Some(8),
            producer_name: Some("shiftlens-tests".into()),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }],
            ..Default::default()
        };
        std::fs::write(path, model.encode_to_vec()).expect("the model can be written");
    }
}

fn port((name, tail): (&str, &[i64])) -> ValueInfoProto {
    let batch = DimensionValue::DimParam("batch".into());
    let dims = std::iter::once(batch).chain(tail.iter().enumerate().map(|(i, d)| match d {
        -1 => DimensionValue::DimParam(format!("axis{i}")),
        d => DimensionValue::DimValue(*d),
    }));
    let shape = TensorShapeProto {
        dim: dims.map(|value| DimensionProto { value: Some(value), ..Default::default() }).collect(),
    };
    let tensor = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

//! Models with random weights, for sanity checks of explanations (Adebayo et al. 2018, section 3).
//!
//! A layer is a node that multiplies by constant weights of two or more axes ([`OPERATORS`]), stored as an initialiser or by
//! a Constant node. Its weights are drawn anew from a normal distribution of mean 0 with their own root mean square, so
//! that activations keep their scale; biases and normalisations stay. Weights that several layers share change for all of
//! them.

use crate::constant::{Constant, float_tensor};
use crate::generator::standard_normal;
use crate::graph::Model;
use crate::proto::{NodeProto, data_type};
use shiftlens_api::{Error, Result};

/// Operators whose weights are drawn anew.
pub const OPERATORS: [&str; 5] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"];

/// A layer of a model, and its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedLayer {
    /// The node's name, or that of its output.
    pub name: String,
    /// Names of the constants that hold its weights.
    pub weights: Vec<String>,
}

/// The layers of a model whose weights can be drawn anew, from the input to the output.
pub fn weighted_layers(model: &Model) -> Vec<WeightedLayer> {
    let weights = |n: &NodeProto| {
        let constants = n.input.iter().filter(|i| is_weight(model, i)).cloned();
        constants.collect::<Vec<String>>()
    };
    let layers = model.graph().node.iter().filter(|n| n.is_standard() && OPERATORS.contains(&n.op()));
    layers
        .map(|n| WeightedLayer { name: n.label().to_owned(), weights: weights(n) })
        .filter(|l| !l.weights.is_empty())
        .collect()
}

/// A constant of floating-point numbers with at least two axes.
fn is_weight(model: &Model, name: &str) -> bool {
    stored(model, name).is_some_and(|t| {
        let float = [data_type::FLOAT, data_type::DOUBLE, data_type::FLOAT16, data_type::BFLOAT16];
        t.dims.len() >= 2 && t.data_type.is_some_and(|d| float.contains(&d))
    })
}

/// The array of an initialiser, or of a Constant node.
fn stored<'a>(model: &'a Model, name: &str) -> Option<&'a crate::proto::TensorProto> {
    let graph = model.graph();
    let initialiser = graph.initializer.iter().find(|t| t.name.as_deref() == Some(name));
    initialiser.or_else(|| match model.producer(name) {
        Some((_, node)) if node.op() == "Constant" => node.attr("value").and_then(|a| a.t.as_deref()),
        _ => None,
    })
}

/// Draws the weights of `layers` anew. What a constant becomes depends on its name and the seed, not on which others change.
///
/// # Errors
/// [`Error::Unsupported`] for weights that are not stored as `float32`; [`Error::Invalid`] for a constant that the model does
/// not have.
pub fn randomise(model: &mut Model, layers: &[WeightedLayer], seed: u64) -> Result<()> {
    for name in layers.iter().flat_map(|l| &l.weights) {
        let tensor = stored(model, name).ok_or_else(|| {
            Error::Invalid(format!("{}: no constant \"{name}\" to draw anew", model.name()))
        })?;
        if tensor.data_type != Some(data_type::FLOAT) {
            return Err(Error::Unsupported(format!(
                "{}: weights \"{name}\" are not float32, and random ones are written in no other type",
                model.name()
            )));
        }
        let constant = Constant::decode(tensor)?;
        let (shape, old) = (&constant.shape, constant.floats());
        let squares: f64 = old.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = (squares / old.len().max(1) as f64).sqrt();
        let normal = standard_normal(old.len(), seed ^ hash(name));
        let drawn: Vec<f32> = normal.into_iter().map(|v| (scale * f64::from(v)) as f32).collect();
        replace(model, name, float_tensor(name, shape, &drawn));
    }
    Ok(())
}

/// FNV-1a of a name (Fowler, Noll and Vo): other numbers for each.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn replace(model: &mut Model, name: &str, tensor: crate::proto::TensorProto) {
    let graph = model.graph_mut();
    if let Some(old) = graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(name)) {
        *old = tensor;
        return;
    }
    let node = graph.node.iter_mut().find(|n| n.output.iter().any(|o| o == name));
    for a in node.into_iter().flat_map(|n| &mut n.attribute) {
        if a.name.as_deref() == Some("value") {
            a.t = Some(Box::new(tensor.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::value_info;
    use crate::proto::{self, AttributeProto, GraphProto, ModelProto, attribute_type};
    use prost::Message;

    fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: inputs.iter().map(|i| (*i).into()).collect(),
            output: vec![output.into()],
            name: Some(format!("/{op}")),
            ..Default::default()
        }
    }

    /// Conv with an initialiser, a bias and a shape; MatMul with a Constant node; a product of two activations.
    fn model() -> Model {
        let kernel: Vec<f32> = (0..200).map(|i| (i % 7) as f32 - 3.0).collect();
        let head: Vec<f32> = (0..400).map(|i| 0.01 * (i % 5) as f32).collect();
        let mut constant = node("Constant", &[], "head");
        constant.attribute.push(AttributeProto {
            name: Some("value".into()),
            r#type: Some(attribute_type::TENSOR),
            t: Some(Box::new(float_tensor("", &[100, 4], &head))),
            ..Default::default()
        });
        let graph = GraphProto {
            node: vec![
                constant,
                node("Conv", &["x", "kernel", "bias"], "map"),
                node("Flatten", &["map"], "flat"),
                node("MatMul", &["flat", "head"], "scores"),
                node("Gemm", &["scores", "scores"], "gram"),
            ],
            initializer: vec![
                float_tensor("kernel", &[8, 1, 5, 5], &kernel),
                float_tensor("bias", &[8], &[0.5; 8]),
            ],
            input: vec![value_info("x", data_type::FLOAT, Some(&[1, 1, 9, 9]))],
            output: vec![value_info("gram", data_type::FLOAT, Some(&[1, 4]))],
            ..Default::default()
        };
        let opset = proto::OperatorSetIdProto { domain: None, version: Some(17) };
        let proto = ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset],
            graph: Some(graph),
            ..Default::default()
        };
        Model::from_bytes(&proto.encode_to_vec(), "m.onnx", None).unwrap()
    }

    fn floats(model: &Model, name: &str) -> Vec<f32> {
        Constant::decode(stored(model, name).unwrap()).unwrap().floats()
    }

    #[test]
    fn weights_are_found_and_nothing_else() {
        let layers = weighted_layers(&model());
        let found: Vec<(&str, &[String])> =
            layers.iter().map(|l| (l.name.as_str(), l.weights.as_slice())).collect();
        assert_eq!(found, [("/Conv", &["kernel".to_owned()][..]), ("/MatMul", &["head".to_owned()][..])]);
    }

    #[test]
    fn weights_are_drawn_anew_at_their_scale() {
        let (old, layers) = (model(), weighted_layers(&model()));
        let drawn = |layers: &[WeightedLayer], seed| {
            let mut m = model();
            randomise(&mut m, layers, seed).unwrap();
            m
        };
        let all = drawn(&layers, 3);
        let last = drawn(&layers[1..], 3);
        assert_eq!((floats(&last, "kernel"), floats(&last, "bias")), (floats(&old, "kernel"), vec![0.5; 8]));
        assert_eq!(floats(&last, "head"), floats(&all, "head"), "whatever else changes");
        assert_ne!(floats(&drawn(&layers, 4), "head"), floats(&all, "head"));
        let rms = |v: &[f32]| (v.iter().map(|v| v * v).sum::<f32>() / v.len() as f32).sqrt();
        for name in ["kernel", "head"] {
            let (was, is) = (floats(&old, name), floats(&all, name));
            // The deviation of a root mean square of n values is 1 / sqrt(2 n) of it: 5 % of 200.
            assert!((rms(&is) / rms(&was) - 1.0).abs() < 0.15, "{name}");
            let dot: f32 = was.iter().zip(&is).map(|(a, b)| a * b).sum();
            let cosine = dot / (rms(&was) * rms(&is) * was.len() as f32);
            assert!(cosine.abs() < 0.25, "{name}: {cosine}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let nothing = [WeightedLayer { name: "/Conv".into(), weights: vec!["kernle".into()] }];
        let e = randomise(&mut model(), &nothing, 0).unwrap_err().to_string();
        assert!(e.contains("m.onnx: no constant \"kernle\""), "{e}");
        let mut half = model();
        let kernel = half.graph_mut().initializer.iter_mut().find(|t| t.name.as_deref() == Some("kernel"));
        kernel.unwrap().data_type = Some(data_type::FLOAT16);
        let layers = weighted_layers(&half);
        let e = randomise(&mut half, &layers, 0).unwrap_err().to_string();
        assert!(e.contains("\"kernel\" are not float32"), "{e}");
    }
}

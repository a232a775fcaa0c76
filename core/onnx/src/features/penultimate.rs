//! The layer before the scores.

use crate::gradient::probe::dependent;
use crate::gradient::prune::inputs;
use crate::graph::Model;
use crate::image_input::choose_port;
use crate::proto::NodeProto;
use crate::scores::find_ending;
use shiftlens_api::{Error, Result};

/// What may stand between the last linear layer and the scores: moves of values, a choice of some of them, a bias or a factor,
/// and the mean over the places of a network that classifies each of them.
const BETWEEN: &[&str] = &[
    "Add",
    "AveragePool",
    "Cast",
    "Div",
    "Dropout",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "Identity",
    "Mul",
    "ReduceMean",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
];

/// The tensor that the last linear layer (Gemm, MatMul or a convolution) before the scores of a classifier takes.
///
/// # Errors
/// [`Error::Invalid`] for a model with several outputs of which none, or one that does not exist, is named;
/// [`Error::Unsupported`] where the scores come from something else than one linear layer, or that layer takes the image
/// itself.
pub fn penultimate(model: &Model, input: &str, output: Option<&str>) -> Result<String> {
    let file = model.name();
    let outputs = model.outputs();
    if output.is_none() && outputs.len() > 1 {
        let names: Vec<String> = outputs.iter().map(|o| format!("\"{}\"", o.name)).collect();
        return Err(Error::Invalid(format!(
            "{file}: the model has {} outputs ({}): name that of the scores in output, or the wanted tensors in layers",
            outputs.len(),
            names.join(", ")
        )));
    }
    let output = choose_port(&outputs, output, file, "output")?.name;
    let dependent = dependent(model, input);
    let mut tensor = find_ending(model, &output).map_or(output.clone(), |e| e.logits);
    loop {
        let Some((_, node)) = model.producer(&tensor) else {
            return Err(Error::Unsupported(format!(
                "{file}: no linear layer lies between the image and output \"{output}\"; name the wanted tensors in layers"
            )));
        };
        let mut from = inputs(node).filter(|i| dependent.contains(i));
        let (Some(source), None) = (from.next(), from.next()) else {
            return Err(not_linear(file, node, "takes several tensors that depend on the image"));
        };
        match node.op() {
            "Gemm" | "MatMul" | "Conv" if node.is_standard() => {
                return if source == input {
                    Err(not_linear(file, node, "takes the image itself"))
                } else {
                    Ok(source)
                };
            }
            op if node.is_standard() && BETWEEN.contains(&op) => tensor = source,
            _ => return Err(not_linear(file, node, "is no linear layer")),
        }
    }
}

fn not_linear(file: &str, node: &NodeProto, why: &str) -> Error {
    Error::Unsupported(format!(
        "{file}: cannot tell the penultimate layer: node \"{}\" ({}), on the way from the scores back to the last linear \
         layer, {why}; name the wanted tensors in layers",
        node.label(),
        node.op()
    ))
}

//! The graph up to the asked layers, and the graph that pulls cotangents back.

use super::penultimate::penultimate;
use crate::backend::Session;
use crate::gradient::build::{self, GRADIENT_PREFIX};
use crate::gradient::emit::{Facts, int};
use crate::gradient::prune::prune;
use crate::gradient::size::{Size, show};
use crate::gradient::{GradientGraph, Request, Scalar, Seed};
use crate::graph::{Model, value_info};
use crate::image_input::ImageInput;
use crate::proto::{AttributeProto, NodeProto, data_type};
use shiftlens_api::{Error, FeatureLayer, Result};

/// Before the names of tensors that are added.
const PREFIX: &str = "shiftlens.features/";

/// One asked layer.
pub struct Layer {
    /// The tensor that is answered; another than the layer's own where a map is averaged.
    tensor: String,
    /// What the caller sees.
    pub info: FeatureLayer,
}

/// A model without what lies behind the asked layers.
pub struct Cut {
    model: Model,
    facts: Facts,
    pub layers: Vec<Layer>,
}

impl Cut {
    /// Cuts behind `layers`; none of them stands for the penultimate layer as a vector.
    pub fn new(
        mut model: Model,
        layers: &[String],
        input: &ImageInput,
        threads: Option<usize>,
        inferred: &mut Vec<String>,
    ) -> Result<Self> {
        let file = model.name().to_owned();
        let pooled = layers.is_empty();
        let names = if pooled { vec![penultimate(&model, &input.name)?] } else { layers.to_vec() };
        check_names(&model, &names)?;
        let graph = model.graph_mut();
        graph.output = names.iter().map(|n| value_info(n, data_type::FLOAT, None)).collect();
        graph.value_info.clear();
        prune(&mut model);
        let mut facts = build::facts(&model, Some(&input.shape(1)[1..]), threads)?;
        let mut cut = Vec::new();
        for name in names {
            let mut layer = layer(&file, &facts, &input.name, name)?;
            if pooled {
                let name = &layer.info.name;
                inferred.push(if layer.info.shape.len() == 1 {
                    format!("layers: the penultimate layer, \"{name}\"")
                } else {
                    format!(
                        "layers: the penultimate layer, \"{name}\", the mean over the places of each channel"
                    )
                });
                if layer.info.shape.len() == 3 {
                    layer = average(&mut model, &mut facts, layer);
                }
            }
            cut.push(layer);
        }
        model.graph_mut().output =
            cut.iter().map(|l| value_info(&l.tensor, data_type::FLOAT, None)).collect();
        Ok(Self { model, facts, layers: cut })
    }

    /// What messages call the model.
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// Values per image, all layers together.
    pub fn columns(&self) -> usize {
        self.layers.iter().map(|l| l.info.shape.iter().product::<usize>()).sum()
    }

    /// Answers the layers, for this batch or for any.
    pub fn forward(
        &self,
        input: &ImageInput,
        batch: Option<usize>,
        threads: Option<usize>,
    ) -> Result<Session> {
        let outputs: Vec<String> = self.layers.iter().map(|l| l.tensor.clone()).collect();
        let bytes = match batch {
            Some(n) => {
                let mut model = self.model.clone();
                model.fix_input(&input.name, &input.shape(n));
                model.to_bytes()?
            }
            None => self.model.to_bytes()?,
        };
        Session::new(&bytes, &outputs, threads, self.name())
    }

    /// Answers the gradient of the layers' sum, weighted by the second input, with respect to the image.
    pub fn backward(
        &self,
        input: &ImageInput,
        batch: Option<usize>,
        threads: Option<usize>,
    ) -> Result<Session> {
        let (mut model, mut facts) = (self.model.clone(), self.facts.clone());
        let joined = self.join(&mut model, &mut facts, input);
        if let Some(n) = batch {
            model.fix_input(&input.name, &input.shape(n));
            facts = facts.at(n);
        }
        let request = Request {
            wrt: vec![input.name.clone()],
            scalar: Scalar::Tensor(joined),
            seed: Seed::Weights,
            ..Request::default()
        };
        let mut graph = GradientGraph::from_facts(model, &facts, &request)?.model;
        let gradient = format!("{GRADIENT_PREFIX}{}", input.name);
        graph.graph_mut().output.retain(|o| o.name() == gradient);
        prune(&mut graph);
        Session::new(&graph.to_bytes()?, &[gradient], threads, self.name())
    }

    /// Adds the nodes that make one tensor `[N, K]` of all layers and makes it the only output.
    fn join(&self, model: &mut Model, facts: &mut Facts, input: &ImageInput) -> String {
        let batch = facts.shapes[&input.name][0];
        let mut flat = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            if layer.info.shape.len() == 1 {
                flat.push(layer.tensor.clone());
                continue;
            }
            let name = format!("{PREFIX}flat_{i}");
            let columns = layer.info.shape.iter().product();
            add(
                model,
                facts,
                "Flatten",
                &[&layer.tensor],
                &name,
                vec![int("axis", 1)],
                &[batch, Size::Fixed(columns)],
            );
            flat.push(name);
        }
        let joined = if let [only] = &flat[..] {
            only.clone()
        } else {
            let name = format!("{PREFIX}joined");
            let parts: Vec<&str> = flat.iter().map(String::as_str).collect();
            add(
                model,
                facts,
                "Concat",
                &parts,
                &name,
                vec![int("axis", 1)],
                &[batch, Size::Fixed(self.columns())],
            );
            name
        };
        model.graph_mut().output = vec![value_info(&joined, data_type::FLOAT, None)];
        joined
    }
}

/// Refuses names that the model does not compute, and a name that is given twice.
fn check_names(model: &Model, names: &[String]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(Error::Invalid(format!("{}: layer \"{name}\" is asked for twice", model.name())));
        }
        if model.producer(name).is_none() {
            let outputs = model.outputs().into_iter().map(|o| o.name);
            let last = model.graph().node.iter().rev().filter_map(|n| n.output.first().cloned());
            let mut some: Vec<String> = Vec::new();
            for n in outputs.chain(last).map(|n| format!("\"{n}\"")) {
                if some.len() < 6 && !some.contains(&n) {
                    some.push(n);
                }
            }
            return Err(Error::Invalid(format!(
                "{}: no tensor \"{name}\" in the network; its outputs and last tensors are {}",
                model.name(),
                some.join(", ")
            )));
        }
    }
    Ok(())
}

/// A layer's shape, which must be a map or a vector for each image.
fn layer(file: &str, facts: &Facts, input: &str, name: String) -> Result<Layer> {
    let shape = facts.shapes.get(&name).cloned().unwrap_or_default();
    let batch = facts.shapes.get(input).and_then(|s| s.first());
    let sizes: Option<Vec<usize>> = shape.get(1..).unwrap_or(&[]).iter().map(|s| s.fixed()).collect();
    let per_image =
        shape.first() == batch && !facts.constants.contains_key(&name) && facts.floats.contains(&name);
    match sizes.filter(|s| per_image && matches!(s.len(), 1 | 3) && !s.contains(&0)) {
        Some(shape) => Ok(Layer { tensor: name.clone(), info: FeatureLayer { name, shape } }),
        None => Err(Error::Unsupported(format!(
            "{file}: layer \"{name}\" has shape {}, expected float32 maps [N, K, h, w] or vectors [N, K] of the image",
            show(&shape)
        ))),
    }
}

/// The mean over the places of a map, as a vector.
fn average(model: &mut Model, facts: &mut Facts, layer: Layer) -> Layer {
    let (channels, batch) = (layer.info.shape[0], facts.shapes[&layer.tensor][0]);
    let (mean, vector) = (format!("{PREFIX}mean"), format!("{PREFIX}vector"));
    let (one, k) = (Size::Fixed(1), Size::Fixed(channels));
    add(model, facts, "GlobalAveragePool", &[&layer.tensor], &mean, vec![], &[batch, k, one, one]);
    add(model, facts, "Flatten", &[&mean], &vector, vec![int("axis", 1)], &[batch, k]);
    Layer { tensor: vector, info: FeatureLayer { name: layer.info.name, shape: vec![channels] } }
}

fn add(
    model: &mut Model,
    facts: &mut Facts,
    op: &str,
    inputs: &[&str],
    output: &str,
    attribute: Vec<AttributeProto>,
    shape: &[Size],
) {
    model.graph_mut().node.push(NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("{output}/node")),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    });
    facts.shapes.insert(output.to_owned(), shape.to_vec());
    facts.floats.insert(output.to_owned());
}

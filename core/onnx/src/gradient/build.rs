//! From a model and a request to the model that answers gradients.

use super::emit::{Emitter, Facts, PREFIX};
use super::probe::{BATCHES, probe};
use super::prune::{prune, share_concatenations};
use super::size::{Size, product, show};
use super::{backward, layers};
use crate::config::Layout;
use crate::graph::{Dim, Model, show_dims, value_info};
use crate::proto::{DimensionProto, DimensionValue, TypeValue, ValueInfoProto, data_type};
use crate::scores::find_ending;
use shiftlens_api::{Error, Result};
use std::collections::HashSet;

/// Before a tensor's name: the name of its gradient among the outputs.
pub const GRADIENT_PREFIX: &str = "grad/";
/// The extra input of [`Seed::Classes`].
pub const SEED_CLASSES: &str = "grad/class";
/// The extra input of [`Seed::Weights`].
pub const SEED_WEIGHTS: &str = "grad/seed";

/// Which tensor's entries are differentiated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Scalar {
    /// The logits: what a final sigmoid, softmax or log-softmax is applied to, where the graph ends in one, else its
    /// output.
    #[default]
    Logit,
    /// The graph's output as it is: probabilities where it ends in sigmoid or softmax.
    Output,
    /// This tensor, `[N, K]`, `[N]` or `[N, K, 1, 1]`.
    Tensor(String),
}

/// Which combination of an image's K scores is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Seed {
    /// One class for each image, given when the model runs: an extra `int64` input [`SEED_CLASSES`], `[N]`. A number
    /// that is no class has the gradient 0.
    #[default]
    Classes,
    /// This class for all images; no extra input.
    Class(usize),
    /// A weighted sum of the scores, the weights given when the model runs: an extra `float32` input
    /// [`SEED_WEIGHTS`], `[N, K]`.
    Weights,
}

/// What to differentiate, and with respect to what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// Tensors whose gradients are wanted: the graph's input or any inner `float32` tensor, by name. Inner ones are
    /// also answered themselves.
    pub wrt: Vec<String>,
    /// Further tensors that are only to be answered.
    pub also: Vec<String>,
    /// The graph output that holds the scores; needed if there are several.
    pub output: Option<String>,
    /// Which tensor is differentiated.
    pub scalar: Scalar,
    /// Which of its entries.
    pub seed: Seed,
    /// Fixes the batch. Runtimes that settle all sizes when they load a model may need it.
    pub batch: Option<usize>,
    /// The input's sizes where the model leaves other axes than the batch free, `[C, H, W]` or however the model has
    /// it, without the batch.
    pub input_size: Option<Vec<usize>>,
    /// Threads of the run that settles the sizes; all cores where it is left out.
    pub threads: Option<usize>,
}

/// A model that answers scores, tensors and gradients.
#[derive(Debug, Clone)]
pub struct GradientGraph {
    /// The model. Its inputs are the original one and what [`Seed`] asks for; the batch is free where it was.
    pub model: Model,
    /// Its outputs, in order: the scores; the asked inner tensors, each once; the gradients of [`Request::wrt`], each
    /// under [`GRADIENT_PREFIX`] and the tensor's name.
    pub outputs: Vec<String>,
    /// The tensor that is differentiated, the first of the outputs.
    pub scores: String,
    /// K: scores per image.
    pub columns: usize,
}

/// The input that images are fed to.
fn image_input(model: &Model) -> Result<(String, Vec<Dim>)> {
    let name = model.name();
    let inputs = model.inputs();
    let [input] = &inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::Unsupported(format!(
            "{name}: the graph has inputs {names:?}, expected a single one"
        )));
    };
    if input.data_type != data_type::FLOAT {
        return Err(Error::Unsupported(format!(
            "{name}: input \"{}\" has ONNX data type {}, expected float32 (1); export the model in single precision",
            input.name, input.data_type
        )));
    }
    let dims =
        input.dims.clone().filter(|d| !d.is_empty()).ok_or_else(|| {
            Error::Unsupported(format!("{name}: input \"{}\" declares no shape", input.name))
        })?;
    Ok((input.name.clone(), dims))
}

/// Shapes and constants of a model's tensors, from the declared shape of its input and the given sizes.
///
/// # Errors
/// [`Error::Invalid`] where the sizes contradict the declared ones or leave an axis open, and whatever the backend says
/// when it runs the model.
pub fn facts(model: &Model, input_size: Option<&[usize]>, threads: Option<usize>) -> Result<Facts> {
    let (name, dims) = image_input(model)?;
    let wrong = |what: String| {
        Error::Invalid(format!(
            "{}: input \"{name}\" is declared as {}; {what}",
            model.name(),
            show_dims(&dims)
        ))
    };
    if let Some(sizes) = input_size.filter(|s| s.len() + 1 != dims.len()) {
        return Err(wrong(format!(
            "sizes {sizes:?} were given, one for each axis but the first is expected"
        )));
    }
    let mut shape = vec![dims[0].fixed().unwrap_or(BATCHES[0])];
    for (i, dim) in dims.iter().enumerate().skip(1) {
        let given = input_size.map(|s| s[i - 1]);
        match (dim.fixed(), given) {
            (Some(d), Some(g)) if d != g => return Err(wrong(format!("size {g} was given for axis {i}"))),
            (Some(d), _) => shape.push(d),
            (None, Some(g)) => shape.push(g),
            (None, None) => {
                return Err(wrong(format!("axis {i} is free: give the sizes of all axes but the batch")));
            }
        }
    }
    match dims[0].fixed() {
        Some(n) => probe(model, &name, &shape, &[n], threads),
        None => probe(model, &name, &shape, &BATCHES, threads),
    }
}

/// Names of the tensors from which on gradients can be offered to a user.
fn offered(model: &Model, facts: &Facts, input: &str, output: &str) -> Vec<String> {
    let found = layers::candidates(model, facts, input, Layout::Nchw, output);
    if found.is_empty() {
        // No feature maps: any inner tensor will do.
        let inner = model.graph().node.iter().flat_map(|n| &n.output);
        return inner.filter(|o| facts.floats.contains(*o)).cloned().collect();
    }
    found.into_iter().map(|l| l.name).collect()
}

impl GradientGraph {
    /// Writes the model.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tensor, output or class that the model does not have or on which the scores do not
    /// depend; [`Error::Unsupported`] for an operator without a gradient on the way (the error names the node and the
    /// tensors from which on there are gradients), for scores that are no `[N, K]`, and for models with several inputs
    /// or in another precision than `float32`.
    pub fn build(model: &Model, request: &Request) -> Result<Self> {
        check_opset(model)?;
        let mut model = model.clone();
        let mut facts = facts(&model, request.input_size.as_deref(), request.threads)?;
        if let Some(n) = request.batch {
            let (input, _) = image_input(&model)?;
            let shape: Option<Vec<usize>> = facts.shapes[&input].iter().map(|d| d.at(n)).collect();
            let shape = shape.ok_or_else(|| {
                Error::Unsupported(format!("{}: the input's sizes are not known", model.name()))
            })?;
            if shape[0] != n {
                return Err(Error::Invalid(format!(
                    "{}: a batch of {n} was asked for, the model is fixed to {}",
                    model.name(),
                    shape[0]
                )));
            }
            model.fix_input(&input, &shape);
            facts = facts.at(n);
        }
        Self::from_facts(model, &facts, request)
    }

    /// As [`Self::build`], from the model itself and with what is known of its tensors given.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn from_facts(mut answer: Model, facts: &Facts, request: &Request) -> Result<Self> {
        check_opset(&answer)?;
        share_concatenations(&mut answer, &request.wrt);
        let model = &answer;
        let name = model.name();
        let (input, _) = image_input(model)?;
        let output =
            crate::image_input::choose_port(&model.outputs(), request.output.as_deref(), name, "output")?
                .name;
        let scores = match &request.scalar {
            Scalar::Logit => find_ending(model, &output).map_or(output.clone(), |e| e.logits),
            Scalar::Output => output.clone(),
            Scalar::Tensor(t) => t.clone(),
        };
        let inner = |t: &str| facts.floats.contains(t) && (t == input || model.producer(t).is_some());
        for tensor in request.wrt.iter().chain(&request.also).chain([&scores]) {
            if !inner(tensor) {
                let some: Vec<String> = offered(model, facts, &input, &output)
                    .iter()
                    .rev()
                    .take(5)
                    .map(|t| format!("\"{t}\""))
                    .collect();
                return Err(Error::Invalid(format!(
                    "{name}: the graph has no float32 tensor \"{tensor}\" that is computed from the image; its input is \
                     \"{input}\", its last layers are {}",
                    some.join(", ")
                )));
            }
        }
        let shape = facts.shapes.get(&scores).cloned().unwrap_or_default();
        let batch = facts.shapes.get(&input).and_then(|s| s.first()).copied().unwrap_or(Size::Unknown);
        let columns = columns(&shape, batch).ok_or_else(|| {
            Error::Unsupported(format!(
                "{name}: tensor \"{scores}\" has shape {}, expected scores [N, K]",
                show(&shape)
            ))
        })?;
        if let Seed::Class(k) = request.seed
            && k >= columns
        {
            return Err(Error::Invalid(format!("{name}: class {k} asked for, the scores have {columns}")));
        }
        if !request.wrt.is_empty() {
            backward::check_sizes(model, &input, &scores)?;
            let offered = offered(model, facts, &input, &output);
            backward::check_rules(model, facts, &request.wrt, &scores, &offered)?;
        }

        let mut e = Emitter::new(model, facts);
        let gradients = if request.wrt.is_empty() {
            vec![]
        } else {
            let seed = seed(&mut e, request.seed, &scores, columns)?;
            backward::differentiate(&mut e, &request.wrt, &scores, seed)?
        };
        let mut outputs = vec![scores.clone()];
        let mut ports = vec![(scores.clone(), scores.clone())];
        let mut seen: HashSet<&str> = HashSet::from([scores.as_str(), input.as_str()]);
        for tensor in request.wrt.iter().chain(&request.also) {
            if seen.insert(tensor) {
                outputs.push(tensor.clone());
                ports.push((tensor.clone(), tensor.clone()));
            }
        }
        for (tensor, gradient) in request.wrt.iter().zip(&gradients) {
            let name = format!("{GRADIENT_PREFIX}{tensor}");
            if outputs.contains(&name) {
                continue;
            }
            e.op_as("Identity", &[gradient], vec![], &name);
            ports.push((name.clone(), tensor.clone()));
            outputs.push(name);
        }
        let (nodes, constants, indices) = (e.nodes, e.constants, e.indices);

        check_names(model)?;
        let symbol = batch_symbol(model, &input);
        let graph = answer.graph_mut();
        for (first, second) in indices {
            for node in graph.node.iter_mut().filter(|n| n.output.first() == Some(&first)) {
                node.output.truncate(1);
                node.output.push(second.clone());
            }
        }
        graph.node.extend(nodes);
        graph.initializer.extend(constants);
        if !request.wrt.is_empty() {
            match request.seed {
                Seed::Class(_) => {}
                Seed::Classes => {
                    graph.input.push(port(SEED_CLASSES, data_type::INT64, &[batch], &symbol));
                }
                Seed::Weights => {
                    let shape = [batch, Size::Fixed(columns)];
                    graph.input.push(port(SEED_WEIGHTS, data_type::FLOAT, &shape, &symbol));
                }
            }
        }
        graph.output = ports
            .iter()
            .map(|(name, like)| port(name, data_type::FLOAT, &facts.shapes[like], &symbol))
            .collect();
        graph.value_info.clear();
        prune(&mut answer);
        Ok(Self { model: answer, outputs, scores, columns })
    }
}

/// K of scores `[N, K]`, `[N]` or `[N, K, 1, ..]`.
fn columns(shape: &[Size], batch: Size) -> Option<usize> {
    let (first, rest) = shape.split_first()?;
    let k = rest.first().map_or(Some(1), |k| k.fixed())?;
    let single = rest.iter().skip(1).all(|d| *d == Size::Fixed(1));
    (*first == batch && single && k > 0).then_some(k)
}

/// Refuses operator sets before 7, in which operands are broadcast otherwise.
fn check_opset(model: &Model) -> Result<()> {
    match model.opset() {
        ..=6 => Err(Error::Unsupported(format!(
            "{}: the model is written in operator set {}; gradients need 7 or later, so export it anew",
            model.name(),
            model.opset()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a model whose own names would be taken for those that are added.
fn check_names(model: &Model) -> Result<()> {
    let graph = model.graph();
    let made =
        graph.node.iter().flat_map(|n| &n.output).chain(graph.initializer.iter().flat_map(|t| &t.name));
    let names = made.chain(graph.input.iter().flat_map(|i| &i.name));
    match names.into_iter().find(|n| n.starts_with(GRADIENT_PREFIX) || n.starts_with(PREFIX)) {
        Some(taken) => Err(Error::Invalid(format!(
            "{}: tensor \"{taken}\" has a name that gradients are given; this model seems to answer gradients already",
            model.name()
        ))),
        None => Ok(()),
    }
}

/// The gradient of the scalar with respect to the scores, in their shape.
fn seed(e: &mut Emitter<'_>, seed: Seed, scores: &str, columns: usize) -> Result<String> {
    let shape = e.shape(scores)?;
    let rows = [shape[0], Size::Fixed(columns)];
    let weights = match seed {
        Seed::Weights => SEED_WEIGHTS.to_owned(),
        Seed::Classes => {
            let class = e.reshape(SEED_CLASSES, &[shape[0], Size::Fixed(1)])?;
            let all = e.int_array(&[1, columns], &(0..columns as i64).collect::<Vec<_>>());
            let hit = e.op("Equal", &[&class, &all], vec![]);
            e.to_float(&hit)
        }
        Seed::Class(class) => {
            let row: Vec<f32> = (0..columns).map(|k| if k == class { 1.0 } else { 0.0 }).collect();
            let mut one = vec![1; shape.len()];
            if let Some(k) = one.get_mut(1) {
                *k = columns;
            }
            let row = e.floats(&one, &row);
            let ones: Vec<Size> = one.iter().map(|n| Size::Fixed(*n)).collect();
            return e.expand_like(&row, &ones, scores);
        }
    };
    debug_assert_ne!(product(&rows), Size::Unknown);
    if shape == rows { Ok(weights) } else { e.reshape_like(&weights, scores) }
}

/// What the model calls its batch axis.
fn batch_symbol(model: &Model, input: &str) -> String {
    let dims = model.inputs().into_iter().find(|i| i.name == input).and_then(|i| i.dims);
    match dims.and_then(|d| d.into_iter().next()) {
        Some(Dim::Dynamic(s)) if !s.is_empty() => s,
        _ => "batch".into(),
    }
}

/// Describes an input or output whose sizes are known as far as `shape` says.
pub(super) fn port(name: &str, data_type: i32, shape: &[Size], symbol: &str) -> ValueInfoProto {
    let mut info = value_info(name, data_type, Some(&vec![1; shape.len()]));
    if let Some(TypeValue::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut())
        && let Some(s) = t.shape.as_mut()
    {
        s.dim = shape
            .iter()
            .map(|d| DimensionProto {
                value: match d {
                    Size::Fixed(n) => Some(DimensionValue::DimValue(*n as i64)),
                    Size::Batch(1) => Some(DimensionValue::DimParam(symbol.to_owned())),
                    _ => None,
                },
                denotation: None,
            })
            .collect();
    }
    info
}

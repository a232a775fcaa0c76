//! Exact gradients of ONNX classifiers, made by editing the graph.
//!
//! From a model and a request this writes a second model that also answers the asked activations and gradients. Its
//! backward part consists of standard operators only, so that it runs wherever the model itself runs, on ONNX
//! Runtime as on tract:
//!
//! 1. [`probe`](mod@probe): the model runs once on a grey image at a fixed batch; all shapes, and all values that do
//!    not depend on the image, are then known.
//! 2. [`backward`]: from the score back to the asked tensors, one [rule](rules) per operator.
//! 3. The score is `sum_k seed[n, k] * output[n, k]` with the extra input `seed`, `[N, columns]`: a row of the identity
//!    picks a class for each image.
//!
//! Models are made when they are first needed and kept for the next request of the same kind. Batches are cut into
//! powers of two, so that few models serve all batch sizes.

pub mod backward;
pub mod emit;
pub mod layers;
pub mod probe;
pub mod rules;

use crate::backend::Session;
use crate::config::Activation;
use crate::graph::{Model, value_info};
use crate::predictor::{OnnxPredictor, check_row};
use crate::proto::data_type;
use emit::{Emitter, Facts, PREFIX};
use shiftlens_api::{Error, GradientOutput, GradientRequest, Images, LayerInfo, Result, ScoreKind, Tensor};
use std::collections::HashMap;

/// Largest batch of a gradient run: all activations are in memory at once.
const LARGEST_BATCH: usize = 8;
/// Prepared graphs that are kept.
const KEPT: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    layers: Vec<String>,
    layer_gradients: bool,
    input_gradient: bool,
    probability: bool,
    batch: usize,
}

/// What is kept from one gradient request to the next.
#[derive(Default)]
pub(crate) struct GradientCache {
    layers: Option<Vec<LayerInfo>>,
    facts: HashMap<usize, Facts>,
    sessions: HashMap<Key, Session>,
}

/// The shapes and constants of a predictor's tensors at batch `n`.
fn facts(p: &mut OnnxPredictor, n: usize) -> Result<()> {
    if p.gradients.facts.contains_key(&n) {
        return Ok(());
    }
    let (shape, data) = (p.input.shape(n), p.input.prepare(&p.input.grey()?, n)?);
    let mut model = p.model.clone();
    model.fix_input(&p.input.name, &shape);
    let facts = probe::probe(&model, &p.input.name, &shape, &data, p.threads)?;
    p.gradients.facts.insert(n, facts);
    Ok(())
}

/// See [`shiftlens_api::Gradients::layers`].
pub(crate) fn layers(p: &mut OnnxPredictor) -> Result<Vec<LayerInfo>> {
    if p.gradients.layers.is_none() {
        let n = p.input.batch.unwrap_or(1);
        facts(p, n)?;
        let facts = &p.gradients.facts[&n];
        p.gradients.layers =
            Some(layers::candidates(&p.model, facts, &p.input.name, p.input.layout, &p.head.output));
    }
    Ok(p.gradients.layers.clone().unwrap_or_default())
}

/// Names of the asked layers; an empty name is the default.
fn resolve(p: &mut OnnxPredictor, names: &[String]) -> Result<Vec<String>> {
    let known = layers(p)?;
    let n = p.input.batch.unwrap_or(1);
    let facts = &p.gradients.facts[&n];
    names
        .iter()
        .map(|name| {
            if name.is_empty() {
                return known.iter().find(|l| l.default).map(|l| l.name.clone()).ok_or_else(|| {
                    Error::Unsupported(format!(
                        "{}: the network has no layer with spatial extent; class activation maps need one",
                        p.model.name()
                    ))
                });
            }
            if facts.floats.contains(name) && p.model.producer(name).is_some() {
                return Ok(name.clone());
            }
            let some: Vec<String> = known.iter().rev().take(5).map(|l| format!("\"{}\"", l.name)).collect();
            Err(Error::Invalid(format!(
                "{}: no tensor \"{name}\" in the network; the last layers with spatial extent are {}",
                p.model.name(),
                some.join(", ")
            )))
        })
        .collect()
}

/// The model to differentiate and the tensor whose columns the seed weighs.
fn score_tensor(p: &OnnxPredictor, kind: ScoreKind) -> Result<(Model, String)> {
    let mut model = p.model.clone();
    let output = p.head.output.clone();
    let own = |op: &str, attributes: Vec<_>, model: &mut Model| {
        let facts = Facts::default();
        let name = format!("{PREFIX}score");
        let mut e = Emitter::new(&p.model, &facts);
        e.op_as(op, &[&output], attributes, &name);
        let nodes = e.nodes;
        model.graph_mut().node.extend(nodes);
        name
    };
    let tensor = match (kind, p.head.activation, &p.head.ending) {
        (ScoreKind::Logit, _, Some(ending)) => ending.logits.clone(),
        (ScoreKind::Logit, Activation::Already, None) => {
            return Err(Error::Unsupported(format!(
                "{}: the logit is not known, because the model's probabilities do not come from a Sigmoid or Softmax \
                 node; ask for gradients of the probability",
                p.model.name()
            )));
        }
        (ScoreKind::Probability, Activation::Sigmoid, _) => own("Sigmoid", vec![], &mut model),
        (ScoreKind::Probability, Activation::Softmax, _) => {
            own("Softmax", vec![emit::int("axis", 1)], &mut model)
        }
        _ => output,
    };
    Ok((model, tensor))
}

/// Writes and prepares the model that answers `key`.
fn prepare(p: &mut OnnxPredictor, key: &Key) -> Result<Session> {
    let n = key.batch;
    facts(p, n)?;
    let kind = if key.probability { ScoreKind::Probability } else { ScoreKind::Logit };
    let (mut model, score) = score_tensor(p, kind)?;
    model.fix_input(&p.input.name, &p.input.shape(n));
    let mut facts = p.gradients.facts[&n].clone();
    if !facts.shapes.contains_key(&score) {
        facts.shapes.insert(score.clone(), facts.shapes[&p.head.output].clone());
        facts.floats.insert(score.clone());
    }
    let mut sources = if key.layer_gradients { key.layers.clone() } else { vec![] };
    if key.input_gradient {
        sources.push(p.input.name.clone());
    }
    if !sources.is_empty() {
        let named: Vec<String> = layers(p)?.into_iter().map(|l| l.name).collect();
        backward::check_rules(&model, &sources, &score, &named)?;
    }

    let score_shape = facts.shapes[&score].clone();
    if score_shape.iter().product::<usize>() != n * p.head.columns {
        return Err(Error::Unsupported(format!(
            "{}: tensor \"{score}\" has shape {score_shape:?}, expected one logit for each of {} columns",
            p.model.name(),
            p.head.columns
        )));
    }
    let seed = format!("{PREFIX}seed");
    let mut e = Emitter::new(&model, &facts);
    // Scores alone are asked for without a seed: the graph has no input of that name then.
    let gradients = if sources.is_empty() {
        Vec::new()
    } else {
        let start = e.reshape(&seed, &score_shape);
        backward::differentiate(&mut e, &facts, &sources, &score, start)?
    };
    let mut outputs = vec![score];
    outputs.extend(key.layers.iter().cloned());
    for (i, gradient) in gradients.iter().enumerate() {
        let name = format!("{PREFIX}gradient_{i}");
        e.op_as("Identity", &[gradient], vec![], &name);
        outputs.push(name);
    }
    let (nodes, constants) = (e.nodes, e.constants);

    let graph = model.graph_mut();
    graph.node.extend(nodes);
    graph.initializer.extend(constants);
    if !sources.is_empty() {
        graph.input.push(value_info(&seed, data_type::FLOAT, Some(&[n, p.head.columns])));
    }
    let mut distinct: Vec<&String> = Vec::new();
    outputs.iter().for_each(|o| {
        if !distinct.contains(&o) {
            distinct.push(o);
        }
    });
    graph.output = distinct.into_iter().map(|o| value_info(o, data_type::FLOAT, None)).collect();
    Session::new(&model.to_bytes()?, &outputs, p.threads, p.model.name())
}

/// See [`shiftlens_api::Gradients::gradients`].
pub(crate) fn gradients(
    p: &mut OnnxPredictor,
    x: &Images,
    request: &GradientRequest,
) -> Result<GradientOutput> {
    let classes = classes(p, x.len(), &request.classes)?;
    let layers = resolve(p, &request.layers)?;
    let mut out = Collected::default();
    let mut from = 0;
    while from < x.len() {
        let left = (x.len() - from).min(LARGEST_BATCH);
        let take = left.min(p.input.batch.unwrap_or(1 << left.ilog2()));
        let key = Key {
            layers: layers.clone(),
            layer_gradients: request.layer_gradients,
            input_gradient: request.input_gradient,
            probability: request.score == ScoreKind::Probability,
            batch: p.input.batch.unwrap_or(take),
        };
        run(p, &key, &x.slice(from, from + take), from, &classes[from..from + take], &mut out)?;
        from += take;
    }
    out.finish(layers.len(), request)
}

/// One class for each image.
fn classes(p: &OnnxPredictor, n: usize, asked: &[usize]) -> Result<Vec<usize>> {
    let known = p.head.classes.len();
    if let Some(k) = asked.iter().find(|k| **k >= known) {
        return Err(Error::Invalid(format!(
            "class {k} asked for, {} has {known} ({:?})",
            p.model.name(),
            p.head.classes
        )));
    }
    match asked {
        [one] => Ok(vec![*one; n]),
        many if many.len() == n => Ok(many.to_vec()),
        many => {
            Err(Error::Invalid(format!("{} classes given for {n} images, expected 1 or {n}", many.len())))
        }
    }
}

fn run(
    p: &mut OnnxPredictor,
    key: &Key,
    x: &Images,
    first: usize,
    classes: &[usize],
    out: &mut Collected,
) -> Result<()> {
    if !p.gradients.sessions.contains_key(key) {
        let session = prepare(p, key)?;
        if p.gradients.sessions.len() >= KEPT {
            p.gradients.sessions.clear();
        }
        p.gradients.sessions.insert(key.clone(), session);
    }
    let n = key.batch;
    let columns = p.head.columns;
    let mut seed: Vec<f32> = classes.iter().flat_map(|k| p.head.column_weights(*k)).collect();
    seed.resize(n * columns, 0.0);
    let data = p.input.prepare(x, n)?;
    let (shape, seed_name) = (p.input.shape(n), format!("{PREFIX}seed"));
    let mut feed: Vec<(&str, &[usize], &[f32])> = vec![(&p.input.name, &shape, &data)];
    let seed_shape = [n, columns];
    if key.layer_gradients && !key.layers.is_empty() || key.input_gradient {
        feed.push((&seed_name, &seed_shape, &seed));
    }
    let session = p.gradients.sessions.get_mut(key).expect("inserted above");
    let mut answers = session.run_floats(&feed)?.into_iter();

    let score = answers.next().map(Tensor::into_vec).unwrap_or_default();
    for (i, class) in classes.iter().enumerate() {
        let row = &score[i * columns..(i + 1) * columns];
        if row.iter().any(|v| !v.is_finite()) {
            check_row(&p.model, &p.head, first + i, row)?;
        }
        let weights = p.head.column_weights(*class);
        let value: f32 = row.iter().zip(&weights).map(|(a, b)| a * b).sum();
        let offset = if key.probability && p.head.binary() && *class == 0 { 1.0 } else { 0.0 };
        out.scores.push(offset + value);
    }
    let mut parts: Vec<Tensor> = answers.collect();
    if key.input_gradient
        && let Some(g) = parts.pop()
    {
        let image = p.input.gradient_to_image(g.as_slice());
        let (c, (h, w)) = (p.input.channels, p.input.size);
        out.input.push(first_rows(Tensor::new(vec![n, c, h, w], image)?, x.len(), n, "input gradient")?);
    }
    let parts: Result<Vec<Tensor>> =
        parts.into_iter().map(|t| first_rows(t, x.len(), n, "activation or gradient")).collect();
    out.layers.push(parts?);
    Ok(())
}

/// The first `keep` entries of a batch of `n`, checked to be finite.
fn first_rows(t: Tensor, keep: usize, n: usize, what: &str) -> Result<Tensor> {
    if t.shape().first() != Some(&n) {
        return Err(Error::Unsupported(format!(
            "{what} of shape {:?}: the batch of {n} is not its first axis; name a layer that keeps the images apart",
            t.shape()
        )));
    }
    let mut shape = t.shape().to_vec();
    let mut data = t.into_vec();
    shape[0] = keep;
    data.truncate(shape.iter().product());
    if let Some(index) = data.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { what: what.to_owned(), index, value: data[index] });
    }
    Tensor::new(shape, data)
}

/// Parts of an answer, run by run.
#[derive(Default)]
struct Collected {
    scores: Vec<f32>,
    layers: Vec<Vec<Tensor>>,
    input: Vec<Tensor>,
}

impl Collected {
    fn finish(self, layers: usize, request: &GradientRequest) -> Result<GradientOutput> {
        let count = if request.layer_gradients { 2 * layers } else { layers };
        let mut all = Vec::with_capacity(count);
        for i in 0..count {
            all.push(join(self.layers.iter().map(|run| &run[i]))?);
        }
        let gradients = all.split_off(layers.min(all.len()));
        let input_gradient = if request.input_gradient { Some(join(self.input.iter())?) } else { None };
        Ok(GradientOutput { scores: self.scores, activations: all, gradients, input_gradient })
    }
}

/// One batch of all parts.
fn join<'a>(parts: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let mut shape = Vec::new();
    let mut data = Vec::new();
    let mut n = 0;
    for part in parts {
        n += part.shape().first().copied().unwrap_or(0);
        shape = part.shape().to_vec();
        data.extend_from_slice(part.as_slice());
    }
    match shape.first_mut() {
        Some(first) => *first = n,
        None => return Err(Error::invalid("gradients asked for an empty batch of images")),
    }
    Tensor::new(shape, data)
}

//! A predictor's gradients: which model answers a request, and running it in batches.

use super::build::{GradientGraph, Request, SEED_WEIGHTS, Scalar, Seed, facts};
use super::emit::{self, Emitter, Facts, PREFIX};
use super::layers;
use super::prune::{ancestors, prune};
use super::size::{Size, show};
use crate::backend::{Session, is_native};
use crate::config::Activation;
use crate::graph::{Model, value_info};
use crate::predictor::{OnnxPredictor, check_row};
use crate::proto::{NodeProto, data_type};
use shiftlens_api::{Error, GradientOutput, GradientRequest, Images, LayerInfo, Result, ScoreKind, Tensor};
use std::collections::HashMap;

/// Largest batch of a gradient run: all activations on the way are in memory at once.
const LARGEST_BATCH: usize = 16;
/// The same down to the image: all the more activations, of which the caches hold fewer.
const LARGEST_INPUT_BATCH: usize = 8;
/// Prepared graphs that are kept.
const KEPT: usize = 8;

/// What a prepared graph answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    task: Task,
    probability: bool,
    /// Where the graph holds for one batch only.
    batch: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Task {
    Gradients {
        layers: Vec<String>,
        layer_gradients: bool,
        input_gradient: bool,
    },
    /// Scores from this layer's activations.
    Rest(String),
}

/// What is kept from one request to the next.
#[derive(Default)]
pub(crate) struct GradientCache {
    layers: Option<Vec<LayerInfo>>,
    /// What is known of the model's tensors.
    facts: Option<Facts>,
    sessions: HashMap<Key, Prepared>,
    requests: u64,
}

struct Prepared {
    session: Session,
    /// True if the images are among the inputs.
    images: bool,
    /// When it was asked for last, counted in requests.
    used: u64,
}

/// What is known of the model's tensors, with the model itself.
fn known(p: &mut OnnxPredictor) -> Result<(&Model, &Facts)> {
    let facts = match p.gradients.facts.take() {
        Some(facts) => facts,
        None => facts(&p.model, Some(&p.input.shape(1)[1..]), p.threads)?,
    };
    Ok((&p.model, p.gradients.facts.insert(facts)))
}

/// See [`shiftlens_api::Gradients::layers`].
pub(crate) fn layers(p: &mut OnnxPredictor) -> Result<Vec<LayerInfo>> {
    if p.gradients.layers.is_none() {
        let (input, layout, output) = (p.input.name.clone(), p.input.layout, p.head.output.clone());
        let threads = p.threads;
        let (model, facts) = known(p)?;
        let mut found = layers::candidates(model, facts, &input, layout, &output);
        layers::choose(&mut found, model, facts, &output, threads)?;
        p.gradients.layers = Some(found);
    }
    Ok(p.gradients.layers.clone().unwrap_or_default())
}

/// Names of the asked layers; an empty name is the default.
fn resolve(p: &mut OnnxPredictor, names: &[String]) -> Result<Vec<String>> {
    let file = p.model.name().to_owned();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        if name.is_empty() {
            let default = layers(p)?.into_iter().find(|l| l.default);
            found.push(default.map(|l| l.name).ok_or_else(|| {
                Error::Unsupported(format!(
                    "{file}: the network has no layer with spatial extent; class activation maps need one"
                ))
            })?);
            continue;
        }
        let (input, (model, facts)) = (p.input.name.clone(), known(p)?);
        if facts.floats.contains(name) && model.producer(name).is_some() {
            // A constant may be as long as the batch by accident.
            let batch = facts.shapes[&input].first();
            if facts.shapes[name].first() != batch || facts.constants.contains_key(name) {
                return Err(Error::Unsupported(format!(
                    "{file}: tensor \"{name}\" of shape {}: the images are not its first axis; name a layer that keeps \
                     them apart",
                    show(&facts.shapes[name])
                )));
            }
            found.push(name.clone());
            continue;
        }
        let some: Vec<String> = layers(p)?.iter().rev().take(5).map(|l| format!("\"{}\"", l.name)).collect();
        return Err(Error::Invalid(format!(
            "{file}: no tensor \"{name}\" in the network; the last layers with spatial extent are {}",
            some.join(", ")
        )));
    }
    Ok(found)
}

/// The model with the asked scores as a tensor of its own, that tensor, and what is known.
fn scored(p: &mut OnnxPredictor, kind: ScoreKind) -> Result<(Model, String, Facts)> {
    let (output, activation) = (p.head.output.clone(), p.head.activation);
    let ending = p.head.ending.clone();
    let (model, facts) = known(p)?;
    let (mut model, mut facts) = (model.clone(), facts.clone());
    let mut own = |op: &str, attributes: Vec<_>| {
        let mut name = "shiftlens/score".to_owned();
        while model.producer(&name).is_some() {
            name.push('_');
        }
        let nothing = Facts::default();
        let mut e = Emitter::new(&model, &nothing);
        e.op_as(op, &[&output], attributes, &name);
        let nodes = e.nodes;
        model.graph_mut().node.extend(nodes);
        if let Some(shape) = facts.shapes.get(&output).cloned() {
            facts.shapes.insert(name.clone(), shape);
        }
        facts.floats.insert(name.clone());
        name
    };
    let tensor = match (kind, activation, ending) {
        (ScoreKind::Logit, _, Some(ending)) => ending.logits,
        (ScoreKind::Logit, Activation::Already, None) => {
            return Err(Error::Unsupported(format!(
                "{}: the logit is not known, because the model's probabilities do not come from a Sigmoid or Softmax \
                 node; ask for gradients of the probability",
                model.name()
            )));
        }
        (ScoreKind::Probability, Activation::Sigmoid, _) => own("Sigmoid", vec![]),
        (ScoreKind::Probability, Activation::Softmax, _) => own("Softmax", vec![emit::int("axis", 1)]),
        _ => output,
    };
    Ok((model, tensor, facts))
}

/// Writes and prepares the model that answers `key`.
fn prepare(p: &mut OnnxPredictor, key: &Key) -> Result<Prepared> {
    let kind = if key.probability { ScoreKind::Probability } else { ScoreKind::Logit };
    let (mut model, scores, mut facts) = scored(p, kind)?;
    if let Some(n) = key.batch {
        model.fix_input(&p.input.name, &p.input.shape(n));
        facts = facts.at(n);
    }
    match &key.task {
        Task::Gradients { layers, layer_gradients, input_gradient } => {
            let mut wrt = if *layer_gradients { layers.clone() } else { vec![] };
            if *input_gradient {
                wrt.push(p.input.name.clone());
            }
            let request = Request {
                wrt,
                also: layers.clone(),
                output: Some(p.head.output.clone()),
                scalar: Scalar::Tensor(scores),
                seed: Seed::Weights,
                ..Request::default()
            };
            let graph = GradientGraph::from_facts(model, &facts, &request)?;
            if graph.columns != p.head.columns {
                return Err(Error::Unsupported(format!(
                    "{}: tensor \"{}\" has {} columns, the model's output {}",
                    p.model.name(),
                    graph.scores,
                    graph.columns,
                    p.head.columns
                )));
            }
            // One output for each asked thing, in the order of the request, repeated where it was asked for twice.
            let mut outputs = vec![graph.scores];
            outputs.extend(layers.iter().cloned());
            outputs.extend(request.wrt.iter().map(|t| format!("{}{t}", super::GRADIENT_PREFIX)));
            let session = Session::new(&graph.model.to_bytes()?, &outputs, p.threads, p.model.name())?;
            Ok(Prepared { session, images: true, used: 0 })
        }
        Task::Rest(layer) => rest(p, model, &facts, layer, &scores),
    }
}

/// The part of the model behind `layer`, with the layer as an input.
fn rest(p: &OnnxPredictor, mut model: Model, facts: &Facts, layer: &str, scores: &str) -> Result<Prepared> {
    let shape = &facts.shapes[layer];
    let graph = model.graph_mut();
    for node in &mut graph.node {
        for output in node.output.iter_mut().filter(|o| *o == layer) {
            // Whatever else the node answers is still needed.
            *output = format!("{PREFIX}replaced");
        }
    }
    graph.input.push(super::build::port(layer, data_type::FLOAT, shape, "replaced_batch"));
    let scores = if scores == layer {
        // Not every runtime takes an input for an output.
        let answer = format!("{PREFIX}scores");
        graph.node.push(NodeProto {
            op_type: Some("Identity".into()),
            input: vec![layer.to_owned()],
            output: vec![answer.clone()],
            ..Default::default()
        });
        answer
    } else {
        scores.to_owned()
    };
    graph.output = vec![value_info(&scores, data_type::FLOAT, None)];
    graph.value_info.clear();
    prune(&mut model);
    let needed = ancestors(&model, [scores.as_str()]);
    if !needed.contains(layer) {
        return Err(Error::Invalid(format!(
            "{}: the score does not depend on layer \"{layer}\"",
            p.model.name()
        )));
    }
    let images = needed.contains(&p.input.name);
    model.graph_mut().input.retain(|i| i.name() == layer || images);
    let session = Session::new(&model.to_bytes()?, &[scores], p.threads, p.model.name())?;
    Ok(Prepared { session, images, used: 0 })
}

/// The prepared graph for `key`; the one that was used longest ago makes room for a new one.
fn prepared<'a>(p: &'a mut OnnxPredictor, key: &Key) -> Result<&'a mut Prepared> {
    if !p.gradients.sessions.contains_key(key) {
        let made = prepare(p, key)?;
        let sessions = &mut p.gradients.sessions;
        if sessions.len() >= KEPT
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used).map(|(k, _)| k.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key.clone(), made);
    }
    p.gradients.requests += 1;
    let session = p.gradients.sessions.get_mut(key).ok_or_else(|| Error::invalid("just made"))?;
    session.used = p.gradients.requests;
    Ok(session)
}

/// How many of `left` images to take at once, and the batch that the graph must be made for. `declared`: the batch that the
/// model is fixed to.
pub(crate) fn batch(declared: Option<usize>, left: usize, largest: usize) -> Result<(usize, Option<usize>)> {
    let take = left.min(largest);
    Ok(match declared {
        Some(n) => (left.min(n), Some(n)),
        None if is_native()? => (take, None),
        // Few graphs serve all batch sizes if batches are cut into powers of two.
        None => (1 << take.ilog2(), Some(1 << take.ilog2())),
    })
}

/// See [`shiftlens_api::Gradients::gradients`].
pub(crate) fn gradients(
    p: &mut OnnxPredictor,
    x: &Images,
    request: &GradientRequest,
) -> Result<GradientOutput> {
    let classes = classes(p, x.len(), &request.classes)?;
    let layers = resolve(p, &request.layers)?;
    let largest = if request.input_gradient { LARGEST_INPUT_BATCH } else { LARGEST_BATCH };
    let mut out = Collected::default();
    let mut from = 0;
    while from < x.len() {
        let (take, fixed) = batch(p.input.batch, x.len() - from, largest)?;
        let key = Key {
            task: Task::Gradients {
                layers: layers.clone(),
                layer_gradients: request.layer_gradients && !layers.is_empty(),
                input_gradient: request.input_gradient,
            },
            probability: request.score == ScoreKind::Probability,
            batch: fixed,
        };
        let to = from + take;
        run(p, &key, &x.slice(from, to), from, &classes[from..to], &mut out)?;
        from = to;
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
    let Task::Gradients { layer_gradients, input_gradient, .. } = key.task else { return Ok(()) };
    let n = key.batch.unwrap_or(x.len());
    let columns = p.head.columns;
    let data = p.input.prepare(x, n)?;
    let (shape, image) = (p.input.shape(n), p.input.name.clone());
    let mut feed: Vec<(&str, &[usize], &[f32])> = vec![(&image, &shape, &data)];
    let mut seed: Vec<f32> = classes.iter().flat_map(|k| p.head.column_weights(*k)).collect();
    seed.resize(n * columns, 0.0);
    let seed_shape = [n, columns];
    if layer_gradients || input_gradient {
        feed.push((SEED_WEIGHTS, &seed_shape, &seed));
    }
    let mut answers = prepared(p, key)?.session.run_floats(&feed)?.into_iter();

    let scores = answers.next().map(Tensor::into_vec).unwrap_or_default();
    out.scores.extend(chosen_scores(p, key, &scores, first, classes)?);
    let mut parts: Vec<Tensor> = answers.collect();
    if input_gradient && let Some(g) = parts.pop() {
        let image = p.input.gradient_to_image(g.as_slice());
        let (c, (h, w)) = (p.input.channels, p.input.size);
        out.input.push(first_rows(Tensor::new(vec![n, c, h, w], image)?, x.len(), n, "input gradient")?);
    }
    let parts: Result<Vec<Tensor>> =
        parts.into_iter().map(|t| first_rows(t, x.len(), n, "activation or gradient")).collect();
    out.layers.push(parts?);
    Ok(())
}

/// The score of each image's class from the rows of scores.
fn chosen_scores(
    p: &OnnxPredictor,
    key: &Key,
    scores: &[f32],
    first: usize,
    classes: &[usize],
) -> Result<Vec<f32>> {
    let rows = scores.chunks_exact(p.head.columns).zip(classes).enumerate();
    rows.map(|(i, (row, class))| {
        if key.probability || row.iter().any(|v| !v.is_finite()) {
            check_row(&p.model, &p.head, first + i, row)?;
        }
        let weights = p.head.column_weights(*class);
        let value: f32 = row.iter().zip(&weights).map(|(a, b)| a * b).sum();
        let offset = if key.probability && p.head.binary() && *class == 0 { 1.0 } else { 0.0 };
        Ok(offset + value)
    })
    .collect()
}

/// See [`shiftlens_api::Gradients::scores_with`].
pub(crate) fn scores_with(
    p: &mut OnnxPredictor,
    x: &Images,
    layer: &str,
    activations: &Tensor,
    asked: &[usize],
    score: ScoreKind,
) -> Result<Vec<f32>> {
    let of_images = classes(p, x.len(), asked)?;
    let layer = resolve(p, &[layer.to_owned()])?.swap_remove(0);
    let known = known(p)?.1.shapes[&layer].clone();
    let (rows, shape) = (activations.shape().first().copied().unwrap_or(0), activations.shape());
    let fits = known.len() == shape.len()
        && known[1..].iter().zip(&shape[1..]).all(|(k, s)| *k == Size::Fixed(*s))
        && !x.is_empty()
        && rows.is_multiple_of(x.len());
    if !fits {
        return Err(Error::Shape {
            what: format!("activations for layer \"{layer}\" and {} images", x.len()),
            expected: format!("{}, N a multiple of the images", show(&known)),
            found: shape.to_vec(),
        });
    }
    let variants = rows / x.len();
    let entry: usize = shape[1..].iter().product();
    let mut out = Vec::with_capacity(rows);
    while out.len() < rows {
        let from = out.len();
        let (take, fixed) = batch(p.input.batch, rows - from, LARGEST_BATCH)?;
        let key = Key {
            task: Task::Rest(layer.clone()),
            probability: score == ScoreKind::Probability,
            batch: fixed,
        };
        let n = fixed.unwrap_or(take);
        let mut data = activations.as_slice()[from * entry..(from + take) * entry].to_vec();
        data.resize(n * entry, 0.0);
        let mut sizes = shape.to_vec();
        sizes[0] = n;
        let of = |row: usize| (row / variants).min(x.len() - 1);
        let mut feed: Vec<(&str, &[usize], &[f32])> = vec![(&layer, &sizes, &data)];
        let (image, image_shape) = (p.input.name.clone(), p.input.shape(n));
        let images = if prepared(p, &key)?.images {
            // The rest looks at the image too, past the layer.
            let parts: Vec<Images> = (from..from + take).map(|r| x.slice(of(r), of(r) + 1)).collect();
            let all = Images::concat(&parts)?;
            p.input.prepare(&all, n)?
        } else {
            vec![]
        };
        if !images.is_empty() {
            feed.push((&image, &image_shape, &images));
        }
        let answer = prepared(p, &key)?.session.run_floats(&feed)?.swap_remove(0);
        let classes: Vec<usize> = (from..from + take).map(|r| of_images[of(r)]).collect();
        out.extend(chosen_scores(p, &key, answer.as_slice(), from, &classes)?);
    }
    Ok(out)
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

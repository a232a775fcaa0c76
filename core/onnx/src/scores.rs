//! From a graph's output array to class scores.

use crate::config::{Activation, OutputSpec};
use crate::graph::Model;
use shiftlens_api::{Error, Result};

/// How the output becomes scores, with all questions settled.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreHead {
    /// Name of the graph's output.
    pub output: String,
    /// What is applied to it; never left to be inferred.
    pub activation: Activation,
    /// One name per score.
    pub classes: Vec<String>,
    /// Columns of the graph's output.
    pub columns: usize,
    /// The target class, where there is an obvious one.
    pub target: Option<usize>,
    /// The tensor before the graph's own final sigmoid, softmax or log-softmax, where it ends in one.
    pub ending: Option<Ending>,
}

/// The sigmoid, softmax or log-softmax that a graph ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `Sigmoid`, `Softmax` or `LogSoftmax`; the last one answers logarithms of probabilities, to which a softmax is
    /// still to be applied.
    pub operator: String,
    /// The tensor that holds the logits.
    pub logits: String,
}

/// Operators that only rename or reshape.
fn passes_through(op: &str) -> bool {
    matches!(op, "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Dropout" | "Cast")
}

/// Looks for the sigmoid, softmax or log-softmax that makes `output`.
pub fn find_ending(model: &Model, output: &str) -> Option<Ending> {
    let mut tensor = output.to_owned();
    loop {
        let (_, node) = model.producer(&tensor)?;
        let source = node.input_name(0)?.to_owned();
        match node.op() {
            "Sigmoid" | "Softmax" | "LogSoftmax" if node.is_standard() => {
                return Some(Ending { operator: node.op().to_owned(), logits: source });
            }
            op if passes_through(op) => tensor = source,
            _ => return None,
        }
    }
}

impl ScoreHead {
    /// Settles the manifest's words about an output of `columns` columns; what was inferred adds sentences.
    ///
    /// # Errors
    /// [`Error::Invalid`] if activation or class names contradict the model, or the target is no class.
    pub fn resolve(
        model: &Model,
        output: &str,
        columns: usize,
        spec: &OutputSpec,
        inferred: &mut Vec<String>,
    ) -> Result<Self> {
        let file = model.name();
        let ending = find_ending(model, output);
        let applied = ending.as_ref().filter(|e| e.operator != "LogSoftmax");
        let activation = match (spec.activation, applied) {
            (Some(said @ (Activation::Sigmoid | Activation::Softmax)), Some(e)) => {
                return Err(Error::Invalid(format!(
                    "{file}: the manifest says activation = \"{}\", but the graph ends in {} already; \
                     set output.activation = \"already\" or leave it out",
                    format!("{said:?}").to_lowercase(),
                    e.operator
                )));
            }
            (Some(said), _) => said,
            (None, Some(e)) => {
                inferred.push(format!("output.activation = \"already\": the graph ends in {}", e.operator));
                Activation::Already
            }
            (None, None) if columns == 1 => {
                inferred.push("output.activation = \"sigmoid\": one column that no sigmoid makes".into());
                Activation::Sigmoid
            }
            (None, None) => {
                inferred.push(format!(
                    "output.activation = \"softmax\": {columns} columns that no softmax makes"
                ));
                Activation::Softmax
            }
        };
        let probability = activation == Activation::Sigmoid
            || activation == Activation::Already && ending.as_ref().is_none_or(|e| e.operator == "Sigmoid");
        let classes = class_names(file, columns, probability, spec, inferred)?;
        let target = match &spec.target {
            Some(name) => Some(classes.iter().position(|c| c == name).ok_or_else(|| {
                Error::Invalid(format!(
                    "{file}: output.target = \"{name}\" is no class; the classes are {classes:?}"
                ))
            })?),
            None => {
                let obvious = match classes.len() {
                    1 => Some(0),
                    2 => Some(1),
                    _ => None,
                };
                if let Some(t) = obvious {
                    inferred.push(format!("output.target = \"{}\", the last class", classes[t]));
                }
                obvious
            }
        };
        Ok(Self { output: output.to_owned(), activation, classes, columns, target, ending })
    }

    /// True where one column p stands for two classes, `1 - p` and `p`.
    pub fn binary(&self) -> bool {
        self.columns == 1 && self.classes.len() == 2
    }

    /// One row of the graph's output as scores, one per class.
    pub fn scores(&self, row: &[f32]) -> Vec<f32> {
        let logistic = |z: f32| (1.0 / (1.0 + (-f64::from(z)).exp())) as f32;
        match self.activation {
            Activation::Sigmoid if self.binary() => vec![logistic(-row[0]), logistic(row[0])],
            Activation::Sigmoid => row.iter().map(|z| logistic(*z)).collect(),
            Activation::Softmax => softmax(row),
            Activation::None | Activation::Already if self.binary() => vec![1.0 - row[0], row[0]],
            Activation::None | Activation::Already => row.to_vec(),
        }
    }

    /// Weights of the output's columns whose sum is the score (or logit) of a class: a unit vector, or its negative
    /// for the first class of a single column. The constant of `1 - p` is left out.
    pub fn column_weights(&self, class: usize) -> Vec<f32> {
        if self.binary() {
            return vec![if class == 0 { -1.0 } else { 1.0 }];
        }
        (0..self.columns).map(|k| if k == class { 1.0 } else { 0.0 }).collect()
    }
}

/// The softmax of one row, in f64.
fn softmax(row: &[f32]) -> Vec<f32> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = row.iter().map(|z| f64::from(z - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| (e / sum) as f32).collect()
}

fn class_names(
    file: &str,
    columns: usize,
    probability: bool,
    spec: &OutputSpec,
    inferred: &mut Vec<String>,
) -> Result<Vec<String>> {
    let names = &spec.classes;
    if names.iter().enumerate().any(|(i, n)| names[..i].contains(n)) {
        return Err(Error::Invalid(format!("{file}: output.classes names a class twice: {names:?}")));
    }
    match (columns, names.len()) {
        (1, 0) => {
            inferred.push("output.classes = [\"score\"]: one column without a name".into());
            Ok(vec!["score".into()])
        }
        (k, 0) => {
            inferred.push(format!(
                "output.classes = \"class 0\" to \"class {}\": {k} columns without names",
                k - 1
            ));
            Ok((0..k).map(|i| format!("class {i}")).collect())
        }
        (1, 2) if probability => {
            inferred.push(format!("one probability p stands for two classes: \"{}\" is 1 - p", names[0]));
            Ok(names.clone())
        }
        (1, 2) => Err(Error::Invalid(format!(
            "{file}: output.classes has two names for one column that is no probability; \
             name one class, or set output.activation"
        ))),
        (k, n) if k == n => Ok(names.clone()),
        (k, n) => Err(Error::Invalid(format!(
            "{file}: output.classes has {n} names ({names:?}), the model's output has {k} column{}; \
             expected one name per column{}",
            if k == 1 { "" } else { "s" },
            if k == 1 { ", or two for a single probability" } else { "" }
        ))),
    }
}

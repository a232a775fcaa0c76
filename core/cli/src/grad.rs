//! `grad`: a model that answers gradients, as a file.

use crate::Done;
use crate::failure::Failure;
use clap::Args;
use shiftlens_api::Error;
use shiftlens_engine::registry::{GradientRequest, Scalar, Seed, differentiate};
use std::path::PathBuf;

/// `shiftlens grad`.
#[derive(Debug, Args)]
pub struct Grad {
    /// The .onnx file
    pub model: PathBuf,
    /// A tensor to differentiate by: the model's input or any inner float tensor, by name (may be given many times)
    #[arg(long = "wrt", value_name = "TENSOR", required = true)]
    pub wrt: Vec<String>,
    /// The class whose score is differentiated; without it the new model gets an input `grad/class`, one class index
    /// for each image
    #[arg(long, value_name = "INDEX", conflicts_with = "weights")]
    pub class: Option<usize>,
    /// Instead of a class, weights for all scores: an input `grad/seed`, [N, K]
    #[arg(long)]
    pub weights: bool,
    /// What is differentiated: `logit` (before a final sigmoid or softmax), `output` (what the model answers), or the
    /// name of a tensor [N, K]
    #[arg(long, value_name = "KIND", default_value = "logit")]
    pub score: String,
    /// The model's output that holds the scores, if it has several
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Sizes of the input without the batch, such as 3,224,224, where the model leaves them open
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    pub size: Option<Vec<usize>>,
    /// Fix the batch, for runtimes that need it [default: it stays as it is]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Where the new model goes
    #[arg(short, long = "out", value_name = "FILE")]
    pub out: PathBuf,
}

/// Writes the new model and says what it answers.
pub fn grad(a: &Grad) -> Done {
    if !a.model.is_file() {
        return Err(Failure::Usage(format!("{}: no such file", a.model.display())));
    }
    let request = GradientRequest {
        wrt: a.wrt.clone(),
        output: a.output.clone(),
        scalar: match a.score.as_str() {
            "logit" => Scalar::Logit,
            "output" => Scalar::Output,
            tensor => Scalar::Tensor(tensor.to_owned()),
        },
        seed: match a.class {
            Some(k) => Seed::Class(k),
            None if a.weights => Seed::Weights,
            None => Seed::Classes,
        },
        batch: a.batch.map(|n| n as usize),
        input_size: a.size.clone(),
        ..GradientRequest::default()
    };
    let graph = differentiate(&a.model, &request).map_err(|e| match e {
        // The file, a tensor or a class that cannot be used: nothing was made.
        Error::Invalid(_) | Error::Unsupported(_) => Failure::Usage(e.to_string()),
        e => Failure::Work(e),
    })?;
    let bytes = graph.model.to_bytes()?;
    let work = |e: std::io::Error| Failure::Work(Error::io(&a.out, e));
    // Beside its place first: a file that stands there is whole.
    let part = a.out.with_extension("onnx.part");
    std::fs::write(&part, &bytes).map_err(work)?;
    std::fs::rename(&part, &a.out).map_err(work)?;
    println!("{}: {} bytes", a.out.display(), bytes.len());
    for port in graph.model.inputs() {
        println!("  input   {:<12} {}", shape(&port.dims), port.name);
    }
    for port in graph.model.outputs() {
        println!("  output  {:<12} {}", shape(&port.dims), port.name);
    }
    Ok(())
}

fn shape(dims: &Option<Vec<shiftlens_engine::registry::Dim>>) -> String {
    dims.as_deref().map_or_else(|| "?".into(), shiftlens_engine::registry::show_dims)
}

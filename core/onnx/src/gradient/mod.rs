//! Exact gradients of ONNX classifiers, made by editing the graph.
//!
//! From a model, a scalar and some tensors, [`GradientGraph::build`] writes a second model that also answers those
//! tensors and the gradients of the scalar with respect to them. It consists of standard operators only and keeps
//! the batch free, so that it runs wherever the model itself runs: on ONNX Runtime, on tract, or anywhere else.
//!
//! 1. [`probe`](mod@probe): the model runs on two small batches of grey images; all shapes, and all values that do not
//!    depend on the image, are then known.
//! 2. [`backward`]: from the scalar back to the asked tensors and no further, one [rule](rules) per operator.
//! 3. The scalar is `sum_k s[n, k] score[n, k]`; what s is, a [`Seed`] says: one class for all images, a class for
//!    each, or any weights.
//!
//! # Example
//! The gradient of `logit = mean(x)^2` with respect to a 1 x 2 image and to the mean:
//!
//! ```
//! use shiftlens_onnx::backend::Session;
//! use shiftlens_onnx::gradient::{GradientGraph, Request, Seed};
//! use shiftlens_onnx::graph::{Model, value_info};
//! use shiftlens_onnx::proto;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |op: &str, inputs: &[&str], output: &str| proto::NodeProto {
//!     op_type: Some(op.into()),
//!     input: inputs.iter().map(|s| s.to_string()).collect(),
//!     output: vec![output.into()],
//!     ..Default::default()
//! };
//! let graph = proto::GraphProto {
//!     node: vec![
//!         node("GlobalAveragePool", &["image"], "mean"),
//!         node("Mul", &["mean", "mean"], "square"),
//!         node("Flatten", &["square"], "logit"),
//!     ],
//!     input: vec![value_info("image", proto::data_type::FLOAT, Some(&[1, 1, 1, 2]))],
//!     output: vec![value_info("logit", proto::data_type::FLOAT, Some(&[1, 1]))],
//!     ..Default::default()
//! };
//! let file = prost::Message::encode_to_vec(&proto::ModelProto {
//!     ir_version: Some(8),
//!     opset_import: vec![proto::OperatorSetIdProto { domain: None, version: Some(17) }],
//!     graph: Some(graph),
//!     ..Default::default()
//! });
//!
//! let model = Model::from_bytes(&file, "a small graph", None)?;
//! let wrt = vec!["image".into(), "mean".into()];
//! let graph = GradientGraph::build(&model, &Request { wrt, seed: Seed::Class(0), ..Request::default() })?;
//! assert_eq!(graph.outputs, ["logit", "mean", "grad/image", "grad/mean"]);
//!
//! let mut session = Session::new(&graph.model.to_bytes()?, &graph.outputs, None, "gradients")?;
//! let answer = session.run_floats(&[("image", &[1, 1, 1, 2], &[1.0, 5.0])])?;
//! assert_eq!(answer[0].as_slice(), [9.0]); // logit = 3^2
//! assert_eq!(answer[2].as_slice(), [3.0, 3.0]); // 2 * 3 / 2 for each pixel
//! assert_eq!(answer[3].as_slice(), [6.0]); // 2 * 3
//! # Ok(())
//! # }
//! ```

mod attributes;
pub mod backward;
pub mod build;
pub mod emit;
mod fold;
pub mod layers;
pub mod probe;
pub mod prune;
pub mod rules;
pub(crate) mod session;
pub mod size;

pub use build::{GRADIENT_PREFIX, GradientGraph, Request, SEED_CLASSES, SEED_WEIGHTS, Scalar, Seed};

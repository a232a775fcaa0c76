//! ONNX graphs: read, normalise, run and differentiate.
//!
//! Everything that Shiftlens does with `.onnx` files goes through this crate:
//!
//! * [`OnnxPredictor`]: the classifier that is explained, with exact gradients of its scores with respect to any of its
//!   layers and to the image ([`gradient`]);
//! * [`OnnxGenerator`] and [`OnnxEncoder`]: a generator and an encoder from files;
//! * [`OnnxFeatures`]: activations of any layers, and their exact pullback to the image;
//! * [`randomise`]: the same model with random weights in some of its layers;
//! * [`graph`]: reading and editing models, [`proto`]: the file format;
//! * [`backend`]: ONNX Runtime where its library is found, else the embedded tract.
//!
//! A manifest says what it wants and leaves the rest to the model: axis order, size, channels, batch and final
//! activation are read from the file where they can be. `inferred()` lists in plain sentences what was; where manifest
//! and model contradict each other, the error names both.
//!
//! # Example
//! A model that answers the mean brightness of a 1 x 2 image, made in memory, and the gradient of its logit:
//!
//! ```
//! use shiftlens_api::{GradientRequest, Images, Predictor};
//! use shiftlens_onnx::{OnnxPredictor, PredictorConfig, graph::value_info, proto};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |op: &str, input: &str, output: &str| proto::NodeProto {
//!     op_type: Some(op.into()),
//!     input: vec![input.into()],
//!     output: vec![output.into()],
//!     ..Default::default()
//! };
//! let model = proto::ModelProto {
//!     ir_version: Some(8),
//!     opset_import: vec![proto::OperatorSetIdProto { domain: None, version: Some(17) }],
//!     graph: Some(proto::GraphProto {
//!         node: vec![node("GlobalAveragePool", "image", "mean"), node("Flatten", "mean", "logit")],
//!         input: vec![value_info("image", proto::data_type::FLOAT, Some(&[1, 1, 1, 2]))],
//!         output: vec![value_info("logit", proto::data_type::FLOAT, Some(&[1, 1]))],
//!         ..Default::default()
//!     }),
//!     ..Default::default()
//! };
//! let path = std::env::temp_dir().join(format!("shiftlens-doc-{}.onnx", std::process::id()));
//! std::fs::write(&path, prost::Message::encode_to_vec(&model))?;
//!
//! let mut f = OnnxPredictor::load(&PredictorConfig { path: path.clone(), ..Default::default() })?;
//! let x = Images::new([1, 1, 1, 2], vec![0.25, 0.75])?;
//! let p = f.predict(&x)?.row(0)[0]; // no activation in the graph and one column: a sigmoid is applied
//! assert!((p - 1.0 / (1.0 + (-0.5f32).exp())).abs() < 1e-6);
//!
//! let request = GradientRequest { input_gradient: true, classes: vec![0], ..Default::default() };
//! let answer = f.gradients().expect("a white box").gradients(&x, &request)?;
//! assert_eq!(answer.input_gradient.expect("asked for").as_slice(), [0.5, 0.5]);
//! # std::fs::remove_file(&path)?;
//! # Ok(())
//! # }
//! ```

pub mod backend;
pub mod config;
pub mod constant;
mod declared;
mod embedded;
mod encoder;
mod features;
mod generator;
pub mod gradient;
pub mod graph;
pub mod image_input;
mod predictor;
pub mod proto;
pub mod randomise;
pub mod scores;

pub use backend::{Choice, backend_name, backend_notes};
pub use config::{
    Activation, EncoderConfig, FeaturesConfig, GeneratorConfig, InputSpec, Layout, OutputSpec,
    PredictorConfig,
};
pub use declared::Declared;
pub use encoder::OnnxEncoder;
pub use features::OnnxFeatures;
pub use generator::{OnnxGenerator, standard_normal};
pub use predictor::OnnxPredictor;

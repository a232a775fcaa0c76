//! ONNX graphs: read, edit, differentiate, run.

pub mod backend;
pub mod config;
pub mod constant;
mod encoder;
mod generator;
pub mod gradient;
pub mod graph;
pub mod image_input;
mod predictor;
pub mod proto;
pub mod scores;

pub use backend::{Choice, backend_name, backend_notes};
pub use config::{
    Activation, EncoderConfig, GeneratorConfig, InputSpec, Layout, OutputSpec, PredictorConfig,
};
pub use encoder::OnnxEncoder;
pub use generator::{OnnxGenerator, standard_normal};
pub use predictor::OnnxPredictor;

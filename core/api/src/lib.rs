//! Domain types, traits and errors shared by every part of Shiftlens.
//!
//! This crate knows no tensor library: arrays are plain row-major `f32` buffers with checked shapes, so that the
//! same types serve candle, ONNX Runtime, linfa and plugins behind the C ABI.
//!
//! * [`Images`], [`LatentCodes`], [`Scores`], [`Direction`], [`Shift`], [`ShiftSeries`], [`Heatmap`]: what flows.
//! * [`Generator`], [`Encoder`], [`Predictor`], [`Gradients`], [`DirectionFinder`], [`Explainer`]: who does it.
//! * [`FeatureNetwork`]: a differentiable network whose inner layers are compared.
//! * [`record`]: what a run leaves on disk.
//! * [`resize`]: the one resampling used everywhere.
//! * [`variables`]: environment variables in the paths of manifests.

mod array;
mod error;
pub mod explain;
mod features;
pub mod record;
pub mod resize;
mod shift;
mod traits;
pub mod variables;

pub use array::{Direction, Heatmap, Images, LatentCodes, Scores, Targets, Tensor};
pub use error::{Error, Result};
pub use explain::{Calibration, Explanation, ReachedLevel, ShiftSeries};
pub use features::{FeatureInfo, FeatureLayer, FeatureNetwork};
pub use shift::Shift;
pub use traits::{
    Context, DirectionFinder, Encoder, Event, Explainer, Generator, GeneratorInfo, GradientOutput,
    GradientRequest, Gradients, LatentSpace, LayerInfo, Level, Monitor, Predictor, PredictorInfo, ScoreKind,
    Silent, Target,
};

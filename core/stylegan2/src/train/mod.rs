//! Training from a manifest: the generator by adversarial training, the encoder on pairs (w, G(w)).
//!
//! Everything random is drawn from streams named by the seed and the step, and every kernel is deterministic, so a run
//! that was stopped and resumed from a checkpoint gives bit for bit the weights of an undisturbed one (on the CPU).

mod adam;
pub mod augment;
mod checkpoint;
mod data;
pub(crate) mod encoder;
mod gan;
mod loader;
mod manifest;
mod path_length;
mod projected;
mod session;
mod sheet;

pub use adam::Adam;
pub use data::{DataSection, Dataset};
pub(crate) use encoder::discriminator_of;
pub use encoder::{
    DiscriminatorLoss, EncoderManifest, EncoderReport, EncoderStart, EncoderTraining, FeatureLoss,
    train_encoder,
};
pub use gan::{
    AugmentSection, DiscriminatorSection, Evaluate, GanTraining, GeneratorManifest, GeneratorReport, Parts,
    QualitySection, ReconstructionSection, Saved, StartSection, train_generator, train_generator_with,
};
pub use manifest::OutputSection;
pub use path_length::{PathLength, path_directions, path_lengths};
pub use projected::{FeatureSection, Mixing, Projected, ProjectedConfig, Seen};
pub use sheet::write_sheet;

use candle_core::{Result, Tensor};

/// A scalar tensor's value.
fn scalar(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.to_scalar::<f32>()?))
}

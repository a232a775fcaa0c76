//! The JSON Schemas of manifests, which editors complete and check with.
//!
//! They come from what reads manifests: of a study the keys are those that the parser asks for
//! (`outline.rs`), the kinds those of the registry's tables, and parameters the types that decode them; of a
//! training they are the manifest's type. A schema knows what stands in a file and nothing else: that a plugin is one of
//! `[plugins]`, or that a file is there, is for `shiftlens check`.

mod study;
mod texts;
mod tidy;

#[cfg(test)]
mod checker;
#[cfg(test)]
mod tests;

pub use study::study;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use shiftlens_onnx::InputSpec;
use shiftlens_stylegan2::train::{EncoderManifest, GeneratorManifest};

/// The schema of `shiftlens train generator`'s manifest.
pub fn train_generator() -> Value {
    training::<GeneratorManifest>()
}

/// The schema of `shiftlens train encoder`'s manifest.
pub fn train_encoder() -> Value {
    training::<EncoderManifest>()
}

/// Draft 7 is what editors of TOML know.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().into_generator()
}

fn training<M: JsonSchema>() -> Value {
    let mut generator = generator();
    // The trainer leaves it to whoever opens the network what `input` may say: that is a predictor's.
    let input = generator.subschema_for::<InputSpec>().to_value();
    let root = M::json_schema(&mut generator);
    for network in ["FeatureSection", "FeatureLoss"] {
        let definition = generator.definitions_mut().get_mut(network);
        if let Some(Value::Object(key)) = definition.and_then(|d| d.pointer_mut("/properties/input")) {
            key.extend(input.as_object().cloned().into_iter().flatten());
        }
    }
    finish(generator, root)
}

/// The schema of a whole document.
fn finish(mut generator: SchemaGenerator, mut root: Schema) -> Value {
    if let Some(draft) = generator.settings().meta_schema.clone() {
        root.insert("$schema".into(), json!(draft));
    }
    root.insert("definitions".into(), Value::Object(generator.take_definitions(false)));
    // First, since it puts references beside other keywords, which draft 7 wants apart.
    tidy::tidy_object(root.ensure_object());
    for transform in generator.transforms_mut() {
        transform.transform(&mut root);
    }
    root.to_value()
}

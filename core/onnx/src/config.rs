//! What a study's manifest says about a model. Everything but the path may be left out; what is left out is read from
//! the model where it can be.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use shiftlens_api::resize::Filter;
use std::path::PathBuf;

/// The black box f as an ONNX file.
///
/// ```
/// let config: shiftlens_onnx::PredictorConfig = serde_json::from_str(
///     r#"{ "path": "classifier.onnx",
///          "input": { "layout": "nchw", "size": [128, 128], "channels": 1, "mean": [0.5], "std": [0.25] },
///          "output": { "activation": "sigmoid", "classes": ["healthy", "osteoarthritis"] } }"#,
/// )?;
/// assert_eq!(config.output.classes.len(), 2);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PredictorConfig {
    /// The `.onnx` file.
    pub path: PathBuf,
    /// Pin: the file's sha256 in hexadecimal, checked before loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the model wants to be fed.
    #[serde(default)]
    pub input: InputSpec,
    /// What the model answers.
    #[serde(default)]
    pub output: OutputSpec,
    /// Threads of one run; all cores where it is left out. The embedded backend takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Images per run for models whose batch is free; 32 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
}

/// An encoder E as an ONNX file: images to latent codes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EncoderConfig {
    /// The `.onnx` file.
    pub path: PathBuf,
    /// Pin: the file's sha256 in hexadecimal, checked before loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the model wants to be fed.
    #[serde(default)]
    pub input: InputSpec,
    /// Name of the output that holds the codes, `[N, D]` or `[N, L, D]`; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Threads of one run; all cores where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Images per run for models whose batch is free; 32 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
}

/// A generator G as an ONNX file: latent codes to images.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GeneratorConfig {
    /// The `.onnx` file.
    pub path: PathBuf,
    /// Pin: the file's sha256 in hexadecimal, checked before loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// D: size of one latent code; needed where the model does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_dim: Option<usize>,
    /// Values of the model's output that stand for black and white; -1 and 1 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// Axis order of the output; read from its shape where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Name of the output that holds the images; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Threads of one run; all cores where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Codes per run for models whose batch is free; 16 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
}

/// A feature network φ as an ONNX file: images to the activations of some layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FeaturesConfig {
    /// The `.onnx` file.
    pub path: PathBuf,
    /// Pin: the file's sha256 in hexadecimal, checked before loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Tensors to answer, maps `[N, K, h, w]` or vectors `[N, K]`. Where it is left out: the penultimate layer, which is
    /// what the last linear layer before the scores takes, as a vector (of a map, the mean of each channel).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Name of the output that holds the scores, for the penultimate layer of a model that has several outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What the model wants to be fed. `size` is for models that leave it open and want another than the images have.
    #[serde(default)]
    pub input: InputSpec,
    /// By how much images are enlarged before a model that leaves its size open sees them; 1 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
    /// Threads of one run; all cores where it is left out. The embedded backend takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// Axis order of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[N, C, H, W]`, as PyTorch has it.
    Nchw,
    /// `[N, H, W, C]`, as TensorFlow has it.
    Nhwc,
}

/// How images become a model's input: `(x * scale - mean) / std` with x in [0, 1].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InputSpec {
    /// Axis order. Read from the model's input shape where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// `[H, W]` in pixels; images are resized to it. Read from the model, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// 1 (grey) or 3 (RGB); images are converted. Read from the model, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [1, 3]))]
    pub channels: Option<usize>,
    /// What values in [0, 1] are multiplied by first, 255 for models that take bytes; 1 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Subtracted after scaling: one value, or one per channel; 0 where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f32>,
    /// Divided by at last: one value, or one per channel; 1 where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f32>,
    /// How to resize: as Pillow does, as OpenCV does, or to the nearest pixel.
    #[serde(default)]
    #[schemars(schema_with = "filter")]
    pub resize: Filter,
    /// Name of the input; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The names of [`Filter`], which knows nothing of schemas.
fn filter(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["bilinear", "bilinear-plain", "nearest"] })
}

/// What turns the graph's output into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Nothing: the output is the score, on any scale (regression).
    None,
    /// The logistic function on each column.
    Sigmoid,
    /// The softmax over the columns.
    Softmax,
    /// Nothing: the graph's output is probabilities already.
    Already,
}

/// How the model's output is to be read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutputSpec {
    /// What must be applied to the graph's output; where it is left out, nothing if the graph ends in a sigmoid or
    /// softmax, else the sigmoid for one column and the softmax for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// One name per score. A single sigmoid column with two names becomes two scores, `1 - p` and `p`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The class that explanations are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Name of the output; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_filter() {
        let all = [Filter::Bilinear, Filter::BilinearPlain, Filter::Nearest];
        // One more filter does not compile here.
        for f in all {
            match f {
                Filter::Bilinear | Filter::BilinearPlain | Filter::Nearest => {}
            }
        }
        let schema = filter(&mut SchemaGenerator::default());
        assert_eq!(schema.get("enum"), Some(&serde_json::to_value(all).unwrap()));
    }
}

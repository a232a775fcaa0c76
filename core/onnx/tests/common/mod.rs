//! Reference classifiers with the numbers that PyTorch gives for them.
//!
//! A case is `<name>.onnx`, `<name>.json` (which tensor is the target layer, which classes) and `<name>.safetensors`
//! (input, output, activations and gradients of each class). A few small cases lie in `tests/fixtures`; the full set is
//! read from `../shared/golden/cam` beside the repository, where that folder exists.

#![allow(dead_code, reason = "not every test program uses every helper")]

pub mod build;

use safetensors::SafeTensors;
use shiftlens_api::{GradientRequest, Images, Predictor, ScoreKind};
use shiftlens_onnx::{Activation, InputSpec, Layout, OnnxPredictor, OutputSpec, PredictorConfig};
use std::path::{Path, PathBuf};

/// The folder of the full set.
pub fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/cam")
}

/// The folder of the small cases.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// An array of a case.
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Vec<f32>,
}

/// A case.
pub struct Case {
    /// The model.
    pub onnx: PathBuf,
    bytes: Vec<u8>,
    facts: serde_json::Value,
    export: &'static str,
}

impl Case {
    /// Reads a case; `file` is `<name>.onnx` or `<name>.dynamo.onnx`. `None` where it does not exist.
    pub fn read(folder: &Path, file: &str) -> Option<Self> {
        let export = if file.contains(".dynamo") { "dynamo" } else { "torchscript" };
        let stem = file.split('.').next()?;
        let bytes = std::fs::read(folder.join(format!("{stem}.safetensors"))).ok()?;
        let facts = std::fs::read_to_string(folder.join(format!("{stem}.json"))).ok()?;
        Some(Self { onnx: folder.join(file), bytes, facts: serde_json::from_str(&facts).unwrap(), export })
    }

    /// An array by name.
    pub fn array(&self, name: &str) -> Option<Array> {
        let all = SafeTensors::deserialize(&self.bytes).unwrap();
        let t = all.tensor(name).ok()?;
        let data = t.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        Some(Array { shape: t.shape().to_vec(), data })
    }

    /// Name of the target layer's tensor.
    pub fn layer(&self) -> String {
        self.facts["exports"][self.export]["target_tensor"].as_str().unwrap().to_owned()
    }

    /// `logits`, `sigmoid`, `softmax` or `regression`.
    pub fn kind(&self) -> &str {
        self.facts["output_kind"].as_str().unwrap()
    }

    /// The classes that gradients are stored for.
    pub fn classes(&self) -> Vec<usize> {
        self.facts["classes"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as usize).collect()
    }

    fn nhwc(&self) -> bool {
        self.facts["input_layout"].as_str() == Some("NHWC")
    }

    /// The input as images in [0, 1], and the scale and mean that lead back from them.
    pub fn images(&self) -> (Images, f32, f32) {
        let x = self.array("input").unwrap();
        let (low, high) = x.data.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let shape = if self.nhwc() {
            [x.shape[0], x.shape[3], x.shape[1], x.shape[2]]
        } else {
            [0, 1, 2, 3].map(|i| x.shape[i])
        };
        let data = self.to_nchw(&x).iter().map(|v| (v - low) / (high - low)).collect();
        (Images::new(shape, data).unwrap(), high - low, -low)
    }

    /// An array in the input's layout as `[N, C, H, W]`.
    pub fn to_nchw(&self, x: &Array) -> Vec<f32> {
        if !self.nhwc() {
            return x.data.clone();
        }
        let [n, h, w, c] = [0, 1, 2, 3].map(|i| x.shape[i]);
        let mut out = vec![0.0; x.data.len()];
        for i in 0..n {
            for p in 0..h * w {
                for k in 0..c {
                    out[(i * c + k) * h * w + p] = x.data[(i * h * w + p) * c + k];
                }
            }
        }
        out
    }

    /// A predictor that answers the graph's own output.
    pub fn predictor(&self) -> OnnxPredictor {
        let (_, scale, mean) = self.images();
        let raw = matches!(self.kind(), "logits" | "regression");
        OnnxPredictor::load(&PredictorConfig {
            path: self.onnx.clone(),
            input: InputSpec { scale: Some(scale), mean: vec![mean], ..Default::default() },
            output: OutputSpec { activation: raw.then_some(Activation::None), ..Default::default() },
            threads: Some(1),
            ..Default::default()
        })
        .unwrap_or_else(|e| panic!("{}: {e}", self.onnx.display()))
    }

    /// The layout that the model is said to have.
    pub fn layout(&self) -> Layout {
        if self.nhwc() { Layout::Nhwc } else { Layout::Nchw }
    }
}

/// Largest difference relative to the largest expected value.
pub fn relative_max(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let top = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
    found.iter().zip(expected).fold(0f32, |a, (f, e)| a.max((f - e).abs())) / top.max(1e-12)
}

/// `|found - expected| / |expected|`.
pub fn relative_l2(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let norm = |it: &mut dyn Iterator<Item = f64>| it.map(|v| v * v).sum::<f64>().sqrt();
    let d = norm(&mut found.iter().zip(expected).map(|(f, e)| f64::from(f - e)));
    (d / norm(&mut expected.iter().map(|e| f64::from(*e))).max(1e-30)) as f32
}

/// Images for which a value before an activation lies so close to a kink (HardSwish at -3: -2.9999983, where the
/// slope jumps) that rounding decides on which side it is. Their input gradients are compared with nothing.
const KINKS: &[(&str, usize)] = &[("mobilenetv3_tiny.onnx", 0)];

/// Errors of one case: output, activation, gradient of the activation, gradient of the input.
#[derive(Debug, Default, Clone, Copy)]
pub struct Errors {
    pub output: f32,
    pub activation: f32,
    pub gradient: f32,
    pub input: f32,
}

/// Compares everything that a case stores.
pub fn compare(case: &Case) -> shiftlens_api::Result<Errors> {
    let mut p = case.predictor();
    let (x, scale, _) = case.images();
    let mut e = Errors::default();
    let scores = p.predict(&x)?;
    let expected = case.array("output").unwrap();
    e.output = relative_max(scores.as_slice(), &expected.data);
    let activation = case.array("act").unwrap();
    let raw = matches!(case.kind(), "logits" | "regression");
    let kinds: &[(ScoreKind, &str, &str)] = if raw {
        &[(ScoreKind::Logit, "", "output")]
    } else {
        &[(ScoreKind::Probability, "", "output"), (ScoreKind::Logit, "_logit", "logits")]
    };
    for k in case.classes() {
        for (score, suffix, values) in kinds {
            let request = GradientRequest {
                layers: vec![case.layer()],
                layer_gradients: true,
                input_gradient: true,
                classes: vec![k],
                score: *score,
            };
            let g = p.gradients().unwrap().gradients(&x, &request)?;
            let columns = case.array(values).unwrap();
            let column: Vec<f32> = columns.data.chunks_exact(columns.shape[1]).map(|r| r[k]).collect();
            e.output = e.output.max(relative_max(&g.scores, &column));
            assert_eq!(g.activations[0].shape(), activation.shape);
            e.activation = e.activation.max(relative_max(g.activations[0].as_slice(), &activation.data));
            let expected = case.array(&format!("c{k}.grad_act{suffix}")).unwrap();
            e.gradient = e.gradient.max(relative_max(g.gradients[0].as_slice(), &expected.data));
            let expected = case.array(&format!("c{k}.grad_input{suffix}")).unwrap();
            let found: Vec<f32> =
                g.input_gradient.as_ref().unwrap().as_slice().iter().map(|v| v / scale).collect();
            let expected = case.to_nchw(&expected);
            let n = found.len() / x.len();
            for i in 0..x.len() {
                if KINKS.iter().any(|(name, image)| *image == i && case.onnx.ends_with(name)) {
                    continue;
                }
                let part = i * n..(i + 1) * n;
                e.input = e.input.max(relative_l2(&found[part.clone()], &expected[part]));
            }
        }
    }
    Ok(e)
}

/// Checks all cases of a folder that are in `files`; prints the errors.
pub fn check_all(folder: &Path, files: &[&str]) {
    let mut wrong = Vec::new();
    for file in files {
        let Some(case) = Case::read(folder, file) else {
            println!("skipped: {} is not there", folder.join(file).display());
            continue;
        };
        match compare(&case) {
            Err(e) => wrong.push(format!("{file}: {e}")),
            Ok(e) => {
                println!("{file}: {e:?}");
                if !(e.output < 1e-4 && e.activation < 1e-4 && e.gradient < 1e-4 && e.input < 1e-3) {
                    wrong.push(format!("{file}: {e:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The small cases.
pub const SMALL: &[&str] = &[
    "resnet_tiny.onnx",
    "densenet_tiny.onnx",
    "nhwc_input.onnx",
    "regression.onnx",
    "sigmoid_multilabel.onnx",
    "efficientnet_tiny.onnx",
];

/// The full set.
pub const ALL: &[&str] = &[
    "resnet_tiny.onnx",
    "resnet_tiny.dynamo.onnx",
    "densenet_tiny.onnx",
    "vgg_tiny.onnx",
    "mobilenetv2_tiny.onnx",
    "mobilenetv3_tiny.onnx",
    "efficientnet_tiny.onnx",
    "inception_tiny.onnx",
    "softmax_output.onnx",
    "sigmoid_multilabel.onnx",
    "regression.onnx",
    "nhwc_input.onnx",
    "convnext_tiny.onnx",
    "convnext_tiny.dynamo.onnx",
    "vit_tiny.onnx",
    "vit_tiny.dynamo.onnx",
    "unet_cls.onnx",
];

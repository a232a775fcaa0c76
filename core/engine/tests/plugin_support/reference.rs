//! Reference classifiers with pytorch-grad-cam's maps, and the Grad-CAM plugin compared with them.

use super::gradcam;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use shiftlens_api::{
    GradientOutput, GradientRequest, Gradients, Images, LayerInfo, Predictor, PredictorInfo, Result,
    ScoreKind, Scores, Tensor,
};
use shiftlens_onnx::{Activation, InputSpec, OnnxPredictor, OutputSpec, PredictorConfig};
use std::path::{Path, PathBuf};

/// A reference case: a network, images, and pytorch-grad-cam's maps. The small ones are committed; the full set lies
/// beside the repository, where it is there.
struct Case {
    name: String,
    export: &'static str,
    onnx: PathBuf,
    arrays: Vec<u8>,
    maps: Vec<u8>,
    prefix: String,
    facts: Value,
}

fn read(bytes: &[u8], name: &str) -> Option<Tensor> {
    let all = SafeTensors::deserialize(bytes).unwrap();
    let t = all.tensor(name).ok()?;
    let values = t.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    Some(Tensor::new(t.shape().to_vec(), values).unwrap())
}

impl Case {
    fn all(small_only: bool) -> Vec<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let maps = std::fs::read(here.join("tests/fixtures/cam/maps.safetensors")).unwrap();
        let small = here.join("../onnx/tests/fixtures");
        let full = here.join("../../../shared/golden/cam");
        let names = [
            "resnet_tiny",
            "densenet_tiny",
            "nhwc_input",
            "regression",
            "sigmoid_multilabel",
            "efficientnet_tiny",
        ];
        let mut cases: Vec<_> =
            names.iter().map(|name| Self::read(&small, name, Some(maps.clone()))).collect();
        if small_only {
            return cases;
        }
        if full.exists() {
            let more = [
                "convnext_tiny",
                "inception_tiny",
                "mobilenetv2_tiny",
                "mobilenetv3_tiny",
                "softmax_output",
                "unet_cls",
                "vgg_tiny",
                "vit_tiny",
                "resnet_tiny.dynamo",
                "convnext_tiny.dynamo",
                "vit_tiny.dynamo",
            ];
            cases.extend(more.iter().map(|name| Self::read(&full, name, None)));
        } else {
            println!("skipped: {} is not there", full.display());
        }
        cases
    }

    fn read(folder: &Path, name: &str, maps: Option<Vec<u8>>) -> Self {
        // Of some networks there is a second graph, by PyTorch's newer exporter.
        let (stem, export) = match name.strip_suffix(".dynamo") {
            Some(stem) => (stem, "dynamo"),
            None => (name, "torchscript"),
        };
        let file = |e: &str| std::fs::read(folder.join(format!("{stem}.{e}"))).unwrap();
        let arrays = file("safetensors");
        let prefix = if maps.is_some() { format!("{name}.") } else { String::new() };
        Self {
            name: name.into(),
            export,
            onnx: folder.join(format!("{name}.onnx")),
            maps: maps.unwrap_or_else(|| arrays.clone()),
            arrays,
            prefix,
            facts: serde_json::from_slice(&file("json")).unwrap(),
        }
    }

    fn map(&self, name: &str) -> Option<Tensor> {
        read(&self.maps, &format!("{}{name}", self.prefix))
    }

    fn class(&self) -> usize {
        self.facts["classes"][0].as_u64().unwrap() as usize
    }

    fn layer(&self) -> String {
        self.facts["exports"][self.export]["target_tensor"].as_str().unwrap().into()
    }

    /// The first image that the network was fed, `[1, C, H, W]`, in its own units.
    fn input(&self) -> ([usize; 4], Vec<f32>) {
        let x = read(&self.arrays, "input").unwrap();
        let &[_, a, b, c] = x.shape() else { panic!("{:?}", x.shape()) };
        let first = &x.as_slice()[..a * b * c];
        match self.facts["input_layout"].as_str() {
            Some("NHWC") => {
                let planes = (0..c).flat_map(|k| first.iter().skip(k).step_by(c).copied()).collect();
                ([1, c, a, b], planes)
            }
            _ => ([1, a, b, c], first.to_vec()),
        }
    }
}

/// The network, for masks that multiply its input as it is, as pytorch-grad-cam's do. A plugin's masks multiply an
/// image in [0, 1], whose affine map is the input; the masked image is divided by the image here, which gives the
/// mask back.
struct Raw {
    f: OnnxPredictor,
    /// The one image that is explained, and the network's input for it.
    image: Images,
    input: Vec<f32>,
    low: f32,
    span: f32,
}

impl Raw {
    fn new(case: &Case) -> Self {
        let (shape, input) = case.input();
        // Room on both sides: no value of the image is 0, and the input 0 of a black mask is in range.
        let (min, max) = input.iter().fold((0f32, 0f32), |(a, b), v| (a.min(*v), b.max(*v)));
        let (low, span) = (min - 0.1 * (max - min), 1.2 * (max - min));
        let image = Images::new(shape, input.iter().map(|v| (v - low) / span).collect()).unwrap();
        let answers_itself = matches!(case.facts["output_kind"].as_str(), Some("logits" | "regression"));
        let f = OnnxPredictor::load(&PredictorConfig {
            path: case.onnx.clone(),
            input: InputSpec { scale: Some(span), mean: vec![-low], ..Default::default() },
            output: OutputSpec {
                activation: answers_itself.then_some(Activation::None),
                ..Default::default()
            },
            threads: Some(1),
            ..Default::default()
        });
        Self { f: f.unwrap_or_else(|e| panic!("{}: {e}", case.name)), image, input, low, span }
    }

    fn fed(&self, x: &Images) -> Images {
        let (low, span) = (self.low, self.span);
        let one = |(v, (image, input)): (&f32, (&f32, &f32))| (v / image * input - low) / span;
        let pairs = || self.image.as_slice().iter().zip(&self.input);
        let values = (0..x.len()).flat_map(|i| x.image(i).iter().zip(pairs()).map(one)).collect();
        Images::new(x.shape(), values).unwrap()
    }
}

impl Predictor for Raw {
    fn info(&self) -> PredictorInfo {
        self.f.info()
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let x = self.fed(x);
        self.f.predict(&x)
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        Some(self)
    }
}

impl Gradients for Raw {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        self.f.layers()
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        let x = self.fed(x);
        Gradients::gradients(&mut self.f, &x, request)
    }
    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        let x = self.fed(x);
        self.f.scores_with(&x, layer, activations, classes, score)
    }
}

/// Explains the first image of every case (the small ones only, if `small`) by `methods`, (name, name of the array, up to the sign), and compares.
pub fn compare(methods: &[(&str, &str, bool)], small: bool) {
    for case in Case::all(small) {
        let (mut f, class) = (Raw::new(&case), case.class());
        let x = f.image.clone();
        for (method, key, sign_free) in methods {
            for (suffix, score) in [("", "probability"), ("_logit", "logit")] {
                let key =
                    if *key == "eigencam" { "eigencam".into() } else { format!("c{class}.{key}{suffix}") };
                let Some(golden) = case.map(&key) else { continue };
                // A network that answers logits has no other scalar.
                let params = json!({ "method": method, "layer": case.layer(), "score": score });
                let found = gradcam(&mut f, &x, class, params)
                    .unwrap_or_else(|e| panic!("{} {method}: {e}", case.name));
                let (map, _) = &found[0];
                let golden = &golden.as_slice()[..map.as_slice().len()];
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let map = map.as_slice();
                let cosine = dot(map, golden) / (dot(map, map) * dot(golden, golden)).sqrt();
                let sign = if *sign_free { cosine.signum() as f32 } else { 1.0 };
                let largest = golden.iter().fold(0f32, |a, v| a.max(v.abs()));
                let worst =
                    map.iter().zip(golden).fold(0f32, |a, (m, g)| a.max((sign * m - g).abs())) / largest;
                println!("{} {key} {method}: {worst:.1e}, 1 - cosine {:.1e}", case.name, 1.0 - cosine.abs());
                assert!(
                    f64::from(sign) * cosine > 0.9999 && worst < 1e-4,
                    "{} {key}: {worst} {cosine}",
                    case.name
                );
            }
        }
    }
}

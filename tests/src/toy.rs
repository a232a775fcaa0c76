//! A study whose truth is known in closed form.
//!
//! Images are 16x16 and fall into four quadrants of 8x8 pixels. With y in [-1, 1] for a grey value in [0, 1]:
//!
//! * G: four standard normal factors; quadrant k has `y_k = tanh(0.4 w_k)`.
//! * E: its exact inverse on the quadrants' means, `w_k = atanh(y_k) / 0.4`.
//! * f: a convolution with two channels, `a_0 = relu(x)` and `a_1 = relu(1 - x)`, then the logit
//!   `6 mean(a_0) - 6 mean(a_1) = 6 y_0`, means over the first quadrant alone.
//!
//! So the true direction is the first axis, no other quadrant may change along it, Grad-CAM is `(6 / 256) y` at every
//! pixel, and HiResCAM is `(6 / 64) y` in the first quadrant and 0 elsewhere.

use crate::graph::Graph;
use crate::program::{Answer, shiftlens};
use image::{GrayImage, Luma};
use std::path::{Path, PathBuf};

/// Pixels along an image's side.
pub const SIDE: usize = 16;
/// Pixels in one quadrant.
pub const QUADRANT: usize = 64;
const PIXELS: usize = SIDE * SIDE;
const FACTORS: usize = 4;
/// How fast a quadrant saturates with its factor.
pub const GAIN: f32 = 0.4;
/// The classifier's logit per unit of y_0.
pub const SLOPE: f32 = 6.0;

/// Quadrant of pixel `p`: 0 and 1 above, 2 and 3 below.
pub fn quadrant(p: usize) -> usize {
    usize::from(p % SIDE >= SIDE / 2) + 2 * usize::from(p / SIDE >= SIDE / 2)
}

/// Mean grey value of each quadrant of one image.
pub fn means(image: &[f32]) -> [f32; FACTORS] {
    let mut sums = [0.0; FACTORS];
    image.iter().enumerate().for_each(|(p, v)| sums[quadrant(p)] += v / QUADRANT as f32);
    sums
}

/// The study on disk, removed when dropped.
pub struct Toy {
    folder: tempfile::TempDir,
}

impl Toy {
    /// Writes models, manifest and eight images: four in `images/low`, whose first quadrant is dark, and four in
    /// `images/high`.
    ///
    /// # Panics
    /// If something cannot be written.
    pub fn new() -> Self {
        let toy = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        toy.models();
        for i in 0..8u8 {
            let first = 60 + 20 * i + if i < 4 { 0 } else { 16 };
            let others = [90 + 10 * i, 160 - 10 * i, 120 + 3 * i];
            let class = if i < 4 { "low" } else { "high" };
            toy.picture(
                &format!("images/{class}/p{}_{i}.png", i / 2),
                [first, others[0], others[1], others[2]],
            );
        }
        std::fs::write(toy.manifest(), MANIFEST).expect("a writable folder");
        toy
    }

    /// The study's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the study's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `study.toml`.
    pub fn manifest(&self) -> PathBuf {
        self.path("study.toml")
    }

    /// Replaces a piece of the manifest.
    ///
    /// # Panics
    /// If the piece is not there.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.manifest()).expect("the manifest");
        assert!(text.contains(from), "`{from}` is not in the manifest");
        std::fs::write(self.manifest(), text.replace(from, to)).expect("a writable folder");
    }

    /// Writes an image with these grey values in the quadrants.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn picture(&self, name: &str, greys: [u8; FACTORS]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        let side = SIDE as u32;
        let pixel = |x: u32, y: u32| Luma([greys[quadrant(y as usize * SIDE + x as usize)]]);
        GrayImage::from_fn(side, side, pixel).save(&path).expect("a writable folder");
    }

    /// Starts the program in the study's folder.
    pub fn shiftlens(&self, args: &[&str]) -> Answer {
        shiftlens(self.folder(), args)
    }

    /// Runs the study into `out`.
    pub fn run(&self, out: &str) -> Answer {
        self.shiftlens(&["run", "study.toml", "--out", out])
    }

    fn models(&self) {
        let of = |k: usize| (0..PIXELS).map(move |p| if quadrant(p) == k { 1.0 } else { 0.0 });
        let spread: Vec<f32> = (0..FACTORS).flat_map(|k| of(k).map(|v: f32| GAIN * v)).collect();
        Graph::default()
            .floats("spread", &[FACTORS as i64, PIXELS as i64], &spread)
            .ints("shape", &[-1, 1, SIDE as i64, SIDE as i64])
            .node("MatMul", &["codes", "spread"], "flat")
            .node("Tanh", &["flat"], "grey")
            .node("Reshape", &["grey", "shape"], "images")
            .write(
                &self.path("generator.onnx"),
                ("codes", &[FACTORS as i64]),
                ("images", &[1, SIDE as i64, SIDE as i64]),
            );

        let average: Vec<f32> = (0..PIXELS)
            .flat_map(|p| {
                (0..FACTORS).map(move |k| if quadrant(p) == k { 1.0 / QUADRANT as f32 } else { 0.0 })
            })
            .collect();
        // atanh(y) = ln((1 + y) / (1 - y)) / 2.
        Graph::default()
            .floats("average", &[PIXELS as i64, FACTORS as i64], &average)
            .floats("low", &[], &[-0.999])
            .floats("high", &[], &[0.999])
            .floats("one", &[], &[1.0])
            .floats("scale", &[], &[0.5 / GAIN])
            .node("Flatten", &["images"], "flat")
            .node("MatMul", &["flat", "average"], "means")
            .node("Clip", &["means", "low", "high"], "y")
            .node("Add", &["one", "y"], "over")
            .node("Sub", &["one", "y"], "under")
            .node("Div", &["over", "under"], "odds")
            .node("Log", &["odds"], "log")
            .node("Mul", &["log", "scale"], "codes")
            .write(
                &self.path("encoder.onnx"),
                ("images", &[1, SIDE as i64, SIDE as i64]),
                ("codes", &[FACTORS as i64]),
            );
        classifier(Graph::default(), "images", FIRST, &self.path("classifier.onnx"));
    }

    /// Replaces the classifier by one that answers NaN for images with a white pixel, and for no other.
    pub fn classifier_that_fears_white(&self) {
        // 0 * sqrt(0.999 - x) is 0, and NaN where x is 1.
        let graph = Graph::default()
            .floats("white", &[], &[0.999])
            .floats("zero", &[], &[0.0])
            .node("Sub", &["white", "images"], "below")
            .node("Sqrt", &["below"], "root")
            .node("Mul", &["root", "zero"], "nothing")
            .node("Add", &["images", "nothing"], "same");
        classifier(graph, "same", FIRST, &self.path("classifier.onnx"));
    }

    /// Makes the study one of two predictors: `first`, which is the classifier, and `second`, whose logit is `6 (y_0 + y_1) / 2`, so
    /// that the cosine of the true directions is the square root of 1/2. Four more images, two of which they disagree on.
    ///
    /// # Panics
    /// If something cannot be written.
    pub fn two_predictors(&self) {
        classifier(Graph::default(), "images", [0.5, 0.5, 0.0, 0.0], &self.path("second.onnx"));
        let output = "output = { classes = [\"dark\", \"bright\"], target = \"bright\" }";
        self.edit("[predictor]", "[[predictor]]\nname = \"first\"");
        self.edit(
            "[generator]",
            &format!("[[predictor]]\nname = \"second\"\nkind = \"onnx\"\npath = \"second.onnx\"\n{output}\n\n[generator]"),
        );
        for (i, greys) in [[150, 60, 90, 90], [100, 200, 90, 90], [200, 180, 90, 90], [60, 90, 90, 90]]
            .into_iter()
            .enumerate()
        {
            let class = if greys[0] > 127 { "high" } else { "low" };
            self.picture(&format!("images/{class}/p{}_{}.png", 4 + i / 2, 8 + i), greys);
        }
    }

    /// Replaces the classifier by one that answers NaN for every image.
    pub fn classifier_that_answers_nan(&self) {
        let graph = Graph::default()
            .floats("minus", &[], &[-1.0])
            .node("Sub", &["minus", "images"], "negative")
            .node("Sqrt", &["negative"], "nan");
        classifier(graph, "nan", FIRST, &self.path("classifier.onnx"));
    }
}

impl Default for Toy {
    fn default() -> Self {
        Self::new()
    }
}

/// A classifier whose logit is [`SLOPE`] times the mean of y over the quadrants, each with its weight.
fn classifier(graph: Graph, x: &str, of: [f32; FACTORS], path: &Path) {
    let (mut kernel, bias) = ([0.0; 18], [0.0, 1.0]);
    (kernel[4], kernel[13]) = (1.0, -1.0);
    let share = |sign: f32| (0..PIXELS).map(move |p| sign * of[quadrant(p)] * SLOPE / QUADRANT as f32);
    let weights: Vec<f32> = share(1.0).chain(share(-1.0)).collect();
    graph
        .floats("kernel", &[2, 1, 3, 3], &kernel)
        .floats("bias", &[2], &bias)
        .floats("weights", &[2 * PIXELS as i64, 1], &weights)
        .node_with(
            "Conv",
            &[x, "kernel", "bias"],
            "conv",
            &[("pads", &[1, 1, 1, 1]), ("kernel_shape", &[3, 3])],
        )
        .node("Relu", &["conv"], "features")
        .node("Flatten", &["features"], "flat")
        .node("MatMul", &["flat", "weights"], "logit")
        .write(path, ("images", &[1, SIDE as i64, SIDE as i64]), ("logit", &[1]));
}

/// The quadrants that the classifier looks at.
const FIRST: [f32; FACTORS] = [1.0, 0.0, 0.0, 0.0];

const MANIFEST: &str = r#"schema = 1
name = "toy"

[data]
images = "images"
labels = { from = "folder", positive = ["high"], negative = ["low"] }
group = { file-name = '^(p\d+)_' }

[predictor]
kind = "onnx"
path = "classifier.onnx"
output = { classes = ["dark", "bright"], target = "bright" }

[generator]
kind = "onnx"
path = "generator.onnx"

[encoder]
kind = "onnx"
path = "encoder.onnx"
input = { mean = [0.5], std = [0.5] }

[direction]
kind = "logistic"
samples = 2000
seed = 7

[[explainer]]
kind = "latent-shift"
params = { steps = 5, range = 2.0 }

[[explainer]]
kind = "plugin:gradcam"
params = { method = "hirescam" }

[plugins]
gradcam = "shiftlens_gradcam"

[report]
formats = ["html", "csv", "gif"]
"#;

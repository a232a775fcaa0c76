//! What each kind of component does. `&mut self` says what the plugin ABI says: one call at a time per instance;
//! parallel work makes more instances.

use crate::{Direction, Error, Explanation, Images, LatentCodes, Result, Scores, Shift, Targets, Tensor};
use serde::{Deserialize, Serialize};

/// What a generator makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratorInfo {
    /// D: size of one latent code.
    pub latent_dim: usize,
    /// Number of style layers (codes of W+ have this many rows); 1 where the generator has no W+.
    pub latent_layers: usize,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Where it really runs and on what: `cpu (AVX-512 kernels)`, `cuda:0`, `onnxruntime 1.30.0`.
    pub backend: String,
}

/// G: latent codes to images.
pub trait Generator: Send {
    /// Sizes and backend.
    fn info(&self) -> GeneratorInfo;
    /// `n` codes of W (`[n, 1, D]`), drawn as in training; the same seed gives the same codes, and the first codes of a
    /// larger draw are those of a smaller one. A component that was asked to truncate layers differently answers codes
    /// of W+ (`[n, L, D]`); no study asks for that.
    ///
    /// # Errors
    /// If the component fails.
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes>;
    /// G(w) for codes of W (`[N, 1, D]`) or W+ (`[N, L, D]`), values in [0, 1]. Deterministic.
    ///
    /// # Errors
    /// [`Error::Shape`] for codes of another space, or if the component fails.
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images>;
    /// The series `G(w + t α)` of one code, one image per step of `shift` (Schutte et al. 2021, section 2.3); `w` is
    /// `[1, 1, D]` or `[1, L, D]`. By default the codes of [`Shift::codes`] are synthesised. A generator that shares work
    /// between the steps overrides it; its images are those of the default but for rounding (1e-5).
    ///
    /// # Errors
    /// As [`Shift::codes`] and [`Generator::synthesize`].
    fn series(&mut self, w: &LatentCodes, shift: &Shift<'_>) -> Result<Images> {
        let codes = shift.codes(w, self.info().latent_layers)?;
        self.synthesize(&codes)
    }
}

/// E: images to latent codes.
pub trait Encoder: Send {
    /// `w = E(x)`, `[N, 1, D]` or `[N, L, D]`. Images of any size and 1 or 3 channels: the encoder resizes
    /// (see [`crate::resize`]) and converts.
    ///
    /// # Errors
    /// If the component fails.
    fn encode(&mut self, x: &Images) -> Result<LatentCodes>;
}

/// What a predictor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorInfo {
    /// One name per class, in the order of the score columns.
    pub classes: Vec<String>,
    /// Native input size `(H, W)` where there is one.
    pub input_size: Option<(usize, usize)>,
    /// Native channels: 1 or 3.
    pub channels: usize,
    /// Where it really runs: `onnxruntime 1.30.0`, `tract (embedded)`, `plugin c-joint-space 0.1.0`.
    pub backend: String,
}

/// f: the black box.
pub trait Predictor: Send {
    /// Classes, sizes and backend.
    fn info(&self) -> PredictorInfo;
    /// Scores `[N, K]`, one column per class. Images of any size and 1 or 3 channels: the predictor resizes and
    /// converts as its manifest says.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the model answers NaN, or if the component fails.
    fn predict(&mut self, x: &Images) -> Result<Scores>;
    /// What a white box can do beyond predicting; `None` for a black box.
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        None
    }
}

/// Which scalar is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreKind {
    /// The class's logit: the value before a final sigmoid or softmax.
    #[default]
    Logit,
    /// The value that the predictor answers.
    Probability,
}

/// A tensor of the network that can be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Name in the graph.
    pub name: String,
    /// Operator that makes it (`Conv`, `Relu`).
    pub operator: String,
    /// Shape without the batch, `[K, h, w]`, as far as it is known.
    pub shape: Vec<Option<usize>>,
    /// True for the layer that CAM methods take when none is named.
    pub default: bool,
}

/// What to compute besides the scores.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GradientRequest {
    /// Names of tensors whose activations are wanted; an empty name means the default layer.
    pub layers: Vec<String>,
    /// Also the gradients with respect to `layers`.
    pub layer_gradients: bool,
    /// Also the gradient with respect to the network's input.
    pub input_gradient: bool,
    /// Class index for each image (one for all if it has a single entry).
    pub classes: Vec<usize>,
    /// The scalar to differentiate.
    pub score: ScoreKind,
}

/// The answer to a [`GradientRequest`]: one entry per asked layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GradientOutput {
    /// Score of the asked class per image, of the asked kind.
    pub scores: Vec<f32>,
    /// Activations `[N, K, h, w]` (tokens `[N, T, K]` as they are).
    pub activations: Vec<Tensor>,
    /// d(score)/d(activation), same shapes; empty if not asked for.
    pub gradients: Vec<Tensor>,
    /// d(score)/d(image) `[N, C, H, W]` at the network's input size, in units of image values in [0, 1]; `None` if
    /// not asked for.
    pub input_gradient: Option<Tensor>,
}

/// White-box access to a predictor.
pub trait Gradients {
    /// Candidate layers from input to output; exactly one is the default, if the network has any with spatial extent.
    ///
    /// # Errors
    /// If the graph cannot be read.
    fn layers(&mut self) -> Result<Vec<LayerInfo>>;
    /// Scores, activations and gradients for a batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown layer or class, [`Error::Unsupported`] for an operator without a gradient.
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput>;
    /// Scores with a layer's activation replaced: what the network answers if `layer` had put out `activations`
    /// instead. Methods that take channels away and look at the score need it (Ablation-CAM).
    ///
    /// `activations` is `[N * r, ..]`, shaped like the layer's own answer but for its first axis: r variants for each of
    /// the N images, those of image i at rows `i * r ..`. `classes` has one entry for each image, or one for all. One
    /// score `[N * r]` of the asked kind per row.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the predictor cannot do it (the default), [`Error::Shape`] for activations of
    /// another shape, [`Error::Invalid`] for an unknown layer or class.
    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        let _ = (x, activations, classes, score);
        Err(Error::Unsupported(format!(
            "the predictor cannot compute scores from replaced activations of layer \"{layer}\""
        )))
    }
}

/// Fits a [`Direction`] to codes and targets.
pub trait DirectionFinder: Send {
    /// `w` and `y` have the same length.
    ///
    /// # Errors
    /// [`Error::Invalid`] if only one class is present, or if the component fails.
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction>;

    /// Fits to each problem by itself, as [`Self::find`] would; a finder that can takes several at once.
    ///
    /// # Errors
    /// As [`Self::find`], for the first problem that fails.
    fn find_all(&mut self, problems: &[(LatentCodes, Targets)]) -> Result<Vec<Direction>> {
        problems.iter().map(|(w, y)| self.find(w, y)).collect()
    }
}

/// Which class an explanation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Column of the scores.
    pub class: usize,
    /// Its name.
    pub name: String,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// Worth a line.
    Info,
    /// The result may not be what the user expects.
    Warn,
}

/// What became of one image of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// Its case is whole on disk.
    Case {
        /// The case's id.
        id: &'a str,
        /// f(x), the score of the target class.
        score: f32,
        /// Seconds that its explanations took.
        seconds: f64,
    },
    /// It could not be explained.
    Failure {
        /// The image's file, as in the run's record.
        path: &'a str,
        /// Why.
        error: &'a str,
    },
}

/// Where work reports to: log, progress, cancellation.
pub trait Monitor: Sync {
    /// One line for the user.
    fn log(&self, level: Level, message: &str);
    /// `done` of `total` units of the step called `what`.
    fn progress(&self, what: &str, done: u64, total: u64);
    /// What became of one image. It may come from any thread; cases come in the order in which they were written.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
    /// True once the work should stop; long work asks between batches.
    fn cancelled(&self) -> bool {
        false
    }
    /// [`Error::Cancelled`] once the work should stop.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    fn check(&self) -> Result<()> {
        if self.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// A monitor that says nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
}

/// The latent space of a study: what latent-shift explainers need besides f.
///
/// It is lent for the study's target class only: [`LatentSpace::direction`] is fitted to f's score of that class, and
/// along it other classes' scores move as they happen to.
pub struct LatentSpace<'a> {
    /// G.
    pub generator: &'a mut dyn Generator,
    /// E.
    pub encoder: &'a mut dyn Encoder,
    /// α.
    pub direction: &'a Direction,
}

/// What an explainer may use.
pub struct Context<'a> {
    /// f.
    pub predictor: &'a mut dyn Predictor,
    /// G, E and α, where the study has them and the class to explain is its target; `None` for any other class.
    pub latent: Option<LatentSpace<'a>>,
    /// Log, progress, cancellation.
    pub monitor: &'a dyn Monitor,
    /// Seed of the case, for explainers that draw at random.
    pub seed: u64,
}

/// Explains the predictions on a batch of images.
pub trait Explainer: Send {
    /// One list of explanations per image, in the order of `x`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the study lacks what the method needs, or if a component fails.
    fn explain(&mut self, cx: &mut Context<'_>, x: &Images, target: &Target)
    -> Result<Vec<Vec<Explanation>>>;
}

//! The structs of functions. The first argument of each is the instance (of a plugin's interface) or the host's
//! `context` (of a host's interface). Shapes and thread rules: `include/shiftlens.h`.

use crate::{Array, Buffer, Host, Text};
use core::ffi::{c_char, c_void};

/// `shiftlens.generator/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GeneratorV1 {
    /// JSON: `latent_dim`, `latent_layers`, `channels`, `height`, `width`, `backend`.
    pub info: Option<unsafe extern "C" fn(*mut c_void, json: *mut Text, error: *mut Text) -> i32>,
    /// Codes `[n, 1, D]`.
    pub sample: Option<
        unsafe extern "C" fn(*mut c_void, n: u64, seed: u64, codes: *mut Buffer, error: *mut Text) -> i32,
    >,
    /// Codes `[N, L, D]` to images `[N, C, H, W]`.
    pub synthesize: Option<
        unsafe extern "C" fn(*mut c_void, codes: *const Array, images: *mut Buffer, error: *mut Text) -> i32,
    >,
}

/// `shiftlens.encoder/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EncoderV1 {
    /// Images `[N, C, H, W]` to codes `[N, L, D]`.
    pub encode: Option<
        unsafe extern "C" fn(*mut c_void, images: *const Array, codes: *mut Buffer, error: *mut Text) -> i32,
    >,
}

/// `shiftlens.predictor/1` and `shiftlens.host.predict/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PredictorV1 {
    /// JSON: `classes`, `input_size`, `channels`, `backend`.
    pub info: Option<unsafe extern "C" fn(*mut c_void, json: *mut Text, error: *mut Text) -> i32>,
    /// Images `[N, C, H, W]` to scores `[N, K]`.
    pub predict: Option<
        unsafe extern "C" fn(*mut c_void, images: *const Array, scores: *mut Buffer, error: *mut Text) -> i32,
    >,
}

/// What to differentiate.
#[repr(C)]
#[derive(Debug)]
pub struct GradientRequestV1 {
    /// `layer_count` names, UTF-8 with NUL; an empty name is the default layer.
    pub layers: *const *const c_char,
    /// Number of layers.
    pub layer_count: u64,
    /// One class for each image, or a single one for all.
    pub classes: *const u64,
    /// Number of classes given.
    pub class_count: u64,
    /// 1 if the gradients with respect to the layers are wanted, else 0.
    pub layer_gradients: u32,
    /// 1 if the gradient with respect to the input is wanted, else 0.
    pub input_gradient: u32,
    /// 0 for the logit, 1 for the probability.
    pub score: u32,
    /// 0.
    pub reserved: u32,
}

/// Room for the answer to a [`GradientRequestV1`].
#[repr(C)]
#[derive(Debug)]
pub struct GradientOutputV1 {
    /// `[N]`.
    pub scores: Buffer,
    /// `layer_count` buffers, `[N, K, h, w]` or as the layer is.
    pub activations: *mut Buffer,
    /// `layer_count` buffers of the same shapes; null if not asked for.
    pub gradients: *mut Buffer,
    /// `[N, C, H, W]` at the network's input size; left alone if not asked for.
    pub input_gradient: Buffer,
}

/// `shiftlens.gradients/1` and `shiftlens.host.gradients/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GradientsV1 {
    /// JSON: a list of `name`, `operator`, `shape`, `default`.
    pub layers: Option<unsafe extern "C" fn(*mut c_void, json: *mut Text, error: *mut Text) -> i32>,
    /// Scores, activations and gradients of images `[N, C, H, W]`.
    pub gradients: Option<
        unsafe extern "C" fn(
            *mut c_void,
            images: *const Array,
            request: *const GradientRequestV1,
            output: *mut GradientOutputV1,
            error: *mut Text,
        ) -> i32,
    >,
}

/// `shiftlens.activations/1` and `shiftlens.host.activations/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ActivationsV1 {
    /// Images `[N, C, H, W]`, a layer's name and r replacements of its activations for each image, `[N * r, ..]`, to
    /// scores `[N * r]`.
    pub scores: Option<
        unsafe extern "C" fn(
            *mut c_void,
            images: *const Array,
            layer: *const c_char,
            activations: *const Array,
            classes: *const u64,
            class_count: u64,
            score: u32,
            scores: *mut Buffer,
            error: *mut Text,
        ) -> i32,
    >,
}

/// What belongs to a direction besides its unit vector.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DirectionStatsV1 {
    /// Standard deviation of the codes' projections: the unit of λ.
    pub sigma: f32,
    /// Mean of the codes' projections.
    pub mean: f32,
    /// Slope of the latent classifier along the direction; 0 if there is none.
    pub slope: f32,
    /// Intercept of the latent classifier.
    pub intercept: f32,
}

/// `shiftlens.direction/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DirectionV1 {
    /// Codes `[N, L, D]` and values `[N]` to a unit vector `[L, D]` and its figures.
    pub find: Option<
        unsafe extern "C" fn(
            *mut c_void,
            codes: *const Array,
            values: *const Array,
            threshold: f32,
            alpha: *mut Buffer,
            stats: *mut DirectionStatsV1,
            error: *mut Text,
        ) -> i32,
    >,
}

/// `shiftlens.explainer/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ExplainerV1 {
    /// Explains images `[N, C, H, W]`; the explanations go to the host's [`ResultsV1`].
    pub explain: Option<
        unsafe extern "C" fn(
            *mut c_void,
            host: *const Host,
            images: *const Array,
            target_class: u64,
            target_name: *const c_char,
            seed: u64,
            error: *mut Text,
        ) -> i32,
    >,
}

/// `shiftlens.host.latent/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LatentV1 {
    /// As [`GeneratorV1::info`].
    pub info: Option<unsafe extern "C" fn(*mut c_void, json: *mut Text, error: *mut Text) -> i32>,
    /// As [`GeneratorV1::sample`].
    pub sample: Option<
        unsafe extern "C" fn(*mut c_void, n: u64, seed: u64, codes: *mut Buffer, error: *mut Text) -> i32,
    >,
    /// As [`GeneratorV1::synthesize`].
    pub synthesize: Option<
        unsafe extern "C" fn(*mut c_void, codes: *const Array, images: *mut Buffer, error: *mut Text) -> i32,
    >,
    /// As [`EncoderV1::encode`].
    pub encode: Option<
        unsafe extern "C" fn(*mut c_void, images: *const Array, codes: *mut Buffer, error: *mut Text) -> i32,
    >,
    /// The study's direction: `[L, D]` and its figures.
    pub direction: Option<
        unsafe extern "C" fn(
            *mut c_void,
            alpha: *mut Buffer,
            stats: *mut DirectionStatsV1,
            error: *mut Text,
        ) -> i32,
    >,
}

/// How one image would have to change.
#[repr(C)]
#[derive(Debug)]
pub struct SeriesV1 {
    /// `[S]`, in units of sigma, ascending, with 0 at `origin`.
    pub lambdas: Array,
    /// `[S, C, H, W]`.
    pub images: Array,
    /// `[S]`: f's score of the target class.
    pub scores: Array,
    /// `[L, D]` or `[L * D]`: the code of the image.
    pub code: Array,
    /// Index of λ = 0.
    pub origin: u64,
    /// The latent classifier's probability, NaN if there is none.
    pub latent_score: f32,
    /// 0.
    pub reserved: u32,
}

/// `shiftlens.host.results/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ResultsV1 {
    /// Adds a heatmap `[H, W]` to image `image` of the batch. `notes_json`: `[["key", "value"], …]` or null.
    pub heatmap: Option<
        unsafe extern "C" fn(
            *mut c_void,
            image: u64,
            title: *const c_char,
            map: *const Array,
            notes_json: *const c_char,
            error: *mut Text,
        ) -> i32,
    >,
    /// Adds a shift series to image `image` of the batch.
    pub shift: Option<
        unsafe extern "C" fn(
            *mut c_void,
            image: u64,
            title: *const c_char,
            series: *const SeriesV1,
            notes_json: *const c_char,
            error: *mut Text,
        ) -> i32,
    >,
}

/// `shiftlens.host.log/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LogV1 {
    /// One line; level 0 debug, 1 info, 2 warning.
    pub log: Option<unsafe extern "C" fn(*mut c_void, level: i32, message: *const c_char)>,
}

/// `shiftlens.host.progress/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ProgressV1 {
    /// `done` of `total` units of the step called `what`.
    pub progress: Option<unsafe extern "C" fn(*mut c_void, what: *const c_char, done: u64, total: u64)>,
}

/// `shiftlens.host.cancel/1`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CancelV1 {
    /// 1 once the work should stop, else 0.
    pub cancelled: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
}

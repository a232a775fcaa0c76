//! Rust components as tables of C functions.
//!
//! The functions' first argument leads to a [`Served`]: a plugin's instance, or what the host lends to an explainer.
//! A mutex around the components makes a call at the wrong time an error instead of a data race.

use super::answer::{self, Answer, Pending, Question, guard};
use shiftlens_abi::{
    ActivationsV1, Array, Buffer, DirectionStatsV1, DirectionV1, EncoderV1, GeneratorV1, GradientOutputV1,
    GradientRequestV1, GradientsV1, LatentV1, PredictorV1, Text,
};
use shiftlens_api::{
    Direction, DirectionFinder, Encoder, Error, Explainer, Generator, Predictor, Result, Targets, Tensor,
};
use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::sync::{Mutex, TryLockError};

/// The components behind a context. A role that is not there answers `None`.
pub trait Components: Send {
    /// G.
    fn generator(&mut self) -> Option<&mut dyn Generator> {
        None
    }
    /// E.
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        None
    }
    /// f.
    fn predictor(&mut self) -> Option<&mut dyn Predictor> {
        None
    }
    /// Finds a direction.
    fn finder(&mut self) -> Option<&mut dyn DirectionFinder> {
        None
    }
    /// Explains.
    fn explainer(&mut self) -> Option<&mut dyn Explainer> {
        None
    }
    /// A direction that is already known.
    fn direction(&mut self) -> Option<&Direction> {
        None
    }
}

/// Components, and an answer on its way.
#[derive(Debug, Default)]
pub struct State<C> {
    /// What is served.
    pub components: C,
    /// Kept between the two halves of an ask-then-fetch pair.
    pub pending: Pending,
}

/// What a context pointer leads to.
pub trait Served: Sync {
    /// The components' type.
    type Components: Components;
    /// The components.
    fn state(&self) -> &Mutex<State<Self::Components>>;
}

/// Runs `body` on the components behind `context`.
///
/// # Safety
/// `context` must be null or lead to an `S`.
///
/// # Errors
/// [`Error::Invalid`] for null or if another call is running; those of `body`.
pub unsafe fn with<S: Served, R>(
    context: *mut c_void,
    body: impl FnOnce(&mut State<S::Components>) -> Result<R>,
) -> Result<R> {
    // SAFETY: null or an `S`, as the caller promises; only shared access is taken here.
    let served = unsafe { context.cast::<S>().as_ref() }.ok_or_else(|| Error::invalid("a null instance"))?;
    match served.state().try_lock() {
        Ok(mut state) => body(&mut state),
        // A panic in an earlier call was reported there; the components are still memory-safe.
        Err(TryLockError::Poisoned(state)) => body(&mut state.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::invalid("called while another call runs: one call at a time per instance"))
        }
    }
}

fn role<'a, T: ?Sized>(part: Option<&'a mut T>, name: &str) -> Result<&'a mut T> {
    part.ok_or_else(|| Error::Unsupported(format!("this instance is no {name}")))
}

/// # Safety
/// `buffer` must be null or lead to a [`Buffer`] that this call may write.
unsafe fn buffer<'a>(buffer: *mut Buffer) -> Result<&'a mut Buffer> {
    // SAFETY: the caller's promise.
    unsafe { buffer.as_mut() }.ok_or_else(|| Error::invalid("a null buffer"))
}

/// # Safety
/// `json` must be null or lead to a [`Text`] that this call may write.
unsafe fn write_json(json: *mut Text, value: &impl serde::Serialize) -> Result<i32> {
    let text = serde_json::to_string(value).map_err(|e| Error::Invalid(e.to_string()))?;
    // SAFETY: the caller's promise.
    let json = unsafe { json.as_mut() }.ok_or_else(|| Error::invalid("a null text"))?;
    // SAFETY: a caller's `Text` has room for its capacity.
    Ok(unsafe { json.write(&text) })
}

unsafe extern "C" fn generator_info<S: Served>(cx: *mut c_void, json: *mut Text, error: *mut Text) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, the texts are the caller's.
    unsafe {
        guard(error, || {
            with::<S, _>(cx, |s| write_json(json, &role(s.components.generator(), "generator")?.info()))
        })
    }
}

unsafe extern "C" fn sample<S: Served>(
    cx: *mut c_void,
    n: u64,
    seed: u64,
    codes: *mut Buffer,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, the buffers are the caller's.
    unsafe {
        guard(error, || {
            let n = usize::try_from(n).map_err(|_| Error::Invalid(format!("{n} codes are too many")))?;
            with::<S, _>(cx, |s| {
                let g = role(s.components.generator(), "generator")?;
                let out = buffer(codes)?;
                let compute = |_: &Question| {
                    let w = g.sample(n, seed)?;
                    Ok(Answer::one(&w.shape(), w.as_slice()))
                };
                Ok(s.pending.answer(Question::Sample(n, seed), &mut [out], compute)?.0)
            })
        })
    }
}

unsafe extern "C" fn synthesize<S: Served>(
    cx: *mut c_void,
    codes: *const Array,
    images: *mut Buffer,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, arrays and buffers are the caller's.
    unsafe {
        guard(error, || {
            let w = answer::codes(codes)?;
            with::<S, _>(cx, |s| {
                let g = role(s.components.generator(), "generator")?;
                let out = buffer(images)?;
                let compute = |q: &Question| {
                    let Question::Synthesize(w) = q else { unreachable!("the question asked") };
                    let x = g.synthesize(w)?;
                    Ok(Answer::one(&x.shape(), x.as_slice()))
                };
                Ok(s.pending.answer(Question::Synthesize(w), &mut [out], compute)?.0)
            })
        })
    }
}

unsafe extern "C" fn encode<S: Served>(
    cx: *mut c_void,
    images: *const Array,
    codes: *mut Buffer,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, arrays and buffers are the caller's.
    unsafe {
        guard(error, || {
            let x = answer::images(images)?;
            with::<S, _>(cx, |s| {
                let e = role(s.components.encoder(), "encoder")?;
                let out = buffer(codes)?;
                let compute = |q: &Question| {
                    let Question::Encode(x) = q else { unreachable!("the question asked") };
                    let w = e.encode(x)?;
                    Ok(Answer::one(&w.shape(), w.as_slice()))
                };
                Ok(s.pending.answer(Question::Encode(x), &mut [out], compute)?.0)
            })
        })
    }
}

unsafe extern "C" fn predictor_info<S: Served>(cx: *mut c_void, json: *mut Text, error: *mut Text) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, the texts are the caller's.
    unsafe {
        guard(error, || {
            with::<S, _>(cx, |s| write_json(json, &role(s.components.predictor(), "predictor")?.info()))
        })
    }
}

unsafe extern "C" fn predict<S: Served>(
    cx: *mut c_void,
    images: *const Array,
    scores: *mut Buffer,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, arrays and buffers are the caller's.
    unsafe {
        guard(error, || {
            let x = answer::images(images)?;
            with::<S, _>(cx, |s| {
                let f = role(s.components.predictor(), "predictor")?;
                let out = buffer(scores)?;
                let compute = |q: &Question| {
                    let Question::Predict(x) = q else { unreachable!("the question asked") };
                    let y = f.predict(x)?;
                    Ok(Answer::one(&y.shape(), y.as_slice()))
                };
                Ok(s.pending.answer(Question::Predict(x), &mut [out], compute)?.0)
            })
        })
    }
}

const BLACK_BOX: &str = "this predictor is a black box: it offers no activations or gradients";

unsafe extern "C" fn layers<S: Served>(cx: *mut c_void, json: *mut Text, error: *mut Text) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, the texts are the caller's.
    unsafe {
        guard(error, || {
            with::<S, _>(cx, |s| {
                let f = role(s.components.predictor(), "predictor")?;
                let g = f.gradients().ok_or_else(|| Error::Unsupported(BLACK_BOX.into()))?;
                write_json(json, &g.layers()?)
            })
        })
    }
}

unsafe extern "C" fn gradients<S: Served>(
    cx: *mut c_void,
    images: *const Array,
    request: *const GradientRequestV1,
    output: *mut GradientOutputV1,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table; arrays, request and buffers are the caller's, and the two
    // lists of buffers have an entry for each asked layer.
    unsafe {
        guard(error, || {
            let x = answer::images(images)?;
            let request = answer::request(request)?;
            let out = output.as_mut().ok_or_else(|| Error::invalid("a null gradient output"))?;
            let n = request.layers.len();
            let list = |p: *mut Buffer, wanted: bool| match (wanted && n > 0, p.is_null()) {
                (false, _) => Ok(&mut [][..]),
                (true, true) => Err(Error::invalid("gradient output: a list of buffers is null")),
                (true, false) => Ok(std::slice::from_raw_parts_mut(p, n)),
            };
            let mut buffers = vec![&mut out.scores];
            buffers.extend(list(out.activations, true)?);
            buffers.extend(list(out.gradients, request.layer_gradients)?);
            if request.input_gradient {
                buffers.push(&mut out.input_gradient);
            }
            with::<S, _>(cx, |s| {
                let f = role(s.components.predictor(), "predictor")?;
                let g = f.gradients().ok_or_else(|| Error::Unsupported(BLACK_BOX.into()))?;
                let compute = |q: &Question| {
                    let Question::Gradients(x, request) = q else { unreachable!("the question asked") };
                    let y = g.gradients(x, request)?;
                    let mut a = Answer::one(&[y.scores.len()], &y.scores);
                    let tensors = y.activations.into_iter().chain(y.gradients).chain(y.input_gradient);
                    a.arrays.extend(tensors.map(|t| (t.shape().to_vec(), t.into_vec())));
                    Ok(a)
                };
                Ok(s.pending.answer(Question::Gradients(x, request), &mut buffers, compute)?.0)
            })
        })
    }
}

/// What [`shiftlens_api::Gradients::scores_with`] demands of its arguments' sizes.
pub(super) fn check_rows(images: usize, activations: &[usize], classes: usize) -> Result<()> {
    let rows = activations.first().copied().unwrap_or(0);
    if activations.len() < 2 || !rows.is_multiple_of(images) {
        return Err(Error::Shape {
            what: "activations to put in".into(),
            expected: format!("[{images} * r, …], r variants for each of {images} images"),
            found: activations.to_vec(),
        });
    }
    if classes != 1 && classes != images {
        return Err(Error::Invalid(format!("{classes} classes for {images} images, expected 1 or {images}")));
    }
    Ok(())
}

unsafe extern "C" fn scores_with<S: Served>(
    cx: *mut c_void,
    images: *const Array,
    layer: *const c_char,
    activations: *const Array,
    classes: *const u64,
    class_count: u64,
    score: u32,
    scores: *mut Buffer,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table; arrays, texts and buffers are the caller's, and the list of
    // classes has as many entries as it says.
    unsafe {
        guard(error, || {
            let x = answer::images(images)?;
            let layer = answer::text("layer name", layer)?;
            let (shape, data) = answer::array("activations", activations)?;
            let classes = answer::classes("scores", classes, class_count)?;
            let kind = answer::score_kind("scores", score)?;
            check_rows(x.len(), &shape, classes.len())?;
            let activations = Tensor::new(shape, data)?;
            with::<S, _>(cx, |s| {
                let f = role(s.components.predictor(), "predictor")?;
                let g = f.gradients().ok_or_else(|| Error::Unsupported(BLACK_BOX.into()))?;
                let out = buffer(scores)?;
                let compute = |q: &Question| {
                    let Question::ScoresWith(x, layer, activations, classes, kind) = q else {
                        unreachable!("the question asked")
                    };
                    let y = g.scores_with(x, layer, activations, classes, *kind)?;
                    Ok(Answer::one(&[y.len()], &y))
                };
                let question = Question::ScoresWith(x, layer, activations, classes, kind);
                Ok(s.pending.answer(question, &mut [out], compute)?.0)
            })
        })
    }
}

fn direction_answer(d: &Direction) -> Answer {
    // One vector goes over the border, and whoever asks for it moves along it. Where that is not alpha, the classifier
    // along alpha stays behind.
    let alpha = d.step();
    let (slope, intercept) = if d.has_step() { (0.0, 0.0) } else { (d.slope, d.intercept) };
    Answer {
        stats: DirectionStatsV1 { sigma: d.sigma, mean: d.mean, slope, intercept },
        ..Answer::one(&[d.layers(), alpha.len() / d.layers()], alpha)
    }
}

unsafe extern "C" fn find<S: Served>(
    cx: *mut c_void,
    codes: *const Array,
    values: *const Array,
    threshold: f32,
    alpha: *mut Buffer,
    stats: *mut DirectionStatsV1,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, arrays and buffers are the caller's.
    unsafe {
        guard(error, || {
            let w = answer::codes(codes)?;
            let (_, values) = answer::array("target values", values)?;
            if values.len() != w.len() {
                return Err(Error::Invalid(format!("{} target values for {} codes", values.len(), w.len())));
            }
            let y = Targets { values, threshold };
            with::<S, _>(cx, |s| {
                let finder = role(s.components.finder(), "direction finder")?;
                let out = buffer(alpha)?;
                let compute = |q: &Question| {
                    let Question::Find(w, y) = q else { unreachable!("the question asked") };
                    Ok(direction_answer(&finder.find(w, y)?))
                };
                let (code, figures) = s.pending.answer(Question::Find(w, y), &mut [out], compute)?;
                if let Some(stats) = stats.as_mut() {
                    *stats = figures;
                }
                Ok(code)
            })
        })
    }
}

unsafe extern "C" fn direction<S: Served>(
    cx: *mut c_void,
    alpha: *mut Buffer,
    stats: *mut DirectionStatsV1,
    error: *mut Text,
) -> i32 {
    // SAFETY: the ABI: `cx` is a context of this table, the buffers are the caller's.
    unsafe {
        guard(error, || {
            with::<S, _>(cx, |s| {
                let d =
                    s.components.direction().ok_or_else(|| Error::Unsupported("no direction here".into()))?;
                let out = buffer(alpha)?;
                let (code, figures) =
                    s.pending.answer(Question::Direction, &mut [out], |_| Ok(direction_answer(d)))?;
                if let Some(stats) = stats.as_mut() {
                    *stats = figures;
                }
                Ok(code)
            })
        })
    }
}

/// The tables over contexts of type `S`.
pub struct Tables<S>(PhantomData<S>);

impl<S: Served> Tables<S> {
    /// `shiftlens.generator/1`
    pub const GENERATOR: GeneratorV1 = GeneratorV1 {
        info: Some(generator_info::<S>),
        sample: Some(sample::<S>),
        synthesize: Some(synthesize::<S>),
    };
    /// `shiftlens.encoder/1`
    pub const ENCODER: EncoderV1 = EncoderV1 { encode: Some(encode::<S>) };
    /// `shiftlens.predictor/1`, `shiftlens.host.predict/1`
    pub const PREDICTOR: PredictorV1 =
        PredictorV1 { info: Some(predictor_info::<S>), predict: Some(predict::<S>) };
    /// `shiftlens.gradients/1`, `shiftlens.host.gradients/1`
    pub const GRADIENTS: GradientsV1 =
        GradientsV1 { layers: Some(layers::<S>), gradients: Some(gradients::<S>) };
    /// `shiftlens.activations/1`, `shiftlens.host.activations/1`
    pub const ACTIVATIONS: ActivationsV1 = ActivationsV1 { scores: Some(scores_with::<S>) };
    /// `shiftlens.direction/1`
    pub const DIRECTION: DirectionV1 = DirectionV1 { find: Some(find::<S>) };
    /// `shiftlens.host.latent/1`
    pub const LATENT: LatentV1 = LatentV1 {
        info: Some(generator_info::<S>),
        sample: Some(sample::<S>),
        synthesize: Some(synthesize::<S>),
        encode: Some(encode::<S>),
        direction: Some(direction::<S>),
    };
}

/// The address of a table, for `get_interface`.
pub fn address<T>(table: &'static T) -> *const c_void {
    std::ptr::from_ref(table).cast()
}

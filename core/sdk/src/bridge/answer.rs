//! The callee's side of one call: reading arguments, catching panics, writing answers and errors.

use shiftlens_abi::{Array, Buffer, DirectionStatsV1, GradientRequestV1, Text, status, wire};
use shiftlens_api::{Error, GradientRequest, Images, LatentCodes, Result, ScoreKind, Targets, Tensor};
use std::any::Any;
use std::cell::Cell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// The status that stands for an error.
pub fn status_of(error: &Error) -> i32 {
    match error {
        Error::Shape { .. } => status::SHAPE,
        Error::NotFinite { .. } => status::NOT_FINITE,
        Error::Invalid(_) => status::INVALID,
        Error::Unsupported(_) => status::UNSUPPORTED,
        Error::Cancelled => status::CANCELLED,
        _ => status::FAILED,
    }
}

thread_local! {
    /// How many guards this thread is inside of.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic inside a guard happened.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// From now on a panic inside a guard prints nothing, because it is reported as an error, with its place. A plugin
/// calls it once, when its first instance is made; its own copy of the standard library is the only one affected.
pub fn report_panics_as_errors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let otherwise = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDS.get() > 0 {
                PLACE.set(info.location().map(|l| format!(" at {}:{}", l.file(), l.line())));
            } else {
                otherwise(info);
            }
        }));
    });
}

/// What a panic said.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    format!("panic{}: {}", PLACE.take().unwrap_or_default(), text.unwrap_or("no message"))
}

/// Runs the body of a C function: its status, with errors and panics written to `error`.
///
/// # Safety
/// `error` must be null or lead to a [`Text`] that this call may write.
pub unsafe fn guard(error: *mut Text, body: impl FnOnce() -> Result<i32>) -> i32 {
    GUARDS.set(GUARDS.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    GUARDS.set(GUARDS.get() - 1);
    let (code, text) = match outcome {
        Ok(Ok(code)) => return code,
        Ok(Err(e)) => (status_of(&e), e.to_string()),
        Err(payload) => (status::PANIC, panic_message(&*payload)),
    };
    // SAFETY: null or a `Text`, as the caller promises.
    if let Some(error) = unsafe { error.as_mut() } {
        // SAFETY: a caller's `Text` has room for its capacity. A cut text is still an error text.
        let _ = unsafe { error.write(&text) };
    }
    code
}

/// Reads a lent array: sizes and a copy of the values.
///
/// # Safety
/// `array` must be null or lead to an [`Array`] whose data is valid for reading its shape.
pub unsafe fn array(what: &str, array: *const Array) -> Result<(Vec<usize>, Vec<f32>)> {
    // SAFETY: null or valid, as the caller promises.
    let array = unsafe { array.as_ref() }.ok_or_else(|| Error::Invalid(format!("{what}: a null pointer")))?;
    let malformed =
        || Error::Invalid(format!("{what}: rank {} with shape {:?} is no array", array.rank, array.shape));
    let dims = array.dims().ok_or_else(malformed)?;
    // SAFETY: the caller promises that the data is valid for the shape.
    let values = unsafe { array.values() }.ok_or_else(malformed)?;
    Ok((dims.iter().map(|d| *d as usize).collect(), values.to_vec()))
}

/// `shape` as exactly `R` sizes.
///
/// # Errors
/// [`Error::Shape`] for another rank.
pub fn exact<const R: usize>(what: &str, expected: &str, shape: &[usize]) -> Result<[usize; R]> {
    shape.try_into().map_err(|_| Error::Shape {
        what: what.into(),
        expected: expected.into(),
        found: shape.to_vec(),
    })
}

/// Reads images `[N, C, H, W]`.
///
/// # Safety
/// As [`array()`].
pub unsafe fn images(p: *const Array) -> Result<Images> {
    // SAFETY: the caller's promise.
    let (shape, data) = unsafe { array("images", p) }?;
    Images::new(exact("images", "[N, C, H, W]", &shape)?, data)
}

/// Reads codes `[N, L, D]`.
///
/// # Safety
/// As [`array()`].
pub unsafe fn codes(p: *const Array) -> Result<LatentCodes> {
    // SAFETY: the caller's promise.
    let (shape, data) = unsafe { array("latent codes", p) }?;
    LatentCodes::new(exact("latent codes", "[N, L, D]", &shape)?, data)
}

/// Reads a text argument.
///
/// # Safety
/// `p` must be null or lead to bytes that end with NUL.
pub unsafe fn text(what: &str, p: *const c_char) -> Result<String> {
    // SAFETY: the caller's promise.
    let text = unsafe { wire::text(p) };
    text.map(str::to_owned)
        .ok_or_else(|| Error::Invalid(format!("{what}: expected UTF-8 text, found null or bytes")))
}

/// Reads class indices.
///
/// # Safety
/// `p` must be null or lead to `count` values.
pub unsafe fn classes(what: &str, p: *const u64, count: u64) -> Result<Vec<usize>> {
    if count > 0 && p.is_null() {
        return Err(Error::Invalid(format!(
            "{what}: the list of classes is null although its count is {count}"
        )));
    }
    // SAFETY: the list is not null and has `count` entries.
    Ok((0..count as usize).map(|i| unsafe { *p.add(i) } as usize).collect())
}

/// Reads which scalar is meant.
pub fn score_kind(what: &str, score: u32) -> Result<ScoreKind> {
    match score {
        0 => Ok(ScoreKind::Logit),
        1 => Ok(ScoreKind::Probability),
        other => Err(Error::Invalid(format!("{what}: score {other}, expected 0 or 1"))),
    }
}

/// Reads a gradient request.
///
/// # Safety
/// `p` must be null or lead to a request whose pointers are valid for its counts.
pub unsafe fn request(p: *const GradientRequestV1) -> Result<GradientRequest> {
    // SAFETY: null or valid, as the caller promises.
    let r = unsafe { p.as_ref() }.ok_or_else(|| Error::invalid("gradient request: a null pointer"))?;
    if r.layer_count > 0 && r.layers.is_null() {
        return Err(Error::invalid(
            "gradient request: the list of layers is null although its count is not 0",
        ));
    }
    let mut layers = Vec::new();
    for i in 0..r.layer_count as usize {
        // SAFETY: the list is not null and has `layer_count` entries, each a text.
        layers.push(unsafe { text("layer name", *r.layers.add(i)) }?);
    }
    // SAFETY: the caller's promise.
    let classes = unsafe { classes("gradient request", r.classes, r.class_count) }?;
    let score = score_kind("gradient request", r.score)?;
    Ok(GradientRequest {
        layers,
        layer_gradients: r.layer_gradients != 0,
        input_gradient: r.input_gradient != 0,
        classes,
        score,
    })
}

/// A call's arguments, to recognise the second half of an ask-then-fetch pair.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// `sample(n, seed)`
    Sample(usize, u64),
    /// `synthesize(codes)`
    Synthesize(LatentCodes),
    /// `encode(images)`
    Encode(Images),
    /// `predict(images)`
    Predict(Images),
    /// `gradients(images, request)`
    Gradients(Images, GradientRequest),
    /// `scores_with(images, layer, activations, classes, score)`
    ScoresWith(Images, String, Tensor, Vec<usize>, ScoreKind),
    /// `find(codes, targets)`
    Find(LatentCodes, Targets),
    /// `direction()`
    Direction,
}

/// Arrays with their shapes, and a direction's figures.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// In the order of the call's buffers.
    pub arrays: Vec<(Vec<usize>, Vec<f32>)>,
    /// Of a direction.
    pub stats: DirectionStatsV1,
}

impl Answer {
    /// One array.
    pub fn one(shape: &[usize], values: &[f32]) -> Self {
        Self { arrays: vec![(shape.to_vec(), values.to_vec())], ..Self::default() }
    }
}

/// The answer to a call that only asked for the shape, kept for the call that fetches the values.
#[derive(Debug, Default)]
pub struct Pending(Option<(Question, Answer)>);

impl Pending {
    /// Answers `question` into `buffers`, which all ask for shapes or all have room; computes unless the answer is
    /// pending. Gives the status and the direction's figures.
    ///
    /// # Safety
    /// Each buffer's data must be null or valid for writing its capacity.
    ///
    /// # Errors
    /// Those of `compute`.
    pub unsafe fn answer(
        &mut self,
        question: Question,
        buffers: &mut [&mut Buffer],
        compute: impl FnOnce(&Question) -> Result<Answer>,
    ) -> Result<(i32, DirectionStatsV1)> {
        let answer = match self.0.take() {
            Some((q, a)) if q == question => a,
            _ => compute(&question)?,
        };
        if answer.arrays.len() != buffers.len() {
            let (found, expected) = (answer.arrays.len(), buffers.len());
            return Err(Error::Invalid(format!("{found} arrays answered, {expected} asked for")));
        }
        let (mut code, mut asked) = (status::OK, false);
        for (buffer, (shape, values)) in buffers.iter_mut().zip(&answer.arrays) {
            asked |= buffer.data.is_null();
            // SAFETY: the caller's promise.
            code = code.max(unsafe { buffer.answer(shape, values) });
        }
        let stats = answer.stats;
        if asked || code == status::TOO_SMALL {
            self.0 = Some((question, answer));
        }
        Ok((code, stats))
    }
}

//! An explainer from a plugin, and the host as it sees it during one call.
//!
//! The plugin calls back into f, G and E while it runs. They are lent to it behind a mutex, so that no two `&mut`
//! to one component can exist, whatever threads or nested calls the plugin makes: a second call at the same time is
//! answered with an error. The host's struct lives on the caller's stack and ends with the call.

use super::library::{Instance, version};
use shiftlens_abi::{
    ABI_VERSION, Array, CancelV1, ExplainerV1, Host, LogV1, ProgressV1, ResultsV1, SeriesV1, Text, host,
    status,
};
use shiftlens_api::{
    Context, Direction, Encoder, Error, Explainer, Explanation, Generator, Heatmap, Images, LatentSpace,
    Level, Monitor, Predictor, Result, ShiftSeries, Target,
};
use shiftlens_sdk::bridge::answer::{array, exact, guard, images, text};
use shiftlens_sdk::bridge::call::{Peer, c_string, checked};
use shiftlens_sdk::bridge::proxy::view;
use shiftlens_sdk::bridge::serve::{Components, Served, State, Tables, address};
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::{Mutex, PoisonError};

/// An explainer behind a table.
pub(super) struct PluginExplainer {
    peer: Peer<Instance>,
    table: ExplainerV1,
}

impl PluginExplainer {
    pub fn new(peer: Peer<Instance>, table: ExplainerV1) -> Self {
        Self { peer, table }
    }
}

impl Explainer for PluginExplainer {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        let f = self.peer.function("explain", self.table.explain)?;
        let instance = self.peer.context();
        let name = c_string("target class", &target.name)?;
        let batch = view(x.as_slice(), &x.shape())?;
        let white_box = cx.predictor.gradients().is_some();
        let seed = cx.seed;
        let call = Call {
            white_box,
            latent: cx.latent.is_some(),
            monitor: cx.monitor,
            results: Mutex::new(vec![Vec::new(); x.len()]),
            state: Mutex::new(State {
                components: Lent { predictor: &mut *cx.predictor, latent: cx.latent.as_mut() },
                pending: Default::default(),
            }),
        };
        let host = Host {
            abi_version: ABI_VERSION,
            struct_size: size_of::<Host>() as u32,
            name: c"shiftlens".as_ptr(),
            version: version().as_ptr(),
            context: (&raw const call).cast_mut().cast(),
            get_interface: Some(get_interface),
        };
        checked(self.peer.who(), "explain", &[], |error| {
            // SAFETY: the ABI: a live instance of this table's library; host, batch and name live through the call.
            unsafe {
                f(
                    instance,
                    &raw const host,
                    &raw const batch,
                    target.class as u64,
                    name.as_ptr(),
                    seed,
                    error,
                )
            }
        })?;
        Ok(call.results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The components that the plugin may call.
struct Lent<'a, 'b> {
    predictor: &'a mut dyn Predictor,
    latent: Option<&'a mut LatentSpace<'b>>,
}

impl Components for Lent<'_, '_> {
    fn generator(&mut self) -> Option<&mut dyn Generator> {
        self.latent.as_mut().map(|l| &mut *l.generator as &mut dyn Generator)
    }
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        self.latent.as_mut().map(|l| &mut *l.encoder as &mut dyn Encoder)
    }
    fn predictor(&mut self) -> Option<&mut dyn Predictor> {
        Some(&mut *self.predictor)
    }
    fn direction(&mut self) -> Option<&Direction> {
        self.latent.as_ref().map(|l| l.direction)
    }
}

/// What the host's context pointer leads to, during one call of `explain`.
struct Call<'a, 'b> {
    white_box: bool,
    latent: bool,
    monitor: &'a dyn Monitor,
    results: Mutex<Vec<Vec<Explanation>>>,
    state: Mutex<State<Lent<'a, 'b>>>,
}

impl<'a, 'b> Served for Call<'a, 'b> {
    type Components = Lent<'a, 'b>;
    fn state(&self) -> &Mutex<State<Self::Components>> {
        &self.state
    }
}

/// # Safety
/// `context` must be the context of a host made by `explain` whose call has not ended.
unsafe fn call<'s>(context: *mut c_void) -> Option<&'s Call<'s, 's>> {
    // SAFETY: the caller's promise. Only shared access is ever taken, and a `Call` is `Sync`.
    unsafe { context.cast::<Call<'s, 's>>().as_ref() }
}

// The tables are made for `'static` and used on a shorter-lived `Call`: lifetimes do not change a type's layout, and
// the tables' functions keep nothing of the components beyond one call.
unsafe extern "C" fn get_interface(h: *const Host, name: *const c_char) -> *const c_void {
    type T = Tables<Call<'static, 'static>>;
    if h.is_null() || name.is_null() {
        return null();
    }
    // SAFETY: the ABI: the plugin passes the host that it was given, while the call lasts, and a text.
    let (call, name) = unsafe { (call((*h).context), CStr::from_ptr(name)) };
    let Some(call) = call else { return null() };
    match name {
        n if n == host::PREDICT => address(&T::PREDICTOR),
        n if n == host::GRADIENTS && call.white_box => address(&T::GRADIENTS),
        n if n == host::ACTIVATIONS && call.white_box => address(&T::ACTIVATIONS),
        n if n == host::LATENT && call.latent => address(&T::LATENT),
        n if n == host::RESULTS => address(&RESULTS),
        n if n == host::LOG => address(&LOG),
        n if n == host::PROGRESS => address(&PROGRESS),
        n if n == host::CANCEL => address(&CANCEL),
        _ => null(),
    }
}

static LOG: LogV1 = LogV1 { log: Some(log) };
static PROGRESS: ProgressV1 = ProgressV1 { progress: Some(progress) };
static CANCEL: CancelV1 = CancelV1 { cancelled: Some(cancelled) };
static RESULTS: ResultsV1 = ResultsV1 { heatmap: Some(heatmap), shift: Some(shift) };

/// Runs `body` on the monitor. A panic there is not the plugin's business and must not cross the boundary.
///
/// # Safety
/// As [`call`].
unsafe fn monitor<R>(context: *mut c_void, otherwise: R, body: impl FnOnce(&dyn Monitor) -> R) -> R {
    // SAFETY: the caller's promise.
    match unsafe { call(context) } {
        Some(call) => catch_unwind(AssertUnwindSafe(|| body(call.monitor))).unwrap_or(otherwise),
        None => otherwise,
    }
}

/// A message as text, whatever bytes it has.
///
/// # Safety
/// `p` must be null or lead to bytes that end with NUL.
unsafe fn lossy(p: *const c_char) -> String {
    // SAFETY: the caller's promise.
    if p.is_null() { String::new() } else { unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned() }
}

unsafe extern "C" fn log(cx: *mut c_void, level: i32, message: *const c_char) {
    let level = match level {
        ..=0 => Level::Debug,
        1 => Level::Info,
        _ => Level::Warn,
    };
    // SAFETY: the ABI: the host's context while the call lasts, and a text.
    unsafe { monitor(cx, (), |m| m.log(level, &lossy(message))) }
}

unsafe extern "C" fn progress(cx: *mut c_void, what: *const c_char, done: u64, total: u64) {
    // SAFETY: as for `log`.
    unsafe { monitor(cx, (), |m| m.progress(&lossy(what), done, total)) }
}

unsafe extern "C" fn cancelled(cx: *mut c_void) -> i32 {
    // SAFETY: as for `log`.
    i32::from(unsafe { monitor(cx, false, |m| m.cancelled()) })
}

/// Adds an explanation that `make` reads from the plugin's arguments.
///
/// # Safety
/// As [`call`]; `error` as in `guard`; `title` and `notes` null or texts.
unsafe fn add(
    cx: *mut c_void,
    image: u64,
    title: *const c_char,
    notes: *const c_char,
    error: *mut Text,
    make: impl FnOnce(String, Vec<(String, String)>) -> Result<Explanation>,
) -> i32 {
    let body = || {
        // SAFETY: the caller's promise.
        let call = unsafe { call(cx) }.ok_or_else(|| Error::invalid("a null context"))?;
        // SAFETY: the caller's promise.
        let title = unsafe { text("title", title) }?;
        let notes = if notes.is_null() {
            Vec::new()
        } else {
            // SAFETY: the caller's promise.
            let notes = unsafe { text("notes", notes) }?;
            serde_json::from_str(&notes).map_err(|e| {
                Error::Invalid(format!("notes: expected [[\"key\", \"value\"], …]: {e}: {notes}"))
            })?
        };
        let made = make(title, notes)?;
        let mut results = call.results.lock().unwrap_or_else(PoisonError::into_inner);
        let n = results.len();
        let list = usize::try_from(image).ok().and_then(|i| results.get_mut(i));
        list.ok_or_else(|| Error::Invalid(format!("image {image} of a batch of {n}")))?.push(made);
        Ok(status::OK)
    };
    // SAFETY: the caller's promise.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn heatmap(
    cx: *mut c_void,
    image: u64,
    title: *const c_char,
    map: *const Array,
    notes: *const c_char,
    error: *mut Text,
) -> i32 {
    let make = |title, notes| {
        // SAFETY: the ABI: null or an array that is lent for the call.
        let (shape, data) = unsafe { array("heatmap", map) }?;
        let [h, w] = exact("heatmap", "[H, W]", &shape)?;
        Ok(Explanation::Heatmap { title, map: Heatmap::new(h, w, data)?, notes })
    };
    // SAFETY: the ABI: the host's context while the call lasts, texts, and the caller's error.
    unsafe { add(cx, image, title, notes, error, make) }
}

unsafe extern "C" fn shift(
    cx: *mut c_void,
    image: u64,
    title: *const c_char,
    series: *const SeriesV1,
    notes: *const c_char,
    error: *mut Text,
) -> i32 {
    let make = |title, notes| {
        // SAFETY: the ABI: null or a series that is lent for the call.
        let series = unsafe { series.as_ref() }.ok_or_else(|| Error::invalid("a null series"))?;
        // SAFETY: as above.
        Ok(Explanation::Shift { title, series: unsafe { read_series(series) }?, notes })
    };
    // SAFETY: as for `heatmap`.
    unsafe { add(cx, image, title, notes, error, make) }
}

/// # Safety
/// The series' arrays must be valid for reading their shapes.
unsafe fn read_series(s: &SeriesV1) -> Result<ShiftSeries> {
    let finite = |what: &str, a: &Array| {
        // SAFETY: the caller's promise.
        let (shape, values) = unsafe { array(what, a) }?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(Error::NotFinite { what: what.into(), index, value: values[index] }),
            None => Ok((shape, values)),
        }
    };
    // SAFETY: the caller's promise.
    let images = unsafe { images(&raw const s.images) }?;
    let n = images.len();
    let per_image = |what: &str, a: &Array| match finite(what, a)? {
        (shape, values) if shape == [n] => Ok(values),
        (found, _) => {
            Err(Error::Shape { what: what.into(), expected: format!("[{n}], one for each image"), found })
        }
    };
    let (lambdas, scores) =
        (per_image("series: lambdas", &s.lambdas)?, per_image("series: scores", &s.scores)?);
    if !lambdas.is_sorted() {
        return Err(Error::Invalid(format!("series: lambdas {lambdas:?} do not ascend")));
    }
    let origin =
        usize::try_from(s.origin).ok().filter(|o| lambdas.get(*o) == Some(&0.0)).ok_or_else(|| {
            Error::Invalid(format!("series: origin {} is no index of a lambda of 0 in {lambdas:?}", s.origin))
        })?;
    let (_, code) = finite("series: code", &s.code)?;
    let latent_score = (!s.latent_score.is_nan()).then_some(s.latent_score);
    Ok(ShiftSeries { lambdas, images, scores, code, origin, latent_score, calibration: None })
}

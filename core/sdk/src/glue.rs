//! What [`export_plugin!`](crate::export_plugin) expands to calls of: a library's roles, its instances, and an
//! explainer's way to the host. Not meant to be used by hand.

use crate::Create;
use crate::bridge::answer::{self, guard};
use crate::bridge::call::Peer;
use crate::bridge::serve::{Components, Served, State, Tables, address, with};
use crate::bridge::{call, proxy};
use shiftlens_abi::{
    ABI_VERSION, Array, CancelV1, ExplainerV1, GeneratorV1, Host, LatentV1, LogV1, MAGIC, Plugin,
    PredictorV1, ProgressV1, ResultsV1, SeriesV1, Text, capability, host, status,
};
use shiftlens_api::{
    Context, Direction, DirectionFinder, Encoder, Error, Explainer, Explanation, Generator, LatentSpace,
    Level, Monitor, Predictor, Result, Target,
};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

/// A component of any role.
pub enum Object {
    /// `generator`
    Generator(Box<dyn Generator>),
    /// `encoder`
    Encoder(Box<dyn Encoder>),
    /// `predictor`
    Predictor(Box<dyn Predictor>),
    /// `direction`
    Direction(Box<dyn DirectionFinder>),
    /// `explainer`
    Explainer(Box<dyn Explainer>),
}

impl Components for Object {
    fn generator(&mut self) -> Option<&mut dyn Generator> {
        if let Self::Generator(x) = self { Some(&mut **x) } else { None }
    }
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        if let Self::Encoder(x) = self { Some(&mut **x) } else { None }
    }
    fn predictor(&mut self) -> Option<&mut dyn Predictor> {
        if let Self::Predictor(x) = self { Some(&mut **x) } else { None }
    }
    fn finder(&mut self) -> Option<&mut dyn DirectionFinder> {
        if let Self::Direction(x) = self { Some(&mut **x) } else { None }
    }
    fn explainer(&mut self) -> Option<&mut dyn Explainer> {
        if let Self::Explainer(x) = self { Some(&mut **x) } else { None }
    }
}

/// What an instance pointer leads to.
pub struct Instance {
    state: Mutex<State<Object>>,
}

impl Served for Instance {
    type Components = Object;
    fn state(&self) -> &Mutex<State<Object>> {
        &self.state
    }
}

/// One capability of a library.
pub struct Role {
    capability: &'static CStr,
    make: fn(&serde_json::Value) -> Result<Object>,
}

impl Role {
    /// The capability's name for the library's list.
    pub const fn name(&self) -> Name {
        Name(self.capability.as_ptr())
    }
}

/// A C string in a constant list.
#[repr(transparent)]
pub struct Name(*const c_char);

impl Name {
    /// The list's end.
    pub const END: Self = Self(std::ptr::null());
}

// SAFETY: leads to a constant, or is null.
unsafe impl Sync for Name {}

/// Roles by their names in the macro.
pub mod role {
    use super::{Create, Object, Role, capability};
    use shiftlens_api::{DirectionFinder, Encoder, Explainer, Generator, Predictor};

    /// `generator: T`
    pub const fn generator<T: Create + Generator + 'static>() -> Role {
        Role { capability: capability::GENERATOR, make: |p| Ok(Object::Generator(Box::new(T::create(p)?))) }
    }
    /// `encoder: T`
    pub const fn encoder<T: Create + Encoder + 'static>() -> Role {
        Role { capability: capability::ENCODER, make: |p| Ok(Object::Encoder(Box::new(T::create(p)?))) }
    }
    /// `predictor: T`
    pub const fn predictor<T: Create + Predictor + 'static>() -> Role {
        Role { capability: capability::PREDICTOR, make: |p| Ok(Object::Predictor(Box::new(T::create(p)?))) }
    }
    /// `direction: T`
    pub const fn direction<T: Create + DirectionFinder + 'static>() -> Role {
        Role { capability: capability::DIRECTION, make: |p| Ok(Object::Direction(Box::new(T::create(p)?))) }
    }
    /// `explainer: T`
    pub const fn explainer<T: Create + Explainer + 'static>() -> Role {
        Role { capability: capability::EXPLAINER, make: |p| Ok(Object::Explainer(Box::new(T::create(p)?))) }
    }
}

/// The roles of a library, as a type.
pub trait Library {
    /// In the order of the export line.
    const ROLES: &'static [Role];
}

/// `text`, which ends with NUL, as a C string; refuses any other at compile time.
pub const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the plugin's id, name or version contains a NUL character"),
    }
}

/// The exported constant.
pub const fn plugin<L: Library>(
    id: &'static CStr,
    name: &'static CStr,
    version: &'static CStr,
    capabilities: &'static [Name],
) -> Plugin {
    Plugin {
        magic: MAGIC,
        abi_version: ABI_VERSION,
        struct_size: size_of::<Plugin>() as u32,
        id: id.as_ptr(),
        name: name.as_ptr(),
        version: version.as_ptr(),
        // `Name` is transparent over a pointer.
        capabilities: capabilities.as_ptr().cast(),
        create: Some(create::<L>),
        get_interface: Some(get_interface),
        destroy: Some(destroy),
    }
}

unsafe extern "C" fn create<L: Library>(
    _host: *const Host,
    capability: *const c_char,
    params_json: *const c_char,
    instance: *mut *mut c_void,
    error: *mut Text,
) -> i32 {
    answer::report_panics_as_errors();
    let body = || {
        // SAFETY: the ABI: texts end with NUL.
        let wanted = unsafe { answer::text("capability", capability) }?;
        let role =
            L::ROLES.iter().find(|r| r.capability.to_bytes() == wanted.as_bytes()).ok_or_else(|| {
                let all: Vec<_> = L::ROLES.iter().map(|r| r.capability.to_string_lossy()).collect();
                Error::Unsupported(format!("`{wanted}` is not offered; offered: {}", all.join(", ")))
            })?;
        // SAFETY: as above.
        let params = unsafe { answer::text("params", params_json) }?;
        let params =
            serde_json::from_str(&params).map_err(|e| Error::Invalid(format!("params: no JSON: {e}")))?;
        let state = Mutex::new(State { components: (role.make)(&params)?, pending: Default::default() });
        let made = Box::new(Instance { state });
        // SAFETY: the ABI: null or room for one pointer.
        let out =
            unsafe { instance.as_mut() }.ok_or_else(|| Error::invalid("a null place for the instance"))?;
        *out = Box::into_raw(made).cast();
        Ok(status::OK)
    };
    // SAFETY: the ABI: `error` is the caller's.
    unsafe { guard(error, body) }
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    // SAFETY: the ABI: made by `create`, and no call follows.
    let instance = unsafe { Box::from_raw(instance.cast::<Instance>()) };
    // A panic while dropping has nobody to tell; it must not cross the boundary.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(instance)));
}

unsafe extern "C" fn get_interface(instance: *mut c_void, name: *const c_char) -> *const c_void {
    type T = Tables<Instance>;
    let mut found = std::ptr::null();
    let body = || {
        // SAFETY: the ABI: a text that ends with NUL.
        let name = unsafe { answer::text("interface", name) }?;
        let is = |c: &CStr| c.to_bytes() == name.as_bytes();
        // SAFETY: the ABI: made by `create`.
        unsafe {
            with::<Instance, _>(instance, |s| {
                found = match &mut s.components {
                    Object::Generator(_) if is(capability::GENERATOR) => address(&T::GENERATOR),
                    Object::Encoder(_) if is(capability::ENCODER) => address(&T::ENCODER),
                    Object::Predictor(_) if is(capability::PREDICTOR) => address(&T::PREDICTOR),
                    Object::Predictor(f) if is(capability::GRADIENTS) => match f.gradients() {
                        Some(_) => address(&T::GRADIENTS),
                        None => std::ptr::null(),
                    },
                    Object::Predictor(f) if is(capability::ACTIVATIONS) => match f.gradients() {
                        Some(_) => address(&T::ACTIVATIONS),
                        None => std::ptr::null(),
                    },
                    Object::Direction(_) if is(capability::DIRECTION) => address(&T::DIRECTION),
                    Object::Explainer(_) if is(capability::EXPLAINER) => address(&EXPLAINER),
                    _ => std::ptr::null(),
                };
                Ok(status::OK)
            })
        }
    };
    // SAFETY: null asks for no error text.
    unsafe { guard(std::ptr::null_mut(), body) };
    found
}

static EXPLAINER: ExplainerV1 = ExplainerV1 { explain: Some(explain) };

unsafe extern "C" fn explain(
    instance: *mut c_void,
    host: *const Host,
    images: *const Array,
    target_class: u64,
    target_name: *const c_char,
    seed: u64,
    error: *mut Text,
) -> i32 {
    let body = || {
        // SAFETY: the ABI: the image array is the caller's.
        let x = unsafe { answer::images(images) }?;
        // SAFETY: the ABI: a text that ends with NUL.
        let name = unsafe { answer::text("target name", target_name) }?;
        let target = Target { class: target_class as usize, name };
        // SAFETY: the ABI: null, or a host that lives until this call ends.
        let host = HostView(unsafe { host.as_ref() }.ok_or_else(|| Error::invalid("explain: a null host"))?);
        // SAFETY: the ABI: made by `create`.
        unsafe {
            with::<Instance, _>(instance, |s| explain_with(&host, &mut s.components, &x, &target, seed))
        }?;
        Ok(status::OK)
    };
    // SAFETY: the ABI: `error` is the caller's.
    unsafe { guard(error, body) }
}

fn explain_with(
    host: &HostView<'_>,
    object: &mut Object,
    x: &shiftlens_api::Images,
    target: &Target,
    seed: u64,
) -> Result<()> {
    let explainer =
        object.explainer().ok_or_else(|| Error::Unsupported("this instance is no explainer".into()))?;
    let table = host.table::<PredictorV1>()?;
    let table = table.ok_or_else(|| Error::Unsupported("the host offers no predictor".into()))?;
    // SAFETY: a host's tables keep the contract on its context while the host lives.
    let mut predictor = unsafe { proxy::Predictor::new(host.peer(), table, host.table()?, host.table()?) }?;
    let mut latent = host.table::<LatentV1>()?.map(|t| Latent::new(host, t)).transpose()?;
    let monitor = HostMonitor {
        context: host.0.context,
        log: host.table()?,
        progress: host.table()?,
        cancel: host.table()?,
    };
    let mut cx = Context {
        predictor: &mut predictor,
        latent: latent.as_mut().map(|l| LatentSpace {
            generator: &mut l.generator,
            encoder: &mut l.encoder,
            direction: &l.direction,
        }),
        monitor: &monitor,
        seed,
    };
    let all = explainer.explain(&mut cx, x, target)?;
    if all.len() != x.len() {
        return Err(Error::Invalid(format!("{} lists of explanations for {} images", all.len(), x.len())));
    }
    let results = Results::new(host)?;
    for (image, list) in all.iter().enumerate() {
        for explanation in list {
            results.push(image as u64, explanation)?;
        }
    }
    Ok(())
}

/// The host during one call of `explain`.
struct HostView<'a>(&'a Host);

impl HostView<'_> {
    /// A copy of the host's table of type `T`, where the host offers it.
    fn table<T: HostTable>(&self) -> Result<Option<T>> {
        let f = self.0.get_interface.ok_or_else(|| Error::invalid("the host's get_interface is null"))?;
        // SAFETY: the ABI: a live host answers any name with null or a table that lives as long as itself.
        let table = unsafe { f(std::ptr::from_ref(self.0), T::NAME.as_ptr()) };
        // SAFETY: null, or the table type that goes with the name.
        Ok(unsafe { table.cast::<T>().as_ref() }.copied())
    }
    fn peer(&self) -> Peer<()> {
        // SAFETY: the ABI: the context is valid while the host lives. Peers made here are locals of the `explain` call
        // and reach the plugin's author only as borrows that end before it.
        unsafe { Peer::new(self.0.context, "host", ()) }
    }
}

/// A table of the host, with the name that leads to it.
trait HostTable: Copy {
    const NAME: &'static CStr;
}

macro_rules! host_tables {
    ($($table:ty: $name:ident),*) => {
        $(impl HostTable for $table { const NAME: &'static CStr = host::$name; })*
    };
}
host_tables!(
    PredictorV1: PREDICT,
    shiftlens_abi::GradientsV1: GRADIENTS,
    shiftlens_abi::ActivationsV1: ACTIVATIONS,
    LatentV1: LATENT,
    ResultsV1: RESULTS,
    LogV1: LOG,
    ProgressV1: PROGRESS,
    CancelV1: CANCEL
);

/// The host's latent space.
struct Latent {
    generator: proxy::Generator<()>,
    encoder: proxy::Encoder<()>,
    direction: Direction,
}

impl Latent {
    fn new(host: &HostView<'_>, t: LatentV1) -> Result<Self> {
        let g = GeneratorV1 { info: t.info, sample: t.sample, synthesize: t.synthesize };
        let mut peer = host.peer();
        let (f, cx) = (peer.function("direction", t.direction)?, peer.context());
        // SAFETY: the ABI: the host's function on the host's context, with buffers that have the room they say.
        let direction = proxy::direction(&peer, "direction", None, |a, s, e| unsafe { f(cx, a, s, e) })?;
        Ok(Self {
            // SAFETY: a host's table keeps the contract on its context while the host lives.
            generator: unsafe { proxy::Generator::new(host.peer(), g) }?,
            // SAFETY: as above.
            encoder: unsafe {
                proxy::Encoder::new(host.peer(), shiftlens_abi::EncoderV1 { encode: t.encode })
            },
            direction,
        })
    }
}

/// Log, progress and cancellation of the host.
struct HostMonitor {
    context: *mut c_void,
    log: Option<LogV1>,
    progress: Option<ProgressV1>,
    cancel: Option<CancelV1>,
}

// SAFETY: the ABI: these three interfaces may be called by several threads at once while the host lives.
unsafe impl Sync for HostMonitor {}

impl Monitor for HostMonitor {
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => 0,
            Level::Info => 1,
            Level::Warn => 2,
        };
        let message = message.replace('\0', "\u{fffd}");
        if let (Some(f), Ok(message)) = (self.log.and_then(|t| t.log), call::c_string("log", &message)) {
            // SAFETY: the ABI: the host's function on the host's context, while the host lives.
            unsafe { f(self.context, level, message.as_ptr()) };
        }
    }
    fn progress(&self, what: &str, done: u64, total: u64) {
        let what = what.replace('\0', "\u{fffd}");
        if let (Some(f), Ok(what)) =
            (self.progress.and_then(|t| t.progress), call::c_string("progress", &what))
        {
            // SAFETY: as for `log`.
            unsafe { f(self.context, what.as_ptr(), done, total) };
        }
    }
    fn cancelled(&self) -> bool {
        // SAFETY: as for `log`.
        self.cancel.and_then(|t| t.cancelled).is_some_and(|f| unsafe { f(self.context) } != 0)
    }
}

/// Where explanations go.
struct Results {
    context: *mut c_void,
    table: ResultsV1,
}

impl Results {
    fn new(host: &HostView<'_>) -> Result<Self> {
        let table = host.table()?;
        let table = table.ok_or_else(|| Error::Unsupported("the host takes no explanations".into()))?;
        Ok(Self { context: host.0.context, table })
    }
    fn push(&self, image: u64, explanation: &Explanation) -> Result<()> {
        let (Explanation::Heatmap { title, notes, .. } | Explanation::Shift { title, notes, .. }) =
            explanation;
        let title = call::c_string("title", title)?;
        let notes = serde_json::to_string(notes).map_err(|e| Error::Invalid(e.to_string()))?;
        let notes = call::c_string("notes", &notes)?;
        let missing = || Error::invalid("the host's results table has a null");
        match explanation {
            Explanation::Heatmap { map, .. } => {
                let (h, w) = map.size();
                let map = proxy::view(map.as_slice(), &[h, w])?;
                let f = self.table.heatmap.ok_or_else(missing)?;
                call::checked("host", "heatmap", &[], |e| {
                    // SAFETY: the ABI: the host's function on its context, views and texts that live through the call.
                    unsafe { f(self.context, image, title.as_ptr(), &raw const map, notes.as_ptr(), e) }
                })?;
            }
            Explanation::Shift { series, .. } => {
                let s = SeriesV1 {
                    lambdas: proxy::view(&series.lambdas, &[series.lambdas.len()])?,
                    images: proxy::view(series.images.as_slice(), &series.images.shape())?,
                    scores: proxy::view(&series.scores, &[series.scores.len()])?,
                    code: proxy::view(&series.code, &[series.code.len()])?,
                    origin: series.origin as u64,
                    latent_score: series.latent_score.unwrap_or(f32::NAN),
                    reserved: 0,
                };
                let f = self.table.shift.ok_or_else(missing)?;
                call::checked("host", "shift", &[], |e| {
                    // SAFETY: as for the heatmap.
                    unsafe { f(self.context, image, title.as_ptr(), &raw const s, notes.as_ptr(), e) }
                })?;
            }
        }
        Ok(())
    }
}

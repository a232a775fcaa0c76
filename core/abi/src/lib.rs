//! The C ABI of Shiftlens plugins: repr(C) types and the C header.
//!
//! A plugin is a shared library that exports one constant, [`Plugin`], under the name [`SYMBOL`]. The host asks it
//! for instances of *capabilities* by versioned name ([`capability`]) and for each instance's *interfaces*, structs of
//! functions. The host offers interfaces of its own by name ([`host`]) while an explainer runs.
//!
//! `include/shiftlens.h` says the same in C99, with units, shapes, ownership and the thread rule beside every
//! function; a test compiles it and compares every size and offset with the types here. The header is the reference;
//! this crate repeats only what a Rust reader needs.
//!
//! Published structs never change: a new function comes in a new interface under a new number.

#![no_std]

mod interfaces;
pub mod wire;

pub use interfaces::{
    ActivationsV1, CancelV1, DirectionStatsV1, DirectionV1, EncoderV1, ExplainerV1, GeneratorV1,
    GradientOutputV1, GradientRequestV1, GradientsV1, LatentV1, LogV1, PredictorV1, ProgressV1, ResultsV1,
    SeriesV1,
};

use core::ffi::{CStr, c_char, c_void};

/// First eight bytes of a [`Plugin`]: `SHFTLENS` in a little-endian file.
pub const MAGIC: u64 = 0x534e_454c_5446_4853;
/// The version of everything in this crate. Host and plugin must have the same.
pub const ABI_VERSION: u32 = 1;
/// Name of the one symbol that a plugin library exports.
pub const SYMBOL: &CStr = c"shiftlens_plugin";
/// Most dimensions of an array.
pub const MAX_RANK: usize = 8;

/// What a plugin's instances can be.
pub mod capability {
    use core::ffi::CStr;
    /// Instances offer [`crate::GeneratorV1`].
    pub const GENERATOR: &CStr = c"shiftlens.generator/1";
    /// Instances offer [`crate::EncoderV1`].
    pub const ENCODER: &CStr = c"shiftlens.encoder/1";
    /// Instances offer [`crate::PredictorV1`], and [`GRADIENTS`] where they are white boxes.
    pub const PREDICTOR: &CStr = c"shiftlens.predictor/1";
    /// Instances offer [`crate::DirectionV1`].
    pub const DIRECTION: &CStr = c"shiftlens.direction/1";
    /// Instances offer [`crate::ExplainerV1`].
    pub const EXPLAINER: &CStr = c"shiftlens.explainer/1";
    /// [`crate::GradientsV1`], an additional interface of a predictor's instance. Nothing is created under this name.
    pub const GRADIENTS: &CStr = c"shiftlens.gradients/1";
    /// [`crate::ActivationsV1`], an additional interface of an instance that offers [`GRADIENTS`]. Nothing is created
    /// under this name.
    pub const ACTIVATIONS: &CStr = c"shiftlens.activations/1";
}

/// What the host offers while an explainer runs.
pub mod host {
    use core::ffi::CStr;
    /// [`crate::PredictorV1`]: the black box f. Always there.
    pub const PREDICT: &CStr = c"shiftlens.host.predict/1";
    /// [`crate::GradientsV1`]: only if f is a white box.
    pub const GRADIENTS: &CStr = c"shiftlens.host.gradients/1";
    /// [`crate::ActivationsV1`]: only if f is a white box; it may still answer [`crate::status::UNSUPPORTED`].
    pub const ACTIVATIONS: &CStr = c"shiftlens.host.activations/1";
    /// [`crate::LatentV1`]: only if the study has a generator, an encoder and a direction.
    pub const LATENT: &CStr = c"shiftlens.host.latent/1";
    /// [`crate::ResultsV1`]: where explanations go. Always there.
    pub const RESULTS: &CStr = c"shiftlens.host.results/1";
    /// [`crate::LogV1`]. Always there.
    pub const LOG: &CStr = c"shiftlens.host.log/1";
    /// [`crate::ProgressV1`]. Always there.
    pub const PROGRESS: &CStr = c"shiftlens.host.progress/1";
    /// [`crate::CancelV1`]. Always there.
    pub const CANCEL: &CStr = c"shiftlens.host.cancel/1";
}

/// What a function answers: 0 for success; anything else is an error whose text is in the error buffer.
pub mod status {
    /// Success.
    pub const OK: i32 = 0;
    /// A parameter or an argument is outside its domain.
    pub const INVALID: i32 = 1;
    /// This instance cannot do it; another may.
    pub const UNSUPPORTED: i32 = 2;
    /// An array has another shape than is needed.
    pub const SHAPE: i32 = 3;
    /// NaN or infinity where a finite number is needed.
    pub const NOT_FINITE: i32 = 4;
    /// The buffer's capacity is smaller than the shape, which has been written.
    pub const TOO_SMALL: i32 = 5;
    /// The work was asked to stop.
    pub const CANCELLED: i32 = 6;
    /// The work failed.
    pub const FAILED: i32 = 7;
    /// A panic or an exception was caught.
    pub const PANIC: i32 = 8;
}

/// An array that is lent for one call: row-major, `shape[0]` outermost.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Array {
    /// The product of `shape[..rank]` values; may be null if that is 0.
    pub data: *const f32,
    /// Number of dimensions, at most [`MAX_RANK`].
    pub rank: u32,
    /// 0.
    pub reserved: u32,
    /// Sizes; those from `rank` on are 0.
    pub shape: [u64; MAX_RANK],
}

/// Room for an answer, allocated by the caller. The callee writes `rank` and `shape`, and the values unless `data` is
/// null (then the caller only asks for the shape).
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// Room for `capacity` values, or null.
    pub data: *mut f32,
    /// Number of values that fit.
    pub capacity: u64,
    /// Written by the callee.
    pub rank: u32,
    /// 0.
    pub reserved: u32,
    /// Written by the callee.
    pub shape: [u64; MAX_RANK],
}

/// Room for UTF-8 text, allocated by the caller. The callee writes at most `capacity` bytes and sets `length` to the
/// full length, so that a caller who finds it larger than `capacity` can ask again. No NUL is needed.
#[repr(C)]
#[derive(Debug)]
pub struct Text {
    /// Room for `capacity` bytes.
    pub data: *mut c_char,
    /// Number of bytes that fit.
    pub capacity: u64,
    /// Written by the callee; may exceed `capacity`.
    pub length: u64,
}

/// The host as a plugin sees it. `get_interface` answers null for what is not offered.
#[repr(C)]
#[derive(Debug)]
pub struct Host {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Name of the program, UTF-8 with NUL.
    pub name: *const c_char,
    /// Its version, UTF-8 with NUL.
    pub version: *const c_char,
    /// First argument of every function of the host's interfaces.
    pub context: *mut c_void,
    /// Struct of functions under a name of [`host`], or null.
    pub get_interface: Option<unsafe extern "C" fn(host: *const Host, name: *const c_char) -> *const c_void>,
}

/// `create` of a [`Plugin`].
pub type Create = unsafe extern "C" fn(
    host: *const Host,
    capability: *const c_char,
    params_json: *const c_char,
    instance: *mut *mut c_void,
    error: *mut Text,
) -> i32;
/// `get_interface` of a [`Plugin`].
pub type GetInterface = unsafe extern "C" fn(instance: *mut c_void, name: *const c_char) -> *const c_void;
/// `destroy` of a [`Plugin`].
pub type Destroy = unsafe extern "C" fn(instance: *mut c_void);

/// The one thing that a plugin library exports.
#[repr(C)]
#[derive(Debug)]
pub struct Plugin {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Unique name, reverse-domain or `owner.plugin`; UTF-8 with NUL.
    pub id: *const c_char,
    /// Name for people; UTF-8 with NUL.
    pub name: *const c_char,
    /// Version of the plugin; UTF-8 with NUL.
    pub version: *const c_char,
    /// Names of [`capability`] that `create` accepts; ends with null.
    pub capabilities: *const *const c_char,
    /// Makes an instance.
    pub create: Option<Create>,
    /// Struct of functions of an instance, or null.
    pub get_interface: Option<GetInterface>,
    /// Ends an instance.
    pub destroy: Option<Destroy>,
}

// SAFETY: a `Plugin` is a constant; its pointers lead to constants of the same library, and its functions may be
// called from any thread.
unsafe impl Sync for Plugin {}
// SAFETY: as for `Sync`.
unsafe impl Send for Plugin {}

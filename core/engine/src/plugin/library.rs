//! One opened plugin library, and instances of what it offers.

use crate::registry::hash_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shiftlens_abi::{
    ABI_VERSION, ActivationsV1, DirectionV1, EncoderV1, ExplainerV1, GeneratorV1, GradientsV1, Host, MAGIC,
    Plugin, PredictorV1, SYMBOL, wire,
};
use shiftlens_api::{Error, Result};
use shiftlens_sdk::bridge::call::{Peer, c_string, checked};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null, null_mut};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What a library says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// The file.
    pub path: PathBuf,
    /// Unique name, such as `shiftlens.gradcam`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Version of the plugin interface.
    pub abi_version: u32,
    /// Versioned names of what it offers, such as `shiftlens.explainer/1`.
    pub capabilities: Vec<String>,
    /// Of the file, in hexadecimal.
    pub sha256: String,
}

/// Opens the library at `path` and answers what it says of itself.
///
/// # Errors
/// As [`PluginLibrary::open`].
pub fn inspect(path: &Path) -> Result<PluginInfo> {
    let lib = PluginLibrary::open(path)?;
    Ok(PluginInfo {
        path: lib.path.clone(),
        id: lib.id.clone(),
        name: lib.name.clone(),
        version: lib.version.clone(),
        abi_version: ABI_VERSION,
        capabilities: lib.capabilities.clone(),
        sha256: hash_file(path)?,
    })
}

/// An opened library. It stays loaded until the program ends.
#[derive(Debug)]
pub struct PluginLibrary {
    path: PathBuf,
    id: String,
    name: String,
    version: String,
    capabilities: Vec<String>,
    plugin: &'static Plugin,
}

/// Libraries opened so far, by canonical path.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Arc<PluginLibrary>>>> = LazyLock::new(Mutex::default);

impl PluginLibrary {
    /// Opens the library at `path`; the same file gives the same library again.
    ///
    /// Opening runs the library's own start-up code, so only open files that are trusted as programs are.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Invalid`] if it is no shared library, or none of this
    /// version of the plugin interface.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let file = path.canonicalize().map_err(|e| Error::io(path, e))?;
        if !file.is_file() {
            return Err(Error::Invalid(format!("plugin library {} is no file", path.display())));
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lib) = open.get(&file) {
            return Ok(Arc::clone(lib));
        }
        let lib = Arc::new(Self { path: path.to_path_buf(), ..load(&file, path)? });
        open.insert(file, Arc::clone(&lib));
        Ok(lib)
    }

    /// Unique name of the plugin.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// Name for people.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Version of the plugin.
    pub fn version(&self) -> &str {
        &self.version
    }
    /// Versioned names of what it offers.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }
    /// The file, as it was given when it was first opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// `plugin ID VERSION`, as errors and reports name it.
    pub fn label(&self) -> String {
        format!("plugin {} {}", self.id, self.version)
    }

    /// Makes an instance of the capability whose table is `T`, with that table.
    pub(super) fn create<T: Table>(self: &Arc<Self>, params: &Value) -> Result<(Instance, T)> {
        let (who, wanted) = (self.label(), T::NAME.to_string_lossy());
        if !self.capabilities.iter().any(|c| *c == wanted) {
            return Err(Error::Unsupported(format!(
                "{who} ({}) offers no `{wanted}`; it offers: {}",
                self.path.display(),
                if self.capabilities.is_empty() { "nothing".into() } else { self.capabilities.join(", ") }
            )));
        }
        let text = match params {
            Value::Null => "{}".to_string(),
            Value::Object(_) => params.to_string(),
            other => return Err(Error::Invalid(format!("{who}: params: expected a table, found {other}"))),
        };
        let params = c_string("params", &text)?;
        let missing = |f: &str| Error::component(&who, format!("{f}: the plugin has a null here"));
        let create = self.plugin.create.ok_or_else(|| missing("create"))?;
        self.plugin.destroy.ok_or_else(|| missing("destroy"))?;
        self.plugin.get_interface.ok_or_else(|| missing("get_interface"))?;
        let mut instance: *mut c_void = null_mut();
        checked(&who, "create", &[], |error| {
            // SAFETY: the ABI: a constant host, two texts, a place for the instance, and room for an error; all
            // outlive the call, and the host outlives the instance.
            unsafe { create(&raw const HOST.0, T::NAME.as_ptr(), params.as_ptr(), &raw mut instance, error) }
        })?;
        let instance = NonNull::new(instance)
            .ok_or_else(|| Error::component(&who, "create: reported success without an instance"))?;
        let instance = Instance { pointer: instance, lib: Arc::clone(self) };
        let table = instance.interface();
        let table = table.ok_or_else(|| {
            Error::component(
                &who,
                format!("get_interface: null for `{wanted}`, for which the instance was made"),
            )
        })?;
        Ok((instance, table))
    }
}

/// Reads and checks the exported constant.
fn load(file: &Path, shown: &Path) -> Result<PluginLibrary> {
    let refuse = |why: String| Error::Invalid(format!("plugin library {}: {why}", shown.display()));
    // SAFETY: running the start-up code of a library that the user names is what a plugin system is for; the
    // documentation of `open` says so.
    let lib = unsafe { libloading::Library::new(file) }
        .map_err(|e| refuse(format!("cannot be loaded as a shared library: {}", innermost(&e))))?;
    // SAFETY: only the symbol's address is taken here; what is there is judged below before it is believed.
    let symbol = unsafe { lib.get::<*const Plugin>(SYMBOL.to_bytes_with_nul()) }.map(|s| *s).map_err(|_| {
        refuse(format!(
            "exports no `{}`, so it is no Shiftlens plugin (Rust: add one export_plugin! line; C: see shiftlens.h)",
            SYMBOL.to_string_lossy()
        ))
    })?;
    // Never unloaded: threads, destructors and pointers of the library may outlive every instance.
    std::mem::forget(lib);
    if symbol.is_null() || !symbol.is_aligned() {
        return Err(refuse(format!("`{}` is not where a constant can be", SYMBOL.to_string_lossy())));
    }
    // The first two fields are where every version has them, so they are read alone.
    // SAFETY: aligned and not null; the first 8 bytes of whatever the symbol names.
    let magic = unsafe { (&raw const (*symbol).magic).read() };
    if magic != MAGIC {
        return Err(refuse(format!(
            "`{}` begins with {magic:#018x}, expected {MAGIC:#018x}: it is no Shiftlens plugin",
            SYMBOL.to_string_lossy()
        )));
    }
    // SAFETY: the magic says that this is a `Plugin` of some version, all of which have these two fields.
    let (version, size) =
        unsafe { ((&raw const (*symbol).abi_version).read(), (&raw const (*symbol).struct_size).read()) };
    if version != ABI_VERSION {
        return Err(refuse(format!(
            "built for version {version} of the plugin interface, this program has version {ABI_VERSION}: rebuild the \
             plugin against this release, or use the release that it was built for"
        )));
    }
    if (size as usize) < size_of::<Plugin>() {
        return Err(refuse(format!(
            "its `struct_size` is {size}, expected {}: set it to sizeof(shiftlens_plugin_t)",
            size_of::<Plugin>()
        )));
    }
    // SAFETY: magic, version and size say that it is a `Plugin` of this version; it is constant and never unloaded.
    let plugin: &'static Plugin = unsafe { &*symbol };
    let text = |what: &str, p: *const c_char| {
        // SAFETY: the ABI: null or a constant text.
        unsafe { wire::text(p) }
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| refuse(format!("its `{what}` is null, empty or not UTF-8")))
    };
    let mut capabilities = Vec::new();
    let mut next = plugin.capabilities;
    while !next.is_null() {
        // SAFETY: the ABI: the list ends with null, which has not been reached.
        let entry = unsafe { *next };
        if entry.is_null() {
            break;
        }
        capabilities.push(text("capabilities", entry)?);
        // SAFETY: the entry was not the end, so there is another.
        next = unsafe { next.add(1) };
    }
    Ok(PluginLibrary {
        path: PathBuf::new(),
        id: text("id", plugin.id)?,
        name: text("name", plugin.name)?,
        version: text("version", plugin.version)?,
        capabilities,
        plugin,
    })
}

/// What the system said, without the wrapping.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut e = error;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

/// The host that `create` is given: who it is, and no interface.
static HOST: HostConstant = HostConstant(Host {
    abi_version: ABI_VERSION,
    struct_size: size_of::<Host>() as u32,
    name: c"shiftlens".as_ptr(),
    version: version().as_ptr(),
    context: null_mut(),
    get_interface: Some(no_interface),
});

#[repr(transparent)]
struct HostConstant(Host);

// SAFETY: constant; its pointers lead to constants or are null.
unsafe impl Sync for HostConstant {}

unsafe extern "C" fn no_interface(_: *const Host, _: *const c_char) -> *const c_void {
    null()
}

/// This program's version as a C string.
pub(super) const fn version() -> &'static CStr {
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the package's version contains a NUL character"),
    }
}

/// A table of functions with its versioned name.
///
/// # Safety
/// The type must be what the ABI says for `NAME`.
pub(super) unsafe trait Table: Copy {
    /// The interface's name.
    const NAME: &'static CStr;
}

macro_rules! tables {
    ($($table:ty: $name:ident;)*) => {$(
        // SAFETY: as `shiftlens.h` says.
        unsafe impl Table for $table { const NAME: &'static CStr = shiftlens_abi::capability::$name; }
    )*};
}
tables! {
    GeneratorV1: GENERATOR;
    EncoderV1: ENCODER;
    PredictorV1: PREDICTOR;
    DirectionV1: DIRECTION;
    ExplainerV1: EXPLAINER;
    GradientsV1: GRADIENTS;
    ActivationsV1: ACTIVATIONS;
}

/// An instance of a plugin's component; destroyed when dropped.
#[derive(Debug)]
pub(super) struct Instance {
    pointer: NonNull<c_void>,
    lib: Arc<PluginLibrary>,
}

// SAFETY: the ABI: an instance may be called from any thread, one call at a time.
unsafe impl Send for Instance {}

impl Instance {
    /// A copy of the instance's table of type `T`, where it offers one.
    pub fn interface<T: Table>(&self) -> Option<T> {
        let get = self.lib.plugin.get_interface?;
        // SAFETY: the ABI: a live instance answers any name with null or a table that lives as long as the library;
        // the table's type goes with the name.
        unsafe { get(self.pointer.as_ptr(), T::NAME.as_ptr()).cast::<T>().as_ref() }.copied()
    }
    /// Whom a proxy of this instance calls.
    pub fn peer(self) -> Peer<Self> {
        let (pointer, who) = (self.pointer.as_ptr(), self.lib.label());
        // SAFETY: the instance is valid until it is dropped, and is now owned by the peer.
        unsafe { Peer::new(pointer, who, self) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.lib.plugin.destroy {
            // SAFETY: made by `create` of the same library, and no call follows.
            unsafe { destroy(self.pointer.as_ptr()) };
        }
    }
}

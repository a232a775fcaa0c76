//! What runs the graphs: ONNX Runtime where its library is found, else the embedded tract.
//!
//! The choice is made once per process, at the first use or by [`init`]:
//!
//! 1. the file that `ORT_DYLIB_PATH` names (if it is set and cannot be loaded, that is an error);
//! 2. `libonnxruntime` beside the executable;
//! 3. `<cache>/shiftlens/onnxruntime/1.30.0/` ([`cache_folder`]), where set-up puts it;
//! 4. the system's library folders;
//! 5. else tract, compiled into the program: the same results, slower, fewer operators.
//!
//! `SHIFTLENS_ONNX_BACKEND=native` or `embedded` forces one. [`backend_name`] says which one really runs.

use crate::embedded::check as check_embedded;
use ort::environment::Environment;
use ort::session::SessionInputValue;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, TensorElementType, TensorRef};
use shiftlens_api::{Error, Result, Tensor};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The version of ONNX Runtime that set-up installs and tests run with.
pub const NATIVE_VERSION: &str = "1.30.0";
/// What [`backend_name`] says for the embedded backend.
const EMBEDDED_NAME: &str = "tract (embedded) 0.23";

/// Which backend to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// ONNX Runtime where it is found, else tract.
    Auto,
    /// ONNX Runtime or an error.
    Native,
    /// tract.
    Embedded,
}

struct Backend {
    name: String,
    native: bool,
    environment: Environment,
    notes: Vec<String>,
}

static BACKEND: OnceLock<std::result::Result<Backend, String>> = OnceLock::new();
/// Creating sessions concurrently is a known fault of ONNX Runtime's bindings: one after another.
static CREATION: Mutex<()> = Mutex::new(());

/// Chooses the backend for the whole process instead of `SHIFTLENS_ONNX_BACKEND`. Answers its name.
///
/// # Errors
/// [`Error::Component`] if the backend cannot be had, or [`Error::Invalid`] if another was chosen before.
pub fn init(choice: Choice) -> Result<&'static str> {
    let backend = state(|| Ok(choice))?;
    let fits = match choice {
        Choice::Auto => true,
        Choice::Native => backend.native,
        Choice::Embedded => !backend.native,
    };
    if fits {
        Ok(&backend.name)
    } else {
        Err(Error::Invalid(format!("the ONNX backend is {} already; {choice:?} was asked for", backend.name)))
    }
}

/// The backend that really runs: `onnxruntime 1.30.0` or `tract (embedded) 0.23`.
///
/// # Errors
/// [`Error::Component`] if `ORT_DYLIB_PATH` or `SHIFTLENS_ONNX_BACKEND` asks for what cannot be had.
pub fn backend_name() -> Result<&'static str> {
    Ok(&current()?.name)
}

/// True for ONNX Runtime, false for the embedded backend.
///
/// # Errors
/// As [`backend_name`].
pub fn is_native() -> Result<bool> {
    Ok(current()?.native)
}

/// Libraries that were found but could not be used, and why. Empty as a rule.
///
/// # Errors
/// As [`backend_name`].
pub fn backend_notes() -> Result<&'static [String]> {
    Ok(&current()?.notes)
}

fn current() -> Result<&'static Backend> {
    state(|| match std::env::var("SHIFTLENS_ONNX_BACKEND").as_deref() {
        Err(_) | Ok("" | "auto") => Ok(Choice::Auto),
        Ok("native") => Ok(Choice::Native),
        Ok("embedded") => Ok(Choice::Embedded),
        Ok(other) => Err(format!(
            "SHIFTLENS_ONNX_BACKEND is \"{other}\", expected \"native\", \"embedded\" or \"auto\""
        )),
    })
}

fn state(choice: impl FnOnce() -> std::result::Result<Choice, String>) -> Result<&'static Backend> {
    BACKEND.get_or_init(|| start(choice()?)).as_ref().map_err(|e| Error::component("onnx backend", e))
}

fn start(choice: Choice) -> std::result::Result<Backend, String> {
    if choice == Choice::Embedded {
        return embedded(Vec::new());
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return native(Path::new(&path)).map_err(|e| {
            format!("ORT_DYLIB_PATH names a library that cannot be used: {e}; correct or unset it")
        });
    }
    let mut notes = Vec::new();
    for path in candidates() {
        if let Err(e) = check_library(&path) {
            notes.push(e);
            continue;
        }
        match native(&path) {
            Ok(backend) => return Ok(Backend { notes, ..backend }),
            Err(e) => notes.push(e),
        }
        // The bindings cannot try a second library: a failed load leaves them half initialised.
        break;
    }
    if choice == Choice::Native {
        let cache = cache_folder().map_or_else(|| "the cache folder".into(), |c| c.display().to_string());
        let tried = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        return Err(format!(
            "ONNX Runtime was asked for, but no usable library was found{tried}; put libonnxruntime {NATIVE_VERSION} \
             into {cache} or name it in ORT_DYLIB_PATH"
        ));
    }
    embedded(notes)
}

fn embedded(notes: Vec<String>) -> std::result::Result<Backend, String> {
    ort::set_api(ort_tract::api());
    let environment = ort::init().with_name("shiftlens").build().map_err(|e| e.to_string())?;
    Ok(Backend { name: EMBEDDED_NAME.into(), native: false, environment, notes })
}

/// Loads a library; to be called once per process, because the bindings do not survive a failed load.
fn native(path: &Path) -> std::result::Result<Backend, String> {
    check_library(path)?;
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let builder = ort::init_from(&path).map_err(|e| e.to_string())?;
    let environment = builder
        .with_name("shiftlens")
        .with_telemetry(false)
        .build()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    let version = std::fs::read(&path)
        .ok()
        .and_then(|bytes| library_version(&path, &bytes))
        .unwrap_or_else(|| "(unknown version)".into());
    Ok(Backend { name: format!("onnxruntime {version}"), native: true, environment, notes: Vec::new() })
}

/// `$XDG_CACHE_HOME` or `~/.cache`, then `shiftlens/onnxruntime/1.30.0`: where set-up puts the native library.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |v: &str| std::env::var_os(v).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|h| h.join(".cache")))
        .or_else(|| absolute("LOCALAPPDATA"))?;
    Some(base.join("shiftlens").join("onnxruntime").join(NATIVE_VERSION))
}

/// Existing libraries, in the order in which they are tried.
fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        found.extend(libraries_in(folder));
    }
    if let Some(cache) = cache_folder() {
        found.extend(libraries_in(&cache));
    }
    let path = if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" };
    let listed =
        std::env::var_os(path).map(|v| std::env::split_paths(&v).collect::<Vec<_>>()).unwrap_or_default();
    let usual = [
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/opt/homebrew/lib",
        "/opt/onnxruntime/lib",
    ];
    for folder in listed.into_iter().chain(usual.map(PathBuf::from)) {
        found.extend(libraries_in(&folder));
    }
    found
}

/// `libonnxruntime.so*` (or the platform's name for it) in a folder, the pinned version first, then newest first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let stem = format!("{prefix}onnxruntime");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| {
            n.strip_prefix(&stem).is_some_and(|rest| {
                let version = |s: &str| s.chars().all(|c| c == '.' || c.is_ascii_digit());
                rest.strip_prefix(suffix).is_some_and(version)
                    || rest.strip_suffix(suffix).is_some_and(version)
            })
        })
        .collect();
    names.sort_by_key(|n| (!n.contains(NATIVE_VERSION), std::cmp::Reverse(numbers(n))));
    names.into_iter().map(|n| folder.join(n)).collect()
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|s| s.parse().ok()).collect()
}

/// Refuses what is surely no usable library, without loading it: another file format or processor, a library without
/// ONNX Runtime's entry point, a version that is too old.
fn check_library(path: &Path) -> std::result::Result<(), String> {
    let shown = path.display();
    if !path.is_file() {
        return Err(format!("{shown}: no such file"));
    }
    let bytes = std::fs::read(path).map_err(|e| format!("{shown}: {e}"))?;
    if cfg!(target_os = "linux") {
        let machine: Option<u16> = match std::env::consts::ARCH {
            "x86_64" => Some(62),
            "aarch64" => Some(183),
            _ => None,
        };
        let found = bytes.get(18..20).map(|b| u16::from_le_bytes([b[0], b[1]]));
        if !bytes.starts_with(b"\x7fELF") {
            return Err(format!("{shown}: not a shared library"));
        }
        if machine.is_some() && found != machine {
            return Err(format!("{shown}: a library for another processor than {}", std::env::consts::ARCH));
        }
    }
    if find(&bytes, b"OrtGetApiBase").next().is_none() {
        return Err(format!("{shown}: not ONNX Runtime, it lacks OrtGetApiBase"));
    }
    let least = ort::MINOR_VERSION;
    match library_version(path, &bytes) {
        Some(v) if numbers(&v).get(1).is_some_and(|minor| *minor < u64::from(least)) => {
            Err(format!("{shown}: ONNX Runtime {v} is too old, 1.{least} or newer is needed"))
        }
        _ => Ok(()),
    }
}

/// Where `mark` occurs in `bytes`.
fn find<'a>(bytes: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = mark[0];
    bytes
        .iter()
        .enumerate()
        .filter(move |(i, b)| **b == first && bytes[*i..].starts_with(mark))
        .map(|(i, _)| i)
}

/// The version a library was built as: the linker's version node (`VERS_1.30.0`) in its bytes, else its file name.
///
/// ONNX Runtime's own version function is not offered by the safe bindings.
fn library_version(path: &Path, bytes: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"VERS_";
    let version_at = |from: usize| -> Option<String> {
        let text: String = bytes[from..]
            .iter()
            .take(16)
            .map(|b| *b as char)
            .take_while(|c| *c == '.' || c.is_ascii_digit())
            .collect();
        (numbers(&text).len() == 3).then_some(text)
    };
    let node = find(bytes, MARK).find_map(|i| version_at(i + MARK.len()));
    node.or_else(|| {
        let real = path.canonicalize().ok()?;
        let parts = numbers(real.file_name()?.to_str()?);
        (parts.len() == 3).then(|| format!("{}.{}.{}", parts[0], parts[1], parts[2]))
    })
}

/// One output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `float32` values.
    Float(Tensor),
    /// `float64` values, rounded.
    Double(Tensor),
    /// Integers or booleans, as `i64`.
    Int(Vec<usize>, Vec<i64>),
    /// Values of another type; only the shape is known.
    Other(Vec<usize>),
}

impl Value {
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(t) | Self::Double(t) => t.shape(),
            Self::Int(s, _) | Self::Other(s) => s,
        }
    }
}

/// A graph made ready to run.
pub struct Session {
    inner: ort::session::Session,
    outputs: Vec<String>,
    name: String,
}

impl Session {
    /// Prepares a model (the bytes of an `.onnx` file) that answers `outputs`; `name` is used in messages.
    /// `threads` bounds the threads of one run; the embedded backend always takes one.
    ///
    /// # Errors
    /// [`Error::Component`] with what the backend says, [`Error::Unsupported`] for a graph that the embedded backend would
    /// run to wrong values.
    pub fn new(model: &[u8], outputs: &[String], threads: Option<usize>, name: &str) -> Result<Self> {
        let backend = current()?;
        if !backend.native {
            check_embedded(model, name)?;
        }
        let fail = |e: &dyn std::fmt::Display| Error::component(&backend.name, format!("{name}: {e}"));
        let _one_at_a_time = CREATION.lock().unwrap_or_else(PoisonError::into_inner);
        let prepare = |level: GraphOptimizationLevel| -> ort::Result<ort::session::Session> {
            let mut builder =
                ort::session::Session::builder(&backend.environment)?.with_optimization_level(level)?;
            if backend.native {
                // Threads that wait for more work at the end of a run would take the cores from the next session.
                builder = builder.with_config_entry("session.force_spinning_stop", "1")?;
                if let Some(n) = threads {
                    builder = builder.with_intra_threads(n.max(1))?;
                }
            }
            builder.commit_from_memory(model)
        };
        let inner = match prepare(GraphOptimizationLevel::All) {
            Err(first) if !backend.native => {
                // Some graphs that tract runs well as they are trip its optimiser.
                prepare(GraphOptimizationLevel::Disable).map_err(|_| fail(&first))?
            }
            other => other.map_err(|e| fail(&e))?,
        };
        Ok(Self { inner, outputs: outputs.to_vec(), name: name.to_owned() })
    }

    /// Runs on named `float32` inputs, `(name, shape, values)`; one value per output.
    ///
    /// # Errors
    /// [`Error::Component`] with what the backend says, [`Error::Shape`] if an input's size is not its shape's.
    pub fn run(&mut self, inputs: &[(&str, &[usize], &[f32])]) -> Result<Vec<Value>> {
        self.run_with(inputs, &[])
    }

    /// As [`Session::run`], with further inputs of type `int64`.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(
        &mut self,
        floats: &[(&str, &[usize], &[f32])],
        integers: &[(&str, &[usize], &[i64])],
    ) -> Result<Vec<Value>> {
        let backend = current()?;
        let fail = |e: &dyn std::fmt::Display| Error::component(&backend.name, format!("{}: {e}", self.name));
        let mut feed: Vec<(String, SessionInputValue<'_>)> =
            Vec::with_capacity(floats.len() + integers.len());
        for (name, shape, data) in floats {
            self.check_input(name, shape, data.len())?;
            let value = TensorRef::from_array_view((shape.to_vec(), *data)).map_err(|e| fail(&e))?;
            feed.push((name.to_string(), value.into()));
        }
        for (name, shape, data) in integers {
            self.check_input(name, shape, data.len())?;
            let value = TensorRef::from_array_view((shape.to_vec(), *data)).map_err(|e| fail(&e))?;
            feed.push((name.to_string(), value.into()));
        }
        let answer = self.inner.run(feed).map_err(|e| fail(&e))?;
        self.outputs
            .iter()
            .map(|o| answer.get(o).ok_or_else(|| fail(&format!("no output \"{o}\""))).map(extract))
            .collect()
    }

    fn check_input(&self, name: &str, shape: &[usize], values: usize) -> Result<()> {
        if shape.iter().product::<usize>() == values {
            return Ok(());
        }
        Err(Error::Shape {
            what: format!("{}: input \"{name}\" with {values} values", self.name),
            expected: format!("{shape:?}"),
            found: vec![values],
        })
    }

    /// As [`Session::run`], for graphs whose outputs are all `float32`.
    ///
    /// # Errors
    /// Also [`Error::Unsupported`] for an output of another type.
    pub fn run_floats(&mut self, inputs: &[(&str, &[usize], &[f32])]) -> Result<Vec<Tensor>> {
        let values = self.run(inputs)?;
        values
            .into_iter()
            .zip(&self.outputs)
            .map(|(v, o)| match v {
                Value::Float(t) => Ok(t),
                _ => Err(Error::Unsupported(format!(
                    "{}: output \"{o}\" is not of type float32; export the model in single precision",
                    self.name
                ))),
            })
            .collect()
    }
}

fn extract(value: &DynValue) -> Value {
    // Sequences and maps have no shape.
    if !value.dtype().is_tensor() {
        return Value::Other(vec![]);
    }
    let shape: Vec<usize> = value.shape().iter().map(|d| (*d).max(0) as usize).collect();
    macro_rules! ints {
        ($t:ty) => {
            value.try_extract_tensor::<$t>().ok().map(|(_, d)| d.iter().map(|v| i64::from(*v)).collect())
        };
    }
    let ints: Option<Vec<i64>> = match value.data_type() {
        TensorElementType::Float32 => {
            let data = value.try_extract_tensor::<f32>().map(|(_, d)| d.to_vec()).unwrap_or_default();
            return Tensor::new(shape.clone(), data).map_or(Value::Other(shape), Value::Float);
        }
        TensorElementType::Float64 => {
            let data = value
                .try_extract_tensor::<f64>()
                .map(|(_, d)| d.iter().map(|v| *v as f32).collect())
                .unwrap_or_default();
            return Tensor::new(shape.clone(), data).map_or(Value::Other(shape), Value::Double);
        }
        TensorElementType::Int64 => ints!(i64),
        TensorElementType::Int32 => ints!(i32),
        TensorElementType::Uint8 => ints!(u8),
        TensorElementType::Int8 => ints!(i8),
        TensorElementType::Uint16 => ints!(u16),
        TensorElementType::Int16 => ints!(i16),
        TensorElementType::Bool => ints!(bool),
        _ => None,
    };
    match ints {
        Some(v) => Value::Int(shape, v),
        None => Value::Other(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_recognised_and_ordered() {
        let folder = std::env::temp_dir().join(format!("shiftlens-onnx-libs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (p, s) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let names = [
            format!("{p}onnxruntime{s}"),
            format!("{p}onnxruntime{s}.1.9.0"),
            format!("{p}onnxruntime{s}.1.30.0"),
            format!("{p}onnxruntime{s}.1.31.2"),
            format!("{p}onnxruntime_providers_shared{s}"),
        ];
        names.iter().for_each(|n| std::fs::write(folder.join(n), "x").unwrap());
        let found: Vec<String> =
            libraries_in(&folder).iter().map(|p| p.file_name().unwrap().to_str().unwrap().into()).collect();
        assert_eq!(found, [&names[2], &names[3], &names[1], &names[0]].map(Clone::clone));
        assert_eq!(library_version(&folder.join(&names[3]), b"x").as_deref(), Some("1.31.2"));
        assert_eq!(
            library_version(&folder.join(&names[0]), b"\0VERS_x\0VERS_1.30.0\0").as_deref(),
            Some("1.30.0")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_usable_library_is_refused_before_loading() {
        let path = std::env::temp_dir().join(format!("shiftlens-onnx-no-lib-{}", std::process::id()));
        let refused = |content: &[u8], word: &str| {
            std::fs::write(&path, content).unwrap();
            let e = native(&path).err().unwrap();
            assert!(e.contains("shiftlens-onnx-no-lib") && e.contains(word), "{e}");
        };
        let mut library = std::fs::read(std::env::current_exe().unwrap()).unwrap()[..64].to_vec();
        if cfg!(target_os = "linux") {
            refused(b"text", "not a shared library");
            let mut other = library.clone();
            other[18] = 3;
            refused(&other, "another processor");
        }
        refused(&library, "lacks OrtGetApiBase");
        library.extend(b"OrtGetApiBase\0VERS_1.16.3\0");
        refused(&library, "1.16.3 is too old");
        std::fs::remove_file(&path).unwrap();
        assert!(native(&path).is_err_and(|e| e.contains("no such file")));
    }
}

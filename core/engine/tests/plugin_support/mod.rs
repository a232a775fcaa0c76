//! What the tests of the plugin host share: C compiled on the spot, products of the build, a monitor that remembers.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod reference;

use serde_json::Value;
use shiftlens_api::{
    Context, Encoder, Explanation, Generator, GeneratorInfo, Heatmap, Images, LatentCodes, Level, Monitor,
    Predictor, PredictorInfo, Result, Scores, Silent, Target,
};
use shiftlens_engine::plugin::{self, PluginLibrary};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("core/engine lies two below the root")
        .into()
}

/// A shared library that `cargo build --workspace --all-targets` makes, at least as new as its sources.
pub fn product(file: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let path = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").join(file);
    let advice = "run `cargo build --workspace --all-targets` first, or `cargo xtask test`";
    let made = path.metadata().and_then(|m| m.modified());
    let made = made.unwrap_or_else(|_| panic!("{} is not built: {advice}", path.display()));
    let list = std::fs::read_to_string(path.with_extension("d")).expect("cargo's list of sources");
    for source in list.split_once(": ").map_or("", |(_, s)| s).replace("\\ ", "\0").split_whitespace() {
        let source = PathBuf::from(source.replace('\0', " "));
        let newer = source.metadata().and_then(|m| m.modified()).is_ok_and(|t| t > made);
        assert!(!newer, "{} is older than {}: {advice}", path.display(), source.display());
    }
    path
}

/// The file name of a cdylib target called `name`.
pub fn cdylib(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// The SDK's example plugin.
pub fn every_kind() -> Arc<PluginLibrary> {
    PluginLibrary::open(&product(&format!("examples/{}", cdylib("every_kind")))).unwrap()
}

/// What a heatmap's reader is told.
pub type Notes = Vec<(String, String)>;

/// What the Grad-CAM plugin answers: one heatmap and its notes for each image.
pub fn gradcam(
    f: &mut dyn Predictor,
    x: &Images,
    class: usize,
    params: Value,
) -> Result<Vec<(Heatmap, Notes)>> {
    let lib = PluginLibrary::open(&product(&cdylib("shiftlens_gradcam"))).unwrap();
    let mut explainer = plugin::explainer(&lib, &params)?;
    let target = Target { class, name: f.info().classes[class].clone() };
    let mut cx = Context { predictor: f, latent: None, monitor: &Silent, seed: 0 };
    let all = explainer.explain(&mut cx, x, &target)?;
    assert_eq!(all.len(), x.len());
    let one = |list: Vec<Explanation>| match <[Explanation; 1]>::try_from(list) {
        Ok([Explanation::Heatmap { map, notes, .. }]) => (map, notes),
        other => panic!("{other:?}"),
    };
    Ok(all.into_iter().map(one).collect())
}

/// Sources compiled so far by this test program.
static COMPILED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// The library of a C plugin, compiled strictly, once for each test program.
pub fn compile(source: &str) -> PathBuf {
    let source = root().join(source);
    let stem = source.file_stem().expect("a source file").to_string_lossy().into_owned();
    let test = std::env::current_exe().expect("the test's own path");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test.file_stem().expect("a program's name"));
    std::fs::create_dir_all(&folder).expect("a folder for compiled plugins");
    let out = folder.join(cdylib(&stem));
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.insert(source.clone()) {
        return out;
    }
    // Each test may be a process of its own, and another may be opening the library just now: it never sees half a file.
    let fresh = folder.join(format!("{}.{}", std::process::id(), cdylib(&stem)));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-D_POSIX_C_SOURCE=200809L", "-O2"])
        .args(["-fPIC", "-shared", "-I"])
        .arg(root().join("core/abi/include"))
        .arg(&source)
        .args(["-lm", "-lpthread", "-o"])
        .arg(&fresh)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}: these tests need a C compiler, as Rust's linker does"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&fresh, &out).expect("the compiled plugin moves to its place");
    out
}

/// A C plugin that does something wrong, compiled and opened.
pub fn bad(name: &str) -> Result<Arc<PluginLibrary>> {
    PluginLibrary::open(&compile(&format!("tests/fixtures/bad-plugins/{name}.c")))
}

/// The error's text, which must have all of `words`.
#[track_caller]
pub fn says<T>(answer: Result<T>, words: &[&str]) -> String {
    let text = match answer {
        Ok(_) => panic!("expected an error that says {words:?}"),
        Err(e) => e.to_string(),
    };
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
    text
}

/// `n` grey images of 4x4 whose upper half is `top + 0.01 i` and whose lower half is `bottom`.
pub fn halves(n: usize, top: f32, bottom: f32) -> Images {
    let value = |j: usize| if j % 16 < 8 { top + 0.01 * (j / 16) as f32 } else { bottom };
    Images::new([n, 1, 4, 4], (0..16 * n).map(value).collect()).unwrap()
}

/// A monitor that remembers.
#[derive(Default)]
pub struct Memory {
    pub lines: Mutex<Vec<String>>,
    pub cancel: bool,
}

impl Monitor for Memory {
    fn log(&self, level: Level, message: &str) {
        self.lines.lock().unwrap().push(format!("{level:?}: {message}"));
    }
    fn progress(&self, what: &str, done: u64, total: u64) {
        self.lines.lock().unwrap().push(format!("{what} {done}/{total}"));
    }
    fn cancelled(&self) -> bool {
        self.cancel
    }
}

/// A black box of the host: the score of class 1 is the first pixel. Sleeps and panics where asked to.
#[derive(Default)]
pub struct FirstPixel {
    pub milliseconds: u64,
    pub panic: bool,
}

impl Predictor for FirstPixel {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: vec!["no".into(), "yes".into()],
            input_size: None,
            channels: 1,
            backend: "closed form".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        assert!(!self.panic, "the host's own predictor");
        std::thread::sleep(std::time::Duration::from_millis(self.milliseconds));
        Scores::new([x.len(), 2], (0..x.len()).flat_map(|i| [1.0 - x.image(i)[0], x.image(i)[0]]).collect())
    }
}

/// G and E of the host: every pixel of a 2x2 picture is the one-dimensional code.
pub struct Identity;

impl Generator for Identity {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo {
            latent_dim: 1,
            latent_layers: 1,
            channels: 1,
            height: 2,
            width: 2,
            backend: "closed form".into(),
        }
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        LatentCodes::new([n, 1, 1], (0..n).map(|i| ((i as u64 + seed) % 10) as f32 / 10.0).collect())
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        Images::new([w.len(), 1, 2, 2], w.as_slice().iter().flat_map(|v| [*v; 4]).collect())
    }
}

impl Encoder for Identity {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        LatentCodes::new([x.len(), 1, 1], (0..x.len()).map(|i| x.image(i)[0]).collect())
    }
}

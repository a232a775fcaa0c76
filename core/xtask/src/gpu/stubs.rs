//! Stub libraries: what the linker needs where the libraries of a GPU's driver and of CUDA are not installed.
//!
//! The program is linked against them by their names, and finds the real ones on the machine where it runs. Started on
//! the stubs themselves (their folder in LD_LIBRARY_PATH), every call fails, so the program says that it has no GPU.

use crate::setup::run;
use crate::shell::cargo;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library: the binding's module that declares its functions, the linker's name, the name at run time.
const LIBRARIES: [(&str, &str, &str); 5] = [
    ("driver", "cuda", "libcuda.so.1"),
    ("nvrtc", "nvrtc", "libnvrtc.so.13"),
    ("curand", "curand", "libcurand.so.10"),
    ("cublas", "cublas", "libcublas.so.13"),
    ("cublaslt", "cublasLt", "libcublasLt.so.13"),
];

/// What every stub returns: CUDA_ERROR_NO_DEVICE of the driver, and no success of any other library either.
const NO_DEVICE: u8 = 100;

/// The crate that declares CUDA's functions.
const BINDING: &str = "cudarc";

/// Makes the stubs of `toolkit` in its `lib/stubs`, unless they are there for the binding's version.
pub fn make(toolkit: &Path) -> Result<(), String> {
    let sources = binding()?;
    let name = sources.file_name().unwrap_or_default();
    let folder = toolkit.join("lib").join("stubs");
    let stamp = folder.join(name);
    if stamp.exists() {
        return Ok(());
    }
    let io = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    std::fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
    for (module, library, at_run_time) in LIBRARIES {
        let declarations = sources.join("src").join(module).join("sys").join("mod.rs");
        let text = std::fs::read_to_string(&declarations).map_err(|e| io(&declarations, e))?;
        let names = functions(&text);
        if names.is_empty() {
            return Err(format!("{}: no function of {library} is declared", declarations.display()));
        }
        compile(&names, &folder, library, at_run_time)?;
    }
    std::fs::write(&stamp, "").map_err(|e| io(&stamp, e))
}

/// The binding's sources, as cargo has them.
fn binding() -> Result<PathBuf, String> {
    let what = "cargo metadata";
    let output = cargo(&["metadata", "--locked", "--format-version", "1", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .map_err(|e| format!("{what}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    folder_of(BINDING, &String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("{what} names no package {BINDING}"))
}

/// The folder of package `name`, from its `manifest_path` in cargo's JSON.
fn folder_of(name: &str, metadata: &str) -> Option<PathBuf> {
    metadata.split("\"manifest_path\":\"").skip(1).find_map(|rest| {
        let path = rest.split('"').next()?.replace("\\\\", "\\");
        let folder = Path::new(&path).parent()?.to_path_buf();
        let last = folder.file_name()?.to_str()?;
        let version = last.strip_prefix(name)?.strip_prefix('-')?;
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(folder)
    })
}

/// Names of the foreign functions that Rust text declares, each in an `extern "C"` block of its own or with others.
fn functions(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut within = false;
    for line in text.lines().map(str::trim) {
        if line == "extern \"C\" {" {
            within = true;
        } else if line == "}" {
            within = false;
        } else if let Some(rest) =
            line.strip_prefix("pub ").unwrap_or(line).strip_prefix("fn ").filter(|_| within)
        {
            names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// A shared library in `folder` in which each of `names` returns [`NO_DEVICE`], under the name that it has at run time
/// and under the one that the linker looks for.
fn compile(names: &[String], folder: &Path, library: &str, at_run_time: &str) -> Result<(), String> {
    let io = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let (source, made) = (folder.join(format!("{library}.c")), folder.join(at_run_time));
    let text: String = names.iter().map(|n| format!("int {n}(void) {{ return {NO_DEVICE}; }}\n")).collect();
    std::fs::write(&source, text).map_err(|e| io(&source, e))?;
    run(
        "the C compiler failed",
        Command::new("cc")
            .args(["-shared", "-fPIC"])
            .arg(format!("-Wl,-soname,{at_run_time}"))
            .arg("-o")
            .args([&made, &source]),
    )?;
    std::fs::remove_file(&source).map_err(|e| io(&source, e))?;
    std::fs::copy(&made, folder.join(format!("lib{library}.so"))).map(drop).map_err(|e| io(&made, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_functions_are_found() {
        let text = r#"
pub unsafe fn cuInit(flags: u32) -> CUresult {
    #[cfg(not(feature = "dynamic-loading"))]
    {
        extern "C" {
            fn cuInit(flags: u32) -> CUresult;
        }
        cuInit(flags)
    }
}
pub type Callback = Option<unsafe extern "C" fn(message: *const c_char)>;
fn not_foreign() {}
extern "C" {
    pub fn b(x: i32);
    pub fn a();
}
"#;
        assert_eq!(functions(text), ["a", "b", "cuInit"]);
    }

    #[test]
    fn a_package_is_found_in_cargos_metadata() {
        let text = r#"{"packages":[{"manifest_path":"/r/cudarc-extra-1.0.0/Cargo.toml"},
            {"manifest_path":"/r/cudarc-0.19.10/Cargo.toml","x":1}]}"#;
        assert_eq!(
            folder_of("cudarc", &text.replace("\n            ", "")),
            Some("/r/cudarc-0.19.10".into())
        );
        assert_eq!(folder_of("candle", text), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_on_a_stub_is_told_that_there_is_no_device() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        compile(&["cuInit".into(), "cuOther".into()], folder.path(), "cuda", "libcuda.so.1").unwrap();
        std::fs::write(at("main.c"), "int cuInit(void); int main(void) { return cuInit(); }\n").unwrap();
        let mut cc = Command::new("cc");
        cc.arg("-o").args([at("main"), at("main.c")]).arg("-L").arg(folder.path()).arg("-lcuda");
        run("cc", &mut cc).unwrap();
        // It asks for the library by the name at run time.
        std::fs::remove_file(at("libcuda.so")).unwrap();
        let status = Command::new(at("main")).env("LD_LIBRARY_PATH", folder.path()).status().unwrap();
        assert_eq!(status.code(), Some(i32::from(NO_DEVICE)));
    }
}

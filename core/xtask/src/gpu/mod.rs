//! `cargo xtask cuda`: the program for NVIDIA GPUs, on a machine with or without a CUDA toolkit, and without a GPU.

mod stubs;
mod wheels;

use crate::shell::{Failure, Outcome, cargo, step};
use std::path::{Path, PathBuf};

/// How to build.
#[derive(Debug, PartialEq)]
pub struct Options {
    wheels: bool,
    capability: u32,
    jobs: Option<usize>,
}

/// Kernels are compiled to PTX for one capability, and the driver compiles them for any newer one when the program
/// starts. 80 is the oldest that has TF32 and bfloat16, and 90 gives these kernels no instruction more.
const CAPABILITY: u32 = 80;

impl Options {
    /// Reads the arguments after `cuda`.
    pub fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self { wheels: false, capability: CAPABILITY, jobs: None };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut number = |least: usize| {
                let text = args.next().map(String::as_str).unwrap_or_default();
                let n = text.parse::<usize>().ok().filter(|n| *n >= least);
                n.ok_or_else(|| {
                    Failure::usage(format!("cuda: {name} {text}: expected a whole number from {least} up"))
                })
            };
            match name.as_str() {
                "--wheels" => options.wheels = true,
                "--capability" => {
                    let n = number(50)?;
                    options.capability = u32::try_from(n).ok().filter(|n| *n < 1000).ok_or_else(|| {
                        Failure::usage(format!("cuda: --capability {n}: expected as in 80 or 90"))
                    })?;
                }
                "--jobs" => options.jobs = Some(number(1)?),
                other => {
                    let known = "expected --wheels, --capability N or --jobs N";
                    return Err(Failure::usage(format!("cuda: no option `{other}`, {known}")));
                }
            }
        }
        Ok(options)
    }
}

/// The toolkit whose compiler is in one of `folders`, which are looked at in turn.
fn installed(folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let compiler = if cfg!(windows) { "nvcc.exe" } else { "nvcc" };
    // A link, as of a package manager, leads to the toolkit that it belongs to.
    let found = folders.into_iter().map(|f| f.join(compiler)).find(|f| f.is_file())?;
    found.canonicalize().ok()?.ancestors().nth(2).map(Path::to_path_buf)
}

/// Where a toolkit's compiler may be: as CUDA_HOME or CUDA_PATH says, then as PATH says.
fn places() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let mut places: Vec<PathBuf> = homes.map(|h| PathBuf::from(h).join("bin")).collect();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places
}

/// Builds the program and the device check; prints where they are.
pub fn build(options: &Options) -> Outcome {
    let there = if options.wheels { None } else { installed(places()) };
    let toolkit = match there {
        Some(home) => {
            println!("CUDA toolkit: {}\n", home.display());
            home
        }
        None => {
            let why =
                if options.wheels { "as asked" } else { "there is no nvcc in CUDA_HOME, CUDA_PATH or PATH" };
            println!("CUDA toolkit: from wheels, {why}");
            let home = wheels::toolkit().map_err(|e| Failure::work(format!("CUDA toolkit: {e}")))?;
            stubs::make(&home).map_err(|e| Failure::work(format!("stub libraries: {e}")))?;
            println!("              {}\n", home.display());
            home
        }
    };
    let target = crate::root().join("target").join("cuda");
    let mut build = cargo(&["build", "--locked", "--release", "--target-dir"]);
    build
        .arg(&target)
        .args(["--package", "shiftlens", "--package", "shiftlens-stylegan2", "--features", "shiftlens/cuda"])
        .args(["--bin", "shiftlens", "--example", "device"]);
    let mut path = vec![toolkit.join("bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path).map_err(|e| Failure::work(format!("PATH: {e}")))?;
    build
        .env("CUDA_HOME", &toolkit)
        .env("CUDA_COMPUTE_CAP", options.capability.to_string())
        .env("PATH", path);
    if let Some(jobs) = options.jobs {
        build.args(["--jobs", &jobs.to_string()]).env("CUDAFORGE_THREADS", jobs.to_string());
    }
    step(build)?;
    let exe = std::env::consts::EXE_SUFFIX;
    for file in [format!("shiftlens{exe}"), format!("examples/device{exe}")] {
        let path = target.join("release").join(file);
        let size =
            std::fs::metadata(&path).map_err(|e| Failure::work(format!("{}: {e}", path.display())))?.len();
        println!("{}  {:.1} MB", path.display(), size as f64 / 1e6);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "examples/knee/generator.safetensors";

    fn parse(args: &[&str]) -> Outcome<Options> {
        Options::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&[]).unwrap(), Options { wheels: false, capability: 80, jobs: None });
        let all = parse(&["--jobs", "2", "--wheels", "--capability", "90"]).unwrap();
        assert_eq!(all, Options { wheels: true, capability: 90, jobs: Some(2) });
    }

    #[test]
    fn wrong_calls_are_usage_errors() {
        for (args, words) in [
            (&["--jobs"][..], "--jobs : expected a whole number from 1"),
            (&["--jobs", "0"], "--jobs 0"),
            (&["--capability", "9.0"], "--capability 9.0: expected a whole number from 50"),
            (&["--capability", "9000"], "expected as in 80 or 90"),
            (&["--wheel"], "no option `--wheel`"),
        ] {
            let failure = parse(args).unwrap_err();
            assert!(failure.message.contains(words) && failure.code == 2, "{failure:?}");
        }
    }

    /// Needs what `cargo xtask cuda --wheels` leaves; says so where it is not there.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_programs_say_that_there_is_no_gpu() {
        let stubs = wheels::folder().map(|f| f.join("lib").join("stubs"));
        let built = crate::root().join("target").join("cuda").join("release");
        let Some(stubs) = stubs.ok().filter(|s| s.join("libcuda.so.1").is_file() && built.is_dir()) else {
            println!("skipped: `cargo xtask cuda --wheels` has not been run");
            return;
        };
        for (program, args) in
            [("examples/device", &["check"][..]), ("shiftlens", &["generate", MODEL, "--device", "cuda:0"])]
        {
            let mut command = std::process::Command::new(built.join(program));
            let output = command
                .args(args)
                .current_dir(crate::root())
                .env("LD_LIBRARY_PATH", &stubs)
                .output()
                .unwrap();
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{program}: {message}");
            assert!(message.contains("\"cuda:0\" cannot be opened"), "{program}: {message}");
        }
    }

    #[test]
    fn a_toolkit_is_found_by_its_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let bin = root.join("kit").join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let places = || [root.join("none"), root.clone(), bin.clone()];
        assert_eq!(installed(places()), None);
        std::fs::write(bin.join(if cfg!(windows) { "nvcc.exe" } else { "nvcc" }), "").unwrap();
        assert_eq!(installed(places()), Some(root.join("kit")));
    }
}

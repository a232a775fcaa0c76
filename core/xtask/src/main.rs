//! Workspace tasks: `cargo xtask setup | demo | test | lint | kills | cuda | bench-batch | bench-gradcam |
//! bench-synthesis | bench-training | tidy`.

mod bench;
mod demo;
mod gpu;
mod setup;
mod shell;
mod suite;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Tasks of the Shiftlens workspace: cargo xtask TASK

  setup   fetch the native ONNX Runtime into the cache folder, where that can be done
  demo    set-up, release build, and the knee example; prints where the report is
            --images DIR   explain the images of this folder instead of the example's synthetic ones
            --limit N      at most N images, evenly spread over the folder
            --out DIR      the run's folder (default: runs/knee)
  test    build, tests, doctests
  lint    format, tidiness, clippy
  kills   20 kills (SIGKILL) at random moments of a run of 200 images of the knee example, started again each time; all files
          must be those of a run that nothing disturbed
            --kills N, --images N, --seed N
  cuda    the program and the device check for NVIDIA GPUs, in target/cuda; needs no GPU
            --wheels         take the CUDA toolkit from PyPI (100 MB into the cache folder; Linux on x86-64) even
                             where one is installed; where none is, that is done anyway
            --capability N   oldest compute capability to run on, times ten (default: 80, Ampere)
            --jobs N         compilers at once (default: one per core)
  bench-batch
          a whole run of the knee example, 200 and 1000 images: time by stage, share of the processor, peak memory; and the
          same job as a PyTorch script; the Python needs torch, safetensors, onnx, scikit-learn, pillow and grad-cam
            --python PYTHON   which Python (default: python3); `none` leaves the script out
            --images N,N      how many images (default: 200,1000)
  bench-gradcam
          Grad-CAM against pytorch-grad-cam; the Python needs torch, torchvision, onnx and grad-cam
            --python PYTHON   which Python (default: python3)
            --memory N        instead: resident memory over N images
            --models, --batches, --rounds, --threads   see core/cli/benches/gradcam.rs
  bench-synthesis
          StyleGAN2 images against candle, PyTorch and ONNX Runtime; the Python needs torch, onnx and onnxruntime
            --python PYTHON   which Python (default: python3)
            --quick           the smallest network, three rounds
            --memory          instead: peak memory of one synthesis
            --series          instead: series of one image against their codes synthesised together
            --generate        instead: the rate of `shiftlens generate` against the bare engine's
            --network, --batch, --threads, --contenders, --rounds, --verbose   see core/stylegan2/benches/synthesis
  bench-training
          training steps of generator and discriminator on the CPU against PyTorch; the Python needs torch and safetensors
            --python PYTHON   which Python (default: python3)
            --augment         instead: what the augmentation of a batch costs
            --rounds, --resolution, --cpu-time, --alone   see core/stylegan2/benches/steps
  tidy    the rules of core/ARCHITECTURE.md that can be checked mechanically
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match args.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let answer = match (task, rest) {
        ("setup", []) => {
            setup::setup();
            Ok(())
        }
        ("demo", options) => demo::Options::parse(options).and_then(|o| demo::demo(&o)),
        ("test", []) => suite::test(),
        ("lint", []) => suite::lint(),
        ("cuda", options) => gpu::Options::parse(options).and_then(|o| gpu::build(&o)),
        ("kills", options) => bench::kills(options),
        ("bench-batch", options) => bench::batch(options),
        ("bench-gradcam", options) => bench::gradcam(options),
        ("bench-synthesis", options) => bench::synthesis(options),
        ("bench-training", options) => bench::training(options),
        ("tidy", []) => tidy::report(&root()),
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(shell::Failure::usage(format!("no task `{}`\n\n{HELP}", args.join(" ")))),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run` too: a checkout that was moved is found without a rebuild.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}

//! Grad-CAM per image on ResNet-18 and DenseNet-121 at 224 x 224, against pytorch-grad-cam on the same weights, and
//! the memory of many gradients. `cargo xtask bench-gradcam --python PYTHON` builds what it needs and starts it.
//!
//! All contenders run in one process after another in each round, so that the noise of the machine meets all of them:
//!
//! * `shiftlens`: the Grad-CAM plugin through its C ABI on the ONNX predictor, as a study runs it;
//! * `pytorch-grad-cam`: the Python package, in a process of its own that only works when it is asked;
//! * `forward`, `torch forward`: one prediction by the ONNX predictor, by PyTorch;
//! * `input gradient`: the gradient with respect to the whole image, by the ONNX predictor.
//!
//! Before anything is timed, the maps of both are compared.

use shiftlens_api::{Context, Explanation, GradientRequest, Images, Silent};
use shiftlens_engine::{Components, Study};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const SIZE: usize = 224;
const CLASS: usize = 3;
/// Runtimes let their threads spin for a while after a call; the next contender waits for them.
const PAUSE: Duration = Duration::from_millis(60);

struct Options {
    python: String,
    models: Vec<String>,
    batches: Vec<usize>,
    rounds: usize,
    threads: usize,
    memory: Option<usize>,
}

impl Options {
    fn read() -> Outcome<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut o = Self {
            python: "python3".into(),
            models: vec!["resnet18".into(), "densenet121".into()],
            batches: vec![1, 16],
            rounds: 10,
            threads: cores,
            memory: None,
        };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(key) = args.next() {
            let value = args.next().ok_or_else(|| format!("{key} needs a value"))?;
            match key.as_str() {
                "--python" => o.python = value,
                "--models" => o.models = value.split(',').map(str::to_owned).collect(),
                "--batches" => o.batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--rounds" => o.rounds = value.parse()?,
                "--threads" => o.threads = value.parse()?,
                "--memory" => o.memory = Some(value.parse()?),
                _ => return Err(format!("no option {key}").into()),
            }
        }
        Ok(o)
    }
}

/// The Python process.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start(o: &Options, folder: &Path) -> Outcome<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gradcam.py");
        let mut child = Command::new(&o.python)
            .arg(script)
            .arg(folder)
            .arg(o.threads.to_string())
            .args(&o.models)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}; name a Python with --python", o.python))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err("no pipes".into()) };
        let mut peer = Self { child, stdin, stdout: BufReader::new(stdout) };
        let hello = peer.line()?;
        println!("contender: pytorch-grad-cam on torch {}", hello.trim_start_matches("ready "));
        Ok(peer)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("the Python process ended; it needs torch, torchvision, onnx and grad-cam".into());
        }
        Ok(line.trim().to_owned())
    }

    /// Seconds of one call.
    fn call(&mut self, what: &str, model: &str, batch: usize) -> Outcome<f64> {
        writeln!(self.stdin, "{what} {model} {batch}")?;
        self.stdin.flush()?;
        Ok(self.line()?.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A study of one network with the Grad-CAM plugin.
fn study(folder: &Path, name: &str, onnx: &str, params: &str) -> Outcome<Components> {
    let manifest = folder.join(format!("{name}.toml"));
    let text = format!(
        "schema = 1\nname = \"{name}\"\n[data]\nimages = \".\"\n[predictor]\nkind = \"onnx\"\npath = {onnx:?}\n{params}\n\
         [[explainer]]\nkind = \"plugin:gradcam\"\nparams = {{ method = \"gradcam\"{} }}\n[plugins]\n\
         gradcam = \"shiftlens_gradcam\"\n",
        // The contender's layer of a DenseNet lies before the last ReLU, which is no module there.
        if name == "densenet121" { ", layer = \"/features/norm5/BatchNormalization_output_0\"" } else { "" },
    );
    std::fs::write(&manifest, text)?;
    let study = Study::open(&manifest, &[]).map_err(|e| format!("{:?}", e.problems()))?;
    study.load().map_err(|e| format!("{:?}", e.problems()).into())
}

/// Values in [0, 1] without a pattern.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        })
        .collect()
}

fn explain(c: &mut Components, x: &Images) -> Outcome<Vec<f32>> {
    let mut cx = Context { predictor: &mut *c.predictor, latent: None, monitor: &Silent, seed: 0 };
    let answer = c.explainers[0].explain(&mut cx, x, &c.target)?;
    let maps = answer.into_iter().flatten().map(|e| match e {
        Explanation::Heatmap { map, .. } => Ok(map.as_slice().to_vec()),
        Explanation::Shift { .. } => Err("Grad-CAM answered no heatmap"),
    });
    Ok(maps.collect::<Result<Vec<_>, _>>()?.concat())
}

fn input_gradient(c: &mut Components, x: &Images) -> Outcome {
    let request = GradientRequest { input_gradient: true, classes: vec![CLASS], ..Default::default() };
    c.predictor.gradients().ok_or("no gradients")?.gradients(x, &request)?;
    Ok(())
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(v: &mut [f64]) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn compare(o: &Options, folder: &Path) -> Outcome {
    let mut peer = Peer::start(o, folder)?;
    println!(
        "{:<12} {:>5} {:>10} {:>17} {:>10} {:>14} {:>14} {:>9} {:>12} {:>14}",
        "ms per image",
        "batch",
        "shiftlens",
        "pytorch-grad-cam",
        "forward",
        "torch forward",
        "input gradient",
        "speed-up",
        "cam/forward",
        "input/forward"
    );
    for model in &o.models {
        let params = format!(
            "threads = {}\ninput = {{ layout = \"nchw\", size = [{SIZE}, {SIZE}], channels = 3 }}\n\
             output = {{ activation = \"softmax\", target = {CLASS} }}",
            o.threads
        );
        let mut c =
            study(folder, model, &format!("{model}.onnx"), &params.replace("threads", "params.threads"))?;
        for &batch in &o.batches {
            let values = noise(batch * 3 * SIZE * SIZE, 7);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            std::fs::write(folder.join(format!("{batch}.f32")), bytes)?;
            let x = Images::new([batch, 3, SIZE, SIZE], values)?;

            let ours = explain(&mut c, &x)?;
            peer.call("cam", model, batch)?;
            let theirs: Vec<f32> = std::fs::read(folder.join(format!("{model}-{batch}.map")))?
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
            let off = ours.iter().zip(&theirs).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            if ours.len() != theirs.len() || off > 1e-3 {
                return Err(format!("{model}: the maps differ by {off:e} of their largest value").into());
            }

            let mut t: [Vec<f64>; 5] = Default::default();
            for round in 0..=o.rounds {
                // Each round begins with another one: who comes first finds colder caches.
                let mut times = [0.0; 5];
                for turn in 0..times.len() {
                    let which = (turn + round) % times.len();
                    std::thread::sleep(PAUSE);
                    times[which] = match which {
                        0 => timed(|| explain(&mut c, &x).map(|_| ()))?,
                        1 => timed(|| Ok(c.predictor.predict(&x).map(|_| ())?))?,
                        2 => timed(|| input_gradient(&mut c, &x))?,
                        3 => peer.call("cam", model, batch)?,
                        _ => peer.call("forward", model, batch)?,
                    };
                }
                // The first round warms up.
                if round > 0 {
                    t.iter_mut().zip(times).for_each(|(t, s)| t.push(1e3 * s / batch as f64));
                }
            }
            // Ratios within a round: what slows the machine down slows both down.
            let ratio = |a: usize, b: usize| {
                median(&mut (0..o.rounds).map(|r| t[a][r] / t[b][r]).collect::<Vec<_>>())
            };
            let ratios = [ratio(3, 0), ratio(0, 1), ratio(2, 1)];
            let [cam, forward, input, torch_cam, torch_forward] = t.each_mut().map(|t| median(t));
            println!(
                "{model:<12} {batch:>5} {cam:>10.2} {torch_cam:>17.2} {forward:>10.2} {torch_forward:>14.2} \
                 {input:>14.2} {:>8.2}x {:>12.2} {:>14.2}   (maps differ by {off:.0e})",
                ratios[0], ratios[1], ratios[2]
            );
        }
    }
    Ok(())
}

/// Resident memory in MiB, from the kernel's `/proc/self/status`.
fn resident() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// Grad-CAM of `n` images of the example classifier, in batches of 16: resident memory as it goes.
fn memory(n: usize, folder: &Path) -> Outcome {
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/knee/classifier.onnx");
    let params = "input = { layout = \"nchw\", size = [64, 64], channels = 1, mean = [0.5], std = [0.25] }\n\
                  output = { activation = \"sigmoid\", classes = [\"healthy\", \"osteoarthritis\"] }";
    let mut c = study(folder, "knee", &onnx.display().to_string(), params)?;
    let mut done = 0;
    let mut next = 1000;
    println!("images  resident MiB");
    while done < n {
        let batch = 16.min(n - done);
        let x = Images::new([batch, 1, 64, 64], noise(batch * 64 * 64, done as u64 + 1))?;
        explain(&mut c, &x)?;
        done += batch;
        if done >= next || done == n {
            println!("{done:>6}  {:.1}", resident()?);
            next += 1000;
        }
    }
    Ok(())
}

fn main() -> Outcome {
    // A test run of all targets starts this too, without the flag that `cargo bench` gives.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let o = Options::read()?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gradcam-bench");
    std::fs::create_dir_all(&folder)?;
    match o.memory {
        Some(n) => memory(n, &folder),
        None => compare(&o, &folder),
    }
}

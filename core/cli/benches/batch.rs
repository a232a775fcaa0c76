//! A whole run of the knee example, from the command line to the report: time by stage, how busy the processor is, and peak
//! memory, for several numbers of images; and the same job as a PyTorch script (`batch.py`). `cargo xtask bench-batch
//! --python PYTHON` builds what it needs and starts it.
//!
//! Images are drawn by `shiftlens generate`. Every contender is a process of its own, watched in `/proc` (Linux). Ours and
//! the script take turns, so that what slows the machine down meets both. Before times are shown, f(x) and f(G(E(x))) of
//! both are compared, so that nothing fast and wrong is measured.

use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);
/// Most that a score of both may differ by.
const CLOSE: f64 = 2e-3;

struct Options {
    program: PathBuf,
    python: String,
    images: Vec<usize>,
}

impl Options {
    fn read() -> Outcome<Self> {
        let mut o = Self { program: "shiftlens".into(), python: "python3".into(), images: vec![200, 1000] };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(key) = args.next() {
            let value = args.next().ok_or_else(|| format!("{key} needs a value"))?;
            match key.as_str() {
                "--program" => o.program = value.into(),
                "--python" => o.python = value,
                "--images" => o.images = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                _ => return Err(format!("no option {key}").into()),
            }
        }
        Ok(o)
    }
}

/// What a process took.
struct Cost {
    seconds: f64,
    /// Of the processor, all threads.
    processor: f64,
    /// Most resident memory, MB.
    peak: f64,
    stdout: String,
}

/// Seconds of processor time so far, from the kernel's `/proc/PID/stat`: fields 14 and 15 behind the name in parentheses.
fn processor(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: f64 = [fields.get(11)?, fields.get(12)?].iter().filter_map(|t| t.parse::<f64>().ok()).sum();
    // The kernel's unit for programs is 1/100 s on all machines (USER_HZ).
    Some(ticks / 100.0)
}

/// Most resident memory so far, in MB.
fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}

fn watched(mut command: Command, stdout: &Path) -> Outcome<Cost> {
    let what = format!("{:?}", command.get_program());
    let log = stdout.with_extension("log");
    command.stdout(std::fs::File::create(stdout)?).stderr(std::fs::File::create(&log)?).stdin(Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("{what}: {e}"))?;
    let (mut busy, mut most) = (0.0, 0.0);
    let status = loop {
        // A process that has ended keeps its times until it is waited for, so the last look misses no more than one pause.
        busy = processor(child.id()).unwrap_or(busy);
        most = peak(child.id()).unwrap_or(most);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{what}: {status}: {}", std::fs::read_to_string(&log)?).into());
    }
    if busy == 0.0 || most == 0.0 {
        return Err("nothing is known of the process: the benchmark needs /proc".into());
    }
    Ok(Cost { seconds, processor: busy, peak: most, stdout: std::fs::read_to_string(stdout)? })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn json(path: &Path) -> Outcome<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?)?)
}

/// Draws `n` images, unless they are there.
fn draw(o: &Options, n: usize, folder: &Path) -> Outcome {
    let there = std::fs::read_dir(folder).map_or(0, Iterator::count);
    if there == n {
        return Ok(());
    }
    let mut generate = Command::new(&o.program);
    generate.current_dir(root()).args(["generate", "examples/knee/generator.safetensors", "--seeds"]);
    generate.arg(format!("0-{}", n - 1)).arg("--out").arg(folder).stdout(Stdio::null());
    match generate.status()? {
        s if s.success() => Ok(()),
        s => Err(format!("shiftlens generate: {s}").into()),
    }
}

fn ours(o: &Options, images: &Path, out: &Path) -> Outcome<Cost> {
    let mut run = Command::new(&o.program);
    run.current_dir(root()).args(["run", "manifests/knee.toml", "--force", "--images"]);
    run.arg(images).arg("--out").arg(out);
    watched(run, &out.with_extension("out"))
}

fn script(o: &Options, images: &Path, out: &Path, cores: usize) -> Outcome<Cost> {
    if out.exists() {
        std::fs::remove_dir_all(out)?;
    }
    let mut run = Command::new(&o.python);
    run.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/batch.py"));
    run.arg(root()).arg(images).arg(out).arg(cores.to_string());
    watched(run, &out.with_extension("out"))
}

/// Largest difference of f(x) and of f(G(E(x))) between our cases and the script's.
fn difference(out: &Path, theirs: &Value) -> Outcome<f64> {
    let all = theirs["scores"].as_object().ok_or("the script says no scores")?;
    let mut most: f64 = 0.0;
    for (id, scores) in all {
        let case = json(&out.join("cases").join(id).join("case.json"))?;
        let ours = [&case["score"], &case["trust"]["reconstruction"]["score"]];
        for (a, b) in ours.into_iter().zip([&scores[0], &scores[1]]) {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else {
                return Err(format!("{id}: a score is missing").into());
            };
            most = most.max((a - b).abs());
        }
    }
    Ok(most)
}

fn split(seconds: &BTreeMap<String, f64>) -> String {
    seconds.iter().map(|(stage, s)| format!("{stage} {s:.2}")).collect::<Vec<_>>().join(", ")
}

fn seconds(value: &Value) -> BTreeMap<String, f64> {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect()
}

fn show(who: &str, n: usize, cost: &Cost, cores: usize) {
    println!(
        "{who:<10} {n:>6} {:>9.1} {:>9.2} {:>9.0} % {:>8.0} MB",
        cost.seconds,
        n as f64 / cost.seconds,
        100.0 * cost.processor / cost.seconds / cores as f64,
        cost.peak
    );
}

fn main() -> Outcome {
    // A test run of all targets starts this too, without the flag that `cargo bench` gives.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let o = Options::read()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("batch-bench");
    std::fs::create_dir_all(&place)?;
    println!(
        "{:<10} {:>6} {:>9} {:>9} {:>11} {:>11}   on {cores} cores",
        "", "images", "seconds", "images/s", "busy", "peak"
    );
    let mut peaks = Vec::new();
    for &n in &o.images {
        let images = place.join(format!("images-{n}"));
        draw(&o, n, &images)?;
        let out = place.join(format!("run-{n}"));
        let cost = ours(&o, &images, &out)?;
        peaks.push(cost.peak);
        show("shiftlens", n, &cost, cores);
        let timings = seconds(&json(&out.join("run.json"))?["timings"]);
        println!("           {}", split(&timings));
        let known: f64 = ["direction", "explain", "figures"].iter().filter_map(|k| timings.get(*k)).sum();
        println!("           start, tables and report {:.2}", cost.seconds - known);
        if o.python == "none" {
            continue;
        }
        let theirs = script(&o, &images, &place.join(format!("torch-{n}")), cores)?;
        let said: Value = serde_json::from_str(theirs.stdout.lines().last().unwrap_or_default())?;
        let off = difference(&out, &said)?;
        if off > CLOSE {
            return Err(format!("scores differ by {off:e}: both do not compute the same").into());
        }
        show("pytorch", n, &theirs, cores);
        println!("           {}", split(&seconds(&said["seconds"])));
        let ratio = theirs.seconds / cost.seconds;
        println!("           the script takes {ratio:.2} times as long (scores differ by at most {off:.0e})");
    }
    if let [first, .., last] = peaks.as_slice() {
        println!("peak memory of the last is {:+.1} % of the first's", 100.0 * (last / first - 1.0));
    }
    Ok(())
}

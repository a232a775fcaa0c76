//! Synthesis of StyleGAN2 images against candle's own CPU path, PyTorch and ONNX Runtime on the same weights.
//! `cargo xtask bench-synthesis --python PYTHON` builds what it needs and starts it.
//!
//! The contenders are processes of their own that work in turns, one at a time, in alternating order, so that the noise
//! of the machine meets all of them:
//!
//! * `shiftlens`: [`shiftlens_stylegan2::StyleGan2Generator`] on codes of W+, as a study runs it;
//! * `candle`: the same network in candle's own operations (`candle.rs`);
//! * `torch`: a lean module in PyTorch's inference mode, the fastest of eight ways to write it (`peer.py`);
//! * `onnx`: ONNX Runtime on the graphs exported from that module, the fastest of them.
//!
//! Before anything is timed, all images are compared. In each round the machine's peak is measured too, by threads that do
//! nothing but multiply and add in registers.
//!
//! Instead, `--memory` tells the peak memory of one synthesis, `--series` what a series of one image costs against its codes
//! synthesised together, for edits of all style inputs and of the later ones, and `--generate PROGRAM` how near the rate of
//! `PROGRAM generate` comes to that of the bare engine.

mod candle;
mod network;
mod options;
mod peer;
mod worker;

use options::Options;
use peer::Peer;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runtimes let their threads spin for a while after a call, OpenMP's for 200 ms; the next contender waits for them.
const PAUSE: Duration = Duration::from_millis(250);
/// Largest difference of two contenders' images, in units of their root mean square, with which they are timed.
const TOLERANCE: f32 = 1e-3;
/// Rounds in which candle takes part: it is so slow that more would only lengthen the benchmark.
const CANDLE_ROUNDS: usize = 3;

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    let m = v.len() / 2;
    if v.len() % 2 == 1 { v[m] } else { (v[m - 1] + v[m]) / 2.0 }
}

/// Largest difference in units of `a`'s root mean square.
fn difference(a: &[f32], b: &[f32]) -> Outcome<f32> {
    if a.len() != b.len() || a.is_empty() {
        return Err(format!("{} and {} values", a.len(), b.len()).into());
    }
    let rms = (a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / a.len() as f64).sqrt() as f32;
    let worst =
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, |m, d| if d.is_nan() { d } else { m.max(d) });
    Ok(worst / rms)
}

/// The network of `resolution` in `folder`, written if it is not there, and the codes.
fn prepare(resolution: usize, folder: &Path) -> Outcome<PathBuf> {
    let config = network::config(resolution)?;
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{resolution}.safetensors"));
    if !path.exists() {
        network::write(&config, &path)?;
    }
    network::write_codes(&config, folder)?;
    Ok(path)
}

/// Names each contender's variant at this batch, and compares all images with the first contender's.
fn check(peers: &mut [Peer], batch: usize, folder: &Path) -> Outcome<String> {
    let mut said = Vec::new();
    let mut first = Vec::new();
    for peer in peers {
        let variant: String = peer.ask("prepare", batch)?;
        let _: String = peer.ask("check", batch)?;
        let images = network::floats(&folder.join(format!("{}.f32", peer.name)))?;
        if first.is_empty() {
            first = images;
            continue;
        }
        let off = difference(&first, &images)?;
        if off.is_nan() || off > TOLERANCE {
            return Err(format!("images of {} differ by {off:e} of their root mean square", peer.name).into());
        }
        said.push(match variant.as_str() {
            "-" => format!("{} {off:.0e}", peer.name),
            v => format!("{} {off:.0e}, {v}", peer.name),
        });
    }
    Ok(said.join("; "))
}

/// One line of the table: milliseconds per image of each contender, ratios to the first, the share of the peak.
fn measure(o: &Options, peers: &mut [Peer], threads: usize, batch: usize) -> Outcome<String> {
    let products: u64 = peers[0].ask("products", 1)?;
    let mut times = vec![Vec::new(); peers.len()];
    let mut ratios = vec![Vec::new(); peers.len()];
    let mut shares = Vec::new();
    // The first round warms up.
    for round in 0..=o.rounds {
        let mut now = vec![None; peers.len()];
        for turn in 0..peers.len() {
            // Each round begins with another one: who comes first finds colder caches.
            let which = (turn + round) % peers.len();
            if peers[which].name == "candle" && !(1..=CANDLE_ROUNDS).contains(&round) {
                continue;
            }
            std::thread::sleep(PAUSE);
            now[which] = Some(peers[which].ask::<f64>("run", batch)? / batch as f64);
        }
        std::thread::sleep(PAUSE);
        let peak: f64 = peers[0].ask("peak", threads)?;
        let Some(ours) = now[0].filter(|_| round > 0) else { continue };
        shares.push(products as f64 / ours / peak);
        for (i, time) in now.into_iter().enumerate() {
            if let Some(time) = time {
                times[i].push(1e3 * time);
                // Ratios within a round: what slows the machine down slows both down.
                ratios[i].push(time / ours);
            }
        }
    }
    let mut line = String::new();
    times.iter().for_each(|t| line += &format!(" {:>10.1}", median(t.clone())));
    ratios[1..].iter().for_each(|r| line += &format!(" {:>11.2}x", median(r.clone())));
    Ok(format!("{line} {:>8.0}%", 100.0 * median(shares)))
}

fn compare(o: &Options, folder: &Path) -> Outcome {
    let mut header = format!("{:<8} {:>7} {:>5}", "network", "threads", "batch");
    let names: Vec<&str> =
        options::CONTENDERS.into_iter().filter(|c| o.contenders.iter().any(|n| n == c)).collect();
    names.iter().for_each(|n| header += &format!(" {n:>10}"));
    names[1..].iter().for_each(|n| header += &format!(" {:>12}", format!("{n}/ours")));
    header += &format!(" {:>9}", "of peak");
    let mut shown = false;
    for &resolution in &o.networks {
        let path = prepare(resolution, folder)?;
        for &threads in &o.threads {
            let mut peers = names
                .iter()
                .map(|n| Peer::start(o, n, threads, &path, folder))
                .collect::<Outcome<Vec<_>>>()?;
            if !shown {
                let who: Vec<String> =
                    peers.iter().map(|p| format!("{} {}", p.name, p.version).trim().into()).collect();
                println!("milliseconds per image, medians of {} rounds: {}", o.rounds, who.join(", "));
                println!(
                    "of peak: multiply-adds of the products against what registers alone can do, {}",
                    shiftlens_stylegan2::kernels::Isa::detect().name()
                );
                println!("{header}");
                shown = true;
            }
            for &batch in &o.batches {
                let off = check(&mut peers, batch, folder)?;
                let line = measure(o, &mut peers, threads, batch)?;
                println!("{resolution:<8} {threads:>7} {batch:>5}{line}   (differences: {off})");
            }
        }
    }
    Ok(())
}

/// Peak memory of one synthesis in a fresh process.
fn memory(o: &Options, folder: &Path) -> Outcome {
    println!("{:<8} {:>7} {:>5} {:>12}", "network", "threads", "batch", "peak MiB");
    for &resolution in &o.networks {
        let path = prepare(resolution, folder)?;
        for (&threads, &batch) in o.threads.iter().flat_map(|t| o.batches.iter().map(move |b| (t, b))) {
            let mut peer = Peer::start(o, options::CONTENDERS[0], threads, &path, folder)?;
            let _: f64 = peer.ask("run", batch)?;
            let bytes: u64 = peer.ask("memory", 1)?;
            println!("{resolution:<8} {threads:>7} {batch:>5} {:>12.0}", bytes as f64 / f64::from(1 << 20));
        }
    }
    Ok(())
}

/// Milliseconds per image of a series of nine steps, in one call and as codes.
fn series(o: &Options, folder: &Path) -> Outcome {
    const STEPS: usize = 9;
    println!(
        "milliseconds per image, medians of {} rounds, series of {STEPS} steps\n{:<8} {:>7} {:>10} {:>10} {:>10} {:>13} \
         {:>11}",
        o.rounds, "network", "threads", "edited", "series", "codes", "codes/series", "difference"
    );
    for &resolution in &o.networks {
        let path = prepare(resolution, folder)?;
        let rows = network::config(resolution)?.num_ws();
        for &threads in &o.threads {
            let mut peer = Peer::start(o, options::CONTENDERS[0], threads, &path, folder)?;
            for first in (0..rows).step_by(4).chain([rows - 1]) {
                let edit = format!("{first}/{STEPS}");
                let off: f32 = peer.ask("compare", &edit)?;
                let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
                for round in 0..o.rounds {
                    let mut now = [0.0; 2];
                    for turn in 0..2 {
                        let which = (turn + round) % 2;
                        now[which] = peer.ask(["series", "single"][which], &edit)?;
                    }
                    times.iter_mut().zip(now).for_each(|(t, s): (_, f64)| t.push(1e3 * s / STEPS as f64));
                    ratios.push(now[1] / now[0]);
                }
                let [whole, single] = times.map(median);
                println!(
                    "{resolution:<8} {threads:>7} {:>10} {whole:>10.1} {single:>10.1} {:>12.2}x {off:>11.0e}",
                    format!("{first} to {}", rows - 1),
                    median(ratios)
                );
            }
        }
    }
    Ok(())
}

/// Seconds that `generate` says it took, after loading, for `count` images.
fn generate_once(program: &Path, network: &Path, more: &[&str], threads: usize) -> Outcome<f64> {
    let output = Command::new(program)
        .arg("generate")
        .arg(network)
        .args(more)
        .env("RAYON_NUM_THREADS", threads.to_string())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds =
        text.split_whitespace().zip(text.split_whitespace().skip(1)).find(|(_, unit)| *unit == "s,");
    match seconds {
        Some((value, _)) if output.status.success() => Ok(value.parse()?),
        _ => Err(format!("generate failed: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The rate of `generate` against the bare engine's, in alternating turns.
fn generate(o: &Options, program: &Path, folder: &Path) -> Outcome {
    println!(
        "milliseconds per image, medians of {} rounds\n{:<8} {:>7} {:>5} {:>10} {:>10} {:>10} {:>10} {:>10}",
        o.rounds, "network", "threads", "batch", "bare", "PNG", "raw", "PNG/bare", "raw/bare"
    );
    for &resolution in &o.networks {
        let path = prepare(resolution, folder)?;
        // Seconds a turn, so that the first images, which find no buffers, weigh little; and two batches at least.
        let count = ((1 << 19) / resolution / resolution).max(2 * network::CODES);
        for (&threads, &batch) in o.threads.iter().flat_map(|t| o.batches.iter().map(move |b| (t, b))) {
            let mut peer = Peer::start(o, options::CONTENDERS[0], threads, &path, folder)?;
            let (out, raw) = (folder.join("pictures"), folder.join("raw.safetensors"));
            let (seeds, batch_text) = (format!("0-{}", count - 1), batch.to_string());
            let common = ["--seeds", &seeds, "--batch", &batch_text];
            let (out, raw) = (out.display().to_string(), raw.display().to_string());
            let (png, raw) =
                ([&common[..], &["--out", &out]].concat(), [&common[..], &["--raw", &raw]].concat());
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for round in 0..=o.rounds {
                let mut now = [0.0; 3];
                for turn in 0..3 {
                    std::thread::sleep(PAUSE);
                    let which = (turn + round) % 3;
                    now[which] = match which {
                        0 => peer.ask("stream", format!("{count}/{batch}"))?,
                        1 => generate_once(program, &path, &png, threads)?,
                        _ => generate_once(program, &path, &raw, threads)?,
                    };
                }
                if round > 0 {
                    times.iter_mut().zip(now).for_each(|(t, s)| t.push(1e3 * s / count as f64));
                }
            }
            let ratio = |i: usize| median(times[i].iter().zip(&times[0]).map(|(a, b)| a / b).collect());
            let [bare, png, raw] = [0, 1, 2].map(|i| median(times[i].clone()));
            println!(
                "{resolution:<8} {threads:>7} {batch:>5} {bare:>10.1} {png:>10.1} {raw:>10.1} {:>10.3} {:>10.3}",
                ratio(1),
                ratio(2)
            );
        }
    }
    Ok(())
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // A test run of all targets starts this too, without the flag that `cargo bench` gives.
    if !args.iter().any(|a| a == "--bench") {
        return Ok(());
    }
    if let [_, worker, name, network, folder] = args.as_slice()
        && worker == "worker"
    {
        return worker::serve(name, Path::new(network), Path::new(folder));
    }
    let o = Options::read(args.into_iter())?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("synthesis-bench");
    match &o.generate {
        Some(program) => generate(&o, program, &folder),
        None if o.memory => memory(&o, &folder),
        None if o.series => series(&o, &folder),
        None => compare(&o, &folder),
    }
}

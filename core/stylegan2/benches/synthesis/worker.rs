//! A contender written in Rust, in a process of its own, for the size of the thread pools is a process's.
//!
//! It speaks as `peer.py` does, and knows besides: `stream COUNT/BATCH`, the seconds of so many images in such batches;
//! `series FIRST/STEPS` and `single FIRST/STEPS`, the seconds of so many steps of one code edited from style input FIRST on,
//! as one series and as codes that are synthesised together; `compare FIRST/STEPS`, the largest difference of the two;
//! `peak THREADS`, the multiply-adds per second of that many threads that do nothing else; `products 1`, the multiply-adds
//! of an image; `memory 1`, the largest resident size so far, in bytes.

use crate::candle::Synthesis;
use crate::{Outcome, network};
use candle_core::{Device, Tensor};
use shiftlens_api::{Generator, Images, LatentCodes, Shift};
use shiftlens_stylegan2::kernels::{Isa, peak};
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Generator, file};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

enum Contender {
    Ours(Box<StyleGan2Generator>),
    Candle(Box<Synthesis>),
}

impl Contender {
    /// What is timed: images as a study gets them.
    fn run(&mut self, codes: &LatentCodes) -> Outcome {
        match self {
            Self::Ours(g) => g.synthesize(codes).map(|_| ())?,
            Self::Candle(_) => self.images(codes).map(|_| ())?,
        }
        Ok(())
    }
    /// Images in network range, flattened.
    fn images(&mut self, codes: &LatentCodes) -> Outcome<Vec<f32>> {
        match self {
            Self::Ours(g) => Ok(g.synthesize_raw(codes)?),
            Self::Candle(s) => {
                let ws = Tensor::from_slice(codes.as_slice(), codes.shape().as_slice(), &Device::Cpu)?;
                Ok(s.forward(&ws)?.flatten_all()?.to_vec1()?)
            }
        }
    }
}

/// Calls are repeated for so long in each turn.
const TURN: Duration = Duration::from_millis(300);

/// Two numbers as in `8/3`.
fn pair(text: &str) -> Outcome<(usize, usize)> {
    let (a, b) = text.split_once('/').ok_or("expected two numbers as in 8/3")?;
    Ok((a.parse()?, b.parse()?))
}

/// A series of the first code, moved along the second, as a series or as its codes.
fn series(
    g: &mut StyleGan2Generator,
    codes: &LatentCodes,
    (first, n): (usize, usize),
    whole: bool,
) -> Outcome<Images> {
    let [_, rows, d] = codes.shape();
    let w = LatentCodes::new([1, 1, d], codes.code(0)[..d].to_vec())?;
    let steps: Vec<f32> = (0..n).map(|i| 0.1 * (i as f32 - n as f32 / 2.0)).collect();
    let shift = Shift::new(&codes.code(1)[..d], &steps)?.within(Some(first..rows))?;
    Ok(if whole { g.series(&w, &shift)? } else { g.synthesize(&shift.codes(&w, rows)?)? })
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The kernel's high-water mark of the resident set, `VmHWM` of `/proc/self/status`, in bytes.
fn high_water() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// Serves until stdin ends.
pub fn serve(name: &str, path: &Path, folder: &Path) -> Outcome {
    let (config, mut contender);
    if name == "candle" {
        let (c, tensors) = file::load_generator(path)?;
        contender = Contender::Candle(Box::new(Synthesis::new(&c, &tensors)?));
        config = c;
    } else {
        let g = StyleGan2Generator::load(path, &GeneratorOptions::default())?;
        config = g.config().clone();
        contender = Contender::Ours(Box::new(g));
    }
    let shape = [network::CODES, config.num_ws(), config.w_dim];
    let codes = LatentCodes::new(shape, network::floats(&folder.join("codes.f32"))?)?;
    let version = if name == "candle" { "" } else { env!("CARGO_PKG_VERSION") };
    println!("ready {version}");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, number) = line.split_once(' ').ok_or("expected a command and a number")?;
        let answer = match what {
            "stream" => {
                let (count, batch) = pair(number)?;
                timed(|| {
                    for from in (0..count).step_by(batch) {
                        contender.run(&codes.slice(0, batch.min(count - from)))?;
                    }
                    Ok(())
                })?
                .to_string()
            }
            "series" | "single" | "compare" => {
                let Contender::Ours(g) = &mut contender else { return Err("no series".into()) };
                let edit = pair(number)?;
                match what {
                    "compare" => {
                        let (a, b) = (series(g, &codes, edit, true)?, series(g, &codes, edit, false)?);
                        let off = a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| (a - b).abs());
                        off.fold(0f32, f32::max).to_string()
                    }
                    _ => timed(|| series(g, &codes, edit, what == "series").map(|_| ()))?.to_string(),
                }
            }
            "peak" => {
                let time = Duration::from_millis(100);
                peak::multiply_adds_per_second(Isa::detect(), number.parse()?, time).to_string()
            }
            "products" => match &contender {
                Contender::Ours(g) => {
                    g.engine().ok_or("no engine on this device")?.multiply_adds().to_string()
                }
                Contender::Candle(_) => return Err("only the engine counts its products".into()),
            },
            "memory" => high_water()?.to_string(),
            _ => {
                let w = codes.slice(0, number.parse()?);
                match what {
                    "prepare" => {
                        contender.images(&w)?;
                        "-".to_owned()
                    }
                    "check" => {
                        let images = contender.images(&w)?;
                        let bytes: Vec<u8> = images.iter().flat_map(|v| v.to_le_bytes()).collect();
                        std::fs::write(folder.join(format!("{name}.f32")), bytes)?;
                        "written".to_owned()
                    }
                    "run" => {
                        // While others had their turn this process slept, and its core with it: the first call wakes both.
                        contender.run(&w)?;
                        let (start, mut calls) = (Instant::now(), 0u32);
                        while calls == 0 || start.elapsed() < TURN {
                            contender.run(&w)?;
                            calls += 1;
                        }
                        (start.elapsed().as_secs_f64() / f64::from(calls)).to_string()
                    }
                    _ => return Err(format!("no command {what}").into()),
                }
            }
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

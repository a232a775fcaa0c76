//! A contender written in Rust, in a process of its own, for the size of the thread pools is a process's.
//!
//! It speaks as `peer.py` does, and knows besides: `stream COUNT/BATCH`, the seconds of so many images in such batches;
//! `peak THREADS`, the multiply-adds per second of that many threads that do nothing else; `products 1`, the multiply-adds
//! of an image; `memory 1`, the largest resident size so far, in bytes.

use crate::candle::Synthesis;
use crate::{Outcome, network};
use candle_core::{Device, Tensor};
use shiftlens_api::{Generator, LatentCodes};
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
                let (count, batch) = number.split_once('/').ok_or("expected COUNT/BATCH")?;
                let (count, batch): (usize, usize) = (count.parse()?, batch.parse()?);
                timed(|| {
                    for from in (0..count).step_by(batch) {
                        contender.run(&codes.slice(0, batch.min(count - from)))?;
                    }
                    Ok(())
                })?
                .to_string()
            }
            "peak" => {
                let time = Duration::from_millis(100);
                peak::multiply_adds_per_second(Isa::detect(), number.parse()?, time).to_string()
            }
            "products" => network::direct_multiply_adds(&config).to_string(),
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
                    "run" => timed(|| contender.run(&w))?.to_string(),
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

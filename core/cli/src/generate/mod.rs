//! `shiftlens generate`: pictures from a trained generator.
//!
//! One thread synthesises, another encodes and writes what is done, so that the rate is the engine's own. Codes are read
//! and images written as they come: no more than three batches are in memory.

mod codes;
mod engine;
mod output;
mod seeds;

use crate::failure::Failure;
use crate::progress::Progress;
use clap::{Args, ValueEnum};
use codes::CodesFile;
use engine::Engine;
use output::{Sink, TensorFile};
use seeds::Seeds;
use shiftlens_api::{Error, GeneratorInfo, LatentCodes, Monitor, Result};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

#[derive(Debug, Args)]
pub struct Generate {
    /// A generator written by `shiftlens train generator` or `shiftlens import`, or a study's manifest (.toml), whose
    /// [generator] may be of any kind
    model: PathBuf,
    /// Which images: a number, a range or a list, as in 0-99 or 3,7,20-29; one seed is one image
    #[arg(long, default_value = "0-15", value_parser = seeds::parse)]
    seeds: Seeds,
    /// Instead of seeds: a safetensors file whose tensor `w` holds codes, [N, D] or [N, L, D] for W+
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "truncation", "class"])]
    codes: Option<PathBuf>,
    /// psi of the truncation trick: 1, the default, keeps all of W, 0 only its mean
    #[arg(long)]
    truncation: Option<f32>,
    /// Truncate only so many style inputs, from the coarsest on; the codes are then of W+
    #[arg(long, value_name = "ROWS", requires = "truncation")]
    truncation_cutoff: Option<usize>,
    /// Class of the images, by index, of a class-conditional network; without it each seed draws its own
    #[arg(long, value_name = "INDEX")]
    class: Option<usize>,
    /// Noise inputs: the pictures stored with the network, the default, or none
    #[arg(long, value_enum)]
    noise: Option<NoiseChoice>,
    /// cpu, the default, or cuda:0
    #[arg(long)]
    device: Option<String>,
    /// Images synthesised together
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Folder for the pictures, named seed00000.png and so on, or code00000.png
    #[arg(long, value_name = "DIR", default_value = "generated")]
    out: PathBuf,
    /// Instead of pictures: one safetensors file, whose tensor `images` [N, C, R, R] holds float32 values as the network
    /// made them, black at -1 and white at 1
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    raw: Option<PathBuf>,
    /// Also write the codes of the images, as --codes reads them
    #[arg(long, value_name = "FILE")]
    save_codes: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NoiseChoice {
    Const,
    None,
}

/// Seeds whose codes are made together: the mapping network reads its weights once for all.
const AHEAD: usize = 256;

/// Where codes come from.
enum Source {
    /// Seeds, and the codes that were made ahead, from an index on.
    Seeds(Vec<u64>, Option<(usize, LatentCodes)>),
    File(CodesFile),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Seeds(s, _) => s.len(),
            Self::File(f) => f.len(),
        }
    }
    /// Rows of a code, of W or W+.
    fn rows(&self, g: &mut Engine) -> Result<usize> {
        match self {
            Self::Seeds(seeds, _) => Ok(g.sample(&seeds[..1])?.shape()[1]),
            Self::File(f) => Ok(f.rows()),
        }
    }
    fn codes(&mut self, g: &mut Engine, from: usize, to: usize) -> Result<LatentCodes> {
        match self {
            Self::Seeds(seeds, ahead) => {
                let (first, w) = match ahead.take() {
                    Some((first, w)) if first <= from && to <= first + w.len() => (first, w),
                    _ => (from, g.sample(&seeds[from..to.max(from + AHEAD).min(seeds.len())])?),
                };
                let codes = w.slice(from - first, to - first);
                *ahead = Some((first, w));
                Ok(codes)
            }
            Self::File(f) => f.read(from, to),
        }
    }
    /// Names of images `from..to`, of files without their ending.
    fn names(&self, from: usize, to: usize) -> Vec<String> {
        match self {
            Self::Seeds(seeds, _) => seeds[from..to].iter().map(|s| format!("seed{s:05}")).collect(),
            Self::File(_) => (from..to).map(|i| format!("code{i:05}")).collect(),
        }
    }
}

/// True if both paths lead to one file that exists.
fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// What is read must not be written over, and two outputs need two files.
fn check_places(a: &Generate) -> Result<(), Failure> {
    let outputs = [("--raw", &a.raw), ("--save-codes", &a.save_codes)];
    for (option, path) in outputs.iter().filter_map(|(o, p)| p.as_ref().map(|p| (o, p))) {
        for input in [Some(&a.model), a.codes.as_ref()].into_iter().flatten() {
            if same(path, input) {
                let message = format!("{option} {}: the file itself would be written over", path.display());
                return Err(Failure::Usage(message));
            }
        }
        if path.is_dir() {
            return Err(Failure::Usage(format!("{option} {}: a folder, expected a file", path.display())));
        }
    }
    match (&a.raw, &a.save_codes) {
        (Some(raw), Some(codes)) if raw == codes => {
            Err(Failure::Usage(format!("--raw and --save-codes both name {}", raw.display())))
        }
        _ => Ok(()),
    }
}

fn unwritable(e: &Error) -> Failure {
    Failure::Usage(e.to_string())
}

/// A batch on its way to the writer.
struct Batch {
    names: Vec<String>,
    codes: LatentCodes,
    images: Vec<f32>,
}

/// The writing end: images, and the codes where they are kept.
struct Writer {
    sink: Sink,
    kept: Option<TensorFile>,
    /// `[C, H, W]`.
    size: [usize; 3],
}

impl Writer {
    /// Makes the folder, or begins the files, for `n` images. A place that cannot be written to is a mistake of the
    /// command line: nothing was drawn yet.
    fn new(a: &Generate, info: &GeneratorInfo, n: usize, rows: usize) -> Result<Self, Failure> {
        let size = [info.channels, info.height, info.width];
        let sink = match &a.raw {
            None if ![1, 3].contains(&info.channels) => {
                let c = info.channels;
                let message =
                    format!("images of {c} channels: pictures are grey or RGB; write them by --raw");
                return Err(Failure::Usage(message));
            }
            None => {
                std::fs::create_dir_all(&a.out).map_err(|e| unwritable(&Error::io(&a.out, e)))?;
                Sink::Pictures(a.out.clone())
            }
            Some(path) => {
                let facts = [("range", "[-1, 1]".to_owned()), ("program", program())];
                let shape = [&[n], &size[..]].concat();
                Sink::Raw(TensorFile::create(path, "images", &shape, &facts).map_err(|e| unwritable(&e))?)
            }
        };
        let d = info.latent_dim;
        let shape = if rows == 1 { vec![n, d] } else { vec![n, rows, d] };
        let keep =
            |path: &PathBuf| TensorFile::create(path, codes::TENSOR, &shape, &[("program", program())]);
        let kept = a.save_codes.as_ref().map(keep).transpose().map_err(|e| unwritable(&e))?;
        Ok(Self { sink, kept, size })
    }

    /// Writes what comes until nothing more does.
    fn run(mut self, batches: mpsc::Receiver<Batch>) -> Result<()> {
        for batch in batches {
            if let Some(file) = &mut self.kept {
                file.append(batch.codes.as_slice())?;
            }
            self.sink.write(batch.images, self.size, &batch.names)?;
        }
        self.kept.map_or(Ok(()), TensorFile::finish)?;
        self.sink.finish()
    }
}

/// Makes all batches while another thread writes them.
fn draw(
    g: &mut Engine,
    source: &mut Source,
    batch: usize,
    writer: Writer,
    monitor: &dyn Monitor,
) -> Result<()> {
    let n = source.len();
    monitor.progress("images", 0, n as u64);
    // One batch waits while one is written and one is made.
    let (send, receive) = mpsc::sync_channel::<Batch>(1);
    std::thread::scope(|s| {
        let writing = s.spawn(move || writer.run(receive));
        let mut made = Ok(());
        for from in (0..n).step_by(batch) {
            let to = (from + batch).min(n);
            match source.codes(g, from, to).and_then(|codes| Ok((g.images(&codes)?, codes))) {
                Ok((images, codes)) => {
                    // A writer that is gone says below why.
                    if send.send(Batch { names: source.names(from, to), codes, images }).is_err() {
                        break;
                    }
                    monitor.progress("images", to as u64, n as u64);
                }
                Err(e) => {
                    made = Err(e);
                    break;
                }
            }
        }
        drop(send);
        let written = writing.join().unwrap_or_else(|_| Err(Error::component("writer", "panicked")));
        // Where making failed, the writer only says that something is missing.
        made.and(written)
    })
}

/// Writes the pictures, or the one file.
pub fn generate(a: &Generate) -> crate::Done {
    check_places(a)?;
    let mut g = Engine::open(a)?;
    let info = g.info();
    let mut source = match &a.codes {
        Some(path) => Source::File(CodesFile::open(path, &info).map_err(|e| Failure::Usage(e.to_string()))?),
        None => Source::Seeds(a.seeds.0.clone(), None),
    };
    let n = source.len();
    let writer = Writer::new(a, &info, n, source.rows(&mut g)?)?;
    let progress = Progress::new();
    let started = Instant::now();
    let done = draw(&mut g, &mut source, usize::from(a.batch), writer, &progress);
    progress.finish();
    done?;
    let place = a.raw.as_ref().unwrap_or(&a.out).display();
    let seconds = started.elapsed().as_secs_f64();
    println!("{n} images in {place}, {seconds:.3} s, {:.2} images/s", n as f64 / seconds);
    Ok(())
}

/// What wrote a file.
fn program() -> String {
    format!("shiftlens {}", env!("CARGO_PKG_VERSION"))
}

//! `shiftlens generate`: pictures from a trained generator.

use crate::failure::Failure;
use crate::progress::Progress;
use clap::Args;
use shiftlens_api::{Error, Generator, LatentCodes, Monitor};
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Generator};
use std::path::PathBuf;

/// Images synthesised together.
const BATCH: usize = 16;

#[derive(Debug, Args)]
pub struct Generate {
    /// A generator written by `shiftlens train generator` or `shiftlens import`
    model: PathBuf,
    /// Which images: a number, a range or a list, as in 0-99 or 3,7,20-29; one seed is one image
    #[arg(long, default_value = "0-15", value_parser = seeds)]
    seeds: Seeds,
    /// psi of the truncation trick: 1 keeps all of W, 0 only its mean
    #[arg(long, default_value_t = 1.0)]
    truncation: f32,
    /// cpu, or cuda:0
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Folder for the pictures, named seed00000.png and so on
    #[arg(long, value_name = "DIR", default_value = "generated")]
    out: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
struct Seeds(Vec<u64>);

fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |s: &str| {
        s.trim().parse::<u64>().map_err(|_| format!("\"{s}\" is no seed; expected as in 0-99 or 3,7"))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => all.push(number(part)?),
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to)?);
                if to < from || to - from >= 10_000_000 {
                    return Err(format!(
                        "\"{part}\": expected a range upwards, of at most ten million seeds"
                    ));
                }
                all.extend(from..=to);
            }
        }
    }
    Ok(Seeds(all))
}

/// Writes one PNG per seed.
pub fn generate(a: &Generate) -> crate::Done {
    let options =
        GeneratorOptions { device: a.device.clone(), truncation: a.truncation, ..Default::default() };
    let mut g = StyleGan2Generator::load(&a.model, &options).map_err(|e| Failure::Usage(e.to_string()))?;
    std::fs::create_dir_all(&a.out).map_err(|e| Error::io(&a.out, e))?;
    let progress = Progress::new();
    let total = a.seeds.0.len() as u64;
    let mut done = 0;
    for chunk in a.seeds.0.chunks(BATCH) {
        let codes: Vec<LatentCodes> = chunk.iter().map(|s| g.sample(1, *s)).collect::<Result<_, _>>()?;
        let images = g.synthesize(&LatentCodes::concat(&codes)?)?;
        for (i, seed) in chunk.iter().enumerate() {
            let path = a.out.join(format!("seed{seed:05}.png"));
            shiftlens_report::write_png(&path, &images.slice(i, i + 1))?;
        }
        done += chunk.len() as u64;
        progress.progress("images", done, total);
    }
    progress.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_ranges_and_lists() {
        assert_eq!(seeds("3,7,20-22").unwrap(), Seeds(vec![3, 7, 20, 21, 22]));
        assert!(seeds("5-3").is_err() && seeds("x").is_err() && seeds("").is_err());
    }
}

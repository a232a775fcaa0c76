//! The command line.

use clap::{Args, Parser, Subcommand};
use shiftlens_engine::run::Shard;
use std::path::PathBuf;

/// Why an image classifier decided as it did: how an image would have to change for it to change its mind.
#[derive(Debug, Parser)]
#[command(name = "shiftlens", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 work failed, or no image could be explained; 2 the command line, the \
manifest or something that it names cannot be used.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study: explain its images and write a report. A run that was stopped goes on where it was
    Run(Run),
    /// Explain the given images with a study's models
    Explain(Explain),
    /// Join the parts of a run (`run --shard`) into one; of several predictors each
    Merge(Merge),
    /// Check a manifest and everything it names, and print what was inferred; nothing is run
    Check(Check),
    /// Write a first, commented manifest for an ONNX classifier; asks for what its flags and the files do not say
    Init(crate::init::Init),
    /// Print the JSON Schema of a manifest, for editors that complete and check
    Schema(crate::schema::Schema),
    /// List the plugins in the search path, or inspect the given libraries
    Plugins {
        /// Plugin libraries
        paths: Vec<PathBuf>,
    },
    /// List the layers of an ONNX classifier that Grad-CAM and its family can look at
    Layers {
        /// The .onnx file
        model: PathBuf,
        /// Height and width of the images, such as 224,224, where the model leaves them open
        #[arg(long, value_name = "H,W", value_parser = height_and_width)]
        size: Option<[usize; 2]>,
    },
    /// Differentiate an ONNX classifier: write a model that also answers inner tensors and gradients
    Grad(crate::grad::Grad),
    /// Train a network from a training manifest
    #[command(subcommand)]
    Train(crate::train::Train),
    /// Import a network that another program trained
    #[command(subcommand)]
    Import(crate::import::Import),
    /// Store a generator or an encoder in half precision, or in full
    Convert(crate::convert::Convert),
    /// Draw pictures from a trained generator
    Generate(crate::generate::Generate),
    /// Measure a study's generator and encoder on its images: FID, KID, precision, recall, and what reconstructions keep
    Measure(crate::measure::Measure),
}

/// `224,224`.
pub fn height_and_width(text: &str) -> Result<[usize; 2], String> {
    let sizes: Result<Vec<usize>, _> = text.split(',').map(|t| t.trim().parse()).collect();
    sizes
        .ok()
        .and_then(|s| <[usize; 2]>::try_from(s).ok())
        .filter(|s| s.iter().all(|n| *n > 0))
        .ok_or_else(|| "expected a height and a width, such as 224,224".into())
}

/// What every command on a study takes.
#[derive(Debug, Args)]
pub struct Study {
    /// The manifest, a TOML file
    #[arg(value_name = "STUDY")]
    pub manifest: PathBuf,
    /// Override a value of the manifest, as in --set direction.samples=500 (may be given many times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Of several predictors (`[[predictor]]`), this one only
    #[arg(long, value_name = "NAME")]
    pub predictor: Option<String>,
}

/// Where results go.
#[derive(Debug, Args)]
pub struct Output {
    /// Folder for the results [default: runs/ and the manifest's name; for `explain` with -explain behind]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Start anew in a folder that holds another run; its results are removed
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub study: Study,
    #[command(flatten)]
    pub output: Output,
    /// Other images than the manifest's: a folder, a list (CSV, TSV, Parquet) with a `path` column, or a glob
    #[arg(long, value_name = "DIR|LIST|GLOB")]
    pub images: Option<String>,
    /// At most so many images, evenly spread over the list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Explain a part of the images, such as 3/16: whole groups, the same ones on every machine; see `shiftlens merge`
    #[arg(long, value_name = "PART/PARTS")]
    pub shard: Option<Shard>,
    /// Explain this image now, by its id, the name of its case's folder; the run's other cases stay as they are (may be given
    /// many times)
    #[arg(long, value_name = "ID", conflicts_with = "shard")]
    pub only: Vec<String>,
    /// Take the direction of another run of this study; it is not fitted again
    #[arg(long, value_name = "RUN")]
    pub direction_from: Option<PathBuf>,
    /// Explain a few images in a temporary place, and say what all of them will take in time, disk and memory
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub pace: Pace,
}

/// How a command on many images works, and what it says meanwhile.
#[derive(Debug, Clone, Copy, Args)]
pub struct Pace {
    /// Threads that draw and write cases [default: half as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    pub voice: Voice,
}

/// What a command says.
#[derive(Debug, Clone, Copy, Args)]
pub struct Voice {
    /// Say what happens as JSON on stdout, an object a line, in place of progress and summary
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Folder for the joined run
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The folders of all parts, in any order
    #[arg(value_name = "SHARD", required = true)]
    pub shards: Vec<PathBuf>,
    /// Start anew in a folder that holds another run; its results are removed
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub voice: Voice,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub study: Study,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub pace: Pace,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub study: Study,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli =
            Cli::parse_from(["shiftlens", "run", "a.toml", "--set", "x.y=1", "--set", "z=2", "--limit", "3"]);
        assert!(matches!(cli.command, Command::Run(r) if r.study.set.len() == 2 && r.limit == Some(3)));
        assert!(Cli::try_parse_from(["shiftlens", "explain", "a.toml"]).is_err());
        assert!(Cli::try_parse_from(["shiftlens", "run", "a.toml", "--limit", "0"]).is_err());
        let cli = Cli::parse_from(["shiftlens", "run", "a.toml", "--shard", "3/16", "--jobs", "2", "--json"]);
        let Command::Run(r) = cli.command else { panic!("another command") };
        assert_eq!(
            (r.shard, r.pace.jobs, r.pace.voice.json),
            (Some(Shard { part: 3, parts: 16 }), Some(2), true)
        );
        for wrong in [&["--shard", "17/16"][..], &["--shard", "1/2", "--only", "a"], &["--jobs", "0"]] {
            assert!(
                Cli::try_parse_from([&["shiftlens", "run", "a.toml"][..], wrong].concat()).is_err(),
                "{wrong:?}"
            );
        }
        assert!(Cli::try_parse_from(["shiftlens", "merge", "out"]).is_err());
    }
}

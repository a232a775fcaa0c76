//! `shiftlens convert`: network files in another precision.

use crate::failure::Failure;
use clap::Args;
use shiftlens_api::Error;
use shiftlens_stylegan2::file::{self, Converted};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Convert {
    /// A generator or an encoder, a .safetensors file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the network goes, a .safetensors file
    #[arg(short, long = "out", value_name = "FILE")]
    out: PathBuf,
    /// Store in half precision; without it in full
    #[arg(long)]
    half: bool,
}

/// Writes the network and says what it is.
pub fn convert(command: &Convert) -> crate::Done {
    let Convert { file, out, half } = command;
    let Converted { kind, parameters } = file::convert(file, out, *half).map_err(|e| match e {
        // A file that cannot be used, or one that would be written over: nothing was made.
        Error::Invalid(_) | Error::Unsupported(_) | Error::Io { .. } => Failure::Usage(e.to_string()),
        e => Failure::Work(e),
    })?;
    let precision = if *half { "half" } else { "full" };
    println!("{}: {kind}, {parameters} parameters in {precision} precision", out.display());
    Ok(())
}

//! `shiftlens import`: networks that other programs trained.

use crate::failure::Failure;
use clap::{Args, Subcommand};
use shiftlens_api::Error;
use shiftlens_stylegan2::import::{ImportOptions, import_generator};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Import {
    /// A StyleGAN2 generator: a network pickle of stylegan2-ada-pytorch (.pkl), a checkpoint of rosinality's program
    /// (.pt), or a state dict or safetensors with either's names. Pickles are read as data: no code in them is run
    Stylegan2(Options),
}

#[derive(Debug, Args)]
pub struct Options {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the generator goes, a .safetensors file
    #[arg(short, long = "out", value_name = "FILE")]
    out: PathBuf,
    /// Store in half precision
    #[arg(long)]
    half: bool,
    /// Largest magnitude of activations, as in the training's configuration; for state dicts, which do not record it
    #[arg(long, value_name = "LIMIT")]
    conv_clamp: Option<f32>,
}

/// Writes the generator and says what it is.
pub fn import(command: &Import) -> crate::Done {
    let Import::Stylegan2(o) = command;
    let options = ImportOptions { conv_clamp: o.conv_clamp };
    // A file that cannot be used, or one that would be written over: nothing was made.
    let usage = |e: Error| match e {
        Error::Invalid(_) | Error::Unsupported(_) | Error::Io { .. } => Failure::Usage(e.to_string()),
        e => Failure::Work(e),
    };
    let same =
        |a: &PathBuf, b: &PathBuf| a.canonicalize().ok().is_some_and(|a| b.canonicalize().ok() == Some(a));
    if same(&o.file, &o.out) {
        return Err(Failure::Usage(format!("{}: the file itself would be written over", o.out.display())));
    }
    let imported = import_generator(&o.file, &options).map_err(usage)?;
    imported.save(&o.out, o.half).map_err(|e| match e {
        e @ Error::Unsupported(_) => usage(e),
        e => Failure::Work(e),
    })?;
    let c = &imported.config;
    let colours = match c.channels {
        1 => "grey".into(),
        3 => "RGB".into(),
        n => format!("{n} channels"),
    };
    println!("{}: {}, {2}x{2} {colours}", o.out.display(), imported.format, c.resolution);
    println!("  architecture {}", c.architecture.name());
    println!("  z {}, w {}, mapping network of {} layers", c.z_dim, c.w_dim, c.mapping_layers);
    if c.label_dim > 0 {
        println!("  class-conditional, {} classes", c.label_dim);
    }
    println!("  feature maps min({} / side, {})", c.channel_base, c.channel_max);
    match c.conv_clamp {
        Some(limit) => println!("  activations clamped at {limit}"),
        None => println!("  activations not clamped"),
    }
    for note in &imported.notes {
        println!("  note: {note}");
    }
    Ok(())
}

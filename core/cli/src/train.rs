//! `shiftlens train`: networks from training manifests.

use crate::failure::Failure;
use crate::progress::Progress;
use clap::{Args, Subcommand};
use shiftlens_api::{Error, FeatureNetwork, Result};
use shiftlens_engine::features::{self, FeatureSpec};
use shiftlens_stylegan2::train::{
    DiscriminatorSection, EncoderManifest, FeatureSection, GeneratorManifest, Parts, train_encoder,
    train_generator_with,
};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Train {
    /// Train a StyleGAN2 generator on folders of images; goes on from the output folder's checkpoint
    Generator(Options),
    /// Train an encoder for a generator; goes on from the output folder's checkpoint
    Encoder(Options),
}

#[derive(Debug, Args)]
pub struct Options {
    /// The training manifest, a TOML file
    #[arg(value_name = "TRAIN")]
    manifest: PathBuf,
    /// Folder for checkpoints, samples, the log and the network [default: the manifest's output.folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stop after so many more images, with a checkpoint
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
}

/// What stands in the manifest wrongly is the user's to mend: exit code 2.
fn usage(e: Error) -> Failure {
    match e {
        Error::Invalid(message) => Failure::Usage(message),
        Error::Io { .. } => Failure::Usage(e.to_string()),
        other => Failure::Work(other),
    }
}

/// Opens a manifest's feature network for the training's images.
fn open(section: &FeatureSection, channels: usize, resolution: usize) -> Result<Box<dyn FeatureNetwork>> {
    let spec = serde_json::to_value(section).and_then(serde_json::from_value::<FeatureSpec>);
    let spec = spec.map_err(|e| Error::Invalid(format!("features of {}: {e}", section.path.display())))?;
    features::open(&spec, channels, (resolution, resolution))
}

/// φ of a projected discriminator.
fn features_of(manifest: &GeneratorManifest) -> Result<Option<Box<dyn FeatureNetwork>>> {
    match &manifest.discriminator {
        DiscriminatorSection::StyleGan2(_) => Ok(None),
        DiscriminatorSection::Projected(d) => {
            open(&d.features, manifest.generator.channels, manifest.generator.resolution).map(Some)
        }
    }
}

/// Trains and prints what was reached as one JSON object.
pub fn train(command: &Train) -> crate::Done {
    let progress = Progress::new();
    let report = match command {
        Train::Generator(o) => {
            let mut manifest = GeneratorManifest::read(&o.manifest).map_err(usage)?;
            if let Some(out) = &o.out {
                manifest.output.folder.clone_from(out);
            }
            let features = features_of(&manifest).map_err(usage)?;
            let parts = Parts { features, stop_after: o.stop_after };
            train_generator_with(&manifest, parts, &progress).map(serde_json::to_value)
        }
        Train::Encoder(o) => {
            let mut manifest = EncoderManifest::read(&o.manifest).map_err(usage)?;
            if let Some(out) = &o.out {
                manifest.output.folder.clone_from(out);
            }
            let e = &manifest.encoder;
            let networks = manifest.features.iter().map(|f| open(&f.network(), e.channels, e.resolution));
            let networks = networks.collect::<Result<_>>().map_err(usage)?;
            train_encoder(&manifest, networks, o.stop_after, &progress).map(serde_json::to_value)
        }
    };
    progress.finish();
    let report = report.map_err(usage)?.map_err(|e| Failure::Work(Error::component("training", e)))?;
    println!("{report:#}");
    Ok(())
}

//! `shiftlens train`: networks from training manifests.

use crate::failure::Failure;
use crate::progress::Progress;
use clap::{Args, Subcommand};
use shiftlens_api::{Error, FeatureNetwork, Images, Level, Monitor, Result};
use shiftlens_engine::features::{self, FeatureSpec};
use shiftlens_engine::quality::{Evaluator, Settings};
use shiftlens_stylegan2::train::{
    DiscriminatorSection, EncoderManifest, Evaluate, FeatureLoss, FeatureSection, GeneratorManifest, Parts,
    QualitySection, train_encoder, train_generator_with,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// FID, KID, precision and recall on the features of a network.
struct Quality {
    features: Option<Box<dyn FeatureNetwork>>,
    settings: Settings,
    evaluator: Option<Evaluator>,
}

impl Quality {
    fn open(section: &QualitySection, manifest: &GeneratorManifest) -> Result<Self> {
        let g = &manifest.generator;
        let features = Some(open(&section.features, g.channels, g.resolution)?);
        let settings =
            Settings { samples: section.samples, seed: manifest.training.seed, ..Settings::default() };
        settings.check()?;
        Ok(Self { features, settings, evaluator: None })
    }
}

impl Evaluate for Quality {
    fn begin(&mut self, real: &mut dyn Iterator<Item = Result<Images>>) -> Result<()> {
        let Some(features) = self.features.take() else {
            return Err(Error::invalid("quality: the real images have been shown before"));
        };
        self.evaluator = Some(Evaluator::new(features, self.settings.clone(), real)?);
        Ok(())
    }

    fn evaluate(&mut self, draw: &mut dyn FnMut(usize) -> Result<Images>) -> Result<BTreeMap<String, f64>> {
        match &mut self.evaluator {
            Some(evaluator) => Ok(evaluator.evaluate(draw)?.figures()),
            None => Err(Error::invalid("quality: the real images have not been shown")),
        }
    }
}

/// Writes the training's report. Training goes on without one.
fn report(folder: &Path, progress: &Progress) {
    if let Err(e) = shiftlens_report::write_training(folder) {
        progress.log(Level::Warn, &format!("no report: {e}"));
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
            let measure = |section| Quality::open(section, &manifest).map_err(usage);
            let evaluate: Option<Box<dyn Evaluate>> = match &manifest.quality {
                Some(section) => Some(Box::new(measure(section)?)),
                None => None,
            };
            let saved = Box::new(|folder: &Path| report(folder, &progress));
            let g = &manifest.generator;
            let network = |f: &FeatureLoss| open(&f.network(), g.channels, g.resolution);
            let losses = manifest.reconstruction.iter().flat_map(|r| &r.features);
            let reconstruction = losses.map(network).collect::<Result<_, _>>().map_err(usage)?;
            let parts =
                Parts { features, reconstruction, evaluate, saved: Some(saved), stop_after: o.stop_after };
            train_generator_with(&manifest, parts, &progress).map(serde_json::to_value)
        }
        Train::Encoder(o) => {
            let mut manifest = EncoderManifest::read(&o.manifest).map_err(usage)?;
            if let Some(out) = &o.out {
                manifest.output.folder.clone_from(out);
            }
            let e = &manifest.encoder;
            let network = |f: &FeatureLoss| open(&f.network(), e.channels, e.resolution);
            let networks = manifest.features.iter().map(network).collect::<Result<_, _>>().map_err(usage)?;
            let trained = train_encoder(&manifest, networks, o.stop_after, &progress);
            if trained.is_ok() {
                report(&manifest.output.folder, &progress);
            }
            trained.map(serde_json::to_value)
        }
    };
    progress.finish();
    let report = report.map_err(usage)?.map_err(|e| Failure::Work(Error::component("training", e)))?;
    println!("{report:#}");
    Ok(())
}

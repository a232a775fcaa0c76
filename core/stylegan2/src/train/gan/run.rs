//! A session of training: from a manifest, or from where the last session stopped.

use super::step::{Outcome, Stream};
use super::trainer::{State, Trainer, fail};
use super::{DiscriminatorSection, GeneratorManifest};
use crate::file;
use crate::train::loader::Loader;
use crate::train::session::Session;
use crate::train::{Dataset, checkpoint, write_sheet};
use candle_core::Device;
use serde::Serialize;
use shiftlens_api::{Error, FeatureNetwork, Level, Monitor, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a training run reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratorReport {
    /// Real images shown in all, earlier sessions of the run included.
    pub images: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training, earlier sessions of the run included.
    pub seconds: f64,
    /// Images in the training set.
    pub training_set: usize,
    /// sha256 over the training set's pixels.
    pub data_sha256: String,
    /// The averaged generator.
    pub file: PathBuf,
}

/// What a training run gets besides its manifest.
#[derive(Default)]
pub struct Parts {
    /// φ of a projected discriminator, opened for the training's images.
    pub features: Option<Box<dyn FeatureNetwork>>,
    /// Ends this session after so many more images, with a checkpoint.
    pub stop_after: Option<u64>,
}

/// Columns of `log.csv`.
const HEADER: &str = "images,seconds,g_loss,d_loss,r1,path_length,r_t,p,rate";
/// Steps between lines of the log.
const EVERY: u64 = 16;

/// [`train_generator_with`] without a feature network.
///
/// # Errors
/// As there.
pub fn train_generator(
    manifest: &GeneratorManifest,
    stop_after: Option<u64>,
    monitor: &dyn Monitor,
) -> Result<GeneratorReport> {
    train_generator_with(manifest, Parts { stop_after, ..Parts::default() }, monitor)
}

/// Refuses a checkpoint of another run.
fn check_same(
    path: &Path,
    state: &State,
    manifest: &GeneratorManifest,
    features: Option<&String>,
) -> Result<()> {
    // How long to train and where to write may change; anything else would make it another run.
    let mut same = state.manifest.clone();
    same.training.images = manifest.training.images;
    same.output = manifest.output.clone();
    same.data.images.clone_from(&manifest.data.images);
    same.data.root.clone_from(&manifest.data.root);
    if let (DiscriminatorSection::Projected(a), DiscriminatorSection::Projected(b)) =
        (&mut same.discriminator, &manifest.discriminator)
    {
        a.features.path.clone_from(&b.features.path);
    }
    // Both through text: a number that is written and read may lose its last bit.
    let text = |m: &GeneratorManifest| -> serde_json::Result<GeneratorManifest> {
        serde_json::from_str(&serde_json::to_string(m)?)
    };
    let (same, wanted) = (text(&same), text(manifest));
    let equal = matches!((same, wanted), (Ok(a), Ok(b)) if a == b);
    if !equal || state.features_sha256.as_ref() != features {
        return Err(Error::Invalid(format!(
            "{} was made with another manifest or feature network ({}); name another output folder or remove it",
            path.display(),
            state.manifest.name
        )));
    }
    Ok(())
}

/// The log's line of a step.
fn line(session: &Session, images: u64, trainer: &Trainer, o: &Outcome) -> String {
    let p = trainer.augment.as_ref().map(|_| trainer.control.p);
    let r_t = Some(trainer.control.r_t).filter(|v| v.is_finite());
    let optional = |v: Option<f64>, digits: usize| v.map(|v| format!("{v:.digits$}")).unwrap_or_default();
    format!(
        "{images},{:.0},{:.4},{:.4},{},{},{},{},{:.2}",
        session.seconds(),
        o.g_loss,
        o.d_loss,
        optional(o.r1, 5),
        optional(o.path_length, 5),
        optional(r_t, 4),
        optional(p, 5),
        session.rate(trainer.step)
    )
}

/// Trains a generator. The folder of `output` gets `checkpoint.safetensors`, `log.csv`, `samples-*.png` and, at the
/// end, `generator.safetensors`; a folder that holds a checkpoint of the same manifest is resumed.
///
/// # Errors
/// If files cannot be read or written, or the run diverges (a loss or a gradient is not finite): the last checkpoint
/// stays; [`Error::Cancelled`] after a checkpoint if the monitor asks to stop.
pub fn train_generator_with(
    manifest: &GeneratorManifest,
    parts: Parts,
    monitor: &dyn Monitor,
) -> Result<GeneratorReport> {
    let t = &manifest.training;
    let device = crate::train::manifest::open(&t.device, t.precision)?;
    let folder = &manifest.output.folder;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let (channels, resolution) = (manifest.generator.channels, manifest.generator.resolution);
    let data = Arc::new(Dataset::load(&manifest.data, channels, resolution)?);
    monitor.log(Level::Info, &format!("{} training images", data.len()));
    let features_sha256 = match &manifest.discriminator {
        DiscriminatorSection::Projected(d) => Some(file::sha256(&d.features.path)?),
        DiscriminatorSection::StyleGan2(_) => None,
    };
    let path = folder.join("checkpoint.safetensors");
    let build = |from: Option<&_>, step| {
        Trainer::new(manifest, parts.features, (&data, &device), from, step).map_err(fail)
    };
    let (mut trainer, before) = if path.exists() {
        let (state, tensors) = checkpoint::load(&path)?;
        let state: State = serde_json::from_str(&state)
            .map_err(|e| Error::Invalid(format!("{}: training state: {e}", path.display())))?;
        check_same(&path, &state, manifest, features_sha256.as_ref())?;
        monitor.log(Level::Info, &format!("resuming at {} images", state.step * t.batch as u64));
        (build(Some(&tensors), state.step)?, state.seconds)
    } else {
        let sheet = data.range(0, 64, &Device::Cpu).map_err(fail)?;
        write_sheet(&folder.join("real.png"), &sheet, 16)?;
        (build(None, 0)?, 0.0)
    };
    trainer.features_sha256 = features_sha256;
    let batch = t.batch as u64;
    let mut session =
        Session::begin(folder, HEADER, (t.images, t.batch), (trainer.step, before), parts.stop_after)?;
    let last = session.last;
    let seed = t.seed;
    let stream = move |step| Stream::Reals.rng(seed, step);
    let mut loader = Loader::start(Arc::clone(&data), t.batch, trainer.step..session.stop, stream);
    while trainer.step < session.stop {
        let real = loader.next(&device).map_err(fail)?;
        let outcome = match trainer.train(&real) {
            Ok(o) if o.g_loss.is_finite() && o.d_loss.is_finite() => o,
            other => {
                let why = other.map_or_else(|e| e.to_string(), |o| format!("losses {o:?}"));
                return Err(Error::component(
                    "stylegan2 training",
                    format!(
                        "diverged after {} images: {why}. The last good checkpoint is {}; lower \
                         training.learning-rate or raise training.r1-gamma",
                        trainer.step * batch,
                        path.display()
                    ),
                ));
            }
        };
        let images = trainer.step * batch;
        monitor.progress("training images", images, last * batch);
        if outcome.r1.is_some() || trainer.step.is_multiple_of(EVERY) {
            session.line(&line(&session, images, &trainer, &outcome))?;
            monitor.log(
                Level::Debug,
                &format!(
                    "{images} images, G {:.3}, D {:.3}, {:.1} images/s",
                    outcome.g_loss,
                    outcome.d_loss,
                    session.rate(trainer.step)
                ),
            );
        }
        if session.due(trainer.step, manifest.output.samples_every) || trainer.step == last {
            let sheet = trainer.samples(64).map_err(fail)?;
            write_sheet(&folder.join(format!("samples-{images:08}.png")), &sheet, 16)?;
        }
        let cancelled = monitor.cancelled();
        if session.due(trainer.step, manifest.output.checkpoint_every)
            || trainer.step == session.stop
            || cancelled
        {
            trainer.checkpoint(&path, session.seconds())?;
            trainer.export(&folder.join("generator.safetensors"))?;
        }
        if cancelled {
            return Err(Error::Cancelled);
        }
    }
    let file = folder.join("generator.safetensors");
    trainer.export(&file)?;
    Ok(GeneratorReport {
        images: trainer.step * batch,
        steps: trainer.step,
        seconds: session.seconds(),
        training_set: data.len(),
        data_sha256: data.digest().to_owned(),
        file,
    })
}

//! A session of training.

use super::GeneratorManifest;
use super::health::{Health, spread};
use super::quality::{self, Evaluate};
use super::step::{EVERY, Outcome, Stream};
use super::trainer::{Networks, Trainer, fail};
use super::{DiscriminatorSection, resume};
use crate::train::loader::Loader;
use crate::train::session::Session;
use crate::train::{Dataset, write_sheet};
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

/// What is to be done once a checkpoint lies in the folder.
pub type Saved<'a> = Box<dyn FnMut(&Path) + 'a>;

/// What a training run gets besides its manifest.
#[derive(Default)]
pub struct Parts<'a> {
    /// φ of a projected discriminator, opened for the training's images.
    pub features: Option<Box<dyn FeatureNetwork>>,
    /// Networks of `[[reconstruction.features]]`, in order, opened likewise.
    pub reconstruction: Vec<Box<dyn FeatureNetwork>>,
    /// What measures the generator, where the manifest has a section `[quality]`.
    pub evaluate: Option<Box<dyn Evaluate + 'a>>,
    /// Called with the folder after every checkpoint, for a report.
    pub saved: Option<Saved<'a>>,
    /// Ends this session after so many more images, with a checkpoint.
    pub stop_after: Option<u64>,
}

/// Columns of `log.csv`.
const HEADER: &str = "images,seconds,g_loss,d_loss,r1,path_length,r_t,p,rate";
/// Columns between `p` and `rate` of a training with an encoder.
const JOINT: &str = "pixel_mse,feature,codes,latent_mse";
/// Real images whose variance a generator's is compared with.
const REFERENCE: usize = 256;

/// [`train_generator_with`] with nothing but the manifest.
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

/// The log's line of a step.
fn line(session: &Session, images: u64, trainer: &Trainer, o: &Outcome) -> String {
    let p = trainer.augment.as_ref().map(|_| trainer.control.p);
    let r_t = Some(trainer.control.r_t).filter(|v| v.is_finite());
    let optional = |v: Option<f64>, digits: usize| v.map(|v| format!("{v:.digits$}")).unwrap_or_default();
    let joint =
        o.joint.map(|j| format!("{:.5},{:.5},{:.5},{},", j.pixel, j.feature, j.codes, optional(j.latent, 5)));
    format!(
        "{images},{:.0},{},{},{},{},{},{},{}{:.2}",
        session.seconds(),
        optional(o.losses.map(|l| l.0), 4),
        optional(o.losses.map(|l| l.1), 4),
        optional(o.r1, 5),
        optional(o.path_length, 5),
        optional(r_t, 4),
        optional(p, 5),
        joint.unwrap_or_default(),
        session.rate(trainer.step)
    )
}

/// A training that makes no sense any more.
fn diverged(manifest: &GeneratorManifest, step: u64, checkpoint: &Path, why: &str) -> Error {
    let kept = match checkpoint.exists() {
        true => format!("The last good checkpoint is {}", checkpoint.display()),
        false => "No checkpoint had been written".into(),
    };
    let advice = match manifest.discriminator {
        DiscriminatorSection::StyleGan2(_) => "lower training.learning-rate or raise training.r1-gamma",
        DiscriminatorSection::Projected(_) => {
            "lower training.learning-rate, or augment what the discriminator sees"
        }
    };
    let images = step * manifest.training.batch as u64;
    Error::component("stylegan2 training", format!("diverged after {images} images: {why}. {kept}; {advice}"))
}

/// One step and a look at it.
fn step(trainer: &mut Trainer, loader: &mut Loader, health: &mut Health) -> Result<Outcome, String> {
    let real = loader.next(&trainer.device).map_err(|e| e.to_string())?;
    let outcome = trainer.train(&real).map_err(|e| e.to_string())?;
    let joint = outcome.joint.is_none_or(|j| (j.pixel + j.feature + j.codes).is_finite());
    if !joint || outcome.losses.is_some_and(|(g, d)| !(g.is_finite() && d.is_finite())) {
        return Err(format!("losses {outcome:?}"));
    }
    let look = outcome.spread.zip(outcome.losses);
    match look.and_then(|(spread, (_, d_loss))| health.look(spread, d_loss)) {
        Some(why) => Err(why),
        None => Ok(outcome),
    }
}

/// Trains a generator. The folder of `output` gets
///
/// * `checkpoint.safetensors`, from which a folder is resumed, and the one before as `checkpoint-previous.safetensors`;
/// * `generator.safetensors`, the averaged generator, with every checkpoint, and with `[reconstruction]`
///   `encoder.safetensors`, the averaged encoder;
/// * `log.csv` with a line for every 16 steps, `quality.csv` with one for every measurement;
/// * `real.png` and `samples-*.png`, sheets of images, and with `[reconstruction]` `reconstructions-*.png`, rows of real
///   images above their reconstructions.
///
/// # Errors
/// [`Error::Invalid`] if the folder holds the checkpoint of another training; if files cannot be read or written, or parts
/// are missing that the manifest asks for; if the run diverges (a loss or a gradient is not finite, the generator has
/// collapsed, the discriminator has nothing left to learn): the last good checkpoint stays, and the message names it;
/// [`Error::Cancelled`] after a checkpoint if the monitor asks to stop.
pub fn train_generator_with(
    manifest: &GeneratorManifest,
    mut parts: Parts<'_>,
    monitor: &dyn Monitor,
) -> Result<GeneratorReport> {
    let t = &manifest.training;
    let device = crate::train::manifest::open(&t.device, t.precision)?;
    let mut measured = match (&manifest.quality, parts.evaluate.take()) {
        (Some(section), Some(evaluate)) => Some((section, evaluate)),
        (None, None) => None,
        (Some(_), None) => return Err(Error::Invalid("[quality] needs something that measures".into())),
        (None, Some(_)) => return Err(Error::Invalid("measuring needs a section [quality]".into())),
    };
    let folder = &manifest.output.folder;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let (channels, resolution) = (manifest.generator.channels, manifest.generator.resolution);
    let data = Arc::new(Dataset::load(&manifest.data, channels, resolution)?);
    monitor.log(Level::Info, &format!("{} training images", data.len()));
    let path = folder.join("checkpoint.safetensors");
    let file = folder.join("generator.safetensors");
    let networks =
        Networks { critic: parts.features.take(), reconstruction: std::mem::take(&mut parts.reconstruction) };
    let (mut trainer, before) = resume::open(manifest, networks, (&data, &device), &path, monitor)?;
    if let Some((section, evaluate)) = &mut measured {
        quality::begin(evaluate.as_mut(), section, &data)?;
    }
    let reference = data.range(0, REFERENCE, &Device::Cpu).and_then(|x| spread(&x)).map_err(fail)?;
    let mut health = Health::new(reference);
    let batch = t.batch as u64;
    let header = match &manifest.reconstruction {
        Some(_) => HEADER.replace(",rate", &format!(",{JOINT},rate")),
        None => HEADER.to_owned(),
    };
    let mut session =
        Session::begin(folder, &header, (t.images, t.batch), (trainer.step, before), parts.stop_after)?;
    let (seed, last) = (t.seed, session.last);
    let stream = move |step| Stream::Reals.rng(seed, step);
    let mut loader = Loader::start(Arc::clone(&data), t.batch, trainer.step..session.stop, stream);
    let mut overdue = false;
    while trainer.step < session.stop {
        let outcome = step(&mut trainer, &mut loader, &mut health)
            .map_err(|why| diverged(manifest, trainer.step, &path, &why))?;
        let images = trainer.step * batch;
        monitor.progress("training images", images, last * batch);
        if outcome.r1.is_some() || trainer.step.is_multiple_of(EVERY) {
            session.line(&line(&session, images, &trainer, &outcome))?;
            let rate = session.rate(trainer.step);
            let losses = match (outcome.losses, outcome.joint) {
                (Some((g, d)), _) => format!("G {g:.3}, D {d:.3}"),
                (None, joint) => format!("G(E(x)) {:.3}", joint.map_or(f64::NAN, |j| j.pixel)),
            };
            monitor.log(Level::Debug, &format!("{images} images, {losses}, {rate:.1} images/s"));
        }
        let due = |every| session.due(trainer.step, every) || trainer.step == last;
        let (sheet, measure) =
            (due(manifest.output.samples_every), measured.as_mut().filter(|(section, _)| due(section.every)));
        if sheet {
            let sheet = trainer.samples(64).map_err(fail)?;
            write_sheet(&folder.join(format!("samples-{images:08}.png")), &sheet, 16)?;
            if let Some(sheet) = trainer.reconstructions(&data).map_err(fail)? {
                write_sheet(&folder.join(format!("reconstructions-{images:08}.png")), &sheet, 16)?;
            }
        }
        if let Some((_, evaluate)) = measure {
            let seconds = session.seconds();
            let figures = session.aside(|| trainer.measure(evaluate.as_mut()))?;
            quality::log(folder, images, seconds, &figures)?;
            let text: Vec<String> = figures.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
            monitor.log(Level::Info, &format!("{images} images: {}", text.join(", ")));
        }
        overdue |= session.due(trainer.step, manifest.output.checkpoint_every);
        let ends = trainer.step == session.stop || monitor.cancelled();
        if ends || (overdue && !health.suspicious()) {
            overdue = false;
            trainer.checkpoint(&path, session.seconds())?;
            trainer.export(&file)?;
            if let Some(saved) = &mut parts.saved {
                session.aside(|| saved(folder));
            }
        }
        if ends && trainer.step < session.stop {
            return Err(Error::Cancelled);
        }
    }
    if !file.exists() {
        trainer.export(&file)?;
    }
    Ok(GeneratorReport {
        images: trainer.step * batch,
        steps: trainer.step,
        seconds: session.seconds(),
        training_set: data.len(),
        data_sha256: data.digest().to_owned(),
        file,
    })
}

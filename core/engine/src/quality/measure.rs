//! A study's generator and encoder, measured on its own images.

use super::{Evaluator, Quality, Settings, features, fit, perceptual, psnr, ssim};
use crate::data::{Item, Reader, View};
use crate::features::{FeatureSpec, open};
use crate::metrics::mean;
use crate::registry::{Drawing, hash_file};
use serde::{Deserialize, Serialize};
use shiftlens_api::record::{ComponentRecord, FailureRecord};
use shiftlens_api::{Encoder, Error, FeatureInfo, Generator, Images, Level, Monitor, Result};

/// What to measure with.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The feature network.
    pub features: FeatureSpec,
    /// What it is, for the record: `the study's own classifier`.
    pub description: String,
    /// How many images, and how KID, precision and recall are taken.
    pub settings: Settings,
    /// Seed of the drawn codes.
    pub seed: u64,
    /// How each real image is seen, as the study's data say.
    pub view: View,
}

/// The feature network of a [`Measurement`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureRecord {
    /// What it is.
    pub description: String,
    /// Its file.
    pub path: String,
    /// sha256 of the file.
    pub sha256: String,
    /// Layers, backend, and the size of the images.
    #[serde(flatten)]
    pub info: FeatureInfo,
}

/// What G(E(x)) keeps of x, means over the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconstructions {
    /// Images.
    pub images: usize,
    /// Structural similarity; missing where images are smaller than its window.
    pub ssim: Option<f64>,
    /// Peak signal-to-noise ratio in decibels; missing where one reconstruction is exact.
    pub psnr: Option<f64>,
    /// Perceptual distance on the features.
    pub perceptual: f64,
    /// `|f(x) - f(G(E(x)))|` for the study's class.
    pub score_gap: f64,
}

/// What a study's generator and encoder came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The study's name.
    pub study: String,
    /// Version of the program.
    pub version: String,
    /// The feature network.
    pub features: FeatureRecord,
    /// f, G and E.
    pub components: Vec<ComponentRecord>,
    /// How it was measured.
    pub settings: Settings,
    /// Seed of the drawn codes.
    pub seed: u64,
    /// The generator.
    pub generator: Quality,
    /// The encoder, where there is one.
    pub reconstructions: Option<Reconstructions>,
    /// Images that could not be read.
    pub left_out: Vec<FailureRecord>,
    /// What a reader of the figures must know.
    pub remarks: Vec<String>,
}

/// Measures a study's parts on `items`. Real images are fitted to the generator's size and channels and read in batches;
/// none is kept.
///
/// # Errors
/// If the feature network cannot be opened, too few images can be read, a component fails, or the monitor cancels.
pub fn measure(
    name: &str,
    parts: &mut Drawing,
    items: &[Item],
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<Measurement> {
    plan.settings.check()?;
    let info = parts.generator.info();
    let size = (info.height, info.width);
    let network = open(&plan.features, info.channels, size)?;
    let features = FeatureRecord {
        description: plan.description.clone(),
        path: plan.features.path.display().to_string(),
        sha256: hash_file(&plan.features.path)?,
        info: network.info(),
    };
    let batch = plan.settings.batch;
    let mut left_out = Vec::new();
    let mut done = 0;
    let real = items.chunks(batch).filter_map(|chunk| {
        let read = read_chunk(chunk, plan.view, monitor, &mut left_out);
        done += chunk.len() as u64;
        monitor.progress("features of real images", done, items.len() as u64);
        let fitted = read.and_then(|read| {
            read.iter().map(|x| fit(x, info.channels, size)).collect::<Result<Vec<Images>>>()
        });
        match fitted {
            Ok(x) if x.is_empty() => None,
            fitted => Some(fitted.and_then(|x| Images::concat(&x))),
        }
    });
    let mut evaluator = Evaluator::new(network, plan.settings.clone(), real)?;
    let generator = drawn(&mut evaluator, parts.generator.as_mut(), plan, monitor)?;
    let mut remarks: Vec<String> = generator.remark().into_iter().collect();
    let reconstructions = match parts.encoder.take() {
        Some(mut encoder) => {
            let found = reconstruct(&mut evaluator, parts, encoder.as_mut(), items, plan, monitor);
            parts.encoder = Some(encoder);
            Some(found?)
        }
        None => {
            remarks.push("the study has no encoder: nothing is reconstructed".into());
            None
        }
    };
    Ok(Measurement {
        study: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        features,
        components: parts.records.clone(),
        settings: plan.settings.clone(),
        seed: plan.seed,
        generator,
        reconstructions,
        left_out,
        remarks,
    })
}

/// The images of a chunk that can be read; the others are noted and said.
fn read_chunk(
    chunk: &[Item],
    view: View,
    monitor: &dyn Monitor,
    left_out: &mut Vec<FailureRecord>,
) -> Result<Vec<Images>> {
    monitor.check()?;
    let mut read = Vec::with_capacity(chunk.len());
    let mut reader = Reader::new(view);
    for item in chunk {
        match reader.read(&item.source()) {
            Ok(x) => read.push(x),
            Err(e) => {
                monitor.log(Level::Warn, &format!("left out: {e}"));
                left_out.push(FailureRecord { path: item.source().to_string(), error: e.to_string() });
            }
        }
    }
    Ok(read)
}

/// The generator's quality on codes drawn from the plan's seed.
fn drawn(
    evaluator: &mut Evaluator,
    generator: &mut dyn Generator,
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<Quality> {
    let total = plan.settings.samples;
    let codes = generator.sample(total, plan.seed)?;
    let mut from = 0;
    evaluator.evaluate(&mut |n| {
        monitor.check()?;
        let x = generator.synthesize(&codes.slice(from, from + n))?;
        from += n;
        monitor.progress("features of drawn images", from as u64, total as u64);
        Ok(x)
    })
}

/// What is gathered over all images.
#[derive(Default)]
struct Sums {
    ssim: Vec<f64>,
    psnr: Vec<f64>,
    perceptual: Vec<f64>,
    gap: Vec<f64>,
}

fn reconstruct(
    evaluator: &mut Evaluator,
    parts: &mut Drawing,
    encoder: &mut dyn Encoder,
    items: &[Item],
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<Reconstructions> {
    let mut sums = Sums::default();
    let mut done = 0;
    for chunk in items.chunks(plan.settings.batch) {
        // Who could not be read was said before.
        let read = read_chunk(chunk, plan.view, &Quiet(monitor), &mut Vec::new())?;
        // Components take images of one shape at a time.
        for alike in read.chunk_by(|a, b| a.shape() == b.shape()) {
            one_batch(evaluator, parts, encoder, &Images::concat(alike)?, &mut sums)?;
        }
        done += chunk.len() as u64;
        monitor.progress("reconstructing images", done, items.len() as u64);
    }
    let required =
        |values: &[f64]| mean(values).ok_or_else(|| Error::invalid("no image could be reconstructed"));
    Ok(Reconstructions {
        images: sums.gap.len(),
        ssim: mean(&sums.ssim),
        psnr: mean(&sums.psnr).filter(|v| v.is_finite()),
        perceptual: required(&sums.perceptual)?,
        score_gap: required(&sums.gap)?,
    })
}

fn one_batch(
    evaluator: &mut Evaluator,
    parts: &mut Drawing,
    encoder: &mut dyn Encoder,
    x: &Images,
    sums: &mut Sums,
) -> Result<()> {
    let again = parts.generator.synthesize(&encoder.encode(x)?)?;
    let class = parts.target.class;
    let (before, after) =
        (parts.predictor.predict(x)?.class(class)?, parts.predictor.predict(&again)?.class(class)?);
    sums.gap.extend(before.iter().zip(&after).map(|(a, b)| f64::from((a - b).abs())));
    let fitted = fit(x, again.channels(), again.size())?;
    if again.size().0.min(again.size().1) >= super::similarity::WINDOW {
        sums.ssim.extend(ssim(&fitted, &again)?);
    }
    sums.psnr.extend(psnr(&fitted, &again)?);
    let network = evaluator.network();
    let (a, b) = (features::layers(network, &fitted)?, features::layers(network, &again)?);
    sums.perceptual.extend(perceptual(&a, &b)?);
    Ok(())
}

/// A monitor that says nothing but still cancels.
struct Quiet<'a>(&'a dyn Monitor);

impl Monitor for Quiet<'_> {
    fn log(&self, _: Level, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

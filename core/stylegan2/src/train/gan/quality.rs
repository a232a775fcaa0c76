//! Figures of the averaged generator over the course of a training.

use super::trainer::{Trainer, fail};
use crate::net::Noise;
use crate::rng::Rng;
use crate::train::{Dataset, FeatureSection};
use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Images, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// `[quality]`: how and when the averaged generator is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QualitySection {
    /// The network on whose features images are compared.
    pub features: FeatureSection,
    /// Images between measurements; there is one more at the end.
    pub every: u64,
    /// Images drawn for one.
    #[serde(default = "samples")]
    pub samples: usize,
    /// Real images that they are compared with, at most, evenly spread over the training set.
    #[serde(default = "real")]
    pub real: usize,
}

fn samples() -> usize {
    2000
}
fn real() -> usize {
    10_000
}

impl QualitySection {
    /// What must hold, and what to say where it does not.
    pub fn rules(&self) -> [(bool, &'static str); 2] {
        [
            (self.every > 0, "quality.every must be positive"),
            (self.samples > 1 && self.real > 1, "quality: samples and real: expected at least 2"),
        ]
    }
}

/// What measures a generator against real images, such as by FID.
pub trait Evaluate {
    /// Called once, with the real images, `[N, C, R, R]` batch by batch, in [0, 1].
    ///
    /// # Errors
    /// If they cannot be compared with, or what they say.
    fn begin(&mut self, real: &mut dyn Iterator<Item = Result<Images>>) -> Result<()>;
    /// The figures by name. `draw(n)` gives the next n generated images.
    ///
    /// # Errors
    /// If images cannot be compared, or what `draw` says.
    fn evaluate(&mut self, draw: &mut dyn FnMut(usize) -> Result<Images>) -> Result<BTreeMap<String, f64>>;
}

/// Real images made ready together.
const BATCH: usize = 64;
/// The file in a training's folder.
const FILE: &str = "quality.csv";

/// From network range to image values; what lies beyond black and white is shown as these.
fn images(t: &Tensor) -> Result<Images> {
    let (n, c, h, w) = t.dims4().map_err(fail)?;
    let values = t.affine(0.5, 0.5).and_then(|t| t.clamp(0f32, 1f32)?.flatten_all()?.to_vec1::<f32>());
    Images::new([n, c, h, w], values.map_err(fail)?)
}

/// Shows an evaluator its share of the training set.
pub fn begin(evaluate: &mut dyn Evaluate, section: &QualitySection, data: &Dataset) -> Result<()> {
    let n = data.len().min(section.real);
    let picks: Vec<usize> = (0..n).map(|i| i * data.len() / n).collect();
    let mut batches = picks.chunks(BATCH).map(|c| images(&data.select(c, &Device::Cpu).map_err(fail)?));
    evaluate.begin(&mut batches)
}

impl Trainer {
    /// Measures the averaged generator, on the same codes every time.
    pub fn measure(&self, evaluate: &mut dyn Evaluate) -> Result<BTreeMap<String, f64>> {
        let g = self.average().map_err(fail)?;
        let mut rng = Rng::new(self.manifest.training.seed, u64::MAX - 2);
        let mut draw = |n: usize| {
            let z = self.codes(n, &mut rng).map_err(fail)?;
            let x = g.map(&z).and_then(|w| g.synthesize(&g.broadcast(&w)?, Noise::Constant));
            images(&x.map_err(fail)?)
        };
        evaluate.evaluate(&mut draw)
    }
}

/// Appends figures to the folder's `quality.csv`.
pub fn log(folder: &Path, shown: u64, seconds: f64, figures: &BTreeMap<String, f64>) -> Result<()> {
    let path = folder.join(FILE);
    let fresh = !path.exists();
    let mut file = File::options().create(true).append(true).open(&path).map_err(|e| Error::io(&path, e))?;
    let columns: Vec<&str> = figures.keys().map(String::as_str).collect();
    let head = if fresh { format!("images,seconds,{}\n", columns.join(",")) } else { String::new() };
    let values: Vec<String> = figures.values().map(|v| format!("{v:.6}")).collect();
    writeln!(file, "{head}{shown},{seconds:.0},{}", values.join(",")).map_err(|e| Error::io(&path, e))
}

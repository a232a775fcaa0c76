//! A generator's quality against one set of real images, measured as often as one likes.

use super::{FeatureSet, Gaussian, KernelDistance, frechet_distance, kernel_distance, precision_recall};
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, FeatureInfo, FeatureNetwork, Images, Result};
use std::collections::BTreeMap;

/// How a generator is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Images drawn.
    pub samples: usize,
    /// Images drawn, and run through the feature network, together.
    pub batch: usize,
    /// Pairs of subsets for KID.
    pub subsets: usize,
    /// Images of one subset; half of the smaller set where that is less.
    pub subset_size: usize,
    /// Images of each kind that precision and recall look at, evenly spread: their cost grows with the square.
    pub manifold_size: usize,
    /// Neighbours that precision and recall reach to.
    pub neighbours: usize,
    /// Seed of KID's subsets.
    pub seed: u64,
}

impl Default for Settings {
    /// KID's are those of Bińkowski et al. 2018, precision's and recall's neighbours those of Kynkäänniemi et al. 2019.
    fn default() -> Self {
        Self {
            samples: 10_000,
            batch: 32,
            subsets: 100,
            subset_size: 1000,
            manifold_size: 5000,
            neighbours: super::manifold::NEIGHBOURS,
            seed: 0,
        }
    }
}

impl Settings {
    /// Refuses numbers with which nothing can be measured.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self) -> Result<()> {
        let least = [
            ("batch", self.batch, 1),
            ("subsets", self.subsets, 1),
            ("subset-size", self.subset_size, 2),
            ("neighbours", self.neighbours, 1),
            ("samples", self.samples, self.neighbours + 1),
            ("manifold-size", self.manifold_size, self.neighbours + 1),
        ];
        match least.iter().find(|(_, value, least)| value < least) {
            Some((key, value, least)) => {
                Err(Error::Invalid(format!("quality: {key} = {value}, expected at least {least}")))
            }
            None => Ok(()),
        }
    }
}

/// What [`Evaluator::evaluate`] measures. Compare values only where features and numbers of images are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Fréchet distance; the less, the better.
    pub fid: f64,
    /// Kernel distance, the mean over the subsets.
    pub kid: f64,
    /// Standard deviation of KID over the subsets.
    pub kid_deviation: f64,
    /// Images of one subset of KID.
    pub kid_subset: usize,
    /// Share of drawn images that look real.
    pub precision: f64,
    /// Share of real images that could be drawn.
    pub recall: f64,
    /// Real images.
    pub real: usize,
    /// Drawn images.
    pub drawn: usize,
    /// D: features of one image.
    pub dimensions: usize,
}

impl Quality {
    /// The figures by name, for a log.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let named =
            [("fid", self.fid), ("kid", self.kid), ("precision", self.precision), ("recall", self.recall)];
        named.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// What a reader of the figures must know: few images make FID large.
    pub fn remark(&self) -> Option<String> {
        let fewest = self.real.min(self.drawn);
        (fewest <= self.dimensions).then(|| {
            format!(
                "FID of {} real and {} drawn images in {} dimensions: with no more images than dimensions it is biased \
                 upwards; KID is not",
                self.real, self.drawn, self.dimensions
            )
        })
    }
}

/// A feature network and what it says about the real images.
pub struct Evaluator {
    features: Box<dyn FeatureNetwork>,
    settings: Settings,
    real: FeatureSet,
    gaussian: Gaussian,
    thinned: FeatureSet,
}

impl Evaluator {
    /// Looks at the real images, which must have the network's channels and size (see [`super::fit`]), batch by batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range, or if there are too few images; what the images or the network say.
    pub fn new(
        mut features: Box<dyn FeatureNetwork>,
        settings: Settings,
        real: impl Iterator<Item = Result<Images>>,
    ) -> Result<Self> {
        settings.check()?;
        let real = FeatureSet::of(features.as_mut(), real)?;
        if real.len() <= settings.neighbours {
            return Err(Error::Invalid(format!(
                "quality: {} real images, expected at least {}",
                real.len(),
                settings.neighbours + 1
            )));
        }
        let gaussian = Gaussian::of(&real)?;
        let thinned = real.thinned(settings.manifold_size);
        Ok(Self { features, settings, real, gaussian, thinned })
    }

    /// The feature network.
    pub fn info(&self) -> FeatureInfo {
        self.features.info()
    }

    /// The feature network itself, to compare single images by.
    pub fn network(&mut self) -> &mut dyn FeatureNetwork {
        self.features.as_mut()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Measures a generator: `draw(n)` draws the next n images, of the network's channels and size; it is asked until all
    /// samples are there.
    ///
    /// # Errors
    /// What `draw` or the network say, [`Error::Shape`] if `draw` answers another number of images.
    pub fn evaluate(&mut self, draw: &mut dyn FnMut(usize) -> Result<Images>) -> Result<Quality> {
        let Settings { samples, batch, subsets, subset_size, manifold_size, neighbours, seed } =
            self.settings;
        let batches = (0..samples).step_by(batch).map(|from| {
            let n = batch.min(samples - from);
            let x = draw(n)?;
            if x.len() == n {
                return Ok(x);
            }
            let expected = format!("[{n}, C, H, W]");
            Err(Error::Shape { what: "drawn images".into(), expected, found: x.shape().to_vec() })
        });
        let drawn = FeatureSet::of(self.features.as_mut(), batches)?;
        let fid = frechet_distance(&self.gaussian, &Gaussian::of(&drawn)?)?;
        // Subsets that are the whole sets would show no deviation.
        let size = subset_size.min(self.real.len().min(drawn.len()) / 2).max(2);
        let KernelDistance { mean, deviation } = kernel_distance(&self.real, &drawn, subsets, size, seed)?;
        let shares = precision_recall(&self.thinned, &drawn.thinned(manifold_size), neighbours)?;
        Ok(Quality {
            fid,
            kid: mean,
            kid_deviation: deviation,
            kid_subset: size,
            precision: shares.precision,
            recall: shares.recall,
            real: self.real.len(),
            drawn: drawn.len(),
            dimensions: self.real.dimensions(),
        })
    }
}

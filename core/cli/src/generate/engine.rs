//! What draws: a network's file, or the generator of a study.

use super::{Generate, NoiseChoice};
use crate::failure::Failure;
use shiftlens_api::{Error, Generator, GeneratorInfo, LatentCodes, Result};
use shiftlens_engine::manifest::Studies;
use shiftlens_stylegan2::{GeneratorOptions, NoiseMode, StyleGan2Generator};
use std::path::Path;

/// A loaded generator.
pub enum Engine {
    /// A network's file, which can be asked for its own range of values.
    Network(Box<StyleGan2Generator>),
    /// Of any kind, as the manifest says.
    Study(Box<dyn Generator>),
}

impl Engine {
    /// Opens a network's file, or a manifest by its ending.
    ///
    /// # Errors
    /// What cannot be used: exit code 2.
    pub fn open(a: &Generate) -> Result<Self, Failure> {
        if a.model.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) {
            return Self::of_study(&a.model, a);
        }
        let default = GeneratorOptions::default();
        let options = GeneratorOptions {
            device: a.device.clone().unwrap_or(default.device),
            truncation: a.truncation.unwrap_or(default.truncation),
            truncation_cutoff: a.truncation_cutoff,
            class: a.class,
            noise: match a.noise {
                Some(NoiseChoice::None) => NoiseMode::None,
                Some(NoiseChoice::Const) | None => NoiseMode::Const,
            },
        };
        let g = StyleGan2Generator::load(&a.model, &options).map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(Self::Network(Box::new(g)))
    }

    fn of_study(path: &Path, a: &Generate) -> Result<Self, Failure> {
        let set = [
            ("--truncation", a.truncation.is_some()),
            ("--truncation-cutoff", a.truncation_cutoff.is_some()),
            ("--class", a.class.is_some()),
            ("--noise", a.noise.is_some()),
            ("--device", a.device.is_some()),
        ];
        if let Some((option, _)) = set.iter().find(|(_, given)| *given) {
            let message = format!(
                "{option} applies to a network's file; {} says how its generator runs",
                path.display()
            );
            return Err(Failure::Usage(message));
        }
        // The generator is the same for all predictors.
        let studies = Studies::open(path, &[])?;
        match studies.all().next().map(|s| s.load_generator()).transpose()?.flatten() {
            Some(g) => Ok(Self::Study(g)),
            None => Err(Failure::Usage(format!("{}: the study has no [generator]", path.display()))),
        }
    }

    /// Sizes.
    pub fn info(&self) -> GeneratorInfo {
        match self {
            Self::Network(g) => g.info(),
            Self::Study(g) => g.info(),
        }
    }

    /// The code of W of each seed.
    ///
    /// # Errors
    /// If the component fails.
    pub fn sample(&mut self, seeds: &[u64]) -> Result<LatentCodes> {
        match self {
            Self::Network(g) => g.sample_seeds(seeds),
            Self::Study(g) => {
                let codes = seeds.iter().map(|s| g.sample(1, *s)).collect::<Result<Vec<_>>>()?;
                LatentCodes::concat(&codes)
            }
        }
    }

    /// Images `[N, C, H, W]` flattened, black at -1 and white at 1; those of a study are within that range.
    ///
    /// # Errors
    /// If the component fails.
    pub fn images(&mut self, w: &LatentCodes) -> Result<Vec<f32>> {
        match self {
            Self::Network(g) => g.synthesize_raw(w),
            Self::Study(g) => {
                let images = g.synthesize(w)?;
                if images.len() != w.len() {
                    return Err(Error::Shape {
                        what: "images of the generator".into(),
                        expected: format!("[{}, C, H, W]", w.len()),
                        found: images.shape().to_vec(),
                    });
                }
                Ok(images.as_slice().iter().map(|v| 2.0 * v - 1.0).collect())
            }
        }
    }
}

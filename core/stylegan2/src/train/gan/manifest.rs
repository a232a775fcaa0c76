//! The manifest of `shiftlens train generator`.

use super::control::AugmentSection;
use super::joint::ReconstructionSection;
use super::preset;
use super::quality::QualitySection;
use super::start::StartSection;
use crate::net::{DiscriminatorConfig, GeneratorConfig};
use crate::ops::Precision;
use crate::train::augment::Augment;
use crate::train::data::DataSection;
use crate::train::manifest::{OutputSection, check, cpu, expand, resolve};
use crate::train::projected::ProjectedConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use shiftlens_api::{Error, Result};
use std::path::Path;

/// Adversarial training. [`preset::fill`] gives the values of keys that are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(description = "Adversarial training.", transform = preset::describe)]
pub struct GanTraining {
    /// Seed of everything random.
    pub seed: u64,
    /// Real images to show in all.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Each step's batch is worked on in so many parts, whose gradients are added: less memory, the same step. The groups
    /// of the minibatch standard deviation stay together; batch normalisation sees a part.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Weight of the R1 penalty: `gamma / 2 * mean |dD/dx|^2` (Mescheder et al. 2018, eq. 9). A projected
    /// discriminator has none.
    pub r1_gamma: f64,
    /// Steps between R1 penalties (lazy regularisation, Karras et al. 2020, section 3.1).
    #[serde(default = "sixteen")]
    pub r1_interval: u64,
    /// Probability that an image gets two codes, the second from a random layer on (Karras et al. 2019, section 3.1).
    #[serde(default = "style_mixing")]
    pub style_mixing: f64,
    /// Weight of the path length penalty (Karras et al. 2020, section 3.2); 0 turns it off. Where it is left out it is 2,
    /// with a projected discriminator 0.
    pub path_length_weight: f64,
    /// Steps between path length penalties.
    #[serde(default = "four")]
    pub path_length_interval: u64,
    /// The penalty is taken over 1 / this of the batch.
    #[serde(default = "two")]
    pub path_length_shrink: usize,
    /// Share of a batch's mean length in the running mean.
    #[serde(default = "path_length_decay")]
    pub path_length_decay: f64,
    /// Half-life of the weights' moving average, in images.
    pub ema_half_life: f64,
    /// Until then the half-life is at most this share of the images seen.
    #[serde(default = "ema_rampup")]
    pub ema_rampup: f64,
    /// `cpu`, or `cuda:0`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Precision of convolutions on a GPU: `f32`, `tf32` or `bf16`.
    #[serde(default)]
    pub precision: Precision,
}

fn one() -> usize {
    1
}
fn two() -> usize {
    2
}
fn four() -> u64 {
    4
}
fn sixteen() -> u64 {
    16
}
fn style_mixing() -> f64 {
    0.9
}
fn path_length_decay() -> f64 {
    0.01
}
fn ema_rampup() -> f64 {
    0.05
}

/// `[discriminator]`, told apart by its `kind`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind")]
pub enum DiscriminatorSection {
    /// `stylegan2`, also where `kind` is left out: trained from nothing, on images.
    #[serde(rename = "stylegan2")]
    StyleGan2(DiscriminatorConfig),
    /// `projected`: small discriminators on the features of a pretrained network.
    #[serde(rename = "projected")]
    Projected(ProjectedConfig),
}

impl<'de> Deserialize<'de> for DiscriminatorSection {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let mut section = serde_json::Map::deserialize(d)?;
        let kind = section.remove("kind");
        let section = serde_json::Value::Object(section);
        let made = match kind.as_ref().map(|k| k.as_str()) {
            None | Some(Some("stylegan2")) => serde_json::from_value(section).map(Self::StyleGan2),
            Some(Some("projected")) => serde_json::from_value(section).map(Self::Projected),
            Some(_) => {
                let found = kind.unwrap_or_default();
                return Err(D::Error::custom(format!(
                    "discriminator.kind is {found}, expected \"stylegan2\" or \"projected\""
                )));
            }
        };
        made.map_err(|e| D::Error::custom(format!("discriminator: {e}")))
    }
}

impl JsonSchema for DiscriminatorSection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Discriminator".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = |mut section: Schema, kind: &str, needed: bool, about: &str| {
            section.insert("title".into(), kind.into());
            let object = section.ensure_object();
            if let Some(keys) = object.get_mut("properties").and_then(|p| p.as_object_mut()) {
                let kind = json_schema!({ "const": kind, "description": about });
                keys.insert("kind".into(), kind.to_value());
            }
            if let (true, Some(required)) =
                (needed, object.get_mut("required").and_then(|r| r.as_array_mut()))
            {
                required.push("kind".into());
            }
            section
        };
        let stylegan2 = of(
            DiscriminatorConfig::json_schema(generator),
            "stylegan2",
            false,
            "StyleGAN2's discriminator, also where `kind` is left out: trained from nothing, on images.",
        );
        let projected = of(
            ProjectedConfig::json_schema(generator),
            "projected",
            true,
            "Small discriminators on the features of a pretrained network (Sauer et al. 2021).",
        );
        json_schema!({
            "type": "object",
            "description": "The discriminator.",
            "oneOf": [stylegan2, projected],
        })
    }
}

/// `train generator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Training of a generator", transform = preset::describe_manifest)]
#[schemars(description = "The manifest of `shiftlens train generator`.")]
pub struct GeneratorManifest {
    /// Version of the manifest: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// For the log and the provenance.
    pub name: String,
    /// Where the images are.
    pub data: DataSection,
    /// The generator G.
    pub generator: GeneratorConfig,
    /// The discriminator D.
    pub discriminator: DiscriminatorSection,
    /// Weights to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSection>,
    /// Figures over the course of the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualitySection>,
    /// An encoder that is trained with the generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<ReconstructionSection>,
    /// What D sees of its images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentSection>,
    /// How to train.
    pub training: GanTraining,
    /// Where results go.
    pub output: OutputSection,
}

/// The keys that name files.
const PATHS: [&str; 7] = [
    "data.images",
    "data.root",
    "discriminator.features.path",
    "start.weights",
    "reconstruction.features.path",
    "quality.features.path",
    "output.folder",
];

impl GeneratorManifest {
    /// Reads and checks a manifest; paths become relative to the working directory.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let refuse = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
        let mut table: toml::Table = toml::from_str(&text).map_err(|e| refuse(&e))?;
        expand(&mut table, &PATHS).map_err(|e| refuse(&e))?;
        preset::fill(&mut table).map_err(|e| refuse(&e))?;
        let mut m: Self = table.try_into().map_err(|e| refuse(&e))?;
        m.data.resolve(path);
        if let DiscriminatorSection::Projected(d) = &mut m.discriminator {
            resolve(path, &mut d.features.path);
        }
        m.start.iter_mut().for_each(|s| resolve(path, &mut s.weights));
        m.quality.iter_mut().for_each(|q| resolve(path, &mut q.features.path));
        let networks = m.reconstruction.iter_mut().flat_map(|r| &mut r.features);
        networks.for_each(|f| resolve(path, &mut f.path));
        m.check(path)?;
        Ok(m)
    }

    /// Images that must stay together in a part of a batch.
    pub(super) fn group(&self) -> usize {
        match &self.discriminator {
            DiscriminatorSection::StyleGan2(d) if d.mbstd_channels > 0 => {
                d.mbstd_group.min(self.training.batch).max(1)
            }
            _ => 1,
        }
    }

    /// In how many parts a step's batch is worked on; with an encoder half of them are reconstructions.
    pub(super) fn parts(&self) -> usize {
        self.training.accumulate * if self.reconstruction.is_some() { 2 } else { 1 }
    }

    fn check(&self, path: &Path) -> Result<()> {
        let (g, t) = (&self.generator, &self.training);
        let share = |v: f64| (0.0..=1.0).contains(&v);
        let parts = t.accumulate > 0 && t.batch.is_multiple_of(self.parts());
        let mut rules = vec![
            (g.channels == 1 || g.channels == 3, "generator.channels: expected 1 or 3"),
            (g.label_dim == 0, "label-dim: training is unconditional, a folder of images has no classes"),
            (t.batch > 0 && t.images > 0, "training: batch and images must be positive"),
            (
                parts,
                "training.batch must be a multiple of training.accumulate, with [reconstruction] of twice that",
            ),
            (t.learning_rate > 0.0 && t.r1_gamma >= 0.0, "training: learning-rate and r1-gamma"),
            (t.r1_interval > 0 && t.ema_half_life > 0.0, "training: r1-interval and ema-half-life"),
            (share(t.style_mixing), "training.style-mixing: expected 0 to 1"),
            (
                t.path_length_weight >= 0.0 && t.path_length_interval > 0 && share(t.path_length_decay),
                "training: path-length-weight must not be negative, path-length-interval must be positive, \
                 path-length-decay lies between 0 and 1",
            ),
            (
                (1..=t.batch.max(1)).contains(&t.path_length_shrink),
                "training.path-length-shrink: expected 1 to batch",
            ),
            (
                self.output.checkpoint_every > 0 && self.output.samples_every > 0,
                "output: checkpoint-every and samples-every must be positive",
            ),
        ];
        match &self.discriminator {
            DiscriminatorSection::StyleGan2(d) => rules.extend([
                (
                    (g.resolution, g.channels) == (d.resolution, d.channels),
                    "generator and discriminator differ in resolution or channels",
                ),
                (d.label_dim == 0, "label-dim: training is unconditional, a folder of images has no classes"),
                (
                    d.mbstd_group > 0 && (t.batch / self.parts().max(1)).is_multiple_of(self.group()),
                    "training.batch over training.accumulate (with [reconstruction] over twice that) must be a multiple of \
                     discriminator.mbstd-group",
                ),
            ]),
            DiscriminatorSection::Projected(_) => rules.push((
                t.r1_gamma == 0.0,
                "training.r1-gamma: a projected discriminator has no gradient penalty; leave it out",
            )),
        }
        rules.extend(self.quality.iter().flat_map(QualitySection::rules));
        rules.extend(self.augment.iter().flat_map(AugmentSection::rules));
        let sizes = (g.channels, g.resolution, g.w_dim);
        rules.extend(self.reconstruction.iter().flat_map(|r| r.rules(sizes, t.style_mixing)));
        let codes = t.batch / self.parts().max(1) > 1;
        rules.push((
            self.reconstruction.is_none() || codes,
            "training.batch: a part of a batch needs two images with [reconstruction]",
        ));
        check(path, self.schema, &rules)?;
        if let Some(a) = &self.augment {
            let made = Augment::new(&a.pipeline, g.channels, g.resolution);
            made.map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
        }
        let sizes = g.check().and_then(|()| match &self.discriminator {
            DiscriminatorSection::StyleGan2(d) => d.check(),
            DiscriminatorSection::Projected(d) => d.check(),
        });
        sizes.map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
    }
}

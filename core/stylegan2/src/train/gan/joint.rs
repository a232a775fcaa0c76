//! An encoder that is trained with the generator (Lang et al. 2021, arXiv 2104.13369, section 3.1).
//!
//! Half of every batch are reconstructions G(E(x)) of real images x. D judges them as it judges G(z), and to G's and E's
//! loss comes, with u = E(x) in standard units of w,
//!
//! `pixel-weight mean (G(E(x)) - x)^2 + sum of real-weight d(G(E(x)), x) + code-weight energy(u, M(z)) +
//! latent-weight mean (E(G(w)) - w)^2`
//!
//! d is the distance on a network's features ([`crate::perceptual`]). The energy distance makes codes of real images and
//! codes that the mapping network M draws one distribution, so that what G learns from reconstructions shows in its
//! samples. The last part is E's alone: its images are constants.
//!
//! Over the first `warm-up` images the parts of the loss above are all there is.
//!
//! Reconstructions tell G where every pixel belongs, where D only says that an image is not right yet: on few images G learns
//! to draw what sets images apart long before adversarial training alone would.

use super::step::Stream;
use crate::file;
use crate::net::{EncoderConfig, EncoderNet, GeneratorNet, Noise, Space};
use crate::train::encoder::FeatureLoss;
use crate::train::encoder::features::{self, Loss};
use crate::train::{Adam, Dataset, checkpoint, scalar};
use crate::weights::Weights;
use candle_core::{DType, Device, Result, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::FeatureNetwork;
use std::collections::{BTreeMap, HashMap};

/// Codes whose mean and deviation are E's units.
const CODES: usize = 10_000;
/// Real images on which the mean squares of features are measured.
const USUAL: usize = 256;

/// `[reconstruction]`: an encoder that is trained with the generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReconstructionSection {
    /// E, to W, of the generator's resolution, channels and w-dim.
    pub encoder: EncoderConfig,
    /// Weight of the squared error of pixels (network range) of G(E(x)).
    pub pixel_weight: f64,
    /// Weight of the squared error of codes, in standard units per coordinate, of E(G(w)).
    pub latent_weight: f64,
    /// Weight of the energy distance between codes of real images and drawn ones.
    pub code_weight: f64,
    /// So many images, shown first, are all reconstructions and D does not look at them yet: many times as many for the
    /// same work.
    #[serde(default)]
    pub warm_up: u64,
    /// Losses on features of G(E(x)); their `real-weight` counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureLoss>,
}

impl ReconstructionSection {
    /// What must hold beside a generator of these channels, resolution and w-dim, with this share of style mixing.
    pub(super) fn rules(&self, generator: (usize, usize, usize), mixing: f64) -> Vec<(bool, &'static str)> {
        let e = &self.encoder;
        let weight = |v: f64| v.is_finite() && v >= 0.0;
        vec![
            (
                (e.channels, e.resolution, e.w_dim) == generator,
                "reconstruction.encoder and generator differ in channels, resolution or w-dim",
            ),
            (e.space == Space::W, "reconstruction.encoder.space: expected \"w\""),
            (
                [self.pixel_weight, self.latent_weight, self.code_weight].into_iter().all(weight),
                "reconstruction: weights must be numbers of at least 0",
            ),
            (
                self.features.iter().all(|f| f.weight == 0.0 && weight(f.real_weight) && f.real_weight > 0.0),
                "reconstruction.features: real-weight must be positive; weight, of synthetic images, has no place here",
            ),
            (
                self.pixel_weight > 0.0 || !self.features.is_empty(),
                "reconstruction: pixel-weight or features must say what a reconstruction is like",
            ),
            (
                self.latent_weight == 0.0 || mixing == 0.0,
                "reconstruction.latent-weight needs training.style-mixing = 0: an image of two codes has none to learn",
            ),
        ]
    }
}

/// The parts of a step's loss, without their weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct JointParts {
    pub pixel: f64,
    pub feature: f64,
    pub codes: f64,
    /// None where no image of a drawn code was looked at.
    pub latent: Option<f64>,
}

impl JointParts {
    /// Adds a part of a batch.
    pub fn add(&mut self, part: &Self, share: f64) {
        self.pixel += share * part.pixel;
        self.feature += share * part.feature;
        self.codes += share * part.codes;
    }
}

/// E and what belongs to it.
pub struct Joint {
    section: ReconstructionSection,
    weights: Weights,
    e: EncoderNet,
    pub(super) adam: Adam,
    /// The average of E's weights.
    pub(super) ema: BTreeMap<String, Tensor>,
    losses: Vec<Loss>,
}

/// `energy(a, b) = 2 mean |a_i - b_j| - mean |a_i - a_j| - mean |b_i - b_j|` of rows `[n, D]` and `[m, D]`, over `sqrt(D)`;
/// pairs of a row with itself are left out, so that its expectation is that of the distributions (Székely and Rizzo 2013,
/// J. Stat. Plan. Inference 143, eq. 2).
pub fn energy(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((n, d), m) = (a.dims2()?, b.dim(0)?);
    if n < 2 || m < 2 {
        bail!("energy distance: {n} and {m} codes, expected at least two of each");
    }
    let sum = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let apart = a.unsqueeze(1)?.broadcast_sub(&b.unsqueeze(0)?)?;
        // The root has no derivative at 0, where a row meets itself.
        (apart.sqr()?.sum(2)? + 1e-12)?.sqrt()?.sum_all()? / (d as f64).sqrt()
    };
    let between = (sum(a, b)? * (2.0 / (n * m) as f64))?;
    let within = ((sum(a, a)? / (n * (n - 1)) as f64)? + (sum(b, b)? / (m * (m - 1)) as f64)?)?;
    between - within
}

fn wrap(e: shiftlens_api::Error) -> candle_core::Error {
    candle_core::Error::wrap(e)
}

impl Joint {
    /// A new encoder for `g`, that of a checkpoint `from`, or with what the encoder `start` of another training gives; says
    /// what it gave.
    pub fn new(
        (section, seed): (&ReconstructionSection, u64),
        networks: Vec<Box<dyn FeatureNetwork>>,
        (g, data, device): (&GeneratorNet, &Dataset, &Device),
        from: Option<&HashMap<String, Tensor>>,
        (start, said): (Option<&HashMap<String, Tensor>>, &mut Vec<String>),
    ) -> Result<Self> {
        let stored = match from {
            Some(all) => checkpoint::part(all, "E"),
            None => {
                // Units, not a part of the loss: no gradient of the mapping network.
                let codes = file::sample_w(g, CODES, seed)?.detach();
                let fresh = Weights::random(seed ^ 0xE7C0, device);
                EncoderNet::new(&section.encoder, &fresh)?;
                let mut new = fresh.tensors();
                new.insert("w_mean".into(), codes.mean(0)?);
                new.insert("w_std".into(), (codes.var(0)? + 1e-12)?.sqrt()?);
                match start {
                    Some(start) => {
                        let taken = super::start::take(new, start);
                        said.push(taken.describe("E"));
                        taken.tensors
                    }
                    None => new.into_iter().map(|(k, t)| (k, t.detach())).collect(),
                }
            }
        };
        let weights = Weights::trainable(stored, device);
        let e = EncoderNet::new(&section.encoder, &weights)?;
        let mut adam = Adam::new(weights.vars(), (0.9, 0.99))?;
        let images = (section.encoder.channels, section.encoder.resolution);
        let mut losses = features::of_networks(images, &section.features, networks).map_err(wrap)?;
        let mut ema = BTreeMap::new();
        match from {
            Some(all) => {
                adam.restore("e_adam", all)?;
                features::restore(&mut losses, all).map_err(wrap)?;
                let stored = checkpoint::part(all, "ema_e");
                for name in weights.tensors().into_keys() {
                    let Some(t) = stored.get(&name) else { bail!("checkpoint: `ema_e.{name}` is missing") };
                    ema.insert(name, t.to_device(device)?.to_dtype(DType::F32)?);
                }
            }
            None => {
                if !losses.is_empty() {
                    let mut rng = Stream::Reals.rng(seed, u64::MAX / 32);
                    let images = data.draw(USUAL, &mut rng, device)?;
                    losses.iter_mut().try_for_each(|l| l.distance.measure(&images)).map_err(wrap)?;
                }
                for (name, t) in weights.tensors() {
                    ema.insert(name, t.detach().copy()?);
                }
            }
        }
        Ok(Self { section: section.clone(), weights, e, adam, ema, losses })
    }

    /// G(E(x)) of real images `[n, C, R, R]`, E's and G's part of the loss, and its parts; `z` `[m, Z]` are codes for M.
    pub fn rebuild(
        &mut self,
        g: &GeneratorNet,
        (x, z): (&Tensor, &Tensor),
    ) -> Result<(Tensor, Tensor, JointParts)> {
        let s = &self.section;
        let u = self.e.standard(x)?;
        let y = g.synthesize(&g.broadcast(&self.e.destandardise(&u)?.squeeze(1)?)?, Noise::Constant)?;
        let mut parts = JointParts::default();
        let pixel = (&y - x)?.sqr()?.mean_all()?;
        parts.pixel = scalar(&pixel)?;
        let drawn = self.e.standardise(&g.map(z)?)?;
        let codes = energy(&u.squeeze(1)?, &drawn)?;
        parts.codes = scalar(&codes)?;
        let mut loss = ((pixel * s.pixel_weight)? + (codes * s.code_weight)?)?;
        let n = x.dim(0)?;
        for l in &mut self.losses {
            let scales = vec![l.real_weight / n as f64; n];
            let targets = l.distance.targets(x).map_err(wrap)?;
            let d = l.distance.distances(&y, &targets, &scales).map_err(wrap)?;
            parts.feature += d.values.iter().sum::<f64>() / n as f64;
            loss = (loss + d.surrogate)?;
        }
        Ok((y, loss, parts))
    }

    /// E's loss on images of codes w `[n, D]`, and its value without the weight.
    pub fn recognise(&self, images: &Tensor, w: &Tensor) -> Result<(Tensor, f64)> {
        let u = self.e.standard(&images.detach())?.squeeze(1)?;
        let latent = (u - self.e.standardise(&w.detach())?)?.sqr()?.mean_all()?;
        let value = scalar(&latent)?;
        Ok(((latent * self.section.latent_weight)?, value))
    }

    /// Trainable variables.
    pub fn vars(&self) -> Vec<(String, candle_core::Var)> {
        self.weights.vars()
    }

    /// The averaged encoder's tensors.
    pub fn averaged(&self) -> HashMap<String, Tensor> {
        self.ema.iter().map(|(k, t)| (k.clone(), t.clone())).collect()
    }

    /// Sizes.
    pub fn config(&self) -> &EncoderConfig {
        &self.section.encoder
    }

    /// Adds all of it to a checkpoint.
    pub fn save(&self, out: &mut BTreeMap<String, Tensor>) -> Result<()> {
        out.extend(self.weights.tensors().into_iter().map(|(name, t)| (format!("E.{name}"), t)));
        out.extend(self.ema.iter().map(|(name, t)| (format!("ema_e.{name}"), t.clone())));
        self.adam.save("e_adam", out)?;
        features::save(&self.losses, out)
    }

    /// Rows of 16 real images, each above that of their reconstructions by the averages of E and of G.
    pub fn sheet(&self, g: &GeneratorNet, data: &Dataset, device: &Device) -> Result<Tensor> {
        let e = EncoderNet::new(&self.section.encoder, &Weights::frozen(self.averaged(), device))?;
        let images = data.range(0, 32, device)?;
        let mut rows = Vec::new();
        for x in images.chunk(images.dim(0)?.div_ceil(16), 0)? {
            let w = e.forward(&x)?.squeeze(1)?;
            rows.extend([x, g.synthesize(&g.broadcast(&w)?, Noise::Constant)?]);
        }
        Tensor::cat(&rows, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_energy_distance_is_its_double_sum_and_of_equal_distributions_nothing() {
        let cpu = Device::Cpu;
        let draw = |seed, n: usize, shift: f32| {
            let v: Vec<f32> = Rng::new(seed, 0).normals(n * 3).iter().map(|v| v + shift).collect();
            Tensor::from_vec(v, (n, 3), &cpu).unwrap()
        };
        let value = |a: &Tensor, b: &Tensor| f64::from(energy(a, b).unwrap().to_scalar::<f32>().unwrap());
        let (a, b) = (draw(1, 5, 0.0), draw(2, 4, 0.5));
        let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        let apart = |p: &[f32], q: &[f32]| {
            let squares = p.iter().zip(q).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2));
            squares.sum::<f64>().sqrt() / 3f64.sqrt()
        };
        let mean = |p: &[Vec<f32>], q: &[Vec<f32>], same: bool| {
            let mut all = Vec::new();
            for (i, x) in p.iter().enumerate() {
                all.extend(q.iter().enumerate().filter(|(j, _)| !same || i != *j).map(|(_, y)| apart(x, y)));
            }
            all.iter().sum::<f64>() / all.len() as f64
        };
        let (p, q) = (rows(&a), rows(&b));
        let expected = 2.0 * mean(&p, &q, false) - mean(&p, &p, true) - mean(&q, &q, true);
        assert!((value(&a, &b) - expected).abs() < 1e-5, "{} {expected}", value(&a, &b));
        // Unbiased: over many draws of one distribution the mean is 0, of two apart it is not.
        let over = |shift| {
            (0..200).map(|i| value(&draw(10 + i, 8, 0.0), &draw(900 + i, 8, shift))).sum::<f64>() / 200.0
        };
        assert!(over(0.0).abs() < 0.03, "{}", over(0.0));
        assert!(over(1.0) > 0.3, "{}", over(1.0));
        assert!(energy(&draw(1, 1, 0.0), &b).is_err());
    }

    /// The loss's slope along its own gradient is the gradient's length, for the weights of E, of M and of the synthesis
    /// network each.
    #[test]
    fn gradients_are_finite_differences() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..4u8 {
            let picture =
                image::GrayImage::from_fn(8, 8, |x, y| image::Luma([60 * i + (5 * x + 3 * y) as u8]));
            picture.save(folder.path().join(format!("{i}.png"))).unwrap();
        }
        let cpu = Device::Cpu;
        let data: crate::train::DataSection =
            serde_json::from_value(serde_json::json!({ "images": [folder.path()] })).unwrap();
        let data = Dataset::load(&data, 1, 8).unwrap();
        let config = serde_json::json!({
            "resolution": 8, "channels": 1, "z-dim": 4, "w-dim": 4, "mapping-layers": 2,
            "channel-base": 64, "channel-max": 8
        });
        let config: crate::net::GeneratorConfig = serde_json::from_value(config).unwrap();
        let weights = Weights::random(5, &cpu);
        let g = GeneratorNet::new(&config, &weights).unwrap();
        let section = serde_json::json!({
            "encoder": { "resolution": 8, "channels": 1, "w-dim": 4, "channel-base": 64, "channel-max": 8 },
            "pixel-weight": 2.0, "latent-weight": 1.0, "code-weight": 3.0
        });
        let section: ReconstructionSection = serde_json::from_value(section).unwrap();
        let mut joint =
            Joint::new((&section, 5), Vec::new(), (&g, &data, &cpu), None, (None, &mut Vec::new())).unwrap();
        let x = data.range(0, 4, &cpu).unwrap();
        let z = Tensor::from_vec(Rng::new(8, 0).normals(16), (4, 4), &cpu).unwrap();
        let grads = joint.rebuild(&g, (&x, &z)).unwrap().1.backward().unwrap();
        let of_e = joint.vars().into_iter().map(|(name, v)| (format!("E.{name}"), v));
        let vars: Vec<_> = weights.vars().into_iter().chain(of_e).collect();
        let mut compared = 0;
        for group in ["E.", "mapping.", "synthesis."] {
            let of = |name: &str| name.starts_with(group);
            let vars: Vec<_> = vars.iter().filter(|(name, _)| of(name)).collect();
            let found: Vec<_> = vars
                .iter()
                .filter_map(|(_, v)| Some((v, grads.get(v.as_tensor())?.clone(), v.copy().ok()?)))
                .collect();
            let square =
                |t: &Tensor| f64::from(t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
            let length = found.iter().map(|(_, g, _)| square(g)).sum::<f64>().sqrt();
            assert!(length > 1e-3, "{group}: {length}");
            let mut at = |t: f64| {
                for (var, g, before) in &found {
                    var.set(&(before + (g * (t / length)).unwrap()).unwrap()).unwrap();
                }
                f64::from(joint.rebuild(&g, (&x, &z)).unwrap().1.to_scalar::<f32>().unwrap())
            };
            let step = 1e-2;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            at(0.0);
            assert!((slope - length).abs() < 0.03 * length, "{group}: {slope} for {length}");
            compared += found.len();
        }
        assert!(compared > 20, "{compared} variables");
    }
}

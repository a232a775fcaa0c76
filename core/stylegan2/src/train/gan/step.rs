//! One step of training.

use super::critic::Kept;
use super::health::spread;
use super::joint::JointParts;
use super::trainer::{Trainer, lazy};
use crate::kernels::conv::fast;
use crate::net::Noise;
use crate::ops::{first_order, with_precision};
use crate::rng::Rng;
use crate::train::path_length::{path_directions, path_lengths};
use crate::train::scalar;
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// Steps between looks at what costs something to look at, and between lines of the log.
pub const EVERY: u64 = 16;
/// Random streams of one step.
const STREAMS: u64 = 16;

/// What a stream is for.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    Codes,
    Noise,
    Reals,
    Mixing,
    PathCodes,
    PathNoise,
    PathDirections,
    AugmentFake,
    AugmentReal,
    AugmentR1,
}

impl Stream {
    /// The stream of a step.
    pub fn rng(self, seed: u64, step: u64) -> Rng {
        Rng::new(seed, step * STREAMS + self as u64)
    }
}

/// What a step has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Adversarial losses, once D has joined in.
    pub losses: Option<(f64, f64)>,
    /// `mean |dD/dx|^2`, where it was due.
    pub r1: Option<f64>,
    /// Mean path length, where it was due.
    pub path_length: Option<f64>,
    /// Variance between generated images, every [`EVERY`] steps.
    pub spread: Option<f64>,
    /// The reconstructions' parts of the loss, where there is an encoder.
    pub joint: Option<JointParts>,
}

/// Part `b` of `parts` of a batch x `[N, ..]`. Minibatch statistics read a batch as `[group, N / group]`; a part has some
/// of those columns, so that groups stay what they are in the whole batch.
pub fn part(x: &Tensor, group: usize, (b, parts): (usize, usize)) -> Result<Tensor> {
    if parts == 1 {
        return Ok(x.clone());
    }
    let (n, rest) = (x.dim(0)?, &x.dims()[1..]);
    let columns = n / group / parts;
    if columns * group * parts != n {
        bail!("{n} images do not divide into {parts} parts of whole groups of {group}");
    }
    let split = [&[group, columns * parts], rest].concat();
    let joined = [&[n / parts], rest].concat();
    x.reshape(split)?.narrow(1, b * columns, columns)?.contiguous()?.reshape(joined)
}

/// What G's step leaves for D's and for the log.
struct StepOfG {
    loss: f64,
    kept: Vec<Kept>,
    spread: Option<f64>,
    joint: Option<JointParts>,
}

fn add(total: &mut Option<GradStore>, grads: GradStore) -> Result<()> {
    match total {
        Some(total) => total.extend(grads),
        None => {
            *total = Some(grads);
            Ok(())
        }
    }
}

fn summed(total: Option<GradStore>) -> Result<GradStore> {
    match total {
        Some(grads) => Ok(grads),
        None => bail!("a step without parts"),
    }
}

impl Trainer {
    /// A random stream of the current step.
    fn rng(&self, purpose: Stream) -> Rng {
        purpose.rng(self.manifest.training.seed, self.step)
    }

    pub(super) fn codes(&self, n: usize, rng: &mut Rng) -> Result<Tensor> {
        let z_dim = self.manifest.generator.z_dim;
        Tensor::from_vec(rng.normals(n * z_dim), (n, z_dim), &self.device)
    }

    /// For each of `n` images a second code and the rows of w that are the first one's, `[n, L, 1]` of ones and zeros.
    fn mixing(&self, n: usize) -> Result<Option<(Tensor, Tensor)>> {
        let probability = self.manifest.training.style_mixing;
        if probability == 0.0 {
            return Ok(None);
        }
        let mut rng = self.rng(Stream::Mixing);
        let layers = self.manifest.generator.num_ws();
        let mut first = Vec::with_capacity(n * layers);
        for _ in 0..n {
            let cut = 1 + rng.below(layers - 1);
            let cut = if rng.uniform() < probability { cut } else { layers };
            first.extend((0..layers).map(|l| f32::from(u8::from(l < cut))));
        }
        let first = Tensor::from_vec(first, (n, layers, 1), &self.device)?;
        Ok(Some((self.codes(n, &mut rng)?, first)))
    }

    fn ws(&self, z: &Tensor, mixing: Option<(Tensor, Tensor)>) -> Result<Tensor> {
        let ws = self.g.broadcast(&self.g.map(z)?)?;
        let Some((z, first)) = mixing else { return Ok(ws) };
        let second = self.g.broadcast(&self.g.map(&z)?)?;
        second.contiguous()? + (ws - second)?.broadcast_mul(&first)?
    }

    /// One step on `real` images `[B, C, R, R]`.
    pub fn train(&mut self, real: &Tensor) -> Result<Outcome> {
        fast(|| with_precision(self.manifest.training.precision, || self.step_on(real)))
    }

    fn step_on(&mut self, real: &Tensor) -> Result<Outcome> {
        if self.warming_up() {
            let joint = first_order(|| self.step_warm_up(real))?;
            self.step += 1;
            self.average_in()?;
            return Ok(Outcome { joint: Some(joint), ..Outcome::default() });
        }
        let precise = self.manifest.training.precision.for_second_order();
        let StepOfG { loss: g_loss, kept, spread, joint } = first_order(|| self.step_g(real))?;
        let due = |interval: Option<u64>, step: u64| interval.is_some_and(|n| step.is_multiple_of(n));
        let path_length = due(self.manifest.path_length_interval(), self.step)
            .then(|| with_precision(precise, || self.step_path_length()))
            .transpose()?;
        let (d_loss, sign) = first_order(|| self.step_d(&kept, real))?;
        self.control.observe(sign, self.manifest.training.batch, self.manifest.augment.as_ref());
        let r1 = due(self.manifest.r1_interval(), self.step)
            .then(|| with_precision(precise, || self.step_r1(real)))
            .transpose()?;
        self.step += 1;
        self.average_in()?;
        Ok(Outcome { losses: Some((g_loss, d_loss)), r1, path_length, spread, joint })
    }

    fn warming_up(&self) -> bool {
        let images = self.step * self.manifest.training.batch as u64;
        self.manifest.reconstruction.as_ref().is_some_and(|r| images < r.warm_up)
    }

    /// G's and E's step on reconstructions alone.
    fn step_warm_up(&mut self, real: &Tensor) -> Result<JointParts> {
        let t = &self.manifest.training;
        let (parts, group, rate) = (t.accumulate, self.manifest.group(), t.learning_rate);
        let z = self.codes(t.batch, &mut self.rng(Stream::Codes))?;
        let Some(e) = &mut self.joint else { bail!("a reconstruction without an encoder") };
        let (mut sum, mut total) = (JointParts::default(), None);
        for b in 0..parts {
            let pick = |x: &Tensor| part(x, group, (b, parts));
            let (_, loss, found) = e.rebuild(&self.g, (&pick(real)?, &pick(&z)?))?;
            sum.add(&found, 1.0 / parts as f64);
            add(&mut total, (loss / parts as f64)?.backward()?)?;
        }
        let grads = summed(total)?;
        self.g_adam.step(&grads, rate * lazy(self.manifest.path_length_interval()))?;
        e.adam.step(&grads, rate)?;
        Ok(sum)
    }

    /// What D sees of images.
    fn shown(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        match &self.augment {
            Some(augment) => augment.apply(images, &augment.draw(images.dim(0)?, self.control.p, rng)),
            None => Ok(images.clone()),
        }
    }

    fn step_g(&mut self, real: &Tensor) -> Result<StepOfG> {
        let t = &self.manifest.training;
        let (batch, parts, group, rate, e_rate) = (
            t.batch,
            self.manifest.parts(),
            self.manifest.group(),
            t.learning_rate * self.lazy_g(),
            t.learning_rate,
        );
        // Parts from here on are reconstructions.
        let drawn = if self.joint.is_some() { parts / 2 } else { parts };
        let mut joint = self.joint.as_ref().map(|_| JointParts::default());
        let z = self.codes(batch, &mut self.rng(Stream::Codes))?;
        let mixing = self.mixing(batch)?;
        let mut shown = self.rng(Stream::AugmentFake);
        let look = (self.step + 1).is_multiple_of(EVERY) && batch / parts > 1;
        let (mut value, mut kept, mut total, mut seen) = (0.0, Vec::with_capacity(parts), None, None);
        for b in 0..parts {
            let pick = |x: &Tensor| part(x, group, (b, parts));
            let mut also = None;
            let fake = if b < drawn {
                let mixing = match &mixing {
                    Some((z, first)) => Some((pick(z)?, pick(first)?)),
                    None => None,
                };
                let ws = self.ws(&pick(&z)?, mixing)?;
                let mut rng = self.rng(Stream::Noise);
                let noise = match parts {
                    1 => Noise::Random(&mut rng),
                    _ => Noise::Picked(&mut rng, batch, &pick),
                };
                let fake = self.g.synthesize(&ws, noise)?;
                if look && b == 0 {
                    seen = Some(spread(&fake)?);
                }
                if let (Some(e), Some(sum)) = (&self.joint, &mut joint) {
                    let (loss, found) = e.recognise(&fake, &ws.narrow(1, 0, 1)?.squeeze(1)?)?;
                    sum.latent = Some(sum.latent.unwrap_or(0.0) + found / drawn as f64);
                    also = Some((loss / drawn as f64)?);
                }
                fake
            } else {
                let (Some(e), Some(sum)) = (&mut self.joint, &mut joint) else {
                    bail!("a reconstruction without an encoder")
                };
                let (fake, loss, found) = e.rebuild(&self.g, (&pick(real)?, &pick(&z)?))?;
                let share = 1.0 / (parts - drawn) as f64;
                sum.add(&found, share);
                also = Some((loss * share)?);
                fake
            };
            let guidance = self.critic.guide(&self.shown(&fake, &mut shown)?)?;
            value += guidance.value / parts as f64;
            let mut loss = (guidance.loss / parts as f64)?;
            if let Some(also) = also {
                loss = (loss + also)?;
            }
            add(&mut total, loss.backward()?)?;
            kept.push(guidance.kept);
        }
        let grads = summed(total)?;
        self.g_adam.step(&grads, rate)?;
        if let Some(e) = &mut self.joint {
            e.adam.step(&grads, e_rate)?;
        }
        Ok(StepOfG { loss: value, kept, spread: seen, joint })
    }

    fn lazy_g(&self) -> f64 {
        lazy(self.manifest.path_length_interval())
    }

    /// G's step for the path length penalty alone; returns the mean length.
    fn step_path_length(&mut self) -> Result<f64> {
        let t = &self.manifest.training;
        let (weight, rate, decay) = (
            t.path_length_weight * t.path_length_interval as f64,
            t.learning_rate * self.lazy_g(),
            t.path_length_decay,
        );
        let n = (t.batch / t.path_length_shrink).max(1);
        let z = self.codes(n, &mut self.rng(Stream::PathCodes))?;
        let ws = self.ws(&z, None)?;
        let leaf = Var::from_tensor(&ws.detach().contiguous()?)?;
        let images = self.g.synthesize(leaf.as_tensor(), Noise::Random(&mut self.rng(Stream::PathNoise)))?;
        let mut rng = self.rng(Stream::PathDirections);
        let directions = path_directions(images.dims4()?, &mut rng, &self.device)?;
        let lengths = path_lengths(&images, &leaf, &directions)?;
        let loss = (self.path.penalties_with(&lengths, decay)?.mean_all()? * weight)?;
        first_order(|| {
            let mut grads = loss.backward()?;
            // What reaches the codes goes on to the mapping network.
            if let Some(g) = grads.remove(leaf.as_tensor()) {
                let through = (&ws * g.detach())?.sum_all()?;
                grads.extend(through.backward()?)?;
            }
            self.g_adam.step(&grads, rate)
        })?;
        scalar(&lengths.detach().mean_all()?)
    }

    fn step_d(&mut self, kept: &[Kept], real: &Tensor) -> Result<(f64, f64)> {
        let t = &self.manifest.training;
        let (parts, group) = (self.manifest.parts(), self.manifest.group());
        let rate = t.learning_rate * lazy(self.manifest.r1_interval());
        self.critic.advance()?;
        let mut shown = self.rng(Stream::AugmentReal);
        let (mut value, mut sign, mut total) = (0.0, 0.0, None);
        for (b, fake) in kept.iter().enumerate() {
            let real = self.shown(&part(real, group, (b, parts))?, &mut shown)?;
            let (loss, s) = self.critic.loss(fake, &real)?;
            let loss = (loss / parts as f64)?;
            value += scalar(&loss)?;
            sign += s / parts as f64;
            add(&mut total, loss.backward()?)?;
        }
        self.d_adam.step(&summed(total)?, rate)?;
        Ok((value, sign))
    }

    /// D's step for the R1 penalty alone; returns `mean |dD/dx|^2`.
    fn step_r1(&mut self, real: &Tensor) -> Result<f64> {
        let t = &self.manifest.training;
        let (parts, group) = (t.accumulate, self.manifest.group());
        let rate = t.learning_rate * lazy(self.manifest.r1_interval());
        let weight = t.r1_gamma / 2.0 * t.r1_interval as f64 / parts as f64;
        let mut shown = self.rng(Stream::AugmentR1);
        let (mut mean, mut total) = (0.0, None);
        for b in 0..parts {
            let real = part(real, group, (b, parts))?;
            let (grads, penalty) = self.critic.r1(&real, weight, |x| self.shown(x, &mut shown))?;
            mean += penalty / parts as f64;
            add(&mut total, grads)?;
        }
        self.d_adam.step(&summed(total)?, rate)?;
        Ok(mean)
    }

    /// Moves the average of G's weights towards them.
    fn average_in(&mut self) -> Result<()> {
        let t = &self.manifest.training;
        let seen = (self.step * t.batch as u64) as f64;
        // A network that comes from another training has an average that is worth keeping.
        let rampup = if self.manifest.start.is_some() { f64::INFINITY } else { seen * t.ema_rampup };
        let half_life = t.ema_half_life.min(rampup).max(1e-8);
        let keep = 0.5f64.powf(t.batch as f64 / half_life);
        let blend = |ema: &mut BTreeMap<String, Tensor>, vars: Vec<(String, Var)>| -> Result<()> {
            for (name, var) in vars {
                let now = var.as_detached_tensor();
                let Some(ema) = ema.get_mut(&name) else { bail!("`{name}` has no average") };
                *ema = (&now + ((&*ema - &now)? * keep)?)?;
            }
            Ok(())
        };
        blend(&mut self.ema, self.g_weights.vars())?;
        if let Some(e) = &mut self.joint {
            let vars = e.vars();
            blend(&mut e.ema, vars)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::minibatch_std;
    use candle_core::Device;

    #[test]
    fn parts_keep_the_groups_of_minibatch_statistics() {
        let values = Rng::new(3, 0).normals(12 * 2 * 4);
        let x = Tensor::from_vec(values, (12, 2, 2, 2), &Device::Cpu).unwrap();
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (group, parts) in [(4, 3), (3, 2), (1, 12), (12, 1)] {
            let whole = minibatch_std(&x, group, 1).unwrap();
            for b in 0..parts {
                let alone = minibatch_std(&part(&x, group, (b, parts)).unwrap(), group, 1).unwrap();
                let cut = part(&whole, group, (b, parts)).unwrap();
                for (a, c) in numbers(&alone).iter().zip(numbers(&cut)) {
                    assert!((a - c).abs() < 1e-6, "group {group}, part {b} of {parts}: {a} {c}");
                }
            }
        }
        assert!(part(&x, 5, (0, 2)).is_err());
    }
}

//! Noise inputs that are optimised without carrying a signal (Karras et al. 2020, appendix D).

use crate::net::GeneratorConfig;
use crate::rng::Rng;
use candle_core::{Device, Result, Tensor, Var};

/// Side of the smallest picture of a pyramid.
const SMALLEST: usize = 8;

/// One map for each styled layer, `[N, 1, r, r]`, from the lowest resolution on.
pub struct Maps(Vec<(String, Var)>);

/// Sides of the maps: two for each resolution, one at 4x4.
fn sides(config: &GeneratorConfig) -> Vec<usize> {
    config.resolutions().into_iter().flat_map(|r| vec![r; if r == 4 { 1 } else { 2 }]).collect()
}

impl Maps {
    /// Standard normal maps, the same for each of `n` images.
    pub fn new(config: &GeneratorConfig, n: usize, rng: &mut Rng, device: &Device) -> Result<Self> {
        let maps = sides(config).into_iter().enumerate().map(|(i, r)| {
            let one = Tensor::from_vec(rng.normals(r * r), (1, 1, r, r), &Device::Cpu)?.to_device(device)?;
            let map = Var::from_tensor(&one.broadcast_as((n, 1, r, r))?.contiguous()?)?;
            Ok((format!("noise{i}"), map))
        });
        Ok(Self(maps.collect::<Result<_>>()?))
    }
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.0.clone()
    }
    pub fn tensors(&self) -> Vec<Tensor> {
        self.0.iter().map(|(_, v)| v.as_tensor().clone()).collect()
    }
    /// Brings every map back to mean 0 and variance 1, as after each step.
    pub fn normalise(&self) -> Result<()> {
        for (_, var) in &self.0 {
            let t = var.as_detached_tensor();
            let shape = t.shape().clone();
            let flat = t.flatten_from(1)?;
            let flat = flat.broadcast_sub(&flat.mean_keepdim(1)?)?;
            let size = (flat.sqr()?.mean_keepdim(1)? + 1e-12)?.sqrt()?;
            var.set(&flat.broadcast_div(&size)?.reshape(shape)?)?;
        }
        Ok(())
    }
    /// Sum of all maps' [`autocorrelation`], of each image `[N]`.
    pub fn penalty(&self) -> Result<Tensor> {
        let mut maps = self.0.iter().map(|(_, v)| autocorrelation(v.as_tensor()));
        let first = maps.next().unwrap_or_else(|| candle_core::bail!("a generator without noise inputs"))?;
        maps.try_fold(first, |sum, map| sum + map?)
    }
}

/// How much neighbours have in common: over a pyramid of pictures n of halved sides down to 8,
/// `(mean n(x, y) n(x - 1, y))^2 + (mean n(x, y) n(x, y - 1))^2`, wrapping round, of each map of `[N, 1, r, r]`. Each
/// smaller picture is the mean of 2x2 pixels times 2, which keeps the variance of white noise.
pub fn autocorrelation(map: &Tensor) -> Result<Tensor> {
    let (n, _, mut side, _) = map.dims4()?;
    let mut map = map.reshape((n, side, side))?;
    let mut sum: Option<Tensor> = None;
    loop {
        for axis in [1, 2] {
            let part = (&map * map.roll(1, axis)?)?.flatten_from(1)?.mean(1)?.sqr()?;
            sum = Some(match sum {
                Some(s) => (s + part)?,
                None => part,
            });
        }
        if side <= SMALLEST {
            break;
        }
        side /= 2;
        map = (map.reshape((n, side, 2, side, 2))?.sum(4)?.sum(2)? * 0.5)?;
    }
    sum.map_or_else(|| candle_core::bail!("a noise map without pixels"), Ok)
}

//! The phases of a training step, as `shiftlens train generator` takes them.

use crate::networks::{Sizes, Tensors, normal};
use candle_core::{Device, Result, Tensor, Var, bail};
use shiftlens_stylegan2::kernels::conv::fast;
use shiftlens_stylegan2::net::{Discriminator, GeneratorNet, Noise};
use shiftlens_stylegan2::ops::first_order;
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{Adam, PathLength, path_lengths};
use shiftlens_stylegan2::weights::Weights;

const RATE: f64 = 1e-3;
/// Weight of the path length penalty, 2, times the steps between two of them.
const PATH_WEIGHT: f64 = 8.0;

/// Phases of a step and their names for PyTorch's part.
pub const PHASES: [&str; 4] = ["g", "d", "r1", "path"];

/// Generator and discriminator in training.
pub struct Training {
    g: GeneratorNet,
    d: Discriminator,
    frozen: Discriminator,
    g_adam: Adam,
    d_adam: Adam,
    z: Tensor,
    real: Tensor,
    directions: Tensor,
    fake: Tensor,
    path: PathLength,
    rng: Rng,
}

fn softplus(x: &Tensor) -> Result<Tensor> {
    (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?.mean_all()
}

fn value(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.to_scalar::<f32>()?))
}

/// Codes, real images, and path directions for half of them.
pub fn inputs(s: &Sizes, batch: usize) -> Result<Tensors> {
    let shape = |n| [n, s.channels, s.resolution, s.resolution];
    let directions = (normal(&shape(batch / 2), 6)? / s.resolution as f64)?;
    Ok(Tensors::from([
        ("z".to_owned(), normal(&[batch, s.dim], 3)?),
        ("real".to_owned(), (normal(&shape(batch), 4)? * 0.5)?),
        ("directions".to_owned(), directions),
    ]))
}

impl Training {
    pub fn new(s: &Sizes, (g, d): (&Tensors, &Tensors), inputs: &Tensors) -> Result<Self> {
        let device = Device::Cpu;
        let (gw, dw) = (Weights::trainable(g.clone(), &device), Weights::trainable(d.clone(), &device));
        let input = |name: &str| match inputs.get(name) {
            Some(t) => Ok(t.clone()),
            None => bail!("no input `{name}`"),
        };
        Ok(Self {
            g: GeneratorNet::new(&s.generator(), &gw)?,
            d: Discriminator::new(&s.discriminator(), &dw)?,
            frozen: Discriminator::new(&s.discriminator(), &dw.detached())?,
            g_adam: Adam::new(gw.vars(), (0.0, 0.99))?,
            d_adam: Adam::new(dw.vars(), (0.0, 0.99))?,
            z: input("z")?,
            fake: input("real")?,
            real: input("real")?,
            directions: input("directions")?,
            path: PathLength::default(),
            rng: Rng::new(5, 0),
        })
    }

    /// Runs a phase, with constant noise where numbers are to be compared; answers its loss, for R1 the penalty and for
    /// path lengths their mean.
    pub fn phase(&mut self, name: &str, check: bool) -> Result<f64> {
        fast(|| match name {
            "g" => first_order(|| self.step_g(check)),
            "d" => first_order(|| self.step_d()),
            "r1" => self.step_r1(),
            "path" => self.step_path(check),
            other => bail!("no phase `{other}`"),
        })
    }

    fn step_g(&mut self, check: bool) -> Result<f64> {
        let ws = self.g.broadcast(&self.g.map(&self.z)?)?;
        let noise = if check { Noise::Constant } else { Noise::Random(&mut self.rng) };
        let fake = self.g.synthesize(&ws, noise)?;
        let loss = softplus(&self.frozen.forward(&fake)?.neg()?)?;
        self.g_adam.step(&loss.backward()?, RATE)?;
        self.fake = fake.detach();
        value(&loss)
    }

    fn step_d(&mut self) -> Result<f64> {
        let loss =
            (softplus(&self.d.forward(&self.fake)?)? + softplus(&self.d.forward(&self.real)?.neg()?)?)?;
        self.d_adam.step(&loss.backward()?, RATE)?;
        value(&loss)
    }

    fn step_r1(&mut self) -> Result<f64> {
        let images = Var::from_tensor(&self.real)?;
        let store = self.d.forward(images.as_tensor())?.sum_all()?.backward()?;
        let Some(g) = store.get(images.as_tensor()) else { bail!("D depends on its input") };
        let loss = (g.sqr()?.sum_all()? / self.real.dim(0)? as f64)?;
        let store = first_order(|| loss.backward())?;
        self.d_adam.step(&store, RATE)?;
        value(&loss)
    }

    fn step_path(&mut self, check: bool) -> Result<f64> {
        let z = self.z.narrow(0, 0, self.directions.dim(0)?)?;
        let ws = self.g.broadcast(&self.g.map(&z)?)?;
        let leaf = Var::from_tensor(&ws.detach().contiguous()?)?;
        let noise = if check { Noise::Constant } else { Noise::Random(&mut self.rng) };
        let images = self.g.synthesize(leaf.as_tensor(), noise)?;
        let lengths = path_lengths(&images, &leaf, &self.directions)?;
        let loss = (self.path.penalties(&lengths)?.mean_all()? * PATH_WEIGHT)?;
        first_order(|| {
            let mut grads = loss.backward()?;
            // What reaches the codes goes on to the mapping network.
            if let Some(g) = grads.remove(leaf.as_tensor()) {
                grads.extend((&ws * g.detach())?.sum_all()?.backward()?)?;
            }
            self.g_adam.step(&grads, RATE)
        })?;
        value(&lengths.detach().mean_all()?)
    }
}

//! The mapping network: latent codes and classes to w (Karras et al. 2019, section 2).
//!
//! Class-conditional networks embed the one-hot label by a linear layer, normalise the embedding as they do z, and put
//! it behind z (Karras et al. 2020, Training Generative Adversarial Networks with Limited Data, arXiv 2006.06676). The
//! discriminator's has no z.

use super::layers::Linear;
use crate::ops::Activation;
use crate::weights::Weights;
use candle_core::{DType, Device, Result, Tensor, bail};

/// Learning-rate multiplier of the fully connected layers.
const MULTIPLIER: f64 = 0.01;

/// Each row of x `[N, F]` over the root of its mean square: `x / sqrt(mean(x^2) + 1e-8)`.
///
/// # Errors
/// If x has another rank.
pub fn normalize_second_moment(x: &Tensor) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(1)? + 1e-8)?.sqrt()?.recip()?;
    x.broadcast_mul(&scale)
}

/// One row per class, 1 at its index, `[N, label_dim]`.
///
/// # Errors
/// If a class is not below `label_dim`; the message names both.
pub fn one_hot(classes: &[usize], label_dim: usize, device: &Device) -> Result<Tensor> {
    let mut rows = vec![0f32; classes.len() * label_dim];
    for (i, class) in classes.iter().enumerate() {
        if *class >= label_dim {
            bail!("class {class}: expected an index below {label_dim}");
        }
        rows[i * label_dim + class] = 1.0;
    }
    Tensor::from_vec(rows, (classes.len(), label_dim), device)
}

/// f: z `[N, Z]` and labels `[N, C]` to w `[N, D]`; either may have no columns.
pub struct Mapping {
    z_dim: usize,
    label_dim: usize,
    embed: Option<Linear>,
    layers: Vec<Linear>,
}

impl Mapping {
    pub fn new(
        weights: &Weights,
        (z_dim, label_dim, w_dim): (usize, usize, usize),
        layers: usize,
    ) -> Result<Self> {
        let embed = match label_dim {
            0 => None,
            _ => Some(Linear::new(&weights.at("embed"), (label_dim, w_dim), 1.0, 0.0, Activation::linear())?),
        };
        let first = z_dim + if label_dim > 0 { w_dim } else { 0 };
        let layers = (0..layers)
            .map(|i| {
                let inputs = if i == 0 { first } else { w_dim };
                let w = weights.at(format!("fc{i}"));
                Linear::new(&w, (inputs, w_dim), MULTIPLIER, 0.0, Activation::leaky(1.0))
            })
            .collect::<Result<_>>()?;
        Ok(Self { z_dim, label_dim, embed, layers })
    }

    /// z is given where the network has one, labels are given exactly where it knows classes.
    pub fn forward(&self, z: Option<&Tensor>, labels: Option<&Tensor>) -> Result<Tensor> {
        let check = |what: &str, t: &Tensor, size: usize| match t.dims() {
            [_, d] if *d == size => Ok(()),
            found => bail!("{what}: expected [N, {size}], found {found:?}"),
        };
        let mut parts = Vec::new();
        if let Some(z) = z {
            check("latent codes z", z, self.z_dim)?;
            parts.push(normalize_second_moment(z)?);
        }
        match (&self.embed, labels) {
            (Some(embed), Some(labels)) => {
                check("labels", labels, self.label_dim)?;
                let labels = labels.to_dtype(DType::F32)?;
                parts.push(normalize_second_moment(&embed.forward(&labels)?)?);
            }
            (Some(_), None) => {
                bail!("the network is class-conditional: labels [N, {}] are missing", self.label_dim)
            }
            (None, Some(_)) => bail!("labels were given to a network that knows no classes"),
            (None, None) => {}
        }
        let x = match parts.as_slice() {
            [one] => one.clone(),
            parts => Tensor::cat(parts, 1)?,
        };
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))
    }
}

//! Tensor names of rosinality's StyleGAN2 in PyTorch (github.com/rosinality/stylegan2-pytorch).
//!
//! The arithmetic is the same as the reference's, so that tensors change their names and lose axes of length 1, and
//! nothing else: equalised learning rates are applied when a layer runs and the mapping network's multiplier is 0.01
//! in both, the kernel of a doubling convolution is not turned round in either, a style's bias is stored with its 1,
//! activations have the same gain, and images are RGB in [-1, 1]. Its convolutions carry their scale `s = 1 /
//! sqrt(9 I)` into the demodulation, where the reference has none: the 1e-8 under the root then weighs `1 / s^2` as
//! much, still less than f32 resolves next to a sum of 9 I squares of about 1.

use super::arrays::Arrays;
use shiftlens_api::{Error, Result};

/// True for a network with these names.
pub fn is(a: &Arrays<'_>) -> bool {
    a.shape("input.input").is_some() && a.shape("conv1.conv.weight").is_some()
}

/// Gives all tensors the reference's names. Resampling kernels keep theirs.
///
/// # Errors
/// If a tensor is missing or of another shape than the others imply.
pub fn rename(a: &mut Arrays<'_>) -> Result<()> {
    let mut layers = 0;
    while a.shape(&format!("style.{}.weight", layers + 1)).is_some() {
        layers += 1;
        for part in ["weight", "bias"] {
            move_as_is(a, &format!("style.{layers}.{part}"), format!("mapping.fc{}.{part}", layers - 1))?;
        }
    }
    if a.shape("latent_avg").is_some() {
        let mean = trimmed(a, "latent_avg", 1)?;
        a.rename("latent_avg", "mapping.w_avg".into(), &mean)?;
    }
    let constant = trimmed(a, "input.input", 3)?;
    a.rename("input.input", "synthesis.b4.const".into(), &constant)?;
    convolution(a, "conv1", "synthesis.b4.conv1", "noises.noise_0")?;
    image(a, "to_rgb1", "synthesis.b4.torgb")?;
    let mut resolution = 8;
    let mut i = 0;
    while a.shape(&format!("convs.{}.conv.weight", 2 * i)).is_some() {
        if resolution > 1024 {
            return Err(Error::Unsupported("a network of more than 1024x1024 pixels".into()));
        }
        let block = format!("synthesis.b{resolution}");
        for half in 0..2 {
            let at = 2 * i + half;
            let noise = format!("noises.noise_{}", at + 1);
            convolution(a, &format!("convs.{at}"), &format!("{block}.conv{half}"), &noise)?;
        }
        image(a, &format!("to_rgbs.{i}"), &format!("{block}.torgb"))?;
        (resolution, i) = (2 * resolution, i + 1);
    }
    Ok(())
}

/// The last `rank` sizes of a tensor, those before being 1.
fn trimmed(a: &Arrays<'_>, name: &str, rank: usize) -> Result<Vec<usize>> {
    let shape = a.shape(name).ok_or_else(|| Error::Invalid(format!("tensor `{name}` is missing")))?;
    match shape.len().checked_sub(rank) {
        Some(n) if shape[..n].iter().all(|d| *d == 1) => Ok(shape[n..].to_vec()),
        _ => Err(Error::Shape {
            what: format!("tensor `{name}`"),
            expected: format!("{rank} axes, ones before them aside"),
            found: shape.to_vec(),
        }),
    }
}

fn move_as_is(a: &mut Arrays<'_>, from: &str, to: String) -> Result<()> {
    let shape = a.shape(from).map(<[usize]>::to_vec).unwrap_or_default();
    a.rename(from, to, &shape)
}

fn style(a: &mut Arrays<'_>, from: &str, to: &str) -> Result<()> {
    for part in ["weight", "bias"] {
        move_as_is(a, &format!("{from}.conv.modulation.{part}"), format!("{to}.affine.{part}"))?;
    }
    let name = format!("{from}.conv.weight");
    let weight = trimmed(a, &name, 4)?;
    a.rename(&name, format!("{to}.weight"), &weight)
}

fn convolution(a: &mut Arrays<'_>, from: &str, to: &str, noise: &str) -> Result<()> {
    style(a, from, to)?;
    move_as_is(a, &format!("{from}.activate.bias"), format!("{to}.bias"))?;
    a.rename(&format!("{from}.noise.weight"), format!("{to}.noise_strength"), &[])?;
    let picture = trimmed(a, noise, 2)?;
    a.rename(noise, format!("{to}.noise_const"), &picture)
}

fn image(a: &mut Arrays<'_>, from: &str, to: &str) -> Result<()> {
    style(a, from, to)?;
    let name = format!("{from}.bias");
    let channels = a.shape(&format!("{to}.weight")).and_then(|s| s.first()).copied().unwrap_or_default();
    a.rename(&name, format!("{to}.bias"), &[channels])
}

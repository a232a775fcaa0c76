//! The losses on features of an encoder's training.

use super::super::checkpoint;
use super::manifest::{EncoderManifest, FeatureLoss};
use crate::net::DiscriminatorConfig;
use crate::perceptual::Perceptual;
use candle_core::{Device, Tensor};
use shiftlens_api::{Error, FeatureNetwork, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A distance, and its weights on synthetic and on real images.
pub struct Loss {
    pub distance: Perceptual,
    pub weight: f64,
    pub real_weight: f64,
}

/// The distances of `sections` between images of so many channels and pixels a side; `networks` are theirs, in order.
pub fn of_networks(
    images: (usize, usize),
    sections: &[FeatureLoss],
    networks: Vec<Box<dyn FeatureNetwork>>,
) -> Result<Vec<Loss>> {
    if networks.len() != sections.len() {
        return Err(Error::Invalid(format!(
            "{} feature networks for {} sections `features`",
            networks.len(),
            sections.len()
        )));
    }
    let mut losses = Vec::new();
    for (network, f) in networks.into_iter().zip(sections) {
        let name = f.path.display().to_string();
        let distance = Perceptual::of_network(network, &name, &f.layer_weights, images)?;
        losses.push(Loss { distance, weight: f.weight, real_weight: f.real_weight });
    }
    Ok(losses)
}

/// The distances that an encoder's manifest names; `networks` are those of its `[[features]]`, in order.
pub fn losses(
    manifest: &EncoderManifest,
    networks: Vec<Box<dyn FeatureNetwork>>,
    device: &Device,
) -> Result<Vec<Loss>> {
    let images = (manifest.encoder.channels, manifest.encoder.resolution);
    let mut losses = of_networks(images, &manifest.features, networks)?;
    if let Some(d) = &manifest.discriminator {
        let distance = Perceptual::of_discriminator(&d.path, &d.layer_weights, images, device)?;
        losses.push(Loss { distance, weight: d.weight, real_weight: d.real_weight });
    }
    Ok(losses)
}

/// The discriminator in a checkpoint of a generator's training, and its sizes.
///
/// # Errors
/// If the file is no such checkpoint, or its discriminator is not StyleGAN2's.
pub fn discriminator_of(path: &Path) -> Result<(DiscriminatorConfig, HashMap<String, Tensor>)> {
    let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let (state, tensors) = checkpoint::load(path)?;
    let mut state: serde_json::Value = serde_json::from_str(&state).map_err(|e| invalid(&e))?;
    let mut config = state["manifest"]["discriminator"].take();
    let Some(keys) = config.as_object_mut() else {
        return Err(invalid(&"no discriminator: expected the checkpoint of a generator's training"));
    };
    match keys.remove("kind") {
        None => {}
        Some(kind) if kind == "stylegan2" => {}
        Some(kind) => {
            return Err(invalid(&format!(
                "a discriminator of kind {kind}: expected \"stylegan2\"; a projected one judges features of a network \
                 that [[features]] can name itself"
            )));
        }
    }
    let config = serde_json::from_value(config).map_err(|e| invalid(&format!("discriminator: {e}")))?;
    Ok((config, checkpoint::part(&tensors, "D")))
}

const PREFIX: &str = "mean-squares";

/// Adds what was measured to a checkpoint.
pub fn save(losses: &[Loss], out: &mut BTreeMap<String, Tensor>) -> candle_core::Result<()> {
    for (i, loss) in losses.iter().enumerate() {
        let squares = loss.distance.squares();
        out.insert(format!("{PREFIX}.{i}"), Tensor::from_slice(squares, squares.len(), &Device::Cpu)?);
    }
    Ok(())
}

/// Takes from a checkpoint what was measured.
pub fn restore(losses: &mut [Loss], from: &HashMap<String, Tensor>) -> Result<()> {
    for (i, loss) in losses.iter_mut().enumerate() {
        let name = format!("{PREFIX}.{i}");
        let squares = from.get(&name).map(candle_core::Tensor::to_vec1::<f64>);
        let squares = squares.ok_or_else(|| Error::Invalid(format!("checkpoint: `{name}` is missing")))?;
        loss.distance.set_squares(squares.map_err(|e| Error::component("checkpoint", e))?)?;
    }
    Ok(())
}

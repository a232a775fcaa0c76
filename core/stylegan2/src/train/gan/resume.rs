//! Where a session begins: new networks, a warm start, or the checkpoint of the session before.

use super::start::Start;
use super::trainer::{Networks, State, Trainer, fail};
use super::{DiscriminatorSection, GeneratorManifest};
use crate::file;
use crate::train::{Dataset, checkpoint, write_sheet};
use candle_core::Device;
use shiftlens_api::{Error, Level, Monitor, Result};
use std::path::Path;

/// Refuses a checkpoint of another run.
fn check_same(
    path: &Path,
    state: &State,
    manifest: &GeneratorManifest,
    features: Option<&String>,
) -> Result<()> {
    // How long to train, what to measure and where things lie may change; anything else would make it another run.
    let mut same = state.manifest.clone();
    same.training.images = manifest.training.images;
    same.output = manifest.output.clone();
    same.quality.clone_from(&manifest.quality);
    same.data.images.clone_from(&manifest.data.images);
    same.data.root.clone_from(&manifest.data.root);
    if let (Some(a), Some(b)) = (&mut same.start, &manifest.start) {
        a.weights.clone_from(&b.weights);
    }
    if let (DiscriminatorSection::Projected(a), DiscriminatorSection::Projected(b)) =
        (&mut same.discriminator, &manifest.discriminator)
    {
        a.features.path.clone_from(&b.features.path);
    }
    if let (Some(a), Some(b)) = (&mut same.reconstruction, &manifest.reconstruction) {
        a.features.iter_mut().zip(&b.features).for_each(|(a, b)| a.path.clone_from(&b.path));
    }
    // Both through text: a number that is written and read may lose its last bit.
    let text = |m: &GeneratorManifest| -> serde_json::Result<GeneratorManifest> {
        serde_json::from_str(&serde_json::to_string(m)?)
    };
    let (same, wanted) = (text(&same), text(manifest));
    let equal = matches!((same, wanted), (Ok(a), Ok(b)) if a == b);
    if !equal || state.features_sha256.as_ref() != features {
        return Err(Error::Invalid(format!(
            "{} was made with another manifest or feature network ({}); name another output folder or remove it",
            path.display(),
            state.manifest.name
        )));
    }
    Ok(())
}

/// The networks as `checkpoint` has them, if it exists, and the seconds that they have been trained for.
pub fn open(
    manifest: &GeneratorManifest,
    networks: Networks,
    (data, device): (&Dataset, &Device),
    checkpoint: &Path,
    monitor: &dyn Monitor,
) -> Result<(Trainer, f64)> {
    let sha256 = match &manifest.discriminator {
        DiscriminatorSection::Projected(d) => Some(file::sha256(&d.features.path)?),
        DiscriminatorSection::StyleGan2(_) => None,
    };
    let (mut trainer, before) = if checkpoint.exists() {
        let (state, tensors) = checkpoint::load(checkpoint)?;
        let state: State = serde_json::from_str(&state)
            .map_err(|e| Error::Invalid(format!("{}: training state: {e}", checkpoint.display())))?;
        check_same(checkpoint, &state, manifest, sha256.as_ref())?;
        let shown = state.step * manifest.training.batch as u64;
        monitor.log(Level::Info, &format!("resuming at {shown} images"));
        let from = (None, state.step);
        (Trainer::new(manifest, networks, (data, device), Some(&tensors), from).map_err(fail)?, state.seconds)
    } else {
        let sheet = data.range(0, 64, &Device::Cpu).map_err(fail)?;
        write_sheet(&manifest.output.folder.join("real.png"), &sheet, 16)?;
        let start = manifest.start.as_ref().map(|s| Start::read(&s.weights)).transpose()?;
        let from = (start.as_ref(), 0);
        (Trainer::new(manifest, networks, (data, device), None, from).map_err(fail)?, 0.0)
    };
    trainer.said.iter().for_each(|line| monitor.log(Level::Info, &format!("start: {line}")));
    trainer.features_sha256 = sha256;
    Ok((trainer, before))
}

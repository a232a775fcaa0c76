//! Ablation-CAM's question: what does f answer if a layer had put out everything but one channel?

use crate::api::{Error, Gradients, Result, Tensor};
use crate::batches::{Progress, Question, batches};
use crate::layout::Layout;

/// The score of the image with each channel of layer `name` set to 0 everywhere, `[K]`; in a transformer in the
/// leading tokens too. No more than a batch of activations exists at once.
///
/// # Errors
/// [`Error::Unsupported`] where the predictor takes no replaced activations; that it answers too few scores;
/// [`Error::Cancelled`].
pub fn scores(
    host: &mut dyn Gradients,
    asked: &Question<'_>,
    name: &str,
    layout: &Layout,
    activations: &Tensor,
    progress: &mut Progress<'_>,
) -> Result<Vec<f64>> {
    let image = asked.image;
    let (alone, row) = (asked.x.slice(image, image + 1), layout.row());
    let whole = &activations.as_slice()[image * row..(image + 1) * row];
    let mut all = Vec::with_capacity(layout.channels);
    for range in batches(layout.channels, asked.batch, row) {
        progress.check()?;
        let mut variants = whole.repeat(range.len());
        for (variant, channel) in variants.chunks_exact_mut(row).zip(range.clone()) {
            layout.silence(variant, channel);
        }
        let mut shape = activations.shape().to_vec();
        shape[0] = range.len();
        let scores =
            host.scores_with(&alone, name, &Tensor::new(shape, variants)?, &[asked.class], asked.score)?;
        if scores.len() != range.len() {
            return Err(Error::Shape {
                what: format!("scores from replaced activations of layer `{name}`"),
                expected: format!("[{}]", range.len()),
                found: vec![scores.len()],
            });
        }
        all.extend(scores.into_iter().map(f64::from));
        progress.add(range.len());
    }
    Ok(all)
}

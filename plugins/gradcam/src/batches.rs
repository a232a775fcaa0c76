//! What the methods that ask f once for each channel share: batches of bounded memory, and who is told of them.

use crate::api::{Images, Monitor, Result, ScoreKind};
use std::ops::Range;

/// Most values in one batch (64 MiB), however large the images or activations are.
const VALUES: usize = 1 << 24;

/// The channels `0..channels` in batches of at most `batch`, fewer where one variant has so many values that a batch
/// would be larger than 64 MiB. A score does not depend on how the channels are cut.
pub fn batches(channels: usize, batch: usize, values: usize) -> impl Iterator<Item = Range<usize>> {
    let step = batch.min(VALUES / values.max(1)).max(1);
    (0..channels).step_by(step).map(move |from| from..(from + step).min(channels))
}

/// Which image's channels are asked about, and which score of f.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The batch that the image is one of.
    pub x: &'a Images,
    /// Its index.
    pub image: usize,
    /// Column of the scores.
    pub class: usize,
    /// Logit or probability.
    pub score: ScoreKind,
    /// Most variants in one call of f.
    pub batch: usize,
}

/// Tells the host how far a step is, and asks whether to stop.
pub struct Progress<'a> {
    monitor: &'a dyn Monitor,
    what: &'static str,
    done: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    /// `total` calls for channels' scores are to come.
    pub fn new(monitor: &'a dyn Monitor, what: &'static str, total: usize) -> Self {
        Self { monitor, what, done: 0, total: total as u64 }
    }
    /// Before a batch.
    ///
    /// # Errors
    /// [`crate::api::Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        self.monitor.check()
    }
    /// After a batch of `n`.
    pub fn add(&mut self, n: usize) {
        self.done += n as u64;
        self.monitor.progress(self.what, self.done, self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_all_channels_once_within_bounds() {
        let cut = |channels, batch, values| {
            batches(channels, batch, values).map(|r| (r.start, r.end)).collect::<Vec<_>>()
        };
        assert_eq!(cut(7, 3, 10), [(0, 3), (3, 6), (6, 7)]);
        assert_eq!(cut(2, 32, 10), [(0, 2)]);
        assert_eq!(cut(3, 32, VALUES / 2), [(0, 2), (2, 3)]);
        assert_eq!(cut(2, 32, 2 * VALUES), [(0, 1), (1, 2)]);
        assert!(cut(0, 32, 10).is_empty());
    }
}

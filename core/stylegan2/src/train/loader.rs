//! Real images are made ready while the device works on a step.

use super::Dataset;
use crate::rng::Rng;
use candle_core::{Device, Result, Tensor, bail};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches that wait.
const WAITING: usize = 2;

/// A thread that draws the batches of one step after the other. Every step has its own random stream, so that it does not
/// matter who draws when.
pub struct Loader {
    batches: Option<Receiver<Result<Tensor>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Begins to draw batches of `n` for `steps`, each from the stream that `rng` names.
    pub fn start(
        data: Arc<Dataset>,
        n: usize,
        steps: Range<u64>,
        rng: impl Fn(u64) -> Rng + Send + 'static,
    ) -> Self {
        let (sender, batches) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || {
            for step in steps {
                let batch = data.draw(n, &mut rng(step), &Device::Cpu);
                // Nobody listens any more: the session has ended.
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread) }
    }

    /// The next step's batch.
    ///
    /// # Errors
    /// If drawing failed, or all steps have had theirs.
    pub fn next(&mut self, device: &Device) -> Result<Tensor> {
        match self.batches.as_ref().map(Receiver::recv) {
            Some(Ok(batch)) => batch?.to_device(device),
            _ => bail!("the loader of training images has no batch for this step"),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The receiver first: a thread that waits for a place wakes up.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has shown itself as a missing batch.
            let _ = thread.join();
        }
    }
}

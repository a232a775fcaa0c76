//! What every training loop keeps besides its networks: how far it is, how fast, and its log.

use shiftlens_api::{Error, Result};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One session of a training run, from its start or from a checkpoint.
pub struct Session {
    batch: u64,
    /// Steps of the whole run.
    pub last: u64,
    /// The step at which this session ends.
    pub stop: u64,
    first: u64,
    start: Instant,
    /// Seconds that do not count.
    idle: f64,
    before: f64,
    log: File,
    path: PathBuf,
}

impl Session {
    /// Begins at `step` of a run over `images` images that took `before` seconds so far; `stop_after` more images end
    /// the session. `log.csv` in `folder` is appended to, and begins with `header`.
    pub fn begin(
        folder: &Path,
        header: &str,
        (images, batch): (u64, usize),
        (step, before): (u64, f64),
        stop_after: Option<u64>,
    ) -> Result<Self> {
        let batch = batch as u64;
        let last = images.div_ceil(batch);
        let stop = stop_after.map_or(last, |n| (step + n.div_ceil(batch)).min(last));
        let path = folder.join("log.csv");
        let fresh = !path.exists();
        let log = File::options().create(true).append(true).open(&path).map_err(|e| Error::io(&path, e))?;
        let mut session =
            Self { batch, last, stop, first: step, start: Instant::now(), idle: 0.0, before, log, path };
        if fresh {
            session.line(header)?;
        }
        Ok(session)
    }
    /// Appends a line to the log.
    pub fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.log, "{text}").map_err(|e| Error::io(&self.path, e))
    }
    fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64() - self.idle
    }
    /// Runs what is no training: its time does not count.
    pub fn aside<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let answer = f();
        self.idle += start.elapsed().as_secs_f64();
        answer
    }
    /// Seconds of training of the whole run, earlier sessions included.
    pub fn seconds(&self) -> f64 {
        self.before + self.elapsed()
    }
    /// Images per second of this session.
    pub fn rate(&self, step: u64) -> f64 {
        ((step - self.first) * self.batch) as f64 / self.elapsed()
    }
    /// True if what happens every `every` images fell due with this step.
    pub fn due(&self, step: u64, every: u64) -> bool {
        (step * self.batch) / every != ((step - 1) * self.batch) / every
    }
}

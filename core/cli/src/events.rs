//! What happens, as JSON: one object a line on stdout, in the order in which it happened.
//!
//! | `event` | what it says |
//! | --- | --- |
//! | `started` | `study`, `folder`, `images` in the list, `shard`, `version`; of a merge `folder` and `parts` |
//! | `stage` | `stage`, `done` of `total` units, `failed` images so far |
//! | `case` | `id`, `score` of the target class, `seconds` that its explanations took: the case is whole on disk |
//! | `failure` | `path` of an image, and the `error` for which it has no case |
//! | `message` | `level` (`info` or `warn`) and `text` |
//! | `estimate` | of `--dry-run`: `to_do` of `images`, `seconds`, `bytes_disk`, `bytes_memory` |
//! | `finished` | `cases`, `resumed` of them, `failed`, `nothing_to_do`, `seconds`, `metrics`, `folder`, `report` |
//! | `failed` | the command's `error`; its exit code is not 0 |
//!
//! Of several predictors every event has the `predictor` that it is about, and the command goes on after the `failed` of one.
//! The last event has none, and is a `finished` with `predictors`, `failed_predictors`, `pairs` with their `figures`, and the
//! `report` that compares them; an `estimate` for all together has their number and the sums.

use serde_json::{Value, json};
use shiftlens_api::{Event, Level, Monitor};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A [`Monitor`] for programs.
#[derive(Debug, Default)]
pub struct Events {
    failed: AtomicU64,
    /// The one of several predictors that is at work.
    predictor: Mutex<Option<String>>,
}

impl Events {
    /// What follows is about this predictor, or about none.
    pub fn turn_to(&self, predictor: Option<&str>) {
        *self.predictor.lock().unwrap_or_else(PoisonError::into_inner) = predictor.map(str::to_owned);
        self.failed.store(0, Ordering::Relaxed);
    }

    /// Writes one event; `facts` is an object.
    pub fn tell(&self, event: &str, mut facts: Value) {
        facts["event"] = event.into();
        if let Some(predictor) = &*self.predictor.lock().unwrap_or_else(PoisonError::into_inner) {
            facts["predictor"] = predictor.as_str().into();
        }
        // One write a line: several threads tell, and a reader that is gone is no reason to stop.
        let line = format!("{facts}\n");
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

impl Monitor for Events {
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => return,
            Level::Info => "info",
            Level::Warn => "warn",
        };
        self.tell("message", json!({ "level": level, "text": message }));
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        let failed = self.failed.load(Ordering::Relaxed);
        self.tell("stage", json!({ "stage": what, "done": done, "total": total, "failed": failed }));
    }

    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Case { id, score, seconds } => {
                // As in the case's record: the shortest number that is this f32, and not its f64.
                let score: f64 = score.to_string().parse().unwrap_or(f64::from(*score));
                self.tell("case", json!({ "id": id, "score": score, "seconds": seconds }));
            }
            Event::Failure { path, error } => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.tell("failure", json!({ "path": path, "error": error }));
            }
        }
    }
}

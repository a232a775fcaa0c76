//! Progress on stderr: one moving line with rate and time left on a terminal, else one line per step.

use shiftlens_api::{Level, Monitor};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two drawings of the moving line.
const REDRAW: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Step {
    what: String,
    started: Instant,
    drawn: Option<Instant>,
    first: u64,
}

/// The program's [`Monitor`].
#[derive(Debug)]
pub struct Progress {
    moving: bool,
    step: Mutex<Option<Step>>,
}

impl Progress {
    /// Moving on a terminal, quiet elsewhere.
    pub fn new() -> Self {
        Self { moving: std::io::stderr().is_terminal(), step: Mutex::new(None) }
    }

    /// Ends the moving line.
    pub fn finish(&self) {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        if step.take().is_some_and(|s| s.drawn.is_some()) && self.moving {
            eprintln!();
        }
    }
}

impl Monitor for Progress {
    fn log(&self, level: Level, message: &str) {
        if level == Level::Debug && std::env::var_os("SHIFTLENS_DEBUG").is_none() {
            return;
        }
        let _step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = if self.moving { "\r\x1b[K" } else { "" };
        let mark = if level == Level::Warn { "warning: " } else { "" };
        eprintln!("{clear}{mark}{message}");
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        let mut current = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if current.as_ref().is_none_or(|s| s.what != what) {
            if self.moving && current.as_ref().is_some_and(|s| s.drawn.is_some()) {
                eprintln!();
            }
            *current = Some(Step { what: what.into(), started: now, drawn: None, first: done });
            if !self.moving {
                eprintln!("{what}: {total} to do");
            }
        }
        let Some(step) = current.as_mut() else { return };
        let last = done >= total;
        if self.moving && (last || step.drawn.is_none_or(|d| now - d >= REDRAW)) {
            step.drawn = Some(now);
            eprint!("\r\x1b[K{}", line(what, done, total, done - step.first.min(done), now - step.started));
            let _ = std::io::stderr().flush();
        } else if !self.moving && last {
            let seconds = (now - step.started).as_secs_f64();
            eprintln!("{what}: {done} of {total}, {seconds:.1} s");
        }
    }
}

/// `explaining images: 40 of 100, 3.2/s, 19 s left`; `fresh` units were done in `elapsed`.
fn line(what: &str, done: u64, total: u64, fresh: u64, elapsed: Duration) -> String {
    let rate = fresh as f64 / elapsed.as_secs_f64();
    if fresh == 0 || !rate.is_finite() {
        return format!("{what}: {done} of {total}");
    }
    let left = (total.saturating_sub(done)) as f64 / rate;
    format!("{what}: {done} of {total}, {rate:.1}/s, {} left", duration(left))
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_time_left() {
        assert_eq!(line("x", 40, 100, 20, Duration::from_secs(10)), "x: 40 of 100, 2.0/s, 30 s left");
        assert_eq!(line("x", 40, 100, 0, Duration::ZERO), "x: 40 of 100");
        assert_eq!((duration(61.0), duration(3720.0)), ("1 min 01 s".into(), "1 h 02 min".into()));
    }
}

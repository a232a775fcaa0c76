//! Progress on stderr: a bar with rate, time left and failures on a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use shiftlens_api::{Event, Level, Monitor};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines about one step where stderr is no terminal.
const LINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Step {
    what: String,
    total: u64,
    started: Instant,
    said: Instant,
    first: u64,
    /// On a terminal.
    bar: Option<ProgressBar>,
}

#[derive(Debug, Default)]
struct State {
    step: Option<Step>,
    failed: u64,
}

/// The program's [`Monitor`] for people.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    state: Mutex<State>,
}

impl Progress {
    /// A bar on a terminal, nearly quiet elsewhere.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        if let Some(bar) = self.lock().step.take().and_then(|s| s.bar) {
            bar.abandon();
        }
    }

    /// Another run begins: failures are counted anew.
    pub fn begin_anew(&self) {
        self.finish();
        self.lock().failed = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, what: &str, done: u64, total: u64) -> Option<ProgressBar> {
        if !self.terminal {
            return None;
        }
        let style = ProgressStyle::with_template("{msg} {bar:24} {pos} of {len}{rest}").ok()?;
        let style = style.with_key("rest", |s: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = match s.per_sec() {
                rate if rate > 0.0 && !s.is_finished() => {
                    write!(out, ", {rate:.1}/s, {} left", duration(s.eta().as_secs_f64()))
                }
                _ => Ok(()),
            };
        });
        let bar = ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_position(done);
        // What was done before this step began says nothing of its rate.
        bar.reset_eta();
        bar.set_message(what.to_owned());
        Some(bar)
    }
}

impl Monitor for Progress {
    fn log(&self, level: Level, message: &str) {
        if level == Level::Debug && std::env::var_os("SHIFTLENS_DEBUG").is_none() {
            return;
        }
        let mark = if level == Level::Warn { "warning: " } else { "" };
        let state = self.lock();
        match state.step.as_ref().and_then(|s| s.bar.as_ref()) {
            Some(bar) => bar.suspend(|| eprintln!("{mark}{message}")),
            None => eprintln!("{mark}{message}"),
        }
    }

    fn progress(&self, what: &str, done: u64, total: u64) {
        let mut state = self.lock();
        let now = Instant::now();
        if state.step.as_ref().is_none_or(|s| (s.what.as_str(), s.total) != (what, total)) {
            if let Some(bar) = state.step.take().and_then(|s| s.bar) {
                bar.abandon();
            }
            let bar = self.bar(what, done, total);
            if bar.is_none() {
                eprintln!("{what}: {total} to do");
            }
            state.step = Some(Step { what: what.into(), total, started: now, said: now, first: done, bar });
        }
        let failed = state.failed;
        let Some(step) = state.step.as_mut() else { return };
        match &step.bar {
            Some(bar) => {
                bar.set_position(done);
                if failed > 0 {
                    bar.set_message(format!("{what} ({failed} failed)"));
                }
            }
            None if done >= total => {
                let seconds = (now - step.started).as_secs_f64();
                eprintln!("{what}: {done} of {total}, {seconds:.1} s");
            }
            None if now - step.said >= LINE => {
                step.said = now;
                let fresh = done - step.first.min(done);
                eprintln!("{}", line(what, done, total, fresh, now - step.started, failed));
            }
            None => {}
        }
    }

    fn event(&self, event: &Event<'_>) {
        if let Event::Failure { .. } = event {
            self.lock().failed += 1;
        }
    }
}

/// `explaining images: 40 of 100, 3.2/s, 19 s left, 2 failed`; `fresh` units were done in `elapsed`.
fn line(what: &str, done: u64, total: u64, fresh: u64, elapsed: Duration, failed: u64) -> String {
    let rate = fresh as f64 / elapsed.as_secs_f64();
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    if fresh == 0 || !rate.is_finite() {
        return format!("{what}: {done} of {total}{failed}");
    }
    let left = (total.saturating_sub(done)) as f64 / rate;
    format!("{what}: {done} of {total}, {rate:.1}/s, {} left{failed}", duration(left))
}

/// `19 s`, `1 min 01 s`, `1 h 02 min`.
pub fn duration(seconds: f64) -> String {
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
    fn lines_tell_rate_time_left_and_failures() {
        let ten = Duration::from_secs(10);
        assert_eq!(line("x", 40, 100, 20, ten, 0), "x: 40 of 100, 2.0/s, 30 s left");
        assert_eq!(line("x", 40, 100, 20, ten, 3), "x: 40 of 100, 2.0/s, 30 s left, 3 failed");
        assert_eq!(line("x", 40, 100, 0, Duration::ZERO, 0), "x: 40 of 100");
        assert_eq!((duration(61.0), duration(3720.0)), ("1 min 01 s".into(), "1 h 02 min".into()));
    }

    #[test]
    fn the_bar_has_a_style() {
        let progress = Progress { terminal: true, state: Mutex::default() };
        let bar = progress.bar("x", 3, 10).expect("the template is read");
        assert_eq!((bar.position(), bar.length(), bar.message()), (3, Some(10), "x".into()));
    }
}

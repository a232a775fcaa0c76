//! Who is told what happens: a person, or a program.

use crate::args::Voice;
use crate::events::Events;
use crate::failure::Failure;
use crate::progress::Progress;
use serde_json::{Value, json};
use shiftlens_api::Monitor;

/// A person, or a program.
pub(super) enum Screen {
    Person(Progress),
    Program(Events),
}

impl Screen {
    pub fn new(voice: Voice) -> Self {
        if voice.json { Self::Program(Events::default()) } else { Self::Person(Progress::new()) }
    }

    pub fn monitor(&self) -> &dyn Monitor {
        match self {
            Self::Person(p) => p,
            Self::Program(e) => e,
        }
    }

    /// Tells a program.
    pub fn tell(&self, event: &str, facts: Value) {
        if let Self::Program(events) = self {
            events.tell(event, facts);
        }
    }

    /// All that follows is about this one of several predictors, or about none of them.
    pub fn turn_to(&self, predictor: Option<&str>) {
        match self {
            Self::Person(progress) => progress.begin_anew(),
            Self::Program(events) => events.turn_to(predictor),
        }
    }

    /// Ends what moves; a program is told of a failure here, a person by the exit.
    pub fn end<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
        match self {
            Self::Person(p) => p.finish(),
            Self::Program(events) => {
                if let Err(e) = &done
                    && !matches!(e, Failure::Said { .. })
                {
                    events.tell("failed", json!({ "error": e.message() }));
                }
            }
        }
        done
    }

    /// The same of one predictor, after which others follow: here a person is told too.
    pub fn end_one<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
        let done = self.end(done);
        if let (Self::Person(_), Err(e)) = (self, &done) {
            e.print();
        }
        done
    }
}

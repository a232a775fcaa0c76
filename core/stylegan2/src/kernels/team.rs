//! A team of threads for the length of one forward pass: many short loops, one after the other, without the cost of
//! waking anybody in between.
//!
//! The thread that opened the team works too. Helpers wait for the next loop in a short spin, then give their turn
//! away, so that a machine with other work loses little. Items are handed out one by one, whoever is free; which
//! thread computes an item never changes its value.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

/// Turns of a waiting loop before the thread offers its core to others.
const SPINS: u32 = 20_000;

/// A loop's body: (thread, item).
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Job {
    body: Mutex<Option<&'static Body<'static>>>,
    items: AtomicUsize,
    next: AtomicUsize,
    /// Number of loops published so far.
    turn: AtomicUsize,
    /// Helpers that still work on the published loop.
    busy: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
}

/// See the module.
///
/// There is one job at a time, so no loop may start inside another, nor from two threads. The compiler sees to both: a
/// team is not `Sync`, and a loop's body has to be.
pub(crate) struct Team<'a> {
    job: &'a Job,
    threads: usize,
    /// Not `Sync`.
    alone: PhantomData<Cell<()>>,
}

/// Ends the helpers' waiting, also where the team's work or the start of a helper panics: the scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

/// A slice that a loop's items write into, each where no other reads or writes.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    /// The slice stays borrowed.
    slice: PhantomData<&'a mut [f32]>,
}
// SAFETY: a pointer; who writes through it says why no other thread does so at that place.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), slice: PhantomData }
    }
    /// The place `offset` values in.
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        self.start.wrapping_add(offset)
    }
}

fn wait(until: impl Fn() -> bool) {
    let mut spins = 0;
    while !until() {
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Job {
    fn work(&self, body: &Body<'_>, thread: usize, items: usize) {
        loop {
            let i = self.next.fetch_add(1, Relaxed);
            if i >= items {
                return;
            }
            body(thread, i);
        }
    }

    fn help(&self, thread: usize) {
        let mut seen = 0;
        loop {
            wait(|| self.turn.load(Acquire) != seen || self.stop.load(Acquire));
            if self.turn.load(Acquire) == seen {
                return;
            }
            seen += 1;
            let body = *self.body.lock().unwrap_or_else(PoisonError::into_inner);
            let items = self.items.load(Relaxed);
            let work = || body.map_or((), |body| self.work(body, thread, items));
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                self.panicked.store(true, Release);
            }
            self.busy.fetch_sub(1, AcqRel);
        }
    }
}

impl Team<'_> {
    /// Runs `f` with a team of `threads` (at least 1) threads, the calling one among them.
    pub(crate) fn with<R>(threads: usize, f: impl FnOnce(&Team<'_>) -> R) -> R {
        let threads = threads.max(1);
        let job = Job {
            body: Mutex::new(None),
            items: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            let _stop = Stop(&job.stop);
            for thread in 1..threads {
                let job = &job;
                scope.spawn(move || job.help(thread));
            }
            f(&Team { job: &job, threads, alone: PhantomData })
        })
    }

    /// Threads in the team.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `body(thread, item)` once for each item below `n`, and returns when all are done.
    pub(crate) fn for_each(&self, n: usize, body: impl Fn(usize, usize) + Sync) {
        if self.threads == 1 || n <= 1 {
            (0..n).for_each(|i| body(0, i));
            return;
        }
        let job = self.job;
        let body: &Body<'_> = &body;
        // SAFETY: only the lifetime changes. Helpers touch the body between the publication below and their mark in
        // `busy`, and this function leaves, with or without a panic, only after all marks.
        let body = unsafe { std::mem::transmute::<&Body<'_>, &'static Body<'static>>(body) };
        *job.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        job.items.store(n, Relaxed);
        job.next.store(0, Relaxed);
        job.busy.store(self.threads - 1, Relaxed);
        job.turn.fetch_add(1, Release);
        let own = catch_unwind(AssertUnwindSafe(|| job.work(body, 0, n)));
        if own.is_err() {
            // Nothing more is handed out.
            job.next.store(n, Relaxed);
        }
        wait(|| job.busy.load(Acquire) == 0);
        if let Err(e) = own {
            resume_unwind(e);
        }
        assert!(!job.panicked.swap(false, AcqRel), "a helper thread panicked; its message stands above");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_item_runs_once_loop_after_loop() {
        for threads in [1, 2, 5] {
            Team::with(threads, |team| {
                for n in [0, 1, 2, 7, 1000] {
                    let seen: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
                    team.for_each(n, |t, i| {
                        assert!(t < threads);
                        seen[i].fetch_add(1, Relaxed);
                    });
                    assert!(seen.iter().all(|v| v.load(Relaxed) == 1), "{threads} {n}");
                }
            });
        }
    }

    #[test]
    fn a_team_cannot_be_used_inside_a_loop() {
        // Two traits' methods of one name, unless the type is `Sync`: then only one would be meant and this not compile.
        trait Ambiguous<A> {
            fn is_not_sync() {}
        }
        struct Both;
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + Sync> Ambiguous<Both> for T {}
        <Team<'_> as Ambiguous<_>>::is_not_sync();
    }

    #[test]
    fn a_panic_comes_out_and_does_not_hang() {
        for culprit in [0, 63] {
            let caught = catch_unwind(|| {
                Team::with(3, |team| team.for_each(64, |_, i| assert!(i != culprit, "item {i}")));
            });
            assert!(caught.is_err());
        }
        // Between loops, while helpers wait for the next.
        let caught = catch_unwind(|| Team::with(3, |_| panic!("no loop")));
        assert!(caught.is_err());
    }
}

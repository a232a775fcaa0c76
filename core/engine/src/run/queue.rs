//! A queue between two stages of a run, bounded by what waits in it.
//!
//! The bound is in bytes, because a case of a thumbnail and one of a scan differ by a factor of thousands; something larger
//! than the bound passes alone. Either end may have several threads. A queue whose receivers are gone takes nothing more,
//! so that a stage that fails stops those before it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    senders: usize,
    receivers: usize,
}

/// The queue; its ends are made before its threads start.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
    budget: usize,
}

/// A sending end.
pub(super) struct Feed<'a, T>(&'a Queue<T>);

/// A receiving end.
pub(super) struct Drain<'a, T>(&'a Queue<T>);

impl<T> Queue<T> {
    /// At most `most` values and `budget` bytes wait.
    pub fn new(most: usize, budget: usize) -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, senders: 0, receivers: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), most: most.max(1), budget }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn feed(&self) -> Feed<'_, T> {
        self.lock().senders += 1;
        Feed(self)
    }

    pub fn drain(&self) -> Drain<'_, T> {
        self.lock().receivers += 1;
        Drain(self)
    }
}

impl<T> Feed<'_, T> {
    /// Waits for room for `value`, which takes `bytes`; false if nobody receives any more.
    #[must_use]
    pub fn push(&self, value: T, bytes: usize) -> bool {
        let queue = self.0;
        let mut state = queue.lock();
        let full = |s: &State<T>| {
            !s.waiting.is_empty() && (s.waiting.len() >= queue.most || s.bytes + bytes > queue.budget)
        };
        while state.receivers > 0 && full(&state) {
            state = queue.wait(state);
        }
        if state.receivers == 0 {
            return false;
        }
        state.waiting.push_back((value, bytes));
        state.bytes += bytes;
        queue.changed.notify_all();
        true
    }
}

impl<T> Drain<'_, T> {
    /// Waits for the next value; `None` once there will be none.
    pub fn pop(&self) -> Option<T> {
        let queue = self.0;
        let mut state = queue.lock();
        loop {
            if let Some((value, bytes)) = state.waiting.pop_front() {
                state.bytes -= bytes;
                queue.changed.notify_all();
                return Some(value);
            }
            if state.senders == 0 || state.receivers == 0 {
                return None;
            }
            state = queue.wait(state);
        }
    }

    /// Ends the queue: what waits is dropped, and all other ends learn of it.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.receivers = 0;
        state.bytes = 0;
        let dropped = std::mem::take(&mut state.waiting);
        self.0.changed.notify_all();
        drop(state);
        drop(dropped);
    }
}

impl<T> Drop for Feed<'_, T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receivers = state.receivers.saturating_sub(1);
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everything_arrives_once_and_in_order_for_one_receiver() {
        let queue = Queue::new(3, 1000);
        let (feed, drain) = (queue.feed(), queue.drain());
        let got = std::thread::scope(|s| {
            s.spawn(move || (0..100).for_each(|i| assert!(feed.push(i, 1))));
            s.spawn(move || std::iter::from_fn(|| drain.pop()).collect::<Vec<_>>()).join().unwrap()
        });
        assert_eq!(got, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn several_receivers_share_the_work() {
        let queue = Queue::new(8, 1000);
        let feed = queue.feed();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                let (drain, sum) = (queue.drain(), &sum);
                s.spawn(move || {
                    while let Some(v) = drain.pop() {
                        sum.fetch_add(v, Ordering::Relaxed);
                    }
                });
            }
            (1..=200).for_each(|i| assert!(feed.push(i, 7)));
            drop(feed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 200 * 201 / 2);
    }

    #[test]
    fn no_more_waits_than_the_budget_but_one_large_value_passes() {
        let queue = Queue::new(100, 10);
        let (feed, drain) = (queue.feed(), queue.drain());
        let most = AtomicUsize::new(0);
        std::thread::scope(|s| {
            s.spawn(move || [4, 4, 50, 3, 3, 3, 3].into_iter().for_each(|b| assert!(feed.push(b, b))));
            let (queue, most) = (&queue, &most);
            s.spawn(move || {
                let mut got = Vec::new();
                loop {
                    most.fetch_max(queue.lock().bytes, Ordering::Relaxed);
                    match drain.pop() {
                        Some(b) => got.push(b),
                        None => break,
                    }
                }
                assert_eq!(got, [4, 4, 50, 3, 3, 3, 3]);
            });
        });
        let most = most.load(Ordering::Relaxed);
        assert!(most <= 10 || most == 50, "{most}");
    }

    #[test]
    fn a_stage_that_stops_ends_those_before_it() {
        let queue = Queue::new(1, 10);
        let (feed, drain) = (queue.feed(), queue.drain());
        assert!(feed.push(1, 1));
        drain.stop();
        assert!(!feed.push(2, 1));
        assert_eq!(drain.pop(), None);
        let queue = Queue::new(1, 10);
        let (feed, drain) = (queue.feed(), queue.drain());
        drop(drain);
        assert!(!feed.push(2, 1), "nobody is left");
    }
}

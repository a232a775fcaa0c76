//! Room that a thread keeps from one operation to the next: fresh pages would cost as much as the arithmetic.

use crate::kernels::aligned::{Aligned, LINE};
use std::cell::RefCell;

/// Values, products and a plane of windows of one step; transformed weights.
pub(super) struct Space {
    pub values: Aligned,
    pub products: Aligned,
    pub plane: Aligned,
    pub weights: Aligned,
}

thread_local! {
    static SPACES: RefCell<Vec<Space>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with a space of this thread. Inside, others may be asked for: an operation that waits for its parts may
/// be given one of another's.
pub(super) fn with<R>(f: impl FnOnce(&mut Space) -> R) -> R {
    let kept = SPACES.with(|s| s.borrow_mut().pop());
    let empty = || Aligned::zeros(0);
    let mut space = kept.unwrap_or_else(|| Space {
        values: empty(),
        products: empty(),
        plane: empty(),
        weights: empty(),
    });
    let result = f(&mut space);
    SPACES.with(|s| s.borrow_mut().push(space));
    result
}

/// A pointer that threads may share: each writes where no other reads or writes.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub *mut f32);
// SAFETY: the loops of `flow` hand each item its own part.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// The stride of at least `n` values that lies five cache lines off a multiple of 4 KiB: parallel streams must not meet
/// in the same sets of the first-level cache.
pub(super) fn staggered(n: usize) -> usize {
    n.next_multiple_of(1024) + 5 * LINE
}

//! Buffers on cache-line boundaries, which vector loads want.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Values per cache line.
pub(crate) const LINE: usize = 16;

/// A `[f32]` that starts on a cache line, or on a huge page's boundary where it is that large.
pub(crate) struct Aligned {
    data: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its memory like a Vec of f32.
unsafe impl Send for Aligned {}
// SAFETY: shared access only reads.
unsafe impl Sync for Aligned {}

/// 2 MiB, a huge page of x86-64: thirty-six streams of a Winograd transform overrun the table of small ones.
const HUGE: usize = 2 << 20;

impl Aligned {
    fn layout(len: usize) -> Layout {
        Layout::array::<f32>(len)
            .and_then(|l| l.align_to(if l.size() >= HUGE { HUGE } else { 64 }))
            .expect("a size below isize::MAX")
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        if len == 0 {
            return Self { data: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty.
        let data = unsafe { alloc(layout) }.cast::<f32>();
        let Some(data) = NonNull::new(data) else { handle_alloc_error(layout) };
        // Before anything is written: pages get their size when they are first touched, and an aligned `alloc_zeroed`
        // touches them all.
        advise(data, layout);
        // SAFETY: room for `len` values, for which all bits 0 mean 0.
        unsafe { data.write_bytes(0, len) };
        Self { data, len }
    }

    /// Makes room for at least `len` values; what was there is lost.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            // The old buffer goes first: the peak is the larger one, not the sum.
            *self = Self::zeros(0);
            *self = Self::zeros(len);
        }
    }
}

/// Asks Linux for huge pages; where it has none to give, nothing changes but the speed.
fn advise(data: NonNull<f32>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == HUGE {
        const MADV_HUGEPAGE: i32 = 14;
        unsafe extern "C" {
            fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
        }
        // SAFETY: the whole huge pages of a block that was just allocated; the advice does not change its contents.
        unsafe { madvise(data.as_ptr().cast(), layout.size() / HUGE * HUGE, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (data, layout);
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeros` with this very layout.
            unsafe { dealloc(self.data.as_ptr().cast(), Self::layout(self.len)) };
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised values, or a dangling pointer and 0.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeros_and_grow() {
        let mut all = Aligned::zeros(0);
        assert!(all.is_empty());
        for len in [1, 100, HUGE / 4 - 1, HUGE / 4, 3 * HUGE / 4 + 5] {
            all.reserve(len);
            assert_eq!(all.len(), len);
            assert!((all.as_ptr() as usize).is_multiple_of(if 4 * len >= HUGE { HUGE } else { 64 }), "{len}");
            assert!(all.iter().all(|v| *v == 0.0), "{len}");
            all.fill(1.0);
            all.reserve(len - 1);
            assert!(all.len() == len && all[0] == 1.0, "enough room is left alone");
        }
    }

    #[test]
    #[should_panic(expected = "isize::MAX")]
    fn a_size_beyond_memory_does_not_wrap() {
        // Four bytes each, this wraps to 4 bytes in all.
        Aligned::zeros(usize::MAX / 4 + 2);
    }
}

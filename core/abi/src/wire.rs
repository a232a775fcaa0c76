//! Reading and writing the ABI's arrays and texts.

use crate::{Array, Buffer, MAX_RANK, Text, status};
use core::ffi::{CStr, c_char};

/// Number of values of a shape; `None` if it is beyond what a slice can hold.
pub fn count(shape: &[u64]) -> Option<usize> {
    let n = shape.iter().try_fold(1u64, |a, &b| a.checked_mul(b))?;
    let bytes = n.checked_mul(4)?;
    (bytes <= isize::MAX as u64).then_some(n as usize)
}

impl Array {
    /// A view of `data`, whose length is the product of `shape`. `None` if the two disagree or the rank is above
    /// [`MAX_RANK`].
    pub fn new(data: &[f32], shape: &[usize]) -> Option<Self> {
        if shape.len() > MAX_RANK {
            return None;
        }
        let mut s = [0u64; MAX_RANK];
        for (to, from) in s.iter_mut().zip(shape) {
            *to = *from as u64;
        }
        (count(&s[..shape.len()]) == Some(data.len())).then_some(Self {
            data: data.as_ptr(),
            rank: shape.len() as u32,
            reserved: 0,
            shape: s,
        })
    }
    /// The sizes; `None` if the rank is impossible.
    pub fn dims(&self) -> Option<&[u64]> {
        self.shape.get(..self.rank as usize)
    }
    /// The values; `None` if the shape is impossible or `data` is null although there are values.
    ///
    /// # Safety
    /// `data`, if not null, must be valid for reading the product of `shape[..rank]` values for as long as the slice
    /// is used.
    pub unsafe fn values(&self) -> Option<&[f32]> {
        let n = count(self.dims()?)?;
        if n == 0 {
            return Some(&[]);
        }
        if self.data.is_null() || !self.data.is_aligned() {
            return None;
        }
        // SAFETY: not null, aligned, and the caller vouches for the length.
        Some(unsafe { core::slice::from_raw_parts(self.data, n) })
    }
}

impl Buffer {
    /// A buffer that only asks for the shape.
    pub const fn ask() -> Self {
        Self { data: core::ptr::null_mut(), capacity: 0, rank: 0, reserved: 0, shape: [0; MAX_RANK] }
    }
    /// A buffer over `data`.
    pub fn over(data: &mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), capacity: data.len() as u64, ..Self::ask() }
    }
    /// The sizes that were written; `None` if the rank is impossible.
    pub fn dims(&self) -> Option<&[u64]> {
        self.shape.get(..self.rank as usize)
    }
    /// Answers: writes the shape, and the values unless only the shape is asked for. Gives a [`status`].
    ///
    /// # Safety
    /// `data`, if not null, must be valid for writing `capacity` values.
    pub unsafe fn answer(&mut self, shape: &[usize], values: &[f32]) -> i32 {
        if shape.len() > MAX_RANK {
            return status::SHAPE;
        }
        self.rank = shape.len() as u32;
        self.shape = [0; MAX_RANK];
        for (to, from) in self.shape.iter_mut().zip(shape) {
            *to = *from as u64;
        }
        if self.data.is_null() {
            return status::OK;
        }
        if self.capacity < values.len() as u64 {
            return status::TOO_SMALL;
        }
        // SAFETY: the destination has room for `capacity` values, which is no less than `values.len()`; a buffer that
        // the caller allocated for the answer does not overlap `values`, which this side owns.
        unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), self.data, values.len()) };
        status::OK
    }
}

impl Text {
    /// Room over `bytes`.
    pub fn over(bytes: &mut [u8]) -> Self {
        Self { data: bytes.as_mut_ptr().cast::<c_char>(), capacity: bytes.len() as u64, length: 0 }
    }
    /// Writes `text`, cut at a character's boundary if it does not fit. Gives [`status::TOO_SMALL`] if it was cut.
    ///
    /// # Safety
    /// `data`, if not null, must be valid for writing `capacity` bytes.
    pub unsafe fn write(&mut self, text: &str) -> i32 {
        self.length = text.len() as u64;
        let room = if self.data.is_null() { 0 } else { usize::try_from(self.capacity).unwrap_or(usize::MAX) };
        let mut n = text.len().min(room);
        while !text.is_char_boundary(n) {
            n -= 1;
        }
        if n > 0 {
            // SAFETY: `n` is at most `capacity`, and `text` is this side's own.
            unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), self.data.cast::<u8>(), n) };
        }
        if n == text.len() { status::OK } else { status::TOO_SMALL }
    }
}

/// The UTF-8 text at `p`; `None` for null or text that is not UTF-8.
///
/// # Safety
/// `p`, if not null, must lead to bytes that end with NUL and stay as they are for the lifetime `'a`.
pub unsafe fn text<'a>(p: *const c_char) -> Option<&'a str> {
    if p.is_null() {
        return None;
    }
    // SAFETY: not null; the caller vouches for the rest.
    unsafe { CStr::from_ptr(p) }.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_check_their_shape() {
        let data = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let a = Array::new(&data, &[2, 3]).unwrap();
        assert_eq!(a.dims().unwrap(), &[2, 3]);
        // SAFETY: `a` views `data`.
        assert_eq!(unsafe { a.values() }.unwrap(), &data);
        assert!(Array::new(&data, &[2, 2]).is_none());
        assert!(Array::new(&data, &[6, 1, 1, 1, 1, 1, 1, 1, 1]).is_none());
        let huge = Array { shape: [u64::MAX, 2, 0, 0, 0, 0, 0, 0], ..a };
        // SAFETY: the shape is refused before anything is read.
        assert!(unsafe { huge.values() }.is_none());
        let empty = Array { data: core::ptr::null(), shape: [0, 3, 0, 0, 0, 0, 0, 0], ..a };
        // SAFETY: there is nothing to read.
        assert_eq!(unsafe { empty.values() }, Some(&[][..]));
        let null = Array { data: core::ptr::null(), ..a };
        // SAFETY: null is refused.
        assert!(unsafe { null.values() }.is_none());
        let deep = Array { rank: 9, ..a };
        // SAFETY: the rank is refused.
        assert!(unsafe { deep.values() }.is_none());
    }

    #[test]
    fn a_buffer_first_asks_for_the_shape() {
        let values = [1.0f32, 2.0];
        let mut b = Buffer::ask();
        // SAFETY: null.
        assert_eq!(unsafe { b.answer(&[1, 2], &values) }, status::OK);
        assert_eq!(b.dims().unwrap(), &[1, 2]);
        let mut room = [0.0f32; 2];
        let mut small = Buffer::over(&mut room[..1]);
        // SAFETY: over one value.
        assert_eq!(unsafe { small.answer(&[1, 2], &values) }, status::TOO_SMALL);
        assert_eq!(small.dims().unwrap(), &[1, 2]);
        let mut b = Buffer::over(&mut room);
        // SAFETY: over two values.
        assert_eq!(unsafe { b.answer(&[1, 2], &values) }, status::OK);
        assert_eq!(room, values);
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut room = [0u8; 4];
        let mut t = Text::over(&mut room);
        // SAFETY: over four bytes.
        assert_eq!(unsafe { t.write("abλλ") }, status::TOO_SMALL);
        assert_eq!((t.length, &room), (6, "abλ".as_bytes().try_into().unwrap()));
        let mut t = Text::over(&mut room[..3]);
        // SAFETY: over three bytes.
        assert_eq!(unsafe { t.write("abλ") }, status::TOO_SMALL);
        assert_eq!(&room[..2], b"ab");
        // SAFETY: a literal.
        assert_eq!(unsafe { text(c"λ".as_ptr()) }, Some("λ"));
        // SAFETY: null is refused.
        assert_eq!(unsafe { text(core::ptr::null()) }, None);
    }
}

//! The images of a study: listed and read by [`shiftlens_input`], the same as those of a training.

pub use shiftlens_input::{Census, Item, Reader, Source, View, census, columns, read_mask, scan};

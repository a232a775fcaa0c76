//! Write Shiftlens plugins in Rust: one trait, one export line.

//! The `shiftlens` program.
fn main() {}

//! The C ABI of Shiftlens plugins: repr(C) types and the C header.

//! The examples, run as their documents say: the commands in them are taken from there and run as they stand, in a
//! temporary copy (see `shiftlens_tests::document`).
#![cfg(unix)]

mod batch;
mod comparison;
mod own_classifier;
mod plugins;

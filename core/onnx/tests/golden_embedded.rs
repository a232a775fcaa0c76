//! Predictions, activations and gradients on the embedded backend, against PyTorch.

mod common;

use shiftlens_onnx::Choice;

fn ready() -> bool {
    println!("backend: {}", shiftlens_onnx::backend::init(Choice::Embedded).unwrap());
    true
}

#[test]
fn small_cases_match_pytorch() {
    if ready() {
        common::check_all(&common::fixtures(), common::SMALL);
    }
}

#[test]
fn full_set_matches_pytorch() {
    if ready() {
        common::check_all(&common::shared(), common::ALL);
    }
}

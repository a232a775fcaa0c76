//! Predictions, activations and gradients on ONNX Runtime, against PyTorch.

mod common;

use shiftlens_onnx::Choice;

fn ready() -> bool {
    match shiftlens_onnx::backend::init(Choice::Native) {
        Ok(name) => println!("backend: {name}"),
        Err(e) => {
            println!("skipped: {e}");
            return false;
        }
    }
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

//! Predictions, activations and gradients on the embedded backend against PyTorch.

mod common;

use shiftlens_onnx::Choice;

#[test]
fn activations_and_gradients_match_pytorch() {
    println!("backend: {}", shiftlens_onnx::backend::init(Choice::Embedded).unwrap());
    common::check_all(&common::shared(), common::ALL);
}

//! Predictions, activations and gradients on ONNX Runtime against PyTorch.

mod common;

use shiftlens_onnx::Choice;

#[test]
fn activations_and_gradients_match_pytorch() {
    match shiftlens_onnx::backend::init(Choice::Native) {
        Ok(name) => println!("backend: {name}"),
        Err(e) => {
            println!("skipped: {e}");
            return;
        }
    }
    common::check_all(&common::shared(), common::ALL);
}

//! Feature networks on ONNX Runtime. Skipped, saying so, where its library is not there.

mod common;
mod features;
mod reference;

use shiftlens_onnx::Choice;

fn ready() -> bool {
    match shiftlens_onnx::backend::init(Choice::Native) {
        Ok(_) => true,
        Err(e) => {
            println!("skipped: {e}");
            false
        }
    }
}

features::tests!();

//! Feature networks on the embedded backend.

mod common;
mod features;
mod reference;

use shiftlens_onnx::Choice;

fn ready() -> bool {
    shiftlens_onnx::backend::init(Choice::Embedded).is_ok()
}

features::tests!();

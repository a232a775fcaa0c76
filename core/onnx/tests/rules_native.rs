//! Every gradient rule against differences, on ONNX Runtime. Skipped, saying so, where its library is not there.

mod cases;
mod differences;
mod reference;

use differences::Known;
use shiftlens_onnx::Choice;

const KNOWN: Known = Known { limits: &[] };

fn check(group: &str) {
    match shiftlens_onnx::backend::init(Choice::Native) {
        Ok(_) => differences::check(group, &KNOWN),
        Err(e) => println!("skipped: {e}"),
    }
}

#[test]
fn every_rule_has_cases() {
    differences::coverage();
}

differences::groups!(check: elementwise, operands, linear, windows, reduce, shape);

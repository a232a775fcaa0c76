//! Every gradient rule against differences, on the embedded backend.

mod cases;
mod differences;
mod reference;

use differences::Known;
use shiftlens_onnx::Choice;

const KNOWN: Known = Known {
    limits: &[
        ("Celu", &[12], "forward, batch"),
        ("GlobalLpPool", &[9], "forward, batch"),
        ("LpPool", &[11, 18, 22], "Unimplemented(LpPool)"),
        ("Mean", &[9, 13], "AddNary"),
        ("Pad", &[19], "Failed to parse model"),
        ("Resize", &[10, 11, 13, 18, 19], "forward, batch"),
        ("Swish", &[24], "forward, batch"),
        ("TopK", &[9], "Failed analyse"),
        ("Upsample", &[7, 9], "Unimplemented(Upsample)"),
        // Its optimiser leaves a placeholder where it has joined two branches that compute the same.
        ("Where", &[9, 16], "Dummy"),
    ],
    // tract takes negative pads and places for large unsigned numbers, and panics where no panic may pass.
    fatal: &[("Pad", "cutting"), ("GatherND", "counted from the end"), ("ScatterND", "counted from the end")],
};

fn check(group: &str) {
    shiftlens_onnx::backend::init(Choice::Embedded).unwrap();
    differences::check(group, &KNOWN);
}

#[test]
fn elementwise() {
    check("elementwise");
}

#[test]
fn operands() {
    check("operands");
}

#[test]
fn linear() {
    check("linear");
}

#[test]
fn windows() {
    check("windows");
}

#[test]
fn reduce() {
    check("reduce");
}

#[test]
fn shape() {
    check("shape");
}

//! Every gradient rule against differences, on the embedded backend.

mod cases;
mod differences;
mod reference;

use differences::Known;
use shiftlens_onnx::Choice;

const REFUSED: &str = "which the embedded backend does not run as ONNX has it";

const KNOWN: Known = Known {
    limits: &[
        ("Celu", &[12], REFUSED),
        ("GatherND", &[12, 13, 18], REFUSED),
        ("GlobalLpPool", &[9], REFUSED),
        ("LpPool", &[11, 18, 22], "Unimplemented(LpPool)"),
        ("Mean", &[9, 13], "AddNary"),
        ("Pad", &[9, 11, 18, 19], REFUSED),
        ("Pad", &[19], "Failed to parse model"),
        ("Resize", &[10, 11, 13, 18, 19], REFUSED),
        ("ScatterND", &[16, 18], REFUSED),
        ("Swish", &[24], REFUSED),
        ("TopK", &[9], "Failed analyse"),
        ("Upsample", &[7, 9], "Unimplemented(Upsample)"),
        // Its optimiser leaves a placeholder where it has joined two branches that compute the same.
        ("Where", &[9, 16], "Dummy"),
    ],
};

fn check(group: &str) {
    shiftlens_onnx::backend::init(Choice::Embedded).unwrap();
    differences::check(group, &KNOWN);
}

differences::groups!(check: elementwise, operands, linear, windows, reduce, shape);

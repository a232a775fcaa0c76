//! Against the definition, summed in f64.

use super::*;
use crate::kernels::conv::tests::values;
use crate::kernels::fast::tests::error;

#[test]
fn a_matrix_gives_the_sums_of_its_definition() {
    for (outputs, inputs, rows) in [(1, 1usize, 1), (16, 4, 2), (33, 30, 7), (70, 101, 30)] {
        let (c4, w) = (inputs.next_multiple_of(4), values(outputs * inputs, 1));
        for row in [c4, c4 + 8] {
            // What stands behind a row's inputs counts for nothing.
            let x = values(rows * row, 2);
            let mut truth = Vec::new();
            for i in 0..rows * outputs {
                let (x, w) = (&x[i / outputs * row..], &w[i % outputs * inputs..]);
                truth.push((0..inputs).map(|c| f64::from(x[c]) * f64::from(w[c])).sum());
            }
            for isa in Isa::available() {
                let matrix = Matrix::new(isa, outputs, inputs, |k, c| w[k * inputs + c]);
                let mut y = vec![f32::NAN; truth.len()];
                for panel in 0..matrix.panels() {
                    matrix.panel(panel, &x, row, rows, |r, k, v| y[r * outputs + k] = v);
                }
                let e = error(&y, &truth);
                assert!(e < 1e-5, "{isa:?} {outputs}x{inputs}, {rows} rows {row} apart: {e}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "x.len()")]
fn rows_that_end_early_are_refused() {
    Matrix::new(Isa::Portable, 4, 8, |_, _| 1.0).panel(0, &[1.0; 15], 8, 2, |_, _, _| ());
}

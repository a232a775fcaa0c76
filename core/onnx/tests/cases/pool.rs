//! Pooling.

use super::Family;
use super::net::{Net, attr_int, attr_ints, attr_word};

pub const FAMILIES: &[Family] = &[
    Family { operator: "MaxPool", opsets: &[10, 12, 22], count: 14, make: |n| pool(n, "MaxPool") },
    Family {
        operator: "AveragePool",
        opsets: &[10, 11, 19, 22],
        count: 12,
        make: |n| pool(n, "AveragePool"),
    },
    Family { operator: "LpPool", opsets: &[11, 18, 22], count: 8, make: |n| pool(n, "LpPool") },
    Family {
        operator: "GlobalAveragePool",
        opsets: &[9, 22],
        count: 4,
        make: |n| global(n, "GlobalAveragePool"),
    },
    Family { operator: "GlobalMaxPool", opsets: &[9, 22], count: 4, make: |n| global(n, "GlobalMaxPool") },
    Family { operator: "GlobalLpPool", opsets: &[9], count: 4, make: |n| global(n, "GlobalLpPool") },
];

/// Windows that touch, overlap, leave gaps, hang over padding, or are completed at the end (`ceil_mode`).
fn pool(n: &mut Net, op: &str) {
    let spatial = n.pick(&[1, 2, 2, 2, 3]);
    let size: Vec<usize> =
        (0..spatial).map(|_| n.size(if spatial == 3 { 2 } else { 3 }, [9, 5, 3][spatial - 1])).collect();
    let channels = n.size(1, 2);
    let a = n.input(&[&[channels], &size[..]].concat(), -2.0, 2.0);
    let kernel: Vec<i64> = size.iter().map(|s| n.int(1, 3.min(*s as i64))).collect();
    let strides: Vec<i64> = (0..spatial).map(|_| n.int(1, 3)).collect();
    let mode = n.pick(&["", "", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]);
    // ONNX Runtime refuses the negative padding that a stride longer than the window asks for.
    let same = mode.starts_with("SAME");
    let strides: Vec<i64> =
        strides.iter().zip(&kernel).map(|(s, k)| if same { *s.min(k) } else { *s }).collect();
    let mut given = vec![attr_ints("kernel_shape", &kernel)];
    if n.int(0, 4) > 0 {
        given.push(attr_ints("strides", &strides));
    }
    let dilated = match op {
        "MaxPool" => true,
        "AveragePool" => n.opset >= 19,
        _ => n.opset >= 18,
    };
    let mut dilations = vec![1; spatial];
    if dilated && n.int(0, 2) == 0 {
        for s in 0..spatial {
            dilations[s] = if (kernel[s] - 1) * 2 < size[s] as i64 { 2 } else { 1 };
        }
        given.push(attr_ints("dilations", &dilations));
    }
    let mode = if dilations.contains(&2) && mode.starts_with("SAME") { "" } else { mode };
    match mode {
        "" => {}
        "pads" => {
            // At most half a window, as PyTorch asks for.
            let pads: Vec<i64> = (0..2 * spatial).map(|p| n.int(0, kernel[p % spatial] / 2)).collect();
            n.note(format!("pads {pads:?}"));
            given.push(attr_ints("pads", &pads));
        }
        auto => given.push(attr_word("auto_pad", auto)),
    }
    let ceil = n.coin() && !same && mode != "VALID" && (op != "LpPool" || n.opset >= 18);
    if ceil {
        given.push(attr_int("ceil_mode", 1));
    }
    // Up to operator set 18 runtimes disagree on what windows count that `ceil_mode` lets hang over the end.
    let padding = op == "AveragePool" && n.coin() && !(ceil && n.opset < 19);
    if padding {
        given.push(attr_int("count_include_pad", 1));
    }
    if op == "LpPool" && n.coin() {
        given.push(attr_int("p", n.int(1, 3)));
    }
    n.note(format!(
        "kernel {kernel:?} strides {strides:?} dilations {dilations:?} {mode} ceil {ceil} padding {padding}"
    ));
    n.node(op, a, "y", given);
}

fn global(n: &mut Net, op: &str) {
    let spatial = n.size(1, 3);
    let dims = n.dims(spatial + 1);
    let a = n.input(&dims, -2.0, 2.0);
    let given = if op == "GlobalLpPool" { vec![attr_int("p", n.int(1, 3))] } else { vec![] };
    n.node(op, a, "y", given);
}

//! Resize and Upsample.

use super::Family;
use super::net::{Net, attr_float, attr_floats, attr_int, attr_ints, attr_word};

pub const FAMILIES: &[Family] = &[
    Family { operator: "Resize", opsets: &[10], count: 6, make: resize_10 },
    Family { operator: "Resize", opsets: &[11, 13], count: 24, make: resize },
    Family { operator: "Resize", opsets: &[18, 19], count: 24, make: resize },
    Family { operator: "Upsample", opsets: &[7, 9], count: 6, make: upsample },
];

fn upsample(n: &mut Net) {
    let dims = [n.size(1, 2), n.size(2, 3), n.size(2, 3)];
    let a = n.input(&dims, -2.0, 2.0);
    let mode = n.pick(&["nearest", "linear"]);
    let scales = [1.0, 1.0, n.pick(&[1.0, 2.0, 3.0, 1.5]), n.pick(&[2.0, 3.0])];
    n.note(format!("{mode} {scales:?}"));
    let mut given = vec![attr_word("mode", mode)];
    if n.opset < 9 {
        given.push(attr_floats("scales", &scales));
        n.node("Upsample", a, "y", given);
    } else {
        let scales = n.floats("scales", &[4], &scales);
        n.node("Upsample", &format!("{a} {scales}"), "y", given);
    }
}

fn resize_10(n: &mut Net) {
    let dims = [n.size(1, 2), n.size(2, 3), n.size(2, 3)];
    let a = n.input(&dims, -2.0, 2.0);
    let mode = n.pick(&["nearest", "linear"]);
    let scales = [1.0, 1.0, n.pick(&[1.0, 2.0, 3.0, 1.5]), n.pick(&[2.0, 3.0])];
    n.note(format!("{mode} {scales:?}"));
    let scales = n.floats("scales", &[4], &scales);
    n.node("Resize", &format!("{a} {scales}"), "y", vec![attr_word("mode", mode)]);
}

/// All interpolations, coordinates and rounding rules, up and down, by scales or by sizes.
fn resize(n: &mut Net) {
    let spatial = n.pick(&[1, 2, 2, 2]);
    let mode = n.pick(&["nearest", "linear", "cubic"]);
    // ONNX Runtime interpolates cubically in the last two of four axes only.
    let spatial = if mode == "cubic" { 2 } else { spatial };
    let size: Vec<usize> = (0..spatial).map(|_| n.size(2, 5 - spatial.min(2))).collect();
    let channels = n.size(1, 2);
    let dims = [&[channels], &size[..]].concat();
    let a = n.input(&dims, -2.0, 2.0);
    let mut coordinates = vec!["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    match n.opset {
        11 => coordinates.push("tf_half_pixel_for_nn"),
        19.. => coordinates.push("half_pixel_symmetric"),
        _ => {}
    }
    let coordinates = n.pick(&coordinates);
    let mut given = vec![attr_word("mode", mode), attr_word("coordinate_transformation_mode", coordinates)];
    if mode == "nearest" {
        let nearest = n.pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]);
        n.note(nearest);
        given.push(attr_word("nearest_mode", nearest));
    }
    if mode == "cubic" {
        if n.coin() {
            given.push(attr_float("cubic_coeff_a", -0.5));
        }
        if n.coin() {
            n.note("exclude_outside");
            given.push(attr_int("exclude_outside", 1));
        }
    }
    let by_axes = n.opset >= 18 && n.coin();
    if by_axes {
        let axes: Vec<i64> = (2..2 + spatial as i64).collect();
        given.push(attr_ints("axes", &axes));
    }
    // An open batch cannot stand in a constant list of sizes: without `axes` they are given as scales.
    if by_axes && n.coin() {
        let to: Vec<i64> = size.iter().map(|s| n.int(1, 2 * *s as i64)).collect();
        n.note(format!("{mode} {coordinates} to {to:?}"));
        let to = n.list(&to);
        n.node("Resize", &format!("{a} _ _ {to}"), "y", given);
    } else {
        let scales: Vec<f32> = size.iter().map(|_| n.pick(&[2.0, 3.0, 1.5, 0.6, 1.0])).collect();
        let antialias = n.opset >= 18 && mode != "nearest" && scales.iter().any(|s| *s < 1.0) && n.coin();
        if antialias {
            given.push(attr_int("antialias", 1));
        }
        n.note(format!("{mode} {coordinates} by {scales:?} antialias {antialias}"));
        let all = if by_axes { scales } else { [&[1.0, 1.0], &scales[..]].concat() };
        let scales = n.floats("scales", &[all.len()], &all);
        let roi = if n.opset < 13 { n.floats("roi", &[0], &[]) } else { "_".into() };
        n.node("Resize", &format!("{a} {roi} {scales}"), "y", given);
    }
}

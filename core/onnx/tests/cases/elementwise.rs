//! Operators that work value by value.

use super::Family;
use super::net::{Net, attr_float, attr_int, attr_word};
use shiftlens_onnx::proto::data_type;

/// A unary operator without attributes on values in [low, high).
macro_rules! unary {
    ($op:literal, $low:literal, $high:literal) => {
        unary!($op, $low, $high, [17])
    };
    ($op:literal, $low:literal, $high:literal, $opsets:expr) => {
        Family { operator: $op, opsets: &$opsets, count: 6, make: |n| alone(n, $op, $low, $high, &[]) }
    };
}

/// A unary operator whose float attributes are left out or drawn from a range.
macro_rules! attributed {
    ($op:literal, $opsets:expr, $attributes:expr) => {
        Family { operator: $op, opsets: &$opsets, count: 8, make: |n| alone(n, $op, -4.0, 4.0, &$attributes) }
    };
}

fn alone(n: &mut Net, op: &str, low: f32, high: f32, attributes: &[(&str, f32, f32)]) {
    let rank = n.size(1, 4);
    let dims = n.dims(rank);
    let a = n.input(&dims, low, high);
    let mut given = Vec::new();
    for (name, from, to) in attributes {
        if n.coin() {
            let v = n.uniform(*from, *to);
            n.note(format!("{name} {v}"));
            given.push(attr_float(name, v));
        }
    }
    n.node(op, a, "y", given);
}

pub const UNARY: &[Family] = &[
    unary!("Abs", -2.0, 2.0, [9, 13]),
    unary!("Acos", -0.9, 0.9),
    unary!("Acosh", 1.2, 4.0),
    unary!("Asin", -0.9, 0.9),
    unary!("Asinh", -3.0, 3.0),
    unary!("Atan", -3.0, 3.0),
    unary!("Atanh", -0.9, 0.9),
    unary!("Cos", -3.0, 3.0),
    unary!("Cosh", -2.0, 2.0),
    unary!("Erf", -2.5, 2.5, [9, 13]),
    unary!("Exp", -2.0, 2.0, [9, 13]),
    unary!("HardSwish", -5.0, 5.0, [14, 22]),
    unary!("Identity", -2.0, 2.0, [9, 16]),
    unary!("Log", 0.2, 4.0),
    unary!("Mish", -5.0, 5.0, [18, 22]),
    unary!("Neg", -2.0, 2.0),
    unary!("Reciprocal", 0.4, 3.0),
    unary!("Relu", -2.0, 2.0, [9, 14]),
    unary!("Sigmoid", -6.0, 6.0, [9, 13]),
    unary!("Sin", -3.0, 3.0),
    unary!("Sinh", -2.0, 2.0),
    unary!("Softplus", -9.0, 9.0),
    unary!("Softsign", -3.0, 3.0),
    unary!("Sqrt", 0.2, 4.0),
    unary!("Tan", -1.2, 1.2),
    unary!("Tanh", -3.0, 3.0),
    attributed!("Celu", [12], [("alpha", 0.4, 2.0)]),
    attributed!("Elu", [9, 22], [("alpha", 0.4, 2.0)]),
    attributed!("HardSigmoid", [9, 22], [("alpha", 0.1, 0.4), ("beta", 0.3, 0.7)]),
    attributed!("LeakyRelu", [9, 16], [("alpha", 0.0, 0.5)]),
    attributed!("Selu", [9, 22], [("alpha", 0.5, 2.0), ("gamma", 0.5, 2.0)]),
    attributed!("Shrink", [9], [("lambd", 0.2, 1.5), ("bias", 0.0, 0.5)]),
    attributed!("ThresholdedRelu", [10, 22], [("alpha", 0.2, 2.0)]),
    attributed!("Swish", [24], [("alpha", 0.5, 1.5)]),
    Family { operator: "Gelu", opsets: &[20], count: 8, make: gelu },
    Family { operator: "Clip", opsets: &[9, 11, 13], count: 8, make: clip },
    Family { operator: "Cast", opsets: &[9, 13, 19], count: 4, make: cast },
    Family { operator: "CastLike", opsets: &[15, 19], count: 3, make: cast_like },
    Family { operator: "Dropout", opsets: &[9, 12, 13], count: 4, make: dropout },
    Family { operator: "Floor", opsets: &[13], count: 8, make: step_and_slope },
];

fn gelu(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -4.0, 4.0);
    let mode = n.pick(&["", "none", "tanh"]);
    n.note(format!("approximate {mode:?}"));
    let given = if mode.is_empty() { vec![] } else { vec![attr_word("approximate", mode)] };
    n.node("Gelu", a, "y", given);
}

fn clip(n: &mut Net) {
    let dims = n.dims(3);
    let a = n.input(&dims, -2.0, 2.0);
    let (low, high) = (n.uniform(-1.5, -0.2), n.uniform(0.2, 1.5));
    let (has_low, has_high) = (n.coin(), n.coin());
    n.note(format!("min {has_low} {low}, max {has_high} {high}"));
    if n.opset < 11 {
        let mut given = Vec::new();
        given.extend(has_low.then(|| attr_float("min", low)));
        given.extend(has_high.then(|| attr_float("max", high)));
        n.node("Clip", a, "y", given);
    } else {
        let low = if has_low { n.scalar(low) } else { "_".into() };
        let high = if has_high { n.scalar(high) } else { String::new() };
        n.node("Clip", &format!("{a} {low} {high}"), "y", vec![]);
    }
}

/// To the same type, and a round trip through integers beside a smooth path: the integers carry no gradient.
fn cast(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -3.0, 3.0);
    let to = |kind: i32| vec![attr_int("to", i64::from(kind))];
    let same = n.op("Cast", a, to(data_type::FLOAT));
    if n.coin() {
        let kind = n.pick(&[data_type::INT64, data_type::INT32, data_type::BOOL]);
        n.note(format!("through type {kind}"));
        let whole = n.op("Cast", a, to(kind));
        let back = n.op("Cast", &whole, to(data_type::FLOAT));
        n.node("Mul", &format!("{same} {back}"), "y", vec![]);
    } else {
        n.node("Identity", &same, "y", vec![]);
    }
}

fn cast_like(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -3.0, 3.0);
    let like = n.scalar(0.0);
    n.node("CastLike", &format!("{a} {like}"), "y", vec![]);
}

fn dropout(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -3.0, 3.0);
    if n.opset < 12 {
        n.node("Dropout", a, "y", vec![attr_float("ratio", 0.4)]);
    } else {
        let ratio = n.scalar(0.4);
        n.node("Dropout", &format!("{a} {ratio}"), "y", vec![]);
    }
}

/// Step functions beside a slope: `a * step(a)`.
fn step_and_slope(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -3.0, 3.0);
    let op = n.pick(&["Floor", "Ceil", "Round", "Sign"]);
    n.note(op);
    let step = n.op(op, a, vec![]);
    n.node("Mul", &format!("{step} {a}"), "y", vec![]);
}

pub const SEVERAL: &[Family] = &[
    Family { operator: "Add", opsets: &[9, 14], count: 8, make: |n| binary(n, "Add") },
    Family { operator: "Sub", opsets: &[9, 14], count: 8, make: |n| binary(n, "Sub") },
    Family { operator: "Mul", opsets: &[9, 14], count: 8, make: |n| binary(n, "Mul") },
    Family { operator: "Div", opsets: &[9, 14], count: 8, make: |n| binary(n, "Div") },
    Family { operator: "Pow", opsets: &[9, 13, 15], count: 10, make: pow },
    Family { operator: "Mod", opsets: &[13], count: 6, make: modulo },
    Family { operator: "PRelu", opsets: &[9, 16], count: 8, make: prelu },
    Family { operator: "Max", opsets: &[9, 13], count: 8, make: |n| several(n, "Max") },
    Family { operator: "Min", opsets: &[9, 13], count: 8, make: |n| several(n, "Min") },
    Family { operator: "Sum", opsets: &[9, 13], count: 8, make: |n| several(n, "Sum") },
    Family { operator: "Mean", opsets: &[9, 13], count: 8, make: |n| several(n, "Mean") },
    Family { operator: "Where", opsets: &[9, 16], count: 8, make: choose },
];

/// A shape that is broadcast to `[N, dims]`: some axes 1, some leading axes left out.
fn broadcast_part(n: &mut Net, dims: &[usize]) -> Vec<usize> {
    let keep = n.size(0, dims.len());
    dims[dims.len() - keep..].iter().map(|d| if n.coin() { *d } else { 1 }).collect()
}

/// A tensor computed from `a`, of the same shape or a mean over some axes of it, kept as 1.
fn computed(n: &mut Net, a: &str, rank: usize, positive: bool) -> String {
    let b = if positive { n.positive(a) } else { n.smooth(a) };
    match n.int(0, 2) {
        0 => b,
        _ => {
            let axis = n.int(1, rank as i64);
            n.note(format!("one operand a mean over axis {axis}"));
            n.mean(&b, &[axis])
        }
    }
}

/// Both orders; the other operand constant (smaller, or with more axes than the input), computed, or the same tensor.
fn binary(n: &mut Net, op: &str) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let positive = op == "Div";
    let a = n.input(&dims, if positive { 0.5 } else { -2.0 }, 2.0);
    let (low, high) = if positive { (0.5, 2.0) } else { (-2.0, 2.0) };
    let b = match n.int(0, 3) {
        0 => {
            let shape = broadcast_part(n, &dims);
            n.note(format!("constant {shape:?}"));
            n.random(&shape, low, high)
        }
        1 => {
            // Stretches axes of the input that are 1.
            let shape: Vec<usize> = dims.iter().map(|d| if *d == 1 { n.size(1, 3) } else { *d }).collect();
            n.note(format!("constant {shape:?}"));
            n.random(&shape, low, high)
        }
        2 => computed(n, a, dims.len(), positive),
        _ => {
            n.note("twice the same");
            a.to_owned()
        }
    };
    let operands = if n.coin() { format!("{a} {b}") } else { format!("{b} {a}") };
    n.node(op, &operands, "y", vec![]);
}

fn pow(n: &mut Net) {
    let dims = n.dims(2);
    let kind = n.int(0, 4);
    n.note(format!("kind {kind}"));
    match kind {
        // Whole exponents, for which the base may be negative.
        0 | 1 => {
            let a = n.input(&dims, -2.0, 2.0);
            let p = n.pick(&[1.0, 2.0, 3.0]);
            let p = if n.opset >= 13 && kind == 1 { n.ints("p", &[], &[p as i64]) } else { n.scalar(p) };
            n.node("Pow", &format!("{a} {p}"), "y", vec![]);
        }
        2 => {
            let a = n.input(&dims, 0.4, 2.0);
            let shape = broadcast_part(n, &dims);
            let p = n.random(&shape, -2.5, 2.5);
            n.node("Pow", &format!("{a} {p}"), "y", vec![]);
        }
        // The exponent depends on the input, with a constant or a computed base.
        _ => {
            let a = n.input(&dims, -1.0, 2.0);
            let base = if kind == 3 {
                let shape = broadcast_part(n, &dims);
                n.random(&shape, 0.5, 2.0)
            } else {
                computed(n, a, dims.len(), true)
            };
            n.node("Pow", &format!("{base} {a}"), "y", vec![]);
        }
    }
}

/// `a - b * trunc(a / b)` away from its jumps.
fn modulo(n: &mut Net) {
    let dims = n.dims(2);
    let a = n.input(&dims, -3.0, 3.0);
    let b = n.pick(&[0.7, 1.3, -1.1]);
    let b = n.scalar(b);
    n.node("Mod", &format!("{a} {b}"), "y", vec![attr_int("fmod", 1)]);
}

fn prelu(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let slope = if n.coin() {
        let shape = broadcast_part(n, &dims);
        n.note(format!("slope {shape:?}"));
        n.random(&shape, -0.5, 0.8)
    } else {
        computed(n, a, dims.len(), false)
    };
    n.node("PRelu", &format!("{a} {slope}"), "y", vec![]);
}

fn several(n: &mut Net, op: &str) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let mut operands = vec![a.to_owned()];
    for _ in 0..n.int(0, 3) {
        let next = if n.coin() {
            let shape = broadcast_part(n, &dims);
            n.random(&shape, -1.5, 1.5)
        } else {
            computed(n, a, dims.len(), false)
        };
        operands.push(next);
    }
    let by = n.size(0, operands.len() - 1);
    operands.rotate_left(by);
    n.note(format!("{} operands", operands.len()));
    n.node(op, &operands.join(" "), "y", vec![]);
}

fn choose(n: &mut Net) {
    let rank = n.size(1, 3);
    let dims = n.dims(rank);
    let a = n.input(&dims, -2.0, 2.0);
    let condition = if n.coin() {
        let bound = n.uniform(-0.8, 0.8);
        let bound = n.scalar(bound);
        let op = n.pick(&["Greater", "Less"]);
        let c = n.op(op, &format!("{a} {bound}"), vec![]);
        if n.coin() { n.op("Not", &c, vec![]) } else { c }
    } else {
        let shape = broadcast_part(n, &dims);
        let bits = (0..shape.iter().product::<usize>()).map(|_| u8::from(n.coin())).collect();
        n.note(format!("constant condition {shape:?}"));
        n.tensor("condition", data_type::BOOL, &shape, bits)
    };
    let branch = |n: &mut Net| match n.int(0, 2) {
        0 => {
            let shape = broadcast_part(n, &dims);
            n.weights(&shape)
        }
        _ => computed(n, a, dims.len(), false),
    };
    let (first, second) = (branch(n), branch(n));
    // At least one branch has the input's full shape and depends on it.
    let second = n.op("Add", &format!("{second} {a}"), vec![]);
    let branches = if n.coin() { format!("{first} {second}") } else { format!("{second} {first}") };
    n.node("Where", &format!("{condition} {branches}"), "y", vec![]);
}

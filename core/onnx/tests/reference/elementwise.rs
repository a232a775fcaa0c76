//! Operators that work value by value, with broadcasting where they take several inputs.

use super::tensor::{Kind, R, Tensor, broadcast};
use super::{Answer, Op, one};
use shiftlens_onnx::proto::data_type;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

pub fn evaluate(op: &Op<'_>) -> Answer {
    if let Some(f) = unary(op) {
        return one(op.x(0).map(|x| x.map(f)));
    }
    match op.node.op() {
        "Add" => binary(op, |a, b| a + b),
        "Sub" => binary(op, |a, b| a - b),
        "Mul" => binary(op, |a, b| a * b),
        "Div" => binary_of_kind(op, |kind, a, b| if kind == Kind::Int { (a / b).trunc() } else { a / b }),
        "Pow" => one(pair(op, |a, b| a.powf(b)).map(|t| Tensor { kind: op.inputs[0].unwrap().kind, ..t })),
        "Mod" => {
            let fmod = op.int("fmod", 0) == 1;
            binary(op, move |a, b| if fmod { a % b } else { a - b * (a / b).floor() })
        }
        "PRelu" => one(prelu(op)),
        "Equal" => compare(op, |a, b| a == b),
        "Greater" => compare(op, |a, b| a > b),
        "GreaterOrEqual" => compare(op, |a, b| a >= b),
        "Less" => compare(op, |a, b| a < b),
        "LessOrEqual" => compare(op, |a, b| a <= b),
        "And" => compare(op, |a, b| a != 0.0 && b != 0.0),
        "Or" => compare(op, |a, b| a != 0.0 || b != 0.0),
        "Xor" => compare(op, |a, b| (a != 0.0) != (b != 0.0)),
        "Max" => one(fold(op, f64::max)),
        "Min" => one(fold(op, f64::min)),
        "Sum" => one(fold(op, |a, b| a + b)),
        "Mean" => {
            let n = op.inputs.len() as f64;
            one(fold(op, |a, b| a + b).map(|t| t.map(|v| v / n)))
        }
        "Where" => one(choose(op)),
        "Clip" => one(clip(op)),
        "Cast" => one(cast(op, op.int("to", 0) as i32)),
        "CastLike" => one(op.x(0).and_then(|x| Ok(Tensor { kind: op.x(1)?.kind, ..x.clone() }))),
        "IsNaN" => one(op.x(0).map(|x| Tensor { kind: Kind::Bool, ..x.map(|v| f64::from(v.is_nan())) })),
        "IsInf" => one(op.x(0).map(|x| Tensor { kind: Kind::Bool, ..x.map(|v| f64::from(v.is_infinite())) })),
        // Inference mode: dropout passes everything.
        "Identity" => one(op.x(0).cloned()),
        "Dropout" => Some(op.x(0).map(|x| vec![x.clone(), Tensor { kind: Kind::Bool, ..x.map(|_| 1.0) }])),
        _ => None,
    }
}

type Unary = Box<dyn Fn(f64) -> f64>;

/// Operators of one value, with their attributes' defaults.
fn unary(op: &Op<'_>) -> Option<Unary> {
    let (alpha, beta) = (|d| op.float("alpha", d), |d| op.float("beta", d));
    Some(match op.node.op() {
        "Abs" => Box::new(f64::abs),
        "Acos" => Box::new(f64::acos),
        "Acosh" => Box::new(f64::acosh),
        "Asin" => Box::new(f64::asin),
        "Asinh" => Box::new(f64::asinh),
        "Atan" => Box::new(f64::atan),
        "Atanh" => Box::new(f64::atanh),
        "Cos" => Box::new(f64::cos),
        "Cosh" => Box::new(f64::cosh),
        "Sin" => Box::new(f64::sin),
        "Sinh" => Box::new(f64::sinh),
        "Tan" => Box::new(f64::tan),
        "Tanh" => Box::new(f64::tanh),
        "Sqrt" => Box::new(f64::sqrt),
        "Exp" => Box::new(f64::exp),
        "Log" => Box::new(f64::ln),
        "Erf" => Box::new(erf),
        "Neg" => Box::new(|v| -v),
        "Reciprocal" => Box::new(|v| 1.0 / v),
        "Floor" => Box::new(f64::floor),
        "Ceil" => Box::new(f64::ceil),
        "Round" => Box::new(f64::round_ties_even),
        "Sign" => Box::new(|v| if v == 0.0 { 0.0 } else { v.signum() }),
        "Not" => Box::new(|v| f64::from(v == 0.0)),
        "Relu" => Box::new(|v| v.max(0.0)),
        "LeakyRelu" => {
            let a = alpha(0.01);
            Box::new(move |v| if v < 0.0 { a * v } else { v })
        }
        "ThresholdedRelu" => {
            let a = alpha(1.0);
            Box::new(move |v| if v > a { v } else { 0.0 })
        }
        "Elu" => {
            let a = alpha(1.0);
            Box::new(move |v| if v < 0.0 { a * v.exp_m1() } else { v })
        }
        "Celu" => {
            let a = alpha(1.0);
            Box::new(move |v| v.max(0.0) + (a * (v / a).exp_m1()).min(0.0))
        }
        "Selu" => {
            let (a, g) = (alpha(1.673_263_192_176_818_8), op.float("gamma", 1.050_700_902_938_842_8));
            Box::new(move |v| if v > 0.0 { g * v } else { g * a * v.exp_m1() })
        }
        "Sigmoid" => Box::new(sigmoid),
        "HardSigmoid" => {
            let (a, b) = (alpha(0.2), beta(0.5));
            Box::new(move |v| (a * v + b).clamp(0.0, 1.0))
        }
        "HardSwish" => Box::new(|v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
        "Mish" => Box::new(|v| v * softplus(v).tanh()),
        "Softplus" => Box::new(softplus),
        "Softsign" => Box::new(|v| v / (1.0 + v.abs())),
        "Shrink" => {
            let (lambd, bias) = (op.float("lambd", 0.5), op.float("bias", 0.0));
            Box::new(move |v| {
                if v < -lambd {
                    v + bias
                } else if v > lambd {
                    v - bias
                } else {
                    0.0
                }
            })
        }
        "Swish" => {
            let a = alpha(1.0);
            Box::new(move |v| v * sigmoid(a * v))
        }
        "Gelu" if op.word("approximate", "none") == "tanh" => {
            Box::new(|v| 0.5 * v * (1.0 + ((2.0 / PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()))
        }
        "Gelu" => Box::new(|v| 0.5 * v * (1.0 + erf(v * FRAC_1_SQRT_2))),
        _ => return None,
    })
}

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

/// `2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1 * 3 * ... * (2n+1))`: all terms have one sign (Abramowitz, Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn pair(op: &Op<'_>, f: impl Fn(f64, f64) -> f64) -> R<Tensor> {
    let (a, b) = (op.x(0)?, op.x(1)?);
    // Before operator set 7, `axis` and `broadcast` said how b fits; such graphs are not interpreted.
    if op.has("broadcast") {
        return Err("broadcasting of operator sets below 7".into());
    }
    let shape = broadcast(&a.shape, &b.shape)?;
    Ok(Tensor::fill(a.kind, &shape, |i| f(a.broadcast_at(i), b.broadcast_at(i))))
}

fn binary(op: &Op<'_>, f: impl Fn(f64, f64) -> f64) -> Answer {
    one(pair(op, f))
}

fn binary_of_kind(op: &Op<'_>, f: impl Fn(Kind, f64, f64) -> f64) -> Answer {
    let kind = op.opt(0)?.kind;
    one(pair(op, |a, b| f(kind, a, b)))
}

fn compare(op: &Op<'_>, f: impl Fn(f64, f64) -> bool) -> Answer {
    one(pair(op, |a, b| f64::from(f(a, b))).map(|t| Tensor { kind: Kind::Bool, ..t }))
}

fn fold(op: &Op<'_>, f: impl Fn(f64, f64) -> f64) -> R<Tensor> {
    let mut total = op.x(0)?.clone();
    for i in 1..op.inputs.len() {
        let next = op.x(i)?;
        let shape = broadcast(&total.shape, &next.shape)?;
        total = Tensor::fill(total.kind, &shape, |i| f(total.broadcast_at(i), next.broadcast_at(i)));
    }
    Ok(total)
}

/// The slope is broadcast to the input in one direction only.
fn prelu(op: &Op<'_>) -> R<Tensor> {
    let (x, slope) = (op.x(0)?, op.x(1)?);
    if broadcast(&x.shape, &slope.shape)? != x.shape {
        return Err(format!("slope {:?} for {:?}", slope.shape, x.shape));
    }
    Ok(Tensor::fill(Kind::Float, &x.shape, |i| {
        let v = x.at(i);
        if v < 0.0 { v * slope.broadcast_at(i) } else { v }
    }))
}

fn choose(op: &Op<'_>) -> R<Tensor> {
    let (c, a, b) = (op.x(0)?, op.x(1)?, op.x(2)?);
    let shape = broadcast(&c.shape, &broadcast(&a.shape, &b.shape)?)?;
    let pick = |i: &[usize]| if c.broadcast_at(i) != 0.0 { a.broadcast_at(i) } else { b.broadcast_at(i) };
    Ok(Tensor::fill(a.kind, &shape, pick))
}

/// Bounds are attributes up to operator set 10, inputs from 11 on.
fn clip(op: &Op<'_>) -> R<Tensor> {
    let (low, high) = if op.opset < 11 {
        (op.float("min", f64::NEG_INFINITY), op.float("max", f64::INFINITY))
    } else {
        let bound = |i, d| op.opt(i).map_or(d, |t| t.data[0]);
        (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY))
    };
    Ok(op.x(0)?.map(|v| v.max(low).min(high)))
}

pub fn cast(op: &Op<'_>, to: i32) -> R<Tensor> {
    let x = op.x(0)?;
    Ok(match to {
        data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE | data_type::BFLOAT16 => {
            Tensor { kind: Kind::Float, ..x.clone() }
        }
        data_type::INT64 | data_type::INT32 => Tensor { kind: Kind::Int, ..x.map(f64::trunc) },
        data_type::BOOL => Tensor { kind: Kind::Bool, ..x.map(|v| f64::from(v != 0.0)) },
        other => return Err(format!("cast to data type {other}")),
    })
}

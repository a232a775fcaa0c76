//! Operators that work element by element, with broadcasting.

use super::{Answer, Call};
use crate::gradient::emit::Emitter;
use shiftlens_api::Result;

/// `dx = dy * f'`, where `derivative` writes f' from x and y.
fn unary(
    e: &mut Emitter<'_>,
    c: &Call<'_>,
    derivative: impl FnOnce(&mut Emitter<'_>, &str, &str) -> String,
) -> Answer {
    if !c.wants(0) {
        return Ok(vec![]);
    }
    let dy = c.dy(e)?;
    let d = derivative(e, c.x(0), c.y());
    Ok(vec![(0, e.mul(&dy, &d))])
}

/// Adds `(i, g)` to `out`, summed back to the shape of input `i`, if that input is wanted.
fn give(
    e: &mut Emitter<'_>,
    c: &Call<'_>,
    out: &mut Vec<(usize, String)>,
    i: usize,
    write: impl FnOnce(&mut Emitter<'_>) -> String,
) -> Result<()> {
    if c.wants(i) {
        let (from, to) = (e.shape(c.y())?, e.shape(c.x(i))?);
        let g = write(e);
        out.push((i, e.unbroadcast(&g, from, to)?));
    }
    Ok(())
}

/// `y = x`: Identity, and casts between floating-point types.
pub fn identity(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    Ok(if c.wants(0) { vec![(0, c.dy(e)?)] } else { vec![] })
}

/// `y = a + b`.
pub fn add(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    sum(e, c)
}

/// `y = a + b + ..`.
pub fn sum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    for i in 0..c.node.input.len() {
        give(e, c, &mut out, i, |_| dy.clone())?;
    }
    Ok(out)
}

/// `y = (a + b + ..) / n`.
pub fn mean(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let dy = e.scale(&dy, 1.0 / c.node.input.len() as f32);
    let mut out = vec![];
    for i in 0..c.node.input.len() {
        give(e, c, &mut out, i, |_| dy.clone())?;
    }
    Ok(out)
}

/// `y = a - b`.
pub fn sub(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    give(e, c, &mut out, 0, |_| dy.clone())?;
    give(e, c, &mut out, 1, |e| e.op("Neg", &[&dy], vec![]))?;
    Ok(out)
}

/// `y = a * b`.
pub fn mul(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    give(e, c, &mut out, 0, |e| e.mul(&dy, c.x(1)))?;
    give(e, c, &mut out, 1, |e| e.mul(&dy, c.x(0)))?;
    Ok(out)
}

/// `y = a / b`: `da = dy / b`, `db = -dy y / b`.
pub fn div(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    let da = e.div(&dy, c.x(1));
    give(e, c, &mut out, 0, |_| da.clone())?;
    give(e, c, &mut out, 1, |e| {
        let p = e.mul(&da, c.y());
        e.op("Neg", &[&p], vec![])
    })?;
    Ok(out)
}

/// `y = a^b`: `da = dy b a^(b-1)`; `db = dy y ln a`.
pub fn pow(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut out = vec![];
    let b = if e.facts.floats.contains(c.x(1)) { c.x(1).to_owned() } else { e.to_float(c.x(1)) };
    give(e, c, &mut out, 0, |e| {
        let less = e.shift(&b, -1.0);
        let p = e.op("Pow", &[c.x(0), &less], vec![]);
        let p = e.mul(&p, &b);
        e.mul(&dy, &p)
    })?;
    give(e, c, &mut out, 1, |e| {
        let l = e.op("Log", &[c.x(0)], vec![]);
        let p = e.mul(c.y(), &l);
        e.mul(&dy, &p)
    })?;
    Ok(out)
}

/// The gradient goes to the inputs that attain the extremum, in equal parts.
fn extremum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mut masks = Vec::new();
    for x in &c.node.input {
        masks.push(e.equal(x, c.y()));
    }
    let total = masks[1..].iter().fold(masks[0].clone(), |a, b| e.add(&a, b));
    let share = e.div(&dy, &total);
    let mut out = vec![];
    for (i, mask) in masks.iter().enumerate() {
        give(e, c, &mut out, i, |e| e.mul(&share, mask))?;
    }
    Ok(out)
}

/// `y = max(a, b, ..)`.
pub fn max(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    extremum(e, c)
}

/// `y = min(a, b, ..)`.
pub fn min(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    extremum(e, c)
}

/// `y = a where c, else b`.
pub fn r#where(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let zero = e.scalar(0.0);
    let mut out = vec![];
    give(e, c, &mut out, 1, |e| e.op("Where", &[c.x(0), &dy, &zero], vec![]))?;
    give(e, c, &mut out, 2, |e| e.op("Where", &[c.x(0), &zero, &dy], vec![]))?;
    Ok(out)
}

/// `y = max(x, 0)`; the gradient at 0 is 0.
///
/// Here and below the sign is read off y where it can be: runtimes fuse an activation with the convolution before it
/// only as long as nothing else asks for x.
pub fn relu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let out = unary(e, c, |e, _, y| e.above(y, 0.0))?;
    if let [(_, g)] = &out[..] {
        e.remember_gate(g, &dy);
    }
    Ok(out)
}

/// `y = x` above alpha, else 0.
pub fn thresholded_relu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 1.0);
    unary(e, c, |e, x, _| e.above(x, alpha))
}

/// `slope + (1 - slope) [x > 0]`: 1 above 0, `slope` elsewhere.
fn leak(e: &mut Emitter<'_>, x: &str, slope: f32) -> String {
    let m = e.above(x, 0.0);
    let m = e.scale(&m, 1.0 - slope);
    e.shift(&m, slope)
}

/// `y = x` above 0, `alpha x` below.
pub fn leaky_relu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 0.01);
    unary(e, c, |e, x, y| leak(e, if alpha > 0.0 { y } else { x }, alpha))
}

/// `y = x` above 0, `slope x` below, the slope an array.
pub fn prelu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let mask = e.above(c.x(0), 0.0);
    let one = e.scalar(1.0);
    let below = e.sub(&one, &mask);
    let mut out = vec![];
    give(e, c, &mut out, 0, |e| {
        let leak = e.mul(&below, c.x(1));
        let d = e.add(&mask, &leak);
        e.mul(&dy, &d)
    })?;
    give(e, c, &mut out, 1, |e| {
        let d = e.mul(&below, c.x(0));
        e.mul(&dy, &d)
    })?;
    Ok(out)
}

/// `y = x` above 0, `alpha (e^x - 1)` below: below, `y' = y + alpha`.
pub fn elu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 1.0);
    unary(e, c, |e, x, y| {
        let m = e.above(x, 0.0);
        let one = e.scalar(1.0);
        let below = e.sub(&one, &m);
        let d = e.shift(y, alpha);
        let d = e.mul(&d, &below);
        e.add(&m, &d)
    })
}

/// `y = gamma x` above 0, `gamma alpha (e^x - 1)` below: below, `y' = y + gamma alpha`.
pub fn selu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let (alpha, gamma) = (c.node.float("alpha", 1.673_263_2), c.node.float("gamma", 1.050_701));
    unary(e, c, |e, x, y| {
        let m = e.above(x, 0.0);
        let one = e.scalar(1.0);
        let below = e.sub(&one, &m);
        let d = e.shift(y, gamma * alpha);
        let d = e.mul(&d, &below);
        let m = e.scale(&m, gamma);
        e.add(&m, &d)
    })
}

/// `y = x` above 0, `alpha (e^(x/alpha) - 1)` below: below, `y' = y / alpha + 1`.
pub fn celu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 1.0);
    unary(e, c, |e, x, y| {
        let m = e.above(x, 0.0);
        let one = e.scalar(1.0);
        let below = e.sub(&one, &m);
        let d = e.scale(y, 1.0 / alpha);
        let d = e.shift(&d, 1.0);
        let d = e.mul(&d, &below);
        e.add(&m, &d)
    })
}

/// `y = min(max(x, low), high)`; the gradient outside and at the bounds is 0.
pub fn clip(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let bound = |e: &mut Emitter<'_>, i: usize, name: &str| match c.node.input_name(i) {
        Some(n) => Some(n.to_owned()),
        None => c.node.attr(name).and_then(|a| a.f).map(|v| e.scalar(v)),
    };
    let (low, high) = (bound(e, 1, "min"), bound(e, 2, "max"));
    if c.wants(1) || c.wants(2) {
        return Err(e.unsupported(c.node, "its bounds depend on the image"));
    }
    let above = low.map(|low| e.op("Greater", &[c.y(), &low], vec![]));
    let below = high.map(|high| e.op("Greater", &[&high, c.y()], vec![]));
    let inside = match (above, below) {
        // Two conditions are joined while they are bytes.
        (Some(a), Some(b)) => Some(e.op("And", &[&a, &b], vec![])),
        (a, b) => a.or(b),
    };
    let mut g = c.dy(e)?;
    if let Some(inside) = inside {
        let m = e.to_float(&inside);
        g = e.mul(&g, &m);
    }
    Ok(vec![(0, g)])
}

/// `y = 1 / (1 + e^-x)`, `y' = y (1 - y)`.
pub fn sigmoid(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, _, y| {
        let one = e.scalar(1.0);
        let d = e.sub(&one, y);
        e.mul(y, &d)
    })
}

/// `y' = 1 - y^2`.
pub fn tanh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, _, y| {
        let one = e.scalar(1.0);
        let s = e.mul(y, y);
        e.sub(&one, &s)
    })
}

/// `y = clip(alpha x + beta, 0, 1)`: `y' = alpha` where `0 < y < 1`.
pub fn hard_sigmoid(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 0.2);
    unary(e, c, |e, _, y| {
        let (a, b) = (e.above(y, 0.0), e.below(y, 1.0));
        let m = e.mul(&a, &b);
        e.scale(&m, alpha)
    })
}

/// `y = x clip(x/6 + 1/2, 0, 1)`: `y' = clip(x/6 + 1/2, 0, 1) + x/6 [|x| < 3]`.
pub fn hard_swish(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let h = e.op(
            "HardSigmoid",
            &[x],
            vec![crate::gradient::emit::float("alpha", 1.0 / 6.0), crate::gradient::emit::float("beta", 0.5)],
        );
        let (a, b) = (e.above(x, -3.0), e.below(x, 3.0));
        let m = e.mul(&a, &b);
        let slope = e.scale(x, 1.0 / 6.0);
        let slope = e.mul(&m, &slope);
        e.add(&h, &slope)
    })
}

/// `y = ln(1 + e^x)`, `y' = sigmoid(x)`.
pub fn softplus(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| e.op("Sigmoid", &[x], vec![]))
}

/// `y = x / (1 + |x|)`, `y' = 1 / (1 + |x|)^2`.
pub fn softsign(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let a = e.op("Abs", &[x], vec![]);
        let a = e.shift(&a, 1.0);
        let a = e.mul(&a, &a);
        e.op("Reciprocal", &[&a], vec![])
    })
}

/// `2/sqrt(pi) e^(-x^2)`.
fn erf_slope(e: &mut Emitter<'_>, x: &str) -> String {
    let s = e.mul(x, x);
    let s = e.op("Neg", &[&s], vec![]);
    let s = e.op("Exp", &[&s], vec![]);
    e.scale(&s, std::f32::consts::FRAC_2_SQRT_PI)
}

/// The error function.
pub fn erf(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| erf_slope(e, x))
}

/// `y = x Phi(x)` (`approximate = "none"`): `y' = Phi(x) + x phi(x)`; or its tanh approximation.
pub fn gelu(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if c.node.string("approximate") == "tanh" {
        return unary(e, c, |e, x, _| {
            // y = x/2 (1 + t), t = tanh(k (x + 0.044715 x^3)): y' = (1 + t)/2 + x/2 (1 - t^2) k (1 + 0.134145 x^2)
            let k = (2.0 / std::f32::consts::PI).sqrt();
            let square = e.mul(x, x);
            let inner = e.scale(&square, 0.044_715);
            let inner = e.shift(&inner, 1.0);
            let inner = e.mul(&inner, x);
            let inner = e.scale(&inner, k);
            let t = e.op("Tanh", &[&inner], vec![]);
            let first = e.shift(&t, 1.0);
            let t2 = e.mul(&t, &t);
            let one = e.scalar(1.0);
            let sech = e.sub(&one, &t2);
            let slope = e.scale(&square, 0.134_145);
            let slope = e.shift(&slope, 1.0);
            let slope = e.scale(&slope, k);
            let second = e.mul(&sech, &slope);
            let second = e.mul(&second, x);
            let both = e.add(&first, &second);
            e.scale(&both, 0.5)
        });
    }
    unary(e, c, |e, x, _| {
        let u = e.scale(x, std::f32::consts::FRAC_1_SQRT_2);
        let erf = e.op("Erf", &[&u], vec![]);
        let phi = e.shift(&erf, 1.0);
        let slope = erf_slope(e, &u);
        let slope = e.mul(&slope, &u);
        let both = e.add(&phi, &slope);
        e.scale(&both, 0.5)
    })
}

/// `y' = y`.
pub fn exp(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |_, _, y| y.to_owned())
}

/// `y' = 1/x`.
pub fn log(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| e.op("Reciprocal", &[x], vec![]))
}

/// `y' = 1/(2y)`.
pub fn sqrt(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, _, y| {
        let half = e.scalar(0.5);
        e.div(&half, y)
    })
}

/// `y = 1/x`, `y' = -y^2`.
pub fn reciprocal(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, _, y| {
        let s = e.mul(y, y);
        e.op("Neg", &[&s], vec![])
    })
}

/// `y = -x`.
pub fn neg(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    Ok(if c.wants(0) { vec![(0, e.op("Neg", &[&dy], vec![]))] } else { vec![] })
}

/// `y = |x|`; the gradient at 0 is 0.
pub fn abs(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let (a, b) = (e.above(x, 0.0), e.below(x, 0.0));
        e.sub(&a, &b)
    })
}

/// `y = sin x`.
pub fn sin(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| e.op("Cos", &[x], vec![]))
}

/// `y = cos x`.
pub fn cos(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let s = e.op("Sin", &[x], vec![]);
        e.op("Neg", &[&s], vec![])
    })
}

/// `y = tan x`, `y' = 1 + y^2`.
pub fn tan(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, _, y| {
        let s = e.mul(y, y);
        e.shift(&s, 1.0)
    })
}

/// `1 + sign x^2`.
fn one_and_square(e: &mut Emitter<'_>, x: &str, sign: f32) -> String {
    let s = e.mul(x, x);
    let s = e.scale(&s, sign);
    e.shift(&s, 1.0)
}

/// `y = arcsin x`, `y' = 1 / sqrt(1 - x^2)`.
pub fn asin(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let r = one_and_square(e, x, -1.0);
        let r = e.op("Sqrt", &[&r], vec![]);
        e.op("Reciprocal", &[&r], vec![])
    })
}

/// `y = arccos x`, `y' = -1 / sqrt(1 - x^2)`.
pub fn acos(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let slope = asin(e, c)?;
    Ok(slope.into_iter().map(|(i, g)| (i, e.op("Neg", &[&g], vec![]))).collect())
}

/// `y = arctan x`, `y' = 1 / (1 + x^2)`.
pub fn atan(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let s = one_and_square(e, x, 1.0);
        e.op("Reciprocal", &[&s], vec![])
    })
}

/// `y = sinh x`, `y' = cosh x`.
pub fn sinh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| e.op("Cosh", &[x], vec![]))
}

/// `y = cosh x`, `y' = sinh x`.
pub fn cosh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| e.op("Sinh", &[x], vec![]))
}

/// `y = arsinh x`, `y' = 1 / sqrt(x^2 + 1)`.
pub fn asinh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let r = one_and_square(e, x, 1.0);
        let r = e.op("Sqrt", &[&r], vec![]);
        e.op("Reciprocal", &[&r], vec![])
    })
}

/// `y = arcosh x` for `x > 1`, `y' = 1 / sqrt((x - 1) (x + 1))`.
pub fn acosh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let (below, above) = (e.shift(x, -1.0), e.shift(x, 1.0));
        let r = e.mul(&below, &above);
        let r = e.op("Sqrt", &[&r], vec![]);
        e.op("Reciprocal", &[&r], vec![])
    })
}

/// `y = artanh x`, `y' = 1 / (1 - x^2)`.
pub fn atanh(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let s = one_and_square(e, x, -1.0);
        e.op("Reciprocal", &[&s], vec![])
    })
}

/// `y = x - bias` above lambd, `x + bias` below -lambd, else 0.
pub fn shrink(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let lambd = c.node.float("lambd", 0.5);
    unary(e, c, |e, x, _| {
        let (a, b) = (e.above(x, lambd), e.below(x, -lambd));
        e.add(&a, &b)
    })
}

/// `y = x` when the network is used and not trained.
pub fn dropout(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    if let Some(name) = c.node.input_name(2)
        && e.constant(name).is_none_or(|t| t.ints().iter().any(|v| *v != 0))
    {
        return Err(e.unsupported(c.node, "it is in training mode; export the model in evaluation mode"));
    }
    identity(e, c)
}

/// `y = x tanh(s)` with `s = ln(1 + e^x)` (Misra 2019): `y' = tanh(s) + x sigmoid(x) (1 - tanh(s)^2)`.
pub fn mish(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    unary(e, c, |e, x, _| {
        let s = e.op("Softplus", &[x], vec![]);
        let t = e.op("Tanh", &[&s], vec![]);
        let square = e.mul(&t, &t);
        let one = e.scalar(1.0);
        let slope = e.sub(&one, &square);
        let logistic = e.op("Sigmoid", &[x], vec![]);
        let rest = e.mul(x, &logistic);
        let rest = e.mul(&rest, &slope);
        e.add(&t, &rest)
    })
}

/// `y = x sigmoid(alpha x)`: `y' = s + alpha x s (1 - s)` with `s = sigmoid(alpha x)`.
pub fn swish(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let alpha = c.node.float("alpha", 1.0);
    unary(e, c, |e, x, _| {
        let scaled = e.scale(x, alpha);
        let s = e.op("Sigmoid", &[&scaled], vec![]);
        let one = e.scalar(1.0);
        let rest = e.sub(&one, &s);
        let rest = e.mul(&scaled, &rest);
        let rest = e.shift(&rest, 1.0);
        e.mul(&s, &rest)
    })
}

//! The gradient model of a case, run on the backend.
//!
//! ONNX Runtime takes one model for all batch sizes. For tract the batch is fixed when the model is made, as
//! [`shiftlens_onnx::OnnxPredictor`] does it there.

use super::oracle::{Batch, Oracle};
use super::{Case, TOLERANCE};
use shiftlens_onnx::backend::{Session, is_native};
use shiftlens_onnx::gradient::{GradientGraph, Request, Scalar, Seed, rules};
use shiftlens_onnx::graph::Model;

/// How a case went.
pub enum Outcome {
    /// Its largest relative error.
    Right(f64),
    Wrong(String),
    /// The backend does not run the model itself, or to other values than the specification's.
    NotRun(String),
    /// No gradient model could be made.
    Refused(String),
}

/// Operators that have a rule.
pub fn operators() -> impl Iterator<Item = &'static str> {
    rules::RULES.iter().map(|(op, _)| *op)
}

/// Values all below this count as 0: terms of order 1 that cancel leave about 1e-7.
const SMALL: f64 = 1e-2;

/// Largest difference relative to the largest expected value; infinite where a value is not finite.
fn relative(found: &[f32], expected: &[f64]) -> f64 {
    let top = expected.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let apart = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    let worst = apart.fold(0.0, |a: f64, d| if d.is_nan() { f64::INFINITY } else { a.max(d) });
    worst / top.max(SMALL)
}

/// Forward values, then the gradients with respect to `x` and `a` through one gradient model, for each batch.
pub fn check(case: &Case, oracle: &Oracle) -> Outcome {
    let bytes = prost::Message::encode_to_vec(&case.model);
    let score = ["logits".to_owned()];
    let mut forward = match Session::new(&bytes, &score, Some(1), "forward") {
        Ok(s) => s,
        Err(e) => return Outcome::NotRun(e.to_string()),
    };
    let mut worst: f64 = 0.0;
    for batch in &oracle.batches {
        let shape = [&[batch.n], &case.shape[..]].concat();
        let y = match forward.run_floats(&[("x", &shape, &batch.x)]) {
            Ok(y) => y,
            Err(e) => return Outcome::NotRun(e.to_string()),
        };
        if y[0].shape() != batch.logits.shape {
            return Outcome::NotRun(format!("logits {:?}, not {:?}", y[0].shape(), batch.logits.shape));
        }
        let error = relative(y[0].as_slice(), &batch.logits.data);
        if error > TOLERANCE {
            return Outcome::NotRun(format!("forward, batch of {}: relative error {error:.1e}", batch.n));
        }
        worst = worst.max(error);
    }

    let model = match Model::from_bytes(&bytes, "case", None) {
        Ok(m) => m,
        Err(e) => return Outcome::Wrong(e.to_string()),
    };
    let free = is_native().unwrap_or(false);
    let mut made = None;
    for batch in &oracle.batches {
        if made.is_none() || !free {
            made = match gradient_model(&model, (!free).then_some(batch.n)) {
                Ok(Ok(found)) => Some(found),
                Ok(Err(e)) => return Outcome::Wrong(format!("the gradient model cannot be prepared: {e}")),
                Err(e) => return Outcome::Refused(e.to_string()),
            };
        }
        let (outputs, session) = made.as_mut().expect("made above");
        match gradients(case, batch, outputs, session) {
            Ok(error) if error <= TOLERANCE => worst = worst.max(error),
            Ok(error) => {
                return Outcome::Wrong(format!("gradient, batch of {}: relative error {error:.1e}", batch.n));
            }
            Err(e) => return Outcome::Wrong(format!("gradient, batch of {}: {e}", batch.n)),
        }
    }
    Outcome::Right(worst)
}

type Ready = (Vec<String>, Session);

/// The gradient model for `x` and `a`, ready to run: first whether it can be written, then whether it can be loaded.
fn gradient_model(
    model: &Model,
    batch: Option<usize>,
) -> Result<shiftlens_api::Result<Ready>, shiftlens_api::Error> {
    let wrt = vec!["x".into(), "a".into()];
    let request = Request { wrt, seed: Seed::Weights, batch, threads: Some(1), ..Request::default() };
    // What the interpreter differentiates is the graph's output, whatever operator it ends in.
    let request = Request { scalar: Scalar::Output, ..request };
    let g = GradientGraph::build(model, &request)?;
    let session = g.model.to_bytes().and_then(|b| Session::new(&b, &g.outputs, Some(1), "gradient"));
    Ok(session.map(|s| (g.outputs, s)))
}

/// The largest relative error of the gradient model's outputs.
fn gradients(case: &Case, batch: &Batch, outputs: &[String], session: &mut Session) -> Result<f64, String> {
    let shape = [&[batch.n], &case.shape[..]].concat();
    let feed: [(&str, &[usize], &[f32]); 2] =
        [("x", &shape, &batch.x), ("grad/seed", &batch.logits.shape, &batch.seed)];
    let answer = session.run_floats(&feed).map_err(|e| e.to_string())?;
    let output = |name: &str| {
        let i =
            outputs.iter().position(|o| o == name).ok_or(format!("no output {name} among {outputs:?}"))?;
        Ok::<_, String>(&answer[i])
    };
    let (y, a) = (output("logits")?, output("a")?);
    let (dx, da) = (output("grad/x")?, output("grad/a")?);
    for (name, t) in [("a", a), ("grad/x", dx), ("grad/a", da)] {
        if t.shape() != shape {
            return Err(format!("{name} has shape {:?}, expected {shape:?}", t.shape()));
        }
    }
    // `a` is a multiple of x: its gradient is the input's over that factor, which is what `a` shows.
    let largest =
        batch.x.iter().enumerate().max_by(|p, q| p.1.abs().total_cmp(&q.1.abs())).map_or(0, |p| p.0);
    let factor = f64::from(a.as_slice()[largest] / batch.x[largest]);
    let expected: Vec<f64> = batch.gradient.iter().map(|g| g / factor).collect();
    let errors = [
        relative(y.as_slice(), &batch.logits.data),
        relative(dx.as_slice(), &batch.gradient),
        relative(da.as_slice(), &expected),
    ];
    Ok(errors.into_iter().fold(0.0, f64::max))
}

//! Gradients of graphs whose structure is unusual: shared and aliased tensors, inner tensors that are asked for, several
//! outputs, integers on the way, shapes that follow the batch.
//!
//! The expected numbers are central differences of the interpreter, in float64, also for inner tensors: the interpreter
//! takes any tensor as given. The backend is the one that is found, or the one that `SHIFTLENS_ONNX_BACKEND` names.

#[path = "../common/mod.rs"]
mod common;
#[path = "../reference/mod.rs"]
mod reference;
mod refusals;
mod values;

use common::build::{A, Build};
use reference::{Interpreter, tensor::Tensor};
use shiftlens_onnx::backend::{Session, is_native};
use shiftlens_onnx::gradient::{GradientGraph, Request, Scalar, Seed};
use shiftlens_onnx::graph::Model;

/// Images of a check.
const IMAGES: usize = 2;
const STEP: f64 = 1e-4;
/// Of the largest gradient; runtimes compute in float32.
const TOLERANCE: f64 = 5e-4;

fn model(b: &Build) -> Model {
    Model::from_bytes(&b.bytes(), "case.onnx", None).unwrap()
}

/// The gradient model for `wrt`; the batch is fixed where the backend asks for it.
fn build(b: &Build, wrt: &[&str], n: usize) -> Result<GradientGraph, String> {
    let model = model(b);
    let free = model.inputs()[0].dims.as_ref().is_some_and(|d| d[0].fixed().is_none());
    let request = Request {
        wrt: wrt.iter().map(|t| (*t).to_owned()).collect(),
        output: Some("logits".into()),
        scalar: Scalar::Output,
        seed: Seed::Weights,
        batch: (free && !is_native().unwrap()).then_some(n),
        threads: Some(1),
        ..Request::default()
    };
    GradientGraph::build(&model, &request).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(b: &Build, wrt: &[&str], words: &[&str]) {
    let e = build(b, wrt, IMAGES).map(|g| g.outputs).expect_err("a refusal");
    let missing: Vec<_> = words.iter().filter(|w| !e.contains(**w)).collect();
    assert!(missing.is_empty(), "{missing:?} not in: {e}");
}

fn images(shape: &[usize]) -> Vec<f32> {
    // No two values are close to each other or to 0.
    let n: usize = shape.iter().product();
    (0..n).map(|i| (((i * 37) % n) as f32 + 0.5) / n as f32 * 2.4 - 1.13).collect()
}

fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|i| [0.7, -1.1, 0.4, 1.3][i % 4]).collect()
}

/// Gradients of `sum(seed * logits)` with respect to each of `wrt`, by differences.
fn differences(b: &Build, x: &Tensor, seed: &[f32], wrt: &[&str]) -> Vec<Vec<f64>> {
    let mut exact = Interpreter::new(&b.proto).unwrap();
    exact.straight_through = true;
    let of = |name: &str| {
        let mut at = if name == "x" { x.clone() } else { exact.run(&[("x", x)], name).unwrap() };
        let score = |t: &Tensor| -> f64 {
            let feed = if name == "x" { vec![("x", t)] } else { vec![("x", x), (name, t)] };
            let y = exact.run(&feed, "logits").unwrap();
            y.data.iter().zip(seed).map(|(y, s)| y * f64::from(*s)).sum()
        };
        (0..at.data.len())
            .map(|i| {
                let v = at.data[i];
                at.data[i] = v + STEP;
                let above = score(&at);
                at.data[i] = v - STEP;
                let below = score(&at);
                at.data[i] = v;
                (above - below) / (2.0 * STEP)
            })
            .collect()
    };
    wrt.iter().map(|t| of(t)).collect()
}

/// All tensors of `wrt` through one gradient model, and each through one of its own, against differences.
#[track_caller]
fn agrees(what: &str, b: &Build, shape: &[usize], wrt: &[&str]) {
    let shape = [&[IMAGES], shape].concat();
    let data = images(&shape);
    let x = Tensor::floats(&shape, data.iter().map(|v| f64::from(*v)).collect());
    let logits = Interpreter::new(&b.proto).unwrap().run(&[("x", &x)], "logits").unwrap();
    let seed = weights(logits.data.len());
    let expected = differences(b, &x, &seed, wrt);
    let groups: Vec<Vec<usize>> =
        std::iter::once((0..wrt.len()).collect()).chain((0..wrt.len()).map(|i| vec![i])).collect();
    for group in groups {
        let asked: Vec<&str> = group.iter().map(|i| wrt[*i]).collect();
        let g = build(b, &asked, IMAGES).unwrap_or_else(|e| panic!("{what}, {asked:?}: {e}"));
        let bytes = g.model.to_bytes().unwrap();
        let mut session = Session::new(&bytes, &g.outputs, Some(1), what).unwrap();
        let answer = session
            .run_floats(&[("x", &shape, &data), ("grad/seed", &logits.shape, &seed)])
            .unwrap_or_else(|e| panic!("{what}, {asked:?}: {e}"));
        for i in group {
            let name = format!("grad/{}", wrt[i]);
            let found = &answer[g.outputs.iter().position(|o| *o == name).unwrap()];
            let top = expected[i].iter().fold(1e-3, |a: f64, v| a.max(v.abs()));
            assert_eq!(found.as_slice().len(), expected[i].len(), "{what}, {name} of {asked:?}");
            for (k, (f, e)) in found.as_slice().iter().zip(&expected[i]).enumerate() {
                let error = (f64::from(*f) - e).abs() / top;
                assert!(error <= TOLERANCE, "{what}, {name}[{k}] of {asked:?}: {f}, expected {e}");
            }
        }
    }
}

fn is(v: &[i64]) -> A {
    A::Is(v.to_vec())
}

/// `x` `[N, 2, 4, 4]`; lines `operator inputs -> outputs`; the last tensor `z` is averaged to `logits` `[N, C]`.
///
/// Conv is 3 x 3 with a border of 1, `Norm` a BatchNormalization with parameters of its own.
fn network(opset: i64, lines: &[&str]) -> Build {
    let mut b = Build::new(opset, &[0, 2, 4, 4]);
    for (i, line) in lines.iter().enumerate() {
        let (left, output) = line.split_once(" -> ").unwrap();
        let (op, inputs) = left.split_once(' ').unwrap();
        match op {
            "Conv" => {
                let w = format!("w{i}");
                b.random(&w, &[2, 2, 3, 3]);
                b.node("Conv", &format!("{inputs} {w}"), output, &[("pads", is(&[1, 1, 1, 1]))]);
            }
            "Norm" => {
                let names = ["scale", "bias", "mean", "var"].map(|n| format!("{n}{i}"));
                b.floats(&names[0], &[2], &[1.7, -0.6]).floats(&names[1], &[2], &[0.3, -0.2]);
                b.floats(&names[2], &[2], &[0.1, 0.05]).floats(&names[3], &[2], &[0.4, 2.5]);
                b.node("BatchNormalization", &format!("{inputs} {}", names.join(" ")), output, &[]);
            }
            "Concat" => {
                let axis = if output.ends_with("_negative") { -3 } else { 1 };
                b.node(op, inputs, output, &[("axis", A::I(axis))]);
            }
            _ => {
                b.node(op, inputs, output, &[]);
            }
        }
    }
    b.node("GlobalAveragePool", "z", "pooled", &[]).node("Flatten", "pooled", "logits", &[]);
    b.output("logits", None);
    b
}

//! Gradients of graphs whose structure is unusual: shared and aliased tensors, inner tensors that are asked for, several
//! outputs, integers on the way, shapes that follow the batch.
//!
//! The expected numbers are central differences of the interpreter, in float64, also for inner tensors: the interpreter
//! takes any tensor as given. The backend is the one that is found, or the one that `SHIFTLENS_ONNX_BACKEND` names.

mod common;
mod reference;

use common::build::{A, Build};
use reference::{Interpreter, tensor::Tensor};
use shiftlens_onnx::backend::{Session, is_native};
use shiftlens_onnx::gradient::{GradientGraph, Request, Scalar, Seed};
use shiftlens_onnx::graph::{Model, value_info};
use shiftlens_onnx::proto::{self, AttributeProto, attribute_type, data_type};

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

/// A factor of a normalisation that goes into a weight must change no other gradient.
#[test]
fn factors_in_weights_change_no_other_gradient() {
    for (what, lines, wrt) in [
        (
            "convolution, normalisation, ReLU",
            &["Conv x -> c", "Norm c -> n", "Relu n -> r", "Conv r -> z"][..],
            &["x", "c", "n", "r"][..],
        ),
        (
            "normalisation behind ReLU",
            &["Conv x -> c", "Relu c -> r", "Norm r -> n", "Conv n -> z"],
            &["x", "c", "r", "n"],
        ),
        (
            "pre-activation and its shortcut",
            &["Conv x -> c", "Norm c -> n", "Relu n -> r", "Conv r -> d", "Add c d -> z"],
            &["x", "c", "n", "r", "d"],
        ),
        (
            "a normalised tensor that is used twice",
            &["Norm x -> n", "Conv n -> c", "Relu n -> r", "Add c r -> z"],
            &["x", "n", "c", "r"],
        ),
        (
            "a ReLU that is used twice",
            &["Norm x -> n", "Relu n -> r", "Conv r -> c", "Add c r -> z"],
            &["x", "n", "r", "c"],
        ),
        ("an alias", &["Norm x -> n", "Identity n -> i", "Conv i -> z"], &["x", "n", "i"]),
        (
            "an alias of a ReLU beside a shortcut",
            &["Norm x -> n", "Relu n -> r", "Identity r -> i", "Conv i -> c", "Add c r -> z"],
            &["x", "n", "r", "i", "c"],
        ),
        ("two normalisations", &["Norm x -> n", "Norm n -> m", "Conv m -> z"], &["x", "n", "m"]),
        (
            "a sum of two normalised tensors under one gradient",
            &["Norm x -> n", "Relu x -> r", "Norm r -> m", "Add n m -> s", "Conv s -> z"],
            &["x", "n", "r", "m", "s"],
        ),
        (
            "one convolution's gradient for both inputs of a sum",
            &["Norm x -> n", "Add n n -> s", "Conv s -> z"],
            &["x", "n", "s"],
        ),
        (
            "two ReLUs in a row",
            &["Norm x -> n", "Relu n -> r", "Relu r -> q", "Conv q -> z"],
            &["x", "n", "q"],
        ),
    ] {
        agrees(what, &network(17, lines), &[2, 4, 4], wrt);
    }
}

/// A concatenation that takes another one in place of its first parts must leave the gradients of both as they are.
#[test]
fn concatenations_that_share_parts_keep_their_gradients() {
    let end = ["Relu abc -> r", "GlobalAveragePool ab -> p", "Concat r ab -> z"];
    let growing =
        [&["Conv x -> a", "Conv a -> b", "Concat a b -> ab", "Concat a b x -> abc"][..], &end].concat();
    agrees("growing", &network(17, &growing), &[2, 4, 4], &["x", "a", "b", "ab", "abc"]);
    let negative =
        ["Conv x -> a", "Concat a x -> ab", "Concat a x a -> abc_negative", "Concat abc_negative ab -> z"];
    agrees("negative axis", &network(17, &negative), &[2, 4, 4], &["x", "a", "ab", "abc_negative"]);
    let shrinking = ["Conv x -> a", "Concat a x a -> abc", "Concat a x -> ab", "Concat abc ab -> z"];
    agrees("the longer one first", &network(17, &shrinking), &[2, 4, 4], &["x", "a", "ab", "abc"]);
    let twins = ["Conv x -> a", "Concat a x -> ab", "Concat a x -> ba", "Concat ab ba -> z"];
    agrees("two of the same", &network(17, &twins), &[2, 4, 4], &["x", "a", "ab", "ba"]);
    let chain = ["Conv x -> a", "Concat a x -> ab", "Concat a x a -> aba", "Concat a x a x -> z"];
    agrees("a chain", &network(17, &chain), &[2, 4, 4], &["x", "a", "z"]);
    let mut output = network(17, &twins);
    output.output("ab", None);
    agrees("an output", &output, &[2, 4, 4], &["x", "a", "ab", "ba"]);
}

/// `then` and `else` branches that answer tensors of the graph around them.
fn branches(b: &mut Build, condition: &str, then: &str, other: &str, output: &str) {
    let branch = |name: &str, from: &str| {
        let graph = proto::GraphProto {
            name: Some(name.into()),
            node: vec![proto::NodeProto {
                op_type: Some("Relu".into()),
                input: vec![from.into()],
                output: vec![format!("{name}_out")],
                ..Default::default()
            }],
            output: vec![value_info(&format!("{name}_out"), data_type::FLOAT, None)],
            ..Default::default()
        };
        AttributeProto {
            name: Some(name.into()),
            r#type: Some(attribute_type::GRAPH),
            g: Some(Box::new(graph)),
            ..Default::default()
        }
    };
    b.node("If", condition, output, &[]);
    let graph = b.proto.graph.as_mut().unwrap();
    let node = graph.node.last_mut().unwrap();
    node.attribute = vec![branch("then_branch", then), branch("else_branch", other)];
}

/// What a branch takes from around it reaches the score as well: no gradient without it.
#[test]
fn branches_are_refused_and_not_passed_by() {
    if !is_native().unwrap() {
        // The embedded backend folds the branch away before its tensors can be asked for.
        return;
    }
    let mut b = Build::new(17, &[0, 2, 4, 4]);
    b.proto.graph.as_mut().unwrap().initializer.push(proto::TensorProto {
        name: Some("yes".into()),
        data_type: Some(data_type::BOOL),
        dims: vec![],
        raw_data: Some(vec![1]),
        ..Default::default()
    });
    b.node("Sigmoid", "x", "a", &[]);
    branches(&mut b, "yes", "a", "x", "chosen");
    b.node("Add", "a chosen", "z", &[]);
    b.node("GlobalAveragePool", "z", "pooled", &[])
        .node("Flatten", "pooled", "logits", &[])
        .output("logits", None);
    for tensor in ["x", "a"] {
        refused(&b, &[tensor], &["case.onnx", "operator If", "\"chosen\""]);
    }
    agrees_behind(&b, "z");
}

/// The gradient of the mean of 16 pixels.
fn agrees_behind(b: &Build, tensor: &str) {
    let g = build(b, &[tensor], IMAGES).unwrap();
    let shape = [IMAGES, 2, 4, 4];
    let mut session = Session::new(&g.model.to_bytes().unwrap(), &g.outputs, Some(1), "case").unwrap();
    let seed = [1.0; IMAGES * 2];
    let answer =
        session.run_floats(&[("x", &shape, &images(&shape)), ("grad/seed", &[IMAGES, 2], &seed)]).unwrap();
    assert!(answer.last().unwrap().as_slice().iter().all(|v| (v - 1.0 / 16.0).abs() < 1e-6));
}

/// A rule that knows the first output only must not leave out what reaches the score through another one.
#[test]
fn further_outputs_are_not_passed_by() {
    let mut b = Build::new(17, &[0, 2, 6]);
    b.floats("scale", &[6], &[0.5, 1.0, 1.5, 2.0, 0.7, 0.3]);
    b.node("LayerNormalization", "x scale", "y m", &[]).node("Add", "y m", "z", &[]);
    b.node("Flatten", "z", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["LayerNormalization", "\"y\"", "\"m\""]);
    let mut b = Build::new(17, &[0, 2, 6]);
    b.ints("three", &[3]);
    b.node("TopK", "x three", "y i", &[]).node("Flatten", "y", "logits", &[]).output("logits", None);
    agrees("values of TopK", &b, &[2, 6], &["x", "y"]);
}

/// A class for all, one for each image, or weights say the same, for every shape that scores may have.
#[test]
fn seeds_say_the_same_for_every_shape_of_scores() {
    for (columns, shape) in [(3, vec![-1, 3]), (3, vec![-1, 3, 1, 1]), (1, vec![-1]), (1, vec![-1, 1])] {
        let mut b = Build::new(17, &[IMAGES, 4]);
        b.random("w", &[4, columns]).ints("shape", &shape);
        b.node("Tanh", "x", "t", &[]).node("MatMul", "t w", "m", &[]).node(
            "Reshape",
            "m shape",
            "logits",
            &[],
        );
        b.output("logits", None);
        let model = model(&b);
        let x = images(&[IMAGES, 4]);
        let gradient = |seed: Seed, weights: Option<&[f32]>| -> Vec<f32> {
            let request = Request { wrt: vec!["x".into()], seed, ..Request::default() };
            let mut g = GradientGraph::build(&model, &request).unwrap();
            assert_eq!(g.columns, columns);
            if seed == Seed::Classes {
                // The classes as a constant: sessions here are fed floats only.
                let classes: Vec<i64> = (0..IMAGES as i64).map(|i| i.min(columns as i64 - 1)).collect();
                let graph = g.model.graph_mut();
                graph.input.retain(|i| i.name.as_deref() != Some("grad/class"));
                graph.initializer.push(shiftlens_onnx::constant::int_tensor(
                    "grad/class",
                    &[IMAGES],
                    &classes,
                ));
            }
            let bytes = g.model.to_bytes().unwrap();
            let mut session = Session::new(&bytes, &g.outputs, Some(1), "seeds").unwrap();
            let (shape, rows) = ([IMAGES, 4], [IMAGES, columns]);
            let mut feed: Vec<(&str, &[usize], &[f32])> = vec![("x", &shape, &x)];
            feed.extend(weights.map(|w| ("grad/seed", &rows[..], w)));
            session.run_floats(&feed).unwrap().pop().unwrap().into_vec()
        };
        let one_hot = |class: &dyn Fn(usize) -> usize| -> Vec<f32> {
            (0..IMAGES * columns).map(|i| f32::from(u8::from(i % columns == class(i / columns)))).collect()
        };
        let last = columns - 1;
        let all = gradient(Seed::Weights, Some(&one_hot(&|_| last)));
        assert!(all.iter().all(|v| *v != 0.0));
        assert_eq!(gradient(Seed::Class(last), None), all, "{shape:?}");
        let each = gradient(Seed::Weights, Some(&one_hot(&|i| i.min(last))));
        assert_eq!(gradient(Seed::Classes, None), each, "{shape:?}");
    }
}

/// Quantised values that are moved, or pooled, before they are read again.
#[test]
fn integers_on_the_way_carry_their_gradient_or_are_refused() {
    let quantised = |b: &mut Build| {
        b.floats("step", &[], &[0.02]);
        b.proto.graph.as_mut().unwrap().initializer.push(proto::TensorProto {
            name: Some("zero".into()),
            data_type: Some(data_type::INT8),
            dims: vec![],
            raw_data: Some(vec![3]),
            ..Default::default()
        });
        b.node("QuantizeLinear", "x step zero", "q", &[]);
    };
    let mut b = Build::new(17, &[0, 2, 2, 3]);
    quantised(&mut b);
    b.node("Transpose", "q", "t", &[("perm", is(&[0, 2, 3, 1]))]).node("Flatten", "t", "u", &[]);
    b.node("DequantizeLinear", "u step zero", "v", &[]).node("Flatten", "x", "w", &[]);
    b.node("Mul", "v w", "logits", &[]).output("logits", None);
    agrees("moved integers", &b, &[2, 2, 3], &["x"]);

    let mut b = Build::new(17, &[0, 1, 4, 4]);
    quantised(&mut b);
    b.node(
        "MaxPool",
        "q",
        "p",
        &[("kernel_shape", is(&[2, 2])), ("strides", is(&[1, 1])), ("pads", is(&[0, 0, 1, 1]))],
    );
    b.node("DequantizeLinear", "p step zero", "v", &[]).node("Add", "v x", "z", &[]);
    b.node("GlobalAveragePool", "z", "y", &[]).node("Flatten", "y", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["MaxPool", "\"p\"", "integers"]);
}

/// A norm of zeros, as dead channels have it: the gradient is 0 and not 0/0.
#[test]
fn norms_of_zeros_have_a_finite_gradient() {
    for (op, attributes) in [
        ("ReduceL2", vec![("axes", is(&[2])), ("keepdims", A::I(0))]),
        ("ReduceL1", vec![("axes", is(&[2])), ("keepdims", A::I(0))]),
        ("LpNormalization", vec![("axis", A::I(2))]),
        ("GlobalLpPool", vec![]),
    ] {
        if op == "GlobalLpPool" && !is_native().unwrap() {
            continue; // refused there
        }
        let mut b = Build::new(17, &[0, 2, 3]);
        b.node("Relu", "x", "r", &[]).node(op, "r", "y", &attributes);
        b.node("Flatten", "y", "logits", &[]).output("logits", None);
        let g = build(&b, &["x", "r"], 1).unwrap();
        let mut session = Session::new(&g.model.to_bytes().unwrap(), &g.outputs, Some(1), op).unwrap();
        let x = [-1.0, -2.0, -3.0, 1.0, 2.0, 3.0];
        let columns = g.columns;
        let seed: Vec<f32> = (0..columns).map(|k| 1.0 + k as f32).collect();
        let answer =
            session.run_floats(&[("x", &[1, 2, 3], &x), ("grad/seed", &[1, columns], &seed)]).unwrap();
        for (name, t) in g.outputs.iter().zip(&answer) {
            assert!(t.as_slice().iter().all(|v| v.is_finite()), "{op}: {name} is {:?}", t.as_slice());
        }
        let dx = answer[g.outputs.iter().position(|o| o == "grad/x").unwrap()].as_slice();
        assert!(dx[..3].iter().all(|v| *v == 0.0), "{op}: {dx:?}");
    }
}

/// Values that are the same for two and three images but not for four: they are no constants.
#[test]
fn what_follows_the_batch_by_division_is_no_constant() {
    if !is_native().unwrap() {
        return; // the batch is fixed there
    }
    let mut b = Build::new(17, &[0, 6]);
    b.ints("first", &[0]).ints("four", &[4]).ints("one", &[1]).ints("two", &[2]);
    b.node("Shape", "x", "s", &[]).node("Gather", "s first", "n", &[]).node("Div", "n four", "start", &[]);
    b.node("Add", "start two", "end", &[]).node("Sigmoid", "x", "a", &[]);
    b.node("Slice", "a start end one", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["Slice", "\"start\"", "not constant"]);
    // Sizes that are picked from a shape that follows the batch are constants all the same.
    let mut b = Build::new(17, &[0, 6]);
    b.ints("second", &[1]).ints("two", &[2]).ints("one", &[1]);
    b.node("Shape", "x", "s", &[]).node("Gather", "s second", "six", &[]).node(
        "Div",
        "six two",
        "start",
        &[],
    );
    b.node("Sigmoid", "x", "a", &[]).node("Slice", "a start six one", "logits", &[]).output("logits", None);
    agrees("picked sizes", &b, &[6], &["x", "a"]);
}

/// Sizes that depend on what is on the image hold for no other image.
#[test]
fn sizes_that_follow_the_image_are_refused() {
    if !is_native().unwrap() {
        return; // the embedded backend knows no such sizes
    }
    let mut b = Build::new(17, &[1, 6]);
    b.floats("bound", &[], &[0.1]).ints("axes", &[0]).ints("one", &[1, 1]);
    b.node("Greater", "x bound", "m", &[]).node("NonZero", "m", "places", &[]);
    b.node("Transpose", "places", "list", &[]).node("GatherND", "x list", "bright", &[]);
    b.node("ReduceMean", "bright", "mean", &[("keepdims", A::I(1))]).node(
        "Reshape",
        "mean one",
        "logits",
        &[],
    );
    b.output("logits", None);
    refused(&b, &["x"], &["NonZero", "\"places\"", "image"]);
}

/// As many copies as the image's brightest pixel says.
#[test]
fn copies_that_follow_the_image_are_refused() {
    if !is_native().unwrap() {
        return; // the embedded backend knows no such sizes
    }
    let mut b = Build::new(13, &[1, 6]);
    b.ints("one", &[1]).floats("few", &[1], &[0.0]);
    b.node("ReduceMax", "x", "top", &[("axes", is(&[0, 1])), ("keepdims", A::I(0))]);
    b.node("Reshape", "top one", "list", &[]).node("Cast", "list", "most", &[("to", A::I(7))]);
    b.node("Add", "most one", "copies", &[]).node("Concat", "one copies", "repeats", &[("axis", A::I(0))]);
    b.node("Tile", "x repeats", "tiled", &[]);
    b.node("ReduceSum", "tiled axes", "logits", &[("keepdims", A::I(1))]).ints("axes", &[1]);
    b.output("logits", None);
    refused(&b, &["x"], &["(Tile)", "\"tiled\"", "on the image"]);
}

/// A score that steps alone tell from a constant.
#[test]
fn steps_have_no_gradient_and_that_is_said() {
    let mut b = Build::new(17, &[0, 6]);
    b.node("Relu", "x", "a", &[]).node("Round", "a", "b", &[]).node("Relu", "b", "logits", &[]);
    b.output("logits", None);
    refused(&b, &["a"], &["does not depend on tensor \"a\"", "rounding"]);
    let mut aside = Build::new(17, &[0, 6]);
    aside.node("Relu", "x", "a", &[]).node("Sigmoid", "x", "logits", &[]).output("logits", None);
    refused(&aside, &["a"], &["does not depend on tensor \"a\""]);
}

#[test]
fn forms_that_change_the_values_are_refused() {
    let mut b = Build::new(17, &[0, 6]);
    b.floats("ratio", &[], &[0.0]);
    b.proto.graph.as_mut().unwrap().initializer.push(proto::TensorProto {
        name: Some("training".into()),
        data_type: Some(data_type::BOOL),
        dims: vec![],
        raw_data: Some(vec![1]),
        ..Default::default()
    });
    b.node("Dropout", "x ratio training", "logits", &[]).output("logits", None);
    if is_native().unwrap() {
        refused(&b, &["x"], &["Dropout", "training mode"]);
    }
    let mut b = Build::new(18, &[0, 1, 5, 4]);
    b.ints("sizes", &[7, 7]);
    let policy =
        [("axes", is(&[2, 3])), ("keep_aspect_ratio_policy", A::S("not_larger")), ("mode", A::S("linear"))];
    b.node("Resize", "x _ _ sizes", "y", &policy).node("Flatten", "y", "logits", &[]).output("logits", None);
    if is_native().unwrap() {
        refused(&b, &["x"], &["Resize", "keep_aspect_ratio_policy"]);
    }
    let mut b = Build::new(6, &[0, 6]);
    b.node("Relu", "x", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["operator set 6", "7"]);
}

/// Half and double precision, however a graph comes by them.
#[test]
fn other_precisions_are_named() {
    let mut b = Build::new(17, &[0, 6]);
    b.proto.graph.as_mut().unwrap().initializer.push(proto::TensorProto {
        name: Some("double".into()),
        data_type: Some(data_type::DOUBLE),
        dims: vec![],
        raw_data: Some(2f64.to_le_bytes().to_vec()),
        ..Default::default()
    });
    b.node("CastLike", "x double", "d", &[]).node("Mul", "d double", "e", &[]);
    b.node("Cast", "e", "logits", &[("to", A::I(1))]).output("logits", None);
    refused(&b, &["x"], &["float32", "\"e\""]);
    // A mask made in double precision leaves the rest in single precision.
    let mut b = Build::new(17, &[0, 6]);
    b.floats("none", &[], &[0.0]);
    b.node("Cast", "x", "d", &[("to", A::I(11))]).node("Cast", "none", "z", &[("to", A::I(11))]);
    b.node("Greater", "d z", "m", &[]).node("Where", "m x none", "logits", &[]).output("logits", None);
    agrees("a mask in double precision", &b, &[6], &["x"]);
}

#[test]
fn names_that_gradients_are_given_are_refused() {
    let mut b = Build::new(17, &[0, 6]);
    b.node("Relu", "x", "grad/x", &[]).node("Relu", "grad/x", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["\"grad/x\"", "answer gradients already"]);
    let mut b = Build::new(17, &[0, 6]);
    b.proto.graph.as_mut().unwrap().input[0].name = Some("grad/seed".into());
    b.node("Relu", "grad/seed", "logits", &[]).output("logits", None);
    refused(&b, &["grad/seed"], &["\"grad/seed\"", "answer gradients already"]);
    // Exporters' names begin with a stroke.
    let mut b = Build::new(17, &[0, 6]);
    b.node("Sigmoid", "x", "/a/Sigmoid", &[]).node("Identity", "/a/Sigmoid", "logits", &[]);
    b.output("logits", None);
    agrees("names with strokes", &b, &[6], &["x", "/a/Sigmoid", "logits"]);
}

/// The operator lies between two of the asked tensors.
#[test]
fn operators_without_a_rule_are_named_with_what_works() {
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.floats("c", &[], &[0.7]);
    b.node("Relu", "x", "early", &[]).node("Mod", "early c", "strange", &[("fmod", A::I(1))]);
    b.node("Relu", "strange", "late", &[]).node("GlobalAveragePool", "late", "p", &[]);
    b.node("Flatten", "p", "logits", &[]).output("logits", None);
    for wrt in [&["early"][..], &["strange", "early"], &["late", "x"]] {
        refused(&b, wrt, &["no gradient rule for operator Mod", "\"late\""]);
    }
}

/// A graph that cannot be probed is an error and not a panic.
#[test]
fn sequences_are_no_arrays() {
    if !is_native().unwrap() {
        return;
    }
    let mut b = Build::new(17, &[0, 6]);
    b.ints("three", &[3]);
    let scalar = |name: &str, v: i64| shiftlens_onnx::constant::int_tensor(name, &[], &[v]);
    let graph = b.proto.graph.as_mut().unwrap();
    graph.initializer.extend([scalar("split", 3), scalar("place", 1)]);
    b.node("Sigmoid", "x", "a", &[]).node("SplitToSequence", "a split", "parts", &[("axis", A::I(1))]);
    b.node("SequenceAt", "parts place", "logits", &[]).output("logits", None);
    refused(&b, &["x"], &["Sequence"]);
    assert!(build(&b, &["logits"], IMAGES).is_ok());
}

/// The score as it is, behind Identity, with an array that nothing uses, for one image.
#[test]
fn plain_graphs_need_no_hidden_layer() {
    let mut b = Build::new(13, &[1, 6]);
    b.random("unused", &[50]).random("w", &[6, 2]);
    b.node("MatMul", "x w", "inner", &[]).node("Identity", "inner", "logits", &[]).output("logits", None);
    let g = build(&b, &["x", "inner", "logits"], 1).unwrap();
    assert!(g.model.graph().initializer.iter().all(|t| t.name.as_deref() != Some("unused")));
    let mut session = Session::new(&g.model.to_bytes().unwrap(), &g.outputs, Some(1), "case").unwrap();
    let answer =
        session.run_floats(&[("x", &[1, 6], &[0.1; 6]), ("grad/seed", &[1, 2], &[2.0, 5.0])]).unwrap();
    let of = |name: &str| answer[g.outputs.iter().position(|o| o == name).unwrap()].as_slice();
    assert_eq!((of("grad/inner"), of("grad/logits")), (&[2.0, 5.0][..], &[2.0, 5.0][..]));
    let w = shiftlens_onnx::constant::Constant::decode(
        b.proto.graph.as_ref().unwrap().initializer.iter().find(|t| t.name.as_deref() == Some("w")).unwrap(),
    );
    for (d, w) in of("grad/x").iter().zip(w.unwrap().floats().chunks(2)) {
        assert!((d - (2.0 * w[0] + 5.0 * w[1])).abs() < 1e-5);
    }
}

//! Structures whose gradients are right.

use super::common::build::{A, Build};
use super::{IMAGES, agrees, build, images, is, model, network};
use shiftlens_onnx::backend::{Session, is_native};
use shiftlens_onnx::gradient::{GradientGraph, Request, Seed};

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

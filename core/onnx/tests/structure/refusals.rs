//! Structures that are refused, with what is wrong and where, beside their neighbours that are not.

use super::common::build::{A, Build};
use super::{IMAGES, agrees, build, images, is, refused};
use shiftlens_onnx::backend::{Session, is_native};
use shiftlens_onnx::graph::value_info;
use shiftlens_onnx::proto::{self, AttributeProto, attribute_type, data_type};

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

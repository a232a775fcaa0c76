//! What a gradient request is answered that cannot be met: node, operator, tensor, and what works instead.

mod cases;

use cases::net::{Net, attr_int, attr_word};
use shiftlens_onnx::Choice;
use shiftlens_onnx::gradient::{GradientGraph, Request, Scalar, Seed};
use shiftlens_onnx::graph::Model;
use shiftlens_onnx::proto::ModelProto;

/// `x [N, 2, 4, 4]`, its multiple `a`, ReLU `early`, then `op`, ReLU `late`, mean `y` and `logits`; the operator is node 2.
fn network(op: &str, domain: Option<&str>) -> ModelProto {
    let mut n = Net::new(17, 5);
    let a = n.input(&[2, 4, 4], 0.2, 0.9);
    n.node("Relu", a, "early", vec![]);
    if op == "Mod" {
        let c = n.scalar(0.7);
        n.node(op, &format!("early {c}"), "strange", vec![attr_int("fmod", 1)]);
    } else {
        n.node(op, "early", "strange", vec![]);
    }
    n.node("Relu", "strange", "late", vec![]);
    n.node("GlobalAveragePool", "late", "y", vec![]);
    let mut model = n.finish().0;
    if let Some(domain) = domain {
        let graph = model.graph.as_mut().unwrap();
        graph.node.iter_mut().filter(|n| n.op() == op).for_each(|n| n.domain = Some(domain.into()));
        let mut import = model.opset_import[0].clone();
        (import.domain, import.version) = (Some(domain.into()), Some(1));
        model.opset_import.push(import);
    }
    model
}

fn build(model: &ModelProto, request: Request) -> Result<GradientGraph, String> {
    shiftlens_onnx::backend::init(Choice::Auto).unwrap();
    let bytes = prost::Message::encode_to_vec(model);
    let model = Model::from_bytes(&bytes, "case.onnx", None).unwrap();
    GradientGraph::build(&model, &request).map_err(|e| e.to_string())
}

fn with_respect_to(tensor: &str) -> Request {
    Request { wrt: vec![tensor.into()], seed: Seed::Weights, ..Request::default() }
}

#[track_caller]
fn refused(answer: Result<GradientGraph, String>, words: &[&str]) {
    let e = answer.expect_err("a refusal");
    let missing: Vec<_> = words.iter().filter(|w| !e.contains(**w)).collect();
    assert!(missing.is_empty(), "{missing:?} not in: {e}");
}

#[test]
fn operators_without_a_rule_name_node_and_ways_round() {
    let model = network("Mod", None);
    for tensor in ["x", "a", "early"] {
        refused(build(&model, with_respect_to(tensor)), &["case.onnx", "Mod", "\"node 2\"", "\"late\""]);
    }
    // Behind the operator, and from it on, nothing stands in the way.
    for tensor in ["strange", "late"] {
        let g = build(&model, with_respect_to(tensor)).unwrap();
        assert_eq!(g.outputs, ["logits".to_owned(), tensor.into(), format!("grad/{tensor}")]);
    }
    // Without gradients the graph is answered as it is.
    let plain = Request { also: vec!["early".into()], ..Request::default() };
    assert_eq!(build(&model, plain).unwrap().outputs, ["logits", "early"]);
}

#[test]
fn operators_whose_rule_refuses_a_form_say_which() {
    let mut n = Net::new(18, 6);
    let a = n.input(&[1, 4, 4], -1.0, 1.0);
    let scales = n.floats("scales", &[4], &[1.0, 1.0, 0.5, 0.5]);
    let given = vec![attr_word("mode", "linear"), attr_int("antialias", 1)];
    n.node("Resize", &format!("{a} _ {scales}"), "y", given);
    refused(build(&n.finish().0, with_respect_to("x")), &["Resize", "\"node 1\"", "antialias"]);
}

#[test]
fn tensors_that_are_not_there_are_named() {
    let model = network("Relu", None);
    refused(build(&model, with_respect_to("erly")), &["case.onnx", "\"erly\""]);
    let request = Request { also: vec!["nowhere".into()], ..with_respect_to("x") };
    refused(build(&model, request), &["\"nowhere\""]);
    let request = Request { scalar: Scalar::Tensor("nothing".into()), ..with_respect_to("x") };
    refused(build(&model, request), &["\"nothing\""]);
    let request = Request { output: Some("other".into()), ..with_respect_to("x") };
    refused(build(&model, request), &["\"other\"", "logits"]);
}

#[test]
fn scores_must_be_one_row_for_each_image() {
    let model = network("Relu", None);
    let request = Request { scalar: Scalar::Tensor("late".into()), ..with_respect_to("x") };
    refused(build(&model, request), &["\"late\"", "[N, K]"]);
    let request = Request { seed: Seed::Class(2), ..with_respect_to("x") };
    refused(build(&model, request), &["class 2", "2"]);
    // The scores do not depend on what lies behind them.
    let request = Request { scalar: Scalar::Tensor("y".into()), ..with_respect_to("logits") };
    refused(build(&model, request), &["\"logits\""]);
}

#[test]
fn foreign_operators_are_refused_with_their_domain() {
    // A node of another domain behind which nothing is asked for may be anything that the backend runs; this one it does
    // not, and the message is the backend's.
    refused(build(&network("Relu", Some("example.org")), with_respect_to("x")), &["case.onnx", "Relu"]);
}

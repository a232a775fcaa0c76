//! `shiftlens grad` and `shiftlens layers`: the written model runs, and its numbers are PyTorch's.

use safetensors::SafeTensors;
use shiftlens_api::Tensor;
use shiftlens_onnx::backend::{Session, Value, is_native};
use shiftlens_onnx::graph::Model;
use shiftlens_tests::program::shiftlens;
use shiftlens_tests::root;
use std::path::{Path, PathBuf};

/// The networks with PyTorch's numbers that the ONNX crate is tested with.
fn fixture(file: &str) -> PathBuf {
    root().join("core/onnx/tests/fixtures").join(file)
}

fn array(arrays: &SafeTensors<'_>, name: &str) -> Tensor {
    let t = arrays.tensor(name).unwrap();
    let values = t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Tensor::new(t.shape().to_vec(), values).unwrap()
}

fn grad(model: &Path, out: &Path, more: &[&str]) -> shiftlens_tests::program::Answer {
    let (model, out) = (model.display().to_string(), out.display().to_string());
    let mut args = vec!["grad", &model, "-o", &out];
    args.extend(more);
    shiftlens(&root(), &args)
}

/// Row `i` of a batch.
fn row(t: &Tensor, i: usize) -> &[f32] {
    let n = t.as_slice().len() / t.shape()[0];
    &t.as_slice()[i * n..(i + 1) * n]
}

fn floats(v: Value) -> Tensor {
    match v {
        Value::Float(t) => t,
        other => panic!("{other:?}"),
    }
}

fn close(a: &[f32], b: &[f32], what: &str) {
    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(a.len() == b.len() && off <= 1e-4 * largest, "{what}: off by {off:e} of {largest:e}");
}

#[test]
fn the_written_model_answers_pytorchs_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("resnet_tiny.safetensors")).unwrap();
    let arrays = SafeTensors::deserialize(&bytes).unwrap();
    let facts: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("resnet_tiny.json")).unwrap()).unwrap();
    let layer = facts["exports"]["torchscript"]["target_tensor"].as_str().unwrap();
    let x = array(&arrays, "input");
    let n = x.shape()[0];
    // The images take turns in asking for the class of which there are PyTorch's numbers and for another.
    let asked: Vec<i64> = (0..n as i64).map(|i| 1 + i % 2).collect();

    let out = folder.path().join("gradients.onnx");
    let mut args = vec!["--wrt", layer, "--wrt", "input"];
    let batch = n.to_string();
    if !is_native().unwrap() {
        println!("the embedded backend settles the batch when it loads a model");
        args.extend(["--batch", &batch]);
    }
    grad(&fixture("resnet_tiny.onnx"), &out, &args).expect(0).says(&["grad/input", "grad/class"]);
    let model = Model::load(&out, None).unwrap();
    let names: Vec<String> = model.outputs().into_iter().map(|o| o.name).collect();
    let gradient = format!("grad/{layer}");
    assert_eq!(names[1..], [layer.to_owned(), gradient.clone(), "grad/input".to_owned()]);
    let mut session = Session::new(&model.to_bytes().unwrap(), &names, None, "gradients").unwrap();
    let image = ("input", x.shape(), x.as_slice());
    let answer = session.run_with(&[image], &[("grad/class", &[n], &asked)]).unwrap();
    let answer: Vec<Tensor> = answer.into_iter().map(floats).collect();
    for i in (0..n).filter(|i| asked[*i] == 1) {
        close(row(&answer[1], i), row(&array(&arrays, "act"), i), "activation");
        close(row(&answer[2], i), row(&array(&arrays, "c1.grad_act"), i), "layer gradient");
        close(row(&answer[3], i), row(&array(&arrays, "c1.grad_input"), i), "input gradient");
    }
    // One class for all, fixed in the file: no further input.
    let second = folder.path().join("second.onnx");
    grad(&fixture("resnet_tiny.onnx"), &second, &["--wrt", "input", "--class", "2", "--batch", &batch])
        .expect(0);
    let second = Model::load(&second, None).unwrap();
    assert_eq!(second.inputs().len(), 1);
    let names = vec!["grad/input".to_owned()];
    let mut of_second = Session::new(&second.to_bytes().unwrap(), &names, None, "second class").unwrap();
    let of_second = of_second.run_floats(&[image]).unwrap();
    for i in (0..n).filter(|i| asked[*i] == 2) {
        close(row(&answer[3], i), row(&of_second[0], i), "the other class");
        assert!(row(&answer[3], i) != row(&array(&arrays, "c1.grad_input"), i));
    }
    if is_native().unwrap() {
        // The batch is free: one image alone has the same gradient.
        let mut shape = x.shape().to_vec();
        shape[0] = 1;
        let one = session.run_with(&[("input", &shape, row(&x, 1))], &[("grad/class", &[1], &asked[1..2])]);
        close(floats(one.unwrap().swap_remove(3)).as_slice(), row(&answer[3], 1), "one image");
    }

    // Nothing below the layer is differentiated.
    let fixed = folder.path().join("one.onnx");
    grad(&fixture("resnet_tiny.onnx"), &fixed, &["--wrt", layer, "--class", "1"]).expect(0);
    let one = Model::load(&fixed, None).unwrap();
    let backward = |m: &Model| m.graph().node.iter().filter(|n| n.label().starts_with("shiftlens")).count();
    assert!(backward(&one) * 4 < backward(&model), "{} of {}", backward(&one), backward(&model));
}

#[test]
fn mistakes_are_answered_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    let model = fixture("resnet_tiny.onnx");
    grad(&model, &out, &["--wrt", "relu99"]).expect(2).says(&["relu99", "its input is \"input\"", "Relu"]);
    grad(&model, &out, &["--wrt", "input", "--class", "77"]).expect(2).says(&["class 77"]);
    grad(&model, &out, &["--wrt", "input", "--score", "nothing"]).expect(2).says(&["nothing"]);
    grad(&model, &out, &["--wrt", "input", "--size", "3,32,32"]).expect(2).says(&["declared as", "32"]);
    grad(&model, &out, &[]).expect(2).says(&["--wrt"]);
    grad(Path::new("nothing.onnx"), &out, &["--wrt", "input"]).expect(2).says(&["no such file"]);
    let text = folder.path().join("text.onnx");
    std::fs::write(&text, "no model").unwrap();
    grad(&text, &out, &["--wrt", "input"]).expect(2).says(&["not an ONNX model"]);
    // What answers gradients already is not differentiated again.
    grad(&model, &out, &["--wrt", "input", "--class", "1"]).expect(0);
    grad(&out, &folder.path().join("twice.onnx"), &["--wrt", "input"]).expect(2).says(&["grad/input"]);
    assert!(!folder.path().join("twice.onnx").exists());
}

#[test]
fn layers_are_listed_with_shapes_and_the_default() {
    let model = fixture("resnet_tiny.onnx").display().to_string();
    let answer = shiftlens(&root(), &["layers", &model]).expect(0);
    let default: Vec<&str> = answer.stdout.lines().filter(|l| l.ends_with("<- default")).collect();
    assert_eq!(default.len(), 1, "{}", answer.stdout);
    assert!(answer.stdout.lines().count() > 5 && default[0].contains('['), "{}", answer.stdout);
    shiftlens(&root(), &["layers", "--size", "32,32", &model]).expect(1).says(&["size"]);
    shiftlens(&root(), &["layers", &model, "--size", "32"]).expect(2).says(&["224,224"]);
}

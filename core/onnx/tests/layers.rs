//! Which layers a network offers, which of them is the default, and scores from replaced activations.

mod common;
mod reference;

use common::build::{A, Build, Folder};
use reference::{Interpreter, tensor};
use shiftlens_api::{GradientRequest, Images, Predictor, ScoreKind, Tensor};
use shiftlens_onnx::{Activation, InputSpec, Layout, OnnxPredictor, OutputSpec, PredictorConfig};

fn load(folder: &Folder, name: &str, b: &Build, layout: Option<Layout>) -> OnnxPredictor {
    let path = folder.write(name, &b.bytes());
    OnnxPredictor::load(&PredictorConfig {
        path,
        input: InputSpec { layout, ..Default::default() },
        output: OutputSpec { activation: Some(Activation::None), ..Default::default() },
        threads: Some(1),
        ..Default::default()
    })
    .unwrap()
}

fn default_layer(p: &mut OnnxPredictor) -> Option<String> {
    p.gradients().unwrap().layers().unwrap().into_iter().find(|l| l.default).map(|l| l.name)
}

fn images(n: usize, c: usize, side: usize) -> Images {
    let count = n * c * side * side;
    let data = (0..count).map(|i| ((i * 37) % count) as f32 / count as f32).collect();
    Images::new([n, c, side, side], data).unwrap()
}

fn is(v: &[i64]) -> A {
    A::Is(v.to_vec())
}

/// A transformer in small on 1 x 8 x 8 images: `leading` tokens, 16 patches of 2 x 2, four channels, and in each of two
/// blocks a mixing of tokens; the score reads the first token. `operator` stands between the blocks.
fn transformer(leading: usize, operator: &str) -> Build {
    let mut b = Build::new(17, &[0, 1, 8, 8]);
    let tokens = leading + 16;
    b.random("patch", &[4, 1, 2, 2]).random("before", &[1, leading, 4]).floats("zeros", &[4], &[0.0; 4]);
    b.floats("ones", &[4], &[1.0; 4])
        .floats("period", &[], &[0.7])
        .ints("sizes", &[0, 4, 16])
        .ints("one", &[1]);
    b.ints("repeat", &[leading as i64, 4]).ints("nought", &[0]);
    b.random("mix1", &[tokens, tokens]).random("mix2", &[tokens, tokens]).random("head", &[4, 3]);
    b.node("Conv", "x patch", "map", &[("strides", is(&[2, 2]))]).node("Reshape", "map sizes", "flat", &[]);
    b.node("Transpose", "flat", "patches", &[("perm", is(&[0, 2, 1]))]);
    b.node("Shape", "x", "shape", &[]).node("Gather", "shape nought", "n", &[]);
    b.node("Concat", "n repeat", "stretched", &[("axis", A::I(0))]).node(
        "Expand",
        "before stretched",
        "class",
        &[],
    );
    b.node("Concat", "class patches", "tokens", &[("axis", A::I(1))]);
    b.node("LayerNormalization", "tokens ones zeros", "norm1", &[]).node(
        "MatMul",
        "mix1 norm1",
        "mixed1",
        &[],
    );
    b.node("Add", "tokens mixed1", "sum1", &[]);
    match operator {
        "Mod" => b.node("Mod", "sum1 period", "between", &[("fmod", A::I(1))]),
        op => b.node(op, "sum1", "between", &[]),
    };
    b.node("LayerNormalization", "between ones zeros", "norm2", &[]).node(
        "MatMul",
        "mix2 norm2",
        "mixed2",
        &[],
    );
    b.node("Add", "between mixed2", "sum2", &[]).node("LayerNormalization", "sum2 ones zeros", "norm3", &[]);
    b.ints("none", &[0]);
    b.node("Gather", "norm3 none", "first", &[("axis", A::I(1))]).node("Squeeze", "first one", "row", &[]);
    b.node("MatMul", "row head", "logits", &[]).output("logits", None);
    b
}

/// The default is the last token layer whose patches the score depends on, also where an operator without a rule
/// stands before it, and whatever comes before the patches.
#[test]
fn token_layers_are_found_by_their_gradients() {
    let folder = Folder::new("tokens");
    for (name, leading, operator) in [
        ("class", 1, "Identity"),
        ("distilled", 2, "Identity"),
        ("registers", 5, "Identity"),
        ("mod", 1, "Mod"),
    ] {
        let mut p = load(&folder, &format!("{name}.onnx"), &transformer(leading, operator), None);
        assert_eq!(default_layer(&mut p).as_deref(), Some("norm2"), "{name}");
        let request = GradientRequest {
            layers: vec![String::new()],
            layer_gradients: true,
            classes: vec![1],
            ..Default::default()
        };
        let g = p.gradients().unwrap().gradients(&images(2, 1, 8), &request).unwrap();
        assert_eq!(g.gradients[0].shape(), [2, leading + 16, 4]);
        assert!(g.gradients[0].as_slice().chunks(4).skip(leading).all(|t| t.iter().any(|v| *v != 0.0)));
    }
}

/// `norm1` of the last block or a later layer: behind it no patch reaches the class token.
#[test]
fn golden_transformers_default_to_patches_that_matter() {
    for file in ["vit_tiny.onnx", "vit_tiny.dynamo.onnx"] {
        let Some(case) = common::Case::read(&common::shared(), file) else {
            println!("skipped: {file} is not there");
            continue;
        };
        let mut p = case.predictor();
        let layers = p.gradients().unwrap().layers().unwrap();
        let place = |name: &str| layers.iter().position(|l| l.name == name).unwrap();
        let default = layers.iter().position(|l| l.default).unwrap();
        println!("{file}: {}", layers[default].name);
        assert!(
            default >= place(&case.layer()),
            "{file}: {} comes before {}",
            layers[default].name,
            case.layer()
        );
        let (x, _, _) = case.images();
        let request = GradientRequest {
            layers: vec![String::new()],
            layer_gradients: true,
            classes: vec![case.classes()[0]],
            ..Default::default()
        };
        let g = p.gradients().unwrap().gradients(&x, &request).unwrap();
        let [n, tokens, channels] = g.gradients[0].shape() else { panic!("{file}: no tokens") };
        let patches = tokens.isqrt().pow(2);
        for image in g.gradients[0].as_slice().chunks(tokens * channels) {
            let matter =
                image.chunks(*channels).skip(tokens - patches).filter(|t| t.iter().any(|v| *v != 0.0));
            assert_eq!(matter.count(), patches, "{file}, {n} images");
        }
    }
}

/// Maps of one pixel are no maps; where there are no others, that is said.
#[test]
fn maps_of_one_pixel_are_no_default() {
    let folder = Folder::new("pixels");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.random("w", &[2, 1, 3, 3]).random("v", &[2, 2, 1, 1]);
    b.node("Conv", "x w", "map", &[]).node("Relu", "map", "bright", &[]).node(
        "GlobalAveragePool",
        "bright",
        "p",
        &[],
    );
    b.node("Conv", "p v", "q", &[]).node("Relu", "q", "r", &[]).node("Flatten", "r", "logits", &[]);
    b.output("logits", None);
    assert_eq!(default_layer(&mut load(&folder, "head.onnx", &b, None)).as_deref(), Some("bright"));

    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.random("w", &[2, 1, 4, 4]);
    b.node("Conv", "x w", "map", &[]).node("Flatten", "map", "logits", &[]).output("logits", None);
    let mut p = load(&folder, "none.onnx", &b, None);
    assert_eq!(default_layer(&mut p), None);
    let request = GradientRequest { layers: vec![String::new()], classes: vec![0], ..Default::default() };
    let e = p.gradients().unwrap().gradients(&images(1, 1, 4), &request).unwrap_err().to_string();
    assert!(e.contains("no layer with spatial extent"), "{e}");
}

/// A branch sees a part of what the score is made of: the default is what all branches come from, or go to.
#[test]
fn branches_are_no_default() {
    let folder = Folder::new("branches");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.random("w", &[2, 1, 3, 3])
        .random("v", &[2, 2, 3, 3])
        .random("u", &[3, 2, 4, 4])
        .random("t", &[3, 2, 4, 4]);
    let border = || [("pads", is(&[1, 1, 1, 1]))];
    b.node("Conv", "x w", "stem", &border()).node("Relu", "stem", "trunk", &[]);
    b.node("Conv", "trunk v", "c", &border()).node("Relu", "c", "branch", &[]);
    b.node("Conv", "branch u", "p", &[]).node("Conv", "trunk t", "q", &[]).node("Add", "p q", "s", &[]);
    b.node("Flatten", "s", "logits", &[]).output("logits", None);
    assert_eq!(default_layer(&mut load(&folder, "apart.onnx", &b, None)).as_deref(), Some("trunk"));
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.random("w", &[2, 1, 3, 3]).node("Conv", "x w", "stem", &border()).node("Relu", "stem", "trunk", &[]);
    b.node("Sigmoid", "trunk", "gate", &[]).node("Mul", "trunk gate", "product", &[]);
    b.node("GlobalAveragePool", "product", "p", &[]).node("GlobalMaxPool", "product", "q", &[]);
    b.node("Concat", "p q", "both", &[("axis", A::I(1))]).node("Flatten", "both", "logits", &[]);
    b.output("logits", None);
    assert_eq!(default_layer(&mut load(&folder, "joined.onnx", &b, None)).as_deref(), Some("product"));
    // The image goes past all maps: the last one it is.
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.random("w", &[1, 1, 3, 3]).node("Conv", "x w", "stem", &border()).node("Relu", "stem", "trunk", &[]);
    b.node("GlobalAveragePool", "trunk", "p", &[]).node("GlobalMaxPool", "x", "q", &[]).node(
        "Add",
        "p q",
        "s",
        &[],
    );
    b.node("Flatten", "s", "logits", &[]).output("logits", None);
    assert_eq!(default_layer(&mut load(&folder, "past.onnx", &b, None)).as_deref(), Some("trunk"));
}

/// A network, and the layer whose activations are replaced.
struct Rest {
    name: &'static str,
    build: Build,
    layer: &'static str,
    nhwc: bool,
}

/// Scores from replaced activations against the interpreter with that tensor given.
#[test]
fn scores_from_replaced_activations_are_those_of_the_rest() {
    let folder = Folder::new("rest");
    let conv = |b: &mut Build, from: &str, to: &str| {
        let w = format!("w_{to}");
        b.random(&w, &[2, 2, 3, 3]).node("Conv", &format!("{from} {w}"), to, &[("pads", is(&[1, 1, 1, 1]))]);
    };
    let end = |b: &mut Build, from: &str| {
        b.node("GlobalAveragePool", from, "pooled", &[]).node("Flatten", "pooled", "flat", &[]);
        b.node("Identity", "flat", "logits", &[]).output("logits", None);
    };
    let stem = |batch: usize| {
        let mut b = Build::new(17, &[batch, 1, 4, 4]);
        b.random("w", &[2, 1, 3, 3]).node("Conv", "x w", "stem", &[("pads", is(&[1, 1, 1, 1]))]);
        b
    };
    let mut cases = Vec::new();
    for (name, batch) in [("plain", 0), ("fixed", 1), ("fixed to two", 2)] {
        let mut build = stem(batch);
        conv(&mut build, "stem", "c");
        build.node("Relu", "c", "r", &[]);
        conv(&mut build, "r", "d");
        build.node("Relu", "d", "z", &[]);
        end(&mut build, "z");
        cases.push(Rest { name, build, layer: "r", nhwc: false });
    }
    // One of the two parts is replaced, the other one is still needed, and so is the image.
    let mut build = stem(0);
    build.node("Split", "stem", "first second", &[("axis", A::I(1))]).node("Mul", "first second", "m", &[]);
    build.node("Add", "m x", "z", &[]);
    end(&mut build, "z");
    cases.push(Rest { name: "one of two outputs", build, layer: "second", nhwc: false });
    // A concatenation whose parts also go elsewhere: what was made of the parts does not change with it.
    let mut build = stem(0);
    conv(&mut build, "stem", "c");
    build.node("Concat", "stem c", "two", &[("axis", A::I(1))]).node(
        "Concat",
        "stem c c",
        "three",
        &[("axis", A::I(1))],
    );
    build.node("Concat", "three two", "z", &[("axis", A::I(1))]);
    end(&mut build, "z");
    cases.push(Rest { name: "a concatenation", build, layer: "two", nhwc: false });
    // The layer is the score.
    let mut build = stem(0);
    end(&mut build, "stem");
    cases.push(Rest { name: "the score itself", build, layer: "logits", nhwc: false });
    let mut build = Build::new(17, &[0, 4, 4, 1]);
    build.random("w", &[2, 1, 3, 3]).node("Transpose", "x", "t", &[("perm", is(&[0, 3, 1, 2]))]);
    build.node("Conv", "t w", "c", &[]).node("Relu", "c", "r", &[]).node("GlobalAveragePool", "r", "p", &[]);
    build.node("Flatten", "p", "f", &[]).node(
        "ReduceMean",
        "x",
        "mean",
        &[("axes", is(&[1, 2, 3])), ("keepdims", A::I(0))],
    );
    build.ints("two", &[-1, 1]).node("Reshape", "mean two", "column", &[]).node(
        "Add",
        "f column",
        "logits",
        &[],
    );
    build.output("logits", None);
    cases.push(Rest { name: "channels last", build, layer: "r", nhwc: true });

    for Rest { name, build, layer, nhwc } in cases {
        let mut p = load(&folder, &format!("{name}.onnx"), &build, nhwc.then_some(Layout::Nhwc));
        let x = images(3, 1, 4);
        let exact = Interpreter::new(&build.proto).unwrap();
        let one = |i: usize| {
            let shape = if nhwc { [1, 4, 4, 1] } else { [1, 1, 4, 4] };
            tensor::Tensor::floats(
                &shape,
                x.slice(i, i + 1).as_slice().iter().map(|v| f64::from(*v)).collect(),
            )
        };
        // Two variants of each image, image by image.
        let (mut data, mut expected, mut shape) = (Vec::new(), Vec::new(), Vec::new());
        for (image, factor) in (0..3).flat_map(|i| [(i, 0.5), (i, -1.25)]) {
            let x = one(image);
            let mut t = exact.run(&[("x", &x)], layer).unwrap();
            t.data.iter_mut().enumerate().for_each(|(k, v)| *v = *v * factor + 0.01 * k as f64);
            data.extend(t.data.iter().map(|v| *v as f32));
            let logits = exact.run(&[("x", &x), (layer, &t)], "logits").unwrap();
            expected.push(logits.data[image % logits.data.len()]);
            shape = t.shape;
        }
        shape[0] = 6;
        let columns = p.info().classes.len();
        let classes: Vec<usize> = (0..3).map(|i| i % columns).collect();
        let given = Tensor::new(shape, data).unwrap();
        let g = p.gradients().unwrap();
        let found = g.scores_with(&x, layer, &given, &classes, ScoreKind::Logit).unwrap();
        assert_eq!(found.len(), 6, "{name}");
        for (f, e) in found.iter().zip(&expected) {
            assert!((f64::from(*f) - e).abs() < 1e-4, "{name}: {found:?}, expected {expected:?}");
        }
    }
}

/// Tensors that do not keep the images apart have no activations of an image.
#[test]
fn layers_that_mix_the_images_are_refused() {
    let folder = Folder::new("mixed");
    for batch in [0, 1] {
        let mut b = Build::new(17, &[batch, 1, 4, 4]);
        // Windows of 2 x 2: four for each image, on the first axis.
        b.ints("apart", &[-1, 2, 2, 2, 2]).ints("windows", &[-1, 1, 2, 2]).ints("back", &[-1, 4]);
        b.node("Reshape", "x apart", "a", &[]).node("Transpose", "a", "t", &[("perm", is(&[0, 1, 3, 2, 4]))]);
        b.node("Reshape", "t windows", "w", &[]).node("Relu", "w", "r", &[]);
        b.node("GlobalAveragePool", "r", "p", &[])
            .node("Reshape", "p back", "logits", &[])
            .output("logits", None);
        let constant = shiftlens_onnx::proto::AttributeProto {
            name: Some("value".into()),
            r#type: Some(shiftlens_onnx::proto::attribute_type::TENSOR),
            t: Some(Box::new(shiftlens_onnx::constant::float_tensor("", &[], &[2.0]))),
            ..Default::default()
        };
        b.node("Constant", "", "two", &[]);
        b.proto.graph.as_mut().unwrap().node.last_mut().unwrap().attribute = vec![constant];
        let mut p = load(&folder, "windows.onnx", &b, None);
        let g = p.gradients().unwrap();
        let x = images(1, 1, 4);
        for (layer, shape) in [("r", vec![4, 1, 2, 2]), ("two", vec![])] {
            let given = Tensor::new(shape.clone(), vec![0.5; shape.iter().product()]).unwrap();
            let e = g.scores_with(&x, layer, &given, &[0], ScoreKind::Logit).unwrap_err().to_string();
            assert!(e.contains(&format!("\"{layer}\"")) && e.contains("first axis"), "{e}");
            let request =
                GradientRequest { layers: vec![layer.into()], classes: vec![0], ..Default::default() };
            let e = g.gradients(&x, &request).unwrap_err().to_string();
            assert!(e.contains(&format!("\"{layer}\"")) && e.contains("first axis"), "{e}");
        }
        let one = Tensor::new(vec![1, 3], vec![0.0; 3]).unwrap();
        let e = g.scores_with(&x, "logits", &one, &[0], ScoreKind::Logit).unwrap_err().to_string();
        assert!(e.contains("\"logits\"") && e.contains("4]"), "{e}");
    }
}

#[test]
fn two_inputs_are_refused_where_a_model_is_read() {
    let folder = Folder::new("inputs");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    let graph = b.proto.graph.as_mut().unwrap();
    let mut second = graph.input[0].clone();
    second.name = Some("age".into());
    graph.input.push(second);
    b.node("Add", "x age", "z", &[]).node("GlobalAveragePool", "z", "p", &[]).node(
        "Flatten",
        "p",
        "logits",
        &[],
    );
    b.output("logits", None);
    let path = folder.write("two.onnx", &b.bytes());
    let e = OnnxPredictor::load(&PredictorConfig { path, ..Default::default() }).err().unwrap().to_string();
    assert!(e.contains("\"x\"") && e.contains("\"age\""), "{e}");
}

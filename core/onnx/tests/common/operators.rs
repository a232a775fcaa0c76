//! Every gradient rule against central differences: a small network around one operator.

use super::build::{A, Build, Folder};
use super::relative_l2;
use shiftlens_api::{GradientRequest, Images, Predictor};
use shiftlens_onnx::backend::Session;
use shiftlens_onnx::{Activation, InputSpec, Layout, OnnxPredictor, OutputSpec, PredictorConfig};

const SHAPE: [usize; 3] = [3, 6, 6];
/// Step of the differences in image values; the network sees four times it.
const STEP: f32 = 2e-3;

type Case = (&'static str, i64, fn(&mut Build));

fn is(v: &[i64]) -> A {
    A::Is(v.to_vec())
}

/// Unary operators of `x` in [-2, 2], or of `p` in [0.5, 4.5].
const UNARY: &[(&str, &str, i64)] = &[
    ("Abs", "x", 17),
    ("Celu", "x", 17),
    ("Cos", "x", 17),
    ("Elu", "x", 17),
    ("Erf", "x", 17),
    ("Exp", "x", 17),
    ("HardSigmoid", "x", 17),
    ("HardSwish", "x", 17),
    ("Identity", "x", 17),
    ("LeakyRelu", "x", 17),
    ("Log", "p", 17),
    ("LogSoftmax", "x", 17),
    ("LogSoftmax", "x", 11),
    ("Neg", "x", 17),
    ("Reciprocal", "p", 17),
    ("Relu", "x", 17),
    ("Selu", "x", 17),
    ("Sigmoid", "x", 17),
    ("Sin", "x", 17),
    ("Softmax", "x", 17),
    ("Softmax", "x", 11),
    ("Softplus", "x", 17),
    ("Softsign", "x", 17),
    ("Sqrt", "p", 17),
    ("Tanh", "x", 17),
    ("GlobalAveragePool", "x", 17),
    ("GlobalMaxPool", "x", 17),
    ("Flatten", "x", 17),
];

/// Each writes `y` from `x` (`[N, 3, 6, 6]`).
const CASES: &[Case] = &[
    ("add, broadcast and twice", 17, |b| {
        b.random("c", &[3, 1, 1]).node("Add", "x c", "a", &[]).node("Add", "a x", "y", &[]);
    }),
    ("sub, mul, div between tensors", 17, |b| {
        b.floats("three", &[], &[3.0])
            .node("ReduceMean", "x", "m", &[("axes", is(&[2, 3])), ("keepdims", A::I(1))])
            .node("Sub", "x m", "d", &[])
            .node("Add", "m three", "q", &[])
            .node("Div", "d q", "r", &[])
            .node("Mul", "r m", "y", &[]);
    }),
    ("pow", 17, |b| {
        b.floats("three", &[], &[3.0]).node("Pow", "x three", "y", &[]);
    }),
    ("max, min, sum, mean", 17, |b| {
        b.floats("c", &[1, 1], &[0.29])
            .node("Max", "x c", "a", &[])
            .node("Neg", "x", "n", &[])
            .node("Min", "x n", "i", &[])
            .node("Sum", "a i x", "s", &[])
            .node("Mean", "s a", "y", &[]);
    }),
    ("where", 17, |b| {
        b.floats("zero", &[], &[0.0])
            .node("Greater", "x zero", "c", &[])
            .node("Sigmoid", "x", "s", &[])
            .node("Where", "c s x", "y", &[]);
    }),
    ("clip with inputs", 17, |b| {
        b.floats("low", &[], &[-0.72]).floats("high", &[], &[1.12]).node("Clip", "x low high", "y", &[]);
    }),
    ("clip with attributes", 10, |b| {
        b.node("Clip", "x", "y", &[("min", A::F(-0.72)), ("max", A::F(1.12))]);
    }),
    ("prelu", 17, |b| {
        b.random("s", &[3, 1, 1]).node("PRelu", "x s", "y", &[]);
    }),
    ("conv, plain", 17, |b| {
        b.random("w", &[4, 3, 3, 3]).random("c", &[4]).node("Conv", "x w c", "y", &[]);
    }),
    ("conv, strides, uneven pads, unreached pixels", 17, |b| {
        b.random("w", &[4, 3, 3, 2]).node(
            "Conv",
            "x w",
            "y",
            &[("strides", is(&[2, 3])), ("pads", is(&[0, 1, 1, 0]))],
        );
    }),
    ("conv, groups and dilation", 17, |b| {
        b.random("w", &[6, 1, 3, 3]).node(
            "Conv",
            "x w",
            "y",
            &[("group", A::I(3)), ("dilations", is(&[2, 1])), ("pads", is(&[2, 1, 2, 1]))],
        );
    }),
    ("conv, 1x1 with stride", 17, |b| {
        b.random("w", &[5, 3, 1, 1]).node("Conv", "x w", "y", &[("strides", is(&[2, 2]))]);
    }),
    ("conv, auto_pad", 17, |b| {
        b.random("w", &[4, 3, 3, 3])
            .random("v", &[2, 4, 2, 2])
            .node("Conv", "x w", "a", &[("auto_pad", A::S("SAME_UPPER")), ("strides", is(&[2, 2]))])
            .node("Conv", "a v", "y", &[("auto_pad", A::S("SAME_LOWER"))]);
    }),
    ("conv transpose", 17, |b| {
        b.random("w", &[3, 2, 3, 3]).node(
            "ConvTranspose",
            "x w",
            "y",
            &[("strides", is(&[2, 2])), ("pads", is(&[1, 1, 1, 1])), ("output_padding", is(&[1, 1]))],
        );
    }),
    ("batch normalisation", 17, |b| {
        b.random("s", &[3]).random("c", &[3]).random("m", &[3]).floats("v", &[3], &[0.5, 1.5, 2.5]).node(
            "BatchNormalization",
            "x s c m v",
            "y",
            &[],
        );
    }),
    ("layer normalisation", 17, |b| {
        b.random("s", &[6, 6]).random("c", &[6, 6]).node(
            "LayerNormalization",
            "x s c",
            "y",
            &[("axis", A::I(2))],
        );
    }),
    ("instance normalisation", 17, |b| {
        b.random("s", &[3]).random("c", &[3]).node("InstanceNormalization", "x s c", "y", &[]);
    }),
    ("max pool, tiles", 17, |b| {
        b.node("MaxPool", "x", "y", &[("kernel_shape", is(&[2, 3])), ("strides", is(&[2, 3]))]);
    }),
    ("max pool, overlapping and padded", 17, |b| {
        b.node(
            "MaxPool",
            "x",
            "y",
            &[("kernel_shape", is(&[3, 3])), ("strides", is(&[2, 2])), ("pads", is(&[1, 1, 1, 1]))],
        );
    }),
    ("max pool, ceil_mode", 17, |b| {
        b.node(
            "MaxPool",
            "x",
            "y",
            &[("kernel_shape", is(&[3, 3])), ("strides", is(&[2, 2])), ("ceil_mode", A::I(1))],
        );
    }),
    ("average pool, padding not counted", 17, |b| {
        b.node(
            "AveragePool",
            "x",
            "y",
            &[("kernel_shape", is(&[3, 3])), ("strides", is(&[2, 2])), ("pads", is(&[1, 1, 1, 1]))],
        );
    }),
    ("average pool, padding counted", 17, |b| {
        b.node(
            "AveragePool",
            "x",
            "y",
            &[("kernel_shape", is(&[3, 2])), ("pads", is(&[1, 0, 1, 1])), ("count_include_pad", A::I(1))],
        );
    }),
    ("reductions, attribute axes", 11, |b| {
        b.node("ReduceMean", "x", "a", &[("axes", is(&[2])), ("keepdims", A::I(0))])
            .node("ReduceMax", "x", "m", &[("axes", is(&[-1])), ("keepdims", A::I(0))])
            .node("ReduceSum", "x", "s", &[("axes", is(&[3])), ("keepdims", A::I(0))])
            .node("Mul", "a m", "t", &[])
            .node("Mul", "t s", "y", &[]);
    }),
    ("reductions, input axes", 18, |b| {
        b.ints("h", &[2])
            .ints("w", &[3])
            .node("ReduceMean", "x h", "a", &[("keepdims", A::I(1))])
            .node("ReduceMin", "x w", "m", &[("keepdims", A::I(1))])
            .node("ReduceSum", "x h", "s", &[("keepdims", A::I(1))])
            .node("ReduceL2", "x w", "l", &[("keepdims", A::I(1))])
            .node("ReduceSumSquare", "x w", "q", &[("keepdims", A::I(1))])
            .node("Mul", "a m", "t", &[])
            .node("Mul", "s l", "u", &[])
            .node("Add", "t u", "v", &[])
            .node("Add", "v q", "y", &[]);
    }),
    ("gemm", 17, |b| {
        b.random("w", &[5, 108]).random("c", &[5]).node("Flatten", "x", "f", &[]).node(
            "Gemm",
            "f w c",
            "y",
            &[("transB", A::I(1)), ("alpha", A::F(0.5)), ("beta", A::F(2.0))],
        );
    }),
    ("gemm, plain", 17, |b| {
        b.random("w", &[108, 5]).node("Flatten", "x", "f", &[]).node("Gemm", "f w", "y", &[]);
    }),
    ("matmul of two tensors, and by a vector", 17, |b| {
        b.random("v", &[6])
            .random("w", &[6, 4])
            .node("Transpose", "x", "t", &[("perm", is(&[0, 1, 3, 2]))])
            .node("MatMul", "x t", "a", &[])
            .node("MatMul", "a w", "m", &[])
            .node("MatMul", "x v", "q", &[])
            .ints("last", &[3])
            .node("Unsqueeze", "q last", "u", &[])
            .node("Mul", "m u", "y", &[]);
    }),
    ("concat, slice, split", 17, |b| {
        b.ints("from", &[1, -2])
            .ints("to", &[6, -8])
            .ints("axes", &[2, 3])
            .ints("steps", &[2, -1])
            .node("Slice", "x from to axes steps", "s", &[])
            .ints("a", &[0])
            .ints("e", &[3])
            .ints("ax", &[-2])
            .node("Slice", "x a e ax", "t", &[])
            .ints("parts", &[4, 2])
            .node("Split", "t parts", "u v", &[("axis", A::I(3))])
            .ints("cut", &[5])
            .ints("zero", &[0])
            .ints("three", &[3])
            .node("Slice", "s zero cut three", "w", &[])
            .node("Concat", "w v", "k", &[("axis", A::I(3))])
            .node("Concat", "k k", "y", &[("axis", A::I(1))]);
    }),
    ("gather", 17, |b| {
        b.ints("some", &[4, 0, 4, -1])
            .node("Gather", "x some", "a", &[("axis", A::I(2))])
            .ints("one", &[1])
            .node("Gather", "a one", "y", &[("axis", A::I(1))]);
    }),
    ("pads", 17, |b| {
        b.ints("pads", &[0, 0, 1, 2, 0, 0, 2, 1])
            .floats("v", &[], &[0.3])
            .node("Pad", "x pads v", "a", &[])
            .node("Pad", "a pads", "r", &[("mode", A::S("reflect"))])
            .node("Pad", "r pads", "y", &[("mode", A::S("edge"))]);
    }),
    ("expand, squeeze, unsqueeze, reshape", 17, |b| {
        b.node("ReduceMean", "x", "m", &[("axes", is(&[3])), ("keepdims", A::I(1))])
            .ints("to", &[1, 1, 1, 4])
            .node("Expand", "m to", "e", &[])
            .ints("s", &[0, 2, 9, 4])
            .node("Reshape", "e s", "r", &[])
            .ints("one", &[1])
            .node("Unsqueeze", "r one", "u", &[])
            .node("Squeeze", "u one", "q", &[])
            .node("Mul", "q r", "y", &[]);
    }),
    ("depth to space, both orders", 17, |b| {
        b.random("w", &[8, 3, 1, 1])
            .node("Conv", "x w", "c", &[])
            .node("DepthToSpace", "c", "d", &[("blocksize", A::I(2)), ("mode", A::S("DCR"))])
            .node("SpaceToDepth", "d", "s", &[("blocksize", A::I(2))])
            .node("DepthToSpace", "s", "y", &[("blocksize", A::I(2)), ("mode", A::S("CRD"))]);
    }),
    ("resize, nearest", 17, |b| {
        b.floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5]).node(
            "Resize",
            "x _ scales",
            "y",
            &[("coordinate_transformation_mode", A::S("asymmetric")), ("nearest_mode", A::S("floor"))],
        );
    }),
    ("resize, linear", 17, |b| {
        b.floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5]).node(
            "Resize",
            "x _ scales",
            "y",
            &[("mode", A::S("linear"))],
        );
    }),
    ("resize, corners", 17, |b| {
        b.floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5]).node(
            "Resize",
            "x _ scales",
            "y",
            &[("mode", A::S("linear")), ("coordinate_transformation_mode", A::S("align_corners"))],
        );
    }),
    ("resize, cubic", 17, |b| {
        b.floats("scales", &[4], &[1.0, 1.0, 2.0, 1.5]).node(
            "Resize",
            "x _ scales",
            "y",
            &[("mode", A::S("cubic"))],
        );
    }),
    ("gelu", 20, |b| {
        b.node("Gelu", "x", "a", &[]).node("Gelu", "a", "y", &[("approximate", A::S("tanh"))]);
    }),
    ("dropout and cast", 17, |b| {
        b.node("Dropout", "x", "d", &[]).node("Cast", "d", "y", &[("to", A::I(1))]);
    }),
];

/// A network of `write` and a random linear head with two logits.
fn network(opset: i64, write: &dyn Fn(&mut Build)) -> Result<Build, String> {
    let make = || {
        let mut b = Build::new(opset, &[0, SHAPE[0], SHAPE[1], SHAPE[2]]);
        b.floats("shift", &[], &[2.5]).node("Add", "x shift", "p", &[]);
        write(&mut b);
        b
    };
    let mut plain = make();
    plain.output("y", None);
    let mut session =
        Session::new(&plain.bytes(), &["y".to_owned()], Some(1), "forward").map_err(|e| e.to_string())?;
    let shape = [2, SHAPE[0], SHAPE[1], SHAPE[2]];
    let y = session
        .run_floats(&[("x", &shape, &vec![0.1; shape.iter().product()])])
        .map_err(|e| e.to_string())?;
    let size = y[0].shape()[1..].iter().product();
    let mut b = make();
    b.node("Flatten", "y", "head_flat", &[])
        .random("head", &[size, 2])
        .node("MatMul", "head_flat head", "logits", &[])
        .output("logits", Some(&[0, 2]));
    Ok(b)
}

/// Relative L2 distance of the gradient and central differences of the two logits at two images.
fn error_of(folder: &Folder, name: &str, b: &Build) -> shiftlens_api::Result<f32> {
    let path = folder.write(&format!("{}.onnx", name.replace([' ', ',', '/'], "_")), &b.bytes());
    let mut p = OnnxPredictor::load(&PredictorConfig {
        path,
        input: InputSpec {
            layout: Some(Layout::Nchw),
            scale: Some(4.0),
            mean: vec![2.0],
            ..Default::default()
        },
        output: OutputSpec { activation: Some(Activation::None), ..Default::default() },
        threads: Some(1),
        batch: Some(512),
        ..Default::default()
    })?;
    let size: usize = SHAPE.iter().product();
    // Levels 0.009 apart in mixed order: no step of the differences crosses a kink at 0 or swaps two pixels.
    let level = |i: usize| if i < size { i * 37 + 11 } else { i * 65 + 5 } % size;
    let base: Vec<f32> = (0..2 * size).map(|i| 0.01 + 0.98 * (level(i) as f32 + 0.5) / size as f32).collect();
    let shape = [2, SHAPE[0], SHAPE[1], SHAPE[2]];
    let x = Images::new(shape, base.clone())?;
    let mut moved = Vec::new();
    for i in 0..2 * size {
        for sign in [1.0, -1.0] {
            let mut image = base[i / size * size..(i / size + 1) * size].to_vec();
            image[i % size] += sign * STEP;
            moved.extend(image);
        }
    }
    let scores = p.predict(&Images::new([4 * size, SHAPE[0], SHAPE[1], SHAPE[2]], moved)?)?;
    let mut worst = 0f32;
    for class in 0..2 {
        let differences: Vec<f32> = (0..2 * size)
            .map(|i| (scores.row(2 * i)[class] - scores.row(2 * i + 1)[class]) / (2.0 * STEP))
            .collect();
        let request = GradientRequest { input_gradient: true, classes: vec![class], ..Default::default() };
        let g = p.gradients().unwrap().gradients(&x, &request)?.input_gradient.unwrap();
        worst = worst.max(relative_l2(g.as_slice(), &differences));
    }
    Ok(worst)
}

/// Checks all rules; `cannot` names cases that the backend itself cannot run.
pub fn check_rules(backend: &str, cannot: &[&str]) {
    let folder = Folder::new(&format!("rules-{backend}"));
    let mut wrong = Vec::new();
    let mut check = |name: &str, opset: i64, write: &dyn Fn(&mut Build)| {
        let b = match network(opset, write) {
            Ok(b) => b,
            Err(e) if cannot.contains(&name) => {
                println!("{name}: not run by this backend ({e})");
                return;
            }
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                return;
            }
        };
        match error_of(&folder, name, &b) {
            Ok(e) if e < 5e-3 => println!("{name}: {e}"),
            Ok(e) => wrong.push(format!("{name}: relative error {e}")),
            Err(e) => wrong.push(format!("{name}: {e}")),
        }
    };
    for (op, input, opset) in UNARY {
        check(&format!("{op} in operator set {opset}"), *opset, &|b: &mut Build| {
            b.node(op, input, "y", &[]);
        });
    }
    for (name, opset, write) in CASES {
        check(name, *opset, write);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Predictor, generator and encoder: what is read from the model, what the manifest says, and their contradictions.

mod common;

use common::build::{Build, Folder};
use shiftlens_api::{Encoder, Error, Generator, GradientRequest, Images, Predictor, ScoreKind};
use shiftlens_onnx::{
    Activation, Declared, EncoderConfig, GeneratorConfig, InputSpec, Layout, OnnxEncoder, OnnxGenerator,
    OnnxPredictor, OutputSpec, PredictorConfig,
};
use std::path::Path;

/// Mean brightness of a grey 4x4 image, times 4, minus 2, then `end`; `columns` copies with rising factors.
fn brightness(batch: usize, end: &str, columns: usize) -> Build {
    let mut b = Build::new(17, &[batch, 1, 4, 4]);
    let factors: Vec<f32> = (1..=columns).map(|k| k as f32).collect();
    b.floats("w", &[1, columns], &factors)
        .floats("four", &[], &[4.0])
        .floats("two", &[], &[2.0])
        .node("Relu", "x", "map", &[])
        .node("GlobalAveragePool", "map", "mean", &[])
        .node("Flatten", "mean", "flat", &[])
        .node("Mul", "flat four", "quad", &[])
        .node("Sub", "quad two", "z", &[])
        .node("MatMul", "z w", if end.is_empty() { "out" } else { "logits" }, &[]);
    if !end.is_empty() {
        b.node(end, "logits", "out", &[]);
    }
    b.output("out", Some(&[batch, columns]));
    b
}

fn load(path: &Path, output: OutputSpec) -> shiftlens_api::Result<OnnxPredictor> {
    OnnxPredictor::load(&PredictorConfig {
        path: path.into(),
        output,
        threads: Some(1),
        ..Default::default()
    })
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn greys(levels: &[f32]) -> Images {
    Images::new([levels.len(), 1, 4, 4], levels.iter().flat_map(|v| [*v; 16]).collect()).unwrap()
}

fn logistic(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

#[test]
fn one_sigmoid_column_is_two_classes_or_one() {
    let folder = Folder::new("sigmoid");
    let x = greys(&[0.25, 0.75, 0.5]);
    for (file, end) in [("raw.onnx", ""), ("sigmoid.onnx", "Sigmoid")] {
        let path = folder.write(file, &brightness(0, end, 1).bytes());
        let mut p =
            load(&path, OutputSpec { classes: names(&["dark", "bright"]), ..Default::default() }).unwrap();
        assert_eq!((p.target(), p.info().classes.len()), (Some(1), 2));
        let s = p.predict(&x).unwrap();
        for (i, z) in [-1.0, 1.0, 0.0].into_iter().enumerate() {
            assert!((s.row(i)[1] - logistic(z)).abs() < 1e-6 && (s.row(i)[0] - logistic(-z)).abs() < 1e-6);
        }
        // Both kinds of score, both classes, against the closed form: d z / d pixel = 4 / 16.
        for (class, sign) in [(0, -1.0f32), (1, 1.0)] {
            let mut request = GradientRequest {
                layers: vec![String::new()],
                layer_gradients: true,
                input_gradient: true,
                classes: vec![class],
                score: ScoreKind::Logit,
            };
            let g = p.gradients().unwrap().gradients(&x, &request).unwrap();
            assert!((g.scores[0] + sign).abs() < 1e-6);
            assert!(g.input_gradient.unwrap().as_slice().iter().all(|v| (v - sign * 0.25).abs() < 1e-6));
            assert_eq!(g.gradients[0].shape(), [3, 1, 4, 4]);
            request.score = ScoreKind::Probability;
            let g = p.gradients().unwrap().gradients(&x, &request).unwrap();
            let slope = logistic(1.0) * logistic(-1.0) * 0.25;
            assert!((g.scores[0] - logistic(-sign)).abs() < 1e-6);
            assert!((g.input_gradient.unwrap().as_slice()[0] - sign * slope).abs() < 1e-6);
        }
        let one = load(&path, OutputSpec { classes: names(&["bright"]), ..Default::default() }).unwrap();
        assert_eq!((one.target(), one.info().classes), (Some(0), names(&["bright"])));
        assert!(one.inferred().iter().any(|s| s.contains("output.activation")), "{:?}", one.inferred());
    }
}

#[test]
fn a_fixed_batch_is_padded_and_checked() {
    let folder = Folder::new("batch");
    let path = folder.write("m.onnx", &brightness(2, "", 3).bytes());
    let mut p = load(&path, OutputSpec::default()).unwrap();
    let levels = [0.1, 0.9, 0.3, 0.7, 0.5];
    let all = p.predict(&greys(&levels)).unwrap();
    for (i, v) in levels.iter().enumerate() {
        let e: Vec<f32> = (1..=3).map(|k| (k as f32 * (4.0 * v - 2.0)).exp()).collect();
        let sum: f32 = e.iter().sum();
        assert!(all.row(i).iter().zip(&e).all(|(s, e)| (s - e / sum).abs() < 1e-5));
    }
    let request =
        GradientRequest { input_gradient: true, classes: vec![2, 0, 1, 2, 0], ..Default::default() };
    let g = p.gradients().unwrap().gradients(&greys(&levels), &request).unwrap();
    let d = g.input_gradient.unwrap();
    assert_eq!(d.shape(), [5, 1, 4, 4]);
    for (i, k) in [3.0, 1.0, 2.0, 3.0, 1.0].into_iter().enumerate() {
        assert!((d.as_slice()[i * 16] - k * 0.25).abs() < 1e-6);
        assert!((g.scores[i] - k * (4.0 * levels[i] - 2.0)).abs() < 1e-5);
    }
    let config = PredictorConfig { path, batch: Some(7), ..Default::default() };
    let e = OnnxPredictor::load(&config).err().unwrap().to_string();
    assert!(e.contains("batch = 7") && e.contains("fixed to 2"), "{e}");
}

#[test]
fn contradictions_name_both_sides() {
    let folder = Folder::new("contradictions");
    let raw = folder.write("raw.onnx", &brightness(0, "", 3).bytes());
    let soft = folder.write("soft.onnx", &brightness(0, "Softmax", 3).bytes());
    let message = |config: PredictorConfig| OnnxPredictor::load(&config).err().unwrap().to_string();
    let input = |input: InputSpec| PredictorConfig { path: raw.clone(), input, ..Default::default() };
    let output =
        |path: &Path, output: OutputSpec| PredictorConfig { path: path.into(), output, ..Default::default() };
    for (config, words) in [
        (input(InputSpec { size: Some([8, 8]), ..Default::default() }), vec!["size = 8", "[batch, 1, 4, 4]"]),
        (
            input(InputSpec { channels: Some(3), ..Default::default() }),
            vec!["channels = 3", "[batch, 1, 4, 4]"],
        ),
        (input(InputSpec { name: Some("image".into()), ..Default::default() }), vec!["\"image\"", "\"x\""]),
        (input(InputSpec { std: vec![0.0], ..Default::default() }), vec!["std"]),
        (input(InputSpec { mean: vec![0.0; 2], ..Default::default() }), vec!["mean has 2 values"]),
        (
            input(InputSpec { layout: Some(Layout::Nhwc), ..Default::default() }),
            vec!["4 channels", "Nhwc", "expected 1 (grey) or 3"],
        ),
        (
            output(&soft, OutputSpec { activation: Some(Activation::Sigmoid), ..Default::default() }),
            vec!["\"sigmoid\"", "Softmax", "\"already\""],
        ),
        (
            output(&raw, OutputSpec { classes: names(&["a", "b"]), ..Default::default() }),
            vec!["2 names", "3 columns"],
        ),
        (output(&raw, OutputSpec { classes: names(&["a", "b", "a"]), ..Default::default() }), vec!["twice"]),
        (
            output(
                &raw,
                OutputSpec {
                    classes: names(&["a", "b", "c"]),
                    target: Some("d".into()),
                    ..Default::default()
                },
            ),
            vec!["\"d\"", "\"c\""],
        ),
        (output(&raw, OutputSpec { name: Some("y".into()), ..Default::default() }), vec!["\"y\"", "\"out\""]),
    ] {
        let e = message(config);
        assert!(words.iter().all(|w| e.contains(w)), "{e}");
    }
}

#[test]
fn images_are_resized_and_converted() {
    let folder = Folder::new("resize");
    let path = folder.write("m.onnx", &brightness(0, "", 1).bytes());
    let mut p = load(&path, OutputSpec { activation: Some(Activation::None), ..Default::default() }).unwrap();
    let mut rgb = vec![0.5; 2 * 3 * 9 * 5];
    rgb[135..].fill(1.0);
    let s = p.predict(&Images::new([2, 3, 9, 5], rgb).unwrap()).unwrap();
    assert!(s.as_slice()[0].abs() < 1e-5 && (s.as_slice()[1] - 2.0).abs() < 1e-5);
    assert_eq!(p.predict(&Images::new([0, 1, 4, 4], vec![]).unwrap()).unwrap().shape(), [0, 1]);
}

#[test]
fn not_a_number_and_no_probability_are_errors() {
    let folder = Folder::new("nan");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.node("GlobalAveragePool", "x", "m", &[]).node("Flatten", "m", "f", &[]).floats("half", &[], &[0.75]);
    b.node("Sub", "f half", "s", &[]).node("Sqrt", "s", "out", &[]).output("out", Some(&[0, 1]));
    let path = folder.write("nan.onnx", &b.bytes());
    let mut p = load(&path, OutputSpec { activation: Some(Activation::None), ..Default::default() }).unwrap();
    assert!(p.predict(&greys(&[1.0])).is_ok());
    let e = p.predict(&greys(&[1.0, 0.5])).unwrap_err();
    assert!(matches!(e, Error::NotFinite { .. }) && e.to_string().contains("image 1"), "{e}");

    let path = folder.write("raw.onnx", &brightness(0, "", 1).bytes());
    let mut p =
        load(&path, OutputSpec { activation: Some(Activation::Already), ..Default::default() }).unwrap();
    let e = p.predict(&greys(&[1.0])).unwrap_err().to_string();
    assert!(e.contains("already") && e.contains("promises probabilities"), "{e}");
    let request = GradientRequest { input_gradient: true, classes: vec![0], ..Default::default() };
    let e = p.gradients().unwrap().gradients(&greys(&[0.6]), &request).unwrap_err();
    assert!(matches!(e, Error::Unsupported(_)), "{e}");
    let request = GradientRequest { score: ScoreKind::Probability, ..request };
    let e = p.gradients().unwrap().gradients(&greys(&[1.0]), &request).unwrap_err().to_string();
    assert!(e.contains("promises probabilities"), "{e}");
}

/// A graph that ends in LogSoftmax has logits too: those before it. Its values are no probabilities yet.
#[test]
fn log_softmax_is_undone_by_a_softmax() {
    let folder = Folder::new("logsoftmax");
    let path = folder.write("log.onnx", &brightness(0, "LogSoftmax", 3).bytes());
    let mut p = load(&path, OutputSpec::default()).unwrap();
    let x = greys(&[0.9]);
    let e: Vec<f32> = (1..=3).map(|k| (k as f32 * 1.6).exp()).collect();
    let sum: f32 = e.iter().sum();
    let s = p.predict(&x).unwrap();
    assert!(s.row(0).iter().zip(&e).all(|(s, e)| (s - e / sum).abs() < 1e-5), "{:?}", s.row(0));
    let request = GradientRequest {
        input_gradient: true,
        classes: vec![2],
        score: ScoreKind::Logit,
        ..Default::default()
    };
    let g = p.gradients().unwrap().gradients(&x, &request).unwrap();
    assert!((g.scores[0] - 3.0 * 1.6).abs() < 1e-5, "{:?}", g.scores);
    assert!(g.input_gradient.unwrap().as_slice().iter().all(|v| (v - 3.0 * 0.25).abs() < 1e-6));
}

#[test]
fn gradients_name_what_is_missing() {
    let folder = Folder::new("unknown");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.floats("c", &[], &[0.7])
        .node("Mod", "x c", "s", &[("fmod", common::build::A::I(1))])
        .node("Relu", "s", "map", &[])
        .node("GlobalAveragePool", "map", "m", &[])
        .node("Flatten", "m", "out", &[])
        .output("out", Some(&[0, 1]));
    let path = folder.write("mod.onnx", &b.bytes());
    let mut p = load(&path, OutputSpec::default()).unwrap();
    let g = p.gradients().unwrap();
    let layers = g.layers().unwrap();
    assert_eq!(layers.iter().filter(|l| l.default).map(|l| l.name.as_str()).collect::<Vec<_>>(), ["map"]);
    assert_eq!(layers[1].shape, [Some(1), Some(4), Some(4)]);
    let x = greys(&[0.5]);
    let mut request = GradientRequest { input_gradient: true, classes: vec![0], ..Default::default() };
    let e = g.gradients(&x, &request).unwrap_err().to_string();
    assert!(["Mod", "\"s\"", "\"map\""].iter().all(|w| e.contains(w)), "{e}");
    // Above the operator it works.
    request = GradientRequest {
        layers: vec!["map".into()],
        layer_gradients: true,
        classes: vec![0],
        ..Default::default()
    };
    let out = g.gradients(&x, &request).unwrap();
    assert!(out.gradients[0].as_slice().iter().all(|v| (v - 1.0 / 16.0).abs() < 1e-7));
    request.layers = vec!["nowhere".into()];
    let e = g.gradients(&x, &request).unwrap_err().to_string();
    assert!(e.contains("\"nowhere\"") && e.contains("\"map\""), "{e}");
    request = GradientRequest { classes: vec![3], ..Default::default() };
    assert!(g.gradients(&x, &request).unwrap_err().to_string().contains("class 3"));
}

#[test]
fn generator_draws_by_seed_and_scales() {
    let folder = Folder::new("generator");
    // Two pixels of a code, as an image of 1 x 2 in [-1, 1], in either axis order.
    for (file, shape, layout) in
        [("c.onnx", [0, 1, 1, 2], Layout::Nchw), ("l.onnx", [0, 1, 2, 1], Layout::Nhwc)]
    {
        let mut b = Build::new(17, &[0, 2]);
        b.ints("shape", &shape.map(|d| d as i64)).node("Tanh", "x", "t", &[]).node(
            "Reshape",
            "t shape",
            "y",
            &[],
        );
        b.output("y", Some(&shape));
        let path = folder.write(file, &b.bytes());
        let config = GeneratorConfig { path, layout: Some(layout), batch: Some(2), ..Default::default() };
        let mut g = OnnxGenerator::load(&config).unwrap();
        let info = g.info();
        assert_eq!((info.latent_dim, info.channels, info.height, info.width), (2, 1, 1, 2));
        let w = g.sample(5, 9).unwrap();
        assert_eq!(g.sample(3, 9).unwrap().as_slice(), &w.as_slice()[..6]);
        let images = g.synthesize(&w).unwrap();
        assert_eq!(images.shape(), [5, 1, 1, 2]);
        let expected: Vec<f32> = w.as_slice().iter().map(|v| (v.tanh() + 1.0) / 2.0).collect();
        assert!(images.as_slice().iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    let config = GeneratorConfig { path: folder.0.join("c.onnx"), latent_dim: Some(3), ..Default::default() };
    let e = OnnxGenerator::load(&config).err().unwrap().to_string();
    assert!(e.contains("latent-dim = 3") && e.contains("[batch, 2]"), "{e}");
}

#[test]
fn encoder_answers_codes_of_w_and_w_plus() {
    let folder = Folder::new("encoder");
    for (file, shape) in [("w.onnx", vec![0, 16]), ("wplus.onnx", vec![0, 4, 4])] {
        let mut b = Build::new(17, &[0, 1, 4, 4]);
        b.ints("shape", &shape.iter().map(|d| *d as i64).collect::<Vec<_>>()).node(
            "Reshape",
            "x shape",
            "w",
            &[],
        );
        b.output("w", Some(&shape));
        let config = EncoderConfig {
            path: folder.write(file, &b.bytes()),
            input: InputSpec { mean: vec![0.5], ..Default::default() },
            batch: Some(2),
            ..Default::default()
        };
        let mut e = OnnxEncoder::load(&config).unwrap();
        let w = e.encode(&greys(&[0.0, 0.5, 1.0])).unwrap();
        assert_eq!(w.shape(), if shape.len() == 2 { [3, 1, 16] } else { [3, 4, 4] });
        assert!(w.code(0).iter().all(|v| *v == -0.5) && w.code(2).iter().all(|v| *v == 0.5));
    }
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.node("Relu", "x", "w", &[]).output("w", None);
    let path = folder.write("image.onnx", &b.bytes());
    let e = OnnxEncoder::load(&EncoderConfig { path, ..Default::default() }).err().unwrap();
    assert!(matches!(e, Error::Shape { .. }), "{e}");
}

#[test]
fn default_layers_are_the_last_feature_maps() {
    for (file, expected) in [
        ("resnet_tiny.onnx", "/layer3/relu_1/Relu_output_0"),
        ("nhwc_input.onnx", "/f/f.3/f.3.2/Relu_output_0"),
        ("regression.onnx", "/f/f.8/Mul_5_output_0"),
        ("sigmoid_multilabel.onnx", "/f/f.7/Softplus_output_0"),
    ] {
        let case = common::Case::read(&common::fixtures(), file).unwrap();
        let mut p = case.predictor();
        let layers = p.gradients().unwrap().layers().unwrap();
        let default: Vec<&str> = layers.iter().filter(|l| l.default).map(|l| l.name.as_str()).collect();
        assert_eq!(default, [expected], "{file}");
        assert_eq!(case.layer(), expected);
    }
}

#[test]
fn wrong_keys_are_refused() {
    let wrong = r#"{ "path": "a.onnx", "input": { "mena": [0.5] } }"#;
    let e = serde_json::from_str::<PredictorConfig>(wrong).unwrap_err().to_string();
    assert!(e.contains("mena") && e.contains("mean"), "{e}");
    let config: GeneratorConfig =
        serde_json::from_str(r#"{ "path": "g.onnx", "latent-dim": 64, "range": [0, 1], "layout": "nhwc" }"#)
            .unwrap();
    assert_eq!((config.latent_dim, config.layout), (Some(64), Some(Layout::Nhwc)));
}

#[test]
fn a_file_declares_what_it_knows() {
    let folder = Folder::new("declared");
    let declared =
        |file: &str, build: &Build, layout| Declared::read(&folder.write(file, &build.bytes()), layout);
    let d = declared("grey.onnx", &brightness(0, "Sigmoid", 2), None).unwrap();
    assert_eq!((d.layout, d.channels, d.size), (Some(Layout::Nchw), Some(1), [Some(4), Some(4)]));
    assert_eq!((d.input.as_str(), d.shape.as_str()), ("x", "[batch, 1, 4, 4]"));
    assert_eq!(d.outputs, [("out".to_owned(), "[batch, 2]".to_owned())]);
    let mut nhwc = Build::new(17, &[0, 5, 0, 3]);
    nhwc.node("Relu", "x", "y", &[]).output("y", None);
    let d = declared("nhwc.onnx", &nhwc, None).unwrap();
    assert_eq!((d.layout, d.channels, d.size), (Some(Layout::Nhwc), Some(3), [Some(5), None]));
    assert_eq!(d.outputs[0].1, "not declared");
    // Nothing but the weight tells the channels, and nothing the axes of the next.
    let mut conv = Build::new(17, &[0, 0, 0, 0]);
    conv.random("w", &[2, 3, 1, 1]).node("Conv", "x w", "y", &[]).output("y", None);
    let d = declared("conv.onnx", &conv, None).unwrap();
    assert_eq!((d.layout, d.channels, d.size), (Some(Layout::Nchw), Some(3), [None, None]));
    let mut open = Build::new(17, &[0, 3, 8, 3]);
    open.node("Relu", "x", "y", &[]).output("y", None);
    let d = declared("open.onnx", &open, None).unwrap();
    assert_eq!((d.layout, d.channels, d.size), (None, None, [None, None]));
    let d = declared("open.onnx", &open, Some(Layout::Nhwc)).unwrap();
    assert_eq!((d.layout, d.channels, d.size), (Some(Layout::Nhwc), Some(3), [Some(3), Some(8)]));
    let mut flat = Build::new(17, &[0, 12]);
    flat.node("Relu", "x", "y", &[]).output("y", None);
    let e = declared("flat.onnx", &flat, None).unwrap_err();
    assert!(matches!(e, Error::Unsupported(_)) && e.to_string().contains("[batch, 12]"), "{e}");
}

//! Features and pullbacks against float64, and what is refused. Every check runs on both backends.

mod oracle;

use crate::common::build::{A, Build, Folder};
use oracle::Oracle;
use shiftlens_api::resize::Filter;
use shiftlens_api::{Error, FeatureNetwork, Tensor};
use shiftlens_onnx::proto::{DimensionValue, TypeValue};
use shiftlens_onnx::{FeaturesConfig, InputSpec, OnnxFeatures};

/// A pseudo-random number in [-1, 1).
fn value(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 40) as f32 / (1u64 << 23) as f32) - 1.0
}

/// Images whose values leave [0, 1] on both sides: a generator's do.
fn images(shape: [usize; 4]) -> Tensor {
    Tensor::new(shape.to_vec(), (0..shape.iter().product()).map(|i| 0.5 + 0.9 * value(i)).collect()).unwrap()
}

/// Two convolutions, a vector and two logits; smooth everywhere. 0 in `shape` stands for a free axis.
fn network(shape: [usize; 4], head: &str) -> Build {
    let channels = shape[1];
    let mut b = Build::new(17, &shape);
    let same = || ("auto_pad", A::S("SAME_UPPER"));
    let convolution =
        |kernel: i64| vec![("kernel_shape", A::Is(vec![kernel; 2])), ("strides", A::Is(vec![2, 2])), same()];
    b.random("w1", &[4, channels, 3, 3]).random("w2", &[6, 4, 3, 3]).random("w3", &[6, 2]).random("b3", &[2]);
    b.node("Conv", "x w1", "c1", &convolution(3)).node("Tanh", "c1", "map4", &[]);
    b.node("Conv", "map4 w2", "c2", &convolution(3)).node("Sigmoid", "c2", "map6", &[]);
    match head {
        "linear" => {
            b.node("GlobalAveragePool", "map6", "mean", &[]).node("Flatten", "mean", "vector", &[]);
            b.node("Gemm", "vector w3 b3", "logits", &[]).node(
                "Softmax",
                "logits",
                "y",
                &[("axis", A::I(1))],
            );
        }
        "spatial" => {
            // Classifies each place and averages, as fully convolutional classifiers do.
            b.random("w4", &[2, 6, 1, 1]).node("Conv", "map6 w4", "places", &[]);
            b.node("GlobalAveragePool", "places", "mean", &[]).node("Flatten", "mean", "y", &[]);
        }
        other => panic!("{other}"),
    }
    b.output("y", Some(&[0, 2]));
    name_axes(&mut b);
    b
}

/// Free axes of the input under names of their own.
fn name_axes(b: &mut Build) {
    let input = &mut b.proto.graph.as_mut().unwrap().input[0];
    let Some(TypeValue::TensorType(t)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        panic!()
    };
    for (d, name) in t.shape.as_mut().unwrap().dim.iter_mut().zip(["n", "c", "h", "w"]) {
        if matches!(d.value, Some(DimensionValue::DimParam(_))) {
            d.value = Some(DimensionValue::DimParam(name.into()));
        }
    }
}

fn names(n: &[&str]) -> Vec<String> {
    n.iter().map(|n| (*n).to_owned()).collect()
}

fn cotangents(shapes: &[Vec<usize>]) -> Vec<Tensor> {
    let one = |(k, s): (usize, &Vec<usize>)| {
        Tensor::new(s.clone(), (0..s.iter().product()).map(|i| value(31 * i + 7 * k)).collect()).unwrap()
    };
    shapes.iter().enumerate().map(one).collect()
}

/// Largest difference relative to the largest expected value.
fn relative(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let top = expected.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    assert!(top > 1e-3, "all expected values are {top}: nothing would be shown");
    found.iter().zip(expected).fold(0.0, |a: f64, (f, e)| a.max((f64::from(*f) - e).abs())) / top
}

/// Features and pullback of one configuration against the oracle.
fn compare(folder: &Folder, b: &Build, config: FeaturesConfig, x: &Tensor, oracle: Oracle<'_>) {
    let path = folder.write("m.onnx", &b.bytes());
    let shape = x.shape().to_vec();
    let config = FeaturesConfig { path, threads: Some(1), ..config };
    let mut phi = OnnxFeatures::open(&config, shape[1], (shape[2], shape[3])).unwrap();
    let info = phi.info();
    assert_eq!((info.channels, info.size), (shape[1], (shape[2], shape[3])));
    let exact: Vec<f64> = x.as_slice().iter().map(|v| f64::from(*v)).collect();
    let expected = oracle.features(&exact, &shape);
    let found = phi.features(x).unwrap();
    assert_eq!(found.len(), expected.len());
    for ((f, e), layer) in found.iter().zip(&expected).zip(&info.layers) {
        assert_eq!(f.shape(), e.shape);
        assert_eq!(f.shape()[1..], layer.shape);
        let error = relative(f.as_slice(), &e.data);
        assert!(error < 1e-5, "{}: {error}", layer.name);
    }
    let cotangents = cotangents(&expected.iter().map(|e| e.shape.clone()).collect::<Vec<_>>());
    let weights: Vec<&[f32]> = cotangents.iter().map(Tensor::as_slice).collect();
    let found = phi.pullback(x, &cotangents).unwrap();
    assert_eq!(found.shape(), shape);
    let error = relative(found.as_slice(), &oracle.pullback(&exact, &shape, &weights));
    assert!(error < 2e-5, "pullback: {error}");
}

/// The oracle of a network on the images as they are.
fn plain<'a>(b: &'a Build, layers: &[&str], channels: usize, size: (usize, usize)) -> Oracle<'a> {
    Oracle {
        model: &b.proto,
        channels,
        size,
        nhwc: false,
        scale: 1.0,
        mean: vec![0.0],
        std: vec![1.0],
        filter: Filter::Bilinear,
        layers: names(layers),
        averaged: false,
    }
}

pub fn maps_and_vectors_of_a_free_network() {
    let folder = Folder::new("features-free");
    let b = network([0, 3, 0, 0], "linear");
    let layers = ["map4", "vector", "map6"];
    let config = FeaturesConfig { layers: names(&layers), ..Default::default() };
    compare(&folder, &b, config, &images([3, 3, 7, 9]), plain(&b, &layers, 3, (7, 9)));
}

pub fn a_grey_image_on_a_colour_network() {
    let folder = Folder::new("features-grey");
    let b = network([0, 3, 0, 0], "linear");
    let input = InputSpec {
        scale: Some(2.0),
        mean: vec![0.1, 0.9, 0.4],
        std: vec![0.5, 1.5, -0.7],
        ..Default::default()
    };
    let oracle = Oracle {
        scale: 2.0,
        mean: [0.1f32, 0.9, 0.4].map(f64::from).to_vec(),
        std: [0.5f32, 1.5, -0.7].map(f64::from).to_vec(),
        ..plain(&b, &["map4"], 3, (8, 6))
    };
    let config = FeaturesConfig { layers: names(&["map4"]), input, ..Default::default() };
    compare(&folder, &b, config, &images([2, 1, 8, 6]), oracle);
}

pub fn a_colour_image_on_a_grey_network() {
    let folder = Folder::new("features-colour");
    let b = network([0, 1, 0, 0], "linear");
    let config = FeaturesConfig { layers: names(&["map6"]), ..Default::default() };
    compare(&folder, &b, config, &images([1, 3, 6, 6]), plain(&b, &["map6"], 1, (6, 6)));
}

pub fn images_are_resized_for_a_fixed_size() {
    let folder = Folder::new("features-resized");
    for (size, filter) in
        [((6, 7), Filter::Bilinear), ((13, 16), Filter::Bilinear), ((13, 16), Filter::BilinearPlain)]
    {
        let b = network([0, 1, 10, 9], "linear");
        let oracle = Oracle { filter, ..plain(&b, &["map4"], 1, (10, 9)) };
        let input = InputSpec { resize: filter, ..Default::default() };
        let config = FeaturesConfig { layers: names(&["map4"]), input, ..Default::default() };
        compare(&folder, &b, config, &images([2, 1, size.0, size.1]), oracle);
    }
}

pub fn upsampling_and_a_given_size() {
    let folder = Folder::new("features-upsample");
    let b = network([0, 1, 0, 0], "linear");
    let config = FeaturesConfig { layers: names(&["map6"]), upsample: Some(2), ..Default::default() };
    compare(&folder, &b, config, &images([2, 1, 5, 6]), plain(&b, &["map6"], 1, (10, 12)));
    let input = InputSpec { size: Some([9, 8]), ..Default::default() };
    let config = FeaturesConfig { layers: names(&["map6"]), input, ..Default::default() };
    compare(&folder, &b, config, &images([2, 1, 5, 6]), plain(&b, &["map6"], 1, (9, 8)));
}

pub fn the_default_is_the_penultimate_layer() {
    let folder = Folder::new("features-default");
    let b = network([0, 1, 0, 0], "linear");
    compare(&folder, &b, FeaturesConfig::default(), &images([2, 1, 8, 8]), plain(&b, &["vector"], 1, (8, 8)));
    let b = network([0, 1, 0, 0], "spatial");
    let oracle = Oracle { averaged: true, ..plain(&b, &["map6"], 1, (8, 8)) };
    compare(&folder, &b, FeaturesConfig::default(), &images([2, 1, 8, 8]), oracle);
    // Scores may be some of what the last layer answers.
    let mut some = network([0, 1, 0, 0], "linear");
    some.ints("from", &[0]).ints("to", &[1]).ints("axis", &[1]);
    some.node("Slice", "logits from to axis", "first", &[]).proto.graph.as_mut().unwrap().output.clear();
    some.output("first", None);
    compare(
        &folder,
        &some,
        FeaturesConfig::default(),
        &images([2, 1, 8, 8]),
        plain(&some, &["vector"], 1, (8, 8)),
    );
    // Of several outputs, the named one's.
    let mut two = network([0, 1, 0, 0], "linear");
    two.output("map4", None);
    let config = FeaturesConfig { output: Some("y".into()), ..Default::default() };
    compare(&folder, &two, config, &images([1, 1, 8, 8]), plain(&two, &["vector"], 1, (8, 8)));
    let path = folder.write("m.onnx", &b.bytes());
    let phi = OnnxFeatures::open(&FeaturesConfig { path, ..Default::default() }, 1, (8, 8)).unwrap();
    assert_eq!((phi.info().layers[0].name.as_str(), &phi.info().layers[0].shape[..]), ("map6", &[6][..]));
    assert!(
        phi.inferred().iter().any(|s| s.contains("penultimate layer, \"map6\", the mean")),
        "{:?}",
        phi.inferred()
    );
}

pub fn channels_last_and_a_fixed_batch() {
    let folder = Folder::new("features-nhwc");
    let mut b = Build::new(17, &[2, 6, 5, 3]);
    b.random("w", &[4, 3, 3, 3]).node("Transpose", "x", "t", &[("perm", A::Is(vec![0, 3, 1, 2]))]);
    b.node("Conv", "t w", "c", &[]).node("Tanh", "c", "map", &[]).output("map", None);
    let input =
        InputSpec { scale: Some(3.0), mean: vec![1.0, 0.5, 0.25], std: vec![2.0], ..Default::default() };
    let oracle = Oracle {
        nhwc: true,
        scale: 3.0,
        mean: vec![1.0, 0.5, 0.25],
        std: vec![2.0],
        ..plain(&b, &["map"], 3, (6, 5))
    };
    let config = FeaturesConfig { layers: names(&["map"]), input, ..Default::default() };
    compare(&folder, &b, config, &images([3, 3, 6, 5]), oracle);
}

pub fn batches_of_any_size_are_the_single_images() {
    let folder = Folder::new("features-batches");
    let path = folder.write("m.onnx", &network([0, 1, 0, 0], "linear").bytes());
    let config =
        FeaturesConfig { path, layers: names(&["map6", "vector"]), threads: Some(1), ..Default::default() };
    let mut phi = OnnxFeatures::open(&config, 1, (8, 8)).unwrap();
    let x = images([71, 1, 8, 8]);
    let all = phi.features(&x).unwrap();
    let seeds = cotangents(&all.iter().map(|t| t.shape().to_vec()).collect::<Vec<_>>());
    let gradient = phi.pullback(&x, &seeds).unwrap();
    let row = |t: &Tensor, i: usize| {
        let n: usize = t.shape()[1..].iter().product();
        Tensor::new([&[1], &t.shape()[1..]].concat(), t.as_slice()[i * n..(i + 1) * n].to_vec()).unwrap()
    };
    let wide = |t: &Tensor| -> Vec<f64> { t.as_slice().iter().map(|v| f64::from(*v)).collect() };
    for i in [0, 1, 63, 64, 70] {
        let one = row(&x, i);
        for (f, a) in phi.features(&one).unwrap().iter().zip(&all) {
            assert!(relative(f.as_slice(), &wide(&row(a, i))) < 1e-6);
        }
        let seeds: Vec<Tensor> = seeds.iter().map(|s| row(s, i)).collect();
        let found = phi.pullback(&one, &seeds).unwrap();
        assert!(relative(found.as_slice(), &wide(&row(&gradient, i))) < 1e-5);
    }
}

fn message(config: &FeaturesConfig) -> String {
    OnnxFeatures::open(config, 1, (8, 8)).err().expect("refused").to_string()
}

pub fn what_is_refused_is_named() {
    let folder = Folder::new("features-refused");
    let free = folder.write("free.onnx", &network([0, 1, 0, 0], "linear").bytes());
    let fixed = folder.write("fixed.onnx", &network([0, 1, 10, 10], "linear").bytes());
    let config =
        |layers: &[&str]| FeaturesConfig { path: free.clone(), layers: names(layers), ..Default::default() };
    let mut cases = vec![
        (config(&["map7"]), vec!["free.onnx", "\"map7\"", "\"y\"", "\"logits\""]),
        (config(&["x"]), vec!["no tensor \"x\""]),
        (config(&["map4", "map4"]), vec!["\"map4\"", "twice"]),
        (FeaturesConfig { upsample: Some(0), ..config(&[]) }, vec!["upsample = 0"]),
        (
            FeaturesConfig { upsample: Some(2), path: fixed.clone(), ..config(&[]) },
            vec!["upsample = 2", "fixed"],
        ),
        (
            FeaturesConfig {
                upsample: Some(2),
                input: InputSpec { size: Some([8, 8]), ..Default::default() },
                ..config(&[])
            },
            vec!["upsample = 2", "input.size"],
        ),
        (
            FeaturesConfig {
                path: fixed,
                input: InputSpec { size: Some([8, 8]), ..Default::default() },
                ..config(&[])
            },
            vec!["size = 8", "10"],
        ),
        (FeaturesConfig { sha256: Some("00".into()), ..config(&[]) }, vec!["sha256", "pins 00"]),
    ];
    // Two outputs have no penultimate layer; nor has what is not linear at the end.
    let mut two = network([0, 1, 0, 0], "linear");
    two.output("map6", None);
    let two = folder.write("two.onnx", &two.bytes());
    let named = FeaturesConfig { path: two.clone(), output: Some("z".into()), ..config(&[]) };
    cases.push((named, vec!["no output \"z\"", "\"y\""]));
    cases.push((FeaturesConfig { path: two, ..config(&[]) }, vec!["2 outputs", "\"map6\"", "layers"]));
    let mut exp = network([0, 1, 0, 0], "linear");
    exp.node("Exp", "logits", "e", &[]).proto.graph.as_mut().unwrap().output.clear();
    exp.output("e", None);
    let exp = folder.write("exp.onnx", &exp.bytes());
    cases.push((FeaturesConfig { path: exp, ..config(&[]) }, vec!["(Exp)", "no linear layer"]));
    // Rows of a map are neither a map nor a vector.
    let mut rows = network([0, 1, 0, 0], "linear");
    rows.ints("rows", &[0, 6, -1]).node("Reshape", "map6 rows", "tokens", &[]);
    let rows = folder.write("rows.onnx", &rows.bytes());
    cases.push((
        FeaturesConfig { path: rows, ..config(&["tokens"]) },
        vec!["\"tokens\"", "[N, 6, 4]", "vectors"],
    ));
    for (config, words) in cases {
        let e = message(&config);
        assert!(words.iter().all(|w| e.contains(w)), "{e}\nlacks one of {words:?}");
    }
    assert!(matches!(OnnxFeatures::open(&config(&[]), 2, (8, 8)), Err(Error::Shape { .. })));

    let mut phi = OnnxFeatures::open(&config(&["map4"]), 1, (8, 8)).unwrap();
    let shape = |e: shiftlens_api::Result<Tensor>| matches!(e, Err(Error::Shape { .. }));
    let x = images([2, 1, 8, 8]);
    assert!(matches!(phi.features(&images([2, 3, 8, 8])), Err(Error::Shape { .. })));
    assert!(matches!(phi.features(&images([0, 1, 8, 8])), Err(Error::Shape { .. })));
    assert!(shape(phi.pullback(&x, &cotangents(&[vec![2, 4, 8, 8]]))));
    assert!(phi.pullback(&x, &[]).is_err_and(|e| e.to_string().contains("0 cotangents")));
    let mut data = x.as_slice().to_vec();
    data[77] = f32::NAN;
    let bad = Tensor::new(vec![2, 1, 8, 8], data).unwrap();
    assert!(matches!(phi.features(&bad), Err(Error::NotFinite { index: 77, .. })));
    let mut seed = cotangents(&[vec![2, 4, 4, 4]])[0].as_slice().to_vec();
    seed[5] = f32::INFINITY;
    let seed = Tensor::new(vec![2, 4, 4, 4], seed).unwrap();
    assert!(matches!(phi.pullback(&x, &[seed]), Err(Error::NotFinite { index: 5, .. })));
}

pub fn a_network_without_gradients_still_answers_features() {
    let folder = Folder::new("features-forward");
    let mut b = Build::new(17, &[0, 1, 4, 4]);
    b.floats("seven", &[], &[0.7]).random("w", &[2, 1, 3, 3]);
    b.node("Mod", "x seven", "m", &[("fmod", A::I(1))]).node("Conv", "m w", "map", &[]).output("map", None);
    let path = folder.write("m.onnx", &b.bytes());
    let config = FeaturesConfig { path, layers: names(&["map"]), ..Default::default() };
    match OnnxFeatures::open(&config, 1, (4, 4)) {
        Ok(mut phi) => {
            let x = images([1, 1, 4, 4]);
            assert_eq!(phi.features(&x).unwrap()[0].shape(), [1, 2, 2, 2]);
            let e = phi.pullback(&x, &cotangents(&[vec![1, 2, 2, 2]])).unwrap_err();
            assert!(matches!(e, Error::Unsupported(_)) && e.to_string().contains("operator Mod"), "{e}");
        }
        // The embedded backend has no Mod of floats.
        Err(e) => assert!(
            matches!(e, Error::Component { .. }) && !shiftlens_onnx::backend::is_native().unwrap(),
            "{e}"
        ),
    }
}

/// One test for each check.
macro_rules! tests {
    () => {
        $crate::features::tests!(each:
            maps_and_vectors_of_a_free_network,
            a_grey_image_on_a_colour_network,
            a_colour_image_on_a_grey_network,
            images_are_resized_for_a_fixed_size,
            upsampling_and_a_given_size,
            the_default_is_the_penultimate_layer,
            channels_last_and_a_fixed_batch,
            batches_of_any_size_are_the_single_images,
            what_is_refused_is_named,
            a_network_without_gradients_still_answers_features
        );
    };
    (each: $($name:ident),+) => {
        $(#[test]
        fn $name() {
            if ready() {
                features::$name();
            }
        })+
    };
}
pub(crate) use tests;

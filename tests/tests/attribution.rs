//! The plugin `attribution` as a user runs it: against captum's numbers, on the example classifier, on a black box.

use image::{ImageBuffer, Rgb};
use prost::Message;
use shiftlens_api::Tensor;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use shiftlens_onnx::proto::{ModelProto, NodeProto, TensorProto, data_type};
use shiftlens_tests::program::{arrays, cases, run_record, shiftlens, shiftlens_with};
use shiftlens_tests::{root, shared};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The networks are fed values v around 0. Images hold values in [0, 1], so they carry (v + 4) / 8 with 16 bits, and the
/// manifest takes it back. What 16 bits leave open would be enough to move a ReLU to its other side here and there: see
/// [`exact`].
const SPREAD: f32 = 8.0;
const CLASSES: [usize; 2] = [1, 4];
const SIDE: usize = 64;

/// A study of the network at `model` with three explainers for both classes; zero in the network's input is 0.5 in an
/// image.
fn study(model: &Path) -> String {
    let explainer = |params: &str| {
        format!("[[explainer]]\nkind = \"plugin:attribution\"\nclasses = [1, 4]\nparams = {{ {params} }}\n")
    };
    format!(
        "schema = 1\nname = \"reference\"\n[data]\nimages = \"images\"\n[predictor]\nkind = \"onnx\"\npath = '{}'\n\
         input = {{ scale = {SPREAD}, mean = [{}] }}\noutput = {{ activation = \"none\", target = 1 }}\n{}{}{}\
         [plugins]\nattribution = \"shiftlens_attribution\"\n[report]\nformats = [\"csv\"]\n",
        model.display(),
        SPREAD / 2.0,
        explainer("method = \"saliency\""),
        explainer("method = \"integrated-gradients\", steps = 32, baseline = 0.5"),
        explainer("method = \"occlusion\", window = 8, stride = 4, baseline = 0.5, batch = 32"),
    )
}

/// Largest difference as a share of the largest reference value, and the cosine.
fn compare(found: &[f32], expected: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let (mut worst, mut dot, mut a, mut b) = (0.0f64, 0.0, 0.0, 0.0);
    for (f, e) in found.iter().map(|f| f64::from(*f)).zip(expected) {
        worst = worst.max((f - e).abs());
        (dot, a, b) = (dot + f * e, a + f * f, b + e * e);
    }
    (worst / largest, dot / (a * b).sqrt())
}

fn note(e: &ExplanationRecord, key: &str) -> String {
    let (ExplanationRecord::Heatmap { notes, .. } | ExplanationRecord::Shift { notes, .. }) = e;
    let found = notes.iter().find(|(k, _)| k == key);
    found.unwrap_or_else(|| panic!("no note `{key}` in {notes:?}")).1.clone()
}

fn number(e: &ExplanationRecord, key: &str) -> f64 {
    let text = note(e, key);
    text.trim_end_matches(" %").parse().unwrap_or_else(|_| panic!("{key}: {text} is no number"))
}

/// Image `image` of `[N, C, 64, 64]` (C may be missing), times `factor` of each value, summed over the channels.
fn plane(t: &Tensor, image: usize, factor: impl Fn(usize) -> f64) -> Vec<f64> {
    let per_image = t.as_slice().len() / t.shape()[0];
    let mut sum = vec![0.0; SIDE * SIDE];
    for (i, v) in t.as_slice()[image * per_image..][..per_image].iter().enumerate() {
        sum[i % (SIDE * SIDE)] += factor(i) * f64::from(*v);
    }
    sum
}

/// Writes the network with its input multiplied by `ratio`, `[1, 3, 64, 64]`.
///
/// With the ratio of what the network is to be fed to what the image holds of it, the network sees the reference's values
/// exactly, on the whole way from 0 and under every window of 0.
fn exact(model: &Path, ratio: &[f32], path: &Path) {
    let mut proto = ModelProto::decode(std::fs::read(model).unwrap().as_slice()).expect("an ONNX model");
    let graph = proto.graph.as_mut().expect("a graph");
    let input = graph.input[0].name.clone().expect("a named input");
    for name in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| **i == input) {
        *name = "exact_input".into();
    }
    graph.initializer.push(TensorProto {
        dims: vec![1, 3, SIDE as i64, SIDE as i64],
        data_type: Some(data_type::FLOAT),
        float_data: ratio.to_vec(),
        name: Some("exact_ratio".into()),
        ..Default::default()
    });
    let product = NodeProto {
        input: vec![input, "exact_ratio".into()],
        output: vec!["exact_input".into()],
        name: Some("exact".into()),
        op_type: Some("Mul".into()),
        ..Default::default()
    };
    graph.node.insert(0, product);
    std::fs::write(path, proto.encode_to_vec()).unwrap();
}

/// Runs the study on one of the reference's images and compares every map.
fn check_against(reference: &BTreeMap<String, Tensor>, model: &Path, image: usize) {
    let folder = tempfile::tempdir().unwrap();
    let wanted = &reference["input"].as_slice()[image * 3 * SIDE * SIDE..][..3 * SIDE * SIDE];
    let level = |v: f32| ((v / SPREAD + 0.5) * 65535.0).round() as u16;
    let picture = ImageBuffer::from_fn(SIDE as u32, SIDE as u32, |x, y| {
        let p = y as usize * SIDE + x as usize;
        Rgb([0, 1, 2].map(|c| level(wanted[c * SIDE * SIDE + p])))
    });
    std::fs::create_dir(folder.path().join("images")).unwrap();
    picture.save(folder.path().join("images/a.png")).unwrap();
    let ratio: Vec<f32> = wanted
        .iter()
        .map(|v| {
            let held = SPREAD * (f32::from(level(*v)) / 65535.0) - SPREAD / 2.0;
            if held == 0.0 { 1.0 } else { v / held }
        })
        .collect();
    let own = folder.path().join("model.onnx");
    exact(model, &ratio, &own);
    std::fs::write(folder.path().join("study.toml"), study(&own)).unwrap();
    shiftlens(folder.path(), &["run", "study.toml", "--out", "out"]).expect(0);
    let case = cases(&folder.path().join("out")).remove(0);
    let maps = arrays(&folder.path().join("out/cases").join(&case.id).join("arrays.safetensors"));
    for (e, explanation) in case.explanations.iter().enumerate() {
        let class = CLASSES[e % 2];
        assert_eq!(explanation.class().map(|c| c.class), Some(class));
        let method = ["grad_input", "ig", "occlusion"][e / 2];
        let what = format!("{} image {image} c{class}.{method}", model.display());
        // A gradient per unit of image value is that of the network's input times SPREAD and the ratio.
        let factor = |i: usize| if e / 2 == 0 { f64::from(SPREAD * ratio[i]) } else { 1.0 };
        let expected = plane(&reference[&format!("c{class}.{method}")], image, factor);
        let (worst, cosine) = compare(maps[&format!("heatmap.{e}")].as_slice(), &expected);
        println!("{what}: {worst:.1e} of the largest, cosine {cosine:.9}");
        // Rounding may still move one pooled maximum to its neighbour at one point of a path.
        assert!(cosine > 0.999_99 && worst < 0.02, "{what}: {worst}, {cosine}");
        if method == "ig" {
            let gap = number(explanation, "sum of the map") - number(explanation, "score")
                + number(explanation, "score of the baseline");
            let delta = f64::from(reference[&format!("c{class}.ig_delta")].as_slice()[image]);
            assert!((gap - delta).abs() < 1e-3, "{what}: gap {gap}, captum's delta {delta}");
        }
    }
}

#[test]
fn maps_are_captums() {
    let reference = arrays(&root().join("tests/fixtures/attribution/resnet_tiny.safetensors"));
    check_against(&reference, &root().join("core/onnx/tests/fixtures/resnet_tiny.onnx"), 0);
}

#[test]
fn maps_of_three_networks_are_captums() {
    let Some(folder) = shared("golden/cam") else { return };
    for name in ["resnet_tiny", "densenet_tiny", "vgg_tiny"] {
        let reference = arrays(&folder.join(format!("{name}.safetensors")));
        for image in 0..2 {
            check_against(&reference, &folder.join(format!("{name}.onnx")), image);
        }
    }
}

/// A study of the example classifier on the demo's images: these classes, and these parameters of each explainer.
fn knee(folder: &Path, classes: &str, explainers: &[&str], more: &[&str]) -> Vec<CaseRecord> {
    let sections: String = explainers
        .iter()
        .map(|e| {
            format!("[[explainer]]\nkind = \"plugin:attribution\"\nclasses = {classes}\nparams = {{ {e} }}\n")
        })
        .collect();
    let example = root().join("examples/knee");
    let text = format!(
        "schema = 1\nname = \"knee\"\n[data]\nimages = '{}'\nsynthetic = true\n[predictor]\nkind = \"onnx\"\npath = '{}'\n\
         input = {{ scale = 255.0, mean = [127.0], std = [128.0] }}\n\
         output = {{ activation = \"sigmoid\", classes = [\"healthy\", \"osteoarthritis\"], target = 1 }}\n{sections}\
         [plugins]\nattribution = \"shiftlens_attribution\"\n",
        example.join("demo-images").display(),
        example.join("classifier.onnx").display()
    );
    std::fs::write(folder.join("study.toml"), text).unwrap();
    let args: Vec<&str> = ["run", "study.toml", "--out", "out"].iter().chain(more).copied().collect();
    shiftlens(folder, &args).expect(0);
    let record = run_record(&folder.join("out"));
    assert!(record.complete && record.failures.is_empty(), "{:?}", record.failures);
    cases(&folder.join("out"))
}

#[test]
fn integrated_gradients_of_the_example_classifier_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let all = knee(folder.path(), "[1]", &["steps = 512"], &["--limit", "3"]);
    let mut errors: Vec<f64> =
        all.iter().flat_map(|c| &c.explanations).map(|e| number(e, "completeness error")).collect();
    errors.sort_by(f64::total_cmp);
    let (median, largest) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    println!("completeness error of {} maps: median {median} %, largest {largest} %", errors.len());
    assert_eq!(errors.len(), 3);
    assert!(largest < 1.0, "completeness errors in percent: {errors:?}");
}

#[test]
fn methods_of_scores_explain_the_example_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let explainers = [
        "method = \"rise\", masks = 100, batch = 64",
        "method = \"kernel-shap\", segments = 20, samples = 120, batch = 64",
        "method = \"kernel-shap\", segments = 4, samples = 64, partition = \"grid\", score = \"logit\"",
    ];
    for case in knee(folder.path(), "[\"healthy\", 1]", &explainers, &["--limit", "2"]) {
        assert_eq!(case.explanations.len(), 6);
        for (e, explanation) in case.explanations.iter().enumerate() {
            let ExplanationRecord::Heatmap { range, size, .. } = explanation else {
                panic!("{explanation:?}")
            };
            assert!(range.0 < range.1 && *size == (64, 64), "{}: {range:?}", case.id);
            let class = explanation.class().expect("a class").class;
            let score = number(explanation, "score");
            if e < 4 {
                assert!((score - f64::from(case.scores[class])).abs() < 1e-5, "{}: {score}", case.id);
            }
            if e >= 2 {
                let difference = score - number(explanation, "score of the baseline");
                let sum = number(explanation, "sum over segments");
                assert!((sum - difference).abs() < 1e-5, "{}: {sum}, expected {difference}", case.id);
            }
        }
        // All 2^4 coalitions fit in the budget, 2^20 do not.
        assert!(note(&case.explanations[4], "coalitions").contains("16, all of them"));
        assert!(note(&case.explanations[2], "coalitions").contains("120, a sample"));
        // One logit stands for both classes: what speaks for one speaks against the other, exactly.
        let maps = arrays(&folder.path().join("out/cases").join(&case.id).join("arrays.safetensors"));
        let (healthy, ill) = (maps["heatmap.4"].as_slice(), maps["heatmap.5"].as_slice());
        assert!(healthy.iter().zip(ill).all(|(a, b)| (a + b).abs() < 1e-5), "{}", case.id);
    }
}

#[test]
fn a_black_box_in_c_is_explained_or_told_what_works() {
    let folder = tempfile::tempdir().unwrap();
    let library = format!("{}joint_space{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let compiled = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-std=c99", "-O2", "-fPIC", "-shared", "-I", "core/abi/include"])
        .args(["examples/plugins/c-predictor/joint_space.c", "-lm", "-o"])
        .arg(folder.path().join(library))
        .current_dir(root())
        .status();
    assert!(compiled.expect("a C compiler, as Rust's linker needs one").success());
    let text = format!(
        "schema = 1\nname = \"phantom\"\n[data]\nimages = '{}'\n[predictor]\nkind = \"plugin:joint-space\"\n\
         [[explainer]]\nkind = \"plugin:attribution\"\nparams = {{ method = \"occlusion\", window = 8 }}\n\
         [plugins]\njoint-space = \"joint_space\"\nattribution = \"shiftlens_attribution\"\n",
        root().join("examples/phantom/images").display()
    );
    std::fs::write(folder.path().join("study.toml"), text).unwrap();
    let search = folder.path().display().to_string();
    let run = |out: &str, set: &str| {
        let args = ["run", "study.toml", "--limit", "2", "--out", out, "--set", set];
        shiftlens_with(folder.path(), &args, &[("SHIFTLENS_PLUGIN_PATH", &search)])
    };
    run("a", "explainer.0.params.window=12").expect(0).says(&["2 images explained, 0 failed"]);
    for case in cases(&folder.path().join("a")) {
        let ExplanationRecord::Heatmap { range, .. } = &case.explanations[0] else { panic!("a heatmap") };
        assert!(range.0 < range.1, "{}: covering the joint changes nothing", case.id);
    }
    run("b", "explainer.0.params={ method = \"saliency\" }").expect(1).says(&[
        "offers no gradients",
        "\"occlusion\"",
        "\"rise\"",
        "\"kernel-shap\"",
    ]);
}

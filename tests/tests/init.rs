//! `shiftlens init` and `shiftlens schema`: what is written passes `check`, whatever the model is laid out like.

use shiftlens_tests::graph::Graph;
use shiftlens_tests::program::shiftlens;
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;
use std::path::Path;

fn read(toy: &Toy, file: &str) -> String {
    std::fs::read_to_string(toy.path(file)).unwrap()
}

/// The toy's models and images without its manifest.
fn bare() -> Toy {
    let toy = Toy::new();
    std::fs::remove_file(toy.manifest()).unwrap();
    toy
}

/// Comments with their line breaks taken out.
fn comments(text: &str) -> String {
    text.replace("\n# ", " ")
}

/// A 1x1 convolution of 3 channels to `classes`, averaged over the image; `end` makes the output of its logits.
fn convolution(graph: Graph, x: &str, classes: i64, end: Option<&str>, path: &Path, shape: &[i64]) {
    let weights: Vec<f32> = (0..3 * classes).map(|i| (i % 5) as f32 - 2.0).collect();
    let graph = graph
        .floats("weights", &[classes, 3, 1, 1], &weights)
        .node_with("Conv", &[x, "weights"], "map", &[("kernel_shape", &[1, 1])])
        .node("GlobalAveragePool", &["map"], "mean")
        .node("Flatten", &["mean"], "flat");
    let graph = match end {
        Some(end) => graph.node(end, &["flat"], "scores"),
        None => graph.node("Identity", &["flat"], "scores"),
    };
    graph.write(path, ("x", shape), ("scores", &[classes]));
}

/// A channels-last model of 8x10 pixels that answers two probabilities.
fn channels_last(path: &Path) {
    let graph = Graph::default().node_with("Transpose", &["x"], "nchw", &[("perm", &[0, 3, 1, 2])]);
    convolution(graph, "nchw", 2, Some("Softmax"), path, &[8, 10, 3]);
}

#[test]
fn a_study_of_heatmaps_passes_check() {
    let toy = Toy::new();
    let init = ["init", "--model", "classifier.onnx", "--images", "images", "-o", "first.toml"];
    toy.shiftlens(&init).expect(0).says(&[
        "wrote first.toml: 8 images, a classifier of 16x16 grey with 1 output",
        "how pixels were scaled",
    ]);
    let text = read(&toy, "first.toml");
    for words in [
        "The file declares its input \"images\" as [batch, 1, 16, 16].",
        "does not end in a sigmoid",
        "\"high\" (4), \"low\" (4)",
    ] {
        assert!(comments(&text).contains(words), "{words}:\n{text}");
    }
    toy.shiftlens(&["check", "first.toml"]).expect(0).says(&[
        "\"classifier\"",
        "images 8",
        "16x16, grey, classes: score",
        "explainer plugin:gradcam",
        "values in [0, 1]",
    ]);

    // What is there is not overwritten, unless that is said.
    toy.shiftlens(&init).expect(2).says(&["first.toml is there already", "--force"]);
    assert_eq!(read(&toy, "first.toml"), text);
    let more = [
        &init[..],
        &[
            "--force",
            "--classes",
            "dark,bright",
            "--positive",
            "high",
            "--negative",
            "low",
            "--mean",
            "0.5",
            "--std",
            "0.25",
            "--name",
            "toy",
        ],
    ];
    let answer = toy.shiftlens(&more.concat()).expect(0);
    assert!(!answer.text().contains("how pixels were scaled"), "{}", answer.text());
    toy.shiftlens(&["check", "first.toml"]).expect(0).says(&[
        "\"toy\"",
        "labels 4 positive, 4 negative, 0 without",
        "target bright (class 1 of 2)",
    ]);
    // It is what it explains, too, and what is proposed in comments can be taken up.
    let text = read(&toy, "first.toml");
    let proposed = "# [evaluation]\n# images = 20\n# metrics = [";
    assert!(text.contains(proposed), "{text}");
    std::fs::write(toy.path("first.toml"), text.replace(proposed, &proposed.replace("# ", ""))).unwrap();
    toy.shiftlens(&["run", "first.toml", "--limit", "2", "--out", "out"]).expect(0).says(&[
        "2 images explained",
        "evaluation of 2 images",
        "random heatmap",
        "Insertion AUC, blur",
    ]);
}

#[test]
fn a_whole_study_passes_check_from_another_folder() {
    let toy = Toy::new();
    std::fs::create_dir(toy.path("studies")).unwrap();
    std::fs::rename(toy.path("images/high"), toy.path("images/bright")).unwrap();
    std::fs::rename(toy.path("images/low"), toy.path("images/dark")).unwrap();
    let flags = "init --model classifier.onnx --images images --classes dark,bright --target dark \
                 --generator generator.onnx --encoder encoder.onnx -o studies/second.toml";
    toy.shiftlens(&flags.split_whitespace().collect::<Vec<_>>()).expect(0);
    let text = read(&toy, "studies/second.toml");
    for words in [
        "path = \"../classifier.onnx\"",
        "images = \"../images\"",
        "positive = [\"dark\"], negative = [\"bright\"]",
        "target = \"dark\"",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    toy.shiftlens(&["check", "studies/second.toml"]).expect(0).says(&[
        "labels 4 positive, 4 negative",
        "generator onnx ../generator.onnx",
        "encoder onnx ../encoder.onnx",
        "explainer latent-shift",
        "explainer plugin:gradcam",
        "samples 20000 with seed 7",
        "target dark (class 0 of 2)",
    ]);
}

#[test]
fn channels_last_and_probabilities_are_seen() {
    let toy = bare();
    channels_last(&toy.path("f.onnx"));
    let init = ["init", "--model", "f.onnx", "--images", "images/*/*.png"];
    toy.shiftlens(&init).expect(0).says(&["8x10 RGB with 2 outputs"]);
    let text = read(&toy, "study.toml");
    assert!(text.contains("input = { layout = \"nhwc\", size = [8, 10], channels = 3 }"), "{text}");
    assert!(text.contains("output = { activation = \"already\", target = 1 }"), "{text}");
    assert!(
        comments(&text).contains("The graph ends in Softmax: its 2 outputs can be read as probabilities."),
        "{text}"
    );
    toy.shiftlens(&["check", "study.toml"]).expect(0).says(&["images 8", "target class 1 (class 1 of 2)"]);
}

#[test]
fn what_the_model_leaves_open_is_asked_for() {
    let toy = bare();
    convolution(Graph::default(), "x", 3, None, &toy.path("f.onnx"), &[-1, -1, -1]);
    let init = |flags: &str| {
        let all = ["init", "--model", "f.onnx"].into_iter().chain(flags.split_whitespace());
        toy.shiftlens(&all.collect::<Vec<_>>())
    };
    // Nobody sits at a test's terminal.
    init("").expect(2).says(&["nobody is there to be asked", "--size H,W", "--images DIR|CSV|GLOB"]);
    init("--images images --size 12,9").expect(2).says(&["--target CLASS", "Which of 3 classes", "0 to 2"]);
    init("--images images --size 12,9 --classes a,b").expect(2).says(&["--classes: 2 names", "3 names"]);
    init("--images images --size 12,9 --classes a,b,a").expect(2).says(&["`a` stands twice"]);
    init("--images images --size 12,9 --classes aa,bb,cc --target bc")
        .expect(2)
        .says(&["no class", "aa, bb, cc"]);
    init("--images nowhere --size 12,9 --target 2").expect(2).says(&["nowhere"]);
    init("--images images --size 12,9 --target 2 --positive hihg --negative low")
        .expect(2)
        .says(&["did you mean `high`?"]);
    init("--images images --size 12 --target 2").expect(2).says(&["height and a width"]);
    init("--images images --size 12,9 --target 2 --generator g.onnx").expect(2).says(&["--encoder"]);
    assert!(!toy.path("study.toml").exists());
    init("--images images --size 12,9 --target 2").expect(0);
    let text = read(&toy, "study.toml");
    assert!(
        text.contains("size = [12, 9], channels = 3")
            && text.contains("activation = \"softmax\", target = 2"),
        "{text}"
    );
    toy.shiftlens(&["check", "study.toml"])
        .expect(0)
        .says(&["12x9, 3 channels", "target class 2 (class 2 of 3)"]);

    let graph = Graph::default().node("Relu", &["x"], "relu");
    convolution(graph, "relu", 1, Some("Sigmoid"), &toy.path("f.onnx"), &[3, 8, 3]);
    init("--images images --force").expect(2).says(&["--layout nchw|nhwc", "[batch, 3, 8, 3]"]);
    init("--images images --force --layout nchw").expect(0).says(&["8x3 RGB with 1 output"]);
    toy.shiftlens(&["check", "study.toml"]).expect(0).says(&["target score (class 0 of 1)"]);
}

#[test]
fn what_is_no_classifier_is_refused() {
    let toy = bare();
    std::fs::write(toy.path("text.onnx"), "no model").unwrap();
    let init = |model: &str| toy.shiftlens(&["init", "--model", model, "--images", "images"]).expect(2);
    init("none.onnx").says(&["none.onnx: no such file"]);
    init("text.onnx").says(&["text.onnx", "not an ONNX model"]);
    init("generator.onnx").says(&["generator.onnx", "expected a batch of images"]);
    toy.shiftlens(&["init"]).says(&["--model"]);
    toy.shiftlens(&["init", "--model", "classifier.onnx", "--images", "images", "-o", "no/such/a.toml"])
        .expect(2)
        .says(&["no/such: no such folder"]);
    assert!(!toy.path("study.toml").exists());
}

#[test]
fn schemas_are_printed_as_they_are_published() {
    for name in ["study", "train-generator", "train-encoder"] {
        let answer = shiftlens(&root(), &["schema", name]).expect(0);
        let published =
            std::fs::read_to_string(root().join(format!("manifests/{name}.schema.json"))).unwrap();
        assert!(
            answer.stdout == published,
            "manifests/{name}.schema.json is not what `shiftlens schema {name}` prints"
        );
    }
    shiftlens(&root(), &["schema", "studdy"]).expect(2).says(&["study"]);
}

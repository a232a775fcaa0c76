use super::*;
use crate::manifest::RawManifest;
use crate::registry::Declared;

fn classifier() -> Classifier {
    Classifier {
        declared: Declared {
            input: "x \"1\"".into(),
            shape: "[batch, 3, 64, 48]".into(),
            layout: Some(Layout::Nchw),
            channels: Some(3),
            size: [Some(64), Some(48)],
            outputs: vec![("logits".into(), "[batch, 2]".into())],
        },
        layout: Layout::Nchw,
        size: (64, 48),
        channels: 3,
        batch: None,
        output: "logits".into(),
        columns: 2,
        activation: Activation::Softmax,
        ending: None,
        layer: Ok("/layer4/Relu".into()),
    }
}

fn draft() -> Draft {
    Draft {
        file: "study.toml".into(),
        name: "a \"study\"".into(),
        images: "images".into(),
        found: Found {
            images: 5,
            folders: [("sick".to_owned(), 2), ("well".to_owned(), 3)].into(),
            columns: Vec::new(),
        },
        labels: None,
        model: "f.onnx".into(),
        classifier: classifier(),
        scaling: Scaling::default(),
        classes: vec!["well".into(), "sick".into()],
        target: Some(ClassRef::Name("sick".into())),
        latent: None,
    }
}

fn study(text: &str) -> Study {
    let parsed = RawManifest::parse("study.toml", text, &[]).and_then(|m| m.check(Path::new("a/study.toml")));
    parsed.unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// How lines begin that are proposed in comments.
const PROPOSALS: [&str; 5] = ["labels = ", "group = ", "[evaluation]", "images = ", "metrics = "];

/// A draft, its study, and the same with every proposal in its comments taken up.
fn both(draft: &Draft) -> (String, Study, Study) {
    let text = draft.text();
    for line in text.lines() {
        assert!(line.chars().count() <= 110 || !line.starts_with('#') || line.contains(" = {"), "{line}");
    }
    let proposals: String = text
        .lines()
        .map(|l| l.strip_prefix("# ").filter(|l| PROPOSALS.iter().any(|p| l.starts_with(p))).unwrap_or(l))
        .fold(String::new(), |all, l| all + l + "\n");
    assert_ne!(text, proposals);
    (text.clone(), study(&text), study(&proposals))
}

#[test]
fn a_study_of_heatmaps() {
    let (text, written, taken_up) = both(&draft());
    assert_eq!((written.name.as_str(), written.data.labels.is_none()), ("a \"study\"", true));
    assert_eq!(written.predictor.input.as_ref().unwrap()["size"], serde_json::json!([64, 48]));
    assert_eq!(written.target, Some(ClassRef::Name("sick".into())));
    assert_eq!(written.explainers[0].kind.to_string(), "plugin:gradcam");
    let labels = taken_up.data.labels.unwrap();
    assert_eq!(
        (&labels.positive[..], &labels.negative[..]),
        (&["well".to_owned()][..], &["sick".to_owned()][..])
    );
    assert!(taken_up.data.group.is_some() && taken_up.remarks.is_empty());
    assert!(written.evaluation.is_none());
    let evaluation = taken_up.evaluation.unwrap();
    assert_eq!((evaluation.images, evaluation.metrics.map(|m| m.len())), (Some(20), Some(4)));
    for words in [
        "how pixels were scaled",
        "does not end in a softmax",
        "an assumption",
        "\"/layer4/Relu\"",
        "[batch, 3, 64, 48]",
    ] {
        assert!(text.replace("\n# ", " ").contains(words), "{words}:\n{text}");
    }
}

#[test]
fn everything_known_is_written_and_nothing_of_it_is_asked_again() {
    let mut d = draft();
    d.labels = d.found.labels(&d.classes, "sick");
    d.scaling = Scaling { scale: Some(255.0), mean: vec![127.5], std: vec![1.0, 2.0, 0.1] };
    d.classifier.ending = Some("Softmax".into());
    d.classifier.activation = Activation::Already;
    d.classifier.batch = Some(4);
    d.latent = Some(("g.safetensors".into(), "../e.ONNX".into()));
    let (text, written, taken_up) = both(&d);
    assert_eq!(taken_up.evaluation.unwrap().metrics.map(|m| m.len()), Some(6));
    let labels = written.data.labels.as_ref().unwrap();
    assert_eq!(
        (&labels.positive[..], &labels.negative[..]),
        (&["sick".to_owned()][..], &["well".to_owned()][..])
    );
    let input = written.predictor.input.as_ref().unwrap();
    assert_eq!((&input["scale"], &input["mean"]), (&serde_json::json!(255.0), &serde_json::json!([127.5])));
    assert_eq!(input["std"], serde_json::json!([1.0, 2.0, 0.1]));
    assert_eq!(written.predictor.output.as_ref().unwrap()["activation"], "already");
    assert_eq!(written.generator.as_ref().unwrap().kind.to_string(), "stylegan2");
    assert_eq!(written.encoder.as_ref().unwrap().kind.to_string(), "onnx");
    assert_eq!((written.explainers.len(), written.direction.as_ref().unwrap().seed), (2, 7));
    assert!(!text.contains("how pixels were scaled in training") && text.contains("fixed to 4"), "{text}");
}

#[test]
fn what_was_found_decides_about_labels() {
    let mut d = draft();
    d.found.folders.clear();
    assert!(d.text().contains("there are no `labels`"));
    d.found.columns = vec!["path".into(), "grade".into()];
    d.images = "images.csv".into();
    let (_, _, taken_up) = both(&d);
    assert_eq!(
        serde_json::to_value(taken_up.data.labels.unwrap().by).unwrap(),
        serde_json::json!({ "column": "grade" })
    );
    let found = draft().found;
    let names = |n: &[&str]| n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(found.labels(&names(&["well", "sick"]), "well"), Some((names(&["well"]), names(&["sick"]))));
    assert_eq!(found.labels(&names(&["normal", "sick"]), "sick"), None);
    assert_eq!(found.labels(&names(&["well", "sick"]), "ill"), None);
}

#[test]
fn a_model_without_gradients_is_covered_and_every_activation_is_explained() {
    let mut d = draft();
    d.classifier.layer = Err("f.onnx: no gradient rule for operator Mod\n(node \"a\")".into());
    let (text, written, _) = both(&d);
    assert_eq!(written.explainers[0].params["method"], "occlusion");
    assert!(text.replace("\n# ", " ").contains("operator Mod (node \"a\")"), "{text}");

    d.classes = Vec::new();
    for (activation, ending, columns, words) in [
        (Activation::Sigmoid, None, 1, "does not end in a sigmoid"),
        (Activation::Softmax, Some("LogSoftmax"), 3, "ends in LogSoftmax: a softmax"),
        (Activation::Already, Some("Sigmoid"), 3, "ends in Sigmoid: its 3 outputs"),
    ] {
        d.classifier = Classifier { activation, ending: ending.map(Into::into), columns, ..classifier() };
        d.target = (columns > 1).then_some(ClassRef::Index(2));
        let (text, written, _) = both(&d);
        assert!(text.replace("\n# ", " ").contains(words), "{words}:\n{text}");
        let output = written.predictor.output.unwrap();
        assert_eq!(output["activation"], serde_json::to_value(activation).unwrap());
        assert_eq!(output.get("target"), (columns > 1).then(|| serde_json::json!(2)).as_ref());
    }
    d.classifier.declared.outputs.push(("features".into(), "[batch, 8]".into()));
    assert_eq!(both(&d).1.predictor.output.unwrap()["name"], "logits");
}

#[test]
fn paths_are_told_from_the_manifests_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("studies/deep")).unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    std::fs::write(dir.path().join("images/a.png"), "").unwrap();
    let root = dir.path().canonicalize().unwrap();
    let way = |folder: &str, path: &str| between(&root.join(folder), &root.join(path)).display().to_string();
    assert_eq!(way("studies/deep", "images/a.png"), "../../images/a.png");
    assert_eq!(way("studies", "studies/deep"), "deep");
    assert_eq!(way("images", "images"), ".");
    // Absolute paths stay, wherever the manifest is.
    let absolute = root.join("images");
    assert_eq!(relative(Path::new(""), &absolute).unwrap(), absolute.to_str().unwrap());
    // The tests' folder is the package's.
    assert_eq!(relative(Path::new("src"), Path::new("src/manifest")).unwrap(), "manifest");
    assert_eq!(relative(Path::new("src/run"), Path::new("src/../Cargo.toml")).unwrap(), "../../Cargo.toml");
    assert_eq!(relative(Path::new("src"), Path::new("tests/*/[ab].png")).unwrap(), "../tests/*/[ab].png");
    assert_eq!(relative(Path::new("src"), Path::new("*.toml")).unwrap(), "../*.toml");
    assert_eq!(relative(Path::new(""), Path::new("Cargo.toml")).unwrap(), "Cargo.toml");
    let error = relative(Path::new(""), Path::new("nothing/here")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(relative(Path::new(""), Path::new("/a/${B}/c")).unwrap_err().to_string().contains("variable"));
}

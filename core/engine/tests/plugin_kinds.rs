//! All five kinds of component from a Rust plugin, through the real shared library: what comes back is what the
//! closed forms of `core/sdk/examples/every_kind.rs` say.

mod plugin_support;

use plugin_support::{FirstPixel, Identity, Memory, every_kind, halves, says};
use serde_json::{Value, json};
use shiftlens_api::{
    Context, Direction, Error, Explanation, GradientRequest, LatentCodes, LatentSpace, ScoreKind, Silent,
    Target, Targets, Tensor,
};
use shiftlens_engine::plugin;

fn top() -> Target {
    Target { class: 1, name: "top".into() }
}

#[test]
fn a_library_says_what_it_is_and_is_opened_once() {
    let lib = every_kind();
    assert_eq!(
        (lib.id(), lib.name(), lib.version()),
        ("example.every-kind", "shiftlens-sdk", env!("CARGO_PKG_VERSION"))
    );
    let names = ["generator/1", "encoder/1", "predictor/1", "direction/1", "explainer/1"];
    assert_eq!(lib.capabilities(), names.map(|n| format!("shiftlens.{n}")));
    assert!(std::sync::Arc::ptr_eq(&lib, &every_kind()));
    let info = plugin::inspect(lib.path()).unwrap();
    assert_eq!((info.abi_version, info.sha256.len(), info.capabilities.len()), (1, 64, 5));
    let back: plugin::PluginInfo = serde_json::from_str(&serde_json::to_string(&info).unwrap()).unwrap();
    assert_eq!(back, info);
}

#[test]
fn a_generator_and_an_encoder_are_inverse() {
    let lib = every_kind();
    let mut g = plugin::generator(&lib, &Value::Null).unwrap();
    let mut e = plugin::encoder(&lib, &json!({})).unwrap();
    assert_eq!((g.info().latent_dim, g.info().height, g.info().backend.as_str()), (2, 4, "closed form"));
    let w = g.sample(7, 3).unwrap();
    assert_eq!(w.shape(), [7, 1, 2]);
    assert_eq!(g.sample(3, 3).unwrap(), w.slice(0, 3));
    assert_ne!(g.sample(7, 4).unwrap(), w);
    let x = g.synthesize(&w).unwrap();
    assert_eq!(x.shape(), [7, 1, 4, 4]);
    assert!((x.image(2)[0] - (0.5 + 0.1 * w.code(2)[0])).abs() < 1e-6);
    let back = e.encode(&x).unwrap();
    assert!(back.as_slice().iter().zip(w.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5));
    // Empty batches have shapes too.
    let none = LatentCodes::new([0, 1, 2], vec![]).unwrap();
    assert_eq!(g.synthesize(&none).unwrap().shape(), [0, 1, 4, 4]);
    assert_eq!(g.sample(0, 1).unwrap().shape(), [0, 1, 2]);
    says(
        e.encode(&g.synthesize(&none).unwrap().with_channels(3).unwrap()),
        &["example.every-kind", "encode", "[N, 1, 4, 4]"],
    );
}

#[test]
fn a_white_box_predictor_gives_scores_activations_and_gradients() {
    let mut f = plugin::predictor(&every_kind(), &Value::Null).unwrap();
    assert_eq!(f.info().classes, ["bottom", "top"]);
    assert_eq!(f.info().input_size, Some((4, 4)));
    let x = halves(3, 0.6, 0.5);
    let y = f.predict(&x).unwrap();
    // Ten times the difference of the halves: logits 1.0, 1.1, 1.2.
    for (i, logit) in [1.0f32, 1.1, 1.2].into_iter().enumerate() {
        assert!((y.row(i)[1] - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-5);
    }
    let white = f.gradients().expect("a white box");
    let layers = white.layers().unwrap();
    assert_eq!((layers[0].name.as_str(), &layers[0].shape), ("input", &vec![Some(1), Some(4), None]));
    let mut request = GradientRequest {
        layers: vec![String::new(), "input".into()],
        layer_gradients: true,
        input_gradient: true,
        classes: vec![1, 0, 1],
        score: ScoreKind::Logit,
    };
    let out = white.gradients(&x, &request).unwrap();
    assert!(out.scores.iter().zip([1.0, -1.1, 1.2]).all(|(a, b)| (a - b).abs() < 1e-5), "{:?}", out.scores);
    assert_eq!((out.activations.len(), out.gradients.len()), (2, 2));
    assert_eq!(out.activations[1].as_slice(), x.as_slice());
    let slope = out.input_gradient.unwrap();
    assert_eq!(slope.shape(), [3, 1, 4, 4]);
    assert_eq!((slope.as_slice()[0], slope.as_slice()[15], slope.as_slice()[16]), (1.25, -1.25, -1.25));
    request = GradientRequest { layer_gradients: false, input_gradient: false, ..request };
    let out = white.gradients(&x, &request).unwrap();
    assert_eq!((out.activations.len(), out.gradients.len(), out.input_gradient), (2, 0, None));
    request.layers = vec!["conv".into()];
    says(white.gradients(&x, &request), &["gradients", "`conv`"]);
    request = GradientRequest { score: ScoreKind::Probability, ..Default::default() };
    assert!(matches!(white.gradients(&x, &request), Err(Error::Unsupported(_))));
}

#[test]
fn a_white_box_predictor_scores_replaced_activations() {
    let mut f = plugin::predictor(&every_kind(), &Value::Null).unwrap();
    let x = halves(3, 0.6, 0.5);
    let white = f.gradients().expect("a white box");
    // Two variants for each image: as it is, and without the lower half. Logits 10 (top - bottom) and 10 top.
    let mut rows = Vec::new();
    for i in 0..3 {
        let (top, bottom) = x.image(i).split_at(8);
        rows.extend([top, &[0.0; 8][..], &[0.0; 8], bottom, top, &[0.0; 24]].concat());
    }
    let activations = Tensor::new(vec![6, 2, 4, 4], rows).unwrap();
    let scores = white.scores_with(&x, "halves", &activations, &[1, 0, 1], ScoreKind::Logit).unwrap();
    let expected = [1.0, 6.0, -1.1, -6.1, 1.2, 6.2];
    assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{scores:?}");
    let scores = white.scores_with(&x, "halves", &activations, &[1], ScoreKind::Probability).unwrap();
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    let expected = [1.0, 6.0, 1.1, 6.1, 1.2, 6.2].map(sigmoid);
    assert!(scores.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{scores:?}");

    let mut ask = |layer: &str, shape: &[usize], classes: &[usize]| {
        let activations = Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
        white.scores_with(&x, layer, &activations, classes, ScoreKind::Logit)
    };
    assert_eq!(ask("", &[3, 1, 4, 4], &[0]).unwrap(), [0.0; 3]);
    assert_eq!(ask("input", &[0, 1, 4, 4], &[0]).unwrap(), [0.0; 0]);
    says(ask("conv", &[3, 2, 4, 4], &[1]), &["example.every-kind", "scores", "`conv`"]);
    says(ask("halves", &[3, 1, 4, 4], &[1]), &["scores", "expected shape [3, 2, 4, 4]"]);
    says(ask("halves", &[4, 2, 4, 4], &[1]), &["[3 * r, …]", "[4, 2, 4, 4]"]);
    says(ask("halves", &[3, 2, 4, 4], &[1, 1]), &["2 classes for 3 images"]);
    says(ask("hal\0ves", &[3, 2, 4, 4], &[1]), &["NUL"]);
    let mut f = plugin::predictor(&every_kind(), &json!({"panic": "scores"})).unwrap();
    let activations = Tensor::new(vec![3, 2, 4, 4], vec![0.0; 96]).unwrap();
    let answer = f.gradients().unwrap().scores_with(&x, "halves", &activations, &[1], ScoreKind::Logit);
    says(answer, &["scores: panic at", "as asked, in scores"]);
}

#[test]
fn a_direction_finder_gives_a_unit_vector() {
    let mut finder = plugin::direction_finder(&every_kind(), &Value::Null).unwrap();
    let w = LatentCodes::new([4, 1, 2], vec![3.0, 4.0, -3.0, -4.0, 6.0, 8.0, -6.0, -8.0]).unwrap();
    let mut y = Targets { values: vec![0.9, 0.1, 0.5, 0.4], threshold: 0.5 };
    let d = finder.find(&w, &y).unwrap();
    assert!((d.alpha()[0] - 0.6).abs() < 1e-6 && (d.alpha()[1] - 0.8).abs() < 1e-6);
    assert!((d.sigma - 62.5f32.sqrt()).abs() < 1e-4 && d.mean.abs() < 1e-5 && d.slope == 0.0);
    y.threshold = 2.0;
    says(finder.find(&w, &y), &["find", "0 of 4"]);
    y.values.pop();
    says(finder.find(&w, &y), &["3 target values for 4 codes"]);
}

#[test]
fn an_explainer_reaches_the_hosts_predictor_gradients_latent_space_and_monitor() {
    let lib = every_kind();
    let mut explainer = plugin::explainer(&lib, &Value::Null).unwrap();
    // f, G and E are plugins themselves: the host passes calls from one instance to others of the same library.
    let mut f = plugin::predictor(&lib, &Value::Null).unwrap();
    let mut g = plugin::generator(&lib, &Value::Null).unwrap();
    let mut e = plugin::encoder(&lib, &Value::Null).unwrap();
    let mut direction = Direction::new(vec![1.0, 0.0], 1, 0.5, 0.0).unwrap();
    (direction.slope, direction.intercept) = (2.0, -1.0);
    let memory = Memory::default();
    let x = halves(2, 0.6, 0.5);
    let mut cx = Context {
        predictor: &mut *f,
        latent: Some(LatentSpace { generator: &mut *g, encoder: &mut *e, direction: &direction }),
        monitor: &memory,
        seed: 42,
    };
    let all = explainer.explain(&mut cx, &x, &top()).unwrap();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    let Explanation::Heatmap { title, map, notes } = &all[1][0] else { panic!("a heatmap first") };
    assert_eq!((title.as_str(), map.size(), map.range()), ("Saliency", (4, 4), (-1.25, 1.25)));
    assert_eq!(notes[0], ("layer".to_string(), "input".to_string()));
    let Explanation::Shift { series, notes, .. } = &all[1][1] else { panic!("a series second") };
    assert!(notes.is_empty());
    assert_eq!(
        (&series.lambdas[..], series.origin, series.images.shape()),
        (&[-1.0, 0.0, 1.0][..], 1, [3, 1, 4, 4])
    );
    // w = (1.1, 0); a step is sigma = 0.5 along the first axis: 0.05 in the upper half, 0.5 in the logit.
    assert!((series.code[0] - 1.1).abs() < 1e-4 && (series.images.image(2)[0] - 0.66).abs() < 1e-5);
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    for (score, logit) in series.scores.iter().zip([0.6, 1.1, 1.6]) {
        assert!((score - sigmoid(logit)).abs() < 1e-5);
    }
    assert!((series.latent_score.unwrap() - sigmoid(2.0 * 1.1 - 1.0)).abs() < 1e-4);
    let lines = memory.lines.into_inner().unwrap();
    assert_eq!(lines, ["Info: explaining top with seed 42", "explain 1/2", "explain 2/2"]);
}

#[test]
fn an_explainer_sees_what_the_study_lacks() {
    let mut explainer = plugin::explainer(&every_kind(), &Value::Null).unwrap();
    let x = halves(1, 0.6, 0.5);
    let mut f = FirstPixel::default();
    let mut cx = Context { predictor: &mut f, latent: None, monitor: &Silent, seed: 0 };
    assert_eq!(explainer.explain(&mut cx, &x, &top()).unwrap(), vec![Vec::new()]);

    // A latent space whose pictures are of another size than the explained ones.
    let direction = Direction::new(vec![1.0], 1, 0.1, 0.0).unwrap();
    let (mut g, mut e) = (Identity, Identity);
    let latent = Some(LatentSpace { generator: &mut g, encoder: &mut e, direction: &direction });
    let mut cx = Context { predictor: &mut f, latent, monitor: &Silent, seed: 0 };
    let all = explainer.explain(&mut cx, &x, &top()).unwrap();
    let Explanation::Shift { series, .. } = &all[0][0] else { panic!("a series") };
    assert_eq!(series.latent_score, None);
    assert!(
        series.scores.iter().zip([0.5, 0.6, 0.7]).all(|(a, b)| (a - b).abs() < 1e-6),
        "{:?}",
        series.scores
    );

    let memory = Memory { cancel: true, ..Memory::default() };
    let mut cx = Context { predictor: &mut f, latent: None, monitor: &memory, seed: 0 };
    assert!(matches!(explainer.explain(&mut cx, &x, &top()), Err(Error::Cancelled)));

    // An error of the host's part comes back through the plugin.
    f.panic = true;
    let latent = Some(LatentSpace { generator: &mut g, encoder: &mut e, direction: &direction });
    let mut cx = Context { predictor: &mut f, latent, monitor: &Silent, seed: 0 };
    says(
        explainer.explain(&mut cx, &x, &top()),
        &["example.every-kind", "host: predict: panic: the host's own"],
    );
}

#[test]
fn a_panic_becomes_an_error_and_the_next_call_works() {
    let lib = every_kind();
    let asked = |function: &str| json!({ "panic": function });
    let who = "plugin example.every-kind";
    let text = says(
        plugin::generator(&lib, &asked("create")).map(|_| ()),
        &[who, "create: panic at ", "every_kind.rs:", ": as asked, in create"],
    );
    assert_eq!(text.matches("panic").count(), 1);
    let mut g = plugin::generator(&lib, &asked("synthesize")).unwrap();
    let w = g.sample(2, 0).unwrap();
    says(g.synthesize(&w), &[who, "synthesize: panic at ", "as asked, in synthesize"]);
    says(g.synthesize(&w), &["panic at"]);
    assert_eq!(g.sample(2, 0).unwrap(), w);
    let x = halves(1, 0.6, 0.5);
    let mut e = plugin::encoder(&lib, &asked("encode")).unwrap();
    says(e.encode(&x), &[who, "encode: panic at"]);
    let mut f = plugin::predictor(&lib, &asked("gradients")).unwrap();
    says(f.gradients().unwrap().gradients(&x, &GradientRequest::default()), &[who, "gradients: panic at"]);
    assert!(f.predict(&x).is_ok());
    let mut finder = plugin::direction_finder(&lib, &asked("find")).unwrap();
    says(finder.find(&w, &Targets { values: vec![0.0, 1.0], threshold: 0.5 }), &[who, "find: panic at"]);
    let mut explainer = plugin::explainer(&lib, &asked("explain")).unwrap();
    let mut cx = Context { predictor: &mut *f, latent: None, monitor: &Silent, seed: 0 };
    says(explainer.explain(&mut cx, &x, &top()), &[who, "explain: panic at"]);
}

#[test]
fn parameters_are_refused_by_the_plugin_in_its_own_words() {
    let lib = every_kind();
    says(
        plugin::encoder(&lib, &json!({"panik": "x"})).map(|_| ()),
        &["create: params: unknown field `panik`"],
    );
    says(plugin::encoder(&lib, &json!({"panic": 3})).map(|_| ()), &["invalid type"]);
    says(plugin::encoder(&lib, &json!([1])).map(|_| ()), &["expected a table, found [1]"]);
}

#[test]
fn instances_move_between_threads_and_work_side_by_side() {
    let lib = every_kind();
    let workers: Vec<_> = (0..4)
        .map(|seed| {
            let mut g = plugin::generator(&lib, &Value::Null).unwrap();
            std::thread::spawn(move || {
                let w = g.sample(5, seed).unwrap();
                (g.synthesize(&w).unwrap(), w)
            })
        })
        .collect();
    for worker in workers {
        let (x, w) = worker.join().unwrap();
        assert!((x.image(4)[15] - (0.5 + 0.1 * w.code(4)[1])).abs() < 1e-6);
    }
}

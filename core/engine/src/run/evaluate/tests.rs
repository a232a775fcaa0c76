use super::*;
use crate::manifest::{RandomisationMode, RawManifest};
use crate::run::case::read_array;
use crate::run::folder::read_json;
use crate::run::tests::{Counter, F, Place, parts, place};
use crate::run::{RunOutcome, run};
use crate::testing::{LinearEncoder, PixelPredictor, SIDE};
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use shiftlens_api::{Encoder, Explainer, GradientRequest, Silent, Target};
use shiftlens_evaluation::heatmap::{self as measures, RoadParams, at_size};
use shiftlens_evaluation::statistics::Verdict;
use shiftlens_evaluation::{Scorer, counterfactual};
use std::path::Path;

/// All metrics, nothing random but what the seed draws.
fn spec() -> EvaluationSpec {
    EvaluationSpec {
        metrics: None,
        images: None,
        steps: 16,
        baselines: vec![Baseline::Blur, Baseline::Mean, Baseline::Generator],
        seed: 5,
        budget: 400,
        oracle: None,
        features: None,
        randomisation: None,
        confidence: 0.95,
        alpha: 0.05,
    }
}

/// The same map for every image: `value` at the first pixel, on which f depends alone.
struct Truth(&'static str, f32);

impl Explainer for Truth {
    fn explain(&mut self, _: &mut Context<'_>, x: &Images, _: &Target) -> Result<Vec<Vec<Explanation>>> {
        let map = || {
            let mut data = vec![0.0; SIDE * SIDE];
            data[0] = self.1;
            Heatmap::new(SIDE, SIDE, data)
        };
        let one = |_| Ok(vec![Explanation::Heatmap { title: self.0.into(), map: map()?, notes: vec![] }]);
        (0..x.len()).map(one).collect()
    }
}

/// A study whose explainers are a latent shift and these.
fn planted(explainers: Vec<Box<dyn Explainer>>) -> (Place, Components) {
    let mut p = place();
    p.study.evaluation = Some(spec());
    let mut parts = parts(F);
    parts.explainers.truncate(1);
    parts.explained.truncate(1);
    let second = p.study.explainers.pop().unwrap();
    for e in explainers {
        parts.explainers.push(e);
        parts.explained.push(vec![parts.target.clone()]);
        p.study.explainers.push(second.clone());
    }
    (p, parts)
}

fn run_in(p: &Place, name: &str, parts: Components) -> RunOutcome {
    p.run_with(parts, &p.out(name), &Counter::default()).unwrap()
}

fn case(p: &Place, run: &str, id: &str) -> CaseRecord {
    read_json(&p.dir.path().join(format!("{run}/cases/{id}/case.json"))).unwrap()
}

fn ids(p: &Place) -> Vec<String> {
    data::scan(&p.study.data).unwrap().into_iter().map(|i| i.id).collect()
}

#[track_caller]
fn value(case: &CaseRecord, method: &str, metric: &str) -> Option<f64> {
    let found = case.evaluation.iter().find(|v| v.method == method && v.metric == metric);
    found.unwrap_or_else(|| panic!("no {metric} of {method}: {:?}", case.evaluation)).value
}

/// Fails unless a value is the expected one, but for the rounding of JSON's reader.
#[track_caller]
fn same(case: &CaseRecord, method: &str, metric: &str, expected: Option<f64>) {
    let found = value(case, method, metric);
    let close = match (found, expected) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-14 * b.abs().max(1.0),
        (a, b) => a == b,
    };
    assert!(close, "{}: {metric} of {method} is {found:?}, expected {expected:?}", case.id);
}

#[test]
fn values_are_those_of_the_metrics_on_the_runs_arrays() {
    let (p, parts) = planted(vec![Box::new(Truth("Truth", 2.0))]);
    run_in(&p, "a", parts);
    let mut flips = 0;
    for id in ids(&p) {
        let folder = p.dir.path().join("a/cases").join(&id);
        let record = case(&p, "a", &id);
        let (_, x) = read_array(&folder, "x").unwrap().unwrap();
        let x = Images::new([1, 1, SIDE, SIDE], x).unwrap();
        let (_, map) = read_array(&folder, "heatmap.1").unwrap().unwrap();
        let map = Heatmap::new(SIDE, SIDE, map).unwrap();
        let mut own = F;
        let mut f = |x: &Images| own.predict(x)?.class(1);
        let mut scorer = Scorer::new(&mut f, 7).unwrap();

        let (_, series) = read_array(&folder, "series.0").unwrap().unwrap();
        let series = Images::new([series.len() / 64, 1, SIDE, SIDE], series).unwrap();
        let ExplanationRecord::Shift { lambdas, scores, origin, .. } = &record.explanations[0] else {
            panic!("a shift")
        };
        let outcome = counterfactual::outcome(&counterfactual::Series {
            lambdas,
            scores,
            origin: *origin,
            image: record.score,
            threshold: 0.5,
        });
        let flip = outcome.unwrap().flip();
        let other = flip.map(|f| series.slice(f.index, f.index + 1));
        let blur = measures::Baseline::Blur { sigma: 0.5 }.of(&x).unwrap();
        let mean = measures::Baseline::Mean.of(&x).unwrap();
        for (name, baseline) in [("blur", Some(&blur)), ("mean", Some(&mean)), ("generator", other.as_ref())]
        {
            let mut area = |insert: bool| {
                let b = baseline?;
                let way = if insert { measures::insertion } else { measures::deletion };
                Some(way(&mut scorer, &x, &map, b, 16).unwrap().area())
            };
            let (rise, fall) = (area(true), area(false));
            same(&record, "Truth", &format!("insertion_auc.{name}"), rise);
            same(&record, "Truth", &format!("deletion_auc.{name}"), fall);
        }
        let seed = seed_of(5, &id, "perturbations");
        let road = measures::road(&mut scorer, &x, &map, &RoadParams { seed, ..Default::default() }).unwrap();
        same(&record, "Truth", "road", road.combined());
        same(&record, "Truth", "sparseness", Some(1.0 - 1.0 / 64.0));
        same(&record, "Truth", "max_sensitivity", Some(0.0));
        same(&record, "Truth", "repeatability", Some(1.0));
        same(&record, "Truth", "scores_per_image", Some(0.0));

        same(&record, "Latent shift", "flip_rate", Some(f64::from(u8::from(flip.is_some()))));
        same(&record, "Latent shift", "flip_lambda", flip.map(|f| f.lambda.abs()));
        let change = other.as_ref().map(|o| counterfactual::change(&x, o, 0.05).unwrap());
        same(&record, "Latent shift", "proximity_l1", change.map(|c| c.l1));
        same(&record, "Latent shift", "changed_share", change.map(|c| c.changed));
        // The image is smaller than the window.
        same(&record, "Latent shift", "proximity_ssim", None);
        if let Some(flip) = flip {
            flips += 1;
            // Codes move by λ σ along a unit vector, and G is linear: 0.1 per unit of the code.
            let at = |i: usize| LinearEncoder.encode(&series.slice(i, i + 1)).unwrap();
            let (from, to) = (at(*origin), at(flip.index));
            let whole = counterfactual::distance(from.code(0), to.code(0)).unwrap();
            let share = flip.lambda.abs() / f64::from((lambdas[flip.index]).abs());
            let found = value(&record, "Latent shift", "flip_distance").unwrap();
            assert!((found - share * whole).abs() < 1e-3, "{id}: {found}, expected {}", share * whole);
        }
        // Far along a random direction this f answers NaN for a white corner.
        assert!(record.remarks.iter().all(|r| r.starts_with("random direction: scores")), "{record:?}");
    }
    assert!(flips > 6, "{flips} flips");
}

#[test]
fn a_good_map_is_told_from_chance_and_equal_ones_are_not_told_apart() {
    let (mut p, parts) = planted(vec![Box::new(Truth("Truth", 2.0)), Box::new(Truth("Same", 0.5))]);
    let wanted = [Metric::InfidelityUnexplained, Metric::EnergyPointingGame];
    p.study.evaluation.as_mut().unwrap().metrics = Some(wanted.to_vec());
    let found = run_in(&p, "a", parts).evaluation.unwrap();
    let table = found.heatmaps.unwrap();
    assert_eq!(table.explainers, ["Truth", "Same", RANDOM_HEATMAP]);
    // There are no masks, and nothing else was asked for.
    let [m] = &table.metrics[..] else { panic!("{:?}", table.metrics) };
    assert_eq!(m.key, "infidelity_unexplained");
    assert!(m.means[0].n >= 8 && m.means[0].value.unwrap() < 1e-9, "{:?}", m.means);
    for d in m.differences.iter().filter(|d| d.b == RANDOM_HEATMAP) {
        assert!(d.verdict == Verdict::Real && d.p_holm.unwrap() <= 0.05, "{d:?}");
        assert_eq!(d.ahead.as_ref(), Some(&d.a));
    }
    let same = &m.differences[0];
    assert_eq!((same.a.as_str(), same.b.as_str(), same.p), ("Truth", "Same", Some(1.0)));
    assert_ne!(same.verdict, Verdict::Real);
    assert!(found.counterfactuals.is_none() && found.sets.is_empty());
}

#[test]
fn some_cases_are_measured_and_a_resumed_run_has_the_same_figures() {
    let (mut p, parts) = planted(vec![Box::new(Truth("Truth", 2.0))]);
    p.study.evaluation.as_mut().unwrap().images = Some(4);
    let first = run_in(&p, "a", parts);
    let measured = |run: &str| -> Vec<String> {
        ids(&p).into_iter().filter(|id| !case(&p, run, id).evaluation.is_empty()).collect()
    };
    let all = ids(&p);
    assert_eq!(measured("a"), [&all[0], &all[3], &all[6], &all[9]].map(Clone::clone));
    assert_eq!((first.evaluation.as_ref().unwrap().cases, first.evaluation.as_ref().unwrap().groups), (4, 4));

    let figures = || {
        let mut value: serde_json::Value = read_json(&p.dir.path().join("a/evaluation.json")).unwrap();
        assert!(value.as_object_mut().unwrap().remove("timings").is_some());
        value
    };
    let before = figures();
    for id in [&all[3], &all[4]] {
        std::fs::remove_dir_all(p.dir.path().join("a/cases").join(id)).unwrap();
    }
    std::fs::remove_file(p.dir.path().join("a/evaluation.json")).unwrap();
    let (_, again) = planted(vec![Box::new(Truth("Truth", 2.0))]);
    assert_eq!(run_in(&p, "a", again).resumed, 10);
    assert_eq!(figures(), before);

    // A case that was made without its values is made again; another budget is another run.
    let path = p.dir.path().join(format!("a/cases/{}/case.json", all[6]));
    let mut record = case(&p, "a", &all[6]);
    record.evaluation.clear();
    std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    let (_, again) = planted(vec![Box::new(Truth("Truth", 2.0))]);
    assert_eq!(run_in(&p, "a", again).resumed, 11);
    assert_eq!(figures(), before);
    p.study.evaluation.as_mut().unwrap().budget = 300;
    let (_, again) = planted(vec![Box::new(Truth("Truth", 2.0))]);
    let e = p.run_with(again, &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(e.contains("differs in evaluation"), "{e}");
}

/// Fails for images that are brighter than f's own, as those around x are.
struct Fussy;
impl Explainer for Fussy {
    fn explain(&mut self, cx: &mut Context<'_>, x: &Images, _: &Target) -> Result<Vec<Vec<Explanation>>> {
        if x.as_slice().iter().any(|v| (v * 255.0).fract().abs().min(1.0 - (v * 255.0).fract()) > 1e-3) {
            return Err(Error::invalid("values between two grey levels"));
        }
        cx.predictor.predict(&Images::concat(&vec![x.clone(); 30])?)?;
        Truth("Truth", 1.0).explain(cx, x, &Target { class: 1, name: String::new() })
    }
}

#[test]
fn what_fails_is_a_remark_and_what_is_dear_is_left_out() {
    let (p, parts) = planted(vec![Box::new(Fussy), Box::new(Truth("Truth", 1.0))]);
    let found = run_in(&p, "a", parts).evaluation.unwrap();
    let record = case(&p, "a", &ids(&p)[0]);
    assert_eq!(record.remarks, ["max_sensitivity of Truth: values between two grey levels"]);
    assert_eq!(value(&record, "Truth", "max_sensitivity"), None);
    assert_eq!(value(&record, "Truth", "scores_per_image"), Some(30.0));
    assert_eq!(value(&record, "Truth (2)", "max_sensitivity"), Some(0.0));
    assert!(found.remarks.iter().any(|r| r.contains("on 12 of 12 cases")), "{:?}", found.remarks);

    let (mut p, parts) = planted(vec![Box::new(Fussy)]);
    p.study.evaluation.as_mut().unwrap().budget = 25;
    let found = run_in(&p, "a", parts).evaluation.unwrap();
    let record = case(&p, "a", &ids(&p)[0]);
    assert_eq!((value(&record, "Truth", "repeatability"), record.remarks.len()), (None, 0));
    assert!(found.remarks[0].contains("asks f 30 times"), "{:?}", found.remarks);
}

/// The image itself.
struct Mirror;
impl Explainer for Mirror {
    fn explain(&mut self, _: &mut Context<'_>, x: &Images, _: &Target) -> Result<Vec<Vec<Explanation>>> {
        let (h, w) = x.size();
        let map = |i: usize| Heatmap::new(h, w, x.image(i)[..h * w].to_vec());
        let one = |i| Ok(vec![Explanation::Heatmap { title: "Mirror".into(), map: map(i)?, notes: vec![] }]);
        (0..x.len()).map(one).collect()
    }
}

/// The gradient of f's logit.
struct Slope;
impl Explainer for Slope {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        let white = cx.predictor.gradients().ok_or_else(|| Error::invalid("a black box"))?;
        let request =
            GradientRequest { input_gradient: true, classes: vec![target.class], ..Default::default() };
        let slope = white.gradients(x, &request)?.input_gradient.ok_or_else(|| Error::invalid("none"))?;
        let [_, _, h, w] = slope.shape()[..] else { return Err(Error::invalid("no image")) };
        let map = |i: usize| Heatmap::new(h, w, slope.as_slice()[i * h * w..][..h * w].to_vec());
        let one = |i| Ok(vec![Explanation::Heatmap { title: "Slope".into(), map: map(i)?, notes: vec![] }]);
        (0..x.len()).map(one).collect()
    }
}

const KNEE: &str = r#"
schema = 1
name = "sanity"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "CLASSIFIER"
input = { mean = [0.5], std = [0.25] }
output = { classes = ["healthy", "osteoarthritis"], target = "osteoarthritis" }
[evaluation]
metrics = ["randomisation_spearman", "sparseness"]
randomisation = { mode = "MODE", images = 2 }
budget = 20
[[explainer]]
kind = "plugin:fake"
[[explainer]]
kind = "plugin:fake"
[plugins]
fake = "fake"
"#;

#[test]
fn maps_that_follow_f_change_with_its_weights_and_others_do_not() {
    let p = place();
    let classifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/knee/classifier.onnx");
    for (mode, expected) in
        [("cascading", RandomisationMode::Cascading), ("independent", RandomisationMode::Independent)]
    {
        let text = KNEE
            .replace("CLASSIFIER", &classifier.display().to_string().replace('\\', "/"))
            .replace("MODE", mode);
        let study =
            RawManifest::parse("a.toml", &text, &[]).unwrap().check(&p.dir.path().join("a.toml")).unwrap();
        assert_eq!(study.evaluation.as_ref().unwrap().randomisation.unwrap().mode, expected);
        let model = crate::registry::Randomisable::open(&study.predictor).unwrap();
        let layers = model.layers();
        let target = Target { class: 1, name: "osteoarthritis".into() };
        let mut all = parts(F);
        // No layer drawn anew: f itself.
        (all.predictor, all.latent) = (model.predictor(0..0, 0).unwrap(), None);
        all.explainers = vec![Box::new(Slope), Box::new(Mirror)];
        all.explained = vec![vec![target.clone()]; 2];
        (all.classes, all.target) = (vec!["healthy".into(), "osteoarthritis".into()], target);
        let items = data::scan(&study.data).unwrap();
        let found = run(&study, &mut all, &items, &p.out(mode), &Silent, &Counter::default()).unwrap();
        let evaluation = found.evaluation.unwrap();
        let summary = evaluation.randomisation.unwrap();
        assert_eq!((summary.images, summary.layers.len()), (2, 2 * layers.len()));
        assert_eq!(summary.layers[0].layer, layers[layers.len() - 1], "from the output on");
        for l in summary.layers.iter().filter(|l| l.method == "Mirror") {
            assert!(l.spearman.unwrap() > 0.999_999 && l.top == Some(1.0), "{l:?}");
        }
        let slope: Vec<f64> =
            summary.layers.iter().filter(|l| l.method == "Slope").map(|l| l.spearman.unwrap()).collect();
        // With all weights random nothing is left; of one layer alone at least one matters as much.
        let least = slope.iter().copied().fold(1.0, f64::min);
        assert!(least < 0.5, "{mode}: {slope:?}");
        if mode == "cascading" {
            assert!(slope[slope.len() - 1] < 0.5, "{slope:?}");
        }
        let metric = &evaluation.heatmaps.unwrap().metrics;
        let randomised = metric.iter().find(|m| m.key == "randomisation_spearman").unwrap();
        assert_eq!(randomised.means.iter().map(|m| m.n).collect::<Vec<_>>(), [2, 2, 0]);
        assert!(randomised.means[0].value.unwrap() < randomised.means[1].value.unwrap());

        // What was compared is not compared again.
        let path = p.dir.path().join(mode).join("randomisation.json");
        let written = path.metadata().unwrap().modified().unwrap();
        run(&study, &mut all, &items, &p.out(mode), &Silent, &Counter::default()).unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
    }
}

#[test]
fn names_are_unique_and_seeds_differ() {
    let titles = ["CAM", RANDOM_HEATMAP, "CAM", "CAM", "Latent shift"];
    let expected = ["CAM", "random heatmap (2)", "CAM (2)", "CAM (3)", "Latent shift"];
    assert_eq!(names(titles.into_iter()), expected);
    let all = [seed_of(0, "a", "x"), seed_of(1, "a", "x"), seed_of(0, "b", "x"), seed_of(0, "a", "y")];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn images_are_measured_as_f_is_fed_them() {
    let f = PixelPredictor { gain: 1.0, bias: 0.0 };
    let x = Images::new([1, 1, 4, 4], (0..16).map(|v| v as f32 / 15.0).collect()).unwrap();
    // Of a predictor that resizes as it likes nothing is known.
    assert_eq!(seen_by(&f, None, &x).unwrap(), x);
    struct Sized;
    impl Predictor for Sized {
        fn info(&self) -> shiftlens_api::PredictorInfo {
            shiftlens_api::PredictorInfo {
                classes: vec!["a".into()],
                input_size: Some((2, 2)),
                channels: 3,
                backend: String::new(),
            }
        }
        fn predict(&mut self, _: &Images) -> Result<shiftlens_api::Scores> {
            Err(Error::invalid("not asked"))
        }
    }
    let seen = seen_by(&Sized, Some(Filter::Bilinear), &x).unwrap();
    let expected = resize::images(&x.with_channels(3).unwrap(), (2, 2), Filter::Bilinear).unwrap();
    assert_eq!((seen.shape(), &seen), ([1, 3, 2, 2], &expected));
    let map = Heatmap::new(1, 1, vec![2.0]).unwrap();
    assert_eq!(at_size(&map, (2, 2)).unwrap().as_slice(), [2.0; 4]);
}

use super::*;
use crate::testing::{D, LinearGenerator, PixelPredictor};
use shiftlens_api::Silent;

const PLAN: Plan = Plan {
    holdout: 0.25,
    threshold: 0.5,
    decision: 0.5,
    seed: 3,
    along: Along::Normal,
    audit: AuditPlan { refits: 3, randoms: 4, codes: 50 },
};

fn sample<'a>(codes: &'a LatentCodes, values: &'a [f32]) -> Sample<'a> {
    Sample { codes, values, groups: None, what: "sampled codes" }
}

fn target() -> Target {
    Target { class: 1, name: "present".into() }
}

fn found(gain: f32, bias: f32, n: usize) -> Result<Found> {
    let mut g = LinearGenerator;
    let w = g.sample(n, 7)?;
    let mut f = PixelPredictor { gain, bias };
    let y = score_codes(&w, &mut g, &mut f, &target(), None, &Silent)?;
    // In closed form: far out the fake predictor answers NaN.
    let at = |w: f32| 1.0 / (1.0 + (-(gain * w + bias)).exp());
    let mut ask = |w: &LatentCodes| Ok((0..w.len()).map(|i| at(w.code(i)[0])).collect());
    let mut finder = Logistic::new(LogisticParams::default());
    find(&mut finder, sample(&w, &y), PLAN, Some(&mut ask), &Silent)
}

#[test]
fn it_points_where_the_predictor_looks() {
    // The predictor reads w[0] alone, so alpha must be the first axis and sigma its spread, 1.
    let Found { direction, audit } = found(3.0, 0.4, 2000).unwrap();
    assert!(direction.alpha()[0] > 0.99, "{:?}", direction.alpha());
    assert!((direction.sigma - 1.0).abs() < 0.05 && direction.mean.abs() < 0.1);
    assert_eq!(audit.samples, (1500, 500));
    assert!(audit.auc.unwrap() > 0.99 && audit.accuracy.unwrap() > 0.95 && audit.stability.unwrap() > 0.98);
    // f crosses 0.5 at w[0] = -0.4 / 3; so does c.
    let at = |p: f32| 1.0 / (1.0 + (-(direction.intercept + direction.slope * p)).exp());
    assert!(at(0.1) > 0.5 && at(-0.4) < 0.5, "{direction:?}");
    assert!(remarks(&audit).is_empty());
    let (refits, random) = (audit.bootstrap.unwrap(), audit.random.unwrap());
    assert!(refits.refits == 3 && refits.least_cosine > 0.97 && refits.least_cosine <= refits.mean_cosine);
    assert!(random.directions == 4 && random.auc_max.unwrap() < 0.97, "{random:?}");
    // f flips where |w[0] + 0.4 / 3| <= λ, of 50 codes of spread 1 nearly always within 3 σ.
    let shares: Vec<f64> = audit.flips.iter().map(|f| f.share).collect();
    assert!(shares.is_sorted() && shares[0] > 0.5 && shares[0] < 0.85 && shares[2] > 0.95, "{shares:?}");
    assert!(audit.flips.iter().all(|f| f.codes == 50 && f.random.unwrap() < f.share + 1e-9));
}

#[test]
fn a_missing_class_is_an_error_with_figures_and_a_rare_one_a_remark() {
    let message = found(0.1, -6.0, 200).unwrap_err().to_string();
    assert!(
        message.contains("200 of 200 sampled codes are negative") && message.contains("threshold 0.5"),
        "{message}"
    );
    let rare = found(3.0, -8.3, 4000).unwrap();
    assert!(rare.audit.positives < 0.01 && rare.audit.positives > 0.0);
    assert!(remarks(&rare.audit)[0].contains("it rests on few examples"), "{:?}", remarks(&rare.audit));
}

#[test]
fn the_same_seed_gives_the_same_direction() {
    assert_eq!(found(2.0, 0.0, 300).unwrap().direction, found(2.0, 0.0, 300).unwrap().direction);
}

#[test]
fn a_finder_without_a_classifier_gets_one() {
    struct Axis;
    impl DirectionFinder for Axis {
        fn find(&mut self, _: &LatentCodes, _: &Targets) -> Result<Direction> {
            let mut alpha = vec![0.0; D];
            alpha[0] = 1.0;
            Direction::new(alpha, 1, 1.0, 0.0)
        }
    }
    let w = LinearGenerator.sample(400, 1).unwrap();
    let y: Vec<f32> = (0..400).map(|i| f32::from(u8::from(w.code(i)[0] > 0.3))).collect();
    let f = find(&mut Axis, sample(&w, &y), PLAN, None, &Silent).unwrap();
    assert!(f.direction.slope > 0.0 && f.audit.stability == Some(1.0));
    assert!(
        (-f.direction.intercept / f.direction.slope - 0.3).abs() < 0.1,
        "boundary where the labels change"
    );
}

#[test]
fn every_kind_finds_what_the_predictor_looks_at() {
    // Of the first axis alone the codes have twice the spread, so that it is the first component too.
    let mut w = LinearGenerator.sample(1200, 7).unwrap();
    let data = w.as_slice().iter().enumerate().map(|(i, v)| if i % D == 0 { 2.0 * v } else { *v }).collect();
    w = LatentCodes::new([1200, 1, D], data).unwrap();
    let mut f = PixelPredictor { gain: 1.0, bias: 0.5 };
    let y = score_codes(&w, &mut LinearGenerator, &mut f, &target(), None, &Silent).unwrap();
    let extremes = SvmParams { extremes: Some(0.25), ..Default::default() };
    let kinds: [(&str, Box<dyn DirectionFinder>); 6] = [
        ("svm", Box::new(Svm::new(SvmParams::default()))),
        ("svm of extremes", Box::new(Svm::new(extremes))),
        ("ridge", Box::new(Ridge::new(RidgeParams::default()))),
        ("mean difference", Box::new(MeanDifference::new(Default::default()))),
        ("pca", Box::new(Principal::new(Default::default()))),
        ("logistic of extremes", {
            Box::new(Logistic::new(LogisticParams { extremes: Some(0.25), ..Default::default() }))
        }),
    ];
    for (kind, mut finder) in kinds {
        let found = find(finder.as_mut(), sample(&w, &y), PLAN, None, &Silent).unwrap();
        let Found { direction, audit } = &found;
        assert!(direction.alpha()[0] > 0.98, "{kind}: {:?}", direction.alpha());
        assert!((direction.sigma - 2.0).abs() < 0.1, "{kind}: {}", direction.sigma);
        // f says yes from w[0] = -0.5 on, and so does c.
        let border = -direction.intercept / direction.slope;
        assert!((border + 0.5).abs() < 0.2 && direction.slope > 0.0, "{kind}: {border}");
        assert!(audit.auc.unwrap() > 0.98 && audit.accuracy.unwrap() > 0.93, "{kind}: {audit:?}");
        assert!(audit.bootstrap.as_ref().unwrap().least_cosine > 0.95 && audit.flips.is_empty(), "{kind}");
    }
}

#[test]
fn a_direction_that_says_nothing_is_remarked_upon() {
    let mut found = found(3.0, 0.4, 400).unwrap();
    found.audit.auc = Some(0.7);
    found.audit.random.as_mut().unwrap().auc_max = Some(0.71);
    let last = found.audit.flips.last_mut().unwrap();
    (last.share, last.random) = (0.3, Some(0.4));
    let said = remarks(&found.audit).join(" ");
    assert!(
        said.contains("no more of the predictor than chance")
            && said.contains("30 % of 50")
            && said.contains("try along = \"pattern\""),
        "{said}"
    );
}

#[test]
fn groups_are_never_cut() {
    let groups: Vec<String> = (0..50).map(|i| format!("p{}", i / 7)).collect();
    let order = split_order(50, Some(&groups), 1);
    let names: Vec<&String> = order.iter().map(|i| &groups[*i]).collect();
    let mut blocks = names.clone();
    blocks.dedup();
    assert_eq!(blocks.len(), 8, "{names:?}");
    assert_ne!(split_order(50, None, 1), split_order(50, None, 2));
}

#[test]
fn the_pattern_moves_along_the_codes_and_leaves_the_classifier() {
    // Coordinates 0 and 1 are the same but for a tenth; f looks at their difference, of small spread, and a little at
    // their sum.
    let base = LinearGenerator.sample(1500, 9).unwrap();
    let mut data = base.as_slice().to_vec();
    for code in data.chunks_exact_mut(D) {
        code[1] = code[0] + 0.1 * code[1];
    }
    let w = LatentCodes::new([1500, 1, D], data).unwrap();
    let logit = |c: &[f32]| 4.0 * (c[0] - c[1]) + 0.8 * (c[0] + c[1]);
    let mut ask = |w: &LatentCodes| {
        Ok((0..w.len()).map(|i| 1.0 / (1.0 + (-logit(w.code(i))).exp())).collect::<Vec<f32>>())
    };
    let y = ask(&w).unwrap();
    let mut run = |along| {
        let mut finder = Logistic::new(LogisticParams::default());
        find(&mut finder, sample(&w, &y), Plan { along, ..PLAN }, Some(&mut ask), &Silent).unwrap()
    };
    let (normal, pattern) = (run(Along::Normal), run(Along::Pattern));
    assert_eq!(normal.direction.alpha(), pattern.direction.alpha());
    assert_eq!(normal.direction.classify(&w).unwrap(), pattern.direction.classify(&w).unwrap());
    assert_eq!(normal.audit.auc, pattern.audit.auc);
    // The two coordinates move together, further than along the classifier's normal.
    let (step, half) = (pattern.direction.step(), 0.5f32.sqrt());
    assert!((step[0] - half).abs() < 0.03 && (step[1] - half).abs() < 0.03, "{step:?}");
    assert!(pattern.direction.sigma > 1.3 * normal.direction.sigma);
    assert!(
        pattern.audit.flips[1].share > 0.9 && pattern.audit.bootstrap.as_ref().unwrap().least_cosine > 0.99
    );
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &pattern, "a").unwrap();
    assert_eq!(load(dir.path(), "a").unwrap().unwrap().direction, pattern.direction);
}

#[test]
fn files_keep_the_direction_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let f = found(2.0, 0.0, 300).unwrap();
    assert_eq!(load(dir.path(), "a").unwrap(), None);
    save(dir.path(), &f, "a").unwrap();
    let back = load(dir.path(), "a").unwrap().unwrap();
    assert_eq!((back.direction, back.audit.samples), (f.direction, f.audit.samples));
    assert!((back.audit.auc.unwrap() - f.audit.auc.unwrap()).abs() < 1e-12);
    assert_eq!(load(dir.path(), "b").unwrap(), None);
    std::fs::write(dir.path().join("direction.safetensors"), b"junk").unwrap();
    assert!(load(dir.path(), "a").unwrap_err().to_string().contains("remove the file"));
}

#[test]
fn problems_side_by_side_are_those_one_after_another() {
    let problems: Vec<(LatentCodes, Targets)> = (0..5)
        .map(|seed| {
            let w = LinearGenerator.sample(60 + seed, seed as u64).unwrap();
            let values = (0..w.len()).map(|i| 1.0 / (1.0 + (-w.code(i)[seed % D]).exp())).collect();
            (w, Targets { values, threshold: 0.5 })
        })
        .collect();
    let finders: [Box<dyn DirectionFinder>; 3] = [
        Box::new(Logistic::new(LogisticParams::default())),
        Box::new(Svm::new(SvmParams::default())),
        Box::new(Ridge::new(RidgeParams::default())),
    ];
    for mut finder in finders {
        let together = finder.find_all(&problems).unwrap();
        let alone: Vec<Direction> = problems.iter().map(|(w, y)| finder.find(w, y).unwrap()).collect();
        assert_eq!(together, alone);
        assert_eq!(finder.find_all(&[]).unwrap(), []);
    }
}

use super::*;
use crate::testing::{D, LinearGenerator, PixelPredictor};
use shiftlens_api::Silent;

const PLAN: Plan = Plan { holdout: 0.25, threshold: 0.5, seed: 3 };

fn target() -> Target {
    Target { class: 1, name: "present".into() }
}

fn found(gain: f32, bias: f32, n: usize) -> Result<Found> {
    let mut g = LinearGenerator;
    let w = g.sample(n, 7)?;
    let mut f = PixelPredictor { gain, bias };
    let y = score_codes(&w, &mut g, &mut f, &target(), &Silent)?;
    find(&mut Logistic::new(LogisticParams::default()), &w, &y, None, PLAN, "sampled codes", &Silent)
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
    let f = find(&mut Axis, &w, &y, None, PLAN, "codes", &Silent).unwrap();
    assert!(f.direction.slope > 0.0 && f.audit.stability == Some(1.0));
    assert!(
        (-f.direction.intercept / f.direction.slope - 0.3).abs() < 0.1,
        "boundary where the labels change"
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

//! Runs with a trust gate, a training set of their own, and a crop.

use super::tests::{Counter, F, parts, place, save};
use super::*;
use crate::data;
use crate::manifest::{DataSpec, ImageSource, TrustSpec};
use crate::registry::Refine;
use crate::testing::{LinearEncoder, LinearGenerator, SIDE};
use shiftlens_api::record::{AuditRecord, CaseRecord, ExplanationRecord, Metric};
use shiftlens_api::{Encoder, Generator, Images, LatentCodes};

/// Codes that are off by a number in coordinate 0.
struct Off(f32);
impl Encoder for Off {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let w = LinearEncoder.encode(x)?;
        let d = w.shape()[2];
        let moved = w.as_slice().iter().enumerate().map(|(p, v)| if p % d == 0 { v + self.0 } else { *v });
        LatentCodes::new(w.shape(), moved.collect())
    }
}
/// Finds the true code.
struct Truth;
impl Refine for Truth {
    fn refine(&mut self, x: &Images, _: &LatentCodes, _: &dyn Monitor) -> Result<LatentCodes> {
        LinearEncoder.encode(x)
    }
}

#[test]
fn the_gate_flags_tries_again_and_explains_the_better_code() {
    let mut p = place();
    let retry = p.study.direction.as_ref().map(|d| d.finder.clone());
    p.study.trust = Some(TrustSpec { max_gap: Some(0.1), max_error: None, retry });
    let gated = |refine: bool| {
        let mut all = parts(F);
        all.latent.as_mut().unwrap().encoder = Box::new(Off(0.9));
        all.refiner = refine.then(|| Box::new(Truth) as Box<dyn Refine>);
        all
    };
    let left = p.run_with(gated(false), &p.out("a"), &Counter::default()).unwrap().metrics.values;
    let tried = p.run_with(gated(true), &p.out("b"), &Counter::default()).unwrap().metrics.values;
    let value = |m: &BTreeMap<String, Metric>, name: &str| m[name].value.unwrap();
    let flagged = value(&left, "flagged_share");
    assert!(flagged > 0.3 && flagged == value(&tried, "encoder_flagged_share"), "{flagged}");
    assert_eq!(value(&tried, "flagged_share"), 0.0);
    assert_eq!(value(&left, "reconstruction_gap_mean"), value(&tried, "encoder_gap_mean"));
    assert!(value(&tried, "reconstruction_gap_mean") < 0.6 * value(&tried, "encoder_gap_mean"));
    assert!(!left.contains_key("encoder_gap_mean"), "nothing was tried");

    let mut retried = 0;
    for item in data::scan(&p.study.data).unwrap() {
        let of = |run: &str| {
            let home = p.dir.path().join(run).join("cases").join(&item.id);
            let record: CaseRecord = folder::read_json(&home.join("case.json")).unwrap();
            (record, case::read_arrays(&home.join("arrays.safetensors")).unwrap()["code.0"].1.clone())
        };
        let ((before, wrong), (after, code)) = (of("a"), of("b"));
        let (was, is) = (before.trust.unwrap(), after.trust.unwrap());
        assert_eq!(was.flagged(), is.retry.is_some());
        let ExplanationRecord::Shift { scores, origin, reconstruction_gap, .. } = &after.explanations[0]
        else {
            panic!("a shift")
        };
        let start = scores[*origin];
        assert!((start - is.reconstruction.score).abs() < 1e-5, "the series starts from the chosen code");
        assert!((reconstruction_gap - is.reconstruction.gap).abs() < 1e-5);
        match is.retry {
            Some(r) => {
                retried += 1;
                assert!(r.kept && r.before == was.reconstruction && (wrong[0] - code[0] - 0.9).abs() < 1e-4);
            }
            None => assert_eq!(wrong, code),
        }
    }
    assert!(retried > 3);
}

#[test]
fn truth_labels_of_a_training_set_leave_the_studys_images_alone() {
    let mut p = place();
    let w = LinearGenerator.sample(60, 5).unwrap();
    let x = LinearGenerator.synthesize(&w).unwrap();
    for i in 0..60 {
        let label = u8::from(w.code(i)[0] > 0.0);
        save(&p.dir.path().join(format!("train/{label}/t{i:02}.png")), x.image(i));
    }
    let train = p.dir.path().join("train");
    let d = p.study.direction.as_mut().unwrap();
    d.labels = LabelSource::Truth;
    d.data = Some(DataSpec { images: ImageSource::Folder(train.clone()), ..p.study.data.clone() });
    let outcome = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    assert!(outcome.remarks.iter().all(|r| !r.contains("this very list")), "{:?}", outcome.remarks);
    let audit = |run: &str| -> AuditRecord {
        folder::read_json(&p.dir.path().join(run).join("direction/audit.json")).unwrap()
    };
    let found = audit("a");
    assert_eq!(found.samples.0 + found.samples.1, 60);
    assert!(found.flips.len() == 4 && found.flips[3].share > 0.9, "{:?}", found.flips);
    // One image more is another direction.
    save(&train.join("1/more.png"), x.image(0));
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    assert_eq!(audit("a").samples.0 + audit("a").samples.1, 61);
    // f's word on the same codes, for which no image needs a label.
    let d = p.study.direction.as_mut().unwrap();
    d.labels = LabelSource::Predictor;
    d.data.as_mut().unwrap().labels = None;
    p.run_with(parts(F), &p.out("b"), &Counter::default()).unwrap();
    let (of_labels, of_f) = (found, audit("b"));
    assert_eq!(of_f.samples.0 + of_f.samples.1, 61);
    assert!((of_f.sigma - of_labels.sigma).abs() < 0.2 * of_labels.sigma, "{of_f:?}");
    let mut f = F;
    let scores = shiftlens_api::Predictor::predict(&mut f, &x).unwrap().class(1).unwrap();
    let positives = scores.iter().filter(|s| **s >= 0.5).count() as f64 / 60.0;
    assert!((of_f.positives - positives).abs() < 0.15, "{} for {positives}", of_f.positives);
}

#[test]
fn a_crop_is_what_the_components_see() {
    let mut p = place();
    let bytes = vec![77; 2 * SIDE * SIDE];
    let path = p.dir.path().join("images/0/wide.png");
    image::GrayImage::from_raw(2 * SIDE as u32, SIDE as u32, bytes).unwrap().save(path).unwrap();
    p.study.data.crop = Some(SIDE);
    p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap();
    let arrays = case::read_arrays(&p.dir.path().join("a/cases/wide/arrays.safetensors")).unwrap();
    assert_eq!(arrays["x"].0, [1, SIDE, SIDE]);
    p.study.data.crop = Some(SIDE + 1);
    let message = p.run_with(parts(F), &p.out("a"), &Counter::default()).unwrap_err().to_string();
    assert!(message.contains("differs in data"), "another crop is another run: {message}");
    let outcome = p.run_with(parts(F), &p.out("b"), &Counter::default()).unwrap();
    let error = &outcome.failures[0].error;
    assert!(outcome.done == 0 && error.contains("`crop` asks for its centre square of 9"), "{error}");
}

use super::*;
use crate::testing::{D, LinearEncoder, LinearGenerator, PixelPredictor, SIDE};
use shiftlens_api::{GeneratorInfo, LatentSpace, Silent};

fn axis(sigma: f32) -> Direction {
    let mut alpha = vec![0.0; D];
    alpha[0] = 1.0;
    Direction::new(alpha, 1, sigma, 0.0).unwrap()
}

fn series(w0: &[f32], gain: f32, params: &LatentShiftParams, direction: &Direction) -> Vec<ShiftSeries> {
    let mut data = vec![0.0; w0.len() * D];
    w0.iter().enumerate().for_each(|(i, v)| data[i * D] = *v);
    let x = LinearGenerator.synthesize(&LatentCodes::new([w0.len(), 1, D], data).unwrap()).unwrap();
    let (mut generator, mut encoder) = (LinearGenerator, LinearEncoder);
    let mut predictor = PixelPredictor { gain, bias: 0.0 };
    let mut cx = Context {
        predictor: &mut predictor,
        latent: Some(LatentSpace { generator: &mut generator, encoder: &mut encoder, direction }),
        monitor: &Silent,
        seed: 0,
    };
    latent_shift(&mut cx, &x, &Target { class: 1, name: "present".into() }, params).unwrap()
}

#[test]
fn scores_follow_the_closed_form() {
    let params =
        LatentShiftParams { steps: 5, range: Range::Fixed(2.0), threshold: 0.5, ..Default::default() };
    let s = &series(&[0.5], 1.0, &params, &axis(0.8))[0];
    assert_eq!(s.lambdas, [-2.0, -1.0, 0.0, 1.0, 2.0]);
    assert_eq!(s.origin, 2);
    for (lambda, score) in s.lambdas.iter().zip(&s.scores) {
        let expected = 1.0 / (1.0 + (-(0.5 + 0.8 * lambda)).exp());
        assert!((score - expected).abs() < 1e-5, "{lambda}: {score} {expected}");
    }
    assert!((s.code[0] - 0.5).abs() < 1e-5 && s.latent_score.is_none());
    assert_eq!(monotony(s), Some(1.0));
    // The logit is linear, so between λ = -1 (0.4256) and 0 (0.6225) the crossing is near -0.625.
    assert!((flip(&s.lambdas, &s.scores, 0.5).unwrap() + 0.625).abs() < 0.02);
}

#[test]
fn calibration_puts_the_crossing_inside() {
    let params = LatentShiftParams::default();
    let all = series(&[0.1, -2.0, 3.0], 5.0, &params, &axis(1.0));
    // w = 0.1: crossing at -0.1, range 2. w = -2: at 2, range 2.5. w = 3: at -3, 3.75.
    let ends: Vec<f32> = all.iter().map(|s| *s.lambdas.last().unwrap()).collect();
    assert_eq!(ends[0], MIN_RANGE);
    assert!((ends[1] - 2.5).abs() < 0.03 && (ends[2] - 3.75).abs() < 0.03, "{ends:?}");
    for s in &all {
        assert!(s.lambdas.len() == 9 && s.lambdas[4] == 0.0);
        assert!(flip(&s.lambdas, &s.scores, 0.5).is_some());
    }
    // Beyond the limit of the search it is asked further: at 5 the crossing, 6 the range.
    let far = LatentShiftParams { limit: 4.0, ..Default::default() };
    let s = &series(&[4.9], 1.0, &far, &axis(1.0))[0];
    assert_eq!((s.lambdas[8], s.calibration.as_ref().unwrap().flip), (MAX_RANGE, None));
    assert!((flip(&s.lambdas, &s.scores, 0.5).unwrap() + 4.9).abs() < 0.1);
    let still = &series(&[0.3], 0.0, &params, &axis(1.0))[0];
    assert_eq!(still.lambdas[8], MAX_RANGE);
    assert_eq!(monotony(still), None);
}

#[test]
fn a_series_does_not_depend_on_its_neighbours() {
    let p = LatentShiftParams::default();
    let many = series(&[0.1, -2.0, 3.0], 5.0, &p, &axis(1.0));
    assert_eq!(series(&[3.0], 5.0, &p, &axis(1.0))[0], many[2]);
}

#[test]
fn codes_of_w_plus_move_row_by_row() {
    let w = LatentCodes::new([1, 2, D], (0..2 * D).map(|v| v as f32).collect()).unwrap();
    let direction = axis(2.0);
    let edit = Edit { direction: &direction, within: None, latent_layers: 2 };
    let s = edit.codes(&w, &[1.0]).unwrap();
    assert_eq!((s.code(0)[0], s.code(0)[D], s.code(0)[1]), (2.0, 8.0, 1.0));
    let mut d = axis(1.0);
    (d.slope, d.intercept) = (1.0, -3.0);
    assert!((latent_scores(&d, &w).unwrap().unwrap()[0] - 0.5).abs() < 1e-6, "mean of rows is 3");
}

/// Ten style inputs: pixel p is `0.5 + 0.1 w[p mod 10, 0]`. It counts the series that it was asked for.
struct RowGenerator(usize);

impl Generator for RowGenerator {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo { latent_layers: 10, ..LinearGenerator.info() }
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        LinearGenerator.sample(n, seed)
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let [n, rows, d] = w.shape();
        assert!(d == D && (rows == 1 || rows == 10), "[{n}, {rows}, {d}]");
        let row = |p: usize| if rows == 1 { 0 } else { p % 10 };
        let data = (0..n).flat_map(|i| (0..SIDE * SIDE).map(move |p| 0.5 + 0.1 * w.code(i)[row(p) * D]));
        Images::new([n, 1, SIDE, SIDE], data.collect())
    }
    fn series(&mut self, w: &LatentCodes, shift: &Shift<'_>) -> Result<Images> {
        self.0 += 1;
        self.synthesize(&shift.codes(w, 10)?)
    }
}

#[test]
fn a_shift_within_layers_changes_what_they_draw_and_is_calibrated_so() {
    let direction = axis(1.0);
    let x = LinearGenerator.synthesize(&LatentCodes::new([2, 1, D], [[-2.0; D], [1.0; D]].concat()).unwrap());
    let x = x.unwrap();
    let run = |layers: Layers| {
        let mut generator = RowGenerator(0);
        let mut predictor = PixelPredictor { gain: 5.0, bias: 0.0 };
        let mut cx = Context {
            predictor: &mut predictor,
            latent: Some(LatentSpace {
                generator: &mut generator,
                encoder: &mut LinearEncoder,
                direction: &direction,
            }),
            monitor: &Silent,
            seed: 0,
        };
        // Not so far that a pixel becomes white, on which the fake predictor answers NaN.
        let params = LatentShiftParams { layers, limit: 3.0, ..Default::default() };
        let answer = latent_shift(&mut cx, &x, &Target { class: 1, name: "present".into() }, &params);
        answer.map(|s| (s, generator.0))
    };
    let (all, asked) = run(Layers::All).unwrap();
    assert_eq!(asked, 2, "one series for each image");
    let (first, _) = run(Layers::Between(0, 0)).unwrap();
    let (rest, _) = run(Layers::Fine).unwrap();
    for (i, w) in [-2.0f32, 1.0].into_iter().enumerate() {
        // f looks at the pixel of input 0 alone.
        assert_eq!(first[i].lambdas, all[i].lambdas);
        assert_eq!(first[i].scores, all[i].scores);
        assert_eq!(rest[i].lambdas[8], MAX_RANGE, "what f does not look at never crosses");
        assert!(rest[i].scores.iter().all(|s| *s == rest[i].scores[4]));
        for (series, moved) in [(&all[i], 0..10), (&first[i], 0..1), (&rest[i], 8..10)] {
            for (s, lambda) in series.lambdas.iter().enumerate() {
                for (p, v) in series.images.image(s).iter().enumerate() {
                    let t = if moved.contains(&(p % 10)) { *lambda } else { 0.0 };
                    let expected = (0.5 + 0.1 * (w + t)).clamp(0.0, 1.0);
                    assert!((v - expected).abs() < 1e-5, "λ {lambda}, pixel {p}: {v}, expected {expected}");
                }
            }
        }
    }
    let error = run(Layers::Between(8, 12)).unwrap_err().to_string();
    assert!(error.contains("style inputs 8 to 12") && error.contains("10 style inputs"), "{error}");
}

#[test]
fn flips_are_the_nearest_to_zero() {
    let nearest = flip(&[-2.0, -1.0, 0.0, 1.0], &[0.9, 0.1, 0.2, 0.6], 0.5).unwrap();
    assert!((nearest - 0.75).abs() < 1e-6);
    assert_eq!(flip(&[-1.0, 0.0, 1.0], &[0.1, 0.2, 0.3], 0.5), None);
}

#[test]
fn a_series_at_levels_has_the_same_predictions_for_all_images() {
    let params = LatentShiftParams { range: Range::Levels, ..Default::default() };
    let all = series(&[0.3, -1.0, 2.5], 2.0, &params, &axis(1.0));
    for s in &all[..2] {
        assert_eq!(s.lambdas.len(), 6, "five levels and the reconstruction");
        assert!(s.lambdas.is_sorted() && s.lambdas[s.origin] == 0.0);
        let at = s.scores.iter().enumerate().filter(|(i, _)| *i != s.origin).map(|(_, v)| *v);
        for (score, level) in at.zip([0.1, 0.25, 0.5, 0.75, 0.9]) {
            assert!((score - level).abs() <= TOLERANCE + 1e-5, "{score} {level}");
        }
    }
    // From 2.5 the levels 0.1 and 0.25 are 3.6 and 3.05 σ down; a limit of 3 leaves them out.
    let near = LatentShiftParams { limit: 3.0, ..params };
    let s = &series(&[2.5], 2.0, &near, &axis(1.0))[0];
    assert_eq!((s.lambdas.len(), s.calibration.as_ref().unwrap().levels[1].lambda), (4, None));
    let none = &series(&[0.5], 0.0, &near, &axis(1.0))[0];
    assert_eq!((none.lambdas.as_slice(), none.origin), (&[0.0][..], 0));
}

//! Blitting, colour, filtering, noise and cutout.

use super::{augment, flat, image, one, random, worst};
use candle_core::{DType, Tensor};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Noise, Params, Sample};
use std::f64::consts::PI;

#[test]
fn at_probability_zero_images_stay_as_they_are() {
    let x = random(&[5, 3, 16, 16], 1).to_dtype(DType::F32).unwrap();
    let augment = augment(3, 16);
    let params = augment.draw(5, 0.0, &mut Rng::new(1, 0));
    assert!(params.samples.iter().all(|s| *s == Sample::default()));
    let y = augment.apply(&x, &params).unwrap();
    assert_eq!(flat(&y), flat(&x));
    // An image beside one that changes is copied bit for bit.
    let mut samples = vec![Sample::default(); 5];
    samples[2].rotation[0] = 1.0;
    let y = augment.apply(&x, &Params { samples }).unwrap();
    let (x, y) = (flat(&x), flat(&y));
    let one = 3 * 16 * 16;
    for i in 0..5 {
        assert_eq!(x[i * one..][..one] == y[i * one..][..one], i != 2, "image {i}");
    }
}

/// The pixel that a row continued by reflection has at `i`.
fn reflect(mut i: i64, n: i64) -> i64 {
    while !(0..n).contains(&i) {
        i = if i < 0 { -i } else { 2 * (n - 1) - i };
    }
    i
}

#[test]
fn blitting_is_index_arithmetic() {
    let side = 6;
    let n = side as i64;
    let value = |c: usize, y: i64, x: i64| (c * 100) as f64 + (y * n + x) as f64;
    let x = image(3, side, value);
    for flip in [false, true] {
        for quarter_turns in 0..4 {
            for shift in [[0, 0], [2, 0], [0, -1], [-3, 5], [9, -7]] {
                let found = one(&x, &Sample { flip, quarter_turns, shift, ..Sample::default() });
                let expected = image(3, side, |c, y, x| {
                    // Backwards: shift, turns (clockwise by one: what was at (y, x) goes to (x, n - 1 - y)), mirror.
                    let (mut x, mut y) = (x - i64::from(shift[0]), y - i64::from(shift[1]));
                    for _ in 0..quarter_turns {
                        (y, x) = (n - 1 - x, y);
                    }
                    x = if flip { n - 1 - x } else { x };
                    value(c, reflect(y, n), reflect(x, n))
                });
                assert_eq!(worst(&found, &expected), 0.0, "{flip} {quarter_turns} {shift:?}");
            }
        }
    }
}

#[test]
fn colours_follow_their_closed_forms() {
    let x = random(&[1, 3, 8, 8], 2);
    let grey = random(&[1, 1, 8, 8], 3);
    let none = Sample::default();
    let brighter = Sample { brightness: 0.3, ..none.clone() };
    let contrast = Sample { contrast: 1.7, brightness: 0.3, ..none.clone() };
    for x in [&x, &grey] {
        assert!(worst(&one(x, &brighter), &(x + 0.3).unwrap()) < 1e-12);
        // Brightness comes first.
        assert!(worst(&one(x, &contrast), &((x + 0.3).unwrap() * 1.7).unwrap()) < 1e-12);
    }
    let flip = Sample { luma_flip: true, ..none.clone() };
    assert!(worst(&one(&grey, &flip), &grey.neg().unwrap()) < 1e-12);
    // c - 2 v (v c), v c being the root of 3 times the mean.
    let mean = x.mean_keepdim(1).unwrap();
    let flipped = x.broadcast_sub(&(&mean * 2.0).unwrap()).unwrap();
    assert!(worst(&one(&x, &flip), &flipped) < 1e-12);
    for hue in [-2.0, 0.4, 3.0] {
        let y = one(&x, &Sample { hue, ..none.clone() });
        assert!(worst(&y.mean_keepdim(1).unwrap(), &mean) < 1e-12, "luma stays");
        let energy = |t: &Tensor| t.sqr().unwrap().sum_keepdim(1).unwrap();
        assert!(worst(&energy(&y), &energy(&x)) < 1e-12, "a rotation keeps lengths");
    }
    // A third of a turn takes red to green, green to blue, blue to red.
    let third = one(&x, &Sample { hue: 2.0 * PI / 3.0, ..none.clone() });
    let turned = Tensor::cat(&[2, 0, 1].map(|c| x.narrow(1, c, 1).unwrap()), 1).unwrap();
    assert!(worst(&third, &turned) < 1e-12);
    for saturation in [0.0, 0.5, 2.0] {
        let y = one(&x, &Sample { saturation, ..none.clone() });
        let apart = (x.broadcast_sub(&mean).unwrap() * saturation).unwrap();
        assert!(worst(&y, &apart.broadcast_add(&mean).unwrap()) < 1e-12);
    }
    let unseen = Sample { hue: 1.0, saturation: 3.0, ..none };
    assert_eq!(worst(&one(&grey, &unseen), &grey), 0.0);
}

#[test]
fn bands_sum_to_the_image_and_are_amplified_apart() {
    let x = random(&[1, 3, 24, 24], 4);
    let gains = |gains| Sample { gains, ..Sample::default() };
    // Equal gains are a factor along either axis.
    assert!(worst(&one(&x, &gains([1.5; 4])), &(&x * 2.25).unwrap()) < 1e-12);
    // A constant is in the lowest band, a checkerboard in the highest.
    let apart = gains([2.0, 3.0, 5.0, 7.0]);
    let constant = image(1, 24, |_, _, _| 0.7);
    assert!(worst(&one(&constant, &apart), &(constant * 4.0).unwrap()) < 1e-12);
    let board = image(1, 24, |_, y, x| if (x + y) % 2 == 0 { 1.0 } else { -1.0 });
    assert!(worst(&one(&board, &apart), &(board * 49.0).unwrap()) < 1e-12);
    // Between them, a wave in a band's middle grows mostly by that band's gain; a reflected cosine stays one.
    for (frequency, band) in [(4.0, 1), (8.0, 2)] {
        let wave = image(1, 25, |_, _, x| (PI * frequency / 24.0 * x as f64).cos());
        let mut alone = [0.0; 4];
        alone[band] = 1.0;
        // Along y it is constant, which the lowest band lets through.
        let through = |alone| flat(&one(&wave, &gains(alone)));
        let pass = [1.0, alone[1], alone[2], 0.0];
        let (y, x) = (through(pass), flat(&wave));
        let only_low = through([1.0, 0.0, 0.0, 0.0]);
        let share: f64 =
            y.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>() / x.iter().map(|v| v * v).sum::<f64>();
        let low: f64 = only_low.iter().map(|v| v * v).sum::<f64>() / x.iter().map(|v| v * v).sum::<f64>();
        assert!(share > 0.7 && low < 0.1, "{frequency}: {share} {low}");
    }
}

#[test]
fn noise_has_its_deviation_and_its_seed() {
    let x = image(3, 64, |_, _, _| 0.25);
    let with = |sigma, seed| one(&x, &Sample { noise: Some(Noise { sigma, seed }), ..Sample::default() });
    let added: Vec<f64> = flat(&with(0.1, 5)).iter().map(|v| v - 0.25).collect();
    let n = added.len() as f64;
    let mean = added.iter().sum::<f64>() / n;
    let deviation = (added.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 4.0 * 0.1 / n.sqrt() && (deviation - 0.1).abs() < 0.1 * 4.0 / (2.0 * n).sqrt());
    assert_eq!(worst(&with(0.1, 5), &with(0.1, 5)), 0.0);
    assert!(worst(&with(0.1, 5), &with(0.1, 6)) > 0.1);
}

#[test]
fn the_square_cut_out_is_half_the_side() {
    let x = image(3, 16, |_, _, _| 1.0);
    for (centre, columns, rows) in
        [([0.5, 0.5], 4..12, 4..12), ([0.0, 1.0], 0..4, 12..16), ([0.3, 0.61], 1..9, 6..14)]
    {
        let y = one(&x, &Sample { cutout: Some(centre), ..Sample::default() });
        let expected =
            image(
                3,
                16,
                |_, y, x| {
                    if columns.contains(&(x as i32)) && rows.contains(&(y as i32)) { 0.0 } else { 1.0 }
                },
            );
        assert_eq!(worst(&y, &expected), 0.0, "{centre:?}");
    }
}

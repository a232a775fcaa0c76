//! Resampling against direct sums, closed forms of smooth images, and what must not alias.

use super::{flat, image, one, random, worst};
use candle_core::Tensor;
use shiftlens_stylegan2::train::augment::Sample;
use std::f64::consts::PI;

/// sym6, as tables of wavelets print it.
const SYM6: [f64; 12] = [
    0.015_404_109_327_027_373,
    0.003_490_712_084_217_47,
    -0.117_990_111_148_190_57,
    -0.048_311_742_585_633,
    0.491_055_941_926_746_7,
    0.787_641_141_030_194,
    0.337_929_421_727_621_8,
    -0.072_637_522_786_462_52,
    -0.021_060_292_512_300_564,
    0.044_724_901_770_665_78,
    0.001_767_711_864_242_803_6,
    -0.007_800_708_325_034_148,
];

fn geometry(scale: f64, rotation: [f64; 2], stretch: f64, translation: [f64; 2]) -> Sample {
    Sample { scale, rotation, stretch, translation, ..Sample::default() }
}

/// Where a pixel of the result comes from: all steps undone, in offsets from the centre.
fn source(s: &Sample, [mut x, mut y]: [f64; 2]) -> [f64; 2] {
    let turn = |x: f64, y: f64, a: f64| (x * a.cos() + y * a.sin(), y * a.cos() - x * a.sin());
    (x, y) = (x - s.translation[0], y - s.translation[1]);
    (x, y) = turn(x, y, s.rotation[1]);
    (x, y) = (x / s.stretch, y * s.stretch);
    (x, y) = turn(x, y, s.rotation[0]);
    (x, y) = (x / s.scale - f64::from(s.shift[0]), y / s.scale - f64::from(s.shift[1]));
    (x, y) = turn(x, y, f64::from(s.quarter_turns) * PI / 2.0);
    [if s.flip { -x } else { x }, y]
}

/// Doubling, bilinear look-up and halving written as the sums that they are, over an image that is reflected for ever.
fn direct(x: &Tensor, s: &Sample) -> Tensor {
    let side = x.dim(3).unwrap() as i64;
    let pixels = flat(x);
    let reflect = |i: i64| {
        let i = i.rem_euclid(2 * side - 2);
        i.min(2 * side - 2 - i)
    };
    let centre: f64 = SYM6.iter().enumerate().map(|(i, h)| i as f64 * h).sum::<f64>() / 2f64.sqrt();
    let doubled = |c: usize, my: i64, mx: i64| {
        let mut sum = 0.0;
        for ky in (my - 11).div_euclid(2)..=my.div_euclid(2) {
            for kx in (mx - 11).div_euclid(2)..=mx.div_euclid(2) {
                let tap = |m: i64, k: i64| {
                    usize::try_from(m - 2 * k).ok().and_then(|j| SYM6.get(j)).unwrap_or(&0.0)
                };
                let pixel = (c as i64 * side + reflect(ky)) * side + reflect(kx);
                sum += tap(my, ky) * tap(mx, kx) * pixels[pixel as usize];
            }
        }
        sum
    };
    let half = (side - 1) as f64 / 2.0;
    let looked_up = |c: usize, ny: i64, nx: i64| {
        let at = [nx, ny].map(|n| (n as f64 - centre) / 2.0 - half);
        let [x, y] = source(s, at).map(|v| 2.0 * (v + half) + centre);
        let (fx, fy) = (x - x.floor(), y - y.floor());
        let (x, y) = (x.floor() as i64, y.floor() as i64);
        (1.0 - fy) * ((1.0 - fx) * doubled(c, y, x) + fx * doubled(c, y, x + 1))
            + fy * ((1.0 - fx) * doubled(c, y + 1, x) + fx * doubled(c, y + 1, x + 1))
    };
    image(x.dim(1).unwrap(), side as usize, |c, y, x| {
        let mut sum = 0.0;
        for (i, hy) in SYM6.iter().enumerate() {
            for (j, hx) in SYM6.iter().enumerate() {
                sum += hy * hx * looked_up(c, 2 * y + i as i64, 2 * x + j as i64);
            }
        }
        sum
    })
}

#[test]
fn resampling_is_its_direct_sums() {
    // Among them a picture seen so small that its reflections repeat, along one axis and along both.
    let cases = [
        geometry(1.0, [0.3, 0.0], 1.0, [0.0, 0.0]),
        geometry(1.2, [0.3, -2.0], 0.9, [1.7, -0.4]),
        geometry(0.3, [0.1, 0.0], 1.0, [0.0, 0.0]),
        geometry(0.8, [0.0, 0.0], 4.0, [3.0, 0.2]),
        Sample {
            flip: true,
            quarter_turns: 3,
            shift: [1, -2],
            ..geometry(1.1, [0.0, 1.0], 1.1, [20.0, 0.0])
        },
    ];
    for (i, s) in cases.iter().enumerate() {
        let x = random(&[1, 1 + 2 * (i % 2), 7, 7], 10 + i as u64);
        let off = worst(&one(&x, s), &direct(&x, s));
        assert!(off < 1e-11, "case {i}: {off:e}");
    }
}

#[test]
fn shifts_by_whole_pixels_lose_nothing_on_either_way() {
    // The filter is orthonormal to its own shifts: doubling and halving again is the identity.
    let x = random(&[1, 3, 12, 12], 20);
    for shift in [[3, 0], [-2, 5]] {
        let resampled = one(&x, &geometry(1.0, [0.0; 2], 1.0, shift.map(f64::from)));
        let moved = one(&x, &Sample { shift, ..Sample::default() });
        assert!(worst(&resampled, &moved) < 1e-11);
    }
}

/// A picture whose continuation by reflection is itself, `cos(a x) cos(b y) + cos(b x)`, at any place.
fn smooth(side: usize, waves: f64, [x, y]: [f64; 2]) -> f64 {
    let unit = PI / (side - 1) as f64;
    let cosine = |waves: f64, v: f64| (unit * waves * v).cos();
    0.5 * cosine(waves, x) * cosine(2.0 * waves, y) + 0.5 * cosine(2.0 * waves, x)
}

#[test]
fn smooth_images_move_as_their_functions_do() {
    let side = 33;
    let half = (side - 1) as f64 / 2.0;
    for s in [
        geometry(1.0, [PI / 6.0, 0.0], 1.0, [0.0; 2]),
        geometry(1.0, [PI, 0.0], 1.0, [0.0; 2]),
        geometry(1.3, [0.0; 2], 1.0, [0.0; 2]),
        geometry(0.8, [0.5, -1.1], 1.2, [2.3, -4.1]),
        Sample { quarter_turns: 1, flip: true, shift: [3, 1], ..geometry(1.0, [0.0; 2], 1.0, [0.5, 0.5]) },
    ] {
        let error = |waves: f64| {
            let x = image(1, side, |_, y, x| smooth(side, waves, [x as f64, y as f64]));
            let expected = image(1, side, |_, y, x| {
                smooth(side, waves, source(&s, [x as f64 - half, y as f64 - half]).map(|v| v + half))
            });
            worst(&one(&x, &s), &expected)
        };
        // Looking up between places of the doubled image costs at most the second derivative / 32 along either axis.
        let (coarse, fine) = (error(2.0), error(1.0));
        let second = (4.0 * PI / 32.0f64).powi(2);
        assert!(coarse < 2.0 * second / 32.0 + 2e-3 && fine < coarse / 3.0, "{s:?}: {coarse} {fine}");
    }
}

#[test]
fn what_a_smaller_picture_cannot_show_is_gone() {
    // At 0.9 of the highest frequency, shrunk to half, a wave could only come back as one that is not there.
    let x = image(1, 65, |_, _, x| (0.9 * PI * x as f64).cos());
    let y = flat(&one(&x, &geometry(0.5, [0.0; 2], 1.0, [0.0; 2])));
    let energy = y.iter().map(|v| v * v).sum::<f64>() / y.len() as f64;
    assert!(energy < 0.02, "{energy}, 0.5 before");
}

//! Against the definitions, summed in f64.

use super::*;
use crate::kernels::conv::tests::values;
use crate::kernels::fast::tests::{error, pack, unpack};

/// Zeros between pixels, then the filter [1, 3, 3, 1] / 4 per axis, of one picture.
fn doubled(x: &[f32], side: usize) -> Vec<f64> {
    let taps = [0.25, 0.75, 0.75, 0.25];
    let at = |i: usize, j: usize| {
        let inside = i.is_multiple_of(2) && j.is_multiple_of(2) && i < 2 * side && j < 2 * side;
        if inside { f64::from(x[i / 2 * side + j / 2]) } else { 0.0 }
    };
    let mut y = Vec::new();
    for p in 0..4 * side * side {
        let (i, j) = (p / (2 * side), p % (2 * side));
        let tap = |q: usize| {
            taps[q / 4] * taps[q % 4] * at((i + q / 4).wrapping_sub(2), (j + q % 4).wrapping_sub(2))
        };
        y.push((0..16).map(tap).sum());
    }
    y
}

/// The part of image `n` among values that are one for all or one each.
fn of(all: &[f32], size: usize, n: usize) -> &[f32] {
    if all.len() == size { all } else { &all[n * size..][..size] }
}

#[test]
fn an_image_is_the_clamped_sum_over_maps_and_the_doubled_image_before() {
    let (n, inputs, channels, limit) = (3, 20, 2, 1.5f32);
    for side in [2, 6, 18] {
        let (area, half) = (side * side, side / 2);
        let (map, weight, picture) = (inputs * area, channels * 32, channels * half * half);
        let bias = values(channels, 4);
        for (maps, befores) in [(n, n), (1, n), (n, 1), (1, 0)] {
            let (x, w) = (values(maps * map, 1), values(n * weight, 2));
            let before = values(befores * picture, 3);
            let mut truth = Vec::new();
            for i in 0..n * channels {
                let (image, channel) = (i / channels, i % channels);
                let (x, w) = (of(&x, map, image), &of(&w, weight, image)[channel * 32..]);
                let add = match befores {
                    0 => vec![0.0; area],
                    _ => doubled(&of(&before, picture, image)[channel * half * half..], half),
                };
                for (p, add) in add.iter().enumerate() {
                    let sum: f64 =
                        (0..inputs).map(|c| f64::from(x[c * area + p]) * f64::from(w[c])).sum::<f64>()
                            + f64::from(bias[channel]);
                    truth.push(sum.clamp(-f64::from(limit), f64::from(limit)) + add);
                }
            }
            for isa in Isa::available() {
                let t = ToImage {
                    isa,
                    x: &pack(&x, inputs, area),
                    images: n,
                    side,
                    inputs: 32,
                    channels,
                    weights: &w,
                    bias: &bias,
                    limit,
                    before: (befores > 0).then_some(&before),
                };
                let mut out = vec![f32::NAN; truth.len()];
                Team::with(2, |team| to_image(team, &t, &mut out));
                let e = error(&out, &truth);
                assert!(e < 1e-5, "{isa:?} {side} {maps} {befores}: {e}");
            }
        }
    }
}

#[test]
fn doubled_maps_are_their_definition() {
    let (n, c) = (2, 20);
    for side in [1, 3, 8] {
        let area = side * side;
        let x = values(n * c * area, 1);
        let truth: Vec<f64> = x.chunks_exact(area).flat_map(|plane| doubled(plane, side)).collect();
        for isa in Isa::available() {
            let packed = pack(&x, c, area);
            let mut y = vec![f32::NAN; 4 * packed.len()];
            Team::with(2, |team| double_maps(team, isa, &packed, side, &mut y));
            let e = error(&unpack(&y, c, 4 * area), &truth);
            assert!(e < 1e-6, "{isa:?} {side}: {e}");
        }
    }
}

#[test]
fn an_edit_is_the_finished_sum_for_each_step() {
    let (c, area, steps) = (20, 15, [-2.0f32, 0.0, 0.5]);
    let (base, change) = (values(c * area, 1), values(c * area, 2));
    let (factors, bias, noise) = (values(steps.len() * 32, 3), values(32, 4), values(area, 5));
    let add = values(steps.len() * 32 * area, 6);
    let e = Epilogue {
        factors: Some(&factors),
        bias: Some(&bias),
        noise: Some(&noise),
        high: 1.5,
        low: 0.3,
        limit: 1.0,
        add: Some(&add),
    };
    let added = unpack(&add, c, area);
    let mut truth = Vec::new();
    for (i, added) in added.iter().enumerate() {
        let (n, k, p) = (i / (c * area), i / area % c, i % area);
        let sum = f64::from(base[i % (c * area)]) + f64::from(steps[n]) * f64::from(change[i % (c * area)]);
        let v = sum * f64::from(factors[n * 32 + k]) + f64::from(bias[k]) + f64::from(noise[p]);
        truth.push((if v > 0.0 { 1.5 * v } else { 0.3 * v }).clamp(-1.0, 1.0) + f64::from(*added));
    }
    for isa in Isa::available() {
        let mut out = vec![f32::NAN; add.len()];
        let maps = (&*pack(&base, c, area), &*pack(&change, c, area));
        Team::with(2, |team| combine(team, isa, maps, 32, &steps, &e, &mut out));
        let e = error(&unpack(&out, c, area), &truth);
        assert!(e < 1e-5, "{isa:?}: {e}");
    }
}

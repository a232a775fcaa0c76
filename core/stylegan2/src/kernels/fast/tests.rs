//! Against the definitions, summed in f64.

use super::*;
use crate::kernels::conv::tests::values;

/// Planes `[N][C][area]` to blocks `[N][C/16][area][16]`.
pub(in crate::kernels) fn pack(x: &[f32], c: usize, area: usize) -> Vec<f32> {
    let c16 = c.next_multiple_of(BLOCK);
    let mut out = vec![0.0; x.len() / (c * area) * c16 * area];
    for (i, v) in x.iter().enumerate() {
        let (n, k, p) = (i / (c * area), i / area % c, i % area);
        out[(n * c16 / BLOCK + k / BLOCK) * area * BLOCK + p * BLOCK + k % BLOCK] = *v;
    }
    out
}

/// The definition in f64, `[N][K][H'][W']`: cross-correlation with a zero border, or the transposed one of stride 2
/// followed by the filter [1, 3, 3, 1] / 4 per axis.
fn naive(
    x: &[f32],
    w: &[f32],
    n: usize,
    (c, k): (usize, usize),
    side: usize,
    taps: usize,
    up: bool,
) -> Vec<f64> {
    let (size, out) = if up { (2 * side + 1, 2 * side) } else { (side, side) };
    let mut y = Vec::new();
    for (i, o) in (0..n).flat_map(|i| (0..k).map(move |o| (i, o))) {
        let mut t = vec![0f64; size * size];
        for ci in 0..c {
            let (x, w) = (&x[(i * c + ci) * side * side..], &w[(o * c + ci) * taps * taps..]);
            for p in 0..side * side * taps * taps {
                let (r, s) = (p / (side * taps * taps), p / (taps * taps) % side);
                let (a, b) = (p / taps % taps, p % taps);
                let (u, v) = if up { (2 * r + a, 2 * s + b) } else { (r + taps / 2, s + taps / 2) };
                let (u, v) = if up { (u, v) } else { (u.wrapping_sub(a), v.wrapping_sub(b)) };
                if u < size && v < size {
                    t[u * size + v] += f64::from(w[a * taps + b]) * f64::from(x[r * side + s]);
                }
            }
        }
        if !up {
            y.extend(t);
            continue;
        }
        let taps = [0.25, 0.75, 0.75, 0.25];
        for p in 0..out * out {
            let mut sum = 0.0;
            for q in 0..16 {
                let (u, v) = ((p / out + q / 4).wrapping_sub(1), (p % out + q % 4).wrapping_sub(1));
                if u < size && v < size {
                    sum += taps[q / 4] * taps[q % 4] * t[u * size + v];
                }
            }
            y.push(sum);
        }
    }
    y
}

/// Largest error over the rms of the truth.
pub(in crate::kernels) fn error(y: &[f32], truth: &[f64]) -> f64 {
    let rms = (truth.iter().map(|v| v * v).sum::<f64>() / truth.len() as f64).sqrt();
    let worst = y.iter().zip(truth).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / rms
}

/// Blocks back to planes.
pub(in crate::kernels) fn unpack(y: &[f32], k: usize, area: usize) -> Vec<f32> {
    let k16 = k.next_multiple_of(BLOCK);
    let n = y.len() / (k16 * area);
    let at = |i: usize, o: usize, p: usize| {
        y[(i * k16 / BLOCK + o / BLOCK) * area * BLOCK + p * BLOCK + o % BLOCK]
    };
    (0..n * k * area).map(|i| at(i / (k * area), i / area % k, i % area)).collect()
}

const CASES: [(Method, usize, usize, usize, usize); 12] = [
    (Method::Winograd4, 2, 20, 40, 16),
    (Method::Winograd4, 3, 16, 16, 8),
    (Method::Winograd4, 1, 48, 64, 64),
    (Method::Winograd4, 1, 5, 3, 4),
    (Method::Winograd2, 3, 33, 17, 4),
    (Method::Winograd2, 1, 16, 40, 8),
    (Method::ToomCook4, 2, 20, 40, 16),
    (Method::ToomCook4, 3, 16, 33, 8),
    (Method::ToomCook4, 1, 1, 1, 4),
    (Method::ToomCook2, 2, 20, 40, 4),
    (Method::ToomCook2, 1, 20, 18, 8),
    (Method::Pointwise, 2, 20, 40, 4),
];

#[test]
fn convolutions_are_their_definitions_in_f64() {
    for (method, n, c, k, side) in CASES {
        let up = matches!(method, Method::ToomCook4 | Method::ToomCook2);
        let taps = if method == Method::Pointwise { 1 } else { 3 };
        let (x, w) = (values(n * c * side * side, 1), values(k * c * taps * taps, 2));
        let truth = naive(&x, &w, n, (c, k), side, taps, up);
        let out = if up { 2 * side } else { side };
        for isa in Isa::available() {
            let mut all: Vec<Vec<f32>> = Vec::new();
            for (ready, raw) in [(true, false), (true, true), (false, true)] {
                for threads in [1, 3] {
                    let conv = FastConv::new(isa, method, &w, (k, c), ready, raw);
                    let mut y = vec![f32::NAN; n * k.next_multiple_of(BLOCK) * out * out];
                    let data = &pack(&x, c, side * side);
                    let input = Input { data, n, height: side, width: side, style: None };
                    Team::with(threads, |team| {
                        conv.forward(team, &mut Workspace::new(), input, &Epilogue::linear(), &mut y);
                    });
                    all.push(unpack(&y, k, out * out));
                }
            }
            let e = error(&all[0], &truth);
            println!("{isa:?} {method:?} {n}x{c}x{side}: {e:.1e}");
            assert!(e < 2e-5, "{isa:?} {method:?} {n}x{c}x{side}: {e}");
            assert!(
                all.iter().all(|y| y == &all[0]),
                "{isa:?} {method:?}: threads or storage change the result"
            );
        }
    }
}

#[test]
fn many_channels_stay_within_a_few_units_of_rounding() {
    // Winograd's transforms lose digits; at 512 channels the largest error of a map must stay far below 1e-4.
    for (method, up) in [(Method::Winograd4, false), (Method::ToomCook4, true)] {
        let (c, k, side) = (512, 16, 16);
        let (x, w) = (values(c * side * side, 3), values(k * c * 9, 4));
        let truth = naive(&x, &w, 1, (c, k), side, 3, up);
        let out = if up { 2 * side } else { side };
        let conv = FastConv::new(Isa::detect(), method, &w, (k, c), true, false);
        let mut y = vec![0.0; k * out * out];
        let input = Input { data: &pack(&x, c, side * side), n: 1, height: side, width: side, style: None };
        Team::with(1, |team| conv.forward(team, &mut Workspace::new(), input, &Epilogue::linear(), &mut y));
        let e = error(&unpack(&y, k, out * out), &truth);
        println!("{method:?}: {e:.1e}");
        assert!(e < 3e-5, "{method:?}: {e}");
    }
}

#[test]
fn factors_bias_noise_activation_clamp_and_sum_follow_in_order() {
    for (method, up) in [(Method::Winograd2, false), (Method::ToomCook2, true)] {
        let (n, c, k, side) = (2, 18, 20, 4);
        let out = if up { 8 } else { 4 };
        let (x, w) = (values(n * c * side * side, 1), values(k * c * 9, 2));
        let (style, factors) = (values(n * 32, 3), values(n * 32, 4));
        let (bias, noise, add) = (values(32, 5), values(out * out, 6), values(n * 32 * out * out, 7));
        let scaled: Vec<f32> = x
            .iter()
            .enumerate()
            .map(|(i, v)| v * style[i / (c * side * side) * 32 + i / (side * side) % c])
            .collect();
        let sums = naive(&scaled, &w, n, (c, k), side, 3, up);
        let added = unpack(&add, k, out * out);
        let truth: Vec<f64> = sums
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let (image, o, p) = (i / (k * out * out), i / (out * out) % k, i % (out * out));
                let v = v * f64::from(factors[image * 32 + o]) + f64::from(bias[o]) + f64::from(noise[p]);
                (if v > 0.0 { 1.5 * v } else { 0.3 * v }).clamp(-2.0, 2.0) + f64::from(added[i])
            })
            .collect();
        let epilogue = Epilogue {
            factors: Some(&factors),
            bias: Some(&bias),
            noise: Some(&noise),
            high: 1.5,
            low: 0.3,
            limit: 2.0,
            add: Some(&add),
        };
        for isa in Isa::available() {
            let conv = FastConv::new(isa, method, &w, (k, c), true, false);
            let mut y = vec![0.0; n * 32 * out * out];
            let data = &pack(&x, c, side * side);
            let input = Input { data, n, height: side, width: side, style: Some(&style) };
            Team::with(2, |team| conv.forward(team, &mut Workspace::new(), input, &epilogue, &mut y));
            let e = error(&unpack(&y, k, out * out), &truth);
            assert!(e < 1e-5, "{isa:?} {method:?}: {e}");
        }
    }
}

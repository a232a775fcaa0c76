//! Distributions of what is drawn.

use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Augment, Pipeline, Preset, Sample};
use std::f64::consts::{LN_2, PI};

const N: usize = 20_000;
const SIDE: usize = 64;

fn draw(preset: Preset, p: f64) -> Vec<Sample> {
    let augment = Augment::new(&Pipeline::from(preset), 3, SIDE).unwrap();
    augment.draw(N, p, &mut Rng::new(3, 1)).samples
}

/// That `hits` of `of` is the share `p`, within four standard deviations.
#[track_caller]
fn share(what: &str, hits: usize, of: usize, p: f64) {
    let (found, deviation) = (hits as f64 / of as f64, (p * (1.0 - p) / of as f64).sqrt());
    assert!((found - p).abs() <= 4.0 * deviation, "{what}: {found}, expected {p} ± {deviation}");
}

/// That values follow a distribution: Kolmogorov and Smirnov's distance, which 1 in 3000 samples exceeds.
#[track_caller]
fn follows(what: &str, mut values: Vec<f64>, distribution: impl Fn(f64) -> f64) {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let steps = values.iter().enumerate().map(|(i, v)| {
        let d = distribution(*v);
        (d - i as f64 / n).abs().max(((i + 1) as f64 / n - d).abs())
    });
    let distance = steps.fold(0.0, f64::max);
    assert!(values.len() > 1000 && distance < 2.1 / n.sqrt(), "{what}: {distance} of {n} values");
}

fn uniform(most: f64) -> impl Fn(f64) -> f64 {
    move |v| ((v / most + 1.0) / 2.0).clamp(0.0, 1.0)
}

/// The normal distribution by the series of its integral (Abramowitz and Stegun 1964, 26.2.11).
fn normal(deviation: f64) -> impl Fn(f64) -> f64 {
    move |v| {
        let z = (v / deviation).clamp(-7.0, 7.0);
        let (mut term, mut sum, mut k) = (z, z, 3.0);
        while f64::abs(term) > 1e-16 {
            term *= z * z / k;
            sum += term;
            k += 2.0;
        }
        0.5 + sum * (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
    }
}

/// Values of those whom the transformation met; their share must be p.
#[track_caller]
fn met(what: &str, samples: &[Sample], p: f64, f: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    let values: Vec<f64> = samples.iter().filter_map(f).collect();
    share(what, values.len(), samples.len(), p);
    values
}

fn other_than(neutral: f64, f: impl Fn(&Sample) -> f64) -> impl Fn(&Sample) -> Option<f64> {
    move |s| Some(f(s)).filter(|v| *v != neutral)
}

#[test]
fn blitting() {
    let p = 0.6;
    let samples = draw(Preset::Blit, p);
    share("mirror images", samples.iter().filter(|s| s.flip).count(), N, p / 2.0);
    for turns in 0..4 {
        let expected = p / 4.0 + if turns == 0 { 1.0 - p } else { 0.0 };
        share("quarter turns", samples.iter().filter(|s| s.quarter_turns == turns).count(), N, expected);
    }
    // U(-8, 8) rounded: 8 at either end has half the share of the others.
    for axis in 0..2 {
        for shift in -9..=9i32 {
            let share_of = match shift.abs() {
                0 => p / 16.0 + 1.0 - p,
                8 => p / 32.0,
                9 => 0.0,
                _ => p / 16.0,
            };
            share("shifts", samples.iter().filter(|s| s.shift[axis] == shift).count(), N, share_of);
        }
    }
    let still = Sample::default();
    assert!(samples.iter().all(|s| (s.scale, s.rotation, s.brightness) == (1.0, [0.0; 2], 0.0)
        && s.gains == still.gains
        && s.noise.is_none()));
}

#[test]
fn geometry() {
    let p = 0.4;
    let samples = draw(Preset::Geom, p);
    let scale = met("scale", &samples, p, other_than(0.0, |s| s.scale.log2()));
    follows("scale", scale, normal(0.2));
    let stretch = met("stretch", &samples, p, other_than(0.0, |s| s.stretch.log2()));
    follows("stretch", stretch, normal(0.2));
    let turned = samples.iter().filter(|s| s.rotation != [0.0; 2]).count();
    share("at least one rotation", turned, N, p);
    for axis in 0..2 {
        let each = 1.0 - (1.0f64 - p).sqrt();
        let angles = met("rotation", &samples, each, other_than(0.0, |s| s.rotation[axis]));
        follows("rotation", angles, uniform(PI));
        let shifts = met("translation", &samples, p, other_than(0.0, |s| s.translation[axis]));
        follows("translation", shifts, normal(SIDE as f64 / 8.0));
    }
}

#[test]
fn colour() {
    let p = 0.5;
    let samples = draw(Preset::Color, p);
    follows("brightness", met("brightness", &samples, p, other_than(0.0, |s| s.brightness)), normal(0.2));
    let contrast = met("contrast", &samples, p, other_than(0.0, |s| s.contrast.ln()));
    follows("contrast", contrast, normal(0.5 * LN_2));
    share("luma flips", samples.iter().filter(|s| s.luma_flip).count(), N, p / 2.0);
    follows("hue", met("hue", &samples, p, other_than(0.0, |s| s.hue)), uniform(PI));
    let saturation = met("saturation", &samples, p, other_than(0.0, |s| s.saturation.ln()));
    follows("saturation", saturation, normal(LN_2));
}

#[test]
fn filtering_keeps_the_expected_power() {
    let power = [10.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0];
    for band in 0..4 {
        let mut pipeline = Pipeline::from(Preset::Filter);
        pipeline.strength.image_filter_bands = std::array::from_fn(|b| f64::from(u8::from(b == band)));
        let augment = Augment::new(&pipeline, 1, SIDE).unwrap();
        let samples = augment.draw(N, 0.3, &mut Rng::new(4, band as u64)).samples;
        let other = (band + 1) % 4;
        // The other bands keep their ratio to each other, so a band's own gain is its ratio to them.
        let gains = met("bands", &samples, 0.3, other_than(0.0, |s| (s.gains[band] / s.gains[other]).log2()));
        follows("gain", gains, normal(1.0));
        for s in &samples {
            let sum: f64 = power.iter().zip(s.gains).map(|(p, g)| p * g * g).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{:?}", s.gains);
        }
    }
    // All bands at once: none is touched with probability (1 - p)^4.
    let untouched = draw(Preset::Filter, 0.3).iter().filter(|s| s.gains == [1.0; 4]).count();
    share("no band", untouched, N, 0.7f64.powi(4));
}

#[test]
fn corruptions() {
    let p = 0.5;
    let samples = draw(Preset::Bgcfnc, p);
    let sigma = met("noise", &samples, p, |s| s.noise.map(|n| n.sigma));
    // Half of a normal distribution.
    follows("noise", sigma, |v| 2.0 * normal(0.1)(v) - 1.0);
    let seeds: std::collections::BTreeSet<u64> = samples.iter().filter_map(|s| Some(s.noise?.seed)).collect();
    share("different seeds", seeds.len(), N, p);
    for axis in 0..2 {
        let centres = met("cutout", &samples, p, |s| s.cutout.map(|c| c[axis]));
        follows("cutout", centres, |v| v.clamp(0.0, 1.0));
    }
}

#[test]
fn transformations_are_drawn_apart() {
    // Products of indicators average to the product of probabilities.
    let p = 0.5;
    let samples = draw(Preset::Bgcfnc, p);
    let both = |f: &dyn Fn(&Sample) -> bool, g: &dyn Fn(&Sample) -> bool| {
        samples.iter().filter(|s| f(s) && g(s)).count()
    };
    share("scale and noise", both(&|s| s.scale != 1.0, &|s| s.noise.is_some()), N, p * p);
    share("brightness and contrast", both(&|s| s.brightness != 0.0, &|s| s.contrast != 1.0), N, p * p);
    share("stretch and cutout", both(&|s| s.stretch != 1.0, &|s| s.cutout.is_some()), N, p * p);
    // Values too: contrast above 1 and a shift to the right are as good as two coins.
    let shifted = samples.iter().filter(|s| s.contrast > 1.0 && s.translation[0] > 0.0).count();
    share("signs", shifted, N, p * p / 4.0);
}

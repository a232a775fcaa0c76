//! A study whose truth is known. G is the phantom plugin, whose six latent factors are independent standard normals
//! and the axes of W; f is the C plugin, which looks at one of them, the joint-space width. The method of Schutte et
//! al. 2021 must find that axis, and shifting along what it found must change that factor and hardly any other.

mod plugin_support;

use plugin_support::{cdylib, compile, product};
use serde_json::Value;
use shiftlens_api::{DirectionFinder, Encoder, Generator, LatentCodes, Silent, Target, Targets};
use shiftlens_engine::direction::{Logistic, LogisticParams, score_codes};
use shiftlens_engine::plugin::{self, PluginLibrary};

const FACTORS: [&str; 6] =
    ["joint-space width", "osteophyte size", "bone density", "rotation", "exposure", "noise"];
const SAMPLES: usize = 2000;

#[test]
fn the_direction_is_the_factor_that_the_predictor_reads() {
    let c = PluginLibrary::open(&compile("examples/plugins/c-predictor/joint_space.c")).unwrap();
    let phantom = PluginLibrary::open(&product(&cdylib("shiftlens_phantom"))).unwrap();
    let mut f = plugin::predictor(&c, &Value::Null).unwrap();
    let mut g = plugin::generator(&phantom, &Value::Null).unwrap();
    let mut e = plugin::encoder(&phantom, &Value::Null).unwrap();

    // Sample, predict, fit.
    let wide = Target { class: 1, name: "wide".into() };
    let w = g.sample(SAMPLES, 7).unwrap();
    let values = score_codes(&w, &mut *g, &mut *f, &wide, None, &Silent).unwrap();
    let positives = values.iter().filter(|v| **v >= 0.5).count();
    assert!((SAMPLES * 2 / 5..SAMPLES * 3 / 5).contains(&positives), "{positives} of {SAMPLES} are wide");
    let direction =
        Logistic::new(LogisticParams::default()).find(&w, &Targets { values, threshold: 0.5 }).unwrap();
    let cosine = direction.alpha()[0];
    println!("cosine {cosine:.5}, alpha {:?}", direction.alpha());
    assert!(cosine >= 0.98, "cosine {cosine} to the joint-space axis, alpha {:?}", direction.alpha());

    // Shift fresh codes and read all factors off the pictures, each in units of its own spread in the population.
    let spread = spreads(&read(&mut *g, &mut *e, &w.slice(0, 100)));
    let cases = g.sample(24, 1234).unwrap();
    let mut moved = [0f64; 6];
    for i in 0..cases.len() {
        let shifted = direction.shift(&cases.slice(i, i + 1), &[-1.0, 1.0]).unwrap();
        let ends = read(&mut *g, &mut *e, &shifted);
        for (k, m) in moved.iter_mut().enumerate() {
            *m += f64::from(ends[1][k] - ends[0][k]) / spread[k] / cases.len() as f64;
        }
        let scores = f.predict(&g.synthesize(&shifted).unwrap()).unwrap().class(1).unwrap();
        assert!(scores[1] > scores[0] + 0.05, "case {i}: a wider gap is no wider to f: {scores:?}");
    }
    println!("moved by two sigma along alpha, in spreads: {moved:?}");
    assert!(moved[0] > 1.5, "{} moved by {} spreads", FACTORS[0], moved[0]);
    for (name, m) in FACTORS.iter().zip(moved).skip(1) {
        assert!(m.abs() < 0.1 * moved[0], "{name} moved by {m} spreads, {} by {}", FACTORS[0], moved[0]);
    }
}

/// The six factors of each code, as the encoder reads them off the picture.
fn read(g: &mut dyn Generator, e: &mut dyn Encoder, w: &LatentCodes) -> Vec<[f32; 6]> {
    let codes = e.encode(&g.synthesize(w).unwrap()).unwrap();
    assert_eq!(codes.shape(), [w.len(), 1, 6]);
    (0..codes.len()).map(|i| codes.code(i).try_into().unwrap()).collect()
}

/// Standard deviation of each factor.
fn spreads(codes: &[[f32; 6]]) -> [f64; 6] {
    let n = codes.len() as f64;
    std::array::from_fn(|k| {
        let mean = codes.iter().map(|c| f64::from(c[k])).sum::<f64>() / n;
        (codes.iter().map(|c| (f64::from(c[k]) - mean).powi(2)).sum::<f64>() / n).sqrt()
    })
}

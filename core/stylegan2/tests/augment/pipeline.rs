//! How a pipeline is written, what is refused, and what a stream of random numbers gives.

use super::{augment, random};
use candle_core::DType;
use serde::{Deserialize, Serialize};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Augment, Params, Pipeline, Preset, Sample, Strength};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    pipeline: Pipeline,
}

fn read(text: &str) -> Result<Pipeline, String> {
    toml::from_str::<Manifest>(text).map(|m| m.pipeline).map_err(|e| e.to_string())
}

#[test]
fn presets_and_tables_are_read_and_written() {
    let bgc = read("pipeline = \"bgc\"").unwrap();
    assert_eq!(bgc, Pipeline::from(Preset::Bgc));
    let on = |p: &Pipeline| [p.x_flip, p.rotation, p.saturation, p.image_filter, p.noise, p.cutout];
    for (name, expected) in [
        ("blit", [1, 0, 0, 0, 0, 0]),
        ("geom", [0, 1, 0, 0, 0, 0]),
        ("color", [0, 0, 1, 0, 0, 0]),
        ("filter", [0, 0, 0, 1, 0, 0]),
        ("noise", [0, 0, 0, 0, 1, 0]),
        ("cutout", [0, 0, 0, 0, 0, 1]),
        ("bg", [1, 1, 0, 0, 0, 0]),
        ("bgc", [1, 1, 1, 0, 0, 0]),
        ("bgcf", [1, 1, 1, 1, 0, 0]),
        ("bgcfn", [1, 1, 1, 1, 1, 0]),
        ("bgcfnc", [1; 6]),
    ] {
        let found = read(&format!("pipeline = \"{name}\"")).unwrap();
        assert_eq!(on(&found), expected.map(f64::from), "{name}");
    }
    let table = r#"pipeline = { preset = "bgc", rotate-90 = 0, noise = 0.5, strength = { rotation = 0.1 } }"#;
    let mut expected = Pipeline::from(Preset::Bgc);
    (expected.rotate_90, expected.noise) = (0.0, 0.5);
    expected.strength = Strength { rotation: 0.1, ..Strength::default() };
    let found = read(table).unwrap();
    assert_eq!(found, expected);
    let manifest = Manifest { pipeline: found };
    let (toml, json) = (toml::to_string(&manifest).unwrap(), serde_json::to_string(&manifest).unwrap());
    assert_eq!(toml::from_str::<Manifest>(&toml).unwrap(), manifest);
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn mistakes_are_named() {
    for (text, words) in [
        ("pipeline = \"bcg\"", "`bcg`"),
        ("pipeline = 3", "the name of a preset"),
        ("pipeline = { x-flop = 1 }", "`x-flop`"),
        ("pipeline = { strength = { scale = 1 } }", "`scale`"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(words), "{text}: {message}");
    }
    let refused = |text: &str, channels, side| {
        let pipeline = read(&format!("pipeline = {text}")).unwrap();
        Augment::new(&pipeline, channels, side).unwrap_err().to_string()
    };
    for (text, channels, side, words) in [
        ("{ x-flip = -1 }", 1, 64, "x-flip: expected a number from 0 to 1000, found -1"),
        ("{ noise = nan }", 1, 64, "noise: expected a number from 0 to 1000, found NaN"),
        (
            "{ noise = 1, strength = { cutout = 1.5 } }",
            1,
            64,
            "strength.cutout: expected a number from 0 to 1,",
        ),
        ("{ }", 3, 64, "no transformation"),
        (
            "{ hue-rotation = 1, saturation = 1 }",
            1,
            64,
            "no transformation asked for changes images of 1 channel",
        ),
        ("\"bgc\"", 2, 64, "1 or 3 channels, found 2"),
        ("\"bgc\"", 3, 2, "found 2"),
    ] {
        let message = refused(text, channels, side);
        assert!(message.contains(words), "{text}: {message}");
    }
    let augment = augment(1, 8);
    let params = Params { samples: vec![Sample::default(); 2] };
    for x in [random(&[2, 3, 8, 8], 1), random(&[2, 1, 8, 9], 1), random(&[3, 1, 8, 8], 1)] {
        let message = augment.apply(&x, &params).unwrap_err().to_string();
        assert!(message.contains("expected images [2, 1, 8, 8]"), "{message}");
    }
    let half = random(&[2, 1, 8, 8], 1).to_dtype(DType::BF16).unwrap();
    assert!(augment.apply(&half, &params).unwrap_err().to_string().contains("f32 or f64, found BF16"));
}

#[test]
fn a_stream_gives_the_same_parameters_and_a_higher_probability_only_more() {
    let augment = augment(3, 32);
    let draw = |p, stream| augment.draw(50, p, &mut Rng::new(9, stream)).samples;
    assert_eq!(draw(0.5, 1), draw(0.5, 1));
    assert_ne!(draw(0.5, 1), draw(0.5, 2));
    for (low, high) in draw(0.3, 1).iter().zip(&draw(0.8, 1)) {
        assert!(low.scale == 1.0 || low.scale == high.scale);
        assert!(low.noise.is_none() || low.noise == high.noise);
        assert!(low.cutout.is_none() || low.cutout == high.cutout);
    }
    // Beyond their bounds probabilities are the bounds.
    assert_eq!(draw(2.0, 1), draw(1.0, 1));
    assert_eq!(draw(-1.0, 1), draw(0.0, 1));
}

//! The example predictor in C, compiled here against `shiftlens.h`, on pictures whose gap is known exactly.

mod plugin_support;

use plugin_support::{compile, says};
use serde_json::{Value, json};
use shiftlens_api::{Images, Predictor, Result};
use shiftlens_engine::plugin::{self, PluginLibrary};

fn joint_space(params: Value) -> Result<Box<dyn Predictor>> {
    let lib = PluginLibrary::open(&compile("examples/plugins/c-predictor/joint_space.c")).unwrap();
    plugin::predictor(&lib, &params)
}

/// Bone everywhere but for a dark band of `gap` rows about `below` the middle.
fn band(height: usize, width: usize, gap: usize, bone: f32, dark: f32) -> Images {
    let from = height / 2 + height * 3 / 128 - gap / 2;
    let value = |i: usize| if (from..from + gap).contains(&(i / width)) { dark } else { bone };
    Images::new([1, 1, height, width], (0..height * width).map(value).collect()).unwrap()
}

fn expected(gap: f32, threshold: f32, slope: f32) -> f32 {
    1.0 / (1.0 + (-slope * (gap - threshold)).exp())
}

#[test]
fn it_measures_the_gap_at_any_size_exposure_and_channel_count() {
    let mut f = joint_space(json!({ "threshold": 0.07, "slope": 40 })).unwrap();
    assert_eq!((f.info().classes, f.info().input_size), (vec!["narrow".into(), "wide".into()], None));
    // (height, width, rows of the gap): exact where pixels fall on the measuring grid.
    for (h, w, gap) in [(128, 128, 8), (128, 96, 6), (256, 192, 16), (512, 512, 40)] {
        for (bone, dark) in [(0.7, 0.3), (0.9, 0.1), (0.35, 0.2)] {
            let x = band(h, w, gap, bone, dark);
            let want = expected(gap as f32 / h as f32, 0.07, 40.0);
            for x in [x.clone(), x.with_channels(3).unwrap()] {
                let y = f.predict(&x).unwrap();
                assert!((y.row(0)[1] - want).abs() < 1e-4, "{h}x{w}, {gap}: {:?} {want}", y.row(0));
                assert!((y.row(0)[0] + y.row(0)[1] - 1.0).abs() < 1e-6);
            }
        }
    }
    // Between grid points the half-way crossing still stands where it was.
    let y = f.predict(&band(64, 64, 4, 0.7, 0.3)).unwrap();
    assert!((y.row(0)[1] - expected(4.0 / 64.0, 0.07, 40.0)).abs() < 0.02);
}

#[test]
fn pictures_of_nothing_are_answered_too() {
    let mut f = joint_space(Value::Null).unwrap();
    for (h, w) in [(1, 1), (1, 7), (3, 1), (128, 128)] {
        for v in [0.0, 0.5, 1.0] {
            let y = f.predict(&Images::new([1, 1, h, w], vec![v; h * w]).unwrap()).unwrap();
            assert!(y.row(0)[1] < 1e-4, "no gap at all is narrow: {:?}", y.row(0));
        }
    }
    // Dark all the way down the middle columns.
    let dark = |i: usize| if (20..110).contains(&(i / 128)) { 0.1 } else { 0.9 };
    let y = f.predict(&Images::new([1, 1, 128, 128], (0..128 * 128).map(dark).collect()).unwrap()).unwrap();
    assert!(y.as_slice().iter().all(|v| (0.0..=1.0).contains(v)));
    let batch = Images::concat(&[band(128, 128, 4, 0.7, 0.3), band(128, 128, 10, 0.7, 0.3)]).unwrap();
    let y = f.predict(&batch).unwrap().class(1).unwrap();
    assert!(y[0] < 0.1 && y[1] > 0.9, "{y:?}");
    assert_eq!(f.predict(&batch.slice(0, 0)).unwrap().shape(), [0, 2]);
}

#[test]
fn parameters_are_read_and_mistakes_named() {
    let x = band(128, 128, 8, 0.7, 0.3);
    for (params, threshold, slope) in [
        (json!({}), 0.0547, 213.0),
        (json!({ "threshold": 0.06 }), 0.06, 213.0),
        (json!({ "slope": 1e2 }), 0.0547, 100.0),
    ] {
        let y = joint_space(params).unwrap().predict(&x).unwrap();
        assert!((y.row(0)[1] - expected(8.0 / 128.0, threshold, slope)).abs() < 1e-3);
    }
    let refused = |params: Value, words: &[&str]| says(joint_space(params).map(|_| ()), words);
    refused(
        json!({ "treshold": 0.06 }),
        &["plugin example.joint-space 0.1.0", "create", "unknown field `treshold`"],
    );
    refused(json!({ "slope": "steep" }), &["`slope` is no number"]);
    refused(json!({ "slope": -1 }), &["`slope` must be positive"]);
    refused(json!({ "threshold": 0.1, "k\"ey": 1 }), &["unknown field"]);
}

//! Helpers of the unit tests.

use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Reference values of scipy and scikit-image, as `tests/fixtures/README.md` says.
pub fn stats() -> Value {
    fixture("stats.json")
}

/// Values of `tests/oracle/make.py`.
pub fn oracle() -> Value {
    fixture("oracle.json")
}

/// A list of numbers.
pub fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A list of numbers as f32.
pub fn floats(v: &Value) -> Vec<f32> {
    numbers(v).into_iter().map(|x| x as f32).collect()
}

/// Fails unless the two agree within `tolerance`.
#[track_caller]
pub fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected} within {tolerance}");
}

/// Fails unless the two lists agree within `tolerance`.
#[track_caller]
pub fn all_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(f, e)| close(*f, *e, tolerance));
}

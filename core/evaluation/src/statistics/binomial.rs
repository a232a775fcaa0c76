//! Intervals of a share.

use super::special::{binomial_chance, normal_quantile};
use shiftlens_api::{Error, Result};

fn check(successes: usize, n: usize, confidence: f64) -> Result<()> {
    if n == 0 || successes > n || !(confidence > 0.0 && confidence < 1.0) {
        return Err(Error::Invalid(format!(
            "interval of a share: {successes} of {n} at confidence {confidence}, expected at most n of n > 0, and a \
             confidence between 0 and 1"
        )));
    }
    Ok(())
}

/// Wilson's score interval (1927): close to its confidence on average, and good for small n.
///
/// # Errors
/// [`Error::Invalid`] for n = 0, more successes than n, or a confidence outside (0, 1).
pub fn wilson(successes: usize, n: usize, confidence: f64) -> Result<(f64, f64)> {
    check(successes, n, confidence)?;
    let (k, n) = (successes as f64, n as f64);
    let z = normal_quantile(0.5 + confidence / 2.0);
    let p = k / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends the limits are exactly 0 and 1; rounding leaves a little.
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if k == n { 1.0 } else { centre + half };
    Ok((low, high))
}

/// Clopper and Pearson's interval (1934): never below its confidence.
///
/// # Errors
/// As [`wilson`].
pub fn clopper_pearson(successes: usize, n: usize, confidence: f64) -> Result<(f64, f64)> {
    check(successes, n, confidence)?;
    let tail = (1.0 - confidence) / 2.0;
    let low = if successes == 0 { 0.0 } else { binomial_chance(successes, n, tail) };
    let high = if successes == n { 1.0 } else { binomial_chance(successes + 1, n, 1.0 - tail) };
    Ok((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, stats};

    #[test]
    fn intervals_are_scipys() {
        let cases = stats()["binomial_intervals"].as_array().unwrap().clone();
        assert_eq!(cases.len(), 21);
        for case in &cases {
            let count = |name: &str| case[name].as_u64().unwrap() as usize;
            let (k, n, confidence) = (count("successes"), count("n"), case["confidence"].as_f64().unwrap());
            for (found, name) in [
                (wilson(k, n, confidence).unwrap(), "wilson"),
                (clopper_pearson(k, n, confidence).unwrap(), "clopper_pearson"),
            ] {
                let expected = numbers(&case[name]);
                close(found.0, expected[0], 1e-10);
                close(found.1, expected[1], 1e-10);
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for (k, n, confidence) in [(0, 0, 0.95), (3, 2, 0.95), (1, 2, 1.0), (1, 2, f64::NAN)] {
            assert!(wilson(k, n, confidence).is_err() && clopper_pearson(k, n, confidence).is_err());
        }
    }
}

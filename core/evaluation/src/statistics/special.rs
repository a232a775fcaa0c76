//! Distribution functions, on the error and gamma functions of libm. Arguments are checked by the callers.

use libm::{erfc, lgamma};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Standard normal distribution function.
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// Standard normal density.
pub fn normal_pdf(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// Standard normal quantile; infinite at 0 and 1.
pub fn normal_quantile(p: f64) -> f64 {
    if p <= 0.0 {
        f64::NEG_INFINITY
    } else if p <= 0.5 {
        // Below -39 the distribution function is 0.
        increasing_root(-39.0, 0.0, |z| normal_cdf(z) - p)
    } else {
        -normal_quantile(1.0 - p)
    }
}

/// Two-sided p value of a standard normal statistic.
pub fn two_sided(z: f64) -> f64 {
    erfc(z.abs() * FRAC_1_SQRT_2)
}

/// Upper tail of the chi-square distribution with `k` degrees of freedom, at least 1: from that of 1 or 2 degrees by
/// `Q(k + 2) = Q(k) + (x/2)^(k/2) e^(-x/2) / Γ(k/2 + 1)` (Abramowitz and Stegun 1964, 26.4.8).
pub fn chi_square_tail(x: f64, k: usize) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let (half, odd) = (x / 2.0, k % 2 == 1);
    let first = if odd { two_sided(x.sqrt()) } else { (-half).exp() };
    let steps = (0..(k - 1) / 2).map(|i| i as f64 + if odd { 0.5 } else { 1.0 });
    first + steps.map(|a| (a * half.ln() - half - lgamma(a + 1.0)).exp()).sum::<f64>()
}

/// The chance `p` at which `k` or more of `n` succeed with probability `tail`; k is 1 to n.
pub fn binomial_chance(k: usize, n: usize, tail: f64) -> f64 {
    increasing_root(0.0, 1.0, |p| binomial_tail(k, n, p) - tail)
}

/// Probability of `k` or more successes of `n`, each with chance `p` in (0, 1); k is 1 to n. Terms are summed from the one
/// next to k away from the mean, so that they fall and none that counts is lost.
fn binomial_tail(k: usize, n: usize, p: f64) -> f64 {
    let (nf, odds) = (n as f64, p / (1.0 - p));
    let term = |j: usize| {
        let j = j as f64;
        let ways = lgamma(nf + 1.0) - lgamma(j + 1.0) - lgamma(nf - j + 1.0);
        (ways + j * p.ln() + (nf - j) * (-p).ln_1p()).exp()
    };
    let mut sum = 0.0;
    if k as f64 > nf * p {
        let mut t = term(k);
        for j in k..=n {
            sum += t;
            t *= (nf - j as f64) / (j as f64 + 1.0) * odds;
        }
        sum
    } else {
        let mut t = term(k - 1);
        for j in (0..k).rev() {
            sum += t;
            t *= j as f64 / (nf - j as f64 + 1.0) / odds;
        }
        1.0 - sum
    }
}

/// Quantile of the studentised range of `k` normal means with known variance (infinite degrees of freedom).
pub fn studentised_range_quantile(k: usize, p: f64) -> f64 {
    increasing_root(0.0, 40.0, |q| studentised_range_cdf(k, q) - p)
}

/// `k ∫ φ(z) (Φ(z) - Φ(z - q))^(k-1) dz` by Simpson's rule: the integrand is smooth, and 0 to rounding outside of the
/// limits.
fn studentised_range_cdf(k: usize, q: f64) -> f64 {
    const INTERVALS: usize = 800;
    let (low, high) = (-9.0, 9.0);
    let step = (high - low) / INTERVALS as f64;
    let at = |z: f64| normal_pdf(z) * (normal_cdf(z) - normal_cdf(z - q)).powi(k as i32 - 1);
    let sum: f64 = (0..=INTERVALS)
        .map(|i| {
            let weight = if i == 0 || i == INTERVALS {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            };
            weight * at(low + i as f64 * step)
        })
        .sum();
    k as f64 * sum * step / 3.0
}

/// Root of a function that does not fall, by bisection to the last bit.
fn increasing_root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if f(middle) < 0.0 { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, numbers, oracle};
    use serde_json::Value;

    /// Rows of numbers, the last of each being the value.
    fn rows(name: &str) -> Vec<Vec<f64>> {
        let of = |v: &Value| v.as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
        of(&oracle()["special"][name])
    }

    #[test]
    fn values_are_scipys() {
        type Function = fn(&[f64]) -> f64;
        let functions: [(&str, Function); 6] = [
            ("norm.cdf", |r| normal_cdf(r[0])),
            ("norm.ppf", |r| normal_quantile(r[0])),
            ("two_sided", |r| two_sided(r[0])),
            ("chi2.sf", |r| chi_square_tail(r[0], r[1] as usize)),
            ("beta.ppf", |r| binomial_chance(r[0] as usize, (r[0] + r[1]) as usize - 1, r[2])),
            ("studentized_range.ppf", |r| studentised_range_quantile(r[0] as usize, r[1])),
        ];
        for (name, f) in functions {
            let rows = rows(name);
            assert!(rows.len() >= 5, "{name}");
            for row in rows {
                let (arguments, value) = row.split_at(row.len() - 1);
                let found = f(arguments);
                assert!(
                    (found / value[0] - 1.0).abs() < 1e-8,
                    "{name} of {arguments:?}: {found}, not {value:?}"
                );
            }
        }
    }

    #[test]
    fn ends_of_the_domains() {
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        close(normal_quantile(0.5), 0.0, 1e-15);
        assert_eq!((chi_square_tail(0.0, 3), two_sided(0.0)), (1.0, 1.0));
        close(normal_pdf(0.0), 0.398_942_280_401_432_7, 1e-15);
    }
}

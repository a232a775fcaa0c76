//! Filters made of orthogonal wavelets (Daubechies 1992, "Ten Lectures on Wavelets", section 8.1).

/// The lowpass of the symlet with two vanishing moments, which is Daubechies's own: its sum is the root of 2, and it is
/// orthonormal to itself shifted by even numbers.
pub(super) const SYM2: [f64; 4] =
    [-0.129_409_522_551_260_37, 0.224_143_868_042_013_4, 0.836_516_303_737_807_9, 0.482_962_913_144_534_16];

/// The lowpass of the symlet with six vanishing moments, the least asymmetric of its kind.
pub(super) const SYM6: [f64; 12] = [
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

/// The place of a filter of the sum root of 2: its first moment. A picture that is smooth goes through the filter as if it
/// were shifted by so much, up to third differences, because the second moment of these filters is the square of the first.
pub(super) fn centre(filter: &[f64]) -> f64 {
    filter.iter().enumerate().map(|(i, h)| i as f64 * h).sum::<f64>() / std::f64::consts::SQRT_2
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len() + b.len() - 1];
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            out[i + j] += a * b;
        }
    }
    out
}

/// The filter with `step - 1` zeros between its taps.
fn spread(filter: &[f64], step: usize) -> Vec<f64> {
    let mut out = vec![0.0; (filter.len() - 1) * step + 1];
    filter.iter().enumerate().for_each(|(i, h)| out[i * step] = *h);
    out
}

/// Taps of [`bands`].
pub(super) const BAND_TAPS: usize = 43;

/// Four filters, symmetric about their middle, whose sum is the identity: frequencies up to π/8, π/4, π/2 and π.
///
/// With `L(z) = H(z) H(1/z) / 2` of sym2 and `1 - L(z)` as its complement, they are `L(z) L(z²) L(z⁴)`,
/// `L(z) L(z²) (1 - L(z⁴))`, `L(z) (1 - L(z²))` and `1 - L(z)` (Karras et al. 2020, appendix B).
pub(super) fn bands() -> [[f64; BAND_TAPS]; 4] {
    let reversed: Vec<f64> = SYM2.iter().rev().copied().collect();
    let low: Vec<f64> = convolved(&SYM2, &reversed).iter().map(|v| v / 2.0).collect();
    let complement = |f: &[f64]| {
        let mut f: Vec<f64> = f.iter().map(|v| -v).collect();
        let middle = f.len() / 2;
        f[middle] += 1.0;
        f
    };
    let levels = [1, 2, 4].map(|step| spread(&low, step));
    let two = convolved(&levels[0], &levels[1]);
    let filters = [
        convolved(&two, &levels[2]),
        convolved(&two, &complement(&levels[2])),
        convolved(&levels[0], &complement(&levels[1])),
        complement(&levels[0]),
    ];
    filters.map(|f| {
        let mut out = [0.0; BAND_TAPS];
        let from = (BAND_TAPS - f.len()) / 2;
        out[from..from + f.len()].copy_from_slice(&f);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orthonormality and vanishing moments leave finitely many filters; what the table holds is the least asymmetric.
    fn check(filter: &[f64], moments: i32) {
        assert!((filter.iter().sum::<f64>() - std::f64::consts::SQRT_2).abs() < 1e-12);
        for shift in (0..filter.len()).step_by(2) {
            let product: f64 = filter.iter().zip(&filter[shift..]).map(|(a, b)| a * b).sum();
            assert!((product - f64::from(u8::from(shift == 0))).abs() < 1e-11, "{shift}: {product}");
        }
        for m in 0..moments {
            let alternating = filter.iter().enumerate().map(|(i, h)| {
                let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
                sign * h * (i as f64 / filter.len() as f64).powi(m)
            });
            assert!(alternating.sum::<f64>().abs() < 1e-9, "moment {m}");
        }
        let mean = centre(filter);
        let second = filter.iter().enumerate().map(|(i, h)| (i as f64 - mean).powi(2) * h).sum::<f64>();
        assert!(second.abs() < 1e-9, "{second}");
    }

    #[test]
    fn symlets_are_orthonormal_with_vanishing_moments() {
        check(&SYM2, 2);
        check(&SYM6, 6);
    }

    #[test]
    fn bands_sum_to_the_identity_and_keep_to_their_frequencies() {
        let bands = bands();
        for tap in 0..BAND_TAPS {
            let sum: f64 = bands.iter().map(|b| b[tap]).sum();
            assert!((sum - f64::from(u8::from(tap == BAND_TAPS / 2))).abs() < 1e-12, "{tap}");
        }
        // A symmetric filter's response is a cosine series. In the middle of a band its filter lets nearly all through.
        let response = |band: usize, frequency: f64| -> f64 {
            let cosine = |(i, h): (usize, &f64)| h * (frequency * (i as f64 - (BAND_TAPS / 2) as f64)).cos();
            bands[band].iter().enumerate().map(cosine).sum()
        };
        use std::f64::consts::PI;
        for (band, frequency) in [(0, 0.0), (1, PI / 6.0), (2, PI / 3.0), (3, PI)] {
            for other in 0..4 {
                let r = response(other, frequency);
                assert!(if other == band { r > 0.7 } else { r.abs() < 0.2 }, "{other} at {frequency}: {r}");
            }
        }
        assert!((response(0, 0.0) - 1.0).abs() < 1e-12 && (response(3, PI) - 1.0).abs() < 1e-12);
    }
}

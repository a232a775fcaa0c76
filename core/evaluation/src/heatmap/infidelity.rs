//! Infidelity (Yeh et al. 2019): does the map predict what perturbations do to f?

use super::{one_explained, same_shape};
use crate::Scorer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Images, Result};

/// How the image is perturbed: f is asked about x - I.
#[derive(Debug, Clone, Copy)]
pub enum Perturbation<'a> {
    /// I is Gaussian noise, the same for all channels of a pixel; values that would leave [0, 1] in a channel are cut down
    /// to what all channels allow.
    Noise {
        /// Standard deviation.
        sigma: f64,
    },
    /// I is `x - baseline` within a square, 0 elsewhere: the square is removed. All squares that lie within the image are
    /// equally likely.
    Square {
        /// Side in pixels.
        side: usize,
        /// What stands in the square's place, of the image's shape.
        baseline: &'a Images,
    },
}

/// How well a map predicts perturbations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Infidelity {
    /// Mean of `(I · Φ - (f(x) - f(x - I)))²` (definition 2.1): lower is better. It depends on the map's scale.
    pub raw: f64,
    /// The factor for the map that makes it least.
    pub scale: f64,
    /// What it is then.
    pub scaled: f64,
    /// `scaled` relative to the infidelity of an empty map, in [0, 1]; `None` where f never changes.
    pub unexplained: Option<f64>,
}

/// Asks f about `samples` perturbed images (and the image). A map has one value for all channels of a pixel, the sum over
/// them, so I · Φ takes the mean of I over the channels: exact for grey images, and for noise.
///
/// # Errors
/// [`Error::Shape`] for a map or a baseline of another size; [`Error::Invalid`] for no samples, noise that is not positive,
/// or a square that is empty or larger than the image; what f answers.
pub fn infidelity(
    scorer: &mut Scorer<'_>,
    image: &Images,
    map: &Heatmap,
    perturbation: Perturbation<'_>,
    samples: usize,
    seed: u64,
) -> Result<Infidelity> {
    one_explained(image, map)?;
    check(image, perturbation, samples)?;
    let [_, c, h, w] = image.shape();
    let n = h * w;
    let x = image.as_slice();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut predicted = Vec::with_capacity(samples);
    let scores = scorer.drawn([c, h, w], samples + 1, |i, out| {
        out.copy_from_slice(x);
        if i == 0 {
            return;
        }
        perturb(out, c, (h, w), perturbation, &mut rng);
        // I is what f really sees, rounding included.
        let dot: f64 = (0..n)
            .map(|p| {
                let moved = (0..c).map(|k| f64::from(x[k * n + p]) - f64::from(out[k * n + p])).sum::<f64>();
                moved / c as f64 * f64::from(map.as_slice()[p])
            })
            .sum();
        predicted.push(dot);
    })?;
    let happened: Vec<f64> = scores[1..].iter().map(|s| scores[0] - s).collect();
    Ok(judge(&predicted, &happened))
}

fn check(image: &Images, perturbation: Perturbation<'_>, samples: usize) -> Result<()> {
    if samples == 0 {
        return Err(Error::invalid("infidelity: 0 samples, expected at least 1"));
    }
    match perturbation {
        Perturbation::Noise { sigma } if !(sigma > 0.0 && sigma.is_finite()) => {
            Err(Error::Invalid(format!("infidelity: noise of sigma {sigma}, expected more than 0")))
        }
        Perturbation::Square { side, baseline } => {
            let (h, w) = image.size();
            if side == 0 || side > h.min(w) {
                return Err(Error::Invalid(format!(
                    "infidelity: squares of side {side}, expected 1 to {}, the image's shorter side",
                    h.min(w)
                )));
            }
            same_shape("baseline of infidelity", baseline, image)
        }
        Perturbation::Noise { .. } => Ok(()),
    }
}

/// Turns the values of x into those of x - I.
fn perturb(
    values: &mut [f32],
    c: usize,
    (h, w): (usize, usize),
    perturbation: Perturbation<'_>,
    rng: &mut ChaCha8Rng,
) {
    let n = h * w;
    match perturbation {
        Perturbation::Noise { sigma } => {
            for p in 0..n {
                let of = |k: usize| values[k * n + p];
                let (low, high) = (0..c).fold((1f32, 0f32), |(a, b), k| (a.min(of(k)), b.max(of(k))));
                let noise = (sigma * rng.sample::<f64, _>(StandardNormal)) as f32;
                let noise = noise.clamp(high - 1.0, low);
                for k in 0..c {
                    let value = &mut values[k * n + p];
                    *value = (*value - noise).clamp(0.0, 1.0);
                }
            }
        }
        Perturbation::Square { side, baseline } => {
            let (top, left) = (rng.random_range(0..=h - side), rng.random_range(0..=w - side));
            for k in 0..c {
                for y in top..top + side {
                    let row = k * n + y * w + left;
                    values[row..row + side].copy_from_slice(&baseline.as_slice()[row..row + side]);
                }
            }
        }
    }
}

fn judge(predicted: &[f64], happened: &[f64]) -> Infidelity {
    let n = predicted.len() as f64;
    let off =
        |scale: f64| predicted.iter().zip(happened).map(|(p, h)| (scale * p - h).powi(2)).sum::<f64>() / n;
    let squares: f64 = predicted.iter().map(|p| p * p).sum();
    let product: f64 = predicted.iter().zip(happened).map(|(p, h)| p * h).sum();
    // An empty map predicts nothing at any scale.
    let scale = if squares > 0.0 { product / squares } else { 0.0 };
    let (scaled, empty) = (off(scale), off(0.0));
    Infidelity { raw: off(1.0), scale, scaled, unexplained: (empty > 0.0).then(|| scaled / empty) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heatmap::Baseline;
    use crate::testing::close;

    /// Weights per pixel and channel of a linear score, in turn positive and negative.
    fn weight(i: usize) -> f64 {
        ((i * 37 % 11) as f64 - 4.0) / 16.0
    }

    fn image(c: usize) -> Images {
        Images::new([1, c, 6, 5], (0..c * 30).map(|i| (i * 13 % 29) as f32 / 28.0).collect()).unwrap()
    }

    /// The gradient, summed over channels, times `factor`.
    fn gradient(c: usize, factor: f64) -> Heatmap {
        let sum = |p: usize| (0..c).map(|k| weight(k * 30 + p)).sum::<f64>();
        Heatmap::new(6, 5, (0..30).map(|p| (factor * sum(p)) as f32).collect()).unwrap()
    }

    fn found(c: usize, map: &Heatmap, perturbation: Perturbation<'_>, seed: u64) -> Infidelity {
        let mut linear = |x: &Images| {
            let dot = |v: &[f32]| v.iter().enumerate().map(|(i, v)| weight(i) * f64::from(*v)).sum::<f64>();
            Ok((0..x.len()).map(|i| dot(x.image(i)) as f32).collect())
        };
        let mut scorer = Scorer::new(&mut linear, 7).unwrap();
        let found = infidelity(&mut scorer, &image(c), map, perturbation, 40, seed).unwrap();
        assert_eq!(scorer.asked(), 41);
        found
    }

    #[test]
    fn the_gradient_of_a_linear_score_has_none() {
        let zeros = Baseline::Zeros.of(&image(1)).unwrap();
        for (c, p) in [
            (1, Perturbation::Noise { sigma: 0.3 }),
            (3, Perturbation::Noise { sigma: 0.3 }),
            (1, Perturbation::Square { side: 3, baseline: &zeros }),
        ] {
            let exact = found(c, &gradient(c, 1.0), p, 1);
            // Scores are f32 of order 1: their squared rounding.
            assert!(exact.raw < 1e-11 && exact.unexplained.unwrap() < 1e-9, "{exact:?}");
            close(exact.scale, 1.0, 1e-5);
            let half = found(c, &gradient(c, 0.5), p, 1);
            close(half.scale, 2.0, 1e-5);
            assert!(half.scaled < 1e-11 && half.raw > 1e-4, "{half:?}");
            let empty = found(c, &gradient(c, 0.0), p, 1);
            assert_eq!((empty.scale, empty.unexplained), (0.0, Some(1.0)));
            // Half of the map leaves half of the change, a quarter of its square.
            close(half.raw / empty.raw, 0.25, 1e-4);
        }
    }

    #[test]
    fn noise_has_its_deviation() {
        // Far from the limits, the empty map's infidelity is the variance of w · I: sigma² |w|².
        let grey = Images::new([1, 1, 6, 5], vec![0.5; 30]).unwrap();
        let mut linear = |x: &Images| {
            let dot = |v: &[f32]| v.iter().enumerate().map(|(i, v)| weight(i) * f64::from(*v)).sum::<f64>();
            Ok((0..x.len()).map(|i| dot(x.image(i)) as f32).collect())
        };
        let mut scorer = Scorer::new(&mut linear, 64).unwrap();
        let noise = Perturbation::Noise { sigma: 0.05 };
        let found = infidelity(&mut scorer, &grey, &gradient(1, 0.0), noise, 4000, 5).unwrap();
        let expected = 0.05f64.powi(2) * (0..30).map(|i| weight(i).powi(2)).sum::<f64>();
        // The deviation of a variance from 4000 values is 2.2 %.
        close(found.raw / expected, 1.0, 0.08);
    }

    #[test]
    fn seeds_and_refusals() {
        let noise = Perturbation::Noise { sigma: 0.1 };
        let map = Heatmap::new(6, 5, vec![0.5; 30]).unwrap();
        assert_eq!(found(1, &map, noise, 1), found(1, &map, noise, 1));
        assert_ne!(found(1, &map, noise, 1), found(1, &map, noise, 2));
        let mut flat = |x: &Images| Ok(vec![0.25; x.len()]);
        let mut scorer = Scorer::new(&mut flat, 7).unwrap();
        let x = image(1);
        assert_eq!(infidelity(&mut scorer, &x, &map, noise, 9, 0).unwrap().unexplained, None);
        let mut refused =
            |p, samples| infidelity(&mut scorer, &x, &map, p, samples, 0).unwrap_err().to_string();
        assert!(refused(noise, 0).contains("0 samples"));
        assert!(refused(Perturbation::Noise { sigma: 0.0 }, 5).contains("sigma 0"));
        assert!(refused(Perturbation::Square { side: 6, baseline: &x }, 5).contains("expected 1 to 5"));
        assert!(refused(Perturbation::Square { side: 2, baseline: &image(3) }, 5).contains("as the image"));
    }
}

//! Insertion and deletion (Petsiuk et al. 2018): f along the way between an image and a baseline.

use super::{by_relevance, one_explained, same_shape};
use crate::Scorer;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Images, Result};

/// f's score while a growing share of the pixels is exchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Share of the pixels exchanged, from 0 to 1.
    pub shares: Vec<f64>,
    /// f's score there.
    pub scores: Vec<f64>,
}

impl Curve {
    /// Area under the curve by the trapezoidal rule; it is f's mean score on the way.
    pub fn area(&self) -> f64 {
        let widths = self.shares.windows(2).map(|s| s[1] - s[0]);
        widths.zip(self.scores.windows(2)).map(|(d, s)| d * (s[0] + s[1]) / 2.0).sum()
    }
}

/// From the image to the baseline, the most relevant pixels first. A good map makes f fall at once: a small area.
///
/// After step k of `steps` the first `round(k n / steps)` of n pixels are exchanged in all channels; `steps + 1` scores are
/// asked for.
///
/// # Errors
/// [`Error::Shape`] for a map or a baseline of another size; [`Error::Invalid`] for no step, or more than pixels; what f
/// answers.
pub fn deletion(
    scorer: &mut Scorer<'_>,
    image: &Images,
    map: &Heatmap,
    baseline: &Images,
    steps: usize,
) -> Result<Curve> {
    one_explained(image, map)?;
    same_shape("baseline of a deletion curve", baseline, image)?;
    exchange(scorer, image, baseline, map, steps)
}

/// From the baseline to the image, the most relevant pixels first. A good map makes f rise at once: a large area.
///
/// # Errors
/// As [`deletion`].
pub fn insertion(
    scorer: &mut Scorer<'_>,
    image: &Images,
    map: &Heatmap,
    baseline: &Images,
    steps: usize,
) -> Result<Curve> {
    one_explained(image, map)?;
    same_shape("baseline of an insertion curve", baseline, image)?;
    exchange(scorer, baseline, image, map, steps)
}

fn exchange(
    scorer: &mut Scorer<'_>,
    from: &Images,
    to: &Images,
    map: &Heatmap,
    steps: usize,
) -> Result<Curve> {
    let [_, c, h, w] = from.shape();
    let n = h * w;
    if steps == 0 || steps > n {
        return Err(Error::Invalid(format!(
            "insertion and deletion: {steps} steps, expected 1 to {n}, the number of pixels"
        )));
    }
    let order = by_relevance(map);
    let exchanged = |k: usize| (2 * k * n + steps) / (2 * steps);
    let scores = scorer.drawn([c, h, w], steps + 1, |k, image| {
        image.copy_from_slice(from.as_slice());
        for channel in 0..c {
            let to = &to.as_slice()[channel * n..][..n];
            let image = &mut image[channel * n..][..n];
            order[..exchanged(k)].iter().for_each(|p| image[*p] = to[*p]);
        }
    })?;
    Ok(Curve { shares: (0..=steps).map(|k| exchanged(k) as f64 / n as f64).collect(), scores })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heatmap::Baseline;
    use crate::testing::{all_close, close, floats, numbers, stats};

    #[test]
    fn curves_are_those_of_the_reference() {
        let golden = &stats()["insertion_deletion"];
        let image = Images::new([1, 1, 16, 16], floats(&golden["image"])).unwrap();
        let map = Heatmap::new(16, 16, floats(&golden["heatmap"])).unwrap();
        let (weights, bias) = (numbers(&golden["W"]), numbers(&golden["b"]));
        let target = golden["target_class"].as_u64().unwrap() as usize;
        let mut softmax = |x: &Images| {
            let one = |i: usize| {
                let logit = |k: usize| -> f64 {
                    let row = &weights[k * 256..][..256];
                    bias[k] + row.iter().zip(x.image(i)).map(|(w, x)| w * f64::from(*x)).sum::<f64>()
                };
                (1.0 / (0..bias.len()).map(|k| (logit(k) - logit(target)).exp()).sum::<f64>()) as f32
            };
            Ok((0..x.len()).map(one).collect())
        };
        let mut scorer = Scorer::new(&mut softmax, 10).unwrap();
        for (name, baseline) in [("zeros", Baseline::Zeros), ("blur", Baseline::Blur { sigma: 3.0 })] {
            let baseline = baseline.of(&image).unwrap();
            for (way, curve) in [
                ("deletion", deletion(&mut scorer, &image, &map, &baseline, 32).unwrap()),
                ("insertion", insertion(&mut scorer, &image, &map, &baseline, 32).unwrap()),
            ] {
                let expected = numbers(&golden[format!("{way}_{name}_curve").as_str()]);
                all_close(&curve.scores, &expected, 1e-6);
                close(curve.area(), golden[format!("{way}_{name}_auc").as_str()].as_f64().unwrap(), 1e-6);
                close(curve.shares[3], 3.0 / 32.0, 1e-15);
            }
        }
        assert_eq!(scorer.asked(), 4 * 33);
    }

    #[test]
    fn a_linear_score_has_a_closed_form() {
        // f is the mean of n pixels that are 1, the map ranks them last to first: after k of them f is 1 - k / n, area 1/2
        // whatever the number of steps. Weighted by 2 p / n, the last pixel first, f after a share s is (1 - s)².
        let n = 12;
        let image = Images::new([1, 3, 3, 4], vec![1.0; 3 * n]).unwrap();
        let map = Heatmap::new(3, 4, (0..n).map(|p| p as f32).collect()).unwrap();
        let zeros = Baseline::Zeros.of(&image).unwrap();
        let mut mean = |x: &Images| Ok((0..x.len()).map(|i| x.image(i).iter().sum::<f32>() / 36.0).collect());
        let mut scorer = Scorer::new(&mut mean, 3).unwrap();
        for steps in [1, 5, 12] {
            close(deletion(&mut scorer, &image, &map, &zeros, steps).unwrap().area(), 0.5, 1e-6);
            let curve = insertion(&mut scorer, &image, &map, &zeros, steps).unwrap();
            close(curve.area(), 0.5, 1e-6);
            all_close(&curve.scores, &curve.shares, 1e-6);
        }
        let mut weighted = |x: &Images| {
            let one = |i: usize| (0..n).map(|p| (2 * p + 1) as f32 / 144.0 * x.image(i)[p]).sum::<f32>();
            Ok((0..x.len()).map(one).collect())
        };
        let mut scorer = Scorer::new(&mut weighted, 100).unwrap();
        let curve = deletion(&mut scorer, &image, &map, &zeros, n).unwrap();
        let expected: Vec<f64> = curve.shares.iter().map(|s| (1.0 - s).powi(2)).collect();
        all_close(&curve.scores, &expected, 1e-6);
    }

    #[test]
    fn what_is_refused() {
        let image = Images::new([1, 1, 2, 2], vec![0.5; 4]).unwrap();
        let map = Heatmap::new(2, 2, vec![0.0; 4]).unwrap();
        let mut f = |x: &Images| Ok(vec![0.0; x.len()]);
        let mut scorer = Scorer::new(&mut f, 1).unwrap();
        for steps in [0, 5] {
            let e = deletion(&mut scorer, &image, &map, &image, steps).unwrap_err().to_string();
            assert!(e.contains("expected 1 to 4"), "{e}");
        }
        let other = Images::new([1, 3, 2, 2], vec![0.5; 12]).unwrap();
        assert!(insertion(&mut scorer, &image, &map, &other, 2).is_err());
        assert!(
            insertion(&mut scorer, &image, &Heatmap::new(1, 2, vec![0.0; 2]).unwrap(), &image, 2).is_err()
        );
        assert_eq!(scorer.asked(), 0);
    }
}

//! ROAD: remove and debias (Rong et al. 2022). Removed pixels are imputed, so that the shape of what was removed does not
//! tell the class, and f sees images that look like images.

use super::{by_relevance, impute, one_explained};
use crate::Scorer;
use crate::rank::mean;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Heatmap, Images, Result};

/// What is removed, and how noisy the imputation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoadParams {
    /// Percentages of the pixels removed, each above 0 and below 100.
    pub percentiles: Vec<f64>,
    /// Standard deviation of the noise on imputed values.
    pub noise: f64,
    /// Seed of the noise.
    pub seed: u64,
}

impl Default for RoadParams {
    /// 10 % to 90 % in steps of 10, noise 0.01.
    fn default() -> Self {
        Self { percentiles: (1..10).map(|p| f64::from(10 * p)).collect(), noise: 0.01, seed: 0 }
    }
}

/// f's scores after removal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Road {
    /// Percentages removed.
    pub percentiles: Vec<f64>,
    /// f without the most relevant pixels.
    pub most_relevant_first: Vec<f64>,
    /// f without the least relevant pixels.
    pub least_relevant_first: Vec<f64>,
}

impl Road {
    /// Mean of f without the most relevant pixels: lower is better. `None`, as the others, without a percentage.
    pub fn morf(&self) -> Option<f64> {
        mean(&self.most_relevant_first)
    }
    /// Mean of f without the least relevant pixels: higher is better.
    pub fn lerf(&self) -> Option<f64> {
        mean(&self.least_relevant_first)
    }
    /// Half of their difference: higher is better, 0 for a map that knows nothing.
    pub fn combined(&self) -> Option<f64> {
        Some((self.lerf()? - self.morf()?) / 2.0)
    }
}

/// Removes the given percentages of the pixels of the image, the most relevant ones and the least relevant ones, imputes
/// them ([`impute()`]) with noise, and asks f: two scores per percentage. `round(p n / 100)` of n pixels are removed; values
/// are clamped to [0, 1] after the noise.
///
/// # Errors
/// [`Error::Shape`] for a map of another size; [`Error::Invalid`] for no percentage, one outside its range or one that
/// removes no pixel or all of them, and for negative noise; what f answers.
pub fn road(scorer: &mut Scorer<'_>, image: &Images, map: &Heatmap, params: &RoadParams) -> Result<Road> {
    one_explained(image, map)?;
    let [_, c, h, w] = image.shape();
    let n = h * w;
    if !(params.noise >= 0.0 && params.noise.is_finite()) {
        return Err(Error::Invalid(format!("ROAD: noise {}, expected 0 or more", params.noise)));
    }
    if params.percentiles.is_empty() {
        return Err(Error::invalid("ROAD: no percentiles, expected at least one"));
    }
    let removed = |p: f64| (p / 100.0 * n as f64).round() as usize;
    if let Some(p) = params
        .percentiles
        .iter()
        .find(|p| !(0.0..100.0).contains(*p) || removed(**p) == 0 || removed(**p) == n)
    {
        return Err(Error::Invalid(format!(
            "ROAD: percentile {p} of {n} pixels, expected some that removes at least one and leaves at least one"
        )));
    }
    let order = by_relevance(map);
    let count = params.percentiles.len();
    let mut imputed = Ok(());
    let scores = scorer.drawn([c, h, w], 2 * count, |i, out| {
        let gone = removed(params.percentiles[i % count]);
        let gone = if i < count { &order[..gone] } else { &order[n - gone..] };
        let mut known = vec![true; n];
        gone.iter().for_each(|p| known[*p] = false);
        match impute(image, &known) {
            Ok(values) => out.copy_from_slice(&values),
            Err(e) => {
                imputed = Err(e);
                return;
            }
        }
        // A stream for each image: its noise does not depend on what else is asked for.
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
        rng.set_stream(i as u64);
        for p in gone {
            for channel in 0..c {
                let noise: f64 = rng.sample(StandardNormal);
                let value = &mut out[channel * n + p];
                *value = (f64::from(*value) + params.noise * noise) as f32;
            }
        }
    });
    imputed?;
    let (most, least) = {
        let s = scores?;
        (s[..count].to_vec(), s[count..].to_vec())
    };
    Ok(Road {
        percentiles: params.percentiles.clone(),
        most_relevant_first: most,
        least_relevant_first: least,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all_close, close, floats, numbers, oracle};

    #[test]
    fn scores_are_those_of_the_formulas_in_numpy() {
        let case = &oracle()["road"];
        let image = Images::new([1, 3, 9, 7], floats(&case["image"])).unwrap();
        let map = Heatmap::new(9, 7, floats(&case["map"])).unwrap();
        let weights = numbers(&case["weights"]);
        let mut linear = |x: &Images| {
            let one = |i: usize| {
                x.image(i).iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>() as f32
            };
            Ok((0..x.len()).map(one).collect())
        };
        let mut scorer = Scorer::new(&mut linear, 4).unwrap();
        let params = RoadParams { percentiles: numbers(&case["percentiles"]), noise: 0.0, seed: 0 };
        let found = road(&mut scorer, &image, &map, &params).unwrap();
        all_close(&found.most_relevant_first, &numbers(&case["morf"]), 1e-5);
        all_close(&found.least_relevant_first, &numbers(&case["lerf"]), 1e-5);
        close(found.combined().unwrap(), case["combined"].as_f64().unwrap(), 1e-5);
        assert_eq!(scorer.asked(), 2 * params.percentiles.len());
    }

    #[test]
    fn noise_has_its_deviation_and_its_seed() {
        let image = Images::new([1, 1, 40, 40], vec![0.5; 1600]).unwrap();
        let map = Heatmap::new(40, 40, (0..1600).map(|p| p as f32).collect()).unwrap();
        let deviation = |seed| {
            let mut f = |x: &Images| {
                let one = |i: usize| {
                    let squares = x.image(i).iter().map(|v| f64::from(v - 0.5).powi(2)).sum::<f64>();
                    (squares / 800.0).sqrt() as f32
                };
                Ok((0..x.len()).map(one).collect())
            };
            let mut scorer = Scorer::new(&mut f, 8).unwrap();
            let params = RoadParams { percentiles: vec![50.0], noise: 0.05, seed };
            road(&mut scorer, &image, &map, &params).unwrap()
        };
        let found = deviation(3);
        // Deviation of an estimate from 800 values: 2.5 %.
        close(found.morf().unwrap(), 0.05, 0.005);
        close(found.lerf().unwrap(), 0.05, 0.005);
        assert!(found.morf() != found.lerf() && found == deviation(3) && found != deviation(4));
    }

    #[test]
    fn what_is_refused() {
        let image = Images::new([1, 1, 4, 4], vec![0.5; 16]).unwrap();
        let map = Heatmap::new(4, 4, vec![0.0; 16]).unwrap();
        let mut f = |x: &Images| Ok(vec![0.0; x.len()]);
        let mut scorer = Scorer::new(&mut f, 8).unwrap();
        let mut refused = |percentiles: Vec<f64>, noise: f64| {
            let params = RoadParams { percentiles, noise, seed: 0 };
            road(&mut scorer, &image, &map, &params).unwrap_err().to_string()
        };
        for p in [0.0, 1.0, 99.0, 100.0, -5.0, f64::NAN] {
            assert!(refused(vec![50.0, p], 0.0).contains("of 16 pixels"));
        }
        assert!(refused(vec![], 0.0).contains("no percentiles"));
        assert!(refused(vec![50.0], -0.1).contains("noise -0.1"));
    }
}

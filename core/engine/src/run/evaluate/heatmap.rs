//! The metrics of heatmaps.

use super::sheet::{Key, Sheet};
use crate::manifest::Baseline;
use shiftlens_api::{Error, Heatmap, Images, Predictor, Result, Target};
use shiftlens_evaluation::heatmap::{
    self as measures, Mask, Perturbation, RoadParams, SensitivityParams, at_size,
};
use shiftlens_evaluation::{Metric, Scorer};

/// Images that f is asked about together.
const BATCH: usize = 32;
/// The baseline's blur, and a random heatmap's, as a share of the image's longer side.
pub const BLUR: f64 = 1.0 / 16.0;
/// The side of the squares that infidelity removes, as a share of the image's shorter side.
const SQUARE: f64 = 1.0 / 8.0;
/// Squares that infidelity removes at most.
const SQUARES: usize = 128;
/// Images around x that max-sensitivity explains at most.
const NEIGHBOURS: usize = 10;
/// Half the side of the cube that they are drawn from.
const RADIUS: f64 = 0.02;
/// How far from the mask the largest value may lie, as a share of the longer side: the pointing game's 15 pixels of the 500
/// that images of PASCAL VOC have.
const TOLERANCE: f64 = 15.0 / 500.0;
/// Share of the pixels that the intersection over union at a quantile takes.
const QUANTILE: f64 = 0.1;

/// An image as f is shown it, and what stands in its pixels' place.
pub struct Seen {
    /// At the size and with the channels of f's input, where f is an ONNX file; else as it was read.
    pub image: Images,
    /// The baselines; `None` where the generator has none for this image.
    pub baselines: Vec<(Baseline, Option<Images>)>,
    /// What a person marked, at the image's own size.
    pub mask: Option<Mask>,
    /// Seed of what is drawn for this image, the same for all methods.
    pub seed: u64,
}

/// A baseline that is made from the image alone; `None` for the generator's.
///
/// # Errors
/// Never, for images with a pixel.
pub fn plain_baseline(baseline: Baseline, image: &Images) -> Result<Option<Images>> {
    let (h, w) = image.size();
    let plain = match baseline {
        Baseline::Blur => measures::Baseline::Blur { sigma: BLUR * h.max(w) as f64 },
        Baseline::Mean => measures::Baseline::Mean,
        Baseline::Generator => return Ok(None),
    };
    plain.of(image).map(Some)
}

/// ROAD's percentages: 10 to 90, as many as the budget allows, evenly spread.
fn percentiles(budget: usize) -> Vec<f64> {
    let n = (budget / 2).clamp(1, 9);
    (0..n).map(|i| 10.0 * (1 + (2 * i + 1) * 9 / (2 * n)) as f64).collect()
}

/// Measures what asks f about changed images, and the map alone.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn measure(
    sheet: &mut Sheet<'_>,
    method: &str,
    map: &Heatmap,
    own_size: (usize, usize),
    seen: &Seen,
    predictor: &mut dyn Predictor,
    target: &Target,
) -> Result<()> {
    let (budget, pixels) = (sheet.spec.budget, seen.image.size().0 * seen.image.size().1);
    let steps = sheet.spec.steps.min(budget - 1).min(pixels);
    let mut f = |x: &Images| predictor.predict(x)?.class(target.class);
    let mut scorer = Scorer::new(&mut f, BATCH)?;
    let image = &seen.image;
    let large = at_size(map, image.size())?;
    for (baseline, other) in &seen.baselines {
        let key = |metric| Key { metric, variant: Some(baseline.name()) };
        sheet.measure(method, [key(Metric::InsertionAuc)], || match other {
            Some(b) => Ok([Some(measures::insertion(&mut scorer, image, &large, b, steps)?.area())]),
            None => Ok([None]),
        })?;
        sheet.measure(method, [key(Metric::DeletionAuc)], || match other {
            Some(b) => Ok([Some(measures::deletion(&mut scorer, image, &large, b, steps)?.area())]),
            None => Ok([None]),
        })?;
    }
    sheet.measure(method, [Metric::Road, Metric::RoadMorf, Metric::RoadLerf].map(Key::of), || {
        let percentiles = percentiles(budget);
        let params = RoadParams { percentiles, seed: seen.seed, ..RoadParams::default() };
        let road = measures::road(&mut scorer, image, &large, &params)?;
        Ok([road.combined(), road.morf(), road.lerf()])
    })?;
    sheet.measure(method, [Metric::AverageDrop, Metric::IncreaseInConfidence].map(Key::of), || {
        let found = measures::confidence(&mut scorer, image, &large)?;
        Ok([found.drop(), Some(f64::from(u8::from(found.increased())))])
    })?;
    sheet.measure(method, [Metric::Infidelity, Metric::InfidelityUnexplained].map(Key::of), || {
        let (h, w) = image.size();
        let blurred = plain_baseline(Baseline::Blur, image)?
            .ok_or_else(|| Error::invalid("no blurred image to take squares from"))?;
        let side = (SQUARE * h.min(w) as f64).round().max(1.0) as usize;
        let squares = Perturbation::Square { side, baseline: &blurred };
        let samples = SQUARES.min(budget - 1);
        let found = measures::infidelity(&mut scorer, image, &large, squares, samples, seen.seed)?;
        Ok([Some(found.raw), found.unexplained])
    })?;
    sheet.measure(method, [Key::of(Metric::Sparseness)], || Ok([measures::sparseness(map)]))?;
    sheet.measure(method, [Key::of(Metric::Complexity)], || Ok([measures::complexity(map)]))?;
    if let Some(mask) = &seen.mask {
        localise(sheet, method, &at_size(map, own_size)?, mask)?;
    }
    Ok(())
}

fn localise(sheet: &mut Sheet<'_>, method: &str, map: &Heatmap, mask: &Mask) -> Result<()> {
    let tolerance = TOLERANCE * map.size().0.max(map.size().1) as f64;
    sheet.measure(method, [Key::of(Metric::PointingGame)], || {
        Ok([measures::points_at(map, mask, tolerance)?.map(|hit| f64::from(u8::from(hit)))])
    })?;
    sheet.measure(method, [Key::of(Metric::EnergyPointingGame)], || {
        Ok([measures::energy_within(map, mask)?])
    })?;
    sheet.measure(method, [Key::of(Metric::IouQuantile)], || {
        Ok([measures::iou_at_share(map, mask, QUANTILE)?])
    })?;
    sheet.measure(method, [Key::of(Metric::IouMatched)], || Ok([measures::iou_at_area(map, mask)?]))
}

/// How many explanations of `cost` questions to f each fit the budget, `most` at most.
pub fn affordable(budget: usize, cost: f64, most: usize) -> usize {
    if cost > 0.0 { ((budget as f64 / cost) as usize).min(most) } else { most }
}

/// Measures what makes the explanation again: `explain` answers the map of an image under a seed (`None`: the run's), at a
/// cost of `cost` questions to f. What the budget does not allow has no value.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn measure_again(
    sheet: &mut Sheet<'_>,
    method: &str,
    map: &Heatmap,
    (x, seen): (&Images, &Seen),
    cost: f64,
    explain: &mut dyn FnMut(&Images, Option<u64>) -> Result<Heatmap>,
) -> Result<()> {
    let budget = sheet.spec.budget;
    let size = seen.image.size();
    sheet.measure(method, [Key::of(Metric::MaxSensitivity)], || {
        let samples = affordable(budget, cost, NEIGHBOURS);
        if samples == 0 {
            return Ok([None]);
        }
        let params = SensitivityParams { radius: RADIUS, samples, seed: seen.seed };
        let mut near = |y: &Images| at_size(&explain(y, None)?, size);
        let found = measures::sensitivity(&mut near, &seen.image, &at_size(map, size)?, params)?;
        Ok([found.relative_max()])
    })?;
    sheet.measure(method, [Key::of(Metric::Repeatability)], || {
        if affordable(budget, cost, 1) == 0 {
            return Ok([None]);
        }
        let again = explain(x, Some(seen.seed))?;
        Ok([measures::similarity(map, &again, 1.0)?.spearman])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_budget_spreads_what_it_allows() {
        let nine: Vec<f64> = (1..10).map(|p| 10.0 * f64::from(p)).collect();
        assert_eq!((percentiles(1000), percentiles(18)), (nine.clone(), nine));
        assert_eq!(percentiles(6), [20.0, 50.0, 80.0]);
        assert_eq!(percentiles(2), [50.0]);
        assert_eq!(affordable(1000, 300.0, 10), 3);
        assert_eq!((affordable(1000, 2000.0, 10), affordable(20, 0.0, 10)), (0, 10));
    }
}

//! LIME on a grid (Ribeiro, Singh and Guestrin 2016), as an example of an explainer in Rust.
//!
//! The image is cut into a grid of rectangles. Random choices of them are hidden, f is asked about each of these images,
//! and a linear model is fitted to its answers, near the image more than far from it. The weight of a rectangle in that
//! model is the heatmap's value there: how far f's score rises, other things equal, because the rectangle is seen.
//!
//! The file is laid out as a plugin usually is: the parameters, the component, the line that exports it. It asks f for
//! scores alone, so it explains a black box too.

mod grid;
mod surrogate;

use grid::Grid;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer};
use shiftlens_sdk::api::{Context, Error, Explainer, Explanation, Heatmap, Images, Result, Target};
use shiftlens_sdk::{Create, export_plugin, serde_json::Value};
use surrogate::Surrogate;

/// `params` in the manifest. An unknown key is an error, so that a typing mistake never becomes a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Rows and columns of rectangles.
    grid: [usize; 2],
    /// Images that f is asked about, the image itself being the first.
    samples: usize,
    /// What hidden rectangles are filled with.
    hide: Fill,
    /// sigma of the weight `exp(-D^2 / sigma^2)` that a sample at the distance D has (section 3.3).
    width: f64,
    /// Strength of the L2 penalty on the weights of the linear model.
    penalty: f64,
    /// Images per call of f: the memory that is used goes by it.
    batch: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { grid: [8, 8], samples: 1000, hide: Fill::Mean, width: 0.25, penalty: 1.0, batch: 16 }
    }
}

/// What stands in a hidden rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    /// The rectangle's own mean, channel by channel.
    Mean,
    /// This value, in [0, 1].
    Value(f32),
}

impl<'de> Deserialize<'de> for Fill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.as_f64() {
            Some(v) if (0.0..=1.0).contains(&v) => Ok(Self::Value(v as f32)),
            None if value == "mean" => Ok(Self::Mean),
            _ => Err(serde::de::Error::custom(format!(
                "`hide` is {value}, expected \"mean\" or a value from 0 (black) to 1 (white)"
            ))),
        }
    }
}

impl Params {
    fn check(self) -> Result<Self> {
        let wrong = |message: String| Err(Error::Invalid(format!("params: {message}")));
        match &self {
            p if p.grid.contains(&0) || p.grid == [1, 1] => {
                wrong(format!("`grid` is {:?}, expected rows and columns, two rectangles at least", p.grid))
            }
            p if p.samples < 2 => wrong(format!("`samples` is {}, expected 2 at least", p.samples)),
            p if !(p.width > 0.0 && p.width.is_finite()) => {
                wrong(format!("`width` is {}, expected a positive number", p.width))
            }
            p if !(p.penalty > 0.0 && p.penalty.is_finite()) => {
                wrong(format!("`penalty` is {}, expected a positive number", p.penalty))
            }
            p if p.batch == 0 => wrong("`batch` is 0, expected 1 at least".into()),
            _ => Ok(self),
        }
    }
}

/// The component.
struct Lime {
    params: Params,
}

/// Makes it from the manifest's `params`.
impl Create for Lime {
    fn create(params: &Value) -> Result<Self> {
        Ok(Self { params: shiftlens_sdk::params::<Params>(params)?.check()? })
    }
}

/// What the program asks of it.
impl Explainer for Lime {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        // One image at a time: what stands beside it in the batch changes nothing.
        (0..x.len()).map(|i| Ok(vec![self.explain_one(cx, &x.slice(i, i + 1), target)?])).collect()
    }
}

impl Lime {
    fn explain_one(&self, cx: &mut Context<'_>, x: &Images, target: &Target) -> Result<Explanation> {
        let p = &self.params;
        let (height, width) = x.size();
        let grid = Grid::new(p.grid, (height, width))?;
        // Randomness comes from the case's seed alone: the same image has the same map in every run.
        let mut rng = ChaCha8Rng::seed_from_u64(cx.seed);
        let samples: Vec<Vec<bool>> = (0..p.samples)
            .map(|i| (0..grid.len()).map(|_| i == 0 || rng.random_bool(0.5)).collect())
            .collect();
        let scores = self.ask(cx, x, &grid, &samples, target)?;
        let fitted = Surrogate::fit(&samples, &scores, p.width, p.penalty)?;
        let map = grid.labels().map(|s| fitted.weights[s] as f32).collect();
        let notes = vec![
            ("class".to_owned(), target.name.clone()),
            ("score".to_owned(), format!("{:.6}", scores[0])),
            ("grid".to_owned(), format!("{} x {} rectangles", p.grid[0], p.grid[1])),
            ("samples".to_owned(), p.samples.to_string()),
            // A linear model that does not fit explains nothing, so it is said how well it fits.
            (
                "share of f's variance that the linear model explains".to_owned(),
                fitted.r_squared.map_or("f does not vary".into(), |r| format!("{r:.3}")),
            ),
        ];
        Ok(Explanation::Heatmap { title: "LIME".into(), map: Heatmap::new(height, width, map)?, notes })
    }

    /// f's score of the target on each sample.
    fn ask(
        &self,
        cx: &mut Context<'_>,
        x: &Images,
        grid: &Grid,
        samples: &[Vec<bool>],
        target: &Target,
    ) -> Result<Vec<f64>> {
        let (image, [_, channels, height, width]) = (x.image(0), x.shape());
        let hidden = match self.params.hide {
            Fill::Mean => grid.means(image),
            Fill::Value(v) => vec![v; image.len()],
        };
        let mut scores = Vec::with_capacity(samples.len());
        for batch in samples.chunks(self.params.batch) {
            // A user who stops the program is heard here.
            cx.monitor.check()?;
            let mut data = Vec::with_capacity(batch.len() * image.len());
            for seen in batch {
                let labels = grid.labels().cycle();
                let values = image.iter().zip(&hidden).zip(labels);
                data.extend(values.map(|((own, other), s)| if seen[s] { *own } else { *other }));
            }
            let images = Images::new([batch.len(), channels, height, width], data)?;
            let answer = cx.predictor.predict(&images)?.class(target.class)?;
            scores.extend(answer.into_iter().map(f64::from));
            cx.monitor.progress("LIME", scores.len() as u64, samples.len() as u64);
        }
        Ok(scores)
    }
}

export_plugin! { id: "example.lime", explainer: Lime }

#[cfg(test)]
mod tests;

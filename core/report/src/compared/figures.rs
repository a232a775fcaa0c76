//! Plots of two predictors against each other.

use super::{Compared, safe};
use crate::number::{count, fixed};
use crate::overview::Figure;
use crate::scatter::{Mark, Scatter};
use shiftlens_api::Result;
use shiftlens_api::record::CaseRecord;

/// What one predictor says of an image.
#[derive(Debug, Clone, Copy)]
struct Said {
    score: f32,
    flip: Option<f32>,
}

/// Numbers of all images: what each predictor says, in order, and the ground truth.
pub(super) struct Scatters {
    predictors: usize,
    images: Vec<(Vec<Option<Said>>, Option<bool>)>,
}

impl Scatters {
    pub fn new(predictors: usize) -> Self {
        Self { predictors, images: Vec::new() }
    }

    /// Takes an image in.
    pub fn push(&mut self, records: &[Option<CaseRecord>]) {
        let said = |r: &CaseRecord| Said { score: r.score, flip: r.flip().flatten() };
        let label = records.iter().flatten().find_map(|r| r.label);
        self.images.push((records.iter().map(|r| r.as_ref().map(said)).collect(), label));
    }

    /// Two plots for each pair.
    pub fn figures(&self, compared: &Compared) -> Result<Vec<Figure>> {
        let mut all = Vec::new();
        for a in 0..self.predictors {
            for b in a + 1..self.predictors {
                all.extend(self.scores(compared, a, b)?);
                all.extend(self.flips(compared, a, b)?);
            }
        }
        Ok(all)
    }

    /// The images that both explained.
    fn pairs(&self, a: usize, b: usize) -> impl Iterator<Item = (Said, Said, Option<bool>)> {
        self.images.iter().filter_map(move |(said, label)| Some((said[a]?, said[b]?, *label)))
    }

    fn scores(&self, compared: &Compared, a: usize, b: usize) -> Result<Option<Figure>> {
        let marks: Vec<Mark> = self
            .pairs(a, b)
            .map(|(x, y, label)| Mark {
                at: (f64::from(x.score), f64::from(y.score)),
                colour: label.map_or(2, usize::from),
            })
            .collect();
        if marks.is_empty() {
            return Ok(None);
        }
        let [first, second] = [a, b].map(|i| &compared.predictors[i]);
        let run = &first.folder.run;
        let of = |colour: usize| marks.iter().filter(|m| m.colour == colour).count();
        let unknown = if of(2) == marks.len() { "all images" } else { "ground truth not known" };
        let names = [
            (crate::case::label(false, &run.classes, &run.target), 0),
            (crate::case::label(true, &run.classes, &run.target), 1),
            (unknown.to_owned(), 2),
        ];
        let apart = |m: &&Mark| (m.at.0 >= 0.5) != (m.at.1 >= 0.5);
        let disagree = marks.iter().filter(apart).count();
        let (n, apart) = (count(marks.len()), count(disagree));
        let svg = Scatter { marks: &marks, quadrants: true }.svg()?;
        Ok(Some(Figure {
            title: format!("f(x): {} against {}", second.name, first.name),
            help: format!(
                "A dot for each image: {} across, {} upwards. In the grey quarters they decide differently: {apart} of {n} images.",
                first.name, second.name
            ),
            alt: format!(
                "Scores of {} against {}: {apart} of {n} images lie where they disagree",
                second.name, first.name
            ),
            svg: safe(svg),
            curves: names
                .into_iter()
                .filter(|(_, colour)| of(*colour) > 0)
                .map(|(name, colour)| (format!("{name} ({})", count(of(colour))), colour))
                .collect(),
        }))
    }

    fn flips(&self, compared: &Compared, a: usize, b: usize) -> Result<Option<Figure>> {
        let both = |(x, y, _): (Said, Said, Option<bool>)| Some((f64::from(x.flip?), f64::from(y.flip?)));
        let marks: Vec<Mark> = self.pairs(a, b).filter_map(both).map(|at| Mark { at, colour: 0 }).collect();
        if marks.is_empty() {
            return Ok(None);
        }
        let [first, second] = [a, b].map(|i| &compared.predictors[i].name);
        let one_way = marks.iter().filter(|m| m.at.0 * m.at.1 > 0.0).count();
        let n = count(marks.len());
        let svg = Scatter { marks: &marks, quadrants: false }.svg()?;
        Ok(Some(Figure {
            title: format!("λ at the flip: {second} against {first}"),
            help: format!(
                "Images on which both change their mind: {first} across, {second} upwards, each in σ of its own direction. {} of \
                 {n} lie on the same side of 0.",
                count(one_way)
            ),
            alt: format!(
                "λ at the flip of {second} against {first}: {n} images, {} % of them on the same side of 0",
                fixed(100.0 * one_way as f64 / marks.len() as f64, 0)
            ),
            svg: safe(svg),
            curves: Vec::new(),
        }))
    }
}

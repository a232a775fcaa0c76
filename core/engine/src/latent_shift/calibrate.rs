//! λ calibrated to f's predictions.
//!
//! f is asked on an even grid over `-limit ..= limit`, at most one σ apart. Each score that is looked for is bracketed by
//! two neighbours of the grid, of several brackets by that whose linear crossing is nearest to λ = 0, and closed in by the
//! Illinois variant of false position (Dowell & Jarratt 1971) on the scores' logits where all are probabilities, on the
//! scores where not; after some rounds by bisection, which needs no smoothness. All images, and all scores that are looked
//! for, go to f together.

use super::Edit;
use crate::metrics;
use shiftlens_api::{Calibration, LatentCodes, ReachedLevel, Result};

/// How near f's score must come to one that is looked for.
pub const TOLERANCE: f32 = 0.005;
/// A bracket this narrow, in units of sigma, is not closed in further: f jumps there.
const NARROW: f32 = 0.01;
/// Rounds of false position before bisection.
const ROUNDS: usize = 8;
/// Scores are kept this far from 0 and 1 before their logit is taken.
const EDGE: f32 = 1e-6;

/// Answers f's score on G(w) for codes.
pub(super) type Score<'a> = &'a mut dyn FnMut(&[LatentCodes]) -> Result<Vec<f32>>;

/// What is looked for.
pub(super) struct Search<'a> {
    pub levels: &'a [f32],
    pub limit: f32,
    pub threshold: f32,
}

/// What was found of one image.
pub(super) struct Found {
    pub calibration: Calibration,
    /// f's scores on the grid, ascending in λ.
    pub scores: Vec<f32>,
}

/// A score between two λ.
struct Bracket {
    image: usize,
    level: f32,
    /// λ, f's score and its distance to the level, in the scale that is searched in.
    ends: [(f32, f32, f32); 2],
    /// The end that the last round left in place.
    kept: Option<usize>,
    logits: bool,
}

impl Bracket {
    fn distance(&self, score: f32) -> f32 {
        let scale = |v: f32| {
            let p = v.clamp(EDGE, 1.0 - EDGE);
            if self.logits { (p / (1.0 - p)).ln() } else { v }
        };
        scale(score) - scale(self.level)
    }

    /// The end whose score is nearest to the level.
    fn best(&self) -> (f32, f32) {
        let [a, b] = self.ends;
        let nearest = if (a.1 - self.level).abs() <= (b.1 - self.level).abs() { a } else { b };
        (nearest.0, nearest.1)
    }

    fn done(&self) -> bool {
        (self.best().1 - self.level).abs() <= TOLERANCE || self.ends[1].0 - self.ends[0].0 <= NARROW
    }

    /// The next λ to ask f at.
    fn propose(&self, round: usize) -> f32 {
        let [(a, _, fa), (b, _, fb)] = self.ends;
        let middle = (a + b) / 2.0;
        let at = a + (b - a) * fa / (fa - fb);
        if round < ROUNDS && at > a && at < b { at } else { middle }
    }

    fn update(&mut self, lambda: f32, score: f32) {
        let f = self.distance(score);
        // The end on the side of the new score gives way.
        let gives = usize::from((self.ends[1].2 >= 0.0) == (f >= 0.0));
        let stays = 1 - gives;
        self.ends[gives] = (lambda, score, f);
        if self.kept == Some(stays) {
            self.ends[stays].2 /= 2.0;
        }
        self.kept = Some(stays);
    }
}

impl Search<'_> {
    /// The grid: `-limit ..= limit`, at most 1 apart; its middle is exactly 0.
    fn grid(&self) -> Vec<f32> {
        let side = self.limit.ceil() as usize;
        super::grid(2 * side + 1, self.limit)
    }

    /// The bracket of `level`, if the grid holds one.
    fn bracket(&self, image: usize, level: f32, grid: &[f32], scores: &[f32]) -> Option<Bracket> {
        let crossing = |i: &usize| {
            let (l, s) = (&grid[*i..], &scores[*i..]);
            (l[0] + (l[1] - l[0]) * (level - s[0]) / (s[1] - s[0])).abs()
        };
        let i = (0..grid.len() - 1)
            .filter(|&i| (scores[i] >= level) != (scores[i + 1] >= level))
            .min_by(|a, b| crossing(a).total_cmp(&crossing(b)))?;
        let logits = [scores[i], scores[i + 1], level].iter().all(|s| (0.0..=1.0).contains(s));
        let mut b = Bracket { image, level, ends: [(0.0, 0.0, 0.0); 2], kept: None, logits };
        b.ends = [i, i + 1].map(|j| (grid[j], scores[j], b.distance(scores[j])));
        Some(b)
    }

    /// The calibration of each code along the edit.
    pub fn run(&self, codes: &[LatentCodes], edit: &Edit<'_>, score: Score<'_>) -> Result<Vec<Found>> {
        let grid = self.grid();
        let probes = codes.iter().map(|c| edit.codes(c, &grid)).collect::<Result<Vec<_>>>()?;
        if probes.is_empty() {
            return Ok(Vec::new());
        }
        let scores = score(&probes)?;
        let rows: Vec<&[f32]> = scores.chunks_exact(grid.len()).collect();
        let mut wanted = self.levels.to_vec();
        if !wanted.contains(&self.threshold) {
            wanted.push(self.threshold);
        }
        let mut brackets: Vec<Bracket> = rows
            .iter()
            .enumerate()
            .flat_map(|(i, row)| {
                wanted.iter().filter_map(|l| self.bracket(i, *l, &grid, row)).collect::<Vec<_>>()
            })
            .collect();
        for round in 0.. {
            let open: Vec<usize> = (0..brackets.len()).filter(|b| !brackets[*b].done()).collect();
            if open.is_empty() {
                break;
            }
            let lambdas: Vec<f32> = open.iter().map(|b| brackets[*b].propose(round)).collect();
            let probes = open
                .iter()
                .zip(&lambdas)
                .map(|(b, lambda)| edit.codes(&codes[brackets[*b].image], &[*lambda]))
                .collect::<Result<Vec<_>>>()?;
            for ((b, lambda), s) in open.into_iter().zip(lambdas).zip(score(&probes)?) {
                brackets[b].update(lambda, s);
            }
        }
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let found = |image: usize, level: f32| {
            brackets.iter().find(|b| b.image == image && b.level == level).map(Bracket::best)
        };
        Ok(rows
            .iter()
            .enumerate()
            .map(|(i, row)| Found {
                calibration: Calibration {
                    limit: self.limit,
                    levels: self
                        .levels
                        .iter()
                        .map(|level| {
                            let at = found(i, *level);
                            ReachedLevel { level: *level, lambda: at.map(|a| a.0), score: at.map(|a| a.1) }
                        })
                        .collect(),
                    flip: found(i, self.threshold).map(|a| a.0),
                    spearman: metrics::spearman(&wide(&grid), &wide(row)).map(|r| r as f32),
                    inversions: row.windows(2).filter(|s| s[1] < s[0] - TOLERANCE).count(),
                    steps: grid.len() - 1,
                },
                scores: row.to_vec(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_api::Direction;

    fn sigmoid(v: f32) -> f32 {
        1.0 / (1.0 + (-v).exp())
    }

    /// Searches along the one coordinate of `starts`, f being `f` of it; also how often f was asked, and in how many calls.
    fn search(search: &Search<'_>, starts: &[f32], f: impl Fn(f32) -> f32) -> (Vec<Found>, usize, usize) {
        let direction = Direction::new(vec![1.0], 1, 0.5, 0.0).unwrap();
        let edit = Edit { direction: &direction, within: None, latent_layers: 1 };
        let codes: Vec<LatentCodes> =
            starts.iter().map(|w| LatentCodes::new([1, 1, 1], vec![*w]).unwrap()).collect();
        let (mut asked, mut calls) = (0, 0);
        let mut score = |codes: &[LatentCodes]| {
            let all: Vec<f32> = codes.iter().flat_map(|c| c.as_slice().to_vec()).map(&f).collect();
            (asked, calls) = (asked + all.len(), calls + 1);
            Ok(all)
        };
        let found = search.run(&codes, &edit, &mut score).unwrap();
        (found, asked, calls)
    }

    const LEVELS: [f32; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

    #[test]
    fn levels_follow_the_closed_form_or_are_said_to_be_out_of_reach() {
        let s = Search { levels: &LEVELS, limit: 4.0, threshold: 0.5 };
        let starts = [0.3f32, -1.9, 3.0];
        // One sigma is half a unit of w: the logit is 4 (w + λ / 2).
        let (all, asked, calls) = search(&s, &starts, |w| sigmoid(4.0 * w));
        for (f, w) in all.iter().zip(starts) {
            let mut reached = 0;
            for l in &f.calibration.levels {
                let expected = ((l.level / (1.0 - l.level)).ln() / 4.0 - w) * 2.0;
                match l.lambda {
                    Some(lambda) => {
                        reached += 1;
                        assert!((lambda - expected).abs() < 0.05, "{}: {lambda} {expected}", l.level);
                        assert!((l.score.unwrap() - l.level).abs() <= TOLERANCE);
                        assert!((l.score.unwrap() - sigmoid(4.0 * (w + lambda / 2.0))).abs() < 1e-5);
                    }
                    None => assert!(expected.abs() > 4.0 && l.score.is_none(), "{}: {expected}", l.level),
                }
            }
            assert_eq!(f.calibration.flip.is_some(), (-2.0 * w).abs() <= 4.0);
            assert_eq!((f.calibration.inversions, f.calibration.steps), (0, 8));
            // Where f is 1 but for f32's rounding, scores are equal.
            assert!(f.calibration.spearman.unwrap() > 0.98);
            assert!(reached > 0 || w == 3.0);
        }
        // Logits are linear here: one question for each level, all together.
        assert!(asked <= 3 * 9 + 12 && calls <= 3, "{asked} in {calls} calls");
    }

    #[test]
    fn both_directions_are_searched_and_the_nearest_crossing_counts() {
        let s = Search { levels: &[0.5], limit: 4.0, threshold: 0.5 };
        // Falls along the direction: a negative correlation, every step an inversion but one where f is nearly 0.
        let (f, ..) = search(&s, &[0.6], |w| sigmoid(-3.0 * w));
        assert!((f[0].calibration.flip.unwrap() + 1.2).abs() < 0.02);
        assert_eq!((f[0].calibration.spearman, f[0].calibration.inversions), (Some(-1.0), 7));
        // A bump between w = -1 and w = 0.3: at 0.1 the upper end, 0.4 sigma away, is the nearest.
        let (f, ..) = search(&s, &[0.1], |w| 0.5 + 0.4 * (w + 1.0) * (0.3 - w));
        assert!((f[0].calibration.flip.unwrap() - 0.4).abs() < 0.05, "{:?}", f[0].calibration);
        assert!(f[0].calibration.inversions > 0 && f[0].calibration.inversions < 8);
    }

    #[test]
    fn jumps_and_flat_scores_end_the_search() {
        let s = Search { levels: &LEVELS, limit: 2.5, threshold: 0.4 };
        let (f, asked, _) = search(&s, &[0.0], |w| if w > 0.777 { 1.0 } else { 0.0 });
        let at = f[0].calibration.flip.unwrap();
        assert!((at - 1.554).abs() <= 0.011 && asked < 7 + 6 * 20, "{at}, {asked} questions");
        assert_eq!(f[0].calibration.steps, 6, "2.5 is three steps to a side");
        let (f, asked, _) = search(&s, &[0.0], |_| 0.7);
        assert_eq!((f[0].calibration.flip, f[0].calibration.spearman, asked), (None, None, 7));
        assert!(f[0].calibration.levels.iter().all(|l| l.lambda.is_none()));
    }

    #[test]
    fn scores_that_are_no_probabilities_are_searched_as_they_are() {
        let s = Search { levels: &[-3.0, 2.0], limit: 4.0, threshold: 0.0 };
        let (f, ..) = search(&s, &[0.5], |w| w * w * w + 2.0 * w);
        let at =
            |level: f32| f[0].calibration.levels.iter().find(|l| l.level == level).unwrap().lambda.unwrap();
        assert!((at(-3.0) + 3.0).abs() < 0.01, "w = -1 is three sigma below");
        assert!((at(2.0) - 0.5418).abs() < 0.01, "w^3 + 2 w = 2 at w = 0.7709");
        assert!((f[0].calibration.flip.unwrap() + 1.0).abs() < 0.01);
    }
}

//! The way to f: images are drawn when their batch is due, so that memory follows the batch and not their number.

use shiftlens_api::{Error, Images, Result};

/// Asks f for its score of the target, at most `batch` images at a time, and counts them.
pub struct Scorer<'a> {
    f: &'a mut (dyn FnMut(&Images) -> Result<Vec<f32>> + 'a),
    batch: usize,
    asked: usize,
}

impl<'a> Scorer<'a> {
    /// `f` answers one score per image of a batch `[n, C, H, W]`, n being at most `batch`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a batch of 0.
    pub fn new(f: &'a mut (dyn FnMut(&Images) -> Result<Vec<f32>> + 'a), batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("scores: batch 0, expected at least 1"));
        }
        Ok(Self { f, batch, asked: 0 })
    }

    /// Images scored so far: what a metric has cost.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// Scores of `images`, cut into batches.
    ///
    /// # Errors
    /// What f answers; [`Error::Shape`] for a number of scores other than that of the images; [`Error::NotFinite`].
    pub fn all(&mut self, images: &Images) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(images.len());
        for from in (0..images.len()).step_by(self.batch) {
            let to = (from + self.batch).min(images.len());
            if to - from == images.len() {
                self.batch_of(images, &mut scores)?;
            } else {
                self.batch_of(&images.slice(from, to), &mut scores)?;
            }
        }
        Ok(scores)
    }

    /// Scores of `n` images of shape `[C, H, W]`; `draw` fills in the values of image i. They are clamped to [0, 1], as
    /// those of all [`Images`].
    ///
    /// # Errors
    /// As [`Scorer::all`], and what [`Images::new`] refuses.
    pub fn drawn(
        &mut self,
        [c, h, w]: [usize; 3],
        n: usize,
        mut draw: impl FnMut(usize, &mut [f32]),
    ) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(n);
        for from in (0..n).step_by(self.batch) {
            let to = (from + self.batch).min(n);
            let mut data = vec![0f32; (to - from) * c * h * w];
            for (i, image) in data.chunks_exact_mut(c * h * w).enumerate() {
                draw(from + i, image);
            }
            self.batch_of(&Images::new([to - from, c, h, w], data)?, &mut scores)?;
        }
        Ok(scores)
    }

    fn batch_of(&mut self, images: &Images, scores: &mut Vec<f64>) -> Result<()> {
        let found = (self.f)(images)?;
        if found.len() != images.len() {
            return Err(Error::Shape {
                what: "scores of a batch of images".into(),
                expected: format!("[{}], one per image", images.len()),
                found: vec![found.len()],
            });
        }
        if let Some(index) = found.iter().position(|s| !s.is_finite()) {
            let value = found[index];
            return Err(Error::NotFinite { what: "scores of a batch of images".into(), index, value });
        }
        self.asked += images.len();
        scores.extend(found.into_iter().map(f64::from));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_counted() {
        let mut sizes = Vec::new();
        let mut f = |x: &Images| {
            sizes.push(x.len());
            Ok((0..x.len()).map(|i| x.image(i)[0]).collect())
        };
        let mut scorer = Scorer::new(&mut f, 4).unwrap();
        let scores = scorer.drawn([1, 1, 2], 10, |i, image| image[0] = i as f32 / 16.0).unwrap();
        assert_eq!(scores, (0..10).map(|i| f64::from(i) / 16.0).collect::<Vec<_>>());
        let images = Images::new([5, 1, 1, 1], vec![0.0, 0.25, 0.5, 0.75, 1.0]).unwrap();
        assert_eq!(scorer.all(&images).unwrap(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(scorer.asked(), 15);
        assert_eq!(sizes, [4, 4, 2, 4, 1]);
    }

    #[test]
    fn wrong_answers_are_refused() {
        assert!(Scorer::new(&mut |_: &Images| Ok(vec![]), 0).is_err());
        let one = Images::new([1, 1, 1, 1], vec![0.5]).unwrap();
        let ask = |answer: Vec<f32>| {
            Scorer::new(&mut |_: &Images| Ok(answer.clone()), 8).unwrap().all(&one).unwrap_err().to_string()
        };
        assert!(ask(vec![0.1, 0.2]).contains("[1], one per image, found [2]"));
        assert!(ask(vec![f32::NAN]).contains("expected finite"));
    }
}

//! One image's code moved along a direction: what a latent-shift series is synthesised from.

use crate::array::check_finite;
use crate::{Error, LatentCodes, Result};
use std::ops::Range;

/// The edit `w + t α` of one code for S values of t, the codes of the series `G(w + t α)` (Schutte et al. 2021, section
/// 2.3, with `t = λ σ` already in units of w).
///
/// α is one vector `[D]`, which moves every row of a code of W+ alike, or one per row, `[L, D]`. An edit may be confined
/// to some of the generator's L style inputs ([`Shift::within`]); the others keep the rows of w. Which inputs are coarse
/// and which are fine is the generator's affair: StyleGAN2's go from 4 x 4 pixels to the largest resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Shift<'a> {
    direction: &'a [f32],
    steps: &'a [f32],
    within: Option<Range<usize>>,
}

impl<'a> Shift<'a> {
    /// An edit of all style inputs: `direction` is α, `[D]` or `[L, D]` flattened, `steps` the values of t.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; [`Error::Invalid`] if there is no step or no direction.
    pub fn new(direction: &'a [f32], steps: &'a [f32]) -> Result<Self> {
        check_finite("direction of a shift", direction)?;
        check_finite("steps of a shift", steps)?;
        if direction.is_empty() || steps.is_empty() {
            return Err(Error::Invalid(format!(
                "shift: {} values of direction and {} steps, expected at least one of each",
                direction.len(),
                steps.len()
            )));
        }
        Ok(Self { direction, steps, within: None })
    }

    /// The same edit on the style inputs `layers` alone, counted from 0; `None` means all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty range.
    pub fn within(self, layers: Option<Range<usize>>) -> Result<Self> {
        match &layers {
            Some(r) if r.is_empty() => Err(Error::Invalid(format!(
                "shift: style inputs {} to before {} are none, expected at least one",
                r.start, r.end
            ))),
            _ => Ok(Self { within: layers, ..self }),
        }
    }

    /// S, the number of codes.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Never true: a shift has at least one step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// t, in units of w.
    pub fn steps(&self) -> &'a [f32] {
        self.steps
    }

    /// The style inputs that change, of the `latent_layers` = L of a generator.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the edit is confined to inputs that the generator does not have.
    pub fn layers(&self, latent_layers: usize) -> Result<Range<usize>> {
        match &self.within {
            None => Ok(0..latent_layers),
            Some(r) if r.end <= latent_layers => Ok(r.clone()),
            Some(r) => Err(Error::Invalid(format!(
                "shift: style inputs {} to {} of a generator that has {latent_layers}, counted from 0",
                r.start,
                r.end - 1
            ))),
        }
    }

    /// α of style input `layer`, `[D]`; `w` is a code that [`Shift::codes`] accepts.
    pub fn row(&self, w: &LatentCodes, layer: usize) -> &'a [f32] {
        let d = w.shape()[2];
        if self.direction.len() == d { self.direction } else { &self.direction[layer * d..(layer + 1) * d] }
    }

    /// The codes `w + t α` of a generator of `latent_layers` = L style inputs, for `w` one code of W (`[1, 1, D]`) or of
    /// W+ (`[1, L, D]`): `[S, 1, D]` if all rows stay equal, that is w is of W, α is `[D]` and all inputs are edited,
    /// else `[S, L, D]`. Rows that are not edited are those of w bit by bit, and so are all where t is 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if `w` is not one such code or the direction is of another space; [`Error::Invalid`] as for
    /// [`Shift::layers`].
    pub fn codes(&self, w: &LatentCodes, latent_layers: usize) -> Result<LatentCodes> {
        let [n, rows, d] = w.shape();
        if n != 1 || !(rows == 1 || rows == latent_layers) {
            return Err(Error::Shape {
                what: "code to shift".into(),
                expected: format!("[1, 1, D] or [1, {latent_layers}, D]"),
                found: vec![n, rows, d],
            });
        }
        let per_row = self.direction.len() != d;
        if per_row && self.direction.len() != latent_layers * d {
            return Err(Error::Shape {
                what: "direction of a shift".into(),
                expected: format!("[{d}] or [{latent_layers}, {d}], as the code to shift"),
                found: vec![self.direction.len()],
            });
        }
        let edited = self.layers(latent_layers)?;
        let alike = rows == 1 && !per_row && edited.len() == latent_layers;
        let out = if alike { 1 } else { latent_layers };
        let mut data = Vec::with_capacity(self.steps.len() * out * d);
        for t in self.steps {
            for layer in 0..out {
                let row = &w.code(0)[if rows == 1 { 0 } else { layer * d }..][..d];
                if edited.contains(&layer) {
                    data.extend(row.iter().zip(self.row(w, layer)).map(|(w, a)| w + t * a));
                } else {
                    data.extend_from_slice(row);
                }
            }
        }
        LatentCodes::new([self.steps.len(), out, d], data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generator, GeneratorInfo, Images};

    /// One pixel per style input: `0.5 + sum over d of (d + 1) w[l, d] / 100`, so that a picture tells which rows moved.
    struct Rows(usize);

    const D: usize = 2;

    impl Generator for Rows {
        fn info(&self) -> GeneratorInfo {
            GeneratorInfo {
                latent_dim: D,
                latent_layers: self.0,
                channels: 1,
                height: 1,
                width: self.0,
                backend: "closed form".into(),
            }
        }
        fn sample(&mut self, n: usize, _: u64) -> Result<LatentCodes> {
            LatentCodes::new([n, 1, D], vec![0.0; n * D])
        }
        fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
            let [n, rows, _] = w.shape();
            let pixel = |i: usize, l: usize| {
                let row = &w.code(i)[if rows == 1 { 0 } else { l * D }..][..D];
                0.5 + (row[0] + 2.0 * row[1]) / 100.0
            };
            Images::new(
                [n, 1, 1, self.0],
                (0..n).flat_map(|i| (0..self.0).map(move |l| pixel(i, l))).collect(),
            )
        }
    }

    fn close(images: &Images, expected: &[f32]) {
        assert_eq!(images.as_slice().len(), expected.len());
        for (i, (a, b)) in images.as_slice().iter().zip(expected).enumerate() {
            assert!((a - b).abs() < 1e-6, "pixel {i}: {a}, expected {b}");
        }
    }

    #[test]
    fn a_code_of_w_stays_in_w_where_all_rows_move_alike() {
        let w = LatentCodes::new([1, 1, D], vec![1.0, 2.0]).unwrap();
        let (alpha, steps) = ([1.0, 0.5], [-2.0, 0.0, 4.0]);
        let shift = Shift::new(&alpha, &steps).unwrap();
        let codes = shift.codes(&w, 3).unwrap();
        assert_eq!((codes.shape(), codes.as_slice()), ([3, 1, D], &[-1.0, 1.0, 1.0, 2.0, 5.0, 4.0][..]));
        let all = shift.clone().within(Some(0..3)).unwrap();
        assert_eq!(all.codes(&w, 3).unwrap(), codes, "all inputs by name are all inputs");
        // 0.5 + (1 + 4) / 100 and 2 / 100 per unit of t.
        let x = Rows(3).series(&w, &shift).unwrap();
        close(&x, &[0.51, 0.51, 0.51, 0.55, 0.55, 0.55, 0.63, 0.63, 0.63]);
    }

    #[test]
    fn an_edit_within_layers_leaves_the_others() {
        let w = LatentCodes::new([1, 1, D], vec![1.0, 2.0]).unwrap();
        let (alpha, steps) = ([1.0, 0.5], [0.0, 4.0]);
        let shift = Shift::new(&alpha, &steps).unwrap().within(Some(1..3)).unwrap();
        assert_eq!(shift.codes(&w, 4).unwrap().shape(), [2, 4, D]);
        let x = Rows(4).series(&w, &shift).unwrap();
        close(&x, &[0.55, 0.55, 0.55, 0.55, 0.55, 0.63, 0.63, 0.55]);
    }

    #[test]
    fn codes_and_directions_of_w_plus_move_row_by_row() {
        let plus = LatentCodes::new([1, 2, D], vec![1.0, 0.0, 0.0, 3.0]).unwrap();
        let one = Shift::new(&[1.0, 1.0], &[2.0]).unwrap();
        assert_eq!(one.codes(&plus, 2).unwrap().as_slice(), [3.0, 2.0, 2.0, 5.0]);
        let per_row = [1.0, 0.0, 0.0, -1.0];
        let shift = Shift::new(&per_row, &[2.0]).unwrap();
        assert_eq!(shift.codes(&plus, 2).unwrap().as_slice(), [3.0, 0.0, 0.0, 1.0]);
        let w = LatentCodes::new([1, 1, D], vec![1.0, 2.0]).unwrap();
        assert_eq!(shift.codes(&w, 2).unwrap().as_slice(), [3.0, 2.0, 1.0, 0.0], "w is repeated first");
        let upper = shift.within(Some(1..2)).unwrap();
        assert_eq!(upper.codes(&plus, 2).unwrap().as_slice(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!((upper.row(&plus, 1), upper.len(), upper.is_empty()), (&per_row[2..], 1, false));
    }

    #[test]
    fn misfits_are_refused() {
        let says = |r: Result<LatentCodes>, words: &[&str]| {
            let message = r.expect_err("a misfit").to_string();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        };
        let w = |shape: [usize; 3]| LatentCodes::new(shape, vec![0.5; shape.iter().product()]).unwrap();
        let shift = Shift::new(&[1.0, 0.0], &[1.0]).unwrap();
        says(shift.codes(&w([2, 1, D]), 4), &["code to shift", "[1, 1, D] or [1, 4, D]", "[2, 1, 2]"]);
        says(shift.codes(&w([1, 3, D]), 4), &["[1, 3, 2]"]);
        says(shift.codes(&w([1, 1, 3]), 4), &["direction", "[3] or [4, 3]", "[2]"]);
        let fine = shift.clone().within(Some(2..5)).unwrap();
        says(fine.codes(&w([1, 1, D]), 4), &["style inputs 2 to 4", "has 4"]);
        assert_eq!(fine.layers(5).unwrap(), 2..5);
        assert!(shift.within(Some(2..2)).unwrap_err().to_string().contains("at least one"));
        assert!(Shift::new(&[1.0], &[]).is_err() && Shift::new(&[], &[1.0]).is_err());
        assert!(matches!(Shift::new(&[1.0], &[0.0, f32::NAN]), Err(Error::NotFinite { index: 1, .. })));
        assert!(matches!(Shift::new(&[f32::INFINITY], &[0.0]), Err(Error::NotFinite { index: 0, .. })));
    }
}

//! Imputation of missing pixels from their neighbours (Rong et al. 2022, noisy linear imputation without the noise).
//!
//! Every missing pixel is the weighted mean of its neighbours within the image, 1/6 for those beside it and 1/12 for the
//! diagonal ones. For the missing pixels of a channel that is a linear system whose matrix is symmetric and positive
//! definite as soon as one pixel is known. It is solved by conjugate gradients with a diagonal preconditioner; the matrix is
//! a list of neighbours.

use super::one_image;
use shiftlens_api::{Error, Images, Result};

const WEIGHTS: [(isize, isize, f64); 8] = [
    (-1, -1, 1.0 / 12.0),
    (-1, 0, 1.0 / 6.0),
    (-1, 1, 1.0 / 12.0),
    (0, -1, 1.0 / 6.0),
    (0, 1, 1.0 / 6.0),
    (1, -1, 1.0 / 12.0),
    (1, 0, 1.0 / 6.0),
    (1, 1, 1.0 / 12.0),
];

/// The residual's norm falls below this share of the right-hand side's: far below what f32 pixels can tell.
const TOLERANCE: f64 = 1e-9;

/// A pixel's neighbour: its place among the missing pixels or, if known, in the image.
#[derive(Clone, Copy)]
enum Neighbour {
    Missing(usize),
    Known(usize),
}

/// The equations of the missing pixels: `diagonal[i] x_i - sum of weight x_j = sum of weight known_j`.
struct System {
    missing: Vec<usize>,
    diagonal: Vec<f64>,
    neighbours: Vec<Vec<(Neighbour, f64)>>,
}

impl System {
    fn new(known: &[bool], (h, w): (usize, usize)) -> Self {
        let missing: Vec<usize> = (0..h * w).filter(|p| !known[*p]).collect();
        let mut place = vec![0; h * w];
        missing.iter().enumerate().for_each(|(i, p)| place[*p] = i);
        let neighbours: Vec<Vec<(Neighbour, f64)>> = missing
            .iter()
            .map(|p| {
                let inside = WEIGHTS.iter().filter_map(|(dy, dx, weight)| {
                    let y = (p / w).checked_add_signed(*dy).filter(|y| *y < h)?;
                    let x = (p % w).checked_add_signed(*dx).filter(|x| *x < w)?;
                    let q = y * w + x;
                    Some((if known[q] { Neighbour::Known(q) } else { Neighbour::Missing(place[q]) }, *weight))
                });
                inside.collect()
            })
            .collect();
        let diagonal = neighbours.iter().map(|n| n.iter().map(|(_, weight)| weight).sum()).collect();
        Self { missing, diagonal, neighbours }
    }

    /// The right-hand side for the values of one channel.
    fn known_part(&self, plane: &[f32]) -> Vec<f64> {
        let one = |n: &Vec<(Neighbour, f64)>| {
            n.iter()
                .map(|(q, weight)| match q {
                    Neighbour::Known(q) => weight * f64::from(plane[*q]),
                    Neighbour::Missing(_) => 0.0,
                })
                .sum()
        };
        self.neighbours.iter().map(one).collect()
    }

    fn times(&self, x: &[f64], out: &mut [f64]) {
        for (i, o) in out.iter_mut().enumerate() {
            let around: f64 = self.neighbours[i]
                .iter()
                .map(|(q, weight)| match q {
                    Neighbour::Missing(j) => weight * x[*j],
                    Neighbour::Known(_) => 0.0,
                })
                .sum();
            *o = self.diagonal[i] * x[i] - around;
        }
    }

    /// Solves for `b` from the start `x` (Hestenes and Stiefel 1952).
    fn solve(&self, b: &[f64], x: &mut [f64]) -> Result<()> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let scaled = |r: &[f64]| r.iter().zip(&self.diagonal).map(|(r, d)| r / d).collect::<Vec<_>>();
        let mut product = vec![0.0; b.len()];
        self.times(x, &mut product);
        let mut r: Vec<f64> = b.iter().zip(&product).map(|(b, p)| b - p).collect();
        let mut z = scaled(&r);
        let mut direction = z.clone();
        let mut rz = dot(&r, &z);
        let enough = TOLERANCE * TOLERANCE * dot(b, b);
        // In exact arithmetic n steps would do; rounding costs a few more.
        let most = 2 * b.len() + 100;
        for _ in 0..most {
            if dot(&r, &r) <= enough {
                return Ok(());
            }
            self.times(&direction, &mut product);
            let step = rz / dot(&direction, &product);
            for i in 0..x.len() {
                x[i] += step * direction[i];
                r[i] -= step * product[i];
            }
            z = scaled(&r);
            let next = dot(&r, &z);
            direction.iter_mut().zip(&z).for_each(|(d, z)| *d = z + next / rz * *d);
            rz = next;
        }
        Err(Error::component("imputation", format!("conjugate gradients did not converge in {most} steps")))
    }
}

/// The image's values with every pixel that is not `known` (row-major, `[H, W]`) imputed, `[C, H, W]`. Imputed values lie
/// between the smallest and the largest known one of their channel.
///
/// # Errors
/// [`Error::Shape`] for more than one image, or a mask of another size; [`Error::Invalid`] if no pixel is known.
pub fn impute(image: &Images, known: &[bool]) -> Result<Vec<f32>> {
    one_image("image to impute", image)?;
    let (h, w) = image.size();
    if known.len() != h * w {
        return Err(Error::Shape {
            what: "mask of known pixels".into(),
            expected: format!("[{h}, {w}], {} values", h * w),
            found: vec![known.len()],
        });
    }
    let count = known.iter().filter(|k| **k).count();
    if count == 0 {
        return Err(Error::invalid("imputation: no pixel is known, expected at least one"));
    }
    let system = System::new(known, (h, w));
    let mut data = image.as_slice().to_vec();
    for plane in data.chunks_exact_mut(h * w) {
        let b = system.known_part(plane);
        let sum: f64 = plane.iter().zip(known).filter(|(_, k)| **k).map(|(v, _)| f64::from(*v)).sum();
        let mut x = vec![sum / count as f64; b.len()];
        system.solve(&b, &mut x)?;
        system.missing.iter().zip(x).for_each(|(p, v)| plane[*p] = v as f32);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all_close, close, floats, numbers, oracle};

    fn wide(v: &[f32]) -> Vec<f64> {
        v.iter().map(|v| f64::from(*v)).collect()
    }

    #[test]
    fn values_are_those_of_a_dense_solver() {
        let cases = &oracle()["impute"];
        let image = Images::new([1, 3, 9, 7], floats(&cases["image"])).unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let known: Vec<bool> = numbers(&case["known"]).iter().map(|k| *k == 1.0).collect();
            all_close(&wide(&impute(&image, &known).unwrap()), &numbers(&case["values"]), 2e-7);
        }
    }

    #[test]
    fn a_plane_between_two_edges_is_a_ramp() {
        // The weights are symmetric, so a linear ramp along x solves the equations where rows go on on both sides; on the
        // upper and lower edge the missing neighbours are symmetric in x too.
        let (h, w) = (5, 41);
        let ramp: Vec<f32> = (0..h * w).map(|p| (p % w) as f32 / 40.0).collect();
        let known: Vec<bool> = (0..h * w).map(|p| p % w == 0 || p % w == w - 1).collect();
        let holed = ramp.iter().zip(&known).map(|(v, k)| if *k { *v } else { 0.9 }).collect();
        let found = impute(&Images::new([1, 1, h, w], holed).unwrap(), &known).unwrap();
        all_close(&wide(&found), &wide(&ramp), 1e-6);
    }

    #[test]
    fn one_known_pixel_is_enough_and_none_is_not() {
        let image = Images::new([1, 1, 16, 16], (0..256).map(|p| p as f32 / 256.0).collect()).unwrap();
        let mut known = vec![false; 256];
        assert!(impute(&image, &known).unwrap_err().to_string().contains("no pixel is known"));
        known[37] = true;
        impute(&image, &known).unwrap().iter().for_each(|v| close(f64::from(*v), 37.0 / 256.0, 1e-6));
        assert_eq!(impute(&image, &[true; 256]).unwrap(), image.as_slice());
        assert!(impute(&image, &[true; 255]).is_err());
    }
}

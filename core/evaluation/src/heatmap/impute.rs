//! Imputation of missing pixels from their neighbours (Rong et al. 2022, noisy linear imputation without the noise).
//!
//! Every missing pixel is the weighted mean of its neighbours within the image, 1/6 for those beside it and 1/12 for the
//! diagonal ones. For the missing pixels of a channel that is a linear system whose matrix is symmetric and positive
//! definite as soon as one pixel is known. It is solved by conjugate gradients with a diagonal preconditioner, on the grid
//! itself with a frame of zeros around it: there is no matrix.

use super::one_image;
use shiftlens_api::{Error, Images, Result};

/// The residual's root mean square falls below this, in units of pixel values: far below what f32 can tell.
const TOLERANCE: f64 = 1e-9;

/// The equations of the missing pixels: `diagonal x - around(x) = around(known values)`.
struct System {
    /// Places of the missing pixels in the framed grid.
    missing: Vec<usize>,
    /// Sum of the weights of a missing pixel's neighbours within the image.
    diagonal: Vec<f64>,
    /// Width of the framed grid.
    width: usize,
}

/// `[h, w]` with a frame of zeros, `[h + 2, w + 2]`.
fn framed((h, w): (usize, usize), value: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut grid = vec![0.0; (h + 2) * (w + 2)];
    for p in 0..h * w {
        grid[place(p, w)] = value(p);
    }
    grid
}

/// Where pixel `p` of a plane of width `w` lies in the framed grid.
fn place(p: usize, w: usize) -> usize {
    (p / w + 1) * (w + 2) + p % w + 1
}

impl System {
    fn new(known: &[bool], (h, w): (usize, usize)) -> Self {
        let missing = (0..h * w).filter(|p| !known[*p]).map(|p| place(p, w)).collect();
        let mut system = Self { missing, diagonal: Vec::new(), width: w + 2 };
        system.diagonal = system.all_around(&framed((h, w), |_| 1.0));
        system
    }

    /// Weighted sum of the neighbours of place `p`.
    fn around(&self, grid: &[f64], p: usize) -> f64 {
        let (above, below) = (&grid[p - self.width - 1..][..3], &grid[p + self.width - 1..][..3]);
        let beside = above[1] + below[1] + grid[p - 1] + grid[p + 1];
        let diagonal = above[0] + above[2] + below[0] + below[2];
        beside / 6.0 + diagonal / 12.0
    }

    fn all_around(&self, grid: &[f64]) -> Vec<f64> {
        self.missing.iter().map(|p| self.around(grid, *p)).collect()
    }

    /// Solves for the right-hand side `b`; all missing pixels start at `start`. `grid` is a framed grid of zeros (Hestenes
    /// and Stiefel 1952).
    fn solve(&self, b: &[f64], start: f64, mut grid: Vec<f64>) -> Result<Vec<f64>> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let n = b.len();
        let mut x = vec![start; n];
        self.missing.iter().for_each(|p| grid[*p] = start);
        let mut r: Vec<f64> =
            (0..n).map(|i| b[i] + self.around(&grid, self.missing[i]) - self.diagonal[i] * start).collect();
        let mut z: Vec<f64> = r.iter().zip(&self.diagonal).map(|(r, d)| r / d).collect();
        let mut product = vec![0.0; n];
        let mut rz = dot(&r, &z);
        // From here on the grid holds the direction.
        self.missing.iter().zip(&z).for_each(|(p, z)| grid[*p] = *z);
        let enough = TOLERANCE * TOLERANCE * n as f64;
        // In exact arithmetic n steps would do; rounding costs a few more.
        let most = 2 * n + 100;
        for _ in 0..most {
            if dot(&r, &r) <= enough {
                return Ok(x);
            }
            let mut length = 0.0;
            for ((out, p), diagonal) in product.iter_mut().zip(&self.missing).zip(&self.diagonal) {
                *out = diagonal * grid[*p] - self.around(&grid, *p);
                length += grid[*p] * *out;
            }
            let step = rz / length;
            for i in 0..n {
                x[i] += step * grid[self.missing[i]];
                r[i] -= step * product[i];
                z[i] = r[i] / self.diagonal[i];
            }
            let next = dot(&r, &z);
            let keep = next / rz;
            self.missing.iter().zip(&z).for_each(|(p, z)| grid[*p] = z + keep * grid[*p]);
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
        let b = system.all_around(&framed((h, w), |p| if known[p] { f64::from(plane[p]) } else { 0.0 }));
        let sum: f64 = plane.iter().zip(known).filter(|(_, k)| **k).map(|(v, _)| f64::from(*v)).sum();
        let x = system.solve(&b, sum / count as f64, framed((h, w), |_| 0.0))?;
        plane.iter_mut().zip(known).filter(|(_, k)| !**k).zip(x).for_each(|((v, _), x)| *v = x as f32);
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
        // Black all around, and something bright far off: the right-hand side is 0, the start is not.
        let mut black = vec![0.0; 256];
        black[0] = 1.0;
        let black = Images::new([1, 1, 16, 16], black).unwrap();
        let hole: Vec<bool> =
            (0..256).map(|p| !(5..9).contains(&(p / 16)) || !(5..9).contains(&(p % 16))).collect();
        impute(&black, &hole).unwrap()[1..].iter().for_each(|v| close(f64::from(*v), 0.0, 1e-7));
        assert_eq!(impute(&image, &[true; 256]).unwrap(), image.as_slice());
        assert!(impute(&image, &[true; 255]).is_err());
    }
}

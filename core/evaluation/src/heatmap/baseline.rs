//! What stands where a pixel was taken away.

use super::one_image;
use crate::gaussian::blurred;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Images, Result};

/// A baseline that is made from the image itself. Any other image of its shape will do as well, an inpainted one for
/// example.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// Black.
    Zeros,
    /// Every channel's mean over the image.
    Mean,
    /// The image blurred by a Gaussian (Petsiuk et al. 2018), mirrored at the border, cut off at 4 deviations.
    Blur {
        /// Standard deviation in pixels.
        sigma: f64,
    },
}

impl Baseline {
    /// The baseline of `image`, `[1, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than one image; [`Error::Invalid`] for a deviation that is not positive, or longer than
    /// the image.
    pub fn of(self, image: &Images) -> Result<Images> {
        one_image("image of a baseline", image)?;
        let (h, w) = image.size();
        let planes = image.as_slice().chunks_exact(h * w);
        let data: Vec<f32> = match self {
            Self::Zeros => vec![0.0; image.as_slice().len()],
            Self::Mean => planes
                .flat_map(|p| {
                    let mean = p.iter().map(|v| f64::from(*v)).sum::<f64>() / p.len() as f64;
                    std::iter::repeat_n(mean as f32, p.len())
                })
                .collect(),
            Self::Blur { sigma } => {
                let longest = h.max(w) as f64;
                if !(sigma > 0.0 && sigma <= longest) {
                    return Err(Error::Invalid(format!(
                        "baseline: a blur of sigma {sigma} pixels, expected more than 0 and at most the image's longer \
                         side, {longest}"
                    )));
                }
                planes
                    .flat_map(|p| {
                        let plane: Vec<f64> = p.iter().map(|v| f64::from(*v)).collect();
                        blurred(&plane, (h, w), sigma)
                    })
                    .map(|v| v as f32)
                    .collect()
            }
        };
        Images::new(image.shape(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{all_close, floats, numbers, stats};

    #[test]
    fn blur_is_scipys() {
        let golden = &stats()["insertion_deletion"];
        let image = Images::new([1, 1, 16, 16], floats(&golden["image"])).unwrap();
        let blur = Baseline::Blur { sigma: 3.0 }.of(&image).unwrap();
        let found: Vec<f64> = blur.as_slice().iter().map(|v| f64::from(*v)).collect();
        all_close(&found, &numbers(&golden["blur"]), 1e-6);
    }

    #[test]
    fn means_are_per_channel() {
        let image = Images::new([1, 3, 1, 2], vec![0.0, 1.0, 0.25, 0.25, 0.5, 0.0]).unwrap();
        assert_eq!(Baseline::Mean.of(&image).unwrap().as_slice(), [0.5, 0.5, 0.25, 0.25, 0.25, 0.25]);
        assert_eq!(Baseline::Zeros.of(&image).unwrap().as_slice(), [0.0; 6]);
        for sigma in [0.0, -1.0, f64::NAN, 3.0] {
            let e = Baseline::Blur { sigma }.of(&image).unwrap_err().to_string();
            assert!(e.contains("expected more than 0 and at most"), "{e}");
        }
    }
}

//! Path length regularisation of the generator (Karras et al. 2020, section 3.2, eq. 4, and appendix B).

use crate::rng::Rng;
use candle_core::{Device, Result, Tensor, Var, bail};

/// Share of a batch's mean length in the running mean.
const RATE: f64 = 0.01;
/// Factor of the mean penalty in the loss.
const WEIGHT: f64 = 2.0;

/// Directions y for [`path_lengths`], `[N, C, H, W]`: normal, so small that their size does not follow the image's,
/// `N(0, 1) / sqrt(H W)`.
///
/// # Errors
/// If candle fails.
pub fn path_directions(
    shape: (usize, usize, usize, usize),
    rng: &mut Rng,
    device: &Device,
) -> Result<Tensor> {
    let (n, c, h, w) = shape;
    rng.tensor(&[n, c, h, w], device)? / ((h * w) as f64).sqrt()
}

/// `|J^T y|` of each image, `[N]`: J is the derivative of `images` `[N, C, H, W]`, which must have been synthesised from
/// the codes `ws` `[N, L, D]`, and the length is the root of the mean over L of the sum of squares over D. The result
/// can be differentiated once more; its gradient with respect to `ws` goes on to the mapping network by
/// `sum(gradient * w)`.
///
/// # Errors
/// If the images do not depend on `ws`, shapes do not fit, or second-order gradients are off (see
/// [`crate::enable_second_order`]).
pub fn path_lengths(images: &Tensor, ws: &Var, directions: &Tensor) -> Result<Tensor> {
    let gradients = (images * directions)?.sum_all()?.backward()?;
    let Some(g) = gradients.get(ws.as_tensor()) else {
        bail!("path length: the images do not depend on these codes")
    };
    let lengths = g.sqr()?.sum(2)?.mean(1)?.sqrt()?;
    if !lengths.track_op() {
        bail!(
            "path length needs second-order gradients: call shiftlens_stylegan2::enable_second_order() before the \
             first backward pass"
        );
    }
    Ok(lengths)
}

/// The running mean a of path lengths, from which they should not differ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PathLength {
    /// a, 0 at the start of a training.
    pub mean: f64,
}

impl PathLength {
    /// `(|J^T y| - a)^2` of each image, `[N]`, after a has moved towards the lengths' mean. Gradients flow through a too,
    /// as in the reference.
    ///
    /// # Errors
    /// If the lengths are no vector, or not finite: a then stays as it was.
    pub fn penalties(&mut self, lengths: &Tensor) -> Result<Tensor> {
        self.penalties_with(lengths, RATE)
    }

    /// [`Self::penalties`] with another share of a batch's mean length in the running mean than 0.01.
    ///
    /// # Errors
    /// As there.
    pub fn penalties_with(&mut self, lengths: &Tensor, decay: f64) -> Result<Tensor> {
        lengths.dims1()?;
        let mean = ((lengths.mean_all()? * decay)? + self.mean * (1.0 - decay))?;
        let value = mean.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() {
            bail!("path length: the mean length is {value}");
        }
        let penalties = lengths.broadcast_sub(&mean)?.sqr()?;
        self.mean = value;
        Ok(penalties)
    }

    /// The loss of [`Self::penalties`]: twice their mean. Where it is taken at every `interval`th step only (lazy
    /// regularisation), the caller multiplies by that.
    ///
    /// # Errors
    /// As [`Self::penalties`].
    pub fn loss(&mut self, lengths: &Tensor) -> Result<Tensor> {
        self.penalties(lengths)?.mean_all()? * WEIGHT
    }
}

//! Input times gradient (Shrikumar et al. 2016, section 3.2): a first-order estimate of what each pixel contributes.

use super::{Attributed, Method, gradient};
use crate::host::{Host, Shape};
use crate::reduction::Reduction;
use shiftlens_sdk::api::{Images, Result};

/// `sum_c x_c d(score)/dx_c`. The sum over channels keeps the estimate of the pixel's contribution whole; a black
/// pixel contributes nothing, so black is its implied baseline.
pub struct InputXGradient;

impl Method for InputXGradient {
    fn title(&self) -> &'static str {
        "Input × gradient"
    }
    fn needs_gradients(&self) -> bool {
        true
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, _: f64, _: u64) -> Result<Attributed> {
        let mut product = gradient(host, x)?;
        product.iter_mut().zip(x.image(0)).for_each(|(g, x)| *g *= f64::from(*x));
        let map = Reduction::Sum.apply(&product, Shape::of(x).plane());
        Ok(Attributed { map, notes: Vec::new() })
    }
}

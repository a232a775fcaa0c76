//! Saliency (Simonyan et al. 2014, section 3): the gradient of the score with respect to the image.

use super::{Attributed, Method, gradient};
use crate::host::{Host, Shape};
use crate::reduction::Reduction;
use shiftlens_sdk::api::{Images, Result};

/// `d(score)/dx`, reduced over the channels. The paper takes the largest absolute value; here the sum is the default,
/// because its sign says whether a brighter pixel speaks for or against the class.
pub struct Saliency {
    /// How channels become one value.
    pub channels: Reduction,
}

impl Method for Saliency {
    fn title(&self) -> &'static str {
        "Saliency"
    }
    fn needs_gradients(&self) -> bool {
        true
    }
    fn attribute(&self, host: &mut Host<'_>, x: &Images, _: f64, _: u64) -> Result<Attributed> {
        let map = self.channels.apply(&gradient(host, x)?, Shape::of(x).plane());
        Ok(Attributed { map, notes: vec![("value", "d(score)/dx per unit of image value".into())] })
    }
}

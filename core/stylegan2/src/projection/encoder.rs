//! Projection in an encoder's place.

use super::Projection;
use crate::StyleGan2Encoder;
use shiftlens_api::{Encoder, Error, Images, LatentCodes, Result};

/// E by descent: every image's code is searched, from another encoder's answer or from the mean code.
pub struct ProjectionEncoder {
    projection: Projection,
    start: Option<StyleGan2Encoder>,
}

impl ProjectionEncoder {
    /// A search from the answers of `start`, or without it from the mean code.
    ///
    /// # Errors
    /// If the encoder is one of another generator.
    pub fn new(projection: Projection, start: Option<StyleGan2Encoder>) -> Result<Self> {
        if let Some(e) = start.as_ref().map(StyleGan2Encoder::config) {
            let g = projection.config();
            let rows = e.rows();
            if e.w_dim != g.w_dim || !(rows == 1 || rows == g.num_ws()) {
                return Err(Error::Invalid(format!(
                    "the encoder answers codes [N, {rows}, {}], the generator takes [N, 1 or {}, {}]",
                    e.w_dim,
                    g.num_ws(),
                    g.w_dim
                )));
            }
        }
        Ok(Self { projection, start })
    }
}

impl Encoder for ProjectionEncoder {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let start = match &mut self.start {
            Some(e) => e.encode(x)?,
            None => self.projection.mean_codes(x.len())?,
        };
        Ok(self.projection.project(x, &start)?.0)
    }
}

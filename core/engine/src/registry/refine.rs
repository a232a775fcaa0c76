//! What looks for a better code of an image whose reconstruction is not to be trusted.

use super::plugins::FromPlugin;
use crate::plugin::PluginLibrary;
use shiftlens_api::{Error, Images, LatentCodes, Result};
use std::sync::Arc;

/// Improves codes: slower than an encoder, for single stubborn images.
pub trait Refine: Send {
    /// Codes of `x`, one for each image, searched for from `start`, `[N, 1, D]` or `[N, L, D]`. The answer may be of W+
    /// where `start` is of W.
    ///
    /// # Errors
    /// If the component fails.
    fn refine(&mut self, x: &Images, start: &LatentCodes) -> Result<LatentCodes>;
}

impl FromPlugin for dyn Refine {
    fn from_plugin(_: &Arc<PluginLibrary>, _: &serde_json::Value) -> Result<Box<Self>> {
        Err(Error::Unsupported("`retry`: the plugin interface has no such component".into()))
    }
}

//! Attributions of a class score to the pixels of the image, as a Shiftlens plugin.
//!
//! How much does each pixel speak for the class? One explainer, `params.method` picks the answer:
//!
//! | method | needs | value of a pixel | paper |
//! | --- | --- | --- | --- |
//! | `saliency` | gradients | d(score)/dx | Simonyan et al. 2014, section 3 |
//! | `input-x-gradient` | gradients | x d(score)/dx | Shrikumar et al. 2016, section 3.2 |
//! | `integrated-gradients` | gradients | (x - b) times the mean gradient on the way from b to x | Sundararajan et al. 2017, eq. 1 |
//! | `smoothgrad` | gradients | mean d(score)/dx over noisy copies of x | Smilkov et al. 2017, section 2 |
//! | `occlusion` | scores | mean drop of the score under the windows that cover it | Zeiler and Fergus 2014, section 4.2 |
//! | `rise` | scores | mean score of random masks that keep it | Petsiuk et al. 2018, eq. 6 |
//! | `kernel-shap` | scores | Shapley value of its superpixel | Lundberg and Lee 2017, section 4.1 |
//!
//! The last three ask for scores alone, so they explain a black box too. [`params`] lists every parameter.
//!
//! **Which image.** All methods work on the image as the network sees it: x is converted to the predictor's channels
//! and resized to its input size (where it has one) before anything else, so that paths, noise, windows and masks are
//! laid out in the network's own pixels, and the host has nothing left to resize. The filter must be the predictor's
//! own (`params.resize`, as `input.resize` of the predictor); where the score of the resized image is not that of the
//! image, the user is warned. Maps are `[H, W]` of that size, raw and signed.
//!
//! **Which score.** `params.score`: the logit, or the probability that the predictor answers. Methods of gradients
//! take the logit by default, because a saturated probability has no gradient left; methods of scores take the
//! probability, because it is all that a black box answers.
//!
//! **What it costs.** Images go to the host in batches (`params.batch`), whose size alone decides the memory used.
//! Each image is explained by itself: what stands beside it in the study changes nothing. Random draws come from the
//! case's seed.

use shiftlens_sdk::{Create, api, serde_json};

pub mod baseline;
pub mod explainer;
pub mod host;
pub mod methods;
pub mod params;
pub mod reduction;
pub mod superpixels;

impl Create for explainer::Attribution {
    fn create(params: &serde_json::Value) -> api::Result<Self> {
        Ok(Self::new(params::Params::new(params)?))
    }
}

use explainer::Attribution;
shiftlens_sdk::export_plugin! { id: "shiftlens.attribution", explainer: Attribution }

//! Grad-CAM and its family as a Shiftlens plugin.
//!
//! Where did the classifier look? Each method weighs the channels of a layer's activations A, by the gradients
//! G = d(score)/dA of a class's score or by what f answers about single channels. A map stays raw and signed, at the
//! layer's resolution: the ReLU that ends Grad-CAM's definition (Selvaraju et al. 2017, eq. 2) is left to the
//! display, because what speaks against a class is worth seeing too.
//!
//! | `method` | the map, p positions and c channels | source |
//! | --- | --- | --- |
//! | `gradcam` | `sum_c (mean_p G) A` | Selvaraju et al. 2017, arXiv 1610.02391, eq. 1, 2 |
//! | `hirescam` | `sum_c G A` | Draelos and Carin 2020, arXiv 2011.08891, eq. 4 |
//! | `gradcam++` | `sum_c w A`, see [`methods`] | Chattopadhyay et al. 2018, arXiv 1710.11063, eq. 19 |
//! | `xgradcam` | `sum_c w A`, `w = sum_p G A / sum_p A` | Fu et al. 2020, arXiv 2008.02312, eq. 8 |
//! | `layercam` | `sum_c max(G, 0) A` | Jiang et al. 2021, IEEE TIP 30, eq. 5, 6 |
//! | `finercam` | `gradcam` of `y_c - alpha mean_d y_d`, d similar classes | Zhang et al. 2025, arXiv 2501.11309 |
//! | `eigencam` | A on its first principal component; no class | Muhammad and Yeasin 2020, arXiv 2008.00299 |
//! | `eigengradcam` | `G A` on its first principal component | the pytorch-grad-cam library |
//! | `scorecam` | `sum_c w A`, w the softmax of scores under masks | Wang et al. 2020, arXiv 1910.01279, section 3 |
//! | `ablationcam` | `sum_c w A`, `w = (s - s_c) / s`, s_c without c | Desai and Ramaswamy 2020, WACV, section 3 |
//!
//! `eigencam` and `scorecam` need activations alone, `ablationcam` a predictor that takes replaced activations
//! (`shiftlens.activations/1`), the others gradients (`shiftlens.gradients/1`).
//!
//! | `params` | meaning | left out |
//! | --- | --- | --- |
//! | `method` | as above | `gradcam` |
//! | `layer` | name of a tensor of the network | the predictor's default layer |
//! | `layers` | several of them, instead: the mean of their maps, see [`combine::mean`] | |
//! | `score` | `logit` or `probability`: the scalar y, s | `logit` |
//! | `layout` | `nchw` or `nhwc`: axis order of layers of four dimensions | see [`layout`] |
//! | `grid` | `[rows, columns]` of a transformer's tokens | see [`layout`] |
//! | `leading-tokens` | tokens before the grid's: class token, registers | see [`layout`] |
//! | `batch` | `scorecam`, `ablationcam`: most images or variants in one call of f | 32 |
//! | `alpha` | `finercam`: how much of the similar classes is taken off, at least 0 | 0.6 |
//! | `references` | `finercam`: the number of nearest classes, or a list of classes by index or name | 3 |
//!
//! * [`method`]: the family's trait and table; [`methods`]: its members, one file each.
//! * [`layout`], [`layer`]: A and G of one image, from a convolutional network or a transformer.
//! * [`observe`]: what f is asked; [`masked`], [`ablated`], [`contrast`]: what single methods ask besides.
//! * [`explainer`], [`params`]: the component and its parameters; [`combine`]: one map of several layers.

use shiftlens_sdk::{Create, api, serde_json};

pub mod ablated;
pub mod batches;
pub mod combine;
pub mod contrast;
pub mod explainer;
pub mod layer;
pub mod layout;
pub mod masked;
pub mod method;
pub mod methods;
mod nearest;
pub mod observe;
pub mod params;
mod principal;

impl Create for explainer::GradCamExplainer {
    fn create(params: &serde_json::Value) -> api::Result<Self> {
        Ok(Self::new(params::Params::new(params)?))
    }
}

use explainer::GradCamExplainer;
shiftlens_sdk::export_plugin! { id: "shiftlens.gradcam", explainer: GradCamExplainer }

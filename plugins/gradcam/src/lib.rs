//! Grad-CAM and its family as a Shiftlens plugin.
//!
//! Where did the classifier look? Each method weighs a layer's activations A by the gradients G of a class score
//! with respect to them, both of which the host computes. A map stays raw and signed, at the layer's resolution:
//! the ReLU that ends Grad-CAM's definition (Selvaraju et al. 2017, eq. 2) is left to the display, because what
//! speaks against a class is worth seeing too.
//!
//! * [`method`]: the family's trait and table; [`methods`]: its members, one file each.
//! * [`layer`]: A and G of one image, from a convolutional network or a vision transformer.
//! * [`explainer`], [`params`]: the component and its parameters.

use shiftlens_sdk::{Create, api, serde_json};

pub mod explainer;
pub mod layer;
pub mod method;
pub mod methods;
mod nearest;
pub mod params;
mod principal;

impl Create for explainer::GradCamExplainer {
    fn create(params: &serde_json::Value) -> api::Result<Self> {
        Ok(Self::new(params::Params::new(params)?))
    }
}

use explainer::GradCamExplainer;
shiftlens_sdk::export_plugin! { id: "shiftlens.gradcam", explainer: GradCamExplainer }

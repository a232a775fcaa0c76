//! One file per method.

mod input_x_gradient;
mod integrated_gradients;
mod kernel_shap;
mod occlusion;
mod rise;
mod saliency;
mod shapley;
mod smoothgrad;

pub use input_x_gradient::InputXGradient;
pub use integrated_gradients::IntegratedGradients;
pub use kernel_shap::KernelShap;
pub use occlusion::Occlusion;
pub use rise::Rise;
pub use saliency::Saliency;
pub use shapley::{Coalitions, LeastSquares};
pub use smoothgrad::SmoothGrad;

use crate::host::{Host, Variants};
use shiftlens_sdk::api::{Images, Result};

/// A method of attribution.
pub trait Method: Send {
    /// The name in the report.
    fn title(&self) -> &'static str;
    /// False for a method of scores alone, which explains a black box too.
    fn needs_gradients(&self) -> bool;
    /// The attribution of one image `[1, C, H, W]` as the network sees it, whose score is `score`.
    ///
    /// # Errors
    /// If the predictor fails, or the work is cancelled.
    fn attribute(&self, host: &mut Host<'_>, x: &Images, score: f64, seed: u64) -> Result<Attributed>;
}

/// What a method answers.
pub struct Attributed {
    /// `[H, W]`, raw and signed.
    pub map: Vec<f64>,
    /// What a reader must know of this map.
    pub notes: Vec<(&'static str, String)>,
}

/// The image itself, once; keeps the gradient.
struct Itself<'a> {
    image: &'a [f32],
    gradient: Vec<f64>,
}

impl Variants for Itself<'_> {
    fn draw(&mut self, _: usize, image: &mut [f32]) {
        image.copy_from_slice(self.image);
    }
    fn take(&mut self, _: usize, _: f64, gradient: &[f32]) {
        self.gradient = gradient.iter().map(|g| f64::from(*g)).collect();
    }
}

/// d(score)/dx of one image, `[C, H, W]`.
fn gradient(host: &mut Host<'_>, x: &Images) -> Result<Vec<f64>> {
    let mut one = Itself { image: x.image(0), gradient: Vec::new() };
    host.ask("gradient", crate::host::Shape::of(x), 1, true, &mut one)?;
    Ok(one.gradient)
}

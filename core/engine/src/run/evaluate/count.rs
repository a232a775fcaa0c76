//! f with a counter.

use shiftlens_api::{
    Error, GradientOutput, GradientRequest, Gradients, Images, LayerInfo, Predictor, PredictorInfo, Result,
    ScoreKind, Scores, Tensor,
};

/// A predictor that counts the images it is shown: every image of [`Predictor::predict`] and of
/// [`Gradients::gradients`], and every row of [`Gradients::scores_with`], is one.
pub struct Counted<'a> {
    inner: &'a mut dyn Predictor,
    asked: usize,
}

impl<'a> Counted<'a> {
    /// Counts from 0.
    pub fn new(inner: &'a mut dyn Predictor) -> Self {
        Self { inner, asked: 0 }
    }

    /// Images so far.
    pub fn asked(&self) -> usize {
        self.asked
    }

    fn white(&mut self) -> Result<&mut dyn Gradients> {
        self.inner.gradients().ok_or_else(|| Error::Unsupported("the predictor has no gradients".into()))
    }
}

impl Predictor for Counted<'_> {
    fn info(&self) -> PredictorInfo {
        self.inner.info()
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        self.asked += x.len();
        self.inner.predict(x)
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        if self.inner.gradients().is_some() { Some(self) } else { None }
    }
}

impl Gradients for Counted<'_> {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        self.white()?.layers()
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        self.asked += x.len();
        self.white()?.gradients(x, request)
    }
    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        self.asked += activations.shape().first().copied().unwrap_or(0);
        self.white()?.scores_with(x, layer, activations, classes, score)
    }
}

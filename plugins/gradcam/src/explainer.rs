//! The explainer: asks the host for activations and gradients, answers with maps.

use crate::api::{
    Context, Error, Explainer, Explanation, GradientRequest, Gradients, Heatmap, Images, Result, ScoreKind,
    Target,
};
use crate::layer::{Layer, Layout};
use crate::nearest::suggest;
use crate::params::Params;

/// Grad-CAM and its family. Maps stay raw and signed, at the layer's resolution.
pub struct GradCamExplainer {
    params: Params,
}

impl GradCamExplainer {
    /// An explainer with these parameters.
    pub fn new(params: Params) -> Self {
        Self { params }
    }

    /// The layer to ask for: the named one, or the predictor's default.
    fn layer(&self, host: &mut dyn Gradients) -> Result<String> {
        if let Some(name) = &self.params.layer {
            return Ok(name.clone());
        }
        host.layers()?.into_iter().find(|l| l.default).map(|l| l.name).ok_or_else(|| {
            Error::Unsupported(
                "gradcam: the predictor has no layer with spatial extent to take by default; name a layer in \
                 params.layer"
                    .into(),
            )
        })
    }
}

/// Adds the nearest layer to the host's refusal of a name that is not among its layers.
fn with_suggestion(host: &mut dyn Gradients, name: &str, error: Error) -> Error {
    let Ok(layers) = host.layers() else { return error };
    if matches!(error, Error::Cancelled) || layers.iter().any(|l| l.name == name) {
        return error;
    }
    let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
    Error::Invalid(format!(
        "gradcam: params.layer: the predictor has no layer `{name}` ({error}); {}",
        suggest(name, &names)
    ))
}

impl Explainer for GradCamExplainer {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        if x.is_empty() {
            return Ok(Vec::new());
        }
        cx.monitor.check()?;
        let method = self.params.method;
        let backend = cx.predictor.info().backend;
        let host = cx.predictor.gradients().ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: this predictor ({backend}) offers no gradients, on which the method rests; a predictor of kind \
                 \"onnx\" offers them",
                method.title()
            ))
        })?;
        let name = self.layer(host)?;
        let request = GradientRequest {
            layers: vec![name.clone()],
            layer_gradients: method.needs_gradients(),
            input_gradient: false,
            classes: vec![target.class],
            score: self.params.score,
        };
        let answer = host.gradients(x, &request).map_err(|e| with_suggestion(host, &name, e))?;
        let missing = |what: &str| {
            Error::component("predictor", format!("layer `{name}`: {what} were asked for, none came back"))
        };
        let activations = answer.activations.first().ok_or_else(|| missing("activations"))?;
        let gradients = answer.gradients.first();
        if method.needs_gradients() && gradients.is_none() {
            return Err(missing("gradients"));
        }
        let layout = Layout::of(&name, activations.shape())?;
        if layout.images != x.len() || answer.scores.len() != x.len() {
            return Err(Error::Shape {
                what: format!("activations of layer `{name}` with {} scores", answer.scores.len()),
                expected: format!("{} images, as asked", x.len()),
                found: activations.shape().to_vec(),
            });
        }
        let kind = match self.params.score {
            ScoreKind::Logit => "logit",
            ScoreKind::Probability => "probability",
        };
        (0..x.len())
            .map(|i| {
                let layer = Layer::new(&layout, activations, gradients, i)?;
                let map = method.map(&layer).into_iter().map(|v| v as f32).collect();
                Ok(vec![Explanation::Heatmap {
                    title: method.title().into(),
                    map: Heatmap::new(layout.height, layout.width, map)?,
                    notes: vec![
                        ("layer".into(), name.clone()),
                        ("score kind".into(), kind.into()),
                        ("score".into(), format!("{:.6}", answer.scores[i])),
                        ("ReLU".into(), "not applied: negative values speak against the class".into()),
                    ],
                }])
            })
            .collect()
    }
}

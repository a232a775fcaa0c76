//! The explainer: from what f says to raw maps with their notes.

use crate::api::{
    Context, Error, Explainer, Explanation, Heatmap, Images, Monitor, Predictor, Result, ScoreKind, Target,
};
use crate::batches::{Progress, Question};
use crate::combine::{self, Map};
use crate::layer::Layer;
use crate::layout::Layout;
use crate::method::Needs;
use crate::observe::{Observation, observe, white_box, without_replacement};
use crate::params::Params;
use crate::{ablated, masked};

/// Grad-CAM and its family. Maps stay raw and signed, at the layer's resolution.
pub struct GradCamExplainer {
    params: Params,
}

impl GradCamExplainer {
    /// An explainer with these parameters.
    pub fn new(params: Params) -> Self {
        Self { params }
    }

    /// One image at one layer, with the channels' scores where the method needs them.
    fn layer(
        &self,
        predictor: &mut dyn Predictor,
        asked: &Question<'_>,
        seen: &Observation,
        (index, layout): (usize, &Layout),
        progress: &mut Progress<'_>,
    ) -> Result<Layer> {
        let (activations, gradients) = (&seen.answer.activations[index], seen.answer.gradients.get(index));
        let (layer, score) =
            (Layer::new(layout, activations, gradients, asked.image)?, seen.answer.scores[asked.image]);
        let scores = match self.params.method.needs() {
            Needs::Activations | Needs::Gradients | Needs::Contrast => return Ok(layer),
            Needs::MaskedScores => masked::scores(predictor, asked, layout, &layer, progress)?,
            Needs::AblatedScores => {
                let title = self.params.method.title();
                if score == 0.0 {
                    return Err(Error::Invalid(format!(
                        "{title} divides by the score, which is 0 for image {} of the batch; ask for the other \
                         kind of score in params.score, or take another method",
                        asked.image
                    )));
                }
                let info = predictor.info();
                let host = white_box(predictor, &info, title)?;
                ablated::scores(host, asked, &seen.layers[index], layout, activations, progress)
                    .map_err(|e| without_replacement(title, e))?
            }
        };
        layer.with_scores(f64::from(score), scores)
    }

    /// What a reader must know to read the map of image `image`.
    fn notes(
        &self,
        seen: &Observation,
        classes: &[String],
        target: &Target,
        image: usize,
    ) -> Vec<(String, String)> {
        let (params, needs) = (&self.params, self.params.method.needs());
        let score = seen.answer.scores[image];
        let mut notes: Vec<(String, String)> = Vec::new();
        let mut note = |key: &str, value: String| notes.push((key.into(), value));
        note(if seen.layers.len() == 1 { "layer" } else { "layers" }, seen.layers.join(", "));
        note(
            "score kind",
            match params.score {
                ScoreKind::Logit => "logit".into(),
                ScoreKind::Probability => "probability".into(),
            },
        );
        note(
            "class",
            match needs {
                Needs::Activations => format!("{}; the map does not depend on it", target.name),
                _ => target.name.clone(),
            },
        );
        note("score", format!("{score:.6}"));
        match needs {
            Needs::Contrast => {
                note("alpha", params.alpha.to_string());
                let names = seen.references[image].iter().map(|k| classes[*k].as_str());
                note("reference classes", names.collect::<Vec<_>>().join(", "));
            }
            Needs::MaskedScores => note("masked image", "mask times the image in [0, 1]".into()),
            Needs::AblatedScores => {
                note("ablated to", "0".into());
                if score < 0.0 {
                    note("sign", "the score is negative: channels that raise it are weighted down".into());
                }
            }
            Needs::Activations | Needs::Gradients => {}
        }
        if seen.layers.len() > 1 {
            note("mean over layers", "each map divided by its largest absolute value".into());
        }
        note(
            "ReLU",
            match needs {
                Needs::Activations => "not applied".into(),
                _ => "not applied: negative values speak against the class".into(),
            },
        );
        notes
    }
}

/// How many scores of channels a method asks for, where it asks.
fn questions(needs: Needs, layouts: &[Layout], images: usize) -> usize {
    match needs {
        Needs::MaskedScores | Needs::AblatedScores => {
            images * layouts.iter().map(|l| l.channels).sum::<usize>()
        }
        Needs::Activations | Needs::Gradients | Needs::Contrast => 0,
    }
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
        let (predictor, monitor): (&mut dyn Predictor, &dyn Monitor) = (&mut *cx.predictor, cx.monitor);
        monitor.check()?;
        let (method, info) = (self.params.method, predictor.info());
        let seen = observe(predictor, monitor, x, target, &self.params)?;
        let aspect = info.input_size.unwrap_or(x.size());
        let mut layouts = Vec::with_capacity(seen.layers.len());
        for (name, activations) in seen.layers.iter().zip(&seen.answer.activations) {
            let layout = Layout::of(name, activations.shape(), &self.params.reading, aspect)?;
            if layout.images != x.len() {
                return Err(Error::Shape {
                    what: format!("activations of layer `{name}`"),
                    expected: format!("{} images, as asked", x.len()),
                    found: activations.shape().to_vec(),
                });
            }
            layouts.push(layout);
        }
        let mut progress =
            Progress::new(monitor, method.title(), questions(method.needs(), &layouts, x.len()));
        let mut all = Vec::with_capacity(x.len());
        for image in 0..x.len() {
            monitor.check()?;
            let mut maps = Vec::with_capacity(layouts.len());
            let Params { score, batch, .. } = self.params;
            let asked = Question { x, image, class: target.class, score, batch };
            for (index, layout) in layouts.iter().enumerate() {
                let layer = self.layer(predictor, &asked, &seen, (index, layout), &mut progress)?;
                let values = method.map(&layer).into_iter().map(|v| v as f32).collect();
                maps.push(Map { size: (layout.height, layout.width), values });
            }
            let map = combine::mean(maps);
            all.push(vec![Explanation::Heatmap {
                title: method.title().into(),
                map: Heatmap::new(map.size.0, map.size.1, map.values)?,
                notes: self.notes(&seen, &info.classes, target, image),
            }]);
        }
        Ok(all)
    }
}

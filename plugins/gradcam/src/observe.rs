//! What f says of a batch before any map is drawn, and the errors of a predictor that cannot say it.

use crate::api::{
    Error, GradientOutput, GradientRequest, Gradients, Images, Monitor, Predictor, PredictorInfo, Result,
    Target,
};
use crate::contrast;
use crate::method::{Needs, methods_that};
use crate::nearest::suggest;
use crate::params::Params;

/// The layers' activations, the gradients that the method needs, and what they are of.
pub struct Observation {
    /// One name per layer.
    pub layers: Vec<String>,
    /// Scores of the target class, activations, gradients: of the target's score, or of its lead over the
    /// references.
    pub answer: GradientOutput,
    /// Finer-CAM's reference classes of each image; else empty.
    pub references: Vec<Vec<usize>>,
}

/// Asks f for all that `params` need, for the whole batch.
///
/// # Errors
/// [`Error::Unsupported`] for a black box or a predictor without gradients, with the methods that do work;
/// [`Error::Invalid`] for a layer or class that is not there; [`Error::Shape`] for an answer that does not go with
/// the question.
pub fn observe(
    predictor: &mut dyn Predictor,
    monitor: &dyn Monitor,
    x: &Images,
    target: &Target,
    params: &Params,
) -> Result<Observation> {
    let (method, info) = (params.method, predictor.info());
    if target.class >= info.classes.len() {
        return Err(Error::Invalid(format!(
            "{}: class {} (`{}`) asked for, the predictor has {}",
            method.title(),
            target.class,
            target.name,
            info.classes.len()
        )));
    }
    let references = match method.needs() {
        Needs::Contrast => {
            contrast::references(&params.references, &info.classes, target, &predictor.predict(x)?)?
        }
        _ => Vec::new(),
    };
    let host = white_box(predictor, &info, method.title())?;
    let layers = if params.layers.is_empty() { vec![default_layer(host)?] } else { params.layers.clone() };
    let mut request = GradientRequest {
        layers,
        layer_gradients: method.needs().gradients(),
        input_gradient: false,
        classes: vec![target.class],
        score: params.score,
    };
    let mut answer = ask(host, x, &request, method.title())?;
    let rivals = references.first().map_or(0, Vec::len);
    for d in 0..rivals {
        monitor.progress(method.title(), d as u64 + 1, rivals as u64 + 1);
        monitor.check()?;
        request.classes = references.iter().map(|of_image| of_image[d]).collect();
        let other = ask(host, x, &request, method.title())?;
        contrast::subtract(&mut answer, params.alpha / rivals as f64, other)?;
    }
    if rivals > 0 {
        monitor.progress(method.title(), rivals as u64 + 1, rivals as u64 + 1);
    }
    Ok(Observation { layers: request.layers, answer, references })
}

/// One request, with an answer that has everything that was asked for.
fn ask(
    host: &mut dyn Gradients,
    x: &Images,
    request: &GradientRequest,
    title: &str,
) -> Result<GradientOutput> {
    let answer = host.gradients(x, request).map_err(|e| explained(host, request, title, e))?;
    let expected =
        [request.layers.len(), if request.layer_gradients { request.layers.len() } else { 0 }, x.len()];
    let found = [answer.activations.len(), answer.gradients.len(), answer.scores.len()];
    if found != expected {
        return Err(Error::Shape {
            what: format!("{title}: the predictor's activations, gradients and scores"),
            expected: format!("{expected:?} of them"),
            found: found.to_vec(),
        });
    }
    Ok(answer)
}

/// The predictor's inside.
///
/// # Errors
/// [`Error::Unsupported`] for a black box.
pub fn white_box<'p>(
    predictor: &'p mut dyn Predictor,
    info: &PredictorInfo,
    title: &str,
) -> Result<&'p mut dyn Gradients> {
    predictor.gradients().ok_or_else(|| {
        Error::Unsupported(format!(
            "{title}: this predictor ({}) is a black box: it offers no activations and no gradients, on which every \
             method of this plugin rests. A predictor of kind \"onnx\" offers both, and so may one from a plugin \
             (shiftlens.gradients/1; {} need activations alone). For a black box take occlusion, rise or kernel-shap \
             of the plugin `attribution`",
            info.backend,
            methods_that(|n| n != Needs::AblatedScores && !n.gradients()).replace(", ", " and "),
        ))
    })
}

fn default_layer(host: &mut dyn Gradients) -> Result<String> {
    host.layers()?.into_iter().find(|l| l.default).map(|l| l.name).ok_or_else(|| {
        Error::Unsupported(
            "gradcam: the predictor has no layer with spatial extent to take by default; name a layer in params.layer"
                .into(),
        )
    })
}

/// Adds to the host's refusal what would not be refused: the layer nearest to an unknown name, or the methods that
/// need no gradients.
fn explained(host: &mut dyn Gradients, request: &GradientRequest, title: &str, error: Error) -> Error {
    match error {
        Error::Unsupported(why) if request.layer_gradients => Error::Unsupported(format!(
            "{title}: {why}; methods of this plugin that need no gradients: {}",
            methods_that(|n| !n.gradients())
        )),
        Error::Invalid(why) => {
            let Ok(layers) = host.layers() else { return Error::Invalid(why) };
            let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
            match request.layers.iter().find(|name| !names.contains(&name.as_str())) {
                Some(name) => Error::Invalid(format!(
                    "gradcam: params.layer: the predictor has no layer `{name}` ({why}); {}",
                    suggest(name, &names)
                )),
                None => Error::Invalid(why),
            }
        }
        other => other,
    }
}

/// Adds to the host's refusal of replaced activations the methods that need none.
pub fn without_replacement(title: &str, error: Error) -> Error {
    match error {
        Error::Unsupported(why) => Error::Unsupported(format!(
            "{title}: {why}; methods of this plugin that put no activations in: {}",
            methods_that(|n| n != Needs::AblatedScores)
        )),
        other => other,
    }
}

//! The explainer: prepares the image, lets the method work, says what was done.

use crate::api::{Context, Explainer, Explanation, Heatmap, Images, Result, ScoreKind, Target};
use crate::host::{Host, Shape};
use crate::methods::Attributed;
use crate::params::Params;

/// How far the score of the resized image may lie from the image's, as a share of the larger of 1 and the score's size:
/// beyond rounding, the predictor resizes in another way.
const RESIZED_DIFFERS: f64 = 1e-3;

/// One of the attribution methods.
pub struct Attribution {
    params: Params,
}

impl Attribution {
    /// An explainer with these parameters.
    pub fn new(params: Params) -> Self {
        Self { params }
    }
}

impl Explainer for Attribution {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        let Params { method, score, batch, resize } = &self.params;
        let (seed, title) = (cx.seed, method.title());
        if x.is_empty() {
            return Ok(Vec::new());
        }
        let mut host = Host::new(cx, target, *score, *batch, method.needs_gradients(), title)?;
        let seen = host.prepare(x, *resize)?;
        let shape = Shape::of(&seen);
        let scores = host.scores(&seen)?;
        if seen.shape() != x.shape() {
            let own = host.scores(x)?;
            let worst =
                own.iter().zip(&scores).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max);
            if worst > RESIZED_DIFFERS {
                host.warn(&format!(
                    "{title}: the score of an image that was resized here differs by {worst:.2e} from the predictor's own; \
                     set `resize` in params to the predictor's `input.resize`"
                ));
            }
        }
        let kind = match score {
            ScoreKind::Logit => "logit",
            ScoreKind::Probability => "probability",
        };
        (0..x.len())
            .map(|i| {
                let image = seen.slice(i, i + 1);
                let Attributed { map, notes: own } = method.attribute(&mut host, &image, scores[i], seed)?;
                let map = map.into_iter().map(|v| v as f32).collect();
                let mut notes = vec![
                    ("class".to_owned(), target.name.clone()),
                    ("score kind".to_owned(), kind.to_owned()),
                    ("score".to_owned(), format!("{:.6}", scores[i])),
                ];
                notes.extend(own.into_iter().map(|(k, v)| (k.to_owned(), v)));
                let map = Heatmap::new(shape.height, shape.width, map)?;
                Ok(vec![Explanation::Heatmap { title: title.to_owned(), map, notes }])
            })
            .collect()
    }
}

//! The manifest's `params`.

use crate::api::{Error, Result, ScoreKind};
use crate::method::{METHODS, Method};
use crate::nearest::suggest;
use shiftlens_sdk::serde_json::Value;

/// `params = { method = "gradcam", layer = "NAME", score = "logit" }`, all optional.
#[derive(Clone)]
pub struct Params {
    /// Which member of the family.
    pub method: &'static dyn Method,
    /// Name of the layer's tensor; the predictor's default layer where it is missing.
    pub layer: Option<String>,
    /// The scalar to differentiate.
    pub score: ScoreKind,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    method: Option<String>,
    layer: Option<String>,
    score: Option<String>,
}

impl Params {
    /// Checks `value`, a JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key, method or score kind, with the nearest valid name.
    pub fn new(value: &Value) -> Result<Self> {
        const KEYS: [&str; 3] = ["method", "layer", "score"];
        if let Some(key) = value.as_object().and_then(|o| o.keys().find(|k| !KEYS.contains(&k.as_str()))) {
            return Err(Error::Invalid(format!(
                "gradcam: params: unknown key `{key}`; {}",
                suggest(key, &KEYS)
            )));
        }
        let raw: Raw = shiftlens_sdk::params(value)?;
        let method = raw.method.as_deref().unwrap_or("gradcam");
        let method = *METHODS.iter().find(|m| m.name() == method).ok_or_else(|| {
            let hint = suggest(method, &METHODS.map(|m| m.name()));
            Error::Invalid(format!("gradcam: params.method: unknown method `{method}`; {hint}"))
        })?;
        let score = match raw.score.as_deref() {
            None | Some("logit") => ScoreKind::Logit,
            Some("probability") => ScoreKind::Probability,
            Some(other) => {
                let hint = suggest(other, &["logit", "probability"]);
                return Err(Error::Invalid(format!("gradcam: params.score: unknown kind `{other}`; {hint}")));
            }
        };
        Ok(Self { method, layer: raw.layer, score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_sdk::serde_json::json;

    fn error(value: Value) -> String {
        Params::new(&value).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn everything_has_a_default() {
        let params = Params::new(&json!({})).unwrap();
        assert_eq!((params.method.name(), params.layer, params.score), ("gradcam", None, ScoreKind::Logit));
        let params =
            Params::new(&json!({"method": "gradcam++", "layer": "relu5", "score": "probability"})).unwrap();
        assert_eq!((params.method.title(), params.layer.as_deref()), ("Grad-CAM++", Some("relu5")));
        assert_eq!(params.score, ScoreKind::Probability);
    }

    #[test]
    fn mistakes_are_answered_with_the_nearest_name() {
        assert!(error(json!({"methd": "gradcam"})).contains("`methd`; did you mean `method`?"));
        assert!(error(json!({"method": "GradCAMpp"})).contains("did you mean `gradcam"));
        assert!(error(json!({"method": "layer-cam"})).contains("did you mean `layercam`?"));
        assert!(error(json!({"method": "banana"})).contains("expected one of: gradcam, hirescam"));
        assert!(error(json!({"score": "logits"})).contains("did you mean `logit`?"));
        assert!(
            error(json!({"layer": 7})).contains("layer") || error(json!({"layer": 7})).contains("string")
        );
        assert!(error(json!("gradcam")).contains("params"));
    }
}
